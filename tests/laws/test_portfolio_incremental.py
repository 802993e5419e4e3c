"""Bars and portfolios built as rows come, late ones too, are those that one build makes of everything: by digest."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.window_schema import WINDOW_SCHEMAS
from tests.e2e.execution import DEFAULTS, ExecutionPipeline
from tests.fixtures.dbt import repository_project
from tests.fixtures.lakes import digests
from tests.fixtures.windows import land_rows
from tests.laws import test_minute_bars_equal_oracle as bars
from tests.laws.test_portfolio_equals_oracle import START, first_landings, random_world
from tests.oracle import worlds

SELECT = ("+portfolio_performance", "agg_trade_gaps")
ROW_TIMES = {"klines": "open_time", "agg_trades": "exchange_time", "trades": "exchange_time"}
CUT = START + timedelta(days=1, hours=7)


def world() -> dict[str, list[dict]]:
    """Two days of portfolios and three of a tape; `created_at` says when a row was stored."""
    found = random_world(worlds.seeded(4), days=2)
    trades, klines = bars.random_world(worlds.seeded(3))
    first = first_landings(found["balance_snapshots"])
    copies = [one for one in found["balance_snapshots"] if one not in first]
    # of what is landed in one load no row is the earlier one
    times = {(one["client_id"], one["snapshot_time"]): one["ingested_at"] for one in first}
    copies = [c for c in copies if times[c["client_id"], c["snapshot_time"]] < CUT <= c["ingested_at"]]
    found["balance_snapshots"] = first + copies
    for one in found["balance_snapshots"]:
        one["created_at"] = one["ingested_at"]
    late = found["orders"][0]  # of a client's first days, known after everything else
    late |= {
        "transaction_type": "DEPOSIT",
        "status": "FILLED",
        "asset": "USDC",
        "quantity": 33,
        "executed_at": START,
    }
    late["created_at"] = late["ingested_at"] = START + timedelta(days=2)
    seen = {(k["symbol"], k["open_time"]) for k in found["klines"]}
    found["klines"] += [k for k in klines if (k["symbol"], k["open_time"]) not in seen]
    return {**found, "agg_trades": trades}


def stored_at(source: str, row: dict):
    return row[ROW_TIMES.get(source, "created_at")]


def land(root: Path, rows: dict[str, list[dict]], name: str) -> None:
    for source, of_source in rows.items():
        schema = WINDOW_SCHEMAS[source]
        types = {f.name: f.type for f in schema.columns}
        filled = [
            {n: _value(v, types[n]) for n, v in {**DEFAULTS, **row}.items() if n in types}
            for row in of_source
        ]
        if filled:
            land_rows(root, schema, filled, f"{source}-{name}.ndjson")


def _value(value: object, kind: object) -> object:
    if isinstance(value, list):
        return json.dumps(value)
    return Decimal(str(value)) if value is not None and str(kind).startswith("decimal") else value


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """One lake built twice, a fifth of the tape landing late; one built at once; both landed alike."""
    rows = world()
    first, later = ({source: [] for source in rows} for _ in range(2))
    for source, of_source in rows.items():
        for row in of_source:
            is_late = stored_at(source, row) >= CUT or (source == "agg_trades" and row["agg_id"] % 5 == 0)
            (later if is_late else first)[source].append(row)
    found = {name: tmp_path_factory.mktemp(name) for name in ("grown", "whole")}
    for number, part in enumerate((first, later)):
        land(found["grown"], part, f"{number}")
        land(found["whole"], part, f"{number}")
        outcome = repository_project().run(found["grown"], "run", "--select", *SELECT)
        assert outcome.ok, outcome
    outcome = repository_project().run(found["whole"], "run", "--select", *SELECT)
    assert outcome.ok, outcome
    return found


def ours() -> dict[str, dict]:
    names = ("market_bars", "balance_snapshots", "portfolio")
    return {
        n: node for n, node in repository_project().datasets().items() if any(part in n for part in names)
    }


def test_grown_equals_whole(roots):
    grown, whole = (digests(roots[name], ours()) for name in ("grown", "whole"))
    assert grown == whole
    built = {name for name, _, _ in grown}
    assert {"market_bars_1m", "balance_snapshots", "portfolio_snapshots", "portfolio_daily"} <= built


def test_one_pass_over_all_dates_gives_the_same_rows(roots, manifest):
    import duckdb  # noqa: PLC0415

    pipeline = ExecutionPipeline(manifest)
    rows = world()
    for source in ("balance_snapshots", "orders"):
        for row in rows[source]:
            row["ingested_at"] = row["loaded_at"] = row["created_at"]
    pipeline.land(**rows)
    pipeline.build("portfolio_daily", "market_bars_1m")
    with duckdb.connect(str(roots["whole"] / "lake.duckdb"), read_only=True) as con:
        con.execute("set TimeZone = 'UTC'")
        for name in ("market_bars_1m", "balance_snapshots", "portfolio_snapshots", "portfolio_daily"):
            found = pipeline.con.query(f"select * from silver.{name}")
            listed = ", ".join(found.columns)
            order = "order by all"
            published = con.query(f"select {listed} from silver.{name} {order}").fetchall()
            assert published, name
            assert (
                pipeline.con.query(f"select {listed} from silver.{name} {order}").fetchall() == published
            ), name
