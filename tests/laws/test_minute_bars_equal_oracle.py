"""Minute bars are those of the oracle on any tape and any klines, and one pass over all dates equals single dates."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.oracle import minute_bars, worlds

START = datetime(2024, 12, 1, tzinfo=UTC)
MEASURES = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "bar_source")


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def trade(symbol: str, agg_id: int, time: datetime, price: str = "100", quantity: str = "1", **other) -> dict:
    return {
        "symbol": symbol, "market": "spot", "agg_id": agg_id, "price": Decimal(price), "quantity": Decimal(quantity),
        "first_trade_id": 3 * agg_id, "last_trade_id": 3 * agg_id + agg_id % 3, "exchange_time": time,
        "is_buyer_maker": agg_id % 2 == 0, **other,
    }  # fmt: skip


def kline(symbol: str, open_time: datetime, close: str = "100", **other) -> dict:
    value = Decimal(close)
    return {
        "symbol": symbol, "bar_interval": "1m", "open_time": open_time, "market": "spot",
        "close_time": open_time + timedelta(seconds=59, milliseconds=999), "open": value, "high": value + 1,
        "low": value - 1, "close": value, "volume": Decimal(7), "quote_volume": 7 * value, "trade_count": 5,
        "taker_buy_base": Decimal(3), "taker_buy_quote": 3 * value, **other,
    }  # fmt: skip


def built(pipeline: ExecutionPipeline, trades=(), klines=()) -> dict:
    pipeline.land(agg_trades=trades, klines=klines)
    pipeline.build("market_bars_1m")
    rows = pipeline.rows("market_bars_1m")
    assert all(r["bar_end"] == r["open_time"] + timedelta(minutes=1) for r in rows)
    assert all(r["date"] == r["open_time"].astimezone(UTC).date() for r in rows)
    found = {(r["symbol"], r["open_time"]): {n: r[n] for n in MEASURES} for r in rows}
    assert len(found) == len(rows)
    return found


def random_world(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Some hours around midnights: bursts, silences, holes, a second market and klines here and there."""
    trades, klines = [], []
    for symbol in ("BTCUSDC", "ETHUSDC"):
        for market in ("spot", "usdm"):
            if market == "usdm" and rng.random() < 0.5:
                continue
            agg_id = rng.randrange(1, 1000)
            time = START + timedelta(hours=22, seconds=rng.randrange(7_200))
            for _ in range(rng.randrange(1, 60)):
                quantity, price = f"{rng.randrange(1, 10**9)}e-8", f"{rng.randrange(10**9, 10**11)}e-8"
                trades.append(trade(symbol, agg_id, time, price, quantity, market=market))
                agg_id += 1 if rng.random() < 0.9 else rng.randrange(2, 5)
                longest = rng.choice((0.001, 20, 60, 300, 3_600, 100_000))
                time += timedelta(milliseconds=rng.randrange(int(longest * 1000)))
    for _ in range(rng.randrange(40)):
        klines.append(
            kline(
                rng.choice(("BTCUSDC", "ETHUSDC", "BNBUSDC")),
                START + timedelta(minutes=22 * 60 + rng.randrange(300)),
                str(rng.randrange(50, 150)),
                market=rng.choice(("spot", "spot", "usdm")),
                bar_interval=rng.choice(("1m", "1m", "1m", "5m")),
            )
        )
    unique = {(k["symbol"], k["market"], k["bar_interval"], k["open_time"]): k for k in klines}
    return trades, list(unique.values())


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=pytest.mark.long if s >= 8 else ()) for s in range(200)]
)
def test_bars_and_gaps_equal_the_oracle(pipeline, seed):
    trades, klines = random_world(worlds.seeded(seed))
    assert built(pipeline, trades, klines) == minute_bars.bars(trades, klines)

    gaps = pipeline.rows("agg_trade_gaps")
    expected = minute_bars.gaps(trades)
    assert sorted(
        (g["symbol"], g["market"], g["first_missing_agg_id"], g["last_missing_agg_id"]) for g in gaps
    ) == (
        sorted(
            (g["symbol"], g["market"], g["before"]["agg_id"] + 1, g["after"]["agg_id"] - 1) for g in expected
        )
    )
    assert sum(g["missing_trades"] for g in gaps) == sum(
        g["after"]["agg_id"] - g["before"]["agg_id"] - 1 for g in expected
    )
    assert {(g["before_time"], g["after_time"]) for g in gaps} == {
        (g["before"]["exchange_time"], g["after"]["exchange_time"]) for g in expected
    }


def test_worlds_have_what_the_laws_are_about():
    flat = holes = won = across = 0
    for seed in range(8):
        trades, klines = random_world(worlds.seeded(seed))
        bars = minute_bars.bars(trades, klines)
        tape_only = minute_bars.bars(trades, [])
        flat += sum(b["trade_count"] == 0 for b in bars.values())
        across += sum(b["trade_count"] == 0 and at.hour == 0 for (_, at), b in bars.items())
        holes += len(minute_bars.gaps(trades))
        won += len(set(tape_only) & {(k["symbol"], k["open_time"]) for k in klines})
    assert min(flat, holes, won, across) > 5


# -- by hand ---------------------------------------------------------------------------------------------------


def test_a_kline_wins_over_the_tape(pipeline):
    trades = [trade("BTCUSDC", 1, START), trade("BTCUSDC", 2, START + timedelta(minutes=1))]
    bars = built(pipeline, trades, [kline("BTCUSDC", START, "250")])
    assert bars["BTCUSDC", START]["close"] == 250
    assert bars["BTCUSDC", START + timedelta(minutes=1)]["close"] == 100


def test_silence_between_consecutive_numbers_is_flat_across_midnight(pipeline):
    midnight = START + timedelta(days=1)
    trades = [
        trade("BTCUSDC", 7, midnight - timedelta(minutes=3), "101"),
        trade("BTCUSDC", 8, midnight + timedelta(minutes=2, seconds=30), "102"),
    ]
    bars = built(pipeline, trades)
    closes = [bars["BTCUSDC", midnight + timedelta(minutes=m)]["close"] for m in range(-3, 3)]
    assert closes == [101, 101, 101, 101, 101, 102]
    assert [bars["BTCUSDC", midnight + timedelta(minutes=m)]["volume"] for m in (-1, 0)] == [0, 0]


def test_a_gap_takes_the_minutes_it_touches(pipeline):
    times = [START + timedelta(minutes=m, seconds=30) for m in (0, 1, 4, 5)]
    trades = [trade("BTCUSDC", n, t) for n, t in zip((1, 2, 4, 5), times, strict=True)]
    bars = built(pipeline, trades)
    assert sorted(at.minute for _, at in bars) == [0, 5]
    (gap,) = pipeline.rows("agg_trade_gaps")
    assert (gap["first_missing_agg_id"], gap["last_missing_agg_id"], gap["missing_trades"]) == (3, 3, 1)


def test_a_trade_landed_twice_counts_once(pipeline):
    again = trade("BTCUSDC", 1, START)
    bars = built(pipeline, [again, {**again, "loaded_at": START + timedelta(days=1)}])
    assert bars["BTCUSDC", START]["volume"] == 1


def test_no_trade_gives_no_bar(pipeline):
    assert built(pipeline) == {}
    assert pipeline.rows("agg_trade_gaps") == []
