"""First-passage labels against hand-made cases and a slow twin."""

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from book_kit import T0, random_trades, trades_table
from hypothesis import given, settings
from hypothesis import strategies as st

from physics.outcomes import OUTCOMES_SCHEMA, first_passage
from physics.units import MINUTE_NS, SECOND_NS

L = 19_200
U = T0 + 100 * SECOND_NS
LABELS = [n for n in OUTCOMES_SCHEMA.names if n[:5] not in ("label", "theta", "obser")]


def points_table(rows):
    """(u, t0, level_tick, sign, theta1, theta2, limit)"""
    columns = list(zip(*rows, strict=True)) or [()] * 7
    return pa.table(
        {
            "observation_id": pa.array([f"p{k}" for k in range(len(rows))], pa.string()),
            "label_start_ns": pa.array(columns[0], pa.int64()),
            "ts_ns": pa.array(columns[1], pa.int64()),
            "level_tick": pa.array(columns[2], pa.int32()),
            "direction_sign": pa.array(columns[3], pa.int8()),
            "theta1_ticks": pa.array(columns[4], pa.int64()),
            "theta2_ticks": pa.array(columns[5], pa.int64()),
            "window_limit_ns": pa.array(columns[6], pa.int64()),
        }
    )


def heartbeat(until=480, tick=L):
    """A print a second at the level, so that nothing is silent."""
    return [(U + k * SECOND_NS, tick, 1, 1) for k in range(-100, until)]


def with_prints(*prints, base=None):
    """The heartbeat with other ticks at some seconds from u."""
    moved = {U + round(s * SECOND_NS): L + d for s, d in prints}
    rows = [(ts, moved.pop(ts, tick), 1, 1) for ts, tick, *_ in (heartbeat() if base is None else base)]
    return sorted([*rows, *((ts, tick, 1, 1) for ts, tick in moved.items())])


def label(trades, *, u=U, t0=U, sign=1, theta=(40, 80), limit=2**62, **options):
    points = points_table([(u, t0, L, sign, *theta, limit)])
    table = first_passage(points, trades_table(trades), **({"LOOKFORWARD_MINUTES": 8, "GAP_S": 60} | options))
    assert table.schema == OUTCOMES_SCHEMA
    return table.to_pylist()[0]


@pytest.mark.parametrize(("sign", "outcome"), [(1, "BREAK"), (-1, "BOUNCE")])
def test_the_side_of_theta_2_that_passes_first_decides(sign, outcome):
    row = label(with_prints((10, 40), (20, 80), (30, -80)), sign=sign)
    side, other = ("break", "bounce") if sign == 1 else ("bounce", "break")
    assert (row["label_status"], row["outcome"]) == ("ok", outcome)
    assert (row[f"time_to_{side}_1"], row[f"time_to_{side}_2"]) == (10.0, 20.0)
    assert (row[f"time_to_{other}_1"], row[f"time_to_{other}_2"]) == (30.0, 30.0)
    assert (row["time_to_threshold_1"], row["time_to_threshold_2"]) == (10.0, 20.0)
    assert (row["tradeable_1"], row["tradeable_2"]) == (1, 1)
    assert (row["excursion_max"], row["excursion_min"]) == (20.0, 20.0)
    assert (row["strength_signed"], row["strength_abs"]) == (0.0, 20.0)


def test_neither_side_is_chop():
    row = label(with_prints((10, 79), (20, -39), (479, 5)))
    assert (row["outcome"], row["tradeable_1"], row["tradeable_2"]) == ("CHOP", 1, 0)
    assert row["time_to_threshold_2"] is row["time_to_bounce_1"] is None
    assert (row["excursion_max"], row["excursion_min"]) == (19.75, 9.75)
    assert (row["strength_signed"], row["strength_abs"]) == (10.0, 19.75)
    assert (row["anchor_spot"], row["future_price"]) == (4800.0, 4801.25)
    assert (row["theta_1"], row["theta_2"]) == (10.0, 20.0)
    assert (row["label_start_ns"], row["label_end_ns"]) == (U, U + 480 * SECOND_NS)


