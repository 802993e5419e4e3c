"""Bounds that whole days rarely meet, through the compiled SQL: an instant that is the very start of what is as of it,
distances and dates that are the limit itself (spec market 3.1, 4.3, 5.2, 5.5, 12)."""

from decimal import Decimal
from typing import Any

import pytest

from lake.params import ParamSet, load
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import calendar
from tests.oracle.rules import MINUTE_NS, SECOND_NS

DATE = "2025-11-26"
SESSION = calendar()[DATE]
AT = SESSION["rth_open_ns"] + 30 * MINUTE_NS


def ratios(*steps: tuple[int, float]) -> list[dict]:
    return [{"asof_ns": t, "es_spy_ratio": ratio, "ratio_source": "live"} for t, ratio in steps]


@pytest.mark.parametrize("param_set", ["default", "atr"])
def test_thresholds_are_those_of_the_very_start_of_a_label(manifest: dict[str, Any], param_set: str):
    """A second's ratio and a bar's range hold from the instant at which they stand."""
    pipeline = Pipeline(manifest, load(param_set))
    pipeline.replace("dim_es_spy_ratio", DATE, ratios((AT - SECOND_NS, 10.0), (AT, 12.0)))
    atrs = [{"bar_end_ns": t, "atr": atr} for t, atr in ((AT - MINUTE_NS, 4.0), (AT, 5.0))]
    pipeline.replace("int_bars__indicators", DATE, atrs)
    points = [{"observation_id": name, "label_start_ns": t} for name, t in (("a", AT - 1), ("b", AT))]
    pipeline.replace("observation_points", DATE, points)
    pipeline.build(DATE, only=("int_labels__windows",))
    before, at = pipeline.rows("int_labels__windows", DATE)
    grown = 5 / 4 if param_set == "atr" else 12 / 10
    assert at["theta2_ticks"] == pytest.approx(before["theta2_ticks"] * grown, abs=1)
    assert at["theta2_ticks"] > before["theta2_ticks"] + 1


def test_a_print_at_the_instant_of_a_point_is_not_its_spot(manifest: dict[str, Any]):
    """A touch on the grid is observed before the trade that makes it; the ratio of that very second holds."""
    pipeline = Pipeline(manifest, load("default"))
    trade = {"contract": "ESZ5", "sequence": 1, "size": 1, "aggressor": 1, "flags": 0}
    prints = [(AT - 5, 24_000), (AT, 24_010)]
    rows = [{**trade, "ts_event_ns": t, "ordinal": i, "tick": tick} for i, (t, tick) in enumerate(prints)]
    pipeline.replace("stg_futures__trades", DATE, rows)
    pipeline.replace("dim_front_month", DATE, [{"contract": "ESZ5"}])
    pipeline.replace("dim_es_spy_ratio", DATE, ratios((AT - SECOND_NS, 10.0), (AT, 11.0)))
    pipeline.replace("touches", DATE, [{"event_id": "a", "level_tick": 24_010, "ts_ns": AT}])
    pipeline.build(DATE, only=("observation_points",))
    first, *later = sorted(pipeline.rows("observation_points", DATE), key=lambda row: row["asof_ns"])
    assert (first["asof_ns"], first["spot_tick"], first["spot_ts_ns"]) == (AT, 24_000, AT - 5)
    assert {row["spot_tick"] for row in later} == {24_010}
    assert {row["es_spy_ratio"] for row in (first, *later)} == {11.0}


def test_a_cluster_goes_on_at_its_limits_and_not_beyond(manifest: dict[str, Any]):
    """As long after the attempt before, and as far from it, as the parameters say; by the ratio of that very second."""
    params = load("default")
    pipeline = Pipeline(manifest, params)
    apart_ns = params.values["TOUCH_CLUSTER_TIME_MINUTES"] * MINUTE_NS
    band = params.values["TOUCH_CLUSTER_PRICE_BAND"] * 4
    narrow, wide = round(band * 10), round(band * 20)
    steps = (
        (0, 24_000, 10),
        (1, 24_000 + narrow, 10),
        (2, 24_000 + 2 * narrow + 1, 10),
    )  # at the limits, one beyond
    steps += ((3, 24_000 + 2 * narrow + 1 + wide, 20), (4, 24_000, 20))
    times = [AT + n * apart_ns for n, _, _ in steps]
    touches = [
        {"level_id": f"ROUND_{tick}", "level_kind": 11, "level_tick": tick, "ts_ns": t, "touch_tick": tick}
        | {"direction_sign": 1}
        for t, (_, tick, _) in zip(times, steps, strict=True)
    ]
    touches.append({**touches[-1], "ts_ns": touches[-1]["ts_ns"] + apart_ns + 1})
    pipeline.replace("int_touches__detected", DATE, touches)
    pipeline.replace("dim_front_month", DATE, [{"contract": "ESZ5"}])
    of_times = [(t, float(ratio)) for t, (_, _, ratio) in zip(times, steps, strict=True)]
    pipeline.replace("dim_es_spy_ratio", DATE, ratios((AT - SECOND_NS, 99.0), *of_times))
    pipeline.build(DATE, only=("touches",))
    found = sorted(pipeline.rows("touches", DATE), key=lambda row: row["ts_ns"])
    assert [row["es_spy_ratio"] for row in found] == [10.0, 10.0, 10.0, 20.0, 20.0, 20.0]
    assert [row["attempt_cluster_id"] for row in found] == [1, 1, 2, 2, 3, 4]


