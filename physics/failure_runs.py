"""Unbroken runs of failed executions as they could be seen, as a step function of time (spec/execution.md 5.1, 5.2)."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit, types

from physics.columns import I64, column, nullable_column, read_only

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
NEVER = np.iinfo(np.int64).max
TERMINAL_COLUMNS = (
    *("client_id", "symbol", "occurred_us", "available_us", "unusable_from_us", "is_failure", "event_seq"),
)

FAILURE_RUNS_SCHEMA = pa.schema(
    [
        pa.field("date", pa.date32(), nullable=False),
        pa.field("client_id", pa.int64(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("known_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("consecutive_failures_1h", pa.int32(), nullable=False),
        pa.field("max_event_seq", pa.int64()),
    ]
)


@njit(
    [
        types.void(
            *(I64, I64, I64, I64, read_only(types.boolean), I64),
            *(I64, I64, types.int32[::1], types.int64[::1]),
        )
    ],
    cache=True,
)
def _runs(of, occurred, available, unusable, is_failure, seq, step_of, steps, runs, max_seq):
    """The run right after each step: both sides by (group, time), of equal times successes before failures."""
    head = 0
    for i in range(steps.size):
        at = steps[i]
        while head < of.size and (of[head] < step_of[i] or (of[head] == step_of[i] and occurred[head] <= at)):
            head += 1
        runs[i], max_seq[i] = 0, -1
        k = head - 1
        while k >= 0 and of[k] == step_of[i] and occurred[k] > at - HOUR_US:
            if available[k] <= at < unusable[k]:
                max_seq[i] = max(max_seq[i], seq[k])
                if not is_failure[k]:
                    break
                runs[i] += 1
            k -= 1


def failure_runs(terminals: pa.Table, date: datetime.date | None = None) -> pa.Table:
    """How many executions of a client and symbol had failed in a row within the last hour, where it changes.

    A terminal event counts at t when it occurred in [t − 1 h, t), was available before t, and t isn't after
    ``unusable_from_us``; the run is of failures that come after the last such success. A row's value holds for t in
    (known_at, next known_at]; an hour after the last row it is 0.

    Shapes:   ``terminals`` has `TERMINAL_COLUMNS`, one row per event; the result is `FAILURE_RUNS_SCHEMA`.
    Units:    microseconds since 1970 UTC; ``unusable_from_us`` and ``event_seq`` may be null.
    Ordering: by (client_id, symbol, occurred_us, is_failure): of equal times a success comes first. Raises ValueError
              otherwise. The result is by (client_id, symbol, known_at).
    Edges:    an event of exactly one hour before t counts, one at t doesn't. The first row of each date stands there
              even where nothing changes, so that a date hangs on its own terminals and those of the hour before.
    Dates:    rows of ``date``, or of all dates.
    Cost:     O(rows × length of a run).
    Source:   spec/execution.md 5.1 (consecutive_failures_1h), 5.2 rule 1.
    """
    client = column(terminals, "client_id", np.int64)
    symbol = terminals["symbol"].to_numpy(zero_copy_only=False)
    occurred, available = (column(terminals, n, np.int64) for n in ("occurred_us", "available_us"))
    unusable = nullable_column(terminals, "unusable_from_us", np.int64, NEVER)
    is_failure = terminals["is_failure"].to_numpy(zero_copy_only=False).astype(bool)
    seq = nullable_column(terminals, "event_seq", np.int64, -1)
    new = np.ones(len(client), bool)
    if len(client):
        new[1:] = (client[1:] != client[:-1]) | (symbol[1:] != symbol[:-1])
    of = np.cumsum(new) - 1
    same = ~new[1:]
    late = (np.diff(occurred) < 0) | ((np.diff(occurred) == 0) & is_failure[:-1] & ~is_failure[1:])
    if (same & late).any():
        raise ValueError(
            "terminals were not in the order of (client_id, symbol, occurred_us, is_failure); sort them"
        )

    expired = occurred + HOUR_US
    counts = available <= expired
    revoked = counts & (unusable > available) & (unusable <= expired)
    steps = np.concatenate([available[counts], expired[counts], unusable[revoked]])
    step_of = np.concatenate([of[counts], of[counts], of[revoked]]).astype(np.int64)
    if date is not None:
        wanted = steps // DAY_US == (date - datetime.date(1970, 1, 1)).days
        steps, step_of = steps[wanted], step_of[wanted]
    # Up to three sorted runs behind each other: a stable sort only has to merge them.
    group = step_of * (steps.max() - steps.min() + 1 if len(steps) else 1)
    order = np.argsort(group + steps, kind="stable")
    steps, step_of = steps[order], step_of[order]
    last = np.ones(len(steps), bool)
    last[:-1] = (np.diff(steps) != 0) | (np.diff(step_of) != 0)
    steps, step_of = steps[last], step_of[last]

    runs, max_seq = np.zeros(len(steps), np.int32), np.zeros(len(steps), np.int64)
    _runs(of.astype(np.int64), occurred, available, unusable, is_failure, seq, step_of, steps, runs, max_seq)
    days = steps // DAY_US
    kept = np.ones(len(steps), bool)
    if len(steps):
        kept[1:] = np.any([np.diff(v) != 0 for v in (step_of, days, runs, max_seq)], axis=0)
    firsts = np.flatnonzero(new)[step_of[kept]] if len(steps) else np.empty(0, np.int64)
    return pa.table(
        [
            pa.array(days[kept].astype(np.int32)).cast(pa.date32()),
            pa.array(client[firsts], pa.int64()),
            pc.take(terminals["symbol"], pa.array(firsts)).cast(pa.string()),
            pa.array(steps[kept]).cast(pa.timestamp("us", "UTC")),
            pa.array(runs[kept]),
            pa.array(max_seq[kept], mask=max_seq[kept] < 0),
        ],
        schema=FAILURE_RUNS_SCHEMA,
    )
