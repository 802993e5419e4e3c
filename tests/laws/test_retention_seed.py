"""Every dataset of the lake has exactly one retention policy, and the policies are those of the two specifications."""

import datetime
from typing import Any

import yaml

from lake.plan import dataset_folder, is_dataset
from lake.retention import HOLDS_FILE, POLICY_FILE, load_rules
from tests.laws.repository import PROJECT_DIR

RULES = load_rules(datetime.date(2026, 1, 1))
# Written by `ml` and `serve`, by loaders before their table is declared, or moved by hand (market 2, execution 1.1)
OTHERS = [
    "raw/dbn/trades", "raw/dbn/mbp10", "raw/polygon/options", "raw/polygon/stocks", "raw/polygon/api", "raw/binance",
    "raw/events", "bronze/_rejects/dataset=events",
    "silver/datasets/live_observations", "gold/training/signals_production", "gold/evaluation",
    "gold/streaming/signals", "gold/models/stop_outcome", "gold/training_sets/stop_outcome/v1.0.0/train",
    "gold/training_sets/candidates/stop_outcome", "gold/features/stop_execution_features",
    "silver/stop_executions", "silver/stop_executions_quarantine", "silver/replay_anomalies", "silver/operations",
    "silver/balance_snapshots", "silver/portfolio_snapshots", "silver/portfolio_daily", "silver/fills",
    "silver/ledger", "silver/tax_lots", "silver/market_bars_1m",
    "silver/stop_executions_v2", "silver/replay_anomalies_v2",  # siblings of a backfill
]  # fmt: skip
BRONZE_EXECUTION = [
    f"bronze/{name}"
    for name in ("events", "orders", "operations", "balance_snapshots", "trades", "agg_trades", "klines")
]


def declared_bronze() -> list[str]:
    """Folders of the tables under `models/bronze/`."""
    found = []
    for path in sorted((PROJECT_DIR / "models" / "bronze").glob("*.yml")):
        for source in yaml.safe_load(path.read_text()).get("sources", []):
            # a view over another table has no folder
            tables = [t["meta"] for t in source["tables"] if not t["meta"].get("over")]
            found += [f"bronze/{meta['dataset']}" for meta in tables]
    return found


def test_every_dataset_has_exactly_one_policy(manifest: dict[str, Any]):
    models = [dataset_folder(node) for node in manifest["nodes"].values() if is_dataset(node)]
    bronze = declared_bronze()
    assert models
    assert bronze
    for dataset in [*models, *bronze, *BRONZE_EXECUTION, *OTHERS]:
        RULES.policy(dataset)


def test_no_policy_is_about_nothing(manifest: dict[str, Any]):
    datasets = [dataset_folder(node) for node in manifest["nodes"].values() if is_dataset(node)]
    datasets += [*declared_bronze(), *BRONZE_EXECUTION, *OTHERS, "silver/stg_x", "silver/int_x"]
    about = {RULES.policy(dataset).dataset for dataset in datasets}
    assert {p.dataset for p in RULES.policies} - about == set()


def test_the_policies_are_those_of_the_specifications():
    """Source: spec/execution.md 8.1, spec/market.md 2."""
    for dataset in BRONZE_EXECUTION:
        policy = RULES.policy(dataset)
        assert (policy.hot_days, policy.archive_days, policy.delete_allowed) == (90, -1, True)
    for dataset in ("bronze/futures/mbp10", "bronze/options/trades", "bronze/stocks/trades"):
        assert RULES.policy(dataset).hot_days == -1
    assert RULES.policy("raw/dbn/mbp10").hot_days == 90
    assert RULES.policy("silver/stop_executions").hot_days == 365
    assert RULES.policy("silver/datasets/ohlcv").hot_days == -1
    features = RULES.policy("gold/features/stop_execution_features")
    assert (features.hot_days, features.archive_days) == (90, 365)
    for dataset in OTHERS:
        if dataset.startswith("gold/training"):
            policy = RULES.policy(dataset)
            assert (policy.hot_days, policy.delete_allowed) == (-1, False)


def test_nobody_is_held_unless_somebody_says_so():
    assert POLICY_FILE.is_file()
    assert HOLDS_FILE.read_text() == "client_id\n"
