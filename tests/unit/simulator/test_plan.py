"""The path and the plan: a price that is the same at every scale, and odds that are the ones asked for."""

import functools
import itertools
import math
from datetime import date, time

import numpy as np
import pytest

from ingest.simulator import levels
from ingest.simulator import path as path_module
from ingest.simulator.clock import is_early_close, session_clock, trading_sessions, wall_ns
from ingest.simulator.contracts import contracts_of, third_friday
from ingest.simulator.dealers import DealerFlow, Leans, count_attempt, play_dealers
from ingest.simulator.levels import ROUND_TICKS
from ingest.simulator.path import SessionPath, session_path
from ingest.simulator.plan import (
    BOUNCE,
    BREAK,
    CHOP,
    MOVE,
    OUTCOME_SHARES,
    _prints,
    _touches,
    draw_flags,
    flag_rates,
    plan_tape,
)
from ingest.simulator.ratio import ratio_at
from lake import params
from tests.unit.simulator.reading import MINUTE_NS, SECOND_NS, TICK_NANO, round_touches

DAY = date(2025, 10, 7)
CLOCK = session_clock(DAY)


def test_sessions_follow_new_york_and_the_exchanges_holidays():
    assert trading_sessions(date(2025, 11, 26), date(2025, 12, 1)) == [
        date(2025, 11, 26),
        date(2025, 11, 28),
        date(2025, 12, 1),
    ]
    assert is_early_close(date(2025, 11, 28))
    early = session_clock(date(2025, 11, 28))
    assert early.rth_close_ns - early.rth_open_ns == 3.5 * 3600 * SECOND_NS
    before, after = (
        session_clock(date(2025, 10, 31)),
        session_clock(date(2025, 11, 3)),
    )  # clocks went back on the 2nd
    assert after.rth_open_ns - before.rth_open_ns == (3 * 24 + 1) * 3600 * SECOND_NS
    assert after.globex_open_ns == wall_ns(date(2025, 11, 2), time(18))


def test_the_front_contract_is_the_nearest_more_than_eight_days_away():
    assert third_friday(2025, 12) == date(2025, 12, 19)
    last, rolled = contracts_of(date(2025, 12, 10)), contracts_of(date(2025, 12, 11))
    assert [c.symbol for c in last.all()] == ["ESZ5", "ESH6", "ESZ5-ESH6"]
    assert [c.symbol for c in rolled.all()] == ["ESH6", "ESM6", "ESH6-ESM6"]
    assert last.next == rolled.front
    ids = [c.instrument_id for c in (*last.all(), *rolled.all())]
    assert len(set(ids)) == 5


def test_a_path_is_a_balanced_walk_that_starts_where_the_chain_says():
    walk = session_path(5, DAY, "null")
    assert set(walk.step.tolist()) == {-1, 1}
    assert (np.diff(walk.jump_ns) >= 0).all()
    assert CLOCK.globex_open_ns < walk.jump_ns[0]
    assert walk.jump_ns[-1] < CLOCK.globex_close_ns
    rth = (walk.jump_ns >= CLOCK.rth_open_ns) & (walk.jump_ns < CLOCK.rth_close_ns)
    assert rth.sum() == pytest.approx(26**2 * 390, rel=0.02)
    # a single tick says nothing about the next
    steps = walk.step[rth].astype(float)
    assert abs(np.corrcoef(steps[:-1], steps[1:])[0, 1]) < 4 / len(steps) ** 0.5

    closes = walk.start_tick + walk.step.sum()
    after = session_path(5, date(2025, 10, 8), "null").start_tick
    assert abs(after - closes) <= path_module.GAP_SHARE * abs(closes - path_module.CENTRE_TICKS) + 1


def test_prices_stay_where_the_checks_expect_them():
    starts = np.array(list(path_module._start_ticks(5, 2025).values())) / path_module.POINT_TICKS
    assert starts.min() > 4_400
    assert starts.max() < 7_200


def test_a_coarser_lattice_is_the_same_path_at_fewer_instants():
    walk = session_path(5, DAY, "null")
    fine, coarse = (plan_tape(5, scale, CLOCK, walk, "null") for scale in (0.6, 0.01))
    assert (fine.lattice_ticks, coarse.lattice_ticks) == (1, 8)
    ticks = walk.tick()
    for plan in (fine, coarse):
        is_move = plan.kind == MOVE
        at = np.searchsorted(walk.jump_ns, plan.ts_ns[is_move], side="right") - 1
        assert (ticks[at] == plan.to_tick[is_move]).all()