def test_an_excursion_is_never_negative():
    base = [(ts, L + 7, 1, 1) for ts, *_ in heartbeat()]
    row = label(base)
    assert (row["excursion_max"], row["excursion_min"]) == (1.75, 0.0)


def test_the_window_is_half_open():
    prints = [(0, 40), (480, 80)]
    row = label(with_prints(*prints))
    assert (row["time_to_break_1"], row["outcome"]) == (0.0, "CHOP")


def test_of_prints_at_one_instant_the_last_is_the_anchor():
    ties = [(U - 1, L + 3, 1, 1), (U - 1, L + 9, 1, 1)]
    assert label(sorted([*heartbeat(), *ties], key=lambda t: t[0]))["anchor_spot"] == 4802.25


def test_already_resolved_looks_from_the_touch_to_the_start_and_at_the_anchor():
    far = with_prints((-50, 80))
    assert label(far, t0=U - 50 * SECOND_NS)["label_status"] == "already_resolved"
    assert label(far, t0=U - 50 * SECOND_NS + 1)["label_status"] == "ok"
    assert label(with_prints((-50, -80)), t0=U - 60 * SECOND_NS)["label_status"] == "already_resolved"
    assert label(with_prints((-50, 79)), t0=U - 60 * SECOND_NS)["label_status"] == "ok"
    assert label(with_prints((-1, 80)), t0=U)["label_status"] == "already_resolved"
    assert label(with_prints((-1, 79)), t0=U)["label_status"] == "ok"


def test_the_statuses_have_their_precedence():
    far, silent = with_prints((-1, 80)), [t for t in heartbeat() if not 100 <= (t[0] - U) / SECOND_NS < 200]
    end = U + 480 * SECOND_NS
    assert label(far, limit=end - 1)["label_status"] == "already_resolved"
    assert label(silent, limit=end - 1)["label_status"] == "crosses_session"
    assert label(silent, limit=end)["label_status"] == "data_gap"
    assert label(heartbeat(), limit=end)["label_status"] == "ok"


def test_silence_is_measured_at_both_ends_too_and_strictly():
    def after(start, stop):
        return [t for t in heartbeat() if not start <= (t[0] - U) / SECOND_NS < stop]

    assert label(after(0, 60))["label_status"] == "ok"
    assert label(after(0, 61))["label_status"] == "data_gap"
    assert label(after(421, 480))["label_status"] == "ok"
    assert label(after(420, 480))["label_status"] == "data_gap"
    assert label(after(100, 159))["label_status"] == "ok"
    assert label(after(100, 160))["label_status"] == "data_gap"
    assert label(after(0, 480))["label_status"] == "data_gap"


def test_a_manifest_gap_in_the_window_is_a_data_gap():
    assert label(heartbeat(), gaps=[(U + 5, U + 6)])["label_status"] == "data_gap"
    assert (
        label(heartbeat(), gaps=[(U - 5, U), (U + 480 * SECOND_NS, U + 481 * SECOND_NS)])["label_status"]
        == "ok"
    )


def test_without_a_theta_there_is_no_label_but_the_precedence_holds():
    row = label(with_prints((-1, 500)), theta=(None, None))
    assert (row["label_status"], row["theta_1"], row["theta_2"]) == ("data_gap", None, None)
    assert label(heartbeat(), theta=(None, None), limit=U)["label_status"] == "crosses_session"


def test_only_ok_rows_hold_labels():
    row = label(heartbeat(), limit=U)
    assert all(row[name] is None for name in LABELS)
    assert (row["label_start_ns"], row["theta_2"]) == (U, 20.0)


def test_refusals_and_nothing():
    with pytest.raises(ValueError, match="label_start_ns at or after ts_ns"):
        label([], t0=U + 1)
    with pytest.raises(ValueError, match="direction_sign"):
        label([], sign=0)
    with pytest.raises(ValueError, match="theta1_ticks > 0"):
        label([], theta=(0, 1))
    with pytest.raises(ValueError, match="theta2_ticks > 0"):
        label([], theta=(1, 0))
    empty = first_passage(points_table([]), trades_table([]), LOOKFORWARD_MINUTES=8, GAP_S=60)
    assert empty.equals(OUTCOMES_SCHEMA.empty_table())


