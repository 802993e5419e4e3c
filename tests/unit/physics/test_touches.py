"""The touch machine against hand-made cases, a slow twin, other batchings and a changed future."""

import numpy as np
import pyarrow as pa
import pytest
from book_kit import T0, random_trades, trades_table
from hypothesis import given, settings
from hypothesis import strategies as st

from physics.touches import TOUCHES_SCHEMA, TouchMachine, detect
from physics.units import MINUTE_NS, SECOND_NS, ticks

L = 19_200
M, T, H = 10, 4, 2  # ticks of the default bands at ratio 10
BANDS = {"MONITOR_BAND": 0.25, "TOUCH_BAND": 0.10, "HYSTERESIS": 0.05, "REARM_S": 30}
ALWAYS = {"emit_from_ns": -(2**62), "emit_until_ns": 2**62}


def levels_table(rows):
    """(level_id, level_kind, level_tick, from, to)"""
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return pa.table(
        {
            "level_id": pa.array(columns[0], pa.string()),
            "level_kind": pa.array(columns[1], pa.int8()),
            "level_tick": pa.array(columns[2], pa.int32()),
            "valid_from_ns": pa.array(columns[3], pa.int64()),
            "valid_to_ns": pa.array(columns[4], pa.int64()),
        }
    )


STATIC = levels_table([("PM_HIGH", 0, L, T0, T0 + 3_600 * SECOND_NS)])


def at(seconds, distance):
    """A print ``distance`` ticks from the level."""
    return (T0 + round(seconds * SECOND_NS), L + distance, 1, 1)


def touches(trades, levels=STATIC, **changed):
    found = detect(levels, trades_table(trades), **(BANDS | ALWAYS | changed))
    assert found.schema == TOUCHES_SCHEMA
    return [
        ((r["ts_ns"] - T0) / SECOND_NS, r["touch_tick"] - L, r["direction_sign"]) for r in found.to_pylist()
    ]


def test_birth_needs_no_dwell_but_a_far_print():
    assert touches([at(0, 0), at(1, M + H), at(2, 0)]) == []
    assert touches([at(1, -(M + H + 1)), at(2, -T - 1), at(3, -T), at(4, 0)]) == [(3, -T, 1)]
    assert touches([at(1, M + H + 1), at(2, T)]) == [(2, T, -1)]


def test_direction_is_the_side_of_the_last_print_beyond_the_monitor_band():
    assert touches([at(1, 13), at(2, -11), at(3, 10), at(4, 5), at(5, 4)]) == [(5, 4, 1)]


def test_after_a_touch_every_print_of_thirty_seconds_must_be_far():
    first = [at(1, 13), at(2, 0)]
    assert touches([*first, at(10, 13), at(39.9, 13), at(41, 0)]) == [(2, 0, -1)]
    assert touches([*first, at(10, 13), at(40, 13), at(41, 0)]) == [(2, 0, -1), (41, 0, -1)]
    assert touches([*first, at(10, 13), at(20, 12), at(21, 13), at(45, 13), at(50, 0)]) == [(2, 0, -1)]


def test_silence_alone_never_arms():
    assert touches([at(1, 13), at(2, 0), at(10, 13), at(600, 0)]) == [(2, 0, -1)]


def test_the_far_span_may_change_sides():
    assert touches([at(1, 13), at(2, 0), at(10, 13), at(40, -13), at(41, 0)])[1:] == [(41, 0, 1)]


def test_ties_at_one_instant_count_in_their_order():
    assert touches([at(1, 13), at(1, 0), at(1, 13), at(1, 0)]) == [(1, 0, -1)]


def minutes(ticks_by_minute, name="VWAP", kind=7):
    return levels_table(
        [
            (name, kind, tick, T0 + m * MINUTE_NS, T0 + (m + 1) * MINUTE_NS)
            for m, tick in ticks_by_minute.items()
        ]
    )


def test_a_level_that_moves_by_more_than_the_monitor_band_starts_again():
    trades = [at(1, 40), at(61, 11), at(62, 4)]
    assert touches(trades, minutes({0: L, 1: L})) == [(62, 4, -1)]
    assert touches(trades, minutes({0: L - M, 1: L})) == [(62, 4, -1)]
    assert touches(trades, minutes({0: L - M - 1, 1: L})) == []


def test_small_moves_add_up_without_a_reset_and_each_print_meets_the_level_of_its_time():
    levels = minutes({0: L - 20, 1: L - 10, 2: L})
    assert touches([at(1, 40), at(119.9, 4), at(120, 4)], levels) == [(120, 4, -1)]