def test_planned_touches_are_those_of_the_specification():
    walk = session_path(5, DAY, "planted")
    for scale in (0.02, 0.06):
        plan = plan_tape(5, scale, CLOCK, walk, "planted")
        prints = _prints(plan.kind == MOVE, plan.to_tick, plan.aggressor, plan.follows, plan.ts_ns)
        _, level, direction, outcome = _touches(*prints, CLOCK.globex_close_ns)
        trades = np.zeros(len(prints[1]), [("ts_event", "u8"), ("price", "i8")])
        trades["ts_event"], trades["price"] = prints[1], prints[2] * TICK_NANO
        names = {BREAK: "BREAK", BOUNCE: "BOUNCE", CHOP: "CHOP"}
        mine = [
            (int(li) * ROUND_TICKS, int(di), names[int(ou)])
            for li, di, ou in zip(level, direction, outcome, strict=True)
            if ou >= 0
        ]
        known = round_touches(trades, CLOCK.globex_open_ns, CLOCK.globex_close_ns - 480 * SECOND_NS + 1)
        assert mine == [(t.level_tick, t.direction, t.outcome) for t in known]
        assert len(mine) > 200


def test_bands_of_touches_are_those_of_the_default_params_at_any_ratio_that_comes_up():
    values = params.load("default").values
    for ratio in (10.0, 10.02, 10.03, 10.04):

        def ticks(usd: float, ratio: float = ratio) -> int:
            return math.floor(usd * ratio / 0.25 + 0.5)

        assert ticks(values["TOUCH_BAND"]) == levels.TOUCH_TICKS
        assert ticks(values["MONITOR_BAND"]) == levels.MONITOR_TICKS
        assert ticks(values["HYSTERESIS"]) == levels.HYSTERESIS_TICKS
        assert ticks(values["STRENGTH_THRESHOLD_2"]) == levels.THETA_TICKS


def test_flag_rates_have_the_odds_asked_for():
    rates = flag_rates(OUTCOME_SHARES, 0.3, 6.0, 3.0)
    odds = {outcome: rate / (1 - rate) for outcome, rate in rates.items()}
    assert odds[BREAK] / odds[BOUNCE] == pytest.approx(6)
    reach = (rates[BREAK] * OUTCOME_SHARES[BREAK] + rates[BOUNCE] * OUTCOME_SHARES[BOUNCE]) / (
        OUTCOME_SHARES[BREAK] + OUTCOME_SHARES[BOUNCE]
    )
    assert reach / (1 - reach) / odds[CHOP] == pytest.approx(3)
    assert sum(OUTCOME_SHARES[o] * rates[o] for o in rates) == pytest.approx(0.3)


def near_gamma(flow: DealerFlow, ts_ns: int, level_tick: int) -> float:
    """Wanted dealer gamma within $2 of a level at an instant, by the letter of the market specification (7.4)."""
    minute, rest = divmod(ts_ns - flow.start_ns, MINUTE_NS)
    strikes = flow.first_strike + np.arange(flow.gamma.shape[1])
    near = np.abs(strikes * 1000 - round(level_tick * 250 / float(ratio_at(2, ts_ns)))) <= 2000
    start, end = flow.gamma[minute, near].sum(), flow.gamma[minute + 1, near].sum()
    return start + (end - start) * rest / MINUTE_NS


@functools.cache
def touches_of(profile: str) -> dict[str, np.ndarray]:
    """Touches in event hours of 48 planned sessions: outcome, is_vacuum, is_short (gamma), is_late (3rd attempt on)."""
    found = {name: [] for name in ("outcome", "is_vacuum", "is_short", "is_late")}
    for day in trading_sessions(date(2025, 8, 1), date(2025, 10, 31))[:48]:
        clock, walk = session_clock(day), session_path(2, day, profile)
        plan = plan_tape(2, 0.02, clock, walk, profile)
        t0 = plan.ts_ns[plan.touch_event]
        attempts = np.zeros((2, 4), np.int64)
        for k in np.flatnonzero((t0 >= clock.rth_open_ns) & (t0 < clock.rth_close_ns - 960 * SECOND_NS)):
            tick = int(plan.touch_level[k]) * ROUND_TICKS
            found["outcome"].append(plan.touch_outcome[k])
            found["is_vacuum"].append(plan.touch_is_vacuum[k])
            found["is_short"].append(near_gamma(walk.dealers, int(t0[k]), tick) < 0)
            side = attempts[int(plan.touch_direction[k] > 0)]
            found["is_late"].append(count_attempt(side, t0[k], tick) >= 3)
    return {name: np.array(values) for name, values in found.items()}


