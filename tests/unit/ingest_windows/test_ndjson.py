"""NDJSON: each rule rejects its line with the exact number, nothing is dropped, another shape is refused."""

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from typer.testing import CliRunner

from cli.ingest.events import app as events_app
from cli.seal import app as seal_app
from ingest import text_lines
from ingest.errors import SourceUnreachable
from ingest.ndjson import ingest_ndjson
from lake.paths import bronze_dir
from lake.windows import read_markers, visible_parts
from tests.unit.ingest_windows import kit

GOOD = kit.event(1, kit.START)


def line(**more: object) -> str:
    return json.dumps(kit.event(1, kit.START, **more))


def without(name: str) -> str:
    return json.dumps({k: v for k, v in GOOD.items() if k != name})


def land(root: Path, tmp_path: Path, *lines: str | bytes, max_bad: float = 1, dataset: str = "events"):
    path = tmp_path / "in.ndjson"
    path.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))
    return ingest_ndjson(root, dataset, str(path), max_bad=max_bad)


def rejects(root: Path, dataset: str = "events") -> list[dict]:
    files = sorted((bronze_dir(root) / "_rejects" / f"dataset={dataset}").rglob("part-*.parquet"))
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    return sorted(rows, key=lambda row: row["line_no"])


def rows_of(root: Path, dataset: str = "events") -> list[dict]:
    tables = [pq.ParquetFile(part.path).read() for part in visible_parts(root, dataset)]
    return pa.concat_tables(tables).to_pylist() if tables else []


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("{", "JSON"),
        ("[]", "JSON"),
        ('"text"', "JSON"),
        (line() + "x", "JSON"),
        (line()[:-1], "JSON"),
        (line().replace('"retry_count": 0', '"retry_count": NaN'), "JSON"),
        (line().replace('"retry_count": 0', '"retry_count": 0, "retry_count": 1'), "JSON"),
        (line().replace('"strategy_id": 7', '"strategy_id": 7, "strategy_id": 8'), "JSON"),
        (line().replace('"source": "ws"', '"source": "ws", "x": ' + "[" * 40 + "]" * 40), "JSON"),
        (line().replace('"source": "ws"', '"source": "ws", "x": ' + "[" * 100_000), "JSON"),
        (line().replace('"retry_count": 0', '"retry_count": 0, "x": 1e999'), "JSON"),
        (line(error_message="\ud800"), "JSON"),
        (line(error_message="\0"), "JSON"),
        (line().encode() + b"\xff", "ENCODING"),
        (line(error_message="x" * (1 << 20)), "LINE_LENGTH"),
        (without("event_id"), "MISSING_COLUMN"),
        (without("occurred_at"), "MISSING_COLUMN"),
        (line(symbol=None), "MISSING_COLUMN"),
        (line(client_id="1"), "CAST"),
        (line(client_id=1.0), "CAST"),
        (line(client_id=True), "CAST"),
        (line(client_id=2**63), "CAST"),
        (line(event_id="0b1f"), "CAST"),
        (line(symbol=5), "CAST"),
        (line(payload_json="{}"), "CAST"),
        (line(payload_json=[]), "CAST"),
        (line(occurred_at="2024-12-01T00:00:00"), "CAST"),
        (line(occurred_at="2024-02-30T00:00:00Z"), "CAST"),
        (line(occurred_at="2024-12-01T00:00:00.1234567Z"), "CAST"),
        (line(occurred_at=1733011200), "CAST"),
        (line(occurred_at="1999-12-31T23:59:59Z"), "TS_RANGE"),
        (line(occurred_at="2100-01-01T00:00:00Z"), "TS_RANGE"),
        (line(trigger_price="0.123456789"), "CAST"),
        (line(trigger_price="1000000000000"), "CAST"),
        (line(trigger_price="NaN"), "CAST"),
        (line(trigger_price="1,5"), "CAST"),
        (line(trigger_price=True), "CAST"),
        (line(trigger_price=[1]), "CAST"),
        (line(event_type="STOP_TRIGGERED "), "ENUM"),
        (line(side="LONG"), "ENUM"),
        (line(trigger_type="OTHER"), "ENUM"),
        (line(payload_json={"trigger_type": "OTHER"}), "ENUM"),
        (line(source="bot"), "ENUM"),
        (line(symbol="btcusdc"), "PATTERN"),
        (line(execution_token="a" * 65), "LENGTH"),
        (line(quantity="-0.00000001"), "RANGE"),
        (line(event_seq=0), "RANGE"),
        (line(retry_count=-1), "RANGE"),
        (line(trigger_price="1000000000", quantity="1000000000"), "NOTIONAL_RANGE"),
    ],
)  # fmt: skip
def test_a_bad_line_is_kept_aside_with_its_number_and_rule(
    root: Path, tmp_path: Path, bad: str | bytes, rule: str
):
    good = [json.dumps(e) for e in kit.events(3, hours=1)]
    report = land(root, tmp_path, good[0], "", bad, good[1], good[2])
    assert report.exit_code == 2
    (kept,) = rejects(root)
    assert (kept["line_no"], kept["rule"], kept["environment"]) == (3, rule, "prod")
    assert re.fullmatch(r"raw/events/events/in\.ndjson#[0-9a-f]{8}", kept["source_file"])
    assert len(rows_of(root)) == 3
    assert sum(m.reject_rows for m in read_markers(root, "events")) == 1
    assert [m.incomplete for m in read_markers(root, "events") if m.reject_rows] == [True]
    (file,) = report.files
    assert (file.rows, file.rejected) == (3, 1)


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"trigger_price": "88200.10"}, {"trigger_price": Decimal("88200.10000000")}),
        ({"trigger_price": 0.1}, {"trigger_price": Decimal("0.10000000")}),
        ({"trigger_price": 1e-8}, {"trigger_price": Decimal("0.00000001")}),
        ({"trigger_price": "0E-8"}, {"trigger_price": Decimal("0E-8")}),
        ({"trigger_price": 88200}, {"trigger_price": Decimal("88200.00000000")}),
        ({"trigger_price": "999999999999.99999999"}, {"trigger_price": Decimal("999999999999.99999999")}),
        ({"trigger_price": "0.1234567800"}, {"trigger_price": Decimal("0.12345678")}),
        ({"trigger_price": "-1.5"}, {"trigger_price": Decimal("-1.50000000")}),  # silver judges that
        ({"occurred_at": "2024-12-01 01:00:00.5+01"}, {"occurred_at": kit.START + timedelta(microseconds=500_000)}),
        ({"occurred_at": "2024-12-01T00:00:00.1234560Z"}, {"occurred_at": kit.START + timedelta(microseconds=123_456)}),
        ({"event_id": "0B1F3A00-0000-4000-8000-00000000000A"}, {"event_id": "0b1f3a00-0000-4000-8000-00000000000a"}),
        ({"payload_json": None}, {"payload_json": "{}", "trigger_type": None}),
        ({"retry_count": None, "event_seq": None}, {"retry_count": 0, "event_seq": None}),
        ({"payload_json": {"b": 1.50, "a": {"ä": "\n"}}}, {"payload_json": '{"a":{"ä":"\\n"},"b":1.5}'}),
        ({"trigger_type": "TAKE_PROFIT"}, {"trigger_type": "TAKE_PROFIT"}),
        ({"request_payload_hash": "abc"}, {"_extra": None}),
        ({"later_column": [1.25, None]}, {"_extra": '{"later_column":[1.25,null]}'}),
    ],
)  # fmt: skip
def test_what_can_be_held_is_held_exactly(root: Path, tmp_path: Path, given: dict, held: dict):
    report = land(root, tmp_path, line(**given))
    assert report.files[0].rejected == 0
    (row,) = rows_of(root)
    assert {name: row[name] for name in held} == held


