"""Tape columns against hand-made cases, a slow twin, and a changed future."""

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from book_kit import T0, points_table, random_trades, trades_table
from hypothesis import given, settings
from hypothesis import strategies as st

from physics.tape import TAPE_PHYSICS_SCHEMA, tape
from physics.units import MS_NS, SECOND_NS

LEVEL = 19_200
ASOF = T0 + 100 * SECOND_NS
PARAMETERS = {"W_t": 60, "SWEEP_MAX_GAP_MS": 100, "SWEEP_MIN_CONTRACTS": 50, "band_ticks": 20}


def measure(trades, points=((ASOF, LEVEL, 1),), **changed):
    return tape(points_table(points), trades_table(trades), **(PARAMETERS | changed)).to_pylist()


def ago(ms, tick=LEVEL, size=1, aggressor=1):
    return (ASOF - ms * MS_NS, tick, size, aggressor)


def test_imbalance_of_600_bought_and_250_sold():
    row = measure([ago(500, size=600), ago(400, size=250, aggressor=-1), ago(300, size=9, aggressor=0)])[0]
    assert row["tape_imbalance"] == pytest.approx(0.4118, abs=5e-5)
    assert (row["tape_buy_vol"], row["tape_sell_vol"]) == (600, 250)


def test_the_window_is_half_open_and_the_band_inclusive():
    trades = [
        ago(60_001, size=1000),
        ago(60_000, size=1),
        ago(9_000, LEVEL + 21, 1000),
        ago(8_000, LEVEL + 20, 2),
        ago(7_000, LEVEL - 20, 4),
        ago(0, size=1000),
    ]
    assert measure(trades)[0]["tape_buy_vol"] == 7


def test_without_signed_volume_there_is_no_imbalance_and_without_trades_no_slope():
    assert measure([ago(5, aggressor=0)])[0]["tape_imbalance"] is None
    row = measure([])[0]
    assert row["tape_imbalance"] is row["tape_velocity"] is row["tape_max_input_ts_ns"] is None
    assert (row["tape_buy_vol"], row["tape_trade_rate_60s"], row["sweep_detected"]) == (0, 0.0, False)


def test_slopes_and_rates_count_every_print_of_their_own_window():
    trades = [ago(1000 * k, LEVEL + 500 - 4 * k, aggressor=0) for k in range(59, 0, -1)]
    row = measure(trades)[0]
    assert row["tape_price_slope_3s"] == pytest.approx(1.0, rel=1e-12)
    assert row["tape_velocity"] == row["tape_price_slope_60s"] == pytest.approx(1.0, rel=1e-12)
    assert row["tape_trade_rate_3s"] == 1.0
    assert row["tape_trade_rate_15s"] == 1.0
    assert row["tape_trade_rate_60s"] == 59 / 60


def test_one_timestamp_gives_no_slope_and_two_a_nanosecond_apart_an_exact_one():
    assert measure([ago(5, 10), ago(5, 12)])[0]["tape_price_slope_3s"] is None
    close = [(ASOF - 2, 10, 1, 1), (ASOF - 1, 11, 1, 1)]
    assert measure(close)[0]["tape_price_slope_3s"] == pytest.approx(0.25e9, rel=1e-12)


def sweep(trades, **changed):
    row = measure(trades, **changed)[0]
    return row["sweep_detected"], row["sweep_direction"], row["sweep_contracts"], row["sweep_notional"]


def test_a_sweep():
    run = [ago(300, LEVEL, 30), ago(200, LEVEL + 1, 20)]
    assert sweep(run) == (True, 1, 50, (30 * LEVEL + 20 * (LEVEL + 1)) * 0.25 * 50)
    assert sweep([ago(300, LEVEL, 30, -1), ago(200, LEVEL - 1, 20, -1)])[:3] == (True, -1, 50)


@pytest.mark.parametrize(
    ("trades", "why"),
    [
        ([ago(300, LEVEL, 30), ago(200, LEVEL, 30)], "one price level"),
        ([ago(300, LEVEL, 30), ago(200, LEVEL + 1, 30, -1)], "mixed signs"),
        ([ago(300, LEVEL, 30), ago(200, LEVEL + 1, 19)], "below the minimum"),
        ([ago(300, LEVEL, 60)], "one print"),
        ([(ASOF - 300 * MS_NS - 1, LEVEL, 30, 1), ago(200, LEVEL + 1, 30)], "gap too long"),
        ([ago(300, LEVEL, 30), ago(200, LEVEL + 21, 30)], "out of the band"),
    ],
)
def test_no_sweep(trades, why):
    assert sweep(trades) == (False, 0, 0, 0.0), why


def test_unknown_and_far_prints_do_not_interrupt_a_sweep():
    between = [ago(250, LEVEL, 9, 0), ago(250, LEVEL + 99, 9, -1)]
    assert sweep([ago(300, LEVEL, 30), *between, ago(200, LEVEL + 1, 20)])[:3] == (True, 1, 50)


def test_the_largest_sweep_wins_and_of_equals_the_later():
    first = [ago(900, LEVEL, 30), ago(890, LEVEL + 1, 30)]
    second = [ago(500, LEVEL, 30, -1), ago(490, LEVEL + 1, 30, -1)]
    assert sweep([*first, *second])[1:3] == (-1, 60)
    assert sweep([ago(910, LEVEL, 1), *first, *second])[1:3] == (1, 61)


