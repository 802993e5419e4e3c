"""The three feature sets are those of the specification: which columns, in which order, of which role; and a second set
on the same parameters computes nothing again (spec market 9 and 19.8)."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from lake.commits import read_partitions
from tests.e2e.market import busy_morning
from tests.e2e.support import run_dbt
from tests.fixtures.bronze import make_bronze

IDENTITY = [
    *(
        "observation_id",
        "event_id",
        "session_date",
        "stage",
        "ts_ns",
        "anchor_ns",
        "asof_ns",
        "max_input_ts_ns",
    ),
    *("contract", "level_id", "attempt_cluster_id", "universe_version", "params_digest"),
]
LEVEL = ["level_kind_name", "direction", "direction_sign", "distance"]
MECHANICS = [
    *("barrier_state", "barrier_delta_liq", "barrier_replenishment_ratio", "wall_ratio", "tape_imbalance"),
    *("tape_velocity", "sweep_detected", "gamma_exposure", "fuel_effect", "dealer_pressure"),
    *("barrier_delta_liq_log", "wall_ratio_log", "barrier_added", "barrier_canceled", "barrier_filled"),
    *("barrier_churn", "barrier_depth_in_zone", "barrier_zone_visible_frac", "barrier_observable"),
    *("tape_buy_vol", "tape_sell_vol", "tape_price_slope_3s", "tape_price_slope_15s", "tape_trade_rate_3s"),
    *("tape_trade_rate_15s", "tape_trade_rate_60s", "sweep_direction", "sweep_contracts"),
    *("gamma_exposure_wg", "gamma_exposure_20m", "gamma_bucket"),
    *("gamma_flow_velocity", "gamma_flow_impulse", "gamma_flow_accel_1m", "gamma_flow_accel_3m"),
    *(
        "dealer_pressure_accel",
        "liquidity_pressure",
        "tape_pressure",
        "gamma_pressure",
        "gamma_pressure_accel",
    ),
]
TA = [
    *(
        "approach_velocity",
        "approach_distance",
        "approach_distance_atr",
        "distance_signed",
        "distance_signed_atr",
    ),
    *("distance_pct", "sma_200", "sma_400", "sma_200_slope", "sma_400_slope", "dist_to_sma_200"),
    *(
        "dist_to_sma_400",
        "confluence_count",
        "confluence_pressure",
        "confluence_alignment",
        "confluence_level",
    ),
]
MORE = [
    *(f"ofi_{kind}{w}s" for kind in ("", "l1_", "near_level_") for w in (30, 60, 120, 300)),
    "ofi_acceleration",
    *(f"{name}_{w}min" for name in ("velocity", "acceleration", "jerk") for w in (1, 3, 5, 10, 20)),
    *(f"momentum_trend_{w}min" for w in (3, 5, 10, 20)),
    *(f"barrier_{name}_{w}min" for name in ("delta", "pct_change") for w in (1, 3, 5)),
    *("dist_to_sma_200_atr", "dist_to_sma_400_atr", "sma_200_slope_5bar", "sma_400_slope_5bar", "sma_spread"),
    *("mean_reversion_pressure_200", "mean_reversion_pressure_400"),
    *("mean_reversion_velocity_200", "mean_reversion_velocity_400"),
    *(
        "confluence_weighted_score",
        "confluence_min_distance",
        "breakout_state",
        "gex_alignment",
        "rel_vol_ratio",
    ),
    *("level_stacking_2pt", "level_stacking_5pt", "level_stacking_10pt"),
    *("atr", "approach_bars", "prior_touches", "attempt_index", "minutes_since_open", "is_first_15m"),
    *("dist_to_pm_high", "dist_to_pm_low", "dist_to_or_high", "dist_to_or_low", "distance_atr"),
    *("reversion_pressure", "net_break_pressure"),
]
SETS = {
    "v1.0_mechanics_only": (MECHANICS, 40),
    "v1.1_ta_only": (TA, 16),
    "v2.0_full_ensemble": (MECHANICS + TA + MORE, 124),
}
REFERENCE = ["sma_200", "sma_400"]  # stored and counted, never a model input


def model_of(models: dict[str, dict[str, Any]], alias: str) -> dict[str, Any]:
    return next(node for node in models.values() if node["alias"] == alias)


def alias(version: str) -> str:
    return "touch_features_" + version.split("_", maxsplit=1)[0].replace(".", "_")


@pytest.mark.parametrize("version", list(SETS))
def test_a_set_has_the_columns_of_the_specification(models: dict[str, dict[str, Any]], version: str):
    features, count = SETS[version]
    assert len(features) == len(set(features)) == count
    node = model_of(models, alias(version))
    assert list(node["columns"]) == IDENTITY + LEVEL + features
    roles = {name: column["config"]["meta"]["role"] for name, column in node["columns"].items()}
    assert [name for name in features if roles[name] != "feature"] == [n for n in REFERENCE if n in features]
    meta = node["config"]["meta"]
    assert Path(meta["folder"]).name == version
    assert meta["semantic_version"] == f"{version[1:4]}.0"
    assert meta["parent_version"] == ("v1.0_mechanics_only" if version.startswith("v2") else None)
    gold = model_of(models, alias(version).replace("touch_features", "train_signals"))
    assert list(gold["columns"])[: len(node["columns"])] == list(node["columns"])
    assert {c["config"]["meta"]["role"] for c in list(gold["columns"].values())[len(node["columns"]) :]} == {
        "label"
    }


@pytest.mark.parametrize("version", list(SETS))
def test_a_set_says_of_a_column_what_the_catalogue_says(models: dict[str, dict[str, Any]], version: str):
    """Type, description, unit, role, domain and the reason to be NULL; so does its training table."""
    catalogue = model_of(models, "observation_features")["columns"]
    for name in (alias(version), alias(version).replace("touch_features", "train_signals")):
        columns = model_of(models, name)["columns"]
        for column in (c for c in columns.values() if c["config"]["meta"]["role"] != "label"):
            assert column == catalogue[column["name"]], f"{name}.{column['name']}"


def test_every_group_of_a_set_says_on_what_it_hangs(models: dict[str, dict[str, Any]]):
    """Datasets, or groups of the catalogue: a set may have a group without those that it is made of."""
    catalogue = model_of(models, "observation_features")["columns"]
    names = {node["alias"] for node in models.values() if node["config"]["materialized"] == "dataset"}
    names |= {column["config"]["meta"]["group"] for column in catalogue.values()}
    for version in SETS:
        node = model_of(models, alias(version))
        groups = {c["config"]["meta"]["group"] for c in node["columns"].values()} - {"identity"}
        hangs_on = node["config"]["meta"]["group_dependencies"]
        assert hangs_on.keys() == groups, version
        for group, parents in hangs_on.items():
            assert set(parents) <= names - {group}, f"{version}.{group}"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One session, on which one set after the other is built, and what each built."""
    root = tmp_path_factory.mktemp("sets")
    make_bronze(root, [busy_morning(11)[-1].delivery()])
    built = {}
    for param_set, versions in (("default", ("v1_0", "v1_1", "v2_0")), ("atr", ("v1_0", "v1_1"))):
        for version in versions:
            select = f"+touch_features.{version}"
            built[param_set, version] = run_dbt(root, "run", "--select", select, param_set=param_set)
    return {"root": root, "built": built}