def test_a_number_never_passes_through_a_float(root: Path, tmp_path: Path):
    text = line().replace(f'"{GOOD["trigger_price"]}"', "123456789012.12345678")
    land(root, tmp_path, text)
    assert rows_of(root)[0]["trigger_price"] == Decimal("123456789012.12345678")


def test_the_form_of_a_file_does_not_matter(root: Path, tmp_path: Path):
    rows = kit.events(50, hours=2)
    text = "\r\n".join(json.dumps(row) for row in rows).encode()  # no end at the last line
    contexts = {
        "plain.ndjson": text,
        "bom.ndjson": b"\xef\xbb\xbf" + text,
        "blank.ndjson": b"\n \n" + text.replace(b"\r\n", b"\n\n"),
        "packed.ndjson.gz": gzip.compress(text),
        "packed.ndjson.zst": zstandard.compress(text[:999]) + zstandard.compress(text[999:]),
    }
    found = []
    for name, data in contexts.items():
        (tmp_path / name).write_bytes(data)
        report = ingest_ndjson(tmp_path / f"root {name}", "events", str(tmp_path / name))
        assert report.exit_code == 0, name
        found.append(kit.windows(tmp_path / f"root {name}"))
    assert all(windows == found[0] for windows in found)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.ndjson.gz", gzip.compress(b"x" * 100_000)[:-9], "ended early"),
        ("a.ndjson.zst", zstandard.compress(b"{}\n" * 100_000)[:-3], "ended early"),
        ("a.ndjson.gz", gzip.compress(b"{}")[:-8] + b"\xff" * 8, "broken"),
        ("a.ndjson.gz", gzip.compress(b"\0" * (80 << 20)), "as a bomb does"),
        ("a.ndjson.zst", zstandard.compress(b"\n" * (80 << 20)), "as a bomb does"),
    ],
    ids=["gzip, cut", "zstd, cut", "gzip, wrong sum", "gzip, bomb", "zstd, bomb"],
)
def test_a_broken_or_hostile_packed_file_is_refused(
    root: Path, tmp_path: Path, name: str, data: bytes, reason: str
):
    (tmp_path / name).write_bytes(data)
    (file,) = ingest_ndjson(root, "events", str(tmp_path / name), max_bad=1).files
    assert (file.status, reason in file.reason) == ("quarantined", True)
    assert (root / "raw/_quarantine" / name).read_bytes() == data
    assert read_markers(root, "events") == []


