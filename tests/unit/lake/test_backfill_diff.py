"""What is told of two versions of a dataset, worked out by hand."""

import decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import active, backfill_diff, commits
from lake.digest import file_digest

DAY = "2024-12-01"
MONEY = pa.decimal128(20, 8)
TYPES = {
    "client_id": ("bigint", pa.int64()),
    "execution_token": ("varchar", pa.string()),
    "status": ("varchar", pa.string()),
    "net_pnl": ("decimal(20,8)", MONEY),
    "failed_rules": ("varchar[]", pa.list_(pa.string())),
    "anomaly_code": ("varchar", pa.string()),
    "created_at": ("varchar", pa.string()),
}


def node(name: str, *columns: str) -> dict:
    declared = {c: {"name": c, "data_type": TYPES[c][0], "config": {}} for c in columns}
    declared["created_at"]["config"] = {"meta": {"role": "lineage"}}
    return {
        "name": name,
        "alias": name,
        "columns": {**declared, "date": {"name": "date", "data_type": "date", "config": {}}},
        "config": {
            "schema": "silver",
            "meta": {
                "key": ["client_id", "execution_token"],
                "partition": "date",
                "folder": f"silver/{name}",
            },
        },
    }


def put(root: Path, model: dict, version: int, rows: list[tuple], date: str = DAY) -> None:
    columns = [c for c in model["columns"] if c not in ("date", "created_at")]
    values = {c: [row[i] for row in rows] for i, c in enumerate(columns)} | {
        "created_at": [f"v{version}"] * len(rows)
    }
    schema = pa.schema([(c, TYPES[c][1]) for c in values])
    staged = root / "staged.parquet"
    pq.write_table(pa.Table.from_pydict(values, schema=schema), staged)
    folder = active.sibling(f"silver/{model['name']}", version)
    commit = commits.Commit(
        dataset=folder, date=date, params_digest=None, rows=len(rows), bytes=staged.stat().st_size,
        content_digest=file_digest(staged, ["created_at"]), build_key=f"{version}" * 64, code_digest="c" * 64,
        inputs={}, input_digest="e" * 64, build_digest=None, built_at="2024-12-02T00:00:00Z", run_id="r",
    )  # fmt: skip
    commits.publish(staged, root / "lake" / folder / f"date={date}", commit)


def money(text: str | None) -> decimal.Decimal | None:
    return None if text is None else decimal.Decimal(text)


@pytest.fixture
def report(tmp_path) -> dict:
    main = node("stop_executions", "client_id", "execution_token", "status", "net_pnl", "created_at")
    set_aside = node(
        "stop_executions_quarantine", "client_id", "execution_token", "failed_rules", "created_at"
    )
    anomalies = node("replay_anomalies", "client_id", "execution_token", "anomaly_code", "created_at")
    same = [(1, "same", "FAILED", money("-1")), (2, "of another tenant", "FAILED", None)]
    before = [(1, "a", "FAILED", None), (1, "b", "EXECUTED", money("-2.5")), (1, "gone", "PENDING", None)]
    after = [
        (1, "a", "EXECUTED", money("-1.25")),
        (1, "b", "EXECUTED", money("-2.75")),
        (1, "new|", "BLOCKED", None),
    ]
    put(tmp_path, main, 1, [*before, *same])
    put(tmp_path, main, 2, [*after, *same])
    for version in (1, 2):  # a date of equal content isn't read
        put(tmp_path, main, version, same, "2024-12-02")
    put(tmp_path, set_aside, 1, [(1, "q", ["NONPOSITIVE", "TIME_ORDER"]), (1, "r", ["TIME_ORDER"])])
    put(tmp_path, set_aside, 2, [(1, "q", ["NONPOSITIVE"])])
    put(tmp_path, anomalies, 1, [(1, "a", "NULL_SEQ")])
    put(tmp_path, anomalies, 2, [(1, "a", "SEQ_GAP")])
    return backfill_diff.compare(
        tmp_path, "stop_executions", [set_aside, anomalies, main], (1, 2), (DAY, "2024-12-02")
    )


def test_rows_and_columns_are_counted_and_told(report):
    main = report["datasets"][2]
    counted = {
        k: main[k]
        for k in ("dataset", "dates_compared", "rows_before", "rows_after", "added", "removed", "changed")
    }
    assert counted == {
        "dataset": "silver/stop_executions", "dates_compared": [DAY], "rows_before": 7, "rows_after": 7,
        "added": 1, "removed": 1, "changed": 2,
    }  # fmt: skip
    assert main["columns"] == {"status": 1, "net_pnl": 2}, "lineage differs in every row and is none"
    assert main["rows"] == [
        {
            "key": {"client_id": "1", "execution_token": "a"},
            "change": "changed",
            "columns": {"status": ["FAILED", "EXECUTED"], "net_pnl": [None, "-1.25000000"]},
        },
        {
            "key": {"client_id": "1", "execution_token": "b"},
            "change": "changed",
            "columns": {"net_pnl": ["-2.50000000", "-2.75000000"]},
        },
        {"key": {"client_id": "1", "execution_token": "gone"}, "change": "removed", "columns": {}},
        {"key": {"client_id": "1", "execution_token": "new|"}, "change": "added", "columns": {}},
    ]


def test_what_executions_became_and_cost_is_told(report):
    moved = [row for row in report["status_transitions"] if row["before"] != row["after"]]
    assert moved == [
        {"before": "FAILED", "after": "EXECUTED", "rows": 1},
        {"before": "PENDING", "after": None, "rows": 1},
        {"before": None, "after": "BLOCKED", "rows": 1},
    ]
    assert report["net_pnl"] == {
        "before": "-3.50000000", "after": "-5.00000000", "difference": "-1.50000000", "null_before": 3, "null_after": 2,
    }  # fmt: skip
    assert report["quarantine"] == [
        {"rule": "NONPOSITIVE", "before": 1, "after": 1, "difference": 0},
        {"rule": "TIME_ORDER", "before": 2, "after": 0, "difference": -2},
    ]
    assert report["anomalies"] == [
        {"code": "NULL_SEQ", "before": 1, "after": 0, "difference": -1},
        {"code": "SEQ_GAP", "before": 0, "after": 1, "difference": 1},
    ]


def test_the_page_says_the_same(report):
    page = backfill_diff.markdown(report)
    for line in (
        "# stop_executions: version 1 to 2",
        "| silver/stop_executions | 1 | 7 | 7 | 1 | 1 | 2 |",
        "| silver/stop_executions | net_pnl | 2 |",
        "| no row | BLOCKED | 1 |",
        "| -3.50000000 | -5.00000000 | -1.50000000 | 3 | 2 |",
        "| TIME_ORDER | 2 | 0 | -2 |",
        "## Rows, the first 7 of 7 in diff.json",
    ):
        assert line in page.splitlines(), line
    assert 'new\\|"' in page
