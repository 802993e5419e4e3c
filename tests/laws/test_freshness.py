"""`tickhouse status` and `dbt source freshness` judge every source alike."""

from datetime import UTC, datetime, timedelta

import pytest

from ingest.window_schema import WINDOW_SCHEMAS
from lake import sources, status
from tests.fixtures.bronze import Delivery, make_bronze
from tests.fixtures.dbt import repository_project
from tests.fixtures.windows import land_rows, window_rows

ALIKE = {"fresh": {"pass"}, "late": {"warn"}, "stale": {"error"}, "never landed": {"error"}}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """One source that is fresh, one that is late, one that is stale, and the rest never landed."""
    root, now = tmp_path_factory.mktemp("freshness"), datetime.now(UTC)
    ages = {"trades": timedelta(hours=1), "mbp10": timedelta(hours=60), "options_trades": timedelta(days=30)}
    for dataset, age in ages.items():
        ns = int((now - age).timestamp()) * 1_000_000_000
        option = {"option_symbol": "O:SPY251224C00690000"} if dataset == "options_trades" else {}
        make_bronze(
            root, [Delivery(dataset, {dataset: [{"ts_event_ns": ns, "price": 27_000, "size": 1} | option]})]
        )
    for name, age in (("agg_trades", timedelta(minutes=5)), ("klines", timedelta(hours=3))):
        schema = WINDOW_SCHEMAS[name]
        rows = window_rows(schema, "2025-12-15", 1, **{schema.window_column: now - age})
        land_rows(root, schema, rows, f"{name}.json")
    return root


def test_both_judge_alike(lake):
    outcome = repository_project().run(lake, "source", "freshness")
    folders = {f"bronze/{s.folder}": s.name for s in sources.declared()}
    judged = {folders[row.dataset]: row.freshness for row in status.bronze_status(lake, datetime.now(UTC))}
    assert {judged[n] for n in ("futures_trades", "agg_trades")} == {"fresh"}
    assert (judged["futures_mbp10"], judged["options_trades"], judged["klines"]) == ("late", "stale", "stale")
    assert judged["events"] == "never landed"
    wanted = {name: verdict for name, verdict in judged.items() if verdict is not None}
    assert set(outcome.statuses) - {"tickhouse-on-run-start-0", "tickhouse-on-run-end-0"} == set(wanted)
    for name, verdict in wanted.items():
        assert outcome.statuses[name] in ALIKE[verdict], (name, verdict)


def test_a_source_without_limits_is_not_judged():
    free = {s.name for s in sources.declared() if s.warn_after_s is None and s.error_after_s is None}
    assert {"futures_ohlcv", "reference_definitions"} <= free
