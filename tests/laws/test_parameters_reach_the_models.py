"""Every parameter means what the specification says, in every model: random param sets on random days
equal the slow oracle, through the compiled models in memory.

A constant that stands in a model where a parameter should, or a parameter that reaches the kernel and not the SQL
beside it, shows as a day that differs. Sessions are squeezed into an hour and a half, so that the oracle keeps up.
"""

import hashlib
import random
from typing import Any

import pytest

from lake.params import ParamSet, load
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import Day, add_spy, calendar, in_order, of_contract, prints
from tests.e2e.support import OracleDay, assert_day_equals_oracle, assert_same, live_ratios
from tests.oracle import bars, worlds
from tests.oracle.rules import DEFAULT, MINUTE_NS, SECOND_NS

FRONT, OTHER = "ESZ5", "ESH6"
DATE, BEFORE = "2025-11-03", ("2025-10-29", "2025-10-30", "2025-10-31")

CHOICES: dict[str, tuple] = {
    "grid_ms": (100, 100, 200, 500),
    "event_hours": ("rth", "all"),
    "level_kinds": (
        ["PM", "OR", "SESSION", "SMA", "VWAP", "ROUND", "CALL_WALL", "PUT_WALL"],
        ["SMA", "ROUND", "STRIKE"],
        ["VWAP", "SESSION", "OR", "USER", "GAMMA_FLIP"],
    ),
    "USER_LEVELS": (
        [],
        [
            {"price_points": price, "from_at": f"2025-11-03T{start}:00Z", "until_at": f"2025-11-03T{end}:00Z"}
            for price, start, end in ((6_000.1, "13:00", "15:01"), (5_997.0, "14:31", "20:00"))
        ],
    ),
    "universe_version": ("u1", "u2"),
    "W_b": (60, 240),
    "W_t": (30, 60, 90),
    "MONITOR_BAND": (0.15, 0.25),
    "TOUCH_BAND": (0.05, 0.1),
    "HYSTERESIS": (0.0, 0.05),
    "REARM_S": (5, 30),
    "BARRIER_ZONE_ES_TICKS": (4, 8),
    "R_vac": (0.3, 0.8),
    "R_wall": (1.1, 1.5),
    "F_thresh": (10, 100),
    "WEAK_PERCENTILE": (0.2, 0.5),
    "WEAK_LOOKBACK": (300, 1800),
    "BARRIER_MIN_VISIBLE": (0.2, 0.5),
    "GAP_S": (20, 60),
    "TAPE_BAND": (0.2, 0.5),
    "SWEEP_MAX_GAP_MS": (100, 2000),
    "SWEEP_MIN_CONTRACTS": (5, 50),
    "TOUCH_CLUSTER_TIME_MINUTES": (2, 15),
    "TOUCH_CLUSTER_PRICE_BAND": (0.0, 0.1),
    "SMA_WARMUP_DAYS": (1, 2, 3),
    "CONFIRMATION_WINDOWS": ([120, 240, 480], [60, 300]),
    "LOOKFORWARD_MINUTES": (3, 8),
    "theta_mode": ("dollars", "atr"),
    "STRENGTH_THRESHOLD_1": (0.3, 1.0),
    "STRENGTH_THRESHOLD_2": (1.1, 2.0),
    "THETA_ATR_MIN": (1, 5),
    "THETA_ATR_MAX": (6, 50),
    "THETA_1_FRACTION": (0.33, 0.5),
    "DELTA_LIQ_NORM": (50, 200),
    "WALL_RATIO_NORM": (1.0, 2.0),
    "VELOCITY_NORM": (0.1, 0.5),
    "W_g": (30, 60, 90),
    "W_wall": (120, 300),
    "WALL_MIN_GAMMA": (1, 1_000),
    "FUEL_STRIKE_RANGE": (1.0, 2.0, 3.5),
    "FUEL_EFFECT_THRESHOLD": (100, 10_000),
    "GAMMA_FLOW_NORM": (2_000, 50_000),
    "FLOW_ACCEL_NORM": (2_000, 50_000),
    "RISK_FREE": (0.0, 0.045, 0.2),
    "SIGMA_DEFAULT": (0.2, 0.7),
    "GAMMA_NORM": (5_000, 100_000),
    "CONFLUENCE_BAND": (0.0, 0.1, 0.2),
    "LOOKBACK_MINUTES": (3, 10),
    "VOLUME_LOOKBACK_DAYS": (2, 3, 7),
}


def random_params(rng: random.Random) -> tuple[ParamSet, dict]:
    """A param set, and the same for the oracle."""
    drawn = {name: rng.choice(values) for name, values in CHOICES.items()}
    default = load("default")
    values = {**default.values, **drawn}
    assert {n: type(v) for n, v in values.items()} == {n: type(v) for n, v in default.values.items()}
    digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()
    return ParamSet("random", values, digest), DEFAULT | drawn


