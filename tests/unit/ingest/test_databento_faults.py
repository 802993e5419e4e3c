"""`ingest databento` when the line, the server or the files are bad: asked again, told, never half landed."""

import json
import random
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from ingest.databento import Vendor
from ingest.databento.download import Deadline, fetch_batch_file
from ingest.databento.request import Window
from ingest.errors import FailedFile
from lake.bronze import visible_files
from tests.fixtures.databento_server import KEY, DatabentoServer, Fault, flip_last
from tests.unit.ingest import databento_kit as kit
from tests.unit.ingest.dbn_kit import bronze, snapshot
from tests.unit.ingest.test_databento_orders import ledgers, receipts, stage

FREE = [
    "metadata.list_datasets", "metadata.list_schemas", "symbology.resolve", "metadata.get_record_count",
    "metadata.get_billable_size", "metadata.get_cost", "batch.get_job_details", "batch.list_files",
]  # fmt: skip


@pytest.fixture
def server():
    with kit.server() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The lakes of quiet runs over two days of both schemas, by kind of order."""
    found = {}
    for kind in ("batch", "stream"):
        root = tmp_path_factory.mktemp(kind)
        with kit.server() as server:
            assert kit.call(root, server.url, kit.query(schemas=("trades", "mbp-10")), kind=kind).ok
        found[kind] = content(root)
    return found


def content(root: Path) -> dict:
    """What two lakes have in common: all of a snapshot, and the ledger but for its times."""
    orders = [{k: v for k, v in o.items() if k != "ordered_at"} for o in ledgers(root)]
    return snapshot(root) | {"orders": orders}


def both(root: Path, server: DatabentoServer, **more: object):
    return kit.call(root, server.url, kit.query(schemas=("trades", "mbp-10")), **more)


# -- asked again ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [*FREE, "batch.submit_job", "batch.download"])
def test_an_overloaded_server_is_asked_again(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, endpoint: str
) -> None:
    waits = kit.Waits()
    server.queue(
        endpoint, Fault(status=429, headers={"retry-after": "7"}), Fault(status=503), Fault(status=500)
    )
    assert both(tmp_path, server, waits=waits).ok
    assert 7.0 in waits.all_s
    assert content(tmp_path) == undisturbed["batch"]
    assert len(server.jobs) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=0),
        Fault(cut_after=2),
        Fault(change=lambda body: b"<html>", headers={"content-type": "text/html"}),
        Fault(status=502),
    ],
    ids=["no body", "half a body", "no JSON", "502"],
)
@pytest.mark.parametrize("endpoint", FREE)
def test_a_broken_answer_is_asked_for_again(
    tmp_path: Path, server: DatabentoServer, endpoint: str, fault: Fault
) -> None:
    server.queue(endpoint, fault)
    assert kit.call(tmp_path, server.url, kit.query(0, 1)).ok
    assert len(bronze(tmp_path)) == 400


@pytest.mark.parametrize("endpoint", ["metadata.get_cost", "batch.download", "timeseries.get_range"])
def test_a_silent_server_is_given_up_and_asked_again(
    tmp_path: Path, server: DatabentoServer, endpoint: str
) -> None:
    server.queue(endpoint, Fault(stall_s=20))
    kind = "stream" if endpoint == "timeseries.get_range" else "batch"
    assert kit.call(tmp_path, server.url, kit.query(0, 1), kind=kind, read_timeout_s=0.3).ok
    assert len(server.asked(endpoint)) == 2


@pytest.mark.parametrize("endpoint", ["metadata.get_record_count", "batch.get_job_details", "batch.download"])
def test_asking_again_has_an_end(tmp_path: Path, server: DatabentoServer, endpoint: str) -> None:
    server.queue(endpoint, *[Fault(status=503)] * 50)
    try:
        report = kit.call(tmp_path, server.url, kit.query(0, 1))
    except FailedFile as error:
        told = str(error)
    else:
        assert not report.ok
        (told,) = {r.reason for r in report.rows}
    assert "failed 4 times, last: answer was 503" in told
    assert "\n" not in told
    assert len(server.asked(endpoint)) == 4
    assert list(visible_files(tmp_path)) == []
    server.faults.clear()
    assert kit.call(tmp_path, server.url, kit.query(0, 1)).ok
    assert len(server.jobs) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
@pytest.mark.parametrize("endpoint", ["metadata.get_cost", "batch.submit_job", "batch.download"])
def test_a_refusal_is_not_asked_again(
    tmp_path: Path, server: DatabentoServer, endpoint: str, status: int
) -> None:
    server.queue(endpoint, *[Fault(status=status, message="first line\nsecond line")] * 9)
    waits = kit.Waits()
    try:
        report = kit.call(tmp_path, server.url, kit.query(0, 1), waits=waits)
    except FailedFile as error:
        told = str(error)
    else:
        (told,) = {r.reason for r in report.rows}
    assert f"({status}: test_case first line second line)" in told
    assert len(server.asked(endpoint)) == 1


@pytest.mark.parametrize("earlier", [[], [Fault(status=503)]], ids=["at once", "after an overload"])
def test_a_refused_order_leaves_nothing(tmp_path: Path, server: DatabentoServer, earlier: list) -> None:
    server.queue("batch.submit_job", *earlier, Fault(status=402, message="no credit"))
    with pytest.raises(FailedFile, match=r"order of the batch job was refused .402: test_case no credit"):
        kit.call(tmp_path, server.url)
    assert ledgers(tmp_path) == []
    assert stage(tmp_path) == []


def test_a_wrong_key_is_told_without_it(tmp_path: Path, server: DatabentoServer) -> None:
    with pytest.raises(FailedFile, match=r"key was refused .401.*DATABENTO_API_KEY") as told:
        kit.call(tmp_path, server.url, key="db-another")
    assert "db-another" not in str(told.value)
    assert len(server.seen) == 1


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(FailedFile, match="failed 4 times, last: connection was refused or cut"):
        kit.call(tmp_path, "http://127.0.0.1:9")


# -- ordered exactly once ------------------------------------------------------------------------------------


def test_an_order_whose_answer_is_lost_is_found_not_repeated(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict
) -> None:
    server.queue("batch.submit_job", Fault(lost=True))
    assert both(tmp_path, server).ok
    assert len(server.jobs) == 2
    assert content(tmp_path) == undisturbed["batch"]


def test_an_order_that_never_arrived_is_repeated(tmp_path: Path, server: DatabentoServer) -> None:
    server.queue("batch.submit_job", Fault(status=503), Fault(status=503))
    assert kit.call(tmp_path, server.url, kit.query(0, 1)).ok
    assert len(server.asked("batch.submit_job")) == 3
    assert len(server.jobs) == 1


def test_an_order_not_known_to_have_arrived_counts_against_the_limit(
    tmp_path: Path, server: DatabentoServer
) -> None:
    server.queue("batch.submit_job", *[Fault(status=503)] * 4)
    with pytest.raises(FailedFile, match="order of trades from 2025-10-06 failed 4 times"):
        kit.call(tmp_path, server.url)
    with pytest.raises(ValueError, match=r"estimate was 8\.00 USD"):
        kit.call(tmp_path, server.url, max_usd=1)
    assert server.jobs == {}
    assert kit.call(tmp_path, server.url, max_usd=8).ok
    assert len(server.jobs) == 1


# -- jobs ----------------------------------------------------------------------------------------------------


def test_a_job_is_waited_for_with_growing_waits(tmp_path: Path, server: DatabentoServer) -> None:
    server.states = ["queued"] * 3 + ["processing"] * 4 + ["done"]
    waits = kit.Waits()
    assert kit.call(tmp_path, server.url, waits=waits).ok
    assert waits.all_s == [1, 2, 4, 8, 16, 30, 30]


def test_waiting_has_an_end_and_the_next_call_goes_on_with_the_job(
    tmp_path: Path, server: DatabentoServer
) -> None:
    server.states = ["processing"]
    report = kit.call(tmp_path, server.url, timeout_s=100)
    assert [r.status for r in report.rows] == ["failed"] * 2
    assert "job GLBX-20251006-JOB0000 (processing) was not finished after 100 s" in report.rows[0].reason
    assert list(visible_files(tmp_path)) == []
    server.states = ["done"]
    report = kit.call(tmp_path, server.url, max_usd=0)
    assert [r.status for r in report.rows] == ["landed"] * 2
    assert len(server.asked("batch.submit_job")) == 1


def test_an_expired_job_is_told_and_ordered_again_only_by_the_next_call(
    tmp_path: Path, server: DatabentoServer
) -> None:
    server.states = ["queued", "expired"]
    report = kit.call(tmp_path, server.url)
    assert "job GLBX-20251006-JOB0000 was expired" in report.rows[0].reason
    assert len(server.jobs) == 1
    server.states = ["done"]
    with pytest.raises(ValueError, match="nothing was ordered"):
        kit.call(tmp_path, server.url, max_usd=1)
    assert kit.call(tmp_path, server.url).ok
    (order,) = ledgers(tmp_path)
    assert (order["job_id"], order["previous_job_ids"]) == (
        "GLBX-20251006-JOB0001", ["GLBX-20251006-JOB0000"],
    )  # fmt: skip


def test_files_that_are_here_land_without_the_vendor(
    tmp_path: Path, server: DatabentoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "bronze")

    monkeypatch.setattr("ingest.databento.run.dbn.ingest", full)
    assert [r.status for r in kit.call(tmp_path, server.url, kit.query(0, 1)).rows] == ["failed"]
    monkeypatch.undo()
    server.states = ["expired"]
    before = len(server.seen)
    assert [r.status for r in kit.call(tmp_path, server.url, kit.query(0, 1), max_usd=0).rows] == ["landed"]
    assert len(server.seen) == before


def test_a_state_not_known_is_no_reason_to_wait(tmp_path: Path, server: DatabentoServer) -> None:
    server.states = ["melted"]
    assert "was in state 'melted'" in kit.call(tmp_path, server.url).rows[0].reason


def test_a_day_missing_in_a_job_is_told_and_the_others_land(tmp_path: Path, server: DatabentoServer) -> None:
    server.omit = {"glbx-mdp3-20251006.trades.dbn.zst"}
    report = kit.call(tmp_path, server.url)
    assert [r.status for r in report.rows] == ["failed", "landed"]
    assert "had no file of trades 2025-10-06, expected one with 400 records" in report.rows[0].reason
    server.omit = set()
    assert kit.call(tmp_path, server.url, max_usd=0).ok
    assert len(server.jobs) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"filename": "../../escaped.trades.dbn.zst"},
        {"filename": "glbx-mdp3-20250101.trades.dbn.zst"},
        {"hash": "md5:00"},
        {"size": "12"},
        {"urls": {"ftp": "ftp://127.0.0.1/x"}},
        {"urls": {"https": "https://elsewhere.example/x"}},
        {"urls": {"https": "http://127.0.0.1:9/x"}},
        {"urls": {"https": "https://databento.com.elsewhere.example/x"}},
    ],
)
def test_a_file_list_that_cant_be_trusted_is_not_followed(
    tmp_path: Path, server: DatabentoServer, change: dict
) -> None:
    def changed(body: bytes) -> bytes:
        return json.dumps([entry | change for entry in json.loads(body)]).encode()

    server.queue("batch.list_files", Fault(change=changed))
    report = kit.call(tmp_path, server.url, kit.query(0, 1))
    assert [r.status for r in report.rows] == ["failed"]
    assert server.asked("batch.download") == []
    assert not list(tmp_path.parent.rglob("escaped*"))


# -- files of a job ------------------------------------------------------------------------------------------


def file_bytes(server: DatabentoServer, schema: str) -> int:
    return len(server.days[schema, "2025-10-06"][0])


def test_a_cut_download_goes_on_where_it_stopped(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.databento.download.CHUNK_BYTES", 1024)
    size = file_bytes(server, "mbp-10")
    server.queue(
        "batch.download", Fault(), Fault(), Fault(cut_after=size // 2), Fault(cut_silently_after=size // 4)
    )
    assert both(tmp_path, server).ok
    asked = [s.range for s in server.asked("batch.download")]
    assert asked[:3] == [None] * 3
    first, second = (int(r.removeprefix("bytes=").split("-")[0]) for r in asked[3:5])
    assert 0 < first <= size // 2 < second < size
    assert server.bytes_sent["glbx-mdp3-20251006.mbp-10.dbn.zst"] < size + 3 * 1024
    assert content(tmp_path) == undisturbed["batch"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=416),
        Fault(headers={"content-range": "bytes 0-1/2"}),
    ],
)
def test_a_server_without_ranges_sends_it_all_again(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, fault: Fault
) -> None:
    server.ranges = False
    server.queue(
        "batch.download", Fault(), Fault(), Fault(cut_after=file_bytes(server, "mbp-10") // 2), fault
    )
    assert both(tmp_path, server).ok
    assert content(tmp_path) == undisturbed["batch"]


WRONG = {
    "checksum": flip_last,
    "shorter": lambda data: data[:-9],
    "longer": lambda data: data + b"more",
    "empty": lambda data: b"",
    "of another day": lambda data: kit.day_file("trades", kit.FIRST, 300),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_fetched_once_more(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, change
) -> None:
    server.queue("batch.download", Fault(change=change))
    assert both(tmp_path, server).ok
    assert content(tmp_path) == undisturbed["batch"]


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_file_that_stays_wrong_is_quarantined_and_the_others_land(
    tmp_path: Path, server: DatabentoServer, change
) -> None:
    server.queue("batch.download", Fault(change=change), Fault(change=change))
    report = kit.call(tmp_path, server.url)
    assert [r.status for r in report.rows] == ["quarantined", "landed"]
    assert "by the vendor's list" in report.rows[0].reason
    assert len(bronze(tmp_path)) == 400
    bad = next(r for r in receipts(tmp_path) if r["status"] == "quarantined")
    assert bad["path"].startswith("raw/_quarantine/")
    assert (tmp_path / bad["path"]).is_file()
    # Mended at the vendor's, the next call brings it, at no cost.
    report = kit.call(tmp_path, server.url, max_usd=0)
    assert sorted(r.status for r in report.rows) == ["already_landed", "landed"]
    assert len(bronze(tmp_path)) == 800
    assert stage(tmp_path) == []


def test_a_file_of_the_right_sum_that_cant_land_is_quarantined(
    tmp_path: Path, server: DatabentoServer
) -> None:
    """The vendor's own file is cut: size and checksum agree, its zstd frame has no end."""
    data, rows = server.days["trades", "2025-10-06"]
    server.days["trades", "2025-10-06"] = data[:-3], rows
    report = kit.call(tmp_path, server.url)
    assert [r.status for r in report.rows] == ["quarantined", "landed"]
    assert len(bronze(tmp_path)) == 400


