"""The SQL data tests of `tests/data/market`: each passes on a good day, fails on the defect that it is about, says why
it is there, and stays in the SQL that the two engines share.
"""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import autumn
from tests.e2e.support import listed
from tests.laws.repository import PROJECT_DIR
from tests.laws.test_shared_sql import SHARED, functions, written

FOLDER = PROJECT_DIR / "tests" / "data" / "market"
DATES = ("2025-10-30", "2025-10-31", "2025-11-03")

# One defect or more for each test: an update that breaks its claim on some row of a built day.
LABELS, FEATURES, TOUCHES, GOLD = (
    *("silver.labels", "silver.observation_features", "silver.touches", "gold.train_signals_v1_0"),
)
ONE_OK = f"observation_id = (select min(observation_id) from {LABELS} where label_status = 'ok')"
ONE_OTHER = f"observation_id = (select min(observation_id) from {LABELS} where label_status != 'ok')"
ONE_OF_MANY = f"observation_id = (select min(observation_id) from {LABELS} where cluster_size > 1)"
ONE = f"observation_id = (select min(observation_id) from {FEATURES})"
DEFECTS: dict[str, list[str]] = {
    "assert_outright_prices_are_whole_ticks": [
        "create or replace view bronze.futures_trades as "
        "select * replace (cast(price + 0.1 as decimal(18, 9)) as price) from landed_futures_trades, "
        "(select 'ES' as symbol, date '1970-01-01' as date, 0 as hour_utc, false as is_shared_hour, "
        "false as is_superseded)",
    ],
    "assert_volume_is_kept_by_every_bar_width": [
        "update silver.ohlcv set volume = volume + 1 where bar_s = 60 and bar_start_ns % 7 = 0",
        "delete from silver.ohlcv where bar_s = 120",
        "delete from silver.stg_futures__trades where date = date '2025-10-31'",
        "update silver.ohlcv set n_trades = n_trades + 1 where bar_s = 1",
    ],
    "assert_bars_contain_their_own_prices": [
        "update silver.ohlcv set close_tick = high_tick + 1 where bar_s = 60",
        "update silver.ohlcv set low_tick = open_tick + 1",
        "update silver.ohlcv set bar_end_ns = bar_start_ns",
        "update silver.ohlcv set buy_vol = volume + 1",
    ],
    "assert_levels_know_only_their_past": [
        "update silver.levels set source_asof_ns = valid_from_ns + 1 where level_id = 'VWAP'",
        "update silver.levels set valid_to_ns = valid_from_ns where level_id = 'VWAP'",
    ],
    "assert_touches_are_inside_the_touch_band": [f"update {TOUCHES} set touch_tick = level_tick + 5"],
    "assert_touches_are_of_a_level_and_the_front_contract": [
        f"update {TOUCHES} set level_tick = level_tick + 1",
        f"update {TOUCHES} set contract = 'ESM9'",
        f"update {TOUCHES} set ts_ns = ts_ns + 86400000000000",
        "delete from silver.dim_front_month",
    ],
    "assert_observations_are_unique": [
        "insert into silver.observation_points select * from silver.observation_points where stage = 'touch'",
        "update silver.observation_points set stage = 'touch'",
    ],
    "assert_every_observation_has_features_and_a_label": [
        f"delete from {FEATURES} where {ONE}",
        f"delete from {LABELS} where {ONE_OK}",
        f"delete from silver.observation_points where {ONE}",
        f"update {FEATURES} set asof_ns = asof_ns + 100000000 where {ONE}",
    ],
    "assert_distance_is_from_level_to_spot": [
        f"update {FEATURES} set distance = distance + 0.25 where {ONE}",
        f"update {FEATURES} set spot = level_price + distance + 1e-9 where {ONE}",
    ],
    "assert_imbalance_and_pressures_are_bounded": [
        f"update {FEATURES} set {column} = {value} where {ONE}"
        for column, value in (
            *(
                ("tape_imbalance", -1.1),
                ("liquidity_pressure", 1.5),
                ("tape_pressure", -2),
                ("gamma_pressure", 1.1),
            ),
            *(("gamma_pressure_accel", 2), ("dealer_pressure", 2), ("dealer_pressure_accel", -2)),
            *(("reversion_pressure", -1.2), ("net_break_pressure", 1.1)),
            *(("barrier_zone_visible_frac", 1.2), ("barrier_zone_visible_frac", -0.1)),
        )
    ],
    "assert_inputs_lie_before_their_instant": [
        f"update {FEATURES} set max_input_ts_ns = asof_ns where {ONE}",
        "update silver.dim_es_spy_ratio set max_input_ts_ns = asof_ns where asof_ns % 60000000000 = 0",
        "update silver.option_exposure set max_input_ts_ns = minute_ns + 1",
        "update silver.option_walls set max_input_ts_ns = minute_ns",
    ],
    "assert_fuel_says_the_side_of_its_exposure": [
        f"update {FEATURES} set {words} where {ONE}"
        for words in (
            "gamma_exposure = null, fuel_effect = 'NEUTRAL', gamma_bucket = 'UNKNOWN'",
            "gamma_exposure = 5, fuel_effect = 'NEUTRAL', gamma_bucket = 'UNKNOWN'",
            "gamma_exposure = 0, fuel_effect = 'NEUTRAL', gamma_bucket = 'SHORT_GAMMA'",
            "gamma_exposure = -10000.5, fuel_effect = 'NEUTRAL', gamma_bucket = 'SHORT_GAMMA'",
            "gamma_exposure = 10000, fuel_effect = 'DAMPEN', gamma_bucket = 'LONG_GAMMA'",
        )
    ],
    "assert_levels_around_are_counted_once": [
        f"update {FEATURES} set {words} where {ONE}"
        for words in (
            "level_stacking_2pt = level_stacking_5pt + 1",
            "level_stacking_5pt = level_stacking_10pt + 1",
            "level_stacking_2pt = -1",
            "confluence_weighted_score = confluence_count + 0.5",
            "confluence_pressure = 1.1",
            "confluence_count = 1, confluence_min_distance = null",
            "attempt_index = 0",
            "prior_touches = -1",
        )
    ],
    "assert_option_prints_are_priced_in_bounds": [
        f"update silver.option_greeks set {words} where aggressor != 0"
        for words in (
            *(
                "iv = 0.005",
                "iv = 5.5",
                "iv = null",
                "gamma = -gamma",
                "delta = delta - 1",
                "delta = delta + 1",
            ),
            *("dealer_gamma = -dealer_gamma", "dealer_gamma = null"),
        )
    ],
    "assert_barrier_flows_add_up": [
        f"update {FEATURES} set barrier_observable = true, barrier_state = 'NEUTRAL', barrier_added = {added}, "
        f"barrier_canceled = {canceled}, barrier_filled = {filled}, barrier_delta_liq = {delta}, "
        f"barrier_churn = {churn}, barrier_depth_in_zone = 5 where {ONE}"
        for added, canceled, filled, delta, churn in (
            (7, 2, 3, 3, 12),  # added and lost give a churn of 12 with a change of 2 only
            (7, 3, 3, 2, 12),  # 5 lost and 3 filled leave 2 cancelled
            (-1, 0, 5, -6, 4),
        )
    ]
    + [f"update {FEATURES} set barrier_state = 'UNKNOWN', barrier_observable = true where {ONE}"],
    "assert_labels_start_after_their_features": [
        f"update {LABELS} set label_start_ns = label_start_ns - 100000001",
        f"update {LABELS} set label_end_ns = label_start_ns",
    ],
    "assert_tradeable_means_threshold_reached": [
        f"update {LABELS} set tradeable_1 = 1 - tradeable_1 where {ONE_OK}",
        f"update {LABELS} set tradeable_2 = 1, time_to_threshold_2 = null where {ONE_OK}",
        f"update {LABELS} set outcome = case outcome when 'CHOP' then 'BREAK' else 'CHOP' end where {ONE_OK}",
        f"update {LABELS} set tradeable_1 = 0, time_to_threshold_1 = null, tradeable_2 = 1, time_to_threshold_2 = 3, "
        f"outcome = 'BREAK' where {ONE_OK}",
        f"update {LABELS} set tradeable_1 = 1, time_to_threshold_1 = 4, tradeable_2 = 1, time_to_threshold_2 = 3, "
        f"outcome = 'BREAK' where {ONE_OK}",
    ],
    "assert_only_ok_labels_have_outcomes": [
        f"update {LABELS} set outcome = null where {ONE_OK}",
        f"update {LABELS} set future_price = null where {ONE_OK}",
        f"update {LABELS} set label_status = 'data_gap' where {ONE_OK}",
        *(
            f"update {LABELS} set {column} = {value} where {ONE_OTHER}"
            for column, value in (
                *(("outcome", "'CHOP'"), ("tradeable_1", 0), ("time_to_bounce_2", 1), ("excursion_min", 0)),
                *(("cluster_size", 1), ("sample_weight", 1), ("anchor_spot", 6000)),
            )
        ),
    ],
    "assert_a_cluster_weighs_one": [
        f"update {LABELS} set cluster_size = cluster_size + 1 where {ONE_OK}",
        f"update {LABELS} set sample_weight = 0.3 where {ONE_OK}",
        f"delete from {LABELS} where {ONE_OF_MANY}",
    ],
    "assert_gold_is_clean": [
        f"update {GOLD} set label_status = 'data_gap'",
        f"update {GOLD} set label_start_ns = asof_ns - 1",
        f"update {GOLD} set max_input_ts_ns = asof_ns",
        f"insert into {GOLD} select * from {GOLD} limit 1",
        f"update {GOLD} set contract = 'ESM9'",
        "update silver.dim_front_month set roll_contaminated = true",
        "delete from silver.dim_front_month",
    ],
}


