"""What became of every record of a file: each is landed, filtered or rejected, and the sum is checked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from ingest.binance.kinds import Kind

log = logging.getLogger(__name__)

# line_no, rule, reason, raw text, the row's time where that is known
OnReject = Callable[[int, str, str, str, datetime | None], None]


@dataclass(frozen=True)
class Batch:
    """Rows that passed every check: ``table`` has the columns of ``kind.schema``, ``line_no`` is (rows,) int64."""

    kind: Kind
    table: pa.Table
    line_no: np.ndarray


@dataclass
class Tally:
    """``records`` = rows accepted + ``rejected`` + the sum of ``filtered``; parsers count what they read, reject and
    pass over, the loader what it accepts.
    """

    on_reject: OnReject = lambda *_: None
    records: int = 0
    rejected: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    by_rule: Counter[str] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    first_reason: str | None = None

    def reject(self, line_no: int, rule: str, reason: str, raw: str, at: datetime | None = None) -> None:
        self.rejected += 1
        self.by_rule[rule] += 1
        self.first_reason = self.first_reason or reason
        self.on_reject(line_no, rule, reason, raw, at)

    def drift(self, names: set[str]) -> None:
        """Warn once about each vendor field that nobody knows; its values stand in ``_extra``."""
        if new := names - self.unknown:
            self.unknown |= new
            log.warning("unknown vendor fields kept in _extra: %s", ", ".join(sorted(new)[:20]))