def test_a_second_set_on_the_same_parameters_runs_no_physics(lake: dict[str, Any]):
    built = lake["built"]
    for param_set in ("default", "atr"):
        assert built[param_set, "v1_1"] == {"touch_features_v1_1": 1}
    assert built["default", "v2_0"] == {"touch_features_v2_0": 1}
    assert built["default", "v1_0"].keys() >= {"feat_touch_barrier", "book_tape", "observation_features"}


def test_other_parameters_run_once_what_they_reach(lake: dict[str, Any], models: dict[str, dict[str, Any]]):
    per_params = {n["alias"] for n in models.values() if n["config"]["meta"].get("per_params")}
    built = lake["built"]
    ours = built["default", "v1_0"].keys() & per_params
    assert built["atr", "v1_0"] == {"touch_features_v1_0": 1, **dict.fromkeys(ours, 1)}


@pytest.mark.parametrize("version", list(SETS))
def test_files_and_manifest_hold_the_set(lake: dict[str, Any], version: str):
    folder = lake["root"] / "lake" / "silver" / "features" / version
    features, count = SETS[version]
    (partition,) = read_partitions(folder).values()
    stored = [name for name in IDENTITY + LEVEL + features if name != "session_date"]
    assert pq.read_schema(partition.file).names == stored
    assert partition.commit.rows > 40
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    assert manifest["validation"]["feature_count"] == count + len(LEVEL)
    listed = [
        name for group in manifest["features"]["groups"] for g in group.values() for name in g["columns"]
    ]
    assert sorted(listed) == sorted(LEVEL + features)