def twin(trades, point, gaps):
    u, t0, level, s, theta_1, theta_2, limit = point
    end = u + 8 * MINUTE_NS
    inside, earlier = [t for t in trades if u <= t[0] < end], [t for t in trades if t[0] < u]
    times = [u, *(t[0] for t in inside), end]
    beyond = [abs(t[1] - level) >= (theta_2 or math.inf) for t in earlier if t[0] >= t0] + [
        abs(t[1] - level) >= (theta_2 or math.inf) for t in earlier[-1:]
    ]
    if any(beyond):
        return {"label_status": "already_resolved"}
    if end > limit:
        return {"label_status": "crosses_session"}
    if (
        not inside
        or theta_2 is None
        or max(b - a for a, b in pairwise(times)) > 60 * SECOND_NS
        or any(a < end and b > u for a, b in gaps)
    ):
        return {"label_status": "data_gap"}
    row = {"label_status": "ok"}
    for what, way in (("break", s), ("bounce", -s)):
        for k, theta in ((1, theta_1), (2, theta_2)):
            hits = [t[0] - u for t in inside if way * (t[1] - level) >= theta]
            row[f"time_to_{what}_{k}"] = hits[0] / 1e9 if hits else None
    for k in (1, 2):
        both = [v for v in (row[f"time_to_break_{k}"], row[f"time_to_bounce_{k}"]) if v is not None]
        row[f"time_to_threshold_{k}"] = min(both, default=None)
        row[f"tradeable_{k}"] = int(bool(both))
    up, down = (max(0, *(w * (t[1] - level) for t in inside)) * 0.25 for w in (s, -s))
    row |= {
        "excursion_max": up,
        "excursion_min": down,
        "strength_signed": up - down,
        "strength_abs": max(up, down),
    }
    row |= {"anchor_spot": earlier[-1][1] * 0.25 if earlier else None, "future_price": inside[-1][1] * 0.25}
    a, b = row["time_to_break_2"], row["time_to_bounce_2"]
    row["outcome"] = (
        "CHOP" if a is b is None else "BREAK" if b is None or (a is not None and a < b) else "BOUNCE"
    )
    return row


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_slow_twin_and_starts_from_nothing_but_the_anchor(seed):
    rng = np.random.default_rng(seed)
    trades = random_trades(rng, int(rng.integers(0, 300)), mean_step_ns=9 * SECOND_NS, stride=6)
    span = max(trades[-1][0] - T0, SECOND_NS) if trades else SECOND_NS  # one print may stand at T0 itself
    points = []
    for _ in range(6):
        t0 = T0 + int(rng.integers(0, span))
        theta = int(rng.integers(1, 30))
        thetas = (theta, theta + int(rng.integers(0, 40))) if rng.random() < 0.9 else (None, None)
        level = L + int(rng.integers(-30, 30))
        limit = T0 + int(rng.integers(span // 2, 2 * span))
        points.append(
            (
                t0 + int(rng.choice([0, 1, 120 * SECOND_NS])),
                t0,
                level,
                int(rng.choice([-1, 1])),
                *thetas,
                limit,
            )
        )
    gaps = [(T0 + span // 3, T0 + span // 3 + 5)] if rng.random() < 0.3 else []

    def rows(prints):
        table = first_passage(
            points_table(points), trades_table(prints), LOOKFORWARD_MINUTES=8, GAP_S=60, gaps=gaps
        )
        return table.to_pylist()

    for row, point in zip(rows(trades), points, strict=True):
        wanted = dict.fromkeys(LABELS) | twin(trades, point, gaps)
        for name, value in wanted.items():
            if isinstance(value, float):
                assert math.isclose(row[name], value, rel_tol=1e-9, abs_tol=1e-12), name
            else:
                assert row[name] == value, name

    touched = points[0][1]
    shifted = [(t, k + (1 if t < touched else 0), *rest) for t, k, *rest in trades]
    for before, after in zip(rows(trades)[:1], rows(shifted)[:1], strict=True):
        if before["label_status"] == after["label_status"]:
            changed = {n for n in before if before[n] != after[n]}
            assert changed <= {"anchor_spot"}
