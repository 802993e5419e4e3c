"""The fold of stop events in pandas over Arrow columns: one sort, grouped firsts, no loop over groups; the columns that
decide status, price, slippage and profit. `python -m benchmarks.rivals.replay_with_pandas ROOT OUT`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.bench_build import _peak_mb

KINDS = {
    "STOP_TRIGGERED": "T", "EXECUTION_SUBMITTED": "S", "EXECUTED": "X", "FAILED": "F", "BLOCKED": "B",
    "STALE_PRICE": "B", "KILL_SWITCH": "B", "SLIPPAGE_BREACH": "B", "CIRCUIT_BREAKER": "B",
}  # fmt: skip
KEY = ["client_id", "execution_token"]
LAST = np.iinfo(np.int64).max


def main(root: str, out: str) -> None:
    files = sorted(Path(root, "lake", "bronze", "events").glob("*/*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    payload = table["payload_json"]
    for name in ("entry_price", "commission"):  # no parser of JSON columns: a pattern is the fastest there is
        found = pc.extract_regex(payload, rf'"{name}":"(?P<value>[^"]*)"')
        values = pc.struct_field(pc.if_else(pc.is_valid(found), found, None), "value")
        table = table.append_column(f"payload_{name}", values.cast(pa.float64()))
    for name in ("stop_price", "trigger_price", "quantity", "fill_price"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].cast(pa.float64()))
    table = table.drop_columns(["payload_json", "row_hash", "_extra", "source_file", "ingest_batch_id"])
    events = table.to_pandas(types_mapper=pd.ArrowDtype)
    del table
    events = events.sort_values("loaded_at", kind="stable").drop_duplicates("event_id")
    events["kind"] = events["event_type"].map(KINDS)
    events = events.sort_values([*KEY, "event_seq"], kind="stable")

    grouped = events.groupby(KEY, sort=False)
    firsts = [
        "operation_id",
        "symbol",
        "side",
        "stop_price",
        "trigger_price",
        "payload_entry_price",
        "quantity",
    ]
    rows = grouped[[*firsts, "trigger_type", "source", "exchange_order_id"]].first()
    rows["event_count"] = grouped.size()
    rows["retry_count"] = grouped["retry_count"].max()
    rows["last_ingested_at"] = grouped["ingested_at"].max()
    rows["error_message"] = grouped["error_message"].last()
    for kind, name in {"T": "triggered_at", "S": "submitted_at", "F": "failed_at", "B": "blocked_at"}.items():
        of = events[events["kind"] == kind].groupby(KEY, sort=False)
        rows[kind], rows[name] = of["event_seq"].min(), of["occurred_at"].min()
    reports = events[events["kind"] == "X"].copy()
    reports["notional"] = reports["fill_price"] * reports["quantity"]
    of = reports.groupby(KEY, sort=False)
    rows["X"], rows["executed_at"] = of["event_seq"].min(), of["occurred_at"].max()
    sums = of[["quantity", "notional", "payload_commission"]].sum()
    rows["executed_quantity"], rows["fee_quote"] = sums["quantity"], sums["payload_commission"]
    rows["fill_price"] = sums["notional"] / sums["quantity"]
    rows["source_event_ids"] = grouped["event_id"].agg(list)

    at = {kind: rows[kind].fillna(LAST).to_numpy(np.int64) for kind in "SBFX"}
    is_block = (at["B"] < at["S"]) & (at["B"] < at["F"]) & (at["B"] < at["X"])
    is_failure = (at["F"] < at["X"]) & ((at["F"] < at["B"]) | ~is_block)
    rows["status"] = np.select(
        [at["X"] != LAST, is_failure, is_block, at["S"] != LAST],
        ["EXECUTED", "FAILED", "BLOCKED", "SUBMITTED"],
        "PENDING",
    )
    sign = np.where(rows["side"] == "SELL", 1.0, -1.0)
    level, fill = rows["stop_price"].to_numpy(float), rows["fill_price"].to_numpy(float, na_value=np.nan)
    rows["slippage_pct"] = np.round(sign * (level - fill) / level * 100, 4)
    rows["detection_gap_pct"] = np.round(
        sign * (level - rows["trigger_price"].to_numpy(float)) / level * 100, 4
    )
    entry = rows["payload_entry_price"].to_numpy(float, na_value=np.nan)
    rows["gross_pnl"] = sign * (fill - entry) * rows["executed_quantity"].to_numpy(float, na_value=np.nan)
    rows.reset_index().to_parquet(out, compression="zstd", compression_level=3)


if __name__ == "__main__":
    main(*sys.argv[1:])
    print(json.dumps({"cpu_s": time.process_time(), "peak_mb": _peak_mb()}))
