"""What the fold-only comparison reads of staged events and gives of executions, the same on every side.

The list of work is that of `int_stop_executions__folded`, whole: read the staged events of all dates from Parquet; keep
the first landing of an event that came on two dates; order an execution's events by event_seq or, where one has none,
by time; status in closed form with its times; first known values, those of the trigger, sums of the distinct reports,
their fees; mean fill, slippage, gap and profit in exact decimals; flags and broken rules; one Parquet file in key
order. Only the hashed execution_id is left out, which is no part of the fold. Every row and column has to be equal.
"""

from pathlib import Path

import duckdb

KEY = ["client_id", "execution_token"]
TRIGGER = [
    "stop_price", "entry_price", "trigger_price", "quantity", "side", "trigger_type", "entry_placed_at", "entry_time",
]  # fmt: skip
READS = [
    *KEY, "event_id", "event_seq", "stream_seq", "occurred_at", "event_rank", "state_event", "event_type",
    "exchange_time", "operation_id", "symbol", "trigger_type", "trigger_price", "stop_price", "quantity", "side",
    "exchange_order_id", "fill_price", "slippage_pct", "source", "retry_count", "error_message", "entry_price",
    "entry_placed_at", "entry_time", "strategy_id", "fee", "fee_asset", "is_fill_imputed", "block_reason",
    "price_age_ms", "spread_bps_at_trigger", "top_depth_quote", "trade_ids", "commissions", "ingested_at", "loaded_at",
    "source_file", "row_hash", "is_provisional",
]  # fmt: skip
FOLDED = [
    *KEY, "date", "operation_id", "symbol", "side", "payload_strategy_id", "trigger_type", "stop_price",
    "trigger_price", "entry_price", "entry_placed_at", "entry_time", "quantity", "status", "triggered_at",
    "submitted_at", "executed_at", "failed_at", "blocked_at", "block_reason", "exchange_order_id", "executed_quantity",
    "filled_notional", "filled_quantity", "is_fill_imputed", "error_message", "reported_slippage_pct", "exit_fees",
    *(f"trigger_event_{name}" for name in TRIGGER), "trigger_available_at", "terminal_available_at", "price_age_ms",
    "spread_bps_at_trigger", "top_depth_quote", "source", "execution_source", "retry_count", "event_count",
    "first_event_seq", "last_event_seq", "first_event_at", "last_ingested_at", "source_event_ids", "stream_seqs",
    "is_provisional", "has_null_seq", "is_shared", "is_lone_failure", "has_post_trade_breach",
    "has_block_after_executed",
]  # fmt: skip
"""Of an execution, before it is priced and judged."""
GIVES = [
    *(n for n in FOLDED if n not in (
        "filled_notional", "filled_quantity", "is_shared", "has_post_trade_breach", "has_block_after_executed"
    )),
    "fill_price", "slippage_pct", "slippage_vs_trigger_pct", "detection_gap_pct", "abs_slippage_pct", "gross_pnl",
    "quality_flags", "failed_rules",
]  # fmt: skip
DATES = 11
"""3.6 million events, which is what pandas can hold in 5 GB."""
UNSORTED = ("exit_fees",)
"""Lists whose order beside a NULL is the engine's own."""


def staged(root: str | Path) -> list[str]:
    """Files of the staged events of a lake, in order of their dates; of at most ``DATES``."""
    files = Path(root).glob("lake/silver/**/stg_execution__stop_events/date=*/*.parquet")
    return sorted(map(str, files))[:DATES]


def differences(ours: Path, other: Path) -> dict[str, int]:
    """How many executions stand in one file only (``rows``), and by column in how many it differs; empty when equal."""
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    types = [
        dict(con.execute(f"select column_name, column_type from (describe from '{p}')").fetchall())
        for p in (ours, other)
    ]
    unequal = {"rows": "a.status is null or b.status is null"}
    for name in GIVES[2:]:
        sides = [_comparable(f"{side}.{name}", name, of[name]) for side, of in zip("ab", types, strict=True)]
        unequal[name] = (
            f"a.status is not null and b.status is not null and {' is distinct from '.join(sides)}"
        )
    counts = ", ".join(f"count(case when {condition} then 1 end)" for condition in unequal.values())
    found = con.execute(
        f"select {counts} from '{ours}' as a full join '{other}' as b using (client_id, execution_token)"
    ).fetchone()
    return {name: count for name, count in zip(unequal, found, strict=True) if count}


def _comparable(value: str, name: str, kind: str) -> str:
    if name == "source_event_ids":  # others keep the sixteen bytes of an id
        return f"[{'lower(hex(x))' if kind == 'BLOB[]' else _plain_id('x')} for x in {value}]"
    if name in UNSORTED:
        return f"list_sort({value})"
    return f"epoch_us({value}::timestamptz)" if kind.startswith("TIMESTAMP") else value


def _plain_id(value: str) -> str:
    return f"replace({value}::varchar, '-', '')"
