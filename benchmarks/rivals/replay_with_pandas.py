"""The fold of staged stop events in pandas over Arrow columns: one sort, grouped firsts, no loop over groups; see
`replay_columns` for the list of work. `python -m benchmarks.rivals.replay_with_pandas ROOT OUT`."""

import json
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench_build import _peak_mb
from benchmarks.rivals.replay_columns import GIVES, KEY, READS, staged

LAST = np.iinfo(np.int64).max
NUMBERS = ("stop_price", "trigger_price", "entry_price", "quantity", "fill_price")
TIMES = {"SUBMITTED": "submitted_at", "FAILED": "failed_at", "BLOCKED": "blocked_at"}


def main(root: str, out: str) -> None:
    table = pa.concat_tables([pq.ParquetFile(file).read(columns=READS) for file in staged(root)])
    for name in NUMBERS:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].cast(pa.float64()))
    at = table.schema.get_field_index("event_id")
    ids = pa.chunked_array([chunk.storage for chunk in table["event_id"].chunks])
    events = table.set_column(at, "event_id", ids).to_pandas(types_mapper=pd.ArrowDtype)
    del table
    events = events.drop_duplicates("event_id").sort_values([*KEY, "event_seq"], kind="stable")

    grouped = events.groupby(KEY, sort=False)
    firsts = ["operation_id", "symbol", "side", "trigger_type", *NUMBERS[:4], "source"]
    rows = grouped[firsts].first()
    rows["event_count"] = grouped.size()
    rows["retry_count"] = grouped["retry_count"].max()
    rows["last_ingested_at"] = grouped["ingested_at"].max()
    rows["source_event_ids"] = grouped["event_id"].agg(list)
    states = {name: part.groupby(KEY, sort=False) for name, part in events.groupby("state_event")}
    for name in ("TRIGGERED", "SUBMITTED", "BLOCKED", "EXECUTED", "FAILED"):
        rows[name] = states[name]["event_seq"].min() if name in states else pd.NA
    for name, column in TIMES.items():
        rows[column] = states[name]["occurred_at"].first() if name in states else pd.NaT
    rows["error_message"] = states["FAILED"]["error_message"].last()
    first, opened = grouped["event_seq"].min(), grouped["occurred_at"].first()
    rows["triggered_at"] = opened.where((rows["TRIGGERED"] == first).fillna(False))
    reports = events[events["state_event"] == "EXECUTED"].copy()
    reports["notional"] = reports["fill_price"] * reports["quantity"]
    of = reports.groupby(KEY, sort=False)
    rows["executed_at"], rows["exchange_order_id"] = (
        of["occurred_at"].max(),
        of["exchange_order_id"].first(),
    )
    sums = of[["quantity", "notional"]].sum()
    rows["executed_quantity"] = sums["quantity"]
    rows["fill_price"] = (sums["notional"] / sums["quantity"]).round(8)

    at = {n: rows[n].fillna(LAST).to_numpy(np.int64) for n in ("SUBMITTED", "BLOCKED", "EXECUTED", "FAILED")}
    is_block = (
        (at["BLOCKED"] < at["SUBMITTED"]) & (at["BLOCKED"] < at["FAILED"]) & (at["BLOCKED"] < at["EXECUTED"])
    )
    is_failure = (at["FAILED"] < at["EXECUTED"]) & ((at["FAILED"] < at["BLOCKED"]) | ~is_block)
    rows["failed_at"] = rows["failed_at"].where(is_failure)
    rows["blocked_at"] = rows["blocked_at"].where(is_block)
    rows["status"] = np.select(
        [at["EXECUTED"] != LAST, is_failure, is_block, at["SUBMITTED"] != LAST],
        ["EXECUTED", "FAILED", "BLOCKED", "SUBMITTED"],
        "PENDING",
    )
    sign = np.where(rows["side"] == "SELL", 1.0, -1.0)
    level, seen, entry, asked, fill, done = (
        rows[name].to_numpy(float, na_value=np.nan)
        for name in (
            "stop_price",
            "trigger_price",
            "entry_price",
            "quantity",
            "fill_price",
            "executed_quantity",
        )
    )
    slippage = np.round(sign * (level - fill) / level * 100, 4)
    rows["slippage_pct"] = slippage
    rows["detection_gap_pct"] = np.round(sign * (level - seen) / level * 100, 4)
    rows["gross_pnl"] = np.round(sign * (fill - entry) * done, 8)
    accepted = ~(np.isnan(level) | np.isnan(asked) | rows["side"].isna().to_numpy())
    accepted &= ~(np.fmin.reduce([level, seen, entry, asked, fill, done]) <= 0) & ~(np.abs(slippage) > 50)
    accepted &= ~((rows["status"] == "EXECUTED").to_numpy() & np.isnan(fill))
    for earlier, later in (
        ("triggered_at", "submitted_at"),
        ("submitted_at", "executed_at"),
        ("triggered_at", "executed_at"),
    ):
        accepted &= ~(rows[later] < rows[earlier]).fillna(False).to_numpy(bool)
    accepted &= ~rows.index.get_level_values("execution_token").duplicated(keep=False)
    rows = rows[accepted].reset_index()
    rows[GIVES].to_parquet(out, compression="zstd", compression_level=3)


if __name__ == "__main__":
    before = time.process_time()  # imports are no part of the fold, on no side
    main(*sys.argv[1:])
    print(json.dumps({"cpu_s": time.process_time() - before, "peak_mb": _peak_mb()}))