def test_a_reset_clears_the_dwell():
    trades = [at(1, 13), at(2, 0), at(61, 50), at(62, 40)]
    assert touches(trades, minutes({0: L, 1: L})) == [(2, 0, -1)]
    assert touches(trades, minutes({0: L, 1: L + 36})) == [(2, 0, -1), (62, 40, -1)]


def test_a_pause_is_a_birth():
    trades = [at(1, 13), at(130, 0)]
    assert touches(trades, minutes({0: L, 1: L, 2: L})) == [(130, 0, -1)]
    assert touches(trades, minutes({0: L, 2: L})) == []


def test_validity_is_half_open():
    levels = levels_table([("PM_LOW", 1, L, T0 + SECOND_NS, T0 + 2 * SECOND_NS)])
    assert touches([at(0.9, 13), at(1, 0)], levels) == []
    assert touches([at(1, 13), at(2, 0)], levels) == []
    assert touches([at(1, 13), at(1.9, 0)], levels) == [(1.9, 0, -1)]


def test_a_row_of_no_length_is_none():
    """A level that is said to be elsewhere for no time has not moved, and stays armed."""
    lives = [(L, 0, 20), (L + 50, 20, 20), (L, 20, 40)]
    levels = levels_table([("VWAP", 7, k, T0 + a * SECOND_NS, T0 + b * SECOND_NS) for k, a, b in lives])
    assert touches([at(1, 13), at(25, 0)], levels) == [(25, 0, -1)]


def test_the_interval_only_filters_what_is_emitted():
    trades = [at(1, 13), at(2, 0), at(10, 13), at(40, 13), at(41, 0)]
    assert touches(trades, emit_from_ns=T0 + 41 * SECOND_NS) == [(41, 0, -1)]
    assert touches(trades, emit_until_ns=T0 + 41 * SECOND_NS) == [(2, 0, -1)]


def test_bands_follow_the_ratio_of_their_instant():
    steps = {"es_spy_ratio": [10.0, 20.0], "ratio_from_ns": [T0, T0 + 10 * SECOND_NS]}
    assert touches([at(1, 13), at(2, 5)], **steps) == []
    assert touches([at(1, 13), at(10, 8)], **steps) == [(10, 8, -1)]
    assert touches([at(10, 24), at(11, 8)], **steps) == []
    move = minutes({0: L - 15, 1: L})
    assert touches([at(1, 40), at(61, 11), at(62, 4)], move) == []
    assert touches([at(1, 40), at(61, 11), at(62, 4)], move, **steps) == [(62, 4, -1)]
    with pytest.raises(ValueError, match="2 values for 1 instants"):
        touches([], es_spy_ratio=[10.0, 11.0])


def test_touches_of_one_instant_are_ordered_by_kind_and_tick():
    levels = levels_table(
        [(f"ROUND_{t}", 8, t, T0, T0 + MINUTE_NS) for t in (L + 2, L)]
        + [("VWAP", 7, L + 3, T0, T0 + MINUTE_NS)]
    )
    found = detect(levels, trades_table([at(1, 20), at(2, 3)]), **BANDS, **ALWAYS)
    assert found["level_id"].to_pylist() == ["VWAP", f"ROUND_{L}", f"ROUND_{L + 2}"]


def test_nothing_in_gives_nothing_out():
    assert touches([], levels_table([])) == []
    assert touches([at(1, 13)], levels_table([])) == []
    assert touches([]) == []
    # a date on which stocks traded and futures didn't has no ratio either
    assert touches([], es_spy_ratio=np.empty(0), ratio_from_ns=np.empty(0, np.int64)) == []


def test_refusals():
    with pytest.raises(ValueError, match="not to overlap"):
        touches([], levels_table([("A", 8, L, T0, T0 + 10), ("A", 8, L, T0 + 9, T0 + 20)]))
    with pytest.raises(ValueError, match="sort the rows"):
        touches([at(2, 0), at(1, 0)])
    machine = TouchMachine(**BANDS)
    machine.update(None, trades_table([at(5, 0)]))
    with pytest.raises(ValueError, match="before its trades"):
        machine.update(STATIC, trades_table([at(6, 0)]))


