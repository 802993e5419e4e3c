"""Balances, portfolios and their performance are those of the oracle on random worlds, to the last digit."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.laws.portfolio_kit import PAIRS, SYMBOLS, closes_of, fill, kline, movement, operation, snapshot
from tests.oracle import portfolio, worlds

STEPS = {s["symbol"]: Decimal(s["step_size"]) for s in SYMBOLS}
START = datetime(2024, 12, 1, tzinfo=UTC)
BALANCE = (
    "free",
    "locked",
    "borrowed",
    "interest",
    "net",
    "price_quote",
    "price_time",
    "value_quote",
    "quality_flags",
)
SUMS = (
    "total_equity_quote", "total_equity_btc", "spot_value", "margin_net_value", "margin_debt", "margin_level_min",
    "margin_band", "net_external_flow_since_prev", "drawdown_pct", "unpriced_assets",
    "is_complete", "quality_flags",
)  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def amount(rng: random.Random, largest: int = 10) -> str:
    return str(rng.choice((0, 0, 1, Decimal(rng.randrange(largest * 10**8)).scaleb(-8))))


def random_snapshot(rng: random.Random, client_id: int, time: datetime) -> dict:
    """A flat one or a list, sometimes with parts missing; stored at once or days later."""
    late = timedelta(seconds=rng.choice((0, 1, 3_600, 200_000)))
    if rng.random() < 0.4:
        columns = ("spot_btc", *(f"margin_{a}_{b}" for a in ("btc", "usdc") for b in ("free", "borrowed")))
        flat = {name: amount(rng, 3) for name in columns if rng.random() < 0.9}
        flat["spot_usdc"] = amount(rng, 500)
        return snapshot(
            client_id, time, late=late, btc_price=rng.choice((None, 0, 87_000, "91000.5")), **flat
        )
    held = []
    for account, symbol, asset in (
        ("SPOT", None, "USDC"), ("SPOT", None, "BTC"), ("SPOT", "", "BNB"), ("SPOT", None, "XYZ"),
        ("ISOLATED_MARGIN", "BTCUSDC", "BTC"), ("ISOLATED_MARGIN", "BTCUSDC", "USDC"),
        ("ISOLATED_MARGIN", "ETHUSDC", "ETH"), ("ISOLATED_MARGIN", "ETHUSDC", "USDC"),
        ("CROSS_MARGIN", None, "USDC"), ("CROSS_MARGIN", None, "BTC"), ("FUTURES", None, "USDC"),
    ):  # fmt: skip
        if rng.random() < (0.04 if asset == "XYZ" else 0.5):
            parts = {"free": amount(rng), "locked": amount(rng)}
            if account != "SPOT":
                parts |= {"borrowed": amount(rng), "interest": amount(rng)}
            if rng.random() < 0.03:
                parts.pop(rng.choice([*parts]))
            held += [{"account_type": account, "symbol": symbol, "asset": asset, **parts}] * rng.choice(
                (1, 1, 1, 2)
            )
    held.append(
        {"account_type": "SPOT", "symbol": None, "asset": "USDC", "free": amount(rng, 900), "locked": "0"}
    )
    return snapshot(client_id, time, late=late, balances=held)


def random_operations(
    rng: random.Random, client_id: int, closes: dict
) -> tuple[list[dict], list[dict], list[dict]]:
    """Operations that are scaled in and out, some closed, some with dust, one sold beyond what it had."""
    operations, trades, ledger = [], [], []
    for number in range(rng.randrange(2, 6)):
        symbol, side = rng.choice(("BTCUSDC", "BTCUSDC", "ETHUSDC", "ETHBTC")), rng.choice(("BUY", "SELL"))
        operation_id, time = 100 * client_id + number, START + timedelta(seconds=rng.randrange(3 * 86_400))
        operations.append(operation(client_id, operation_id, symbol, side, time))
        held = Decimal(0)
        for _ in range(rng.randrange(1, 7)):
            is_entry = held <= 0 or rng.random() < 0.4
            quantity = Decimal(rng.randrange(1, 10**8)).scaleb(-8)
            if not is_entry:
                quantity = rng.choice((held, min(quantity, held), held - Decimal("0.00001"), held * 2))
            if quantity <= 0:
                continue
            own, traded = fill(
                client_id, operation_id, symbol, side if is_entry else {"BUY": "SELL", "SELL": "BUY"}[side], time,
                str(Decimal(rng.randrange(10**6, 10**9)).scaleb(-4)), str(quantity),
            )  # fmt: skip
            if rng.random() < 0.3:
                own |= {"commission": "0.00000100", "commission_asset": symbol[:3]}
            trades.append(own)
            ledger.append(traded)
            held += quantity if is_entry else -quantity
            time += timedelta(seconds=rng.choice((0, 1, 600, 86_400)))
    if trades and rng.random() < 0.5:  # a snapshot of the very instant
        closes[client_id] = rng.choice(trades)["exchange_time"]
    return operations, trades, ledger


def random_world(rng: random.Random, days: int = 4) -> dict:
    """Three clients over some days, snapshots of two of them at the same instants; prices come and go."""
    klines = []
    for symbol, first in (("BTCUSDC", 88_000), ("ETHUSDC", 3_000), ("BNBUSDC", 700), ("BNBUSDT", 1)):
        minute, close = START - timedelta(minutes=30), float(first)
        while minute < START + timedelta(days=days):
            close = max(close * (1 + rng.gauss(0, 0.01)), 1)
            klines.append(kline(symbol, minute, str(round(close, 2))))
            minute += timedelta(minutes=rng.choice((1, 7, 30, 59) if rng.random() < 0.95 else (70, 300)))
    times = sorted(START + timedelta(seconds=rng.randrange(days * 86_400)) for _ in range(8))
    times += [START + timedelta(minutes=rng.randrange(days * 1_250)) for _ in range(3)]
    snapshots, ledger, operations, trades = [], [], [], []
    instants: dict[int, datetime] = {}
    for client_id in (1, 999):
        found = random_operations(rng, client_id, instants)
        operations, trades, ledger = operations + found[0], trades + found[1], ledger + found[2]
    for client_id in (1, 2, 999):
        own = (
            set(times)
            if client_id != 999
            else {START + timedelta(hours=rng.randrange(days * 24)) for _ in range(6)}
        )
        for time in sorted({*own, *([instants[client_id]] if client_id in instants else [])}):
            found = random_snapshot(rng, client_id, time)
            snapshots.append(found)
            if rng.random() < 0.2:  # stored once more, another day: the first landing counts
                later = found["ingested_at"] + timedelta(days=rng.randrange(3), seconds=1)
                snapshots.append(
                    {**found, "btc_price": 1, "balances": [], "ingested_at": later, "loaded_at": later}
                )
        for _ in range(rng.randrange(8)):
            time = (
                rng.choice([*own])
                if rng.random() < 0.3
                else START + timedelta(seconds=rng.randrange(days * 86_400))
            )
            kind, status = rng.choice(("DEPOSIT", "WITHDRAWAL", "DEPOSIT", "TRANSFER_TO_MARGIN")), "FILLED"
            if rng.random() < 0.2:
                status = rng.choice(("PENDING", "FAILED", "CANCELLED", "PARTIALLY_FILLED"))
            asset = rng.choice(("USDC", "USDC", "USDC", "BTC", "XYZ") if rng.random() < 0.4 else ("USDC",))
            ledger.append(movement(client_id, kind, time, asset, amount(rng, 50), status=status))
    return {
        "klines": klines,
        "balance_snapshots": snapshots,
        "orders": ledger,
        "operations": operations,
        "trades": trades,
    }


def with_sides(world: dict, client_id: int) -> list[dict]:
    """The fills of a client as the oracle wants them: with their operation and its side."""
    orders = {
        m["binance_order_id"]: m["related_operation_id"] for m in world["orders"] if m.get("binance_order_id")
    }
    sides = {o["operation_id"]: o["side"] for o in world["operations"]}
    assets = {s["symbol"]: s for s in SYMBOLS}
    return [
        {
            **assets[t["symbol"]],
            **t,
            **{n: Decimal(t[n]) for n in ("price", "quantity", "commission")},
            "operation_id": orders[t["order_id"]],
            "is_long": sides[orders[t["order_id"]]] == "BUY",
            "is_entry": sides[orders[t["order_id"]]] == t["side"],
        }
        for t in world["trades"]
        if t["client_id"] == client_id
    ]


def first_landings(snapshots: list[dict]) -> list[dict]:
    found: dict[tuple, dict] = {}
    for one in sorted(snapshots, key=lambda s: s.get("loaded_at") or s["ingested_at"]):
        found.setdefault((one["client_id"], one["snapshot_time"]), one)
    return list(found.values())


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=pytest.mark.long if s >= 6 else ()) for s in range(150)]
)
def test_balances_and_portfolios_equal_the_oracle(pipeline, seed):
    world = random_world(worlds.seeded(seed))
    pipeline.land(**world)
    pipeline.build("portfolio_daily", "balance_snapshots")
    prices = portfolio.Prices(closes_of(world["klines"]), PAIRS)
    kept = first_landings(world["balance_snapshots"])

    balances = {
        (r["client_id"], r["snapshot_time"], r["account_type"], r["symbol"], r["asset"]): {
            n: r[n] for n in BALANCE
        }
        for r in pipeline.rows("balance_snapshots")
    }
    expected = {
        (s["client_id"], s["snapshot_time"], r["account_type"], r["symbol"], r["asset"]): {
            n: r[n] for n in BALANCE
        }
        for s in kept
        for r in portfolio.valued(s, prices)
    }
    assert balances == expected

    found = {(r["client_id"], r["snapshot_time"]): r for r in pipeline.rows("portfolio_snapshots")}
    days = {(r["client_id"], r["date"]): r["snapshot_time"] for r in pipeline.rows("portfolio_daily")}
    performance = {r["client_id"]: r for r in pipeline.rows("portfolio_performance")}
    seen = 0
    for client_id in (1, 2, 999):
        own = [s for s in kept if s["client_id"] == client_id]
        ledger = [
            m | {"event_time": m["executed_at"]} for m in world["orders"] if m["client_id"] == client_id
        ]
        rows = portfolio.portfolios(own, ledger, prices)
        fills = with_sides(world, client_id)
        for row, one_snapshot in zip(rows, sorted(own, key=lambda s: s["snapshot_time"]), strict=True):
            one = found[client_id, row["snapshot_time"]]
            profit = portfolio.unrealized(fills, row["snapshot_time"], prices.beside(one_snapshot), STEPS)
            assert one["unrealized_pnl"] == profit
            row["quality_flags"] = sorted(row["quality_flags"] + ["UNREALIZED_UNPRICED"] * (profit is None))
            assert {n: one[n] for n in SUMS} == {n: row[n] for n in SUMS}, row["snapshot_time"]
            period, index = row["twr_period_return"], row["index"]
            assert one["twr_period_return"] == (
                period if period is None else pytest.approx(period, rel=Decimal("1e-13"))
            )
            assert one["twr_index"] == (
                None if index is None else pytest.approx(float(index), rel=1e-12, abs=1e-300)
            )
            assert one["date"] == row["snapshot_time"].date()
            seen += 1
        by_day = portfolio.daily(rows)
        assert {d: t for (c, d), t in days.items() if c == client_id} == {
            d: r["snapshot_time"] for d, r in by_day.items()
        }
        if by_day:
            told = portfolio.performance(by_day)
            assert {n: performance[client_id][n] for n in told} == told
    assert seen == len(found)


def test_worlds_have_what_the_laws_are_about():
    flags, bands, returns, falls, profits = set(), set(), 0, 0, []
    for seed in range(6):
        world = random_world(worlds.seeded(seed))
        prices = portfolio.Prices(closes_of(world["klines"]), PAIRS)
        for client_id in (1, 2, 999):
            own = [s for s in first_landings(world["balance_snapshots"]) if s["client_id"] == client_id]
            ledger = [
                m | {"event_time": m["executed_at"]} for m in world["orders"] if m["client_id"] == client_id
            ]
            for row in portfolio.portfolios(own, ledger, prices):
                flags |= set(row["quality_flags"])
                bands.add(row["margin_band"])
                returns += row["twr_period_return"] is not None
                falls += (row["drawdown_pct"] or 0) < 0
            fills = with_sides(world, client_id)
            profits += [portfolio.unrealized(fills, s["snapshot_time"], prices.beside(s), STEPS) for s in own]
            flags |= {f for s in own for r in portfolio.valued(s, prices) for f in r["quality_flags"]}
    assert flags == {
        "FLOW_UNPRICED", "INCOMPLETE", "MARGIN_LEVEL_UNKNOWN", "NO_EQUITY_BEFORE", "BALANCE_UNKNOWN",
        "LOCKED_INTEREST_UNKNOWN", "PRICE_OF_SNAPSHOT", "UNPRICED",
    }  # fmt: skip
    assert {"SAFE", "DANGER", None} <= bands
    assert min(returns, falls) > 10
    assert sum(p is None for p in profits) > 3
    assert sum(p is not None and p != 0 for p in profits) > 3