def test_a_band_in_dollars_takes_the_points_ratio():
    points = points_table([(ASOF, LEVEL, 1)] * 2).append_column("es_spy_ratio", pa.array([10.0, 10.3]))
    trades = trades_table([ago(5, LEVEL + 21)])
    options = {k: v for k, v in PARAMETERS.items() if k != "band_ticks"}
    assert tape(points, trades, TAPE_BAND=0.5, **options)["tape_buy_vol"].to_pylist() == [0, 1]
    assert tape(points, trades, TAPE_BAND=0.5, es_spy_ratio=10.0, **options)["tape_buy_vol"].to_pylist() == [
        0,
        0,
    ]
    with pytest.raises(ValueError, match="twice or not at all"):
        tape(points, trades, **options)


def test_refusals():
    with pytest.raises(ValueError, match="multiple of grid_ms"):
        measure([], [(ASOF + 1, LEVEL, 1)])
    with pytest.raises(ValueError, match="W_t was"):
        measure([], W_t=0.05)
    with pytest.raises(ValueError, match="sort the rows"):
        measure([ago(1), ago(2)])


def test_nothing_in_gives_a_table_of_the_right_shape():
    assert tape(points_table([]), trades_table([]), **PARAMETERS).equals(TAPE_PHYSICS_SCHEMA.empty_table())


def twin(trades, asof, level):
    """The definitions, word for word; slopes in exact fractions."""
    row = {}
    inside = [t for t in trades if asof - 60 * SECOND_NS <= t[0] < asof and abs(t[1] - level) <= 20 and t[3]]
    buy, sell = (sum(t[2] for t in inside if t[3] == s) for s in (1, -1))
    row["tape_buy_vol"], row["tape_sell_vol"] = buy, sell
    row["tape_imbalance"] = (buy - sell) / (buy + sell + 1e-6) if buy + sell else None
    for w in (3, 15, 60):
        window = [t for t in trades if asof - w * SECOND_NS <= t[0] < asof]
        row[f"tape_trade_rate_{w}s"] = len(window) / w
        slope = None
        if len({t[0] for t in window}) > 1:
            x = [Fraction(t[0] - asof, SECOND_NS) for t in window]
            y = [Fraction(t[1], 4) for t in window]
            mx, my = sum(x) / len(x), sum(y) / len(y)
            slope = float(
                sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
            )
        row[f"tape_price_slope_{w}s"] = slope
    row["tape_velocity"] = row["tape_price_slope_60s"]
    clusters = []
    for t in inside:
        if clusters and clusters[-1][-1][3] == t[3] and t[0] - clusters[-1][-1][0] <= 100 * MS_NS:
            clusters[-1].append(t)
        else:
            clusters.append([t])
    best = None
    for c in clusters:
        contracts = sum(t[2] for t in c)
        if len(c) >= 2 and contracts >= 50 and len({t[1] for t in c}) >= 2 and contracts >= (best or (0,))[0]:
            best = (contracts, c[0][3], sum(t[1] * t[2] for t in c) * 0.25 * 50)
    row["sweep_detected"] = best is not None
    row["sweep_contracts"], row["sweep_direction"], row["sweep_notional"] = best or (0, 0, 0.0)
    row["tape_max_input_ts_ns"] = max(
        (t[0] for t in trades if asof - 60 * SECOND_NS <= t[0] < asof), default=None
    )
    return row


WORD = 2**18  # ns: sums of times are kept in words of this size


@pytest.mark.parametrize("spread_ns", [1, 3, WORD, 20 * WORD, 10_000 * WORD, 59 * SECOND_NS])
@pytest.mark.parametrize("seed", range(8))
def test_slopes_are_exact_at_every_spread_of_times(spread_ns, seed):
    """Prints within a few nanoseconds up to a minute, around an instant where the word of their time changes."""
    rng = np.random.default_rng(seed)
    middle = ASOF - 60 * SECOND_NS + WORD * (int(rng.integers(1, 59 * SECOND_NS // WORD)))
    spread = rng.integers(-spread_ns, spread_ns + 1, int(rng.integers(2, 300)))
    times = sorted(min(max(middle + int(d), ASOF - 60 * SECOND_NS), ASOF - 1) for d in [-1, 1, *spread])
    if seed % 2:
        times = sorted([*times, ASOF - 60 * SECOND_NS, ASOF - 1])
    trades = [(t, LEVEL + int(rng.integers(-40, 41)), 1, 1) for t in times]
    row, wanted = measure(trades)[0], twin(trades, ASOF, LEVEL)
    for name in (f"tape_price_slope_{w}s" for w in (3, 15, 60)):
        exact = wanted[name]
        assert row[name] == (exact if exact is None else pytest.approx(exact, rel=1e-12)), name


def same(got, wanted):
    for name, value in wanted.items():
        if isinstance(value, float):
            assert math.isclose(got[name], value, rel_tol=1e-9, abs_tol=1e-12), name
        else:
            assert got[name] == value, name


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_slow_twin_and_ignores_the_future(seed):
    rng = np.random.default_rng(seed)
    trades = random_trades(rng, int(rng.integers(0, 400)))
    span = trades[-1][0] - T0 if trades else SECOND_NS
    points = [
        (
            (T0 + int(rng.integers(0, span + SECOND_NS))) // (100 * MS_NS) * 100 * MS_NS,
            LEVEL + int(rng.integers(-30, 30)),
            1,
        )
        for _ in range(5)
    ]
    rows = measure(trades, points)
    for row, (asof, level, _) in zip(rows, points, strict=True):
        same(row, twin(trades, asof, level))

    cut = points[0][0]
    future = [(t + int(rng.integers(1, 9)), LEVEL, 99, 1) for t, *_ in trades if t >= cut]
    changed = [*(t for t in trades if t[0] < cut), (cut, LEVEL, 50, 1), *sorted(future)]
    assert measure(changed, points[:1]) == rows[:1]