def twin(levels, trades, ratio_steps):
    """One level at a time, one print at a time; the bands straight from the dollars."""
    found = []
    for name in {r["level_id"] for r in levels}:
        rows = sorted((r for r in levels if r["level_id"] == name), key=lambda r: r["valid_from_ns"])
        previous = None
        for r in rows:
            m = ticks(0.25, ratio_at(ratio_steps, r["valid_from_ns"]))
            if (
                previous is None
                or previous["valid_to_ns"] != r["valid_from_ns"]
                or abs(r["level_tick"] - previous["level_tick"]) > m
            ):
                armed, must_dwell, span, side = False, False, [], None
            previous = r
            for ts, tick, *_ in trades:
                if not r["valid_from_ns"] <= ts < r["valid_to_ns"]:
                    continue
                m, t, h = (ticks(b, ratio_at(ratio_steps, ts)) for b in (0.25, 0.10, 0.05))
                d = tick - r["level_tick"]
                if abs(d) > m:
                    side = d
                if armed and abs(d) <= t:
                    found.append((ts, r["level_kind"], r["level_tick"], name, tick, 1 if side < 0 else -1))
                    armed, must_dwell, span = False, True, []
                    continue
                span = [*span, ts] if abs(d) > m + h else []
                if span and (not must_dwell or span[-1] - span[0] >= 30 * SECOND_NS):
                    armed = True
    return sorted(found)


def ratio_at(steps, ts):
    return [ratio for start, ratio in steps if start <= ts][-1]


def random_levels(rng, minutes_count):
    rows = [
        ("PM_HIGH", 0, L + 15, T0, T0 + minutes_count * MINUTE_NS),
        ("OR_LOW", 3, L - 12, T0 + MINUTE_NS, 2**62),
    ]
    vwap = L
    for m in range(minutes_count):
        vwap += int(rng.choice([0, 1, -3, 10, 11, -25]))
        start = T0 + m * MINUTE_NS
        rows.append(("VWAP", 7, vwap, start, start + MINUTE_NS))
        rows += [
            (f"ROUND_{t}", 8, t, start, start + MINUTE_NS) for t in (L - 40, L, L + 40) if rng.random() < 0.8
        ]
    return levels_table([rows[k] for k in rng.permutation(len(rows))])


@given(st.integers(0, 2**32), st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_slow_twin_under_any_batching_and_ignores_the_future(seed, size):
    rng = np.random.default_rng(seed)
    trades = random_trades(rng, int(rng.integers(0, 500)), mean_step_ns=2 * SECOND_NS, stride=4)
    count = (trades[-1][0] - T0) // MINUTE_NS + 1 if trades else 1
    levels = random_levels(rng, int(count))
    steps = [(-(2**62), 10.0), (T0 + 3 * MINUTE_NS, 11.3), (T0 + 3 * MINUTE_NS + 7, 9.2)]
    ratio = {"es_spy_ratio": [r for _, r in steps], "ratio_from_ns": [s for s, _ in steps]}

    def rows(table):
        return [
            (
                r["ts_ns"],
                r["level_kind"],
                r["level_tick"],
                r["level_id"],
                r["touch_tick"],
                r["direction_sign"],
            )
            for r in table.to_pylist()
        ]

    whole = rows(detect(levels, trades_table(trades), **BANDS, **ALWAYS, **ratio))
    assert whole == twin(levels.to_pylist(), trades, steps)

    machine, parts, table = TouchMachine(**BANDS, **ratio), [], trades_table(trades)
    waiting = sorted(levels.to_pylist(), key=lambda r: r["valid_from_ns"])
    for first in range(0, len(trades), size):
        batch = table.slice(first, size)
        upto = batch["ts_event_ns"][-1].as_py()
        new = [r for r in waiting if r["valid_from_ns"] <= upto]
        waiting = waiting[len(new) :]
        parts += rows(machine.update(pa.Table.from_pylist(new, levels.schema) if new else None, batch))
    assert sorted(parts) == whole

    cut = T0 + int(rng.integers(0, 20)) * MINUTE_NS // 2
    kept = [t for t in trades if t[0] < cut]
    known = [r for r in levels.to_pylist() if r["valid_from_ns"] < cut]
    future = [(cut + k, L + 100 - 7 * k, 1, 1) for k in range(30)]
    changed = detect(
        pa.Table.from_pylist(known, levels.schema), trades_table([*kept, *future]), **BANDS, **ALWAYS, **ratio
    )
    assert [t for t in rows(changed) if t[0] < cut] == [t for t in whole if t[0] < cut]