def test_a_slow_file_meets_the_time_limit_and_is_kept(tmp_path: Path, server: DatabentoServer) -> None:
    ticks = iter(range(10**6))
    vendor_clock = lambda: next(ticks)  # noqa: E731 (every look at the clock takes a second)
    server.days["mbp-10", "2025-10-06"] = kit.day_file("mbp-10", kit.FIRST, 6000), 6000
    waits = kit.Waits()
    waits.clock = vendor_clock
    report = kit.call(tmp_path, server.url, kit.query(0, 1, schemas=("mbp-10",)), waits=waits, timeout_s=7)
    assert "was not finished after 7 s" in report.rows[0].reason
    (part,) = (tmp_path / "lake" / "_stage").rglob("*.part")
    assert part.stat().st_size > 0
    assert kit.call(tmp_path, server.url, kit.query(0, 1, schemas=("mbp-10",)), max_usd=0).ok
    assert len(bronze(tmp_path, "futures.mbp10.v1")) == 6000


# -- streams -------------------------------------------------------------------------------------------------

BROKEN_STREAMS = {
    "cut": {"cut_after": 3000},
    "cut without a length": {"cut_silently_after": 3000},
    "cut in the head": {"cut_silently_after": 20},
    "empty": {"change": lambda data: b""},
    "no DBN": {"change": lambda data: b"<html>" * 100},
    "fewer records": {"change": lambda data: kit.day_file("trades", kit.FIRST, 399)},
    "truncated frame": {"change": lambda data: data[:-3]},
}


