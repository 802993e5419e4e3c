"""`ingest databento` on a day without trouble: what it costs, what is ordered, what lands, nothing twice."""

import json
from pathlib import Path

import pytest

from ingest.dbn import ingest as ingest_dbn
from tests.fixtures.databento_server import CENTS_PER_RECORD, DatabentoServer, Fault
from tests.unit.ingest import databento_kit as kit
from tests.unit.ingest.dbn_kit import bronze


@pytest.fixture
def server():
    with kit.server() as running:
        yield running


def ledgers(root: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((root / "raw" / "_metadata").glob("request-*.json"))]


def receipts(root: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((root / "raw" / "_metadata").glob("receipt-*.json"))]


def stage(root: Path) -> list[Path]:
    return [
        p for p in (root / "lake" / "_stage").rglob("*") if p.is_file() and p.suffix not in (".lock", ".pid")
    ]


def test_a_batch_order_lands_each_day_with_its_job_in_the_receipt(
    tmp_path: Path, server: DatabentoServer
) -> None:
    report = kit.call(tmp_path, server.url, kit.query(schemas=("trades", "mbp-10")))
    assert [(r.schema, r.date, r.status) for r in report.rows] == [
        ("trades", "2025-10-06", "landed"),
        ("trades", "2025-10-07", "landed"),
        ("mbp-10", "2025-10-06", "landed"),
        ("mbp-10", "2025-10-07", "landed"),
    ]
    assert report.cost_usd == pytest.approx(2 * (400 + 900) * CENTS_PER_RECORD)
    assert len(bronze(tmp_path)) == 800
    assert {r["request_id"] for r in receipts(tmp_path)} == set(server.jobs)
    assert len(server.asked("batch.submit_job")) == 2
    assert {o["state"] for o in ledgers(tmp_path)} == {"landed"}
    assert (tmp_path / "raw/dbn/trades/glbx-mdp3-20251006.trades.dbn.zst").is_file()
    assert stage(tmp_path) == []
    assert all(s.authorized for s in server.seen)


def test_a_stream_lands_each_day_and_is_told_by_its_request(tmp_path: Path, server: DatabentoServer) -> None:
    report = kit.call(tmp_path, server.url, kind="stream")
    assert [r.status for r in report.rows] == ["landed"] * 2
    assert len(server.asked("timeseries.get_range")) == 2
    assert server.asked("batch.submit_job") == []
    assert {r["request_id"] for r in receipts(tmp_path)} == {o["request_id"] for o in ledgers(tmp_path)}
    assert len(bronze(tmp_path)) == 800
    assert stage(tmp_path) == []


def test_batch_and_stream_land_the_same_files(tmp_path: Path, server: DatabentoServer) -> None:
    kit.call(tmp_path / "a", server.url)
    kit.call(tmp_path / "b", server.url, kind="stream")
    assert [r["sha256"] for r in receipts(tmp_path / "a")] == [r["sha256"] for r in receipts(tmp_path / "b")]


@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_an_estimate_above_the_limit_orders_nothing(
    tmp_path: Path, server: DatabentoServer, kind: str
) -> None:
    shown = []
    with pytest.raises(
        ValueError, match=r"estimate was 8\.00 USD, expected at most 7\.99 .*nothing was ordered"
    ):
        kit.call(tmp_path, server.url, max_usd=7.99, kind=kind, show=shown.append)
    assert shown[0].cost_usd == pytest.approx(8)
    assert not any(s.endpoint.startswith(("batch.", "timeseries.")) for s in server.seen)
    assert ledgers(tmp_path) == []
    (run,) = (tmp_path / "_meta" / "runs").glob("*.json")
    assert json.loads(run.read_text())["status"] == "failed"
    assert kit.call(tmp_path, server.url, max_usd=8, kind=kind).ok


@pytest.mark.parametrize("answer", [b"NaN", b"-3", b'"0.01"', b"null", b"true", b"[1]"])
def test_a_cost_that_is_no_amount_never_passes_for_a_low_one(
    tmp_path: Path, server: DatabentoServer, answer: bytes
) -> None:
    server.queue("metadata.get_cost", Fault(change=lambda _: answer))
    with pytest.raises(Exception, match="answer to the cost of trades 2025-10-06 was of a shape not known"):
        kit.call(tmp_path, server.url)
    assert server.asked("batch.submit_job") == []


def test_a_dry_run_asks_for_the_cost_and_writes_nothing(tmp_path: Path, server: DatabentoServer) -> None:
    root = tmp_path / "lake"
    report = kit.call(root, server.url, max_usd=0, dry_run=True)
    assert [(r.status, r.record_count, r.billable_bytes, r.cost_usd) for r in report.rows] == [
        ("to_order", 400, 400 * 48, 4.0)
    ] * 2
    assert not root.exists()
    assert not any(s.endpoint.startswith(("batch.", "timeseries.")) for s in server.seen)


@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_what_is_landed_is_not_paid_for_again(tmp_path: Path, server: DatabentoServer, kind: str) -> None:
    kit.call(tmp_path, server.url, kit.query(0, 1), kind=kind)
    report = kit.call(tmp_path, server.url, kit.query(0, 2), kind=kind, max_usd=4)
    assert [(r.date, r.status) for r in report.rows] == [
        ("2025-10-06", "already_landed"),
        ("2025-10-07", "landed"),
    ]
    before = len(server.seen)
    report = kit.call(tmp_path, server.url, kit.query(0, 2), kind=kind, max_usd=0)
    assert [r.status for r in report.rows] == ["already_landed"] * 2
    assert len(server.seen) == before


