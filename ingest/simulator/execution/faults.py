"""What may be wrong in the execution files. Each fault is switched by its name and counted where it is planted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

ALL_FAULTS, NO_FAULTS = "all", "none"


@dataclass(frozen=True)
class ExecutionFault:
    """``what`` is planted, ``handling`` what should come of it; ``per_mille`` of the operations, at least ``least``."""

    what: str
    handling: str
    per_mille: float = 0.0
    least: int = 0


FAULTS: dict[str, ExecutionFault] = {
    "duplicate-delivery": ExecutionFault(
        "a line of events comes again, word for word", "bronze holds both, staging one", 5, 3
    ),
    "duplicate-report": ExecutionFault(
        "the same fill report under a new event id", "counted once; DUPLICATE_EVENT", 2, 2
    ),
    "shuffled-delivery": ExecutionFault(
        "every seventh hour of events is written in random order", "the fold orders by event_seq"
    ),
    "null-event-seq": ExecutionFault("no event of a token has event_seq", "ordered by time; NULL_SEQ", 2, 2),
    "stream-gap": ExecutionFault("a number of stream_seq is left out", "SEQ_GAP", 2, 2),
    "midnight-crossing": ExecutionFault(
        "triggered at 23:59:58, executed at 00:00:03", "one row, on the first date", 1, 2
    ),
    "late-commit": ExecutionFault(
        "the EXECUTED event comes in a file of its own after its hour is sealed",
        "a supplement, `late_rows`; the token is folded anew",
        1,
        2,
    ),
    "partial-fills": ExecutionFault("two reports of one exit order", "quantities summed, mean fill", 40, 4),
    "lone-failed": ExecutionFault(
        "FAILED alone, its earlier events rolled back; the next attempt executes", "MISSING_TRIGGER", 2, 2
    ),
    "late-fill-after-failure": ExecutionFault(
        "EXECUTED two minutes after FAILED", "EXECUTED; LATE_FILL_AFTER_FAILURE", 2, 2
    ),
    "late-fill-after-block": ExecutionFault(
        "EXECUTED after a guardrail refused", "EXECUTED; LATE_FILL_AFTER_BLOCK", 2, 2
    ),
    "failure-after-fill": ExecutionFault("FAILED after EXECUTED", "EXECUTED; CONFLICTING_TERMINAL", 2, 2),
    "all-event-types": ExecutionFault(
        "each of the guardrail types, and executions that stay PENDING or SUBMITTED", "BLOCKED with its reason", 6, 7
    ),
    "two-attempts": ExecutionFault("FAILED, and an explicit retry", "two rows, the second current", 5, 3),
    "slippage-at-bound": ExecutionFault("slippage of exactly 50 and −50 percent", "legal", 0.5, 2),
    "slippage-beyond": ExecutionFault("slippage above 50 and below −50 percent", "SLIPPAGE_RANGE", 0.3, 2),
    "executed-without-fill": ExecutionFault("EXECUTED without fill_price", "EXECUTED_NO_FILL", 0.3, 1),
    "wrong-time-order": ExecutionFault("executed_at before submitted_at", "TIME_ORDER", 0.3, 1),
    "nonpositive-price": ExecutionFault("a trigger price of zero", "NONPOSITIVE", 0.3, 1),
    "tenant-mismatch": ExecutionFault(
        "an event of another client with the token", "TENANT_MISMATCH: both rows in quarantine", 0.2, 1
    ),
    "unknown-event-type": ExecutionFault("an event of a type that nobody knows", "rejected: ENUM", 1, 2),
    "malformed-line": ExecutionFault("a line that is no JSON", "rejected: JSON", 1, 2),
    "key-hash-conflict": ExecutionFault(
        "another row under a known event id, in conflict/events.ndjson", "KEY_HASH_CONFLICT; the first row stays", 0, 1
    ),
    "unpriced-fee": ExecutionFault("a fee in BNB while BNBUSDC has no bar", "FEE_UNPRICED, no net_pnl", 0, 2),
    "order-mismatch": ExecutionFault(
        "executedQty of an order is a step more than its fills", "a break of order_reconciliation", 1, 2
    ),
    "missing-bars": ExecutionFault("three hours without a kline of BNBUSDC", "no price, no bar"),
    "agg-id-gap": ExecutionFault("trades of ten minutes are missing in the tape", "no bar next to the gap"),
    "secrets": ExecutionFault(
        "keys and addresses in error_message, description and raw_response", "[REDACTED] before hashing", 2, 3
    ),
}  # fmt: skip
# Planted by the writers or by the clock, not on an attempt.
QUARANTINED = (
    "slippage-beyond", "executed-without-fill", "wrong-time-order", "nonpositive-price", "tenant-mismatch",
)  # fmt: skip


class ExecutionFaultError(ValueError):
    """A fault was named that isn't known."""


def chosen_faults(names: Iterable[str]) -> frozenset[str]:
    """The faults that are meant: names, ``all`` or ``none``. Raises ExecutionFaultError for one that isn't known."""
    asked = set(names)
    if unknown := sorted(asked - FAULTS.keys() - {ALL_FAULTS, NO_FAULTS}):
        raise ExecutionFaultError(
            f"fault was {unknown[0]!r}, expected {ALL_FAULTS}, {NO_FAULTS} or one of {', '.join(FAULTS)}; "
            "choose one of them"
        )
    if NO_FAULTS in asked and len(asked) > 1:
        raise ExecutionFaultError(
            f"faults were {', '.join(sorted(asked))}, expected {NO_FAULTS} alone; name the one or the others"
        )
    return frozenset(FAULTS) if ALL_FAULTS in asked else frozenset(asked - {NO_FAULTS})


class FaultSchedule:
    """When each fault is due: spread evenly over [start, end); ``planted`` counts what has been.

    A fault waits for the first chance at or after its time; what the run never gave a chance to is not counted.
    """

    def __init__(self, faults: frozenset[str], operations: int, start_us: int, end_us: int) -> None:
        self.faults = faults
        self.planted: Counter[str] = Counter(dict.fromkeys(sorted(faults), 0))
        self._due: dict[str, list[int]] = {}
        for place, (name, fault) in enumerate(FAULTS.items()):
            if name not in faults:
                continue
            count = max(fault.least, round(operations * fault.per_mille / 1000))
            span = end_us - start_us
            # What comes late needs a day after it, and everything some time to be seen.
            share = 0.5 if name == "late-commit" else 0.85
            shift = 0.04 + 0.004 * place
            times = [start_us + int(span * share * (shift + (k + 0.5) / count * 0.9)) for k in range(count)]
            if name == "unpriced-fee":
                times = [start_us] * count  # its chance is the hours without a price
            self._due[name] = times[::-1]

    def is_due(self, name: str, time_us: int) -> bool:
        due = self._due.get(name)
        return bool(due) and due[-1] <= time_us

    def take(self, name: str, time_us: int) -> bool:
        """Whether ``name`` is to be planted now; then it is counted."""
        if not self.is_due(name, time_us):
            return False
        self._due[name].pop()
        self.planted[name] += 1
        return True

    def first_due(self, names: Iterable[str], time_us: int) -> str | None:
        """The one of ``names`` that has waited longest."""
        waiting = [(self._due[name][-1], name) for name in names if self.is_due(name, time_us)]
        return min(waiting)[1] if waiting else None
