"""Holes in what a file brought: ids of aggregate trades and minutes of bars follow each other without one.

Runs of consecutive numbers are merged batch by batch, so that any order of rows gives the same holes and memory grows
with the holes alone. A rejected row leaves a hole, as it isn't in the lake.
Source: spec/execution.md 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.binance.kinds import AGG_TRADES, FIXED_INTERVALS_S, KLINES, Kind
from lake import atomic
from lake.paths import receipts_dir

MOST_TOLD = 1_000  # holes in one record; what is more is counted


@dataclass(frozen=True)
class Gap:
    """``missing`` numbers from ``first`` to ``last`` (both missing), between rows at ``from_ns`` and ``to_ns``."""

    key: dict[str, str]
    first: int
    last: int
    missing: int
    from_ns: int
    to_ns: int

    def record(self) -> dict:
        if "bar_interval" in self.key:
            reason = f"{self.missing} of the bars missing"
        else:
            reason = f"agg_id {self.first} to {self.last} missing, {self.missing} in all"
        return {"key": self.key, "from_ns": self.from_ns, "to_ns": self.to_ns, "reason": reason}


@dataclass
class _Runs:
    """Sorted runs of consecutive numbers: (runs, 4) int64 of first number, last number, first µs, last µs."""

    runs: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.int64))

    def add(self, number: np.ndarray, micros: np.ndarray) -> None:
        order = np.argsort(number, kind="stable")
        number, micros = number[order], micros[order]
        cut = np.flatnonzero(np.diff(number) > 1)
        first, last = np.concatenate(([0], cut + 1)), np.concatenate((cut, [len(number) - 1]))
        new = np.stack([number[first], number[last], micros[first], micros[last]], axis=1)
        self.runs = _merge(np.concatenate([self.runs, new]))


def _merge(runs: np.ndarray) -> np.ndarray:
    runs = runs[np.lexsort((runs[:, 1], runs[:, 0]))]
    reach = np.maximum.accumulate(runs[:, 1])
    first = np.concatenate(([0], np.flatnonzero(runs[1:, 0] > reach[:-1] + 1) + 1))
    last = np.concatenate((first[1:], [len(runs)])) - 1
    # The time at the end is that of the run which reaches furthest.
    owner = np.array(
        [a + int(np.argmax(runs[a : b + 1, 1])) for a, b in zip(first, last, strict=True)], np.int64
    )
    return np.stack([runs[first, 0], reach[last], runs[first, 2], runs[owner, 3]], axis=1)


class Gaps:
    """Collects the accepted rows of one file; ``found`` are its holes."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._keys = {
            AGG_TRADES.name: ("market", "symbol"),
            KLINES.name: ("market", "bar_interval", "symbol"),
        }.get(kind.name, ())
        self._runs: dict[tuple[str, ...], _Runs] = {}

    def add(self, table: pa.Table) -> None:
        if not self._keys or not table.num_rows:
            return
        keys = [table[name].combine_chunks().dictionary_encode() for name in self._keys]
        code = np.zeros(table.num_rows, np.int64)
        for column in keys:
            code = code * len(column.dictionary) + column.indices.to_numpy()
        times = table[self.kind.time].cast(pa.int64()).to_numpy()
        for value in np.unique(code).tolist():
            rows = np.flatnonzero(code == value)
            key = tuple(column[int(rows[0])].as_py() for column in keys)
            number = self._numbers(table, rows, times, key)
            if number is not None:
                self._runs.setdefault(key, _Runs()).add(number, times[rows])

    def _numbers(
        self, table: pa.Table, rows: np.ndarray, times: np.ndarray, key: tuple[str, ...]
    ) -> np.ndarray | None:
        if self.kind.name == AGG_TRADES.name:
            return pc.take(table["agg_id"], pa.array(rows)).to_numpy()
        seconds = FIXED_INTERVALS_S.get(key[1])
        return None if seconds is None else times[rows] // (seconds * 1_000_000)

    def found(self) -> list[Gap]:
        """All holes, in order of key and number."""
        gaps = []
        for key, runs in sorted(self._runs.items()):
            names = dict(zip(self._keys, key, strict=True))
            for before, after in zip(runs.runs[:-1].tolist(), runs.runs[1:].tolist(), strict=True):
                first, last = before[1] + 1, after[0] - 1
                gaps.append(Gap(names, first, last, last - first + 1, before[3] * 1000, after[2] * 1000))
        return gaps


def recorded_gaps(root: Path, dataset: str) -> list[dict]:
    """The holes that the receipts of ``dataset`` tell, each with its file as ``path``, in order of key and time.

    They are those of one file each: what another file brings may fill one. Rows decide, as
    ``monitoring.agg_trade_gaps`` reads them.
    """
    gaps = []
    for path in receipts_dir(root).glob("load-*.json"):
        receipt = atomic.read_json(path)
        if receipt["dataset"] == dataset and receipt["status"] == "landed":
            gaps += [{"path": receipt["path"], **gap} for gap in receipt["gaps"]]
    return sorted(gaps, key=lambda gap: (sorted(gap["key"].items()), gap["from_ns"], gap["path"]))
