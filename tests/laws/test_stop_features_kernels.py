"""Kernels under the features of a stop equal the oracle on random worlds: missing bars, ties, late events."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from physics.bar_windows import bar_moves, bar_windows
from physics.decimals import decimal_halves, decimals, joined, split
from physics.failure_runs import failure_runs
from physics.tape_flow import tape_flow
from tests.laws.test_kernels_equal_oracle import seeds
from tests.oracle import stop_features as oracle

MONDAY = datetime(2024, 12, 23, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def approx(value: float | None) -> object:
    """None is None; a double is one to its last bits."""
    return None if value is None else pytest.approx(value, rel=1e-14, abs=1e-15)


def us(t: datetime | None) -> int | None:
    return None if t is None else (t - EPOCH) // timedelta(microseconds=1)


def bars_table(bars: dict[str, list[dict]]) -> pa.Table:
    rows = [(s, b) for s in sorted(bars) for b in bars[s]]
    return pa.table(
        {
            "symbol": pa.array([s for s, _ in rows], pa.string()),
            "open_minute": pa.array([us(b["open_time"]) // 60_000_000 for _, b in rows], pa.int64()),
            "close": pa.array([float(b["close"]) for _, b in rows], pa.float64()),
            "volume": pa.array([b["volume"] for _, b in rows], pa.decimal128(20, 8)),
            "quote_volume": pa.array([b["quote_volume"] for _, b in rows], pa.decimal128(20, 8)),
        }
    )


def random_bars(rng: random.Random, days: int, missing: float, scale: int) -> list[dict]:
    bars, price = [], 10_000
    for i in range(days * 1440):
        price = max(1, price + rng.choice((-30, -7, 0, 0, 7, 30)))
        if rng.random() >= missing:
            volume = Decimal(rng.randrange(0, 5 * 10**8) * scale).scaleb(-8)
            bars.append(
                {
                    "open_time": MONDAY + i * MINUTE,
                    "close": Decimal(price).scaleb(-2),
                    "volume": volume,
                    "quote_volume": Decimal(rng.randrange(0, 10**10) * scale).scaleb(-8),
                }
            )
    return bars


def windows_and_moves(table: pa.Table, built: date | None = None) -> dict[tuple, dict]:
    """What both kernels say of each symbol and minute."""
    found = [k(table, built).read_all().to_pylist() for k in (bar_windows, bar_moves)]
    windows, moves = ({(r["symbol"], r["minute"]): r for r in rows} for rows in found)
    assert windows.keys() == moves.keys()
    assert all(moves[k]["bar_count_24h"] == windows[k]["bar_count_24h"] for k in windows)
    return {k: moves[k] | windows[k] for k in windows}


@seeds(2, 32)
def test_bar_windows_equal_the_oracle(seed: int):
    rng = random.Random(seed)  # noqa: S311
    scale = rng.choice((1, 10**9))  # the second: sums of a day pass 64 bits
    bars = {
        s: random_bars(rng, 3, rng.choice((0.0, 0.02, 0.045, 0.4)), scale) for s in ("BTCUSDC", "ETHUSDC")
    }
    rows = windows_and_moves(bars_table(bars))
    for symbol, of in bars.items():
        for i in [*rng.sample(range(3 * 1440), 40), 0, 1, 15, 1440, 3 * 1440 - 1]:
            m = MONDAY + i * MINUTE
            window = oracle.bars_between(of, m, 1440)
            row = rows.get((symbol, m))
            assert (row is None) == (not window)
            if row is None:
                continue
            assert row["date"] == m.date()
            assert row["last_bar_end"] == max(window) + MINUTE
            assert row["bar_count_24h"] == len(window)
            assert row["volume_24h"] == sum(b["quote_volume"] for b in window.values())
            assert row["volume_24h_base"] == sum(b["volume"] for b in window.values())
            assert row["return_count_15m"] == len(oracle.returns(of, m, 15))
            if row["bar_count_24h"] >= 1368:
                middle = float(oracle.median_volume(of, m))
                assert row["median_volume_1m"] == pytest.approx(middle, rel=1e-15)
            if row["return_count_15m"] >= 10:
                found = Decimal(row["volatility_15m"]).quantize(Decimal("0.000001"))
                assert found == oracle.volatility_15m(of, m)
            for name, minutes in (("rv_5m", 5), ("rv_1h", 60)):
                assert row[name] == approx(oracle.realised(of, m, minutes))
            assert row["last_minute_return"] == oracle.last_minute_return(of, m)


def test_a_date_hangs_on_its_own_day_and_the_one_before():
    """Bit for bit, whatever else was read."""
    bars = {s: random_bars(random.Random(s), 4, 0.03, 10**9) for s in ("BTCUSDC", "ETHUSDC")}  # noqa: S311
    whole = windows_and_moves(bars_table(bars))
    for day in range(1, 4):
        start = MONDAY + timedelta(days=day - 1)
        two = {
            s: [b for b in of if start <= b["open_time"] < start + timedelta(days=2)]
            for s, of in bars.items()
        }
        built = (MONDAY + timedelta(days=day)).date()
        alone = windows_and_moves(bars_table(two), built)
        assert alone == {k: r for k, r in whole.items() if r["date"] == built}
        assert len(alone) == 2 * 1440


@pytest.mark.parametrize("kernel", [bar_windows, bar_moves])
def test_minutes_that_are_asked_for_have_the_rows_of_every_minute(kernel):
    """Bit for bit; in whatever order, and once however often they are asked for."""
    bars = {s: random_bars(random.Random(s), 3, 0.3, 1) for s in ("BTCUSDC", "ETHUSDC")}  # noqa: S311
    bars["BTCUSDC"] = [b for b in bars["BTCUSDC"] if b["open_time"] < MONDAY + 1450 * MINUTE]  # then silence
    dark = MONDAY + timedelta(days=1)
    bars = {s: [b for b in of if b["open_time"].date() != dark.date()] for s, of in bars.items()}
    table = bars_table(bars)
    every = {(r["symbol"], r["minute"]): r for r in kernel(table).read_all().to_pylist()}
    rng = random.Random(4)  # noqa: S311
    asked = [
        (rng.choice(("ETHUSDC", "BTCUSDC", "NEVERSEEN")), rng.randrange(-2000, 4 * 1440)) for _ in range(300)
    ]
    asked += [("ETHUSDC", 2 * 1440 + 7), ("ETHUSDC", 1440 + 30), ("BTCUSDC", 1439), *asked[:50]]
    wanted = pa.table(
        {
            "symbol": pa.array([s for s, _ in asked], pa.string()),
            "minute": pa.array([us(MONDAY) // 60_000_000 + i for _, i in asked], pa.int64()),
        }
    )
    found = kernel(table, asked=wanted).read_all().to_pylist()
    keys = {(s, MONDAY + i * MINUTE) for s, i in asked}
    assert found == [r for k, r in sorted(every.items()) if k in keys]
    assert ("ETHUSDC", dark + 30 * MINUTE) not in {(r["symbol"], r["minute"]) for r in found}
    assert len(found) > 50
    assert kernel(table, asked=wanted.slice(0, 0)).read_all().num_rows == 0


def test_bars_come_in_any_order():
    bars = {s: random_bars(random.Random(s), 2, 0.1, 1) for s in ("BTCUSDC", "ETHUSDC")}  # noqa: S311
    table = bars_table(bars)
    mixed = table.take(np.random.default_rng(7).permutation(table.num_rows))
    assert windows_and_moves(mixed) == windows_and_moves(table)
    with pytest.raises(ValueError, match="ETHUSDC had two bars of minute"):
        bar_windows(pa.concat_tables([table, table.slice(table.num_rows - 1)]))


def test_nothing_in_nothing_out():
    assert bar_windows(bars_table({})).read_all().num_rows == 0
    assert failure_runs(terminals_table([])).num_rows == 0
    assert tape_flow(points_table([]), trades_table([])).num_rows == 0


def test_decimals_survive_their_halves():
    values = [
        Decimal(v).scaleb(-8) for v in (0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 10**20 - 1)
    ]
    column = pa.chunked_array(
        [pa.array(values[:4], pa.decimal128(20, 8)), pa.array(values[4:], pa.decimal128(20, 8))]
    )
    halves = decimal_halves(column.slice(1))
    parts = [split(*half) for half in halves]
    assert [int(above) << 32 | int(below) for above, below in parts] == [int(v.scaleb(8)) for v in values[1:]]
    back = np.array([joined(*part) for part in parts])
    assert decimals(back, pa.decimal128(28, 8)).to_pylist() == values[1:]
    sums = np.sum(parts, axis=0)
    assert decimals(np.array([joined(*sums)]), pa.decimal128(28, 8)).to_pylist() == [sum(values[1:])]


# -- runs of failures ------------------------------------------------------------------------------------------------


def terminals_table(terminals: list[dict]) -> pa.Table:
    ordered = sorted(terminals, key=lambda e: (e["client_id"], e["symbol"], e["occurred"], e["failed"]))
    return pa.table(
        {
            "client_id": pa.array([e["client_id"] for e in ordered], pa.int64()),
            "symbol": pa.array([e["symbol"] for e in ordered], pa.string()),
            "occurred_us": pa.array([us(e["occurred"]) for e in ordered], pa.int64()),
            "available_us": pa.array([us(e["available"]) for e in ordered], pa.int64()),
            "unusable_from_us": pa.array([us(e["unusable"]) for e in ordered], pa.int64()),
            "is_failure": pa.array([e["failed"] for e in ordered], pa.bool_()),
            "event_seq": pa.array(range(len(ordered)), pa.int64()),
        }
    )


def run_at(terminals: list[dict], client_id: int, symbol: str, t: datetime) -> int:
    hour = timedelta(hours=1)
    seen = [
        (e["occurred"], e["failed"])
        for e in terminals
        if (e["client_id"], e["symbol"]) == (client_id, symbol)
        and t - hour <= e["occurred"] < t
        and e["available"] < t
        and (e["unusable"] is None or t <= e["unusable"])
    ]
    run = 0
    for _, failed in sorted(seen, reverse=True):
        if not failed:
            return run
        run += 1
    return run


@seeds(4, 62)
def test_runs_hold_between_their_rows(seed: int):
    rng = random.Random(seed)  # noqa: S311
    terminals = []
    for _ in range(150):
        occurred = MONDAY + timedelta(minutes=rng.randrange(0, 2 * 1440, rng.choice((1, 7, 60))))
        lag = timedelta(minutes=rng.choice((0, 0, 0, 1, 20, 59, 60, 61)))
        revoked = rng.random() < 0.2
        terminals.append(
            {
                "client_id": rng.choice((1, 2)),
                "symbol": rng.choice(("BTCUSDC", "ETHUSDC")),
                "occurred": occurred,
                "available": occurred + lag,
                "failed": rng.random() < 0.7,
                "unusable": occurred + timedelta(minutes=rng.randrange(0, 90)) if revoked else None,
            }
        )
    for e in terminals:
        e["unusable"] = e["unusable"] if e["failed"] else None
    rows = failure_runs(terminals_table(terminals)).to_pylist()
    for _ in range(300):
        client, symbol = rng.choice((1, 2)), rng.choice(("BTCUSDC", "ETHUSDC"))
        t = MONDAY + timedelta(minutes=rng.randrange(0, 2 * 1440 + 90), microseconds=rng.choice((0, 0, 1)))
        before = [r for r in rows if (r["client_id"], r["symbol"]) == (client, symbol) and r["known_at"] < t]
        last = before[-1] if before else None
        stands = last is not None and last["known_at"] >= t - timedelta(hours=1)
        found = last["consecutive_failures_1h"] if stands else 0
        assert found == run_at(terminals, client, symbol, t)
    for day in range(2):  # a date hangs on its own terminals and those of the day before
        start = MONDAY + timedelta(days=day - 1)
        near = [e for e in terminals if start <= e["occurred"] < start + timedelta(days=2)]
        built = (MONDAY + timedelta(days=day)).date()
        alone = failure_runs(terminals_table(near), built).to_pylist()
        whole = [r for r in rows if r["date"] == built]
        for of in (alone, whole):
            for r in of:
                r.pop("max_event_seq", None)  # numbers of this table's rows
        assert alone == whole


def test_terminals_out_of_order_are_refused():
    at = MONDAY + timedelta(hours=1)
    base = {"client_id": 1, "symbol": "A", "occurred": at, "available": at, "unusable": None, "failed": True}
    table = terminals_table([base, {**base, "failed": False}])
    with pytest.raises(ValueError, match="order of"):
        failure_runs(table.take([1, 0]))


# -- tape ------------------------------------------------------------------------------------------------------------


def points_table(points: list[tuple[str, datetime]]) -> pa.Table:
    ordered = sorted(points)
    return pa.table(
        {
            "point": pa.array([f"{s} {t}" for s, t in ordered], pa.string()),
            "symbol": pa.array([s for s, _ in ordered], pa.string()),
            "event_us": pa.array([us(t) for _, t in ordered], pa.int64()),
        }
    )


def trades_table(trades: list[dict]) -> pa.Table:
    return pa.table(
        {
            "symbol": pa.array([x["symbol"] for x in trades], pa.string()),
            "exchange_us": pa.array([us(x["exchange_time"]) for x in trades], pa.int64()),
            "price": pa.array([float(x["price"]) for x in trades], pa.float64()),
            "quantity": pa.array([x["quantity"] for x in trades], pa.decimal128(20, 8)),
            "is_buyer_maker": pa.array([x["is_buyer_maker"] for x in trades], pa.bool_()),
        }
    )


@seeds(3, 41)
def test_tape_flow_equals_the_oracle(seed: int):
    rng = random.Random(seed)  # noqa: S311
    scale = rng.choice((1, 10**10))
    trades = [
        {
            "symbol": symbol,
            "exchange_time": MONDAY + timedelta(milliseconds=at),
            "price": Decimal(rng.randrange(9900, 10100)).scaleb(-2),
            "quantity": Decimal(rng.randrange(1, 10**9) * scale).scaleb(-8),
            "is_buyer_maker": rng.random() < 0.4,
        }
        for symbol in ("BTCUSDC", "ETHUSDC")
        for at in sorted(rng.randrange(0, 1_800_000, rng.choice((1, 1000))) for _ in range(600))
    ]
    symbols = ("BTCUSDC", "ETHUSDC", "NONEUSDC")
    points = [(rng.choice(symbols), MONDAY + timedelta(seconds=rng.randrange(0, 2400))) for _ in range(100)]
    rows = tape_flow(points_table(points), trades_table(trades)).to_pylist()
    for (symbol, t), row in zip(sorted(points), rows, strict=True):
        of = [x for x in trades if x["symbol"] == symbol]
        assert row["point"] == f"{symbol} {t}"
        assert row["signed_imbalance_1m"] == approx(oracle.imbalance(of, t, MINUTE))
        assert row["signed_imbalance_5m"] == approx(oracle.imbalance(of, t, 5 * MINUTE))
        assert row["rv_1m"] == approx(oracle.tape_volatility(of, t))


def test_the_golden_row_of_the_specification():
    """16 closes, and 1,400 bars of 10,000 (spec/execution.md 5.1)."""
    text = "100 101 100.5 100.5 102 101.5 101.5 101 100 100.2 100.4 100.6 100.8 101 101.2 101.1"
    closes = text.split()
    m = datetime(2024, 12, 27, 14, 37, tzinfo=UTC)
    plain = {"volume": Decimal(1), "quote_volume": Decimal(10_000)}
    bars = [{"open_time": m - (16 - i) * MINUTE, "close": Decimal(c), **plain} for i, c in enumerate(closes)]
    earlier = [{"open_time": m - (1440 - i) * MINUTE, "close": Decimal(100), **plain} for i in range(1384)]
    row = windows_and_moves(bars_table({"BTCUSDC": earlier + bars}), date(2024, 12, 27))["BTCUSDC", m]
    assert round(row["volatility_15m"], 6) == 0.006020
    assert (row["bar_count_24h"], row["volume_24h"]) == (1400, Decimal(14_000_000))
    assert row["return_count_15m"] == 15
    assert row["median_volume_1m"] == 1
