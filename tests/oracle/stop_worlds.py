"""Random worlds of stops: events, minute bars and a tape, as dicts that both the pipeline and the oracle read."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

START = datetime(2024, 12, 26, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SYMBOLS = ("BTCUSDC", "ETHUSDC")
PRODUCERS = ("ws", "cron", "manual", "rust")

Row = dict[str, Any]


class World:
    """Two days of bars, one of stops. ETHUSDC has a whole tape beside whole klines; of BTCUSDC some klines are missing
    and there is no tape, so that no bar is made of trades: those of a silent minute hang on the trade after it."""

    def __init__(self, seed: int, stops: int = 120) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self.numbers = 0
        self.events: list[Row] = []
        self.bars = {s: self._bars(0.012 if s == "BTCUSDC" else 0.0) for s in SYMBOLS}
        self.trades = self._tape()
        for token in range(stops):
            self._stop(f"token-{token}")
        for number, event in enumerate(sorted(self.events, key=lambda e: (e["occurred_at"], e["event_id"]))):
            event["event_seq"] = number + 1

    def _bars(self, missing: float) -> list[Row]:
        found, price = [], 1_000_000
        for i in range(2 * 1440):
            price += self.rng.choice((-900, -50, 0, 0, 50, 900))
            if self.rng.random() >= missing and not (missing and 2000 <= i < 2007):
                found.append(bar(START + i * MINUTE, price, self.rng.randrange(0, 10**9)))
        return found

    def _tape(self) -> list[Row]:
        found = []
        for i in range(2500):
            at = (
                START
                + timedelta(hours=23)
                + timedelta(seconds=i * 36, milliseconds=self.rng.randrange(20_000))
            )
            found.append(
                {
                    "symbol": "ETHUSDC",
                    "agg_id": 1000 + i,
                    "exchange_time": at,
                    "price": Decimal(self.rng.randrange(9_990, 10_010)),
                    "quantity": Decimal(self.rng.randrange(1, 10**10)).scaleb(-8),
                    "is_buyer_maker": self.rng.random() < 0.5,
                }
            )
        return found

    def _event(
        self, token: Row, kind: str, at: datetime, lag: timedelta = timedelta(0), **fields: Any
    ) -> None:
        self.numbers += 1
        payload = fields.pop("payload", {})
        given = {"fill_price": None, "exchange_order_id": None, "trigger_price": None, **token, **fields}
        self.events.append(
            {
                **given,
                "event_id": f"00000000-0000-0000-0000-{self.numbers:012d}",
                "event_type": kind,
                "occurred_at": at,
                "ingested_at": at + lag,
                "payload": payload,
            }
        )

    def _lag(self) -> timedelta:
        return self.rng.choice(
            (
                timedelta(0),
                timedelta(seconds=2),
                timedelta(seconds=2),
                timedelta(minutes=9),
                timedelta(hours=3),
            )
        )

    def _stop(self, name: str) -> None:
        rng = self.rng
        at = (
            START + timedelta(days=1) + timedelta(seconds=rng.randrange(60, 86_000, rng.choice((1, 60, 600))))
        )
        stop = Decimal(rng.randrange(900_000, 1_000_000)).scaleb(-2)
        token = {
            "client_id": rng.choice((1, 1, 2)),
            "operation_id": rng.randrange(1, 50),
            "symbol": rng.choice(SYMBOLS),
            "execution_token": name,
            "trigger_type": rng.choice(("STOP_LOSS", "TAKE_PROFIT")),
            "stop_price": stop,
            "quantity": Decimal(rng.randrange(1, 10**6)).scaleb(-5),
            "side": rng.choice(("BUY", "SELL")),
            "source": rng.choice(PRODUCERS),
        }
        shape = rng.choice(("TSX", "TSX", "TSF", "TSF", "TSF", "TF", "F", "TBF", "TSFX", "TSXX", "T", "TSFF"))
        price = stop * Decimal(rng.randrange(995, 1006)) / 1000
        second = timedelta(seconds=1)
        order, fills = f"order-{name}", [{"trade_id": str(self.numbers), "price": str(price), "qty": "1"}]
        for step, kind in enumerate(shape):
            then = at + step * rng.choice((0, 1, 2)) * second
            if kind == "T":
                payload = {
                    "entry_price": stop * Decimal(rng.randrange(980, 1030)) / 1000,
                    "entry_placed_at": at - rng.randrange(1, 90_000) * second - timedelta(milliseconds=250),
                    "entry_time": at - rng.randrange(0, 80_000) * second,
                    "price_age_ms": rng.randrange(0, 900),
                    "spread_bps_at_trigger": Decimal(rng.randrange(1, 99_999)).scaleb(-4),
                    "top_depth_quote": Decimal(rng.randrange(1, 10**12)).scaleb(-8),
                }
                for key in rng.sample(sorted(payload), rng.choice((0, 0, 1, 3))):
                    del payload[key]
                self._event(token, "STOP_TRIGGERED", at, self._lag(), trigger_price=price, payload=payload)
            elif kind == "S":
                self._event(token, "EXECUTION_SUBMITTED", then)
            elif kind == "B":
                self._event(token, rng.choice(("BLOCKED", "KILL_SWITCH", "STALE_PRICE")), then, self._lag())
            elif kind == "F":
                again = shape[:step].count("F") * timedelta(minutes=3)
                lag = timedelta(0) if shape.count("F") > 1 else self._lag()
                self._event(token, "FAILED", then + again, lag, payload={"canary_outcome": "false"})
            else:
                late = (
                    rng.choice((1, 20, 70)) * MINUTE if shape == "TSFX" else shape[:step].count("X") * MINUTE
                )
                self._event(
                    token,
                    "EXECUTED",
                    then + late,
                    timedelta(0) if shape == "TSXX" else self._lag(),
                    fill_price=price,
                    exchange_order_id=order,
                    payload={"canary_outcome": "true", "fills": fills},
                )

    @property
    def triggers(self) -> list[Row]:
        return [e for e in self.events if e["event_type"] == "STOP_TRIGGERED"]


def bar(open_time: datetime, price: int, volume: int) -> Row:
    """A bar of hundredths of the quote asset and 1e-8 of the base asset."""
    close = Decimal(price).scaleb(-2)
    return {
        "open_time": open_time,
        "close": close,
        "volume": Decimal(volume).scaleb(-8),
        "quote_volume": Decimal(volume * price % 10**12).scaleb(-8),
    }


def before(world: World, trigger: Row) -> dict[str, Any]:
    """What could be known at a trigger: bars that have ended, trades before it, events that were stored before it, and
    the trigger itself; nothing else of its own execution."""
    t = trigger["occurred_at"]
    return {
        "bars": {s: [b for b in bars if b["open_time"] + MINUTE <= t] for s, bars in world.bars.items()},
        "trades": [x for x in world.trades if x["exchange_time"] < t],
        "events": [
            e
            for e in world.events
            if e is trigger
            or (
                e["execution_token"] != trigger["execution_token"]
                and max(e["occurred_at"], e["ingested_at"]) < t
            )
        ],
    }


def other_future(world: World, trigger: Row, seed: int) -> dict[str, Any]:
    """The same past, and a future of another world: its bars, its trades, its events."""
    t, past = trigger["occurred_at"], before(world, trigger)
    other = World(seed, stops=80)
    for number, e in enumerate(other.events):
        e["event_id"] = f"00000000-0000-0000-0001-{number:012d}"
        e["execution_token"] = f"other-{e['execution_token']}"
        e["event_seq"] += 1_000_000
    own_end = {
        **{
            k: trigger[k]
            for k in ("client_id", "operation_id", "symbol", "execution_token", "side", "source")
        },
        **{k: trigger[k] for k in ("trigger_type", "quantity")},
        "event_id": "00000000-0000-0000-0002-000000000000",
        "event_seq": 2_000_000,
        "event_type": "EXECUTED",
        "occurred_at": t + timedelta(seconds=seed % 50),
        "ingested_at": t + timedelta(seconds=seed % 50),
        "stop_price": trigger["stop_price"],
        "trigger_price": Decimal(7),
        "fill_price": Decimal(9_700 + seed % 7),
        "exchange_order_id": "other",
        "payload": {
            "entry_price": Decimal(8),
            "entry_placed_at": t - timedelta(hours=9),
            "canary_outcome": "true",
        },
    }
    return {
        "bars": {
            s: past["bars"][s] + [b for b in other.bars[s] if b["open_time"] + MINUTE > t] for s in world.bars
        },
        "trades": past["trades"] + [x for x in other.trades if x["exchange_time"] >= t],
        "events": past["events"]
        + [own_end]
        + [e for e in other.events if max(e["occurred_at"], e["ingested_at"]) >= t],
    }