def test_the_front_contract_of_the_first_session_and_of_those_after_it(manifest: dict[str, Any]):
    """Eight days before its third Friday a contract leads no more, and nine days before it still does; after a session
    with data, that session's own leader does, whatever trades now."""
    pipeline = Pipeline(manifest, load("default"))
    bar = {"bar_s": 60, "bar_start_ns": 0, "bar_end_ns": 60}
    for date, leader, expected, selection in (
        ("2025-12-11", "ESZ5", "ESH6", "calendar"),
        ("2025-12-10", "ESH6", "ESZ5", "calendar"),
        ("2025-12-12", "ESH6", "ESZ5", "volume"),
    ):
        volumes = {"ESZ5": 1, "ESH6": 1, leader: 2}
        pipeline.replace("ohlcv", date, [{**bar, "contract": c, "volume": v} for c, v in volumes.items()])
        pipeline.build(date, only=("dim_front_month",))
        (found,) = pipeline.rows("dim_front_month", date)
        assert (found["contract"], found["selection"]) == (expected, selection), date


def test_running_levels_stand_at_every_minute_up_to_the_close(manifest: dict[str, Any]):
    """From the end of the first bar of regular hours on, extremes a minute later; averages whenever there are some."""
    pipeline = Pipeline(manifest, load("default"))
    opened, closed = SESSION["rth_open_ns"], SESSION["rth_close_ns"]
    bar = {"contract": "ESZ5", "bar_s": 60, "volume": 1}
    bars = [
        {**bar, "bar_start_ns": t, "bar_end_ns": t + MINUTE_NS}
        | {"high_tick": high, "low_tick": high - 20, "close_tick": high, "notional_ticks": high}
        for t, high in ((opened - MINUTE_NS, 24_100), (opened, 24_010))
    ]
    pipeline.replace("ohlcv", DATE, bars)
    pipeline.replace("dim_front_month", DATE, [{"contract": "ESZ5"}])
    sums = {"sum_200_ticks": 200 * 24_000, "sum_400_ticks": None}
    pipeline.replace("int_bars__averages", DATE, [{"bar_end_ns": opened, **sums}])
    pipeline.replace("dim_es_spy_ratio", DATE, ratios((opened, 10.0)))
    pipeline.build(DATE, only=("int_levels__running", "levels"))
    for kind, first, tick in (
        ("VWAP", opened + MINUTE_NS, 24_010),
        ("SESSION_HIGH", opened + 2 * MINUTE_NS, 24_010),
        ("SESSION_LOW", opened + 2 * MINUTE_NS, 23_990),
        ("SMA_200", opened, 24_000),
    ):
        found = [row for row in pipeline.rows("levels", DATE) if row["level_kind_name"] == kind]
        at = [row["valid_from_ns"] for row in found]
        assert sorted(at) == [*range(first, closed, MINUTE_NS)], kind
        assert {row["level_tick"] for row in found} == {tick}, kind


def test_a_users_level_reaches_into_the_session_or_is_not_of_it(manifest: dict[str, Any]):
    """Not one that begins when regular hours end, nor one that ends as the session opens."""
    days = {
        6000.0: ("2025-11-26T21:00:00Z", "2025-11-26T22:00:00Z"),
        6010.0: ("2025-11-26T20:59:59.999999Z", "2025-11-26T22:00:00Z"),
        6020.0: ("2025-11-25T22:00:00Z", "2025-11-25T23:00:00Z"),
        6030.0: ("2025-11-25T22:00:00Z", "2025-11-25T23:00:00.000001Z"),
    }
    drawn = [{"price_points": p, "from_at": start, "until_at": end} for p, (start, end) in days.items()]
    default = load("default")
    pipeline = Pipeline(
        manifest,
        ParamSet("drawn", default.values | {"USER_LEVELS": drawn, "level_kinds": ["USER"]}, default.digest),
    )
    opened = SESSION["globex_open_ns"]
    pipeline.replace("dim_es_spy_ratio", DATE, ratios((opened, 10.0), (AT, 11.0)))
    pipeline.build(DATE, only=("levels",))
    found = [row for row in pipeline.rows("levels", DATE) if row["level_kind_name"] == "USER"]
    assert [(row["level_price_raw"], row["es_spy_ratio"]) for row in found] == [
        (6010.0, 11.0),
        (6030.0, 10.0),
    ]
    assert (found[1]["valid_from_ns"], found[1]["valid_to_ns"]) == (opened, opened + 1000)


def test_prints_of_options_and_of_spy_are_of_the_session_that_holds_them(manifest: dict[str, Any]):
    pipeline = Pipeline(manifest, load("default"))
    opened, closed = SESSION["globex_open_ns"], SESSION["globex_close_ns"]
    price = {"price": Decimal(1), "size": 1, "correction": 0}
    option = {"option_symbol": "O:SPY", "exp_date": None, "right": "C", "strike_milli": 600_000}
    option |= {"opt_bid": None, "opt_ask": None, "stated_aggressor": 1}
    at = [
        {"ts_event_ns": t, "ordinal": i, **price}
        for i, t in enumerate((opened - 1, opened, closed - 1, closed))
    ]
    pipeline.market(
        ([], []), options=[row | option for row in at], spy=[row | {"conditions": []} for row in at]
    )
    names = ("stg_options__trades", "stg_stocks__trades")
    pipeline.build(DATE, only=names)
    for name in names:
        assert [row["ts_event_ns"] for row in pipeline.rows(name, DATE)] == [opened, closed - 1]
