"""Every analysis runs over a lake with rows and says what was put there; the source document's queries run as written.

Source: spec/execution.md 7.2; the sample queries of the source document.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import jinja2
import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.fixtures.monitoring import fill
from tests.laws.repository import PROJECT_DIR

FOLDER = PROJECT_DIR / "analyses"
DAY = "2024-12-27"
OURS = {
    "events_sample", "success_rate_by_client", "slippage_by_symbol", "fee_analysis", "order_history",
    "dq_bronze_row_count", "dq_silver_null_percentage", "dq_gold_label_distribution", "freshness_bronze",
    "freshness_silver",
}  # fmt: skip
# The document's queries, word for word, by the name of the file that holds them.
DOCUMENT = {
    "document_bronze_sample": "SELECT * FROM robson_datalake.bronze.events WHERE date='2024-12-27' LIMIT 10",
    "document_success_rate_by_client": """
        SELECT client_id, COUNT(*) as total_executions,
        SUM(CASE WHEN status = 'EXECUTED' THEN 1 ELSE 0 END) as successful,
        SUM(CASE WHEN status = 'EXECUTED' THEN 1 ELSE 0 END) * 100.0 / COUNT(*) as success_rate_pct
        FROM silver.stop_executions WHERE date BETWEEN '2024-01-01' AND '2024-12-27'
        GROUP BY client_id ORDER BY success_rate_pct DESC""",
    "document_slippage_by_symbol": """
        SELECT symbol, AVG(slippage_pct) as avg_slippage_pct, PERCENTILE(slippage_pct, 0.5) as median_slippage_pct,
        PERCENTILE(slippage_pct, 0.95) as p95_slippage_pct
        FROM silver.stop_executions WHERE date BETWEEN '2024-01-01' AND '2024-12-27' AND slippage_pct IS NOT NULL
        GROUP BY symbol ORDER BY avg_slippage_pct ASC""",
    "document_bronze_row_count": """
        SELECT date, COUNT(*) as row_count FROM bronze.events GROUP BY date ORDER BY date DESC LIMIT 30""",
    "document_silver_null_percentage": """
        SELECT COUNT(*) as total_rows, COUNT(execution_id) as non_null_executions,
        COUNT(fill_price) as non_null_fill_prices,
        (COUNT(*) - COUNT(fill_price)) * 100.0 / COUNT(*) as null_fill_price_pct
        FROM silver.stop_executions WHERE date = '2024-12-27'""",
    "document_gold_label_distribution": """
        SELECT label.execution_success, COUNT(*) as sample_count,
        COUNT(*) * 100.0 / SUM(COUNT(*)) OVER() as percentage
        FROM gold.training_sets.stop_outcome WHERE version = 'v1.0.0' GROUP BY label.execution_success""",
    "document_bronze_freshness": """
        SELECT CURRENT_TIMESTAMP - MAX(occurred_at) as max_lag FROM bronze.events WHERE date = '2024-12-27'""",
    "document_silver_freshness": """
        SELECT MAX(created_at) as last_silver_update, CURRENT_TIMESTAMP - MAX(created_at) as silver_lag
        FROM silver.stop_executions WHERE date = '2024-12-27'""",
}
# What may differ: relation names, and PERCENTILE.
SPELLED = {
    "robson_datalake.bronze.events": "bronze.events",
    "gold.training_sets.stop_outcome": "gold.training_sets_stop_outcome",
    "PERCENTILE(": "QUANTILE_CONT(",
}

# -- a lake with rows ------------------------------------------------------------------------------------------------


def event(number: int, kind: str, client: int, token: str, at: str, **values: Any) -> dict[str, Any]:
    row = {
        "event_id": f"00000000-0000-0000-0000-{number:012d}",
        "event_seq": number,
        "event_type": kind,
        "client_id": client,
        "operation_id": number // 10,
        "execution_token": token,
        "symbol": "BTCUSDC" if client == 1 else "ETHUSDC",
        "side": "SELL",
        "occurred_at": f"{at}Z",
        "stop_price": 100,
        "trigger_price": 100,
        "quantity": 1,
        "source": "ws",
    }
    return row | values


def execution(first: int, client: int, token: str, at: str, fill_price: float | None) -> list[dict[str, Any]]:
    """Triggered and submitted; then filled at this price or, without one, failed."""
    end = (
        {"exchange_order_id": f"O{first}", "fill_price": fill_price} if fill_price else {"error_message": "x"}
    )
    kind = "EXECUTED" if fill_price else "FAILED"
    return [
        event(first, "STOP_TRIGGERED", client, token, f"{at}:00"),
        event(first + 1, "EXECUTION_SUBMITTED", client, token, f"{at}:01"),
        event(first + 2, kind, client, token, f"{at}:02", **end),
    ]


EVENTS = [
    *execution(10, 1, "a", f"{DAY}T10:00", 99),
    *execution(20, 1, "b", f"{DAY}T11:00", 98),
    *execution(30, 1, "c", f"{DAY}T12:00", None),
    *execution(40, 2, "d", f"{DAY}T13:00", 100),
    event(50, "STOP_TRIGGERED", 2, "e", f"{DAY}T14:00:00"),
    *execution(60, 2, "f", "2024-12-28T10:00", None),
]
FILLS = [
    {
        "client_id": 1, "account_type": "SPOT", "symbol": "BTCUSDC", "trade_id": n, "order_id": f"O{n}",
        "price": 100, "quantity": 2, "quote_quantity": 200, "commission": "0.1", "commission_asset": asset,
        "exchange_time": f"{DAY}T10:00:0{n}Z", "side": "SELL",
    }
    for n, asset in enumerate(("USDC", "USDC", "XYZ"))
]  # fmt: skip
ORDER = {
    "id": 1, "transaction_id": "T1", "client_id": 1, "transaction_type": "SPOT_BUY", "status": "FILLED",
    "symbol": "BTCUSDC", "asset": "BTC", "quantity": "0.001", "account_type": "SPOT", "category": "TRADING",
    "description": "", "source": "sync", "created_at": f"{DAY}T10:00:00Z",
}  # fmt: skip
ORDERS = [
    ORDER,
    ORDER | {"transaction_id": "T2", "executed_at": f"{DAY}T09:00:00Z"},
    ORDER | {"transaction_id": "T3", "client_id": 2},
    ORDER | {"transaction_id": "T4", "category": "EXTERNAL", "transaction_type": "DEPOSIT"},
]
SAMPLES = [
    {
        "version": version,
        "date": DAY,
        "split": split,
        "label": {"execution_success": success},
        "metadata": {"split": split},
    }
    for version, split, success in (
        ("v1.0.0", "train", True), ("v1.0.0", "train", True), ("v1.0.0", "train", False), ("v1.0.0", "test", False),
        ("v1.1.0", "train", True),
    )
]  # fmt: skip

Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(manifest: dict[str, Any]) -> Ask:
    """Rows of an analysis over the same small lake; its variables by name."""
    pipeline = ExecutionPipeline(manifest)
    pipeline.land(events=EVENTS, trades=FILLS, orders=ORDERS)
    pipeline.build("stop_executions", "fills")
    sets = next(n for n in manifest["nodes"].values() if n.get("alias") == "training_sets_stop_outcome")
    fill(pipeline.con, sets, SAMPLES)
    relations = {n["name"]: f"{n['schema']}.{n['alias']}" for n in manifest["nodes"].values() if "alias" in n}
    bronze = {s["name"]: f"bronze.{s['identifier']}" for s in manifest["sources"].values()}

    def rows(name: str, **variables: Any) -> list[dict[str, Any]]:
        (path,) = FOLDER.rglob(f"{name}.sql")
        sql = jinja2.Template(path.read_text(encoding="utf-8")).render(
            ref=relations.__getitem__,
            source=lambda _, table: bronze[table],
            var=variables.get,
        )
        return pipeline.query(sql)

    return rows


# -- ours ------------------------------------------------------------------------------------------------------------


def test_the_analyses_are_those_of_the_specification():
    assert {path.stem for path in FOLDER.glob("*.sql")} == OURS
    assert {path.stem for path in (FOLDER / "source_document").glob("*.sql")} == {*DOCUMENT}


def test_every_analysis_compiles_and_runs_by_default(manifest: dict[str, Any], ask: Ask):
    compiled = {
        n["name"] for n in manifest["nodes"].values() if n["resource_type"] == "analysis" and n["compiled"]
    }
    assert compiled == OURS | {*DOCUMENT}
    for name in compiled:
        assert ask(name) or name == "order_history", name


def test_ten_events_of_a_date(ask: Ask):
    found = ask("events_sample", date=DAY)
    assert len(found) == 10
    assert {row["date"] for row in found} == {date(2024, 12, 27)}
    assert {row["date"] for row in ask("events_sample")} == {date(2024, 12, 28)}


def test_success_rates_are_of_all_and_of_those_that_ended(ask: Ask):
    first, second = ask("success_rate_by_client", start="2024-01-01", end=DAY)
    assert (first["client_id"], first["total_executions"], first["successful"]) == (1, 3, 2)
    assert first["success_rate_pct"] == pytest.approx(200 / 3)
    # one executed, one pending: half of all, all of those that ended
    assert (second["success_rate_pct"], second["terminal_success_rate_pct"]) == (50.0, 100.0)
    assert [row["total_executions"] for row in ask("success_rate_by_client")] == [3, 3]


def test_slippage_is_by_symbol_of_what_was_filled(ask: Ask):
    found = {row["symbol"]: row for row in ask("slippage_by_symbol", start=DAY, end=DAY)}
    assert found["BTCUSDC"]["avg_slippage_pct"] == pytest.approx(1.5)
    assert float(found["BTCUSDC"]["median_slippage_pct"]) == pytest.approx(1.5)
    assert float(found["BTCUSDC"]["p95_slippage_pct"]) == pytest.approx(1.95)
    assert found["ETHUSDC"]["avg_slippage_pct"] == 0
    assert ask("slippage_by_symbol", end="2024-12-26") == []


def test_fees_are_by_client_symbol_and_asset(ask: Ask):
    found = {row["commission_asset"]: row for row in ask("fee_analysis")}
    assert (found["USDC"]["fills"], found["USDC"]["fee_quote"]) == (2, Decimal("0.2"))
    assert found["USDC"]["fee_bps"] == pytest.approx(5.0)
    # a fee that can't be priced is not free
    assert (found["XYZ"]["fee_quote"], found["XYZ"]["unpriced_fills"], found["XYZ"]["fee_bps"]) == (
        None,
        1,
        None,
    )
    assert ask("fee_analysis", start="2024-12-28") == []


def test_orders_are_one_clients_in_order_of_time(ask: Ask):
    assert [row["transaction_id"] for row in ask("order_history", client_id=1)] == ["T2", "T1"]
    assert [row["transaction_id"] for row in ask("order_history", client_id=2)] == ["T3"]
    assert ask("order_history") == []
    assert ask("order_history", client_id=1, end="2024-12-26") == []


def test_quality_of_a_date_without_rows_is_told(ask: Ask):
    assert ask("dq_bronze_row_count", date=DAY) == [{"date": date(2024, 12, 27), "row_count": 13}]
    assert ask("dq_bronze_row_count", date="2024-12-25") == [{"date": date(2024, 12, 25), "row_count": 0}]
    (row,) = ask("dq_silver_null_percentage", date=DAY)
    assert (row["total_rows"], row["non_null_executions"], row["null_fill_price_pct"]) == (5, 5, 40.0)
    (row,) = ask("dq_silver_null_percentage", date="2024-12-25")
    assert (row["total_rows"], row["null_fill_price_pct"]) == (0, None)


def test_labels_are_shared_out_within_version_and_split(ask: Ask):
    told = {
        (r["version"], r["split"], r["execution_success"]): (r["sample_count"], round(r["percentage"], 2))
        for r in ask("dq_gold_label_distribution")
    }
    assert told == {
        ("v1.0.0", "train", True): (2, 66.67), ("v1.0.0", "train", False): (1, 33.33),
        ("v1.0.0", "test", False): (1, 100.0), ("v1.1.0", "train", True): (1, 100.0),
    }  # fmt: skip
    assert ask("dq_gold_label_distribution", date="2024-12-26") == []


def test_freshness_is_of_all_dates_up_to_one(ask: Ask):
    (row,) = ask("freshness_bronze", date=DAY)
    assert row["max_lag"] == timedelta(hours=10)
    # nothing came on the 29th: it is told by what came before
    (row,) = ask("freshness_bronze", date="2024-12-29")
    assert row["max_lag"] == timedelta(days=1, hours=13, minutes=59, seconds=58)
    (row,) = ask("freshness_bronze")
    assert row["max_lag"] > datetime.now(UTC) - datetime(2024, 12, 29, tzinfo=UTC)
    (row,) = ask("freshness_silver")
    assert row["silver_lag"] >= timedelta(0)
    assert ask("freshness_silver", date="2024-12-25")[0]["last_silver_update"] is None


# -- the source document's -------------------------------------------------------------------------------------------


def plain(sql: str) -> str:
    return " ".join(re.sub(r"--[^\n]*", "", sql).split())


@pytest.mark.parametrize("name", DOCUMENT)
def test_a_query_of_the_document_is_what_it_was_but_for_names(name: str):
    wanted = DOCUMENT[name]
    for theirs, ours in SPELLED.items():
        wanted = wanted.replace(theirs, ours)
    held = (FOLDER / "source_document" / f"{name}.sql").read_text(encoding="utf-8")
    held = re.sub(r"\{\{ source\('bronze', '(\w+)'\) \}\}", r"bronze.\1", held)
    held = held.replace("{{ ref('stop_executions') }}", "silver.stop_executions")
    held = held.replace("{{ ref('training_sets_stop_outcome') }}", "gold.training_sets_stop_outcome")
    assert plain(held) == plain(wanted)


def test_the_queries_of_the_document_say_what_is_there(ask: Ask):
    assert len(ask("document_bronze_sample")) == 10
    assert [(r["client_id"], r["successful"]) for r in ask("document_success_rate_by_client")] == [
        (1, 2),
        (2, 1),
    ]
    assert [r["symbol"] for r in ask("document_slippage_by_symbol")] == ["ETHUSDC", "BTCUSDC"]
    assert [r["row_count"] for r in ask("document_bronze_row_count")] == [3, 13]
    (row,) = ask("document_silver_null_percentage")
    assert (row["total_rows"], row["non_null_fill_prices"], row["null_fill_price_pct"]) == (5, 3, 40.0)
    shares = {
        r["execution_success"]: (r["sample_count"], r["percentage"])
        for r in ask("document_gold_label_distribution")
    }
    assert shares == {True: (2, 50.0), False: (2, 50.0)}
    assert ask("document_bronze_freshness")[0]["max_lag"] > timedelta(days=365)
    assert ask("document_silver_freshness")[0]["silver_lag"] >= timedelta(0)
