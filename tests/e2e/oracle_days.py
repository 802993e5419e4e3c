"""The sessions of `market.autumn` through the compiled models in memory, each compared with the oracle."""

import functools
from collections.abc import Mapping
from typing import Any

import duckdb

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import autumn, calendar
from tests.e2e.support import (
    DEFAULT,
    OracleDay,
    assert_day_equals_oracle,
    assert_same,
    front_contracts,
    live_ratios,
)
from tests.oracle import bars

CONTRACTS = ("ESH6", "ESZ5")
LEFT_OUT = ("2025-11-26", "2025-11-27")  # what they are for, other sessions show as well
POINTS = 24  # of a session: the oracle takes its time for the book


class Days:
    """What the oracle says of the sessions is worked out once; a project is tried against it in some seconds."""

    def __init__(self) -> None:
        self.days, sessions = {d: day for d, day in autumn().items() if d not in LEFT_OUT}, calendar()
        self.fronts = front_contracts(sessions, self.days)
        live = live_ratios(self.days, self.fronts)
        self.oracle = {d: OracleDay.of(self.days, sessions, d, self.fronts, live, DEFAULT) for d in self.days}

    def fault(self, manifest: Mapping[str, Any]) -> str | None:
        """The first difference between the project's rows and the oracle's, or the error that stopped it."""
        try:
            pipeline = Pipeline(manifest, params.load("default"))
            for date, day in self.days.items():
                pipeline.land(day)
                pipeline.build(date)
                self._compare(pipeline, date)
        except (AssertionError, ValueError, duckdb.Error) as error:
            return str(error) or type(error).__name__
        return None

    def _compare(self, pipeline: Pipeline, date: str) -> None:
        front = {**self.fronts[date], "session_date": date}
        found = [{**row, "session_date": date} for row in pipeline.rows("dim_front_month", date)]
        assert_same(f"front of {date}", found, [front], ("session_date",), front)
        expected = [t for c in CONTRACTS for t in self.days[date].front_trades(c)]
        columns = ("contract", "ts_event_ns", "sequence", "tick", "size", "aggressor")
        assert_same(
            f"trades of {date}", pipeline.rows("stg_futures__trades", date), expected, ("ordinal",), columns
        )
        wanted = self._bars(date)
        assert_same(
            f"bars of {date}",
            pipeline.rows("ohlcv", date),
            wanted,
            ("contract", "bar_s", "bar_start_ns"),
            wanted[0],
        )
        assert_day_equals_oracle(lambda name: pipeline.rows(name, date), self.oracle[date], choose=_few)
        label_ok = {r["observation_id"] for r in pipeline.rows("labels", date) if r["label_status"] == "ok"}
        trained = {r["observation_id"] for r in pipeline.rows("train_signals_v2_0", date)}
        assert trained == (set() if front["roll_contaminated"] else label_ok), f"gold of {date}"

    @functools.cache  # noqa: B019 (one object a process)
    def _bars(self, date: str) -> list[dict]:
        return [
            {**bar, "contract": c}
            for c in CONTRACTS
            for width in (1, 60, 120)
            for bar in bars.ohlcv(self.days[date].front_trades(c), width)
        ]


def _few(points: list[dict]) -> list[dict]:
    return points[:: max(1, len(points) // POINTS)]