def odds_ratio(is_high: np.ndarray, is_cause: np.ndarray) -> tuple[float, float]:
    """(odds ratio of ``is_high`` by ``is_cause``, standard error of its logarithm)."""
    cells = [np.sum((is_high == h) & (is_cause == c)) for h in (1, 0) for c in (1, 0)]
    return cells[0] * cells[3] / (cells[1] * cells[2]), sum(1 / n for n in cells) ** 0.5


@pytest.mark.parametrize(
    ("cause", "effect", "planted"),
    [
        ("is_vacuum", "break", 6.0),
        ("is_vacuum", "reach", 3.0),
        ("is_short", "break", 1.5),
        ("is_late", "break", 1.3),
    ],
)
def test_planted_odds_are_in_the_data_and_null_has_none(cause, effect, planted):
    for profile, wanted in (("planted", planted), ("null", 1.0)):
        touches = touches_of(profile)
        resolved = touches["outcome"] != CHOP
        mine = resolved if effect == "break" else np.ones(len(resolved), bool)
        is_high = touches["outcome"] == BREAK if effect == "break" else resolved
        found, error = odds_ratio(is_high[mine], touches[cause][mine])
        # four standard errors, and what leans on neighbouring levels do to each other
        assert abs(np.log(found / wanted)) < 4 * error + 0.05, (profile, found, error)


def test_the_short_gamma_of_the_planted_market_is_told_from_none():
    touches = touches_of("planted")
    resolved = touches["outcome"] != CHOP
    found, error = odds_ratio(touches["outcome"][resolved] == BREAK, touches["is_short"][resolved])
    assert np.log(found) > 4 * error


def test_outcomes_and_signs_of_gamma_have_the_shares_that_the_flags_count_on():
    for profile in ("planted", "null"):
        touches = touches_of(profile)
        for outcome, share in OUTCOME_SHARES.items():
            assert np.mean(touches["outcome"] == outcome) == pytest.approx(share, abs=0.03)
        assert np.mean(touches["is_short"]) == pytest.approx(0.5, abs=0.12)
        assert 0.04 < np.mean(touches["is_late"]) < 0.2


def test_flags_of_the_null_profile_do_not_look_at_the_outcome():
    outcome = np.array([BREAK, BOUNCE, CHOP, -1] * 200)
    flags = draw_flags(np.random.default_rng(1), outcome, "null")
    assert (flags == draw_flags(np.random.default_rng(1), np.roll(outcome, 1), "null")).all()


def walk_between(*turning_points: int, step_s: float = 1.0) -> SessionPath:
    """A walk from turning point to turning point, one tick every ``step_s``, from the regular open on."""
    steps = np.concatenate(
        [np.full(abs(b - a), np.sign(b - a)) for a, b in itertools.pairwise(turning_points)]
    ).astype(np.int8)
    jump_ns = CLOCK.rth_open_ns + (np.arange(len(steps)) * step_s * SECOND_NS).astype(np.int64)
    return SessionPath(turning_points[0], jump_ns, steps)


def test_steps_lean_only_after_the_third_attempt_and_until_it_is_over():
    level = 23_200  # a multiple of 40
    once_more = (level - 45, level)
    walk = walk_between(level - 60, level, *once_more, *once_more, level - 200, step_s=0.7)
    third = 60 + 90 + 90  # steps up to the third touch
    bent = walk.step.copy()
    play_dealers(np.random.default_rng(1), 5, CLOCK, walk.jump_ns, bent, walk.start_tick, Leans(attempt=1e6))
    assert (bent[:third] == walk.step[:third]).all()
    assert (bent[third : third + 80] == 1).all()  # a certain lean: up to 80 ticks above the level
    assert (bent[third + 80 :] == walk.step[third + 80 :]).all()

    bent = walk.step.copy()
    play_dealers(np.random.default_rng(1), 5, CLOCK, walk.jump_ns, bent, walk.start_tick, Leans())
    assert (bent == walk.step).all()


def test_attempts_count_within_a_cluster():
    state = np.zeros(4, np.int64)
    minute = 60 * SECOND_NS
    seen = [
        count_attempt(state, t * minute, level)
        for t, level in ((0, 400), (5, 400), (20, 400), (36, 400), (37, 440), (38, 440))
    ]
    assert seen == [1, 2, 3, 1, 1, 2]