@pytest.mark.parametrize("fault", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
def test_a_broken_stream_is_paid_for_again_below_the_limit(
    tmp_path: Path, server: DatabentoServer, undisturbed: dict, fault: dict
) -> None:
    server.queue("timeseries.get_range", Fault(**fault))
    assert both(tmp_path, server, kind="stream").ok
    assert content(tmp_path) == undisturbed["stream"]


@pytest.mark.parametrize("fault", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
def test_a_broken_stream_is_not_paid_for_again_above_the_limit(
    tmp_path: Path, server: DatabentoServer, fault: dict
) -> None:
    server.queue("timeseries.get_range", Fault(**fault))
    report = kit.call(tmp_path, server.url, kind="stream", max_usd=11.99)
    assert [r.status for r in report.rows] == ["failed", "landed"]
    assert "would bring the cost to 12.00 USD, expected at most 11.99" in report.rows[0].reason
    assert len(server.asked("timeseries.get_range")) == 2
    assert len(bronze(tmp_path)) == 400
    assert [r["status"] for r in receipts(tmp_path)] == ["landed"]


def test_a_slow_stream_meets_the_time_limit(tmp_path: Path, server: DatabentoServer) -> None:
    server.days["mbp-10", "2025-10-06"] = kit.day_file("mbp-10", kit.FIRST, 6000), 6000
    ticks, waits = iter(range(10**6)), kit.Waits()
    waits.clock = lambda: next(ticks)
    asked = kit.query(0, 1, schemas=("mbp-10",))
    report = kit.call(tmp_path, server.url, asked, kind="stream", waits=waits, timeout_s=5)
    assert "stream of mbp-10 2025-10-06 was not finished after 5 s" in report.rows[0].reason
    assert list(visible_files(tmp_path)) == []
    assert kit.call(tmp_path, server.url, asked, kind="stream").ok


def test_a_refused_stream_costs_nothing_and_is_asked_for_again(
    tmp_path: Path, server: DatabentoServer
) -> None:
    server.queue("timeseries.get_range", Fault(status=429), Fault(status=500))
    assert kit.call(tmp_path, server.url, kind="stream", max_usd=8).ok


def test_a_stream_that_stays_wrong_is_quarantined(tmp_path: Path, server: DatabentoServer) -> None:
    fewer = Fault(change=BROKEN_STREAMS["fewer records"]["change"])
    server.queue("timeseries.get_range", fewer, fewer)
    report = kit.call(tmp_path, server.url, kind="stream")
    assert [r.status for r in report.rows] == ["quarantined", "landed"]
    assert "file held 399 records, expected 400 as declared" in report.rows[0].reason
    assert len(bronze(tmp_path)) == 400
    report = kit.call(tmp_path, server.url, kind="stream", max_usd=4)
    assert sorted(r.status for r in report.rows) == ["already_landed", "landed"]


# -- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_a_large_file_is_never_held_in_memory(tmp_path: Path, server: DatabentoServer, kind: str) -> None:
    head, _ = server.days["trades", kit.EMPTY_DAY]
    noise = random.Random(1).randbytes(24 << 20)  # noqa: S311 (a second frame, too random to shrink)
    data = head + zstandard.ZstdCompressor(level=1).compress(noise)
    server.days["trades", "2025-10-06"] = data, 1
    vendor = Vendor(KEY, server.url)
    job = vendor.submit_once(kit.query(0, 1))
    path, file = tmp_path / "large.dbn.zst", next(f for f in vendor.files(job["id"]) if "trades" in f.name)
    tracemalloc.start()
    try:
        if kind == "batch":
            fetch_batch_file(vendor, file, path, deadline=Deadline(600), tell=lambda done: None)
        else:
            vendor.stream_once(kit.query(0, 1), "trades", kit.FIRST, path, lambda done: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == data
    assert peak < 4 << 20


# -- this machine --------------------------------------------------------------------------------------------


def test_a_folder_that_cant_be_written_is_told(
    tmp_path: Path, server: DatabentoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "the stage")

    monkeypatch.setattr("ingest.databento.run.fetch_batch_file", full)
    report = kit.call(tmp_path, server.url)
    assert [r.status for r in report.rows] == ["failed"] * 2
    assert "disk was full at the stage" in report.rows[0].reason
    monkeypatch.undo()
    assert kit.call(tmp_path, server.url, max_usd=0).ok


def test_a_window_knows_its_day() -> None:
    assert Window("2025-10-06", 1, 48, 0.01).day == kit.FIRST
