"""Rules over columns of fixed records: which records of a block break one, and how to say it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ingest.bronze_schema import PRICE_LIMIT, TS_EVENT_MAX_NS, TS_EVENT_MIN_NS
from ingest.dbn_format import UNDEF_PRICE


@dataclass(frozen=True)
class Rule:
    """``broken`` gives a mask (n,) of the records (n,) that can't land; ``column`` is the one to show."""

    name: str
    column: str
    expected: str
    broken: Callable[[np.ndarray], np.ndarray]


class RecordRules:
    """Rules in the order in which a record is judged: the first one that it breaks is its reason."""

    def __init__(self, rules: Sequence[Rule], shown: Sequence[str]) -> None:
        self._rules, self._shown = rules, shown

    def bad(self, records: np.ndarray) -> np.ndarray | None:
        """Mask (n,) of the records that break any rule; None when there are none."""
        wrong = np.zeros(len(records), dtype=bool)
        for rule in self._rules:
            wrong |= rule.broken(records)
        return wrong if wrong.any() else None

    def reason(self, record: np.void) -> tuple[str, str]:
        """Rule and reason of one record that ``bad`` has marked."""
        one = np.array([record], record.dtype)
        rule = next(r for r in self._rules if r.broken(one)[0])
        return rule.name, f"{rule.column} was {_value(record, rule.column)!r}, expected {rule.expected}"

    def raw(self, record: np.void) -> str:
        """The record's own fields as compact JSON."""
        return json.dumps({name: _value(record, name) for name in self._shown}, separators=(",", ":"))


def _value(record: np.void, name: str) -> int | str:
    value = record[name].item()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


TS_RANGE = Rule(
    "TS_RANGE",
    "ts_event",
    "a time between the years 2000 and 2100",
    lambda r: (r["ts_event"] <= TS_EVENT_MIN_NS) | (r["ts_event"] >= TS_EVENT_MAX_NS),
)
INSTRUMENT_ID = Rule("INSTRUMENT_ID", "instrument_id", "at most 2147483647", lambda r: r["instrument_id"] < 0)
PUBLISHER_ID = Rule("PUBLISHER_ID", "publisher_id", "at most 32767", lambda r: r["publisher_id"] < 0)


def price_range(column: str, *, nullable: bool) -> Rule:
    """A price that fits DECIMAL(18,9); a missing one too where it is nullable."""

    def broken(records: np.ndarray) -> np.ndarray:
        values = records[column]
        wrong = (values >= PRICE_LIMIT) | (values <= -PRICE_LIMIT)
        return wrong & (values != UNDEF_PRICE) if nullable else wrong

    return Rule("PRICE_RANGE", column, "less than 10^18 billionths", broken)