def random_day(rng: random.Random) -> tuple[dict[str, Day], dict]:
    """Three quiet sessions of history and a squeezed one with a book, prints around it and before its open."""
    sessions = calendar()
    days = {}
    for date in BEFORE:
        session = sessions[date]
        spans = [(session["rth_open_ns"], session["rth_close_ns"], 50 * SECOND_NS)]
        days[date] = Day(session, in_order(of_contract(prints(rng, spans, tick=24_000), FRONT)))
    open_ns = sessions[DATE]["rth_open_ns"] - 30 * MINUTE_NS
    session = {
        **sessions[DATE],
        **worlds.random_session(rng, open_ns, 90),
        "session_date": DATE,
        "is_holiday": rng.random() < 0.1,
    }
    book = worlds.random_book(
        rng, 900, rng.random() < 0.7, start_ns=open_ns - 2 * MINUTE_NS, mean_gap_ns=5 * SECOND_NS
    )
    loose = worlds.random_trades(
        rng, 900, start_ns=open_ns - MINUTE_NS, mean_gap_ns=8 * SECOND_NS, silences=rng.random() < 0.5
    )
    # Some events stand exactly where an inclusive bound would show: on whole minutes, at the open and at the close.
    for minute in [0, 90, *rng.sample(range(90), 45)]:
        instant = open_ns + minute * MINUTE_NS
        near = min(loose, key=lambda t: abs(t["ts_event_ns"] - instant))
        loose.append({**near, "ts_event_ns": instant, "tick": near["tick"] + rng.randrange(-12, 13)})
        if minute in (0, 90):
            last = [r for r in book if r["ts_event_ns"] <= instant][-1]
            sides = {side: [(t, size + 1 if t else 0) for t, size in last[side]] for side in ("bids", "asks")}
            book += [{**last, "ts_event_ns": instant - SECOND_NS}, {**last, "ts_event_ns": instant, **sides}]
    other = worlds.random_trades(rng, 40, start_ns=open_ns, mean_gap_ns=100 * SECOND_NS, tick=24_200)
    days[DATE] = Day(
        session,
        in_order(of_contract([*worlds.trades_of(book), *loose], FRONT), of_contract(other, OTHER)),
        in_order(of_contract(book, FRONT)),
    )
    ratio = rng.choice((9.7, 10.03, 10.4))
    add_spy(days[BEFORE[-1]], rng, front=FRONT, options=0, spy=rng.choice((0, 200)), ratio=ratio)
    add_spy(
        days[DATE], rng, front=FRONT, options=rng.choice((0, 250, 250)), spy=rng.choice((0, 600)), ratio=ratio
    )
    return days, session


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 200))]
)
def test_random_parameters_on_random_days(manifest: dict[str, Any], seed: int):
    rng = worlds.seeded(7_000_000 + seed)
    param_set, p = random_params(rng)
    days, session = random_day(rng)
    pipeline = Pipeline(manifest, param_set)
    for name, value in session.items():
        if name != "session_date":
            pipeline.con.execute(
                f"update reference.dim_session set {name} = ? where session_date = date '{DATE}'", [value]
            )
    for date in BEFORE:
        pipeline.land(days[date])
        pipeline.build(date, only=pipeline.history)
    pipeline.land(days[DATE])
    pipeline.build(DATE)

    fronts = {date: {"contract": FRONT} for date in days}
    sessions = calendar() | {DATE: session}
    oracle = OracleDay.of(days, sessions, DATE, fronts, live_ratios(days, fronts), p)
    assert_day_equals_oracle(lambda name: pipeline.rows(name, DATE), oracle, choose=lambda found: found[::5])
    both = {contract: days[DATE].front_trades(contract) for contract in (FRONT, OTHER)}
    trades = [t for found in both.values() for t in found]
    assert_same(
        "trades",
        pipeline.rows("stg_futures__trades", DATE),
        trades,
        ("ordinal",),
        ("contract", "tick", "size"),
    )
    expected = [{**bar, "contract": c} for c in both for w in (1, 60, 120) for bar in bars.ohlcv(both[c], w)]
    key = ("contract", "bar_s", "bar_start_ns")
    assert_same("bars", pipeline.rows("ohlcv", DATE), expected, key, expected[0])


def test_every_parameter_is_drawn():
    """What is not drawn is of the live core."""
    assert set(load("default").values) - set(CHOICES) == {"SNAP_INTERVAL_MS", "LATENESS_BUFFER_MS"}
