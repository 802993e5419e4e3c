"""The fold of staged stop events in Polars: lazy, in closed form as ours; see `replay_columns` for the list of work.
`python -m benchmarks.rivals.replay_with_polars ROOT OUT`."""

import json
import sys
import time

import polars as pl

from benchmarks.bench_build import _peak_mb
from benchmarks.rivals.replay_columns import GIVES, KEY, READS, staged

TIMES = {"SUBMITTED": "submitted_at", "FAILED": "failed_at", "BLOCKED": "blocked_at"}


def main(root: str, out: str) -> None:
    state, at = pl.col("state_event"), pl.col("event_seq")
    events = (
        pl.scan_parquet(staged(root), hive_partitioning=False)
        .select(READS)
        .unique("event_id", keep="first", maintain_order=True)
        .with_columns(
            pl.col("stop_price", "trigger_price", "entry_price", "quantity", "fill_price").cast(pl.Float64)
        )
        .sort(*KEY, "event_seq")
    )
    report = state == "EXECUTED"
    states = ("TRIGGERED", "SUBMITTED", "BLOCKED", "EXECUTED", "FAILED")
    firsts = ("operation_id", "symbol", "side", "trigger_type", "stop_price", "trigger_price", "entry_price")
    folded = events.group_by(KEY, maintain_order=True).agg(
        *(at.filter(state == name).min().alias(name) for name in states),
        at.min().alias("first"),
        pl.len().cast(pl.Int32).alias("event_count"),
        *(pl.col(c).drop_nulls().first() for c in (*firsts, "quantity", "source")),
        pl.col("occurred_at").first().alias("triggered_at"),
        *(
            pl.col("occurred_at").filter(state == name).first().alias(column)
            for name, column in TIMES.items()
        ),
        pl.col("occurred_at").filter(report).max().alias("executed_at"),
        pl.col("quantity").filter(report).sum().alias("executed_quantity"),
        (pl.col("fill_price") * pl.col("quantity")).filter(report).sum().alias("notional"),
        pl.col("exchange_order_id").filter(report).drop_nulls().first(),
        pl.col("error_message").filter(state == "FAILED").drop_nulls().last(),
        pl.col("retry_count").max(),
        pl.col("event_id").alias("source_event_ids"),
        pl.col("ingested_at").max().alias("last_ingested_at"),
    )

    def before(left: str, right: str) -> pl.Expr:
        return (pl.col(left) < pl.col(right)).fill_null(True)

    executed = pl.col("EXECUTED").is_not_null()
    sign = pl.when(pl.col("side") == "SELL").then(1.0).otherwise(-1.0)
    level, fill = pl.col("stop_price"), pl.col("fill_price")
    rows = (
        folded.with_columns(
            blocked=pl.when(
                before("BLOCKED", "SUBMITTED") & before("BLOCKED", "FAILED") & before("BLOCKED", "EXECUTED")
            ).then(pl.col("BLOCKED")),
            fill_price=pl.when(executed).then((pl.col("notional") / pl.col("executed_quantity")).round(8)),
            executed_quantity=pl.when(executed).then(pl.col("executed_quantity")),
            triggered_at=pl.when(pl.col("TRIGGERED") == pl.col("first")).then(pl.col("triggered_at")),
        )
        .with_columns(
            failed=pl.when(before("FAILED", "EXECUTED") & before("FAILED", "blocked")).then(pl.col("FAILED"))
        )
        .with_columns(
            status=pl.when(executed)
            .then(pl.lit("EXECUTED"))
            .when(pl.col("failed").is_not_null())
            .then(pl.lit("FAILED"))
            .when(pl.col("blocked").is_not_null())
            .then(pl.lit("BLOCKED"))
            .when(pl.col("SUBMITTED").is_not_null())
            .then(pl.lit("SUBMITTED"))
            .otherwise(pl.lit("PENDING")),
            failed_at=pl.when(pl.col("failed").is_not_null()).then(pl.col("failed_at")),
            blocked_at=pl.when(pl.col("blocked").is_not_null()).then(pl.col("blocked_at")),
            slippage_pct=(sign * (level - fill) / level * 100).round(4),
            detection_gap_pct=(sign * (level - pl.col("trigger_price")) / level * 100).round(4),
            gross_pnl=(sign * (fill - pl.col("entry_price")) * pl.col("executed_quantity")).round(8),
        )
        .filter(
            level.is_not_null() & pl.col("quantity").is_not_null() & pl.col("side").is_not_null(),
            pl.min_horizontal(level, "trigger_price", "entry_price", "quantity", "executed_quantity", fill)
            > 0,
            (pl.col("status") != "EXECUTED") | fill.is_not_null(),
            pl.len().over("execution_token") == 1,
            pl.col("slippage_pct").is_between(-50, 50).fill_null(True),
            (pl.col("submitted_at") >= pl.col("triggered_at")).fill_null(True),
            (pl.col("executed_at") >= pl.col("submitted_at")).fill_null(True),
            (pl.col("executed_at") >= pl.col("triggered_at")).fill_null(True),
        )
    )
    rows.select(GIVES).collect().write_parquet(out, compression="zstd", compression_level=3)


if __name__ == "__main__":
    before = time.process_time()  # imports are no part of the fold, on no side
    main(*sys.argv[1:])
    print(json.dumps({"cpu_s": time.process_time() - before, "peak_mb": _peak_mb()}))
