"""What a call of the Binance loader is told, and what it tells: options, the outcome of each file, exit codes.

Source: spec/execution.md 3.1.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from ingest.binance.kinds import ACCOUNT_TYPES, MARKETS
from ingest.environment import ENVIRONMENTS


@dataclass(frozen=True)
class Options:
    """What a call says about all its files. ``start`` and ``end`` bound the rows that land, half-open, full hours.

    ``symbols`` keeps only theirs and, when it is one, names the symbol of bodies that don't. ``as_of`` is when REST
    bodies without a time of their own were asked for: bars that hadn't closed by then don't land.
    """

    environment: str = "prod"
    client_id: int | None = None
    account_type: str | None = None
    market: str | None = None
    symbols: tuple[str, ...] = ()
    as_of: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    max_bad: float = 0.01

    def load_id(self, sha256: str, dataset: str) -> str:
        """16 hex digits: the same bytes loaded with other options are another load."""
        facts = [sha256, dataset, self.client_id, self.account_type, self.market, sorted(self.symbols)]
        facts += [str(at) for at in (self.as_of, self.start, self.end)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FileReport:
    """Outcome of one file. ``status``: ``landed``, ``already_landed``, ``quarantined``, ``failed``, ``conflict``,
    ``unreachable`` (the API gave no answer; ``path`` is then what was asked for).
    """

    path: str
    dataset: str
    status: str
    reason: str | None = None
    rows: int = 0
    rejected: int = 0
    filtered: int = 0
    gaps: int = 0
    windows: int = 0
    late_rows: int = 0
    incomplete: bool = False
    bytes_in: int = 0
    raw_path: str | None = None

    @property
    def ok(self) -> bool:
        return self.status in ("landed", "already_landed")

    def line(self) -> str:
        """One line for people."""
        if not self.ok:
            return f"{self.path}: {self.status}: {self.reason}"
        told = [f"{self.rows:,} rows of {self.dataset}"]
        for count, what in ((self.rejected, "rejected"), (self.filtered, "filtered"), (self.gaps, "gaps")):
            if count:
                told.append(f"{count:,} {what}")
        return f"{self.path}: {self.status.replace('_', ' ')}, {', '.join(told)}"


@dataclass(frozen=True)
class Report:
    """Outcome of a call, one entry for each file, or for each symbol asked of the API."""

    run_id: str
    files: list[FileReport] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 published, 1 a file refused or failed, 2 published with incomplete windows, 3 conflict, 4 source
        unreachable.

        The gravest wins: 4, 3, 1, 2.
        """
        statuses = {file.status for file in self.files}
        if "unreachable" in statuses:
            return 4
        if "conflict" in statuses:
            return 3
        if statuses - {"landed", "already_landed"}:
            return 1
        return 2 if any(file.incomplete for file in self.files) else 0


def require_options(dataset: str, options: Options) -> None:
    """Raise ValueError for options that don't fit the dataset or each other."""
    if dataset == "trades" and options.client_id is None:
        raise ValueError("own fills had no client, expected one; name it by --client-id")
    if options.client_id is not None and options.client_id < 1:
        raise ValueError(f"client_id was {options.client_id}, expected 1 or more; correct --client-id")
    for name, value, allowed in (
        ("market", options.market, MARKETS),
        ("account_type", options.account_type, ACCOUNT_TYPES),
        ("environment", options.environment, ENVIRONMENTS),
    ):
        if value is not None and value not in allowed:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{name} was {value}, expected one of {', '.join(allowed)}; correct {option}")
    for bound in (options.start, options.end):
        if bound is not None and bound != bound.replace(minute=0, second=0, microsecond=0):
            raise ValueError(f"bound was {bound.isoformat()}, expected a full hour; correct --start or --end")
    if options.start and options.end and options.start >= options.end:
        raise ValueError(
            f"start was {options.start.isoformat()}, expected it before the end; correct --start or --end"
        )
    if not 0 <= options.max_bad <= 1:
        raise ValueError(f"max_bad was {options.max_bad}, expected a share of 0 to 1; correct --max-bad")


def count_statuses(files: list[FileReport]) -> dict[str, int]:
    """Counts for the run record."""
    counts = Counter(file.status for file in files)
    return {**{name: counts[name] for name in sorted(counts)}, "rows": sum(f.rows for f in files if f.ok)}
