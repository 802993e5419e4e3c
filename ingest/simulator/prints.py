"""Columns of a flat file's prints before they are text."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Prints:
    """Prints of one file or a part of it: (n,) ``ticker`` index into ``names``, ``ts_ns``, ``cents``, ``size``.

    Only of the whole, made by `joined`: (n,) ``conditions`` as text, ``exchange``, ``correction``, ``number`` (from 1)
    and the venue's time. ``halved``: rows with half a contract less than ``size``.
    """

    names: list[str]
    ticker: np.ndarray
    ts_ns: np.ndarray
    cents: np.ndarray
    size: np.ndarray
    conditions: list[str] = field(default_factory=list)
    exchange: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    correction: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    number: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    venue_ns: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    halved: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.ts_ns)

    @classmethod
    def joined(
        cls,
        rng: np.random.Generator,
        parts: list["Prints"],
        conditions: tuple[str, ...],
        shares: tuple[float, ...],
        exchanges: tuple[int, ...],
    ) -> "Prints":
        """The parts as one file: by ticker, then time, with conditions and venues at random."""
        names = [name for part in parts for name in part.names]
        first = np.cumsum([0, *(len(part.names) for part in parts)])
        ticker = np.concatenate([part.ticker + at for part, at in zip(parts, first, strict=False)])
        rank = np.empty(len(names), np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        ts = np.concatenate([part.ts_ns for part in parts])
        order = np.lexsort((ts, rank[ticker]))
        drawn = rng.choice(len(conditions), len(order), p=shares)
        return cls(
            sorted(names),
            rank[ticker][order],
            ts[order],
            np.concatenate([part.cents for part in parts])[order],
            np.concatenate([part.size for part in parts])[order],
            [conditions[k] for k in drawn.tolist()],
            np.array(exchanges)[rng.integers(0, len(exchanges), len(order))],
            np.zeros(len(order), np.int64),
            np.arange(1, len(order) + 1),
            ts[order] - rng.integers(15_000, 400_000, len(order)),
        )

    def with_more(self, other: "Prints") -> "Prints":
        """Both, by ticker and time; rows of this one keep all their values, numbers of the other follow."""
        names = sorted({*self.names, *other.names})
        place = {name: k for k, name in enumerate(names)}
        ranks = [np.array([place[name] for name in part.names])[part.ticker] for part in (self, other)]

        def both(column: str) -> np.ndarray:
            return np.concatenate([getattr(self, column), getattr(other, column)])

        order = np.lexsort((both("ts_ns"), np.concatenate(ranks)))
        conditions = self.conditions + other.conditions
        number = np.concatenate([self.number, other.number + len(self)])
        return Prints(
            names,
            np.concatenate(ranks)[order],
            *(both(column)[order] for column in ("ts_ns", "cents", "size")),
            [conditions[k] for k in order.tolist()],
            *(both(column)[order] for column in ("exchange", "correction")),
            number[order],
            both("venue_ns")[order],
        )

    def sizes(self, part: slice) -> list[int | float]:
        """Sizes as they are written."""
        sizes = self.size[part].tolist()
        for row in self.halved:
            if part.start <= row < part.stop:
                sizes[row - part.start] -= 0.5
        return sizes

    def taken(self, rows: np.ndarray) -> "Prints":
        """Only these rows, in this order; a row may come more than once."""
        return Prints(
            self.names,
            *(column[rows] for column in (self.ticker, self.ts_ns, self.cents, self.size)),
            [self.conditions[k] for k in rows.tolist()],
            *(column[rows] for column in (self.exchange, self.correction, self.number, self.venue_ns)),
            frozenset(np.flatnonzero(np.isin(rows, list(self.halved))).tolist()),
        )

    def every(self, step: int) -> "Prints":
        """One row in ``step``."""
        return self.taken(np.arange(step // 2, len(self), step))

    def rows_of(self, prefix: str) -> np.ndarray:
        """Rows whose ticker begins so, in order."""
        mine = np.array([name.startswith(prefix) for name in self.names])
        return np.flatnonzero(mine[self.ticker])
