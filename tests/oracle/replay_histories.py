"""Histories of stop events for hypothesis, so that a failure shrinks to the few events that show it, and how they are
delivered: in any order, in copies, on late dates, in parts.

A history is one execution's events as its producer wrote them; a world is a set of them, and shares operations, tokens
and the numbering. `replay_worlds` draws worlds of every oddity from seeds; here each event has at most one.
"""

import datetime
import uuid
from decimal import Decimal

from hypothesis import strategies as st

from tests.oracle.replay_worlds import row_hash

TYPES = [
    "STOP_TRIGGERED", "EXECUTION_SUBMITTED", "EXECUTED", "FAILED", "BLOCKED", "STALE_PRICE", "KILL_SWITCH",
    "SLIPPAGE_BREACH", "CIRCUIT_BREAKER",
]  # fmt: skip
TRIGGERED, SUBMITTED, EXECUTED, FAILED, *GUARDRAILS = TYPES
SHAPES = [
    [TRIGGERED], [TRIGGERED, SUBMITTED], [TRIGGERED, SUBMITTED, EXECUTED], [FAILED], [TRIGGERED, SUBMITTED, FAILED],
    [TRIGGERED, SUBMITTED, EXECUTED, EXECUTED], [TRIGGERED, SUBMITTED, FAILED, EXECUTED],
    [TRIGGERED, "KILL_SWITCH"], [TRIGGERED, "KILL_SWITCH", EXECUTED], [TRIGGERED, SUBMITTED, EXECUTED, FAILED],
]  # fmt: skip
MIDNIGHT = datetime.datetime(2024, 12, 2, tzinfo=datetime.UTC)
LEVEL = Decimal(88200)

# What may be odd about an event. The first is nothing; hypothesis shrinks towards it.
ODDITIES = [
    "", "", "", "", "no event_seq", "changed places", "number left out", "no stream_seq", "level changed", "no level",
    "no token", "same report", "no trade ids", "clock behind", "no fill price", "imputed",
]  # fmt: skip
events = st.tuples(
    st.sampled_from(TYPES),
    st.sampled_from([1, 0, 3, 40_000, 90_000]),  # seconds after the event before it
    st.sampled_from(ODDITIES),
    st.sampled_from([1, 5, 90_000]),  # seconds until it was stored: the last is a late commit
)
usual = st.sampled_from(SHAPES).flatmap(
    lambda shape: st.tuples(*(events.map(lambda event, kind=kind: (kind, *event[1:])) for kind in shape))
)
histories = st.fixed_dictionaries(
    {
        "events": usual | st.lists(events, min_size=1, max_size=6),
        "client_id": st.sampled_from([1, 2]),
        "operation_id": st.integers(1, 5),
        "side": st.sampled_from(["SELL", "BUY"]),
        "starts": st.sampled_from([10, -2, -40_000, 86_398]),  # seconds from a midnight
        "shares_token": st.sampled_from(
            [False] * 9 + [True]
        ),  # with the history before it, whoever's that is
    }
)


