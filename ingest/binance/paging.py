"""Which questions bring all rows of a range, in order, and when the last one has been answered.

Each generator yields the answers that hold rows. Source: spec/execution.md 3.4, 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ingest.binance.api import LIMIT, Answer, Api, SourceUnreachable
from ingest.binance.strict_json import Number

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


def agg_trade_pages(
    api: Api, symbol: str, *, from_id: int | None, start_ms: int | None, end_ms: int
) -> Iterator[Answer]:
    """From ``from_id`` on, or from the first trade at or after ``start_ms``, to the first one at ``end_ms`` or later.

    The first trade is looked for by the hour; from there ids lead on, as times don't tell equal ones apart.
    """
    if from_id is None:
        if start_ms is None:
            raise ValueError("neither from_id nor start_ms was given, expected one")
        for at in range(start_ms, end_ms, _HOUR_MS):
            answer = api.agg_trades(symbol, start_ms=at, end_ms=min(at + _HOUR_MS, end_ms) - 1)
            if answer.rows:
                yield answer
                from_id = _last(answer, "a") + 1
                break
        else:
            return
    yield from _by_id(lambda n: api.agg_trades(symbol, from_id=n), from_id, "a", "T", end_ms)


def fill_pages(
    api: Api, symbol: str, account_type: str, *, from_id: int | None, start_ms: int | None, end_ms: int
) -> Iterator[Answer]:
    """From ``from_id`` on, or from the first fill at or after ``start_ms`` (looked for by 24 hours)."""
    if from_id is None and start_ms is not None:
        for at in range(start_ms, end_ms, _DAY_MS):
            answer = api.own_fills(symbol, account_type, start_ms=at, end_ms=min(at + _DAY_MS, end_ms) - 1)
            if answer.rows:
                yield answer
                from_id = _last(answer, "id") + 1
                break
        else:
            return
    yield from _by_id(
        lambda n: api.own_fills(symbol, account_type, from_id=n), from_id or 0, "id", "time", end_ms
    )


def kline_pages(api: Api, symbol: str, interval: str, *, start_ms: int, end_ms: int) -> Iterator[Answer]:
    """The bars that open in [start_ms, end_ms)."""
    while start_ms < end_ms:
        answer = api.klines(symbol, interval, start_ms=start_ms, end_ms=end_ms - 1)
        if answer.rows:
            yield answer
        if len(answer.rows) < LIMIT:
            return
        opens = _number(answer.rows[-1][0] if isinstance(answer.rows[-1], list) and answer.rows[-1] else None)
        if opens < start_ms:
            raise SourceUnreachable(
                f"bars of {symbol} went back to {opens}, expected {start_ms} or later; run again"
            )
        start_ms = opens + 1


def _by_id(
    ask: Callable[[int], Answer], from_id: int, id_name: str, time_name: str, end_ms: int
) -> Iterator[Answer]:
    while True:
        answer = ask(from_id)
        if answer.rows:
            yield answer
        if len(answer.rows) < LIMIT:
            return
        last = _last(answer, id_name)
        if last < from_id:
            raise SourceUnreachable(f"ids went back to {last}, expected {from_id} or more; run again")
        if _number(answer.rows[-1].get(time_name)) >= end_ms:
            return
        from_id = last + 1


def _last(answer: Answer, name: str) -> int:
    row = answer.rows[-1]
    return _number(row.get(name) if isinstance(row, dict) else None)


def _number(value: object) -> int:
    if not isinstance(value, Number) or not value.isdecimal() or len(value) > 19:
        raise SourceUnreachable(
            "last row of an answer had no id or time, expected the vendor's fields; run again"
        )
    return int(value)