@pytest.fixture(scope="module")
def tests(manifest: dict[str, Any]) -> dict[str, dict]:
    """The singular data tests of the market by name; those of executions have laws of their own."""
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and node["original_file_path"].startswith("tests/data/market/")
    }


@pytest.fixture(scope="module")
def day(manifest: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """Two sessions built in memory; the second one has outcomes of every kind."""
    days = autumn()
    pipeline = Pipeline(manifest, params.load("default"))
    for date in DATES:
        pipeline.land(days[date])
        pipeline.build(date)
    both = [[t for date in DATES for t in days[date].trades], []]
    pipeline.market((both[0], both[1]))
    return pipeline.con


def test_each_has_a_defect_to_find(tests: dict[str, dict]):
    assert tests.keys() == DEFECTS.keys() == {file.stem for file in FOLDER.glob("*.sql")}


@pytest.mark.parametrize("name", list(DEFECTS))
def test_it_passes_on_a_good_day_and_finds_each_defect(tests: dict[str, dict], day, name: str):
    query = tests[name]["compiled_code"]
    assert day.execute(query).fetchall() == []
    for defect in DEFECTS[name]:
        day.execute("begin")
        try:
            day.execute(defect)
            assert day.execute(query).fetchall() != [], defect
        finally:
            day.execute("rollback")


def test_a_run_is_judged_by_what_it_builds(tests: dict[str, dict], root: Path):
    """One version is built without labels and gold; tests that also read those say nothing of it."""
    run = listed(root, "+touch_features.v1_0")
    assert "touch_features.v1_0" in run
    outside = {
        name for name, node in tests.items() if any("label" in uid for uid in node["depends_on"]["nodes"])
    }
    assert len(outside) >= 5
    assert run & outside == set()
    assert run & tests.keys() == tests.keys() - outside - {"assert_gold_is_clean"}


def test_each_says_why_and_names_the_rows(tests: dict[str, dict]):
    for name, node in tests.items():
        lines = (PROJECT_DIR / node["original_file_path"]).read_text().splitlines()
        prose = [line for line in lines[:6] if line.startswith("-- ")]
        assert len(" ".join(prose)) > 60, f"{name}: say above the query why the claim holds"
        assert node["depends_on"]["nodes"], name


def test_they_use_shared_sql_only(tests: dict[str, dict]):
    for name, node in tests.items():
        assert functions(node["compiled_code"]) - SHARED == set(), name
        assert "::" not in written(node["raw_code"]), name


def test_generic_tests_are_used(manifest: dict[str, Any]):
    """A generic test that no model carries holds nothing."""
    files = {f.stem for f in (Path(PROJECT_DIR) / "tests" / "data" / "generic").glob("*.sql")}
    used = {n["test_metadata"]["name"] for n in manifest["nodes"].values() if "test_metadata" in n}
    assert files <= used, json.dumps(sorted(files - used))


def test_a_repeated_key_is_found(day, manifest: dict[str, Any]):
    (node,) = [
        n
        for n in manifest["nodes"].values()
        if n.get("test_metadata", {}).get("name") == "unique_key" and n["attached_node"].endswith(".touches")
    ]
    assert day.execute(node["compiled_code"]).fetchall() == []
    day.execute("begin")
    day.execute(f"insert into {TOUCHES} select * from {TOUCHES} limit 1")
    assert len(day.execute(node["compiled_code"]).fetchall()) == 1
    day.execute("rollback")


@pytest.mark.parametrize("name", ["touch_features_v1_0", "train_signals_v1_0"])
def test_a_value_that_its_column_does_not_declare_is_found(day, manifest: dict[str, Any], name: str):
    """NULL without a reason, and a word that is none of its domain; each row says of which column."""
    (node,) = [
        n
        for n in manifest["nodes"].values()
        if n.get("test_metadata", {}).get("name") == "declared_values"
        and manifest["nodes"][n["attached_node"]]["alias"] == name
    ]
    query, table = node["compiled_code"], f"{'gold' if name.startswith('train') else 'silver'}.{name}"
    assert day.execute(query).fetchall() == []
    for column, value, found in (
        ("distance", "null", ["distance is NULL, "]),
        ("barrier_delta_liq", "null", []),  # not observable
        ("barrier_state", "'SOLID'", ["barrier_state is outside its domain, "]),
        ("barrier_state", "null", ["barrier_state is NULL, "]),
        ("direction_sign", "0", ["direction_sign is outside its domain, "]),
    ):
        day.execute("begin")
        day.execute(
            f"update {table} set {column} = {value} where observation_id = (select min(observation_id) from {table})"
        )
        broken = [row[-1] for row in day.execute(query).fetchall()]
        day.execute("rollback")
        assert broken == found, column


def test_a_feature_that_says_nothing_is_found(day, manifest: dict[str, Any]):
    """One that is the same in every row, and one that repeats another; of fewer than 1,000 rows nothing is said."""
    (query,) = [
        n["compiled_code"]
        for n in manifest["nodes"].values()
        if n.get("test_metadata", {}).get("name") == "varies" and n["name"].endswith("v1_0_")
    ]
    table = "silver.touch_features_v1_0"
    assert day.execute(query).fetchall() == []

    def faults(*defects: str) -> set[tuple[str, str]]:
        day.execute("begin")
        copies = "select i.copy_number, t.* from {t} as t, range(20) as i (copy_number)".replace("{t}", table)
        day.execute(
            f"insert into {table} select * exclude (copy_number) "
            f"replace (observation_id || copy_number as observation_id) from ({copies})"
        )
        for defect in defects:
            day.execute(f"update {table} set {defect}")
        found = day.execute(query).fetchall()
        day.execute("rollback")
        return set(found)

    before = faults()
    for defect, fault in (
        ("tape_velocity = 3", ("tape_velocity", "is the same in every row")),
        ("tape_velocity = null", ("tape_velocity", "is the same in every row")),
        ("tape_sell_vol = tape_buy_vol", ("tape_sell_vol", "repeats tape_buy_vol")),
        ("tape_imbalance = tape_buy_vol", ("tape_imbalance", "repeats tape_buy_vol")),  # of another type
        ("direction = level_kind_name", ("level_kind_name", "repeats direction")),
    ):
        assert fault not in before
        assert fault in faults(defect), defect
    assert ("tape_velocity", "is the same in every row") not in faults(
        "tape_velocity = case when observation_id < '8' then 3 end"
    ), "a NULL is a value"
