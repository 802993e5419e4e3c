"""The command line: help for every command, one clear line for every error, dates as people write them."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from cli import doctor
from cli.dates import trading_sessions
from cli.main import COMMANDS, is_told, one_line
from cli.output import print_rows
from lake import atomic, status
from lake.commits import Commit, mark, publish


def tickhouse(*args: str, root: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *args]
    environment = {**os.environ, "LAKE_ROOT": str(root), "TICKHOUSE_DEBUG": "", **env}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_root_help_lists_every_command_and_imports_none(tmp_path):
    code = (
        "import sys, cli.main\n"
        "sys.argv = ['tickhouse', '--help']\n"
        "try:\n    cli.main.main()\n"
        "except SystemExit:\n    pass\n"
        "loaded = {'cli.' + name for name in cli.main.COMMANDS} | {'numpy', 'pyarrow', 'duckdb', 'dbt'}\n"
        "print('loaded:', sorted(loaded & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in run.stdout for name in COMMANDS)
    assert run.stdout.splitlines()[-1] == "loaded: []"


def test_an_unknown_command_is_a_wrong_call(tmp_path):
    run = tickhouse("ingset", root=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "No such command 'ingset'" in run.stderr


def test_an_empty_lake_has_an_empty_status(tmp_path):
    run = tickhouse("status", "--json", root=tmp_path)
    assert (run.returncode, json.loads(run.stdout), run.stderr) == (0, [], "")
    run = tickhouse("status", root=tmp_path)
    assert (run.returncode, run.stdout) == (0, "")
    assert "tickhouse demo" in run.stderr


def test_status_counts_what_is_visible_and_tells_what_is_wrong(root):
    receipts = root / "raw" / "_metadata"
    for delivery, state, reason in (
        ("a" * 16, "landed", None),
        ("b" * 16, "quarantined", "cut"),
        ("c" * 16, None, None),
    ):
        if state:  # without a receipt a delivery isn't visible
            receipt = {
                "path": f"raw/x/{delivery}.dbn", "status": state, "reason": reason,
                "record_count": None, "bytes": 9, "downloaded_at": "2025-12-01T00:00:00Z",
                "rejects": [{"path": "_rejects/dataset=futures_trades/date=2025-11-03/part-0.parquet", "rows": 1}]
                if state == "landed" else [],
            }  # fmt: skip
            atomic.write_json(receipts / f"receipt-{delivery}.json", receipt)
        name = f"futures/trades/symbol=ES/date=2025-11-03/hour=14/part-{delivery[:8]}-000.parquet"
        file = {
            "path": name,
            "key": {"symbol": "ES"},
            "hour": 14,
            "rows": 5,
            "ts_min_ns": 1,
            "ts_max_ns": 1_762_180_000 * 10**9,
        }
        record = {
            "schema": "futures.trades.v1", "date": "2025-11-03", "delivery_id": delivery,
            "status": "complete", "source": "sim", "run_id": "r1", "gaps": [{"reason": "silence"}],
            "files": [{**file, "content_digest": "0"}],
        }  # fmt: skip
        commit = f"futures/trades/_metadata/date=2025-11-03/commit-{delivery[:8]}.json"
        atomic.write_json(root / "lake/bronze" / commit, record)
        (root / "lake/bronze" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "lake/bronze" / name).write_bytes(b"1234")

    for date_, params, ok in (("2025-11-03", "d" * 64, True), ("2025-11-04", "d" * 64, False)):
        staged = root / "staged"
        staged.write_bytes(b"123")
        commit = Commit(
            "touches", date_, params, 7, 3, "0", "k" * 8, "0", {}, "0", None, "2025-12-02T00:00:00Z", "r"
        )
        folder = root / "lake/silver/datasets/touches/params=dddddddd" / f"date={date_}"
        mark(publish(staged, folder, commit), ok, None if ok else "unique_key failed", "r")

    now = datetime(2025, 12, 3, tzinfo=UTC)
    (trades,) = [row for row in status.bronze_status(root, now) if row.dates]
    assert (trades.dataset, trades.first_date, trades.last_date) == (
        "bronze/futures/trades",
        *["2025-11-03"] * 2,
    )
    assert (trades.dates, trades.rows, trades.bytes, trades.freshness) == (1, 5, 4, "stale")
    assert (trades.gaps, trades.rejected, trades.rejected_share) == (1, 1, 1 / 6)
    assert (trades.last_run, trades.problem) == ("r1", None)
    (touches,) = status.built_status(root, now)
    assert touches.dataset == "silver/datasets/touches/params=dddddddd"
    assert (touches.dates, touches.first_date, touches.last_date) == (2, "2025-11-03", "2025-11-04")
    assert (touches.rows, touches.bytes, touches.last_at) == (14, 6, "2025-12-02T00:00:00Z")
    assert (touches.freshness, touches.problem) == (
        "fresh",
        "1 dates failed, first 2025-11-04: unique_key failed",
    )
    assert [(row.dataset, row.problem) for row in status.quarantine_status(root)] == [
        (f"raw/x/{'b' * 16}.dbn", "cut")
    ]


def test_a_broken_record_is_one_line_and_a_traceback_only_on_demand(tmp_path):
    record = tmp_path / "lake/bronze/futures/trades/_metadata/date=2025-11-03/commit-0123abcd.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    run = tickhouse("status", root=tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("tickhouse: ")
    assert run.stderr.count("\n") == 1
    assert "Traceback" in tickhouse("status", root=tmp_path, TICKHOUSE_DEBUG="1").stderr


def test_doctor_passes_here_and_fails_on_a_database_it_cannot_open(tmp_path):
    run = tickhouse("doctor", "--json", root=tmp_path)
    rows = json.loads(run.stdout)
    assert [row["check"] for row in rows] == [
        "python", "libgomp", "locked packages",
        "lake root", "free space", "stage", "bronze files", "lake.duckdb",
    ]  # fmt: skip
    assert [row["problem"] for row in rows if row["check"] not in ("free space", "locked packages")] == [
        None
    ] * 6

    (tmp_path / "lake.duckdb").write_bytes(b"not a database" * 1000)
    run = tickhouse("doctor", "--json", root=tmp_path)
    assert run.returncode == 1
    assert [row["check"] for row in json.loads(run.stdout) if not row["ok"]][-1] == "lake.duckdb"


def test_doctor_sees_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    rows = {name: problem for name, _, problem in doctor.lake_checks(tmp_path / "file")}
    assert "is a file, expected a folder" in rows["lake root"]


def test_locked_versions_honour_markers(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# a comment==1\n"
        "agate==1.9.1 \\\n    --hash=sha256:00\n    # via dbt==9\n"
        "networkx==3.6.1 ; python_version < '3' \\\n    --hash=sha256:00\n"
        "networkx==3.7 ; python_version >= '3' \\\n    --hash=sha256:00\n"
        "PyYAML==6.0.3\n"
    )
    assert doctor.locked_versions(lock) == {"agate": "1.9.1", "networkx": "3.7", "pyyaml": "6.0.3"}


def test_our_errors_are_told_and_bugs_are_not():
    told = type("TruncatedFile", (Exception,), {"__module__": "ingest.dbn"})
    assert is_told(told("cut"))
    assert is_told(ValueError("x"))
    assert is_told(OSError(28, "No space left on device"))
    assert not is_told(KeyError("x"))
    assert not is_told(TypeError("x"))
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert one_line(PermissionError(13, "Permission denied", "/lake")).startswith(
        "/lake: Permission denied; "
    )


def test_rows_print_as_flat_json_or_as_a_table(capsys):
    rows = [{"dataset": "gold/x", "rows": 12345, "last": None, "ok": True}]
    print_rows(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows
    print_rows(rows, as_json=False)
    assert capsys.readouterr().out.split() == [
        "dataset",
        "rows",
        "last",
        "ok",
        "gold/x",
        "12,345",
        "-",
        "yes",
    ]


def test_a_range_skips_weekends_and_holidays():
    days = trading_sessions("2025-11-26:2025-12-01")  # Thanksgiving is the 27th; the 28th closes early
    assert days == [date(2025, 11, 26), date(2025, 11, 28), date(2025, 12, 1)]


def test_a_count_runs_from_the_first_date_on():
    days = trading_sessions("2025-11-03", 20)
    assert (len(days), days[0], days[-1]) == (20, date(2025, 11, 3), date(2025, 12, 1))
    assert trading_sessions("2025-11-27", 1) == [date(2025, 11, 28)]
    assert trading_sessions("2025-11-03:2025-12-31", 2) == [date(2025, 11, 3), date(2025, 11, 4)]


def test_a_list_is_sorted_and_each_date_once():
    days = trading_sessions("2025-11-05, 2025-11-03,2025-11-05")
    assert days == [date(2025, 11, 3), date(2025, 11, 5)]


@pytest.mark.parametrize(
    ("dates", "sessions", "reason"),
    [
        ("2025-11-27", None, "2025-11-27 is no trading session"),
        ("2025-11-08,2025-11-10", None, "2025-11-08 is no trading session"),
        ("2025-13-01", None, "expected YYYY-MM-DD"),
        ("2025-11-03:", None, "expected YYYY-MM-DD"),
        ("2025-12-02:2025-11-03", None, "holds 0 trading sessions"),
        ("2025-11-03:2025-11-05", 5, "holds 3 trading sessions, expected 5"),
        ("2028-12-20", 30, "the calendar runs from 2018-01-02 to 2028-12-29"),
    ],
)
def test_dates_that_mean_nothing_say_why(dates, sessions, reason):
    with pytest.raises(ValueError, match=reason):
        trading_sessions(dates, sessions)