def test_a_file_landed_by_hand_counts_by_what_its_head_answers(
    tmp_path: Path, server: DatabentoServer
) -> None:
    path = tmp_path / "glbx-mdp3-20251006.trades.dbn.zst"
    path.write_bytes(server.days["trades", "2025-10-06"][0])
    assert ingest_dbn(tmp_path / "lake", [path]).ok
    report = kit.call(tmp_path / "lake", server.url, kit.query(0, 1), max_usd=0)
    assert [r.status for r in report.rows] == ["already_landed"]
    assert server.seen == []
    other = kit.query(0, 1, symbols=(kit.SYMBOL, "NQ.FUT"))
    assert [r.status for r in kit.call(tmp_path / "lake", server.url, other, dry_run=True).rows] == [
        "to_order"
    ]


def test_a_file_of_several_days_counts_for_each(tmp_path: Path, server: DatabentoServer) -> None:
    path = tmp_path / "glbx-mdp3-20251006-20251008.trades.dbn.zst"
    path.write_bytes(kit.day_file("trades", kit.FIRST, 50, days=3))
    assert ingest_dbn(tmp_path / "lake", [path]).ok
    report = kit.call(tmp_path / "lake", server.url, kit.query(1, 3), dry_run=True, max_usd=0)
    assert [(r.date, r.status) for r in report.rows] == [
        ("2025-10-07", "already_landed"),
        ("2025-10-08", "already_landed"),
        ("2025-10-09", "to_order"),
    ]


@pytest.mark.parametrize("empty_files", [True, False])
def test_a_day_without_records_leaves_a_marker_and_costs_nothing(
    tmp_path: Path, server: DatabentoServer, empty_files: bool
) -> None:
    """Whether or not the vendor puts a file of such a day into the job; there is one job, also across it."""
    server.empty_files = empty_files
    report = kit.call(tmp_path, server.url, kit.query(1, 3))
    assert [(r.date, r.status, r.record_count) for r in report.rows] == [
        ("2025-10-07", "landed", 400),
        ("2025-10-08", "landed", 0),
        ("2025-10-09", "landed", 400),
    ]
    assert len(server.asked("batch.submit_job")) == 1
    assert len(server.asked("timeseries.get_range")) == (0 if empty_files else 1)
    assert [r["record_count"] for r in receipts(tmp_path) if r["date"] == kit.EMPTY_DAY] == [0]
    assert kit.call(tmp_path, server.url, kit.query(1, 3), max_usd=0).ok


def test_days_without_records_alone_need_no_job(tmp_path: Path, server: DatabentoServer) -> None:
    report = kit.call(tmp_path, server.url, kit.query(2, 1), max_usd=0)
    assert [r.status for r in report.rows] == ["landed"]
    assert server.asked("batch.submit_job") == []


def test_landed_days_split_a_job(tmp_path: Path, server: DatabentoServer) -> None:
    kit.call(tmp_path, server.url, kit.query(1, 1))
    report = kit.call(tmp_path, server.url, kit.query(0, 4), max_usd=8)
    assert [(r.date, r.status) for r in report.rows] == [
        ("2025-10-06", "landed"),
        ("2025-10-07", "already_landed"),
        ("2025-10-08", "landed"),
        ("2025-10-09", "landed"),
    ]
    spans = [(s.params["start"][:10], s.params["end"][:10]) for s in server.asked("batch.submit_job")]
    assert spans == [
        ("2025-10-07", "2025-10-08"),
        ("2025-10-06", "2025-10-07"),
        ("2025-10-09", "2025-10-10"),
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"dataset": "GLBX.MDP4"}, "dataset was 'GLBX.MDP4', expected one that is known here: GLBX.MDP3"),
        ({"symbols": ("XX.FUT", "ES.FUT")}, "symbols XX.FUT were not known as parent in GLBX.MDP3"),
    ],
)
def test_names_that_the_vendor_lacks_are_one_line(
    tmp_path: Path, server: DatabentoServer, more: dict, told: str
) -> None:
    with pytest.raises(ValueError, match=told) as error:
        kit.call(tmp_path, server.url, kit.query(**more))
    assert "\n" not in str(error.value)
    assert server.asked("batch.submit_job") == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"schemas": ("tradez",)}, "schema was 'tradez', expected one that is known here: trades"),
        ({"schemas": ()}, "no schema was named"),
        ({"stype_in": "parents"}, "stype_in was 'parents'.*parent"),
        ({"symbols": ()}, "0 symbols were named"),
        ({"symbols": ("ES FUT",)}, "symbol was 'ES FUT'"),
        ({"symbols": ("ALL_SYMBOLS", "ES.FUT")}, "expected it alone"),
        ({"days": 0}, "expected end after it"),
        ({"dataset": " "}, "dataset was ' '"),
    ],
)
def test_what_cant_be_asked_for_is_told_before_the_vendor_is(more: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kit.query(**more)


def test_two_calls_at_once_are_refused(tmp_path: Path, server: DatabentoServer) -> None:
    def again(_: object) -> None:
        kit.call(tmp_path, server.url)

    with pytest.raises(Exception, match="another `ingest databento` was at work"):
        kit.call(tmp_path, server.url, show=again)
    assert server.asked("batch.submit_job") == []
