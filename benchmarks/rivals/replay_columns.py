"""What the fold-only comparison reads of staged events and gives of accepted executions, the same on every side.

The list of work: read the staged events of all dates from Parquet; keep the first landing of an event that came on two
dates; order an execution's events by event_seq; status in closed form with its times; first known values, first level,
sums of the reports; mean fill, slippage, gap and profit; drop what breaks a quality rule; write one Parquet file in key
order. Ours does more for the same columns: it looks for events without event_seq, for repeated reports, for levels that
change, and keeps exact decimals, where the others may use doubles.
"""

from pathlib import Path

import duckdb

KEY = ["client_id", "execution_token"]
READS = [
    *KEY, "event_id", "event_seq", "occurred_at", "ingested_at", "state_event", "event_type", "operation_id", "symbol",
    "side", "trigger_type", "stop_price", "trigger_price", "entry_price", "quantity", "fill_price",
    "exchange_order_id", "source", "retry_count", "error_message",
]  # fmt: skip
GIVES = [
    *KEY, "operation_id", "symbol", "side", "trigger_type", "stop_price", "trigger_price", "entry_price", "quantity",
    "status", "triggered_at", "submitted_at", "executed_at", "failed_at", "blocked_at", "exchange_order_id",
    "executed_quantity", "fill_price", "slippage_pct", "detection_gap_pct", "gross_pnl", "error_message", "source",
    "retry_count", "event_count", "last_ingested_at", "source_event_ids",
]  # fmt: skip
_NUMBERS = {
    "stop_price", "trigger_price", "entry_price", "quantity", "executed_quantity", "fill_price", "slippage_pct",
    "detection_gap_pct", "gross_pnl",
}  # fmt: skip
_TOLERANCE = {"slippage_pct": "1.01e-4", "detection_gap_pct": "1.01e-4", "gross_pnl": "1.01e-8"}


def staged(root: str | Path) -> list[str]:
    """Files of the staged events of a lake, in order of their dates."""
    return sorted(map(str, Path(root).glob("lake/silver/**/stg_execution__stop_events/date=*/*.parquet")))


def differences(ours: Path, other: Path) -> int:
    """Executions that stand in one file only, or of which a column differs: doubles by more than 1e-9 of their size, or
    by a last digit of percent points."""
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    ids = con.execute(f"select typeof(source_event_ids) from '{other}' limit 1").fetchone()
    # the others keep the sixteen bytes
    id_text = "lower(hex(x))" if ids == ("BLOB[]",) else "replace(x::varchar, '-', '')"
    unequal = " or ".join(
        f"coalesce(abs(a.{n}::double - b.{n}::double) > {_TOLERANCE.get(n, f'1e-9 * abs(a.{n}::double)')}, "
        f"(a.{n} is null) != (b.{n} is null))"
        if n in _NUMBERS
        else f"[replace(x::varchar, '-', '') for x in a.{n}] is distinct from list_sort([{id_text} for x in b.{n}])"
        if n == "source_event_ids"
        else f"epoch_us(a.{n}::timestamptz) is distinct from epoch_us(b.{n}::timestamptz)"
        if n.endswith("_at")
        else f"a.{n} is distinct from b.{n}"
        for n in GIVES[2:]
    )
    return con.execute(
        f"select count(*) from '{ours}' as a full join '{other}' as b using (client_id, execution_token) "
        f"where a.status is null or b.status is null or {unequal}"
    ).fetchone()[0]
