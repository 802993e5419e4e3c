"""Geometry, mean reversion, approach, context and attempts equal the slow oracle on random observation tables over
random sessions, through the compiled SQL: history that is short or of another contract, both clock changes, an early
close and a holiday, points before the open, on the edges of bars and windows, touches at one nanosecond."""

import hashlib
import random
from typing import Any

import pytest

from lake.params import ParamSet, load
from tests.e2e.market import calendar, of_contract, prints
from tests.e2e.support import same
from tests.fixtures.observed import Observed, closes, touch_of
from tests.oracle import approach, attempts, averages, bars, context, pressures, worlds
from tests.oracle.rules import DEFAULT, MINUTE_NS, MS_NS, SECOND_NS
from tests.oracle.touches import number_attempts

# Sessions that are observed, each with the contract that is the front from before them on, and another.
OBSERVED = {
    "2025-03-10": ("ESH5", "ESM5"),  # the first session of daylight saving time
    "2025-11-03": ("ESZ5", "ESH6"),  # the first one after it
    "2025-11-27": ("ESZ5", "ESH6"),  # a holiday
    "2025-11-28": ("ESZ5", "ESH6"),  # an early close
}
CHOICES: dict[str, tuple] = {
    "event_hours": ("rth", "all"),
    "level_kinds": (["PM", "OR", "VWAP"], ["ROUND", "VWAP", "SESSION"]),
    "LOOKBACK_MINUTES": (3, 10, 10),
    "SMA_WARMUP_DAYS": (1, 2, 3),
    "TOUCH_BAND": (0.05, 0.1, 0.3),
    "TOUCH_CLUSTER_TIME_MINUTES": (2, 15, 60),
    "TOUCH_CLUSTER_PRICE_BAND": (0.0, 0.1),
}


def random_params(rng: random.Random) -> tuple[ParamSet, dict]:
    drawn = {name: rng.choice(values) for name, values in CHOICES.items()}
    values = {**load("default").values, **drawn}
    return ParamSet(
        "random", values, hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()
    ), DEFAULT | drawn


def random_sessions(rng: random.Random, date: str) -> dict[str, list[dict]]:
    """The observed session and some of those before it: thin or busy, one perhaps without a print."""
    known = calendar()
    dates = list(known)
    before = dates[dates.index(date) - rng.randrange(5) : dates.index(date)]
    front, other = OBSERVED[date]
    found = {}
    for day in [d for d in before if rng.random() < 0.9] + [date]:
        opened, closed = known[day]["globex_open_ns"], known[day]["globex_close_ns"]
        start = opened + rng.choice((0, rng.randrange(12 * 60))) * MINUTE_NS
        gap_ns = rng.choice((40, 90, 200)) * SECOND_NS
        trades = prints(rng, [(start, closed, gap_ns)], tick=24_000, swing_ticks=rng.choice((30, 200)))
        # some prints right on the edges of bars, some of them the last of their nanosecond
        for _ in range(60):
            like = rng.choice(trades)
            edge = like["ts_event_ns"] // MINUTE_NS * MINUTE_NS + rng.choice((-1, 0, 0, 1))
            if opened <= edge < closed:
                trades.append({**like, "ts_event_ns": edge, "tick": like["tick"] + rng.randrange(-9, 10)})
        if rng.random() < 0.2:  # nothing moves: no deviation to measure by
            trades = [{**t, "tick": 24_000} for t in trades]
        sparse = prints(rng, [(opened, closed, 1_000 * SECOND_NS)], tick=24_200)
        found[day] = [*of_contract(trades, front), *of_contract(sparse, other)]
    return found


def random_touches(rng: random.Random, session: dict, first_ns: int, p: dict) -> list[dict]:
    """Touches in runs, at edges, within one cell of the grid and at one nanosecond; clusters by the oracle."""
    closed = session["globex_close_ns"]
    at: list[int] = [
        session[edge] + shift
        for edge in ("rth_open_ns", "premarket_open_ns", "rth_close_ns")
        for shift in rng.sample((0, -1, 1, 15 * MINUTE_NS, 15 * MINUTE_NS - 1, 100 * MS_NS), 3)
    ]
    while len(at) < 28:
        draw = rng.random()
        now = rng.randrange(first_ns, closed) if draw < 0.4 or not at else rng.choice(at)
        if 0.4 <= draw < 0.7:
            now += rng.choice((0, 1, rng.randrange(100 * MS_NS), rng.randrange(20 * MINUTE_NS)))
        elif draw >= 0.7:
            now = now // MINUTE_NS * MINUTE_NS + rng.choice((0, 0, 1, 99 * MS_NS, 100 * MS_NS))
        at.append(now)
    kinds = [("VWAP", 7), ("ROUND", 8), ("USER", 14)]
    found: dict[str, dict] = {}
    for now in at:
        if first_ns < now < closed - 480 * SECOND_NS:
            name, code = rng.choice(kinds)
            touch = touch_of(
                now,
                session_date=session["session_date"],
                level_kind=code,
                level_kind_name=name,
                level_tick=24_000 + rng.choice((-9, -4, -1, 0, 0, 1, 4, 9, 40)),
                direction=rng.choice(("UP", "DOWN")),
            )
            found[touch["event_id"]] = touch
    touches = sorted(
        found.values(), key=lambda t: (t["ts_ns"], t["level_kind"], t["level_tick"], t["direction"])
    )
    number_attempts(touches, p)
    return touches


