"""What a call tells: one row for each schema and day."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One schema on one day. ``status``: ``to_order``, ``paid`` (ordered before, not landed), ``landed``,
    ``already_landed``, ``quarantined`` or ``failed``. Cost and counts are the vendor's estimate, None where
    it wasn't asked.
    """

    schema: str
    date: str
    status: str
    record_count: int | None = None
    billable_bytes: int | None = None
    cost_usd: float | None = None
    request_id: str | None = None
    path: str | None = None
    reason: str | None = None

    def line(self) -> str:
        told = f"{self.schema} {self.date}: {self.status.replace('_', ' ')}"
        if self.reason:
            return f"{told}: {self.reason}"
        return told + (f", {self.record_count:,} records" if self.record_count is not None else "")


@dataclass(frozen=True)
class Report:
    """What became of each window. ``cost_usd`` is what this call ordered, or would order."""

    rows: list[Row] = field(default_factory=list)
    cost_usd: float = 0.0

    @property
    def ok(self) -> bool:
        return not any(r.status in ("failed", "quarantined") for r in self.rows)