def test_lines_keep_their_numbers_over_blocks_and_overlong_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(text_lines, "BLOCK_BYTES", 64)
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 100)
    lines = [b"%d" % n * (n % 40) for n in range(1, 200)]
    path = tmp_path / "a"
    path.write_bytes(b"\n".join(lines))
    found = {}
    for block in text_lines.read_lines(path):
        for place, text in enumerate(block.lines):
            length = block.overlong.get(place, len(text))
            assert lines[block.first + place - 1].startswith(text)
            found[block.first + place] = (length, place in block.overlong)
    assert found == {n: (len(text), len(text) > 100) for n, text in enumerate(lines, 1)}


def test_a_share_of_bad_lines_above_the_limit_refuses_the_file_and_lands_the_others(
    root: Path, tmp_path: Path
):
    kit.write(tmp_path / "a.ndjson", [*kit.events(50), *["{"] * 2])
    kit.write(tmp_path / "b.ndjson", kit.events(50, seed=2))
    report = ingest_ndjson(root, "events", str(tmp_path / "*.ndjson"), max_bad=0.01)
    assert [f.status for f in report.files] == ["quarantined", "landed"]
    assert report.exit_code == 1
    assert "2 of 52 lines were bad (JSON 2)" in report.files[0].reason
    assert len(rows_of(root)) == 50
    assert rejects(root) == []
    assert (root / "raw/_quarantine/a.ndjson").is_file()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda e: {("ticker" if k == "symbol" else k): v for k, v in e.items()},
            "without symbol and with the unknown ticker",
        ),
        (lambda e: e | {"client_id": str(e["client_id"])}, "with another type of client_id"),
    ],
)
def test_a_removed_or_retyped_column_is_refused_with_the_difference(
    root: Path, tmp_path: Path, change, told: str
):
    path = kit.write(tmp_path / "a.ndjson", [change(e) for e in kit.events(20)])
    (file,) = ingest_ndjson(root, "events", str(path)).files
    assert file.status == "quarantined"
    assert f"rows came {told}, expected the columns of events" in file.reason