def measured(rng: random.Random, points: list[dict], names: tuple[str, ...], name: str) -> dict[str, dict]:
    """Some values of other features, or none, and an input time before each instant."""
    return {
        point["observation_id"]: {
            **{n: rng.choice((None, rng.randrange(-300, 300), 7)) for n in names},
            f"{name}_max_input_ts_ns": rng.choice((None, point["asof_ns"] - rng.randrange(1, SECOND_NS))),
        }
        for point in points
    }


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 200))]
)
def test_random_observations_of_random_sessions(manifest: dict[str, Any], seed: int):
    rng = worlds.seeded(8_100_000 + seed)
    date = list(OBSERVED)[seed % len(OBSERVED)]
    param_set, p = random_params(rng)
    world = Observed(manifest, param_set, random_sessions(rng, date))
    assert world.contract == OBSERVED[date][0]
    trades = world.front_trades()
    touches = random_touches(rng, world.session, trades[0]["ts_event_ns"], p)
    points = world.points(touches, p, ratios=(10.0, 9.7, 10.31))
    names = {
        "barrier": ("barrier_replenishment_ratio", "barrier_delta_liq"),
        "tape": ("tape_velocity", "tape_imbalance"),
    }
    known = {name: measured(rng, points, columns, name) for name, columns in names.items()}
    found = world.observe(points, touches, **known)

    weekdays = list(calendar())
    before = weekdays[weekdays.index(date) - p["SMA_WARMUP_DAYS"] : weekdays.index(date)]
    earlier = [bars.ohlcv(world.front_trades(d), 120) for d in before if d in world.days]
    ids = {(point["event_id"], point["stage"]): point["observation_id"] for point in points}

    def features(event_id: str, stage: str) -> dict | None:
        observed = ids.get((event_id, stage))
        return None if observed is None else known["barrier"][observed] | known["tape"][observed]

    for point in points:
        expected = {
            **context.geometry_row(trades, point),
            **averages.averages_row(trades, point, p, earlier),
            **approach.approach_row(trades, point, p),
            **context.context_row(world.session, trades, point, p),
            **attempts.attempts_row(touches, features, point, p, point["es_spy_ratio"]),
        }
        row = found[point["observation_id"]]
        wrong = {k: (row[k], value) for k, value in expected.items() if not same(row[k], value)}
        assert wrong == {}, point
        inputs = {k: row.pop(k) for k in list(row) if k.endswith("_max_input_ts_ns")}
        assert row.keys() == {"observation_id", *expected}
        assert [k for k, ts_ns in inputs.items() if ts_ns is not None and ts_ns >= point["asof_ns"]] == []


PRESSING = {
    "barrier_delta_liq": lambda rng: rng.randrange(-900, 900),
    "wall_ratio": lambda rng: rng.choice((0.0, 2.0, 4.0, rng.random() * 6)),
    "tape_imbalance": lambda rng: rng.uniform(-1, 1),
    "tape_velocity": lambda rng: rng.choice((-0.5, 0.5, rng.gauss(0, 0.5))),
    "gamma_exposure": lambda rng: rng.gauss(0, 90_000),
    "gamma_flow_accel_3m": lambda rng: rng.gauss(0, 40_000),
    "mean_reversion_pressure_200": lambda rng: rng.gauss(0, 2),
    "mean_reversion_pressure_400": lambda rng: rng.gauss(0, 2),
    "confluence_pressure": lambda rng: rng.random(),
}


@pytest.mark.parametrize("seed", range(2))
def test_pressures_of_random_features(manifest: dict[str, Any], seed: int):
    """Every pattern of NULLs among the operands, of both directions, by other norms than the default's."""
    rng = worlds.seeded(8_200_000 + seed)
    norms = {
        "DELTA_LIQ_NORM": rng.choice((50, 200)),
        "WALL_RATIO_NORM": rng.choice((1.0, 2.0)),
        "VELOCITY_NORM": rng.choice((0.1, 0.5)),
        "GAMMA_NORM": rng.choice((30_000, 100_000)),
        "FLOW_ACCEL_NORM": rng.choice((20_000, 50_000)),
    }
    values = {**load("default").values, **norms}
    date = "2025-11-03"
    trades = of_contract(closes(calendar()[date]["globex_open_ns"], [24_000] * 5), "ESZ5")
    world = Observed(manifest, ParamSet("random", values, "0" * 64), {date: trades})
    start = trades[-1]["ts_event_ns"] + SECOND_NS
    touches = [
        touch_of(start + i * MS_NS, session_date=date, direction=("UP", "DOWN")[i % 2], level_tick=24_000 + i)
        for i in range(2 ** len(PRESSING))
    ]
    points = world.points(touches, DEFAULT | {"CONFIRMATION_WINDOWS": []})
    features = {
        point["observation_id"]: {
            name: draw(rng) if i >> bit & 1 else None for bit, (name, draw) in enumerate(PRESSING.items())
        }
        for i, point in enumerate(points)
    }
    found = world.pressures(points, features)
    for point in points:
        row = found[point["observation_id"]]
        expected = pressures.pressures_row(features[point["observation_id"]], point, DEFAULT | norms)
        wrong = {k: (row[k], value) for k, value in expected.items() if not same(row[k], value)}
        assert wrong == {}, features[point["observation_id"]]
        assert all(value is None or -1 <= value <= 1 for value in expected.values())