@st.composite
def worlds(draw: st.DrawFn, *, most: int = 24) -> list[dict]:
    """Rows of bronze.events, each once, in the order in which they were written, of one to ``most`` histories."""
    rows: list[dict] = []
    token, numbers = "", {}
    for number, history in enumerate(draw(st.lists(histories, min_size=most // 3, max_size=most))):
        token = token if history["shares_token"] and token else f"token{number}"
        at = MIDNIGHT + datetime.timedelta(seconds=history["starts"])
        told: list[dict] = []
        for event_type, seconds, oddity, late in history["events"]:
            at += datetime.timedelta(seconds=seconds)
            stream = history["client_id"], history["operation_id"]
            numbers[stream] = numbers.get(stream, 0) + (2 if oddity == "number left out" else 1)
            row = _row(len(rows), event_type, history, oddity) | {
                "execution_token": None if oddity == "no token" else token,
                "stream_seq": None if oddity == "no stream_seq" else numbers[stream],
                "occurred_at": at - datetime.timedelta(seconds=20 if oddity == "clock behind" else 0),
                "ingested_at": at + datetime.timedelta(seconds=late),
            }
            if event_type == EXECUTED and oddity == "same report" and told:
                row |= {
                    n: told[-1][n] for n in ("payload_json", "quantity", "fill_price", "exchange_order_id")
                }
            if oddity == "changed places" and rows:
                row["event_seq"], rows[-1]["event_seq"] = rows[-1]["event_seq"], row["event_seq"]
            told += [row] if event_type == EXECUTED else []
            rows.append(row)
    return [
        row | {"loaded_at": row["ingested_at"], "date": row["ingested_at"].date(), "row_hash": row_hash(row)}
        for row in rows
    ]


def moved_by_a_later_date() -> list[dict]:
    """Rows of one execution that stands on 1 December, where neither of its bronze dates alone would put it.

    On 2 December its first number is of that day and its earliest time of the day before; on the 3rd an event without a
    number comes, so that time decides.
    """
    history = {"client_id": 1, "operation_id": 1, "side": "SELL"}
    told = [  # type, oddity, minutes from midnight, day of December on which it was stored
        (TRIGGERED, "", 10, 2), (SUBMITTED, "", -10, 2), (EXECUTED, "no event_seq", 20, 3),
    ]  # fmt: skip
    rows = []
    for number, (event_type, oddity, minutes, stored) in enumerate(told):
        ingested_at = datetime.datetime(2024, 12, stored, 12, tzinfo=datetime.UTC)
        row = _row(number, event_type, history, oddity) | {
            "execution_token": "token0",
            "stream_seq": number + 1,
            "occurred_at": MIDNIGHT + datetime.timedelta(minutes=minutes),
            "ingested_at": ingested_at,
        }
        dated = {"loaded_at": ingested_at, "date": ingested_at.date(), "row_hash": row_hash(row)}
        rows.append(row | dated)
    return rows


def _row(number: int, event_type: str, history: dict, oddity: str) -> dict:
    level = LEVEL + (1 if oddity == "level changed" else 0)
    row = {
        "event_id": str(uuid.UUID(int=number + 1)), "event_seq": None if oddity == "no event_seq" else number + 1,
        "event_type": event_type, "exchange_time": None, "symbol": "BTCUSDC", "trigger_type": "STOP_LOSS",
        "trigger_price": LEVEL - 200, "stop_price": None if oddity == "no level" else level,
        "quantity": Decimal("0.001"), "exchange_order_id": None, "fill_price": None, "slippage_pct": None,
        "source": "ws", "retry_count": number % 3, "error_message": None, "payload_json": {"entry_price": "90000"},
    } | {n: history[n] for n in ("client_id", "operation_id", "side")}  # fmt: skip
    if event_type == FAILED:
        row["error_message"] = f"code={number}"
    if event_type == EXECUTED:  # a part of what was asked for
        price = None if oddity == "no fill price" else LEVEL - 200 - 50 * (number % 2)
        row |= {"exchange_order_id": "order", "fill_price": price}
        row["quantity"] = Decimal(["0.0006", "0.0004"][number % 2])
        fill = {
            "price": price and str(price),
            "commission": "0.05",
            "commission_asset": ["USDC", "BTC"][number % 2],
        }
        if oddity != "no trade ids":
            fill["trade_id"] = number
        row["payload_json"] = {"entry_price": "90000", "fills": [fill]}
        if oddity == "imputed":
            row["payload_json"]["fill_imputed"] = True
    return row


@st.composite
def deliveries(draw: st.DrawFn, world: list[dict]) -> list[dict]:
    """The rows in any order, some of them again: later, and on a later date."""
    again = draw(
        st.lists(st.tuples(st.sampled_from(world), st.sampled_from([0, 1, 2])), max_size=len(world) // 2)
    )
    return draw(st.permutations([*world, *(_again(row, days) for row, days in again)]))


@st.composite
def loads(draw: st.DrawFn, world: list[dict]) -> list[list[dict]]:
    """The rows in up to four loads: whole dates in any order, or each row in any of them, and some in two."""
    if draw(st.booleans()):
        dates = draw(st.permutations(sorted({row["date"] for row in world})))
        parts = draw(st.lists(st.integers(0, 3), min_size=len(dates), max_size=len(dates)))
        of = dict(zip(dates, sorted(parts), strict=True))
        found = [[row for row in world if of[row["date"]] == n] for n in range(4)]
    else:
        parts = draw(st.lists(st.integers(0, 3), min_size=len(world), max_size=len(world)))
        found = [[row for row, part in zip(world, parts, strict=True) if part == n] for n in range(4)]
    copies = draw(st.lists(st.tuples(st.sampled_from(world), st.sampled_from([0, 1])), max_size=4))
    later = found[-1] + [_again(row, days) for row, days in copies]
    return [part for part in [*found[:-1], later] if part]


def _again(row: dict, days: int) -> dict:
    """Delivered once more, ``days`` later: another landing of the same row, in another window."""
    late = datetime.timedelta(days=days)
    return row | {"loaded_at": row["loaded_at"] + late, "date": row["date"] + late}