def test_a_refused_file_stays_where_something_was_made_of_it(root: Path, tmp_path: Path):
    path = kit.write(root / "raw/events/mine.ndjson", kit.events(5))
    assert ingest_ndjson(root, "events", str(path)).exit_code == 0
    (file,) = ingest_ndjson(root, "orders", str(path)).files
    assert (file.status, path.is_file(), (root / "raw/_quarantine/mine.ndjson").is_file()) == (
        "quarantined",
        True,
        True,
    )
    other = kit.write(root / "raw/events/other.ndjson", ["{"])
    assert ingest_ndjson(root, "events", str(other)).files[0].status == "quarantined"
    assert not other.exists()


def test_a_new_column_is_told_once_and_kept(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = kit.write(tmp_path / "a.ndjson", [e | {"mood": n} for n, e in enumerate(kit.events(20))])
    (file,) = ingest_ndjson(root, "events", str(path)).files
    assert (file.status, file.unknown_columns) == ("landed", {"mood": 20})
    assert [r.getMessage() for r in caplog.records if "schema drift" in r.getMessage()] == [
        "schema drift dataset=events file=a.ndjson: unknown columns went to _extra: mood"
    ]
    assert {row["_extra"] for row in rows_of(root)} == {f'{{"mood":{n}}}' for n in range(20)}


def test_rejects_go_to_the_window_of_the_line_before(root: Path, tmp_path: Path):
    hours = [json.dumps(kit.event(n, kit.START + timedelta(hours=n))) for n in range(3)]
    timed = line(side="LONG", occurred_at="2024-12-01T05:10:00Z")
    land(root, tmp_path, "{first", hours[0], hours[1], "{second", timed, hours[2])
    assert [(m.hour, m.reject_rows) for m in read_markers(root, "events") if m.reject_rows] == [
        (0, 1),
        (1, 1),
        (5, 1),
    ]
    assert [r["line_no"] for r in rejects(root)] == [1, 4, 5]


def test_secrets_of_bad_lines_are_not_kept(root: Path, tmp_path: Path):
    secret = "Ab1" * 21 + "x"
    land(root, tmp_path, json.dumps(GOOD), f'{{"apiKey": "short", "error": "key={secret} from 10.0.0.1"')
    (kept,) = rejects(root)
    assert kept["raw"] == '{"apiKey": "[REDACTED]", "error": "key=[REDACTED] from [REDACTED]"'
    land(
        root,
        tmp_path,
        json.dumps(GOOD),
        line(source=secret),
        line(error_message=f"mail a@b.example {secret}"),
    )
    land(root, tmp_path, json.dumps(GOOD), line(client_id=secret), line(payload_json=[{"email": secret}]))
    assert not any(secret[:20] in str(row) for row in [*rejects(root), *rows_of(root)])
    assert len(rejects(root)) == 4


def test_empty_input_and_all_null_columns_load(root: Path, tmp_path: Path):
    report = land(root, tmp_path, max_bad=0)
    assert [f.status for f in report.files] == ["landed"]
    nulls = {
        "event_seq": None,
        "trigger_price": None,
        "side": None,
        "execution_token": None,
        "payload_json": None,
    }
    land(root, tmp_path, *(json.dumps(e | nulls) for e in kit.events(5)), max_bad=0)
    assert {row["trigger_price"] for row in rows_of(root)} == {None}


def test_all_four_datasets_land_every_column(root: Path, tmp_path: Path):
    at = datetime(2024, 12, 1, 5, tzinfo=UTC)
    land(root, tmp_path, json.dumps(kit.operation(1, at)), dataset="operations")
    land(root, tmp_path, *(json.dumps(kit.balance(n, at)) for n in range(2)), dataset="balance_snapshots")
    (operation,) = rows_of(root, "operations")
    assert (operation["target_price"], operation["leverage"]) == (Decimal("3500.25000000"), 5)
    flat, nested = sorted(rows_of(root, "balance_snapshots"), key=lambda row: row["balances"] is not None)
    assert (flat["spot_usdc"], flat["margin_level"]) == (Decimal("100.50000000"), Decimal("2.1542"))
    assert (
        nested["balances"]
        == '[{"account_type":"SPOT","asset":"USDC","free":"100","locked":"0","symbol":null}]'
    )
    report = land(
        root,
        tmp_path,
        json.dumps({"client_id": 1, "snapshot_time": kit.instant(at), "created_at": kit.instant(at)}),
        dataset="balance_snapshots",
    )
    assert report.files[0].by_rule == {"MISSING_COLUMN": 1}


def test_no_file_is_no_empty_source(root: Path, tmp_path: Path):
    with pytest.raises(SourceUnreachable, match="no file matched"):
        ingest_ndjson(root, "events", str(tmp_path / "*.ndjson"))


# -- the commands ----------------------------------------------------------------------------------------------------


def test_the_commands_tell_by_their_exit_codes(root: Path, tmp_path: Path):
    run = CliRunner().invoke
    path = kit.write(tmp_path / "a.ndjson", kit.events(300, hours=30))
    assert run(events_app, ["--from", f"ndjson:{path}"]).exit_code == 0
    done = run(events_app, ["--from", f"ndjson:{path}", "--json"])
    assert [row["status"] for row in json.loads(done.stdout)] == ["already_landed"]
    bad = kit.write(tmp_path / "b.ndjson", [*kit.events(300, seed=2, hours=30), "{"])
    assert run(events_app, ["--from", f"ndjson:{bad}"]).exit_code == 2
    assert run(events_app, ["--from", f"ndjson:{tmp_path}/none"]).exit_code == 4
    assert run(events_app, ["--from", "somewhere"]).exit_code == 2  # a wrong call, as click says it
    refused = kit.write(tmp_path / "c.ndjson", ["{"])
    assert run(events_app, ["--from", f"ndjson:{refused}"]).exit_code == 1
    sealed = run(seal_app, ["--through", "2024-12-01T10:00Z", "--dataset", "events", "--json"])
    assert json.loads(sealed.stdout) == [
        {"dataset": "events", "through": "2024-12-01T10:00:00Z", "sealed": 4, "empty": 0}
    ]


def test_bounds_out_of_order_are_told_before_anything_is_read(root, tmp_path):
    at = datetime(2024, 12, 1, tzinfo=UTC)
    (tmp_path / "a.ndjson").touch()
    with pytest.raises(ValueError, match="expected it before the end"):
        ingest_ndjson(root, "events", str(tmp_path / "a.ndjson"), start=at, end=at)
    assert not any(root.iterdir())


def test_rows_outside_the_hours_asked_for_are_counted_as_filtered(root: Path, tmp_path: Path) -> None:
    source = kit.write(tmp_path / "events.ndjson", kit.events(20, hours=4))
    report = ingest_ndjson(root, "events", str(source), start=kit.START, end=kit.START + timedelta(hours=2))
    (file,) = report.files
    assert (file.rows + file.filtered, file.rejected) == (20, 0)
    assert file.filtered > 0
    assert file.rows == sum(marker.rows for marker in read_markers(root, "events"))
    assert "outside the hours asked for" in file.line()
    again = ingest_ndjson(root, "events", str(source), start=kit.START, end=kit.START + timedelta(hours=2))
    assert (again.files[0].status, again.files[0].filtered) == ("already_landed", file.filtered)


@pytest.mark.parametrize("year", [1024, 2100])
def test_a_bound_of_another_age_is_refused(root: Path, tmp_path: Path, year: int) -> None:
    source = kit.write(tmp_path / "events.ndjson", kit.events(3, hours=1))
    with pytest.raises(ValueError, match="between the years 2000 and 2100"):
        ingest_ndjson(
            root,
            "events",
            str(source),
            start=datetime(year, 1, 1, tzinfo=UTC),
            end=datetime(2101, 1, 1, tzinfo=UTC),
        )


def test_the_raw_copy_is_its_owners_alone(root: Path, tmp_path: Path) -> None:
    source = kit.write(tmp_path / "events.ndjson", kit.events(3, hours=1))
    (file,) = ingest_ndjson(root, "events", str(source)).files
    assert (root / file.raw_path).stat().st_mode & 0o777 == 0o600
