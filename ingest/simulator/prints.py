"""Columns of a flat file's prints before they are text."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Prints:
    """Prints of one file or a part of it: (n,) ``ticker`` index into ``names``, ``ts_ns``, ``cents``, ``size``.

    Only of the whole, made by `joined`: (n,) ``conditions`` as text and ``exchange``; and ``correction``, all 0.
    """

    names: list[str]
    ticker: np.ndarray
    ts_ns: np.ndarray
    cents: np.ndarray
    size: np.ndarray
    conditions: list[str] = field(default_factory=list)
    exchange: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    correction: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

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
        )
