"""The oracle itself against answers worked out on paper, so that it is not only one more opinion."""

import pytest

from .barrier import barrier_row, quantile
from .book import changes, covered_ns, read, walk, whole
from .labels import label_row
from .levels import level_rows
from .rules import DEFAULT, MINUTE_NS, SECOND_NS, ticks
from .tape import tape_row
from .touches import machine
from .worlds import OPEN_NS

F_LAST = 128


def record(second: float, bids: dict, asks: dict, action: str = "A", flags: int = F_LAST) -> dict:
    def levels(side: dict, reverse: bool) -> list:
        shown = sorted(side.items(), reverse=reverse)[:10]
        return shown + [(None, 0)] * (10 - len(shown))

    return {
        "ts_event_ns": OPEN_NS + round(second * SECOND_NS),
        "sequence": 1,
        "ordinal": round(second * 1000),
        "action": action,
        "side": "B",
        "flags": flags,
        "tick": None,
        "size": 0,
        "bids": levels(bids, True),
        "asks": levels(asks, False),
    }


def trade(second: float, tick: int, size: int = 1, aggressor: int = 0) -> dict:
    return {
        "ts_event_ns": OPEN_NS + round(second * SECOND_NS),
        "sequence": 1,
        "ordinal": round(second * 1000),
        "tick": tick,
        "size": size,
        "aggressor": aggressor,
    }


def test_parameters_become_ticks_by_rounding_half_up():
    assert [ticks(b) for b in (0.25, 0.10, 0.05, 0.50, 1.0, 2.0)] == [10, 4, 2, 20, 40, 80]
    assert ticks(0.05, 10.03) == 2


def test_level_ten_leaving_view_gives_no_change_but_a_hole_inside_the_view_does():
    asks = {101: 5}
    ten = {100 - k: 7 for k in range(10)}  # 100 .. 91
    better = {**ten, 101 - 1: 7}  # the same ten
    pushed = {k + 1: 7 for k in ten}  # 101 .. 92: 91 left, 101 came
    states = walk(
        read([record(0, ten, {102: 5}), record(1, better, {102: 5}), record(2, pushed, {102: 5})]),
    )["states"]
    assert [(row["tick"], row["delta"]) for row in changes(states)] == [(101, 7)]

    holed = {k: v for k, v in ten.items() if k != 97} | {90: 3}
    states = walk(read([record(0, ten, asks), record(1, holed, asks)]))["states"]
    assert [(row["tick"], row["delta"]) for row in changes(states)] == [(97, -7)]


def test_records_before_the_event_end_do_not_count_and_a_crossed_second_is_bridged():
    book = [
        record(0, {100: 5}, {101: 5}),
        record(0.5, {100: 99}, {101: 5}, flags=0),
        record(1, {100: 5, 101: 1}, {101: 5}),  # locked
        record(2, {100: 8}, {101: 5}),  # exactly 1 s later: still one segment
    ]
    states = walk(read(book))["states"]
    assert [s["segment"] for s in states] == [0, 0]
    assert [(r["tick"], r["delta"]) for r in changes(states)] == [(100, 3)]
    book[-1]["ts_event_ns"] += 1
    assert [s["segment"] for s in walk(read(book))["states"]] == [0, 1]
    assert changes(walk(read(book))["states"]) == []


def test_coverage_stays_open_through_a_short_crossed_run_and_closes_after_a_long_silence():
    entries = read([record(0, {100: 5}, {101: 5}), record(10, {100: 6}, {101: 5})])
    at = OPEN_NS + 70 * SECOND_NS
    assert covered_ns(entries, OPEN_NS, at) == 70 * SECOND_NS
    assert covered_ns(entries, OPEN_NS, at + 1) == 10 * SECOND_NS
    crossed = [*entries, *read([record(20, {101: 5}, {101: 5})])]
    assert covered_ns(crossed, OPEN_NS, OPEN_NS + 21 * SECOND_NS) == 21 * SECOND_NS
    assert covered_ns(crossed, OPEN_NS, OPEN_NS + 21 * SECOND_NS + 1) == 10 * SECOND_NS


def test_an_r_clear_breaks_the_segment_and_leaves_the_last_state_standing():
    stream = [record(0, {100: 5}, {101: 5}), record(5, {}, {}, action="R"), record(6, {100: 9}, {101: 5})]
    seen = walk(read(stream[:2]))
    assert (seen["broken"], seen["states"][-1]["bids"]) == (True, {100: 5})
    assert covered_ns(read(stream), OPEN_NS, OPEN_NS + 10 * SECOND_NS) == 4 * SECOND_NS
    assert whole(stream)["tape"] == []


def test_barrier_sums_of_one_minute_of_book():
    stream = [
        record(0, {100: 50}, {101: 40, 102: 60}),
        record(100, {100: 50}, {101: 40, 102: 160}),  # +100
        record(150, {100: 50}, {102: 130}),  # -40 (traded), -30
        record(200, {100: 50}, {102: 130, 120: 999}),  # outside the zone
    ]
    for kept_alive in range(10, 240, 50):
        stream.append(record(kept_alive, {}, {}, action="N"))
    stream.sort(key=lambda r: r["ts_event_ns"])
    point = {"asof_ns": OPEN_NS + 230 * SECOND_NS, "level_tick": 102, "direction": "UP"}
    stream[-1]["ts_event_ns"] = OPEN_NS + 229 * SECOND_NS
    row = barrier_row(whole(stream), [trade(150, 101, 40, 1), trade(151, 101, 7, -1)], point)
    assert row["barrier_added"] == 100
    assert row["barrier_filled"] == 40
    assert row["barrier_canceled"] == 30
    assert row["barrier_delta_liq"] == 30
    assert row["barrier_churn"] == 170
    assert row["barrier_depth_in_zone"] == 130
    assert row["barrier_zone_visible_frac"] == 1.0
    assert row["barrier_replenishment_ratio"] == pytest.approx(100 / 70)
    # Samples of 230 whole seconds: 100 of 100 contracts, 50 of 200, 80 of 130. The median is 130.
    assert row["wall_ratio"] == 1.0
    assert row["barrier_state"] == "ABSORPTION"


def test_tape_of_600_bought_and_250_sold():
    trades = [
        trade(1, 100, 600, 1),
        trade(1.05, 101, 250, -1),
        trade(1.06, 103, 60, 1),
        trade(1.1, 102, 9, 1),
    ]
    point = {"asof_ns": OPEN_NS + 2 * SECOND_NS, "level_tick": 100}
    row = tape_row(trades[:2], point)
    assert row["tape_imbalance"] == pytest.approx(0.4118, abs=1e-4)
    assert row["tape_velocity"] == pytest.approx(0.25 / 0.05)
    assert not row["sweep_detected"]
    row = tape_row(trades, point)
    assert (row["sweep_direction"], row["sweep_contracts"]) == (1, 69)
    assert row["sweep_notional"] == (103 * 60 + 102 * 9) * 12.5


def test_the_touch_machine_needs_thirty_seconds_away_before_it_arms_again():
    level = {"level_tick": 100, "valid_from_ns": OPEN_NS, "valid_to_ns": OPEN_NS + 10 * MINUTE_NS}
    path = [
        (0, 80),
        (1, 96),
        (2, 85),
        (31, 85),
        (32, 98),
        (33, 85),
        (63, 86),
        (64, 104),
        (65, 120),
        (95, 113),
    ]
    path += [(96, 111), (97, 104)]
    found = machine([level], [trade(second, tick) for second, tick in path])
    seen = [((hit["trade"]["ts_event_ns"] - OPEN_NS) // SECOND_NS, hit["direction"]) for hit in found]
    assert seen == [(1, "UP"), (64, "UP"), (97, "DOWN")]


def test_levels_of_a_short_morning():
    session = {
        "globex_open_ns": OPEN_NS,
        "premarket_open_ns": OPEN_NS,
        "rth_open_ns": OPEN_NS + 5 * MINUTE_NS,
        "rth_close_ns": OPEN_NS + 30 * MINUTE_NS,
        "globex_close_ns": OPEN_NS + 40 * MINUTE_NS,
    }
    trades = [
        trade(10, 400, 1),
        trade(299, 407, 1),
        trade(300, 420, 2),
        trade(360, 401, 1),
        trade(1200, 500, 1),
    ]
    rows = level_rows(session, trades)
    first = {}
    for row in rows:
        first.setdefault(row["level_id"], (row["level_tick"], (row["valid_from_ns"] - OPEN_NS) // MINUTE_NS))
    assert first["PM_HIGH"] == (407, 5)
    assert first["PM_LOW"] == (400, 5)
    assert first["OR_HIGH"] == (420, 20)
    assert first["OR_LOW"] == (401, 20)
    assert first["VWAP"] == (420, 6)
    assert first["SESSION_HIGH"] == (420, 7)
    assert first["SESSION_LOW"] == (420, 7)
    assert first["ROUND_200"] == (200, 1)
    assert "ROUND_160" not in first
    assert [r["level_tick"] for r in rows if r["level_id"] == "VWAP"][1] == 414  # (840 + 401) / 3 = 413.67
    low = [r["level_tick"] for r in rows if r["level_id"] == "SESSION_LOW"]
    assert low[:2] == [420, 401]
    assert max(r["valid_to_ns"] for r in rows) == session["rth_close_ns"]


def test_a_label_by_first_passage():
    session = {"rth_close_ns": OPEN_NS + 60 * MINUTE_NS}
    point = {"label_start_ns": OPEN_NS + SECOND_NS, "ts_ns": OPEN_NS + SECOND_NS}
    point |= {"level_tick": 1000, "direction": "DOWN"}
    trades = [trade(0, 1010), *(trade(1 + 50 * k, 1005) for k in range(10))]
    trades += [trade(61.5, 960), trade(120.25, 1080), trade(130, 900)]
    trades.sort(key=lambda t: t["ts_event_ns"])
    row = label_row(trades, session, point)
    assert row["label_status"] == "ok"
    assert row["outcome"] == "BOUNCE"
    assert (row["time_to_break_1"], row["time_to_bounce_1"]) == (60.5, 119.25)
    assert (row["time_to_break_2"], row["time_to_bounce_2"]) == (129.0, 119.25)
    assert (row["excursion_max"], row["excursion_min"], row["strength_signed"]) == (25.0, 20.0, 5.0)
    assert (row["anchor_spot"], row["future_price"]) == (252.5, 251.25)
    assert label_row(trades[:8], session, point)["label_status"] == "data_gap"
    assert label_row(trades, {"rth_close_ns": OPEN_NS}, point)["label_status"] == "crosses_session"
    trades[0]["tick"] = 1080
    assert label_row(trades, session, point)["label_status"] == "already_resolved"


def test_quantile_interpolates():
    assert quantile([4, 1, 3, 2], 0.2) == pytest.approx(1.6)
    assert DEFAULT["WEAK_PERCENTILE"] == 0.20
