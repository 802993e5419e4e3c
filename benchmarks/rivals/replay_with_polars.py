"""The fold of stop events in Polars: lazy, in closed form as ours; the columns that decide status, price, slippage and
profit, and the remarks on events. `python -m benchmarks.rivals.replay_with_polars ROOT OUT`."""

import json
import sys
import time

import polars as pl

from benchmarks.bench_build import _peak_mb

KINDS = {
    "STOP_TRIGGERED": "T", "EXECUTION_SUBMITTED": "S", "EXECUTED": "X", "FAILED": "F", "BLOCKED": "B",
    "STALE_PRICE": "B", "KILL_SWITCH": "B", "SLIPPAGE_BREACH": "B", "CIRCUIT_BREAKER": "B",
}  # fmt: skip
KEY = ["client_id", "execution_token"]


def main(root: str, out: str) -> None:
    kind = pl.col("kind")
    at = pl.col("event_seq")
    events = (
        pl.scan_parquet(f"{root}/lake/bronze/events/*/*.parquet", hive_partitioning=False)
        .sort("loaded_at", maintain_order=True)
        .unique("event_id", keep="first", maintain_order=True)
        .with_columns(
            kind=pl.col("event_type").replace_strict(KINDS),
            entry_price=pl.col("payload_json").str.json_path_match("$.entry_price").cast(pl.Decimal(20, 8)),
            fee=pl.col("payload_json").str.json_path_match("$.fills[0].commission").cast(pl.Decimal(20, 8)),
            trades=pl.col("payload_json").str.json_path_match("$.fills[0].trade_id"),
        )
        .drop("payload_json")
        .sort(*KEY, "event_seq")
    )
    first = {name: at.filter(kind == name).min().alias(name) for name in "TSBXF"}
    report = kind == "X"
    folded = events.group_by(KEY, maintain_order=True).agg(
        *first.values(),
        at.min().alias("first"),
        pl.len().alias("event_count"),
        *(
            pl.col(c).drop_nulls().first()
            for c in ("operation_id", "symbol", "side", "stop_price", "trigger_price")
        ),
        *(pl.col(c).drop_nulls().first() for c in ("entry_price", "quantity", "trigger_type", "source")),
        pl.col("stop_price").n_unique().alias("levels"),
        *(
            pl.col("occurred_at").filter(kind == k).min().alias(n)
            for k, n in {
                "T": "triggered_at",
                "S": "submitted_at",
                "F": "failed_at",
                "B": "blocked_at",
            }.items()
        ),
        pl.col("occurred_at").filter(report).max().alias("executed_at"),
        pl.col("quantity").filter(report).sum().alias("executed_quantity"),
        (pl.col("fill_price").cast(pl.Float64) * pl.col("quantity").cast(pl.Float64))
        .filter(report)
        .sum()
        .alias("notional"),
        pl.col("fee").filter(report).sum().alias("fee_quote"),
        pl.col("exchange_order_id").drop_nulls().first(),
        pl.col("error_message").drop_nulls().last(),
        pl.col("retry_count").max(),
        pl.col("event_id").sort().alias("source_event_ids"),
        pl.col("ingested_at").max().alias("last_ingested_at"),
    )

    def before(left: str, right: str) -> pl.Expr:
        return (pl.col(left) < pl.col(right)).fill_null(True)

    sign = pl.when(pl.col("side") == "SELL").then(1.0).otherwise(-1.0)
    price = {
        c: pl.col(c).cast(pl.Float64) for c in ("stop_price", "trigger_price", "entry_price", "fill_price")
    }
    states = (
        folded.with_columns(
            blocked=pl.when(before("B", "S") & before("B", "F") & before("B", "X")).then(pl.col("B")),
            fill_price=pl.col("notional") / pl.col("executed_quantity").cast(pl.Float64),
        )
        .with_columns(failed=pl.when(before("F", "X") & before("F", "blocked")).then(pl.col("F")))
        .with_columns(
            status=pl.when(pl.col("X").is_not_null())
            .then(pl.lit("EXECUTED"))
            .when(pl.col("failed").is_not_null())
            .then(pl.lit("FAILED"))
            .when(pl.col("blocked").is_not_null())
            .then(pl.lit("BLOCKED"))
            .when(pl.col("S").is_not_null())
            .then(pl.lit("SUBMITTED"))
            .otherwise(pl.lit("PENDING")),
            executed_quantity=pl.when(pl.col("X").is_not_null()).then(pl.col("executed_quantity")),
            slippage_pct=(
                sign * (price["stop_price"] - price["fill_price"]) / price["stop_price"] * 100
            ).round(4),
            detection_gap_pct=(
                sign * (price["stop_price"] - price["trigger_price"]) / price["stop_price"] * 100
            ).round(4),
            gross_pnl=sign
            * (price["fill_price"] - price["entry_price"])
            * pl.col("executed_quantity").cast(pl.Float64),
        )
    )
    states.collect().write_parquet(out, compression="zstd", compression_level=3)


if __name__ == "__main__":
    main(*sys.argv[1:])
    print(json.dumps({"cpu_s": time.process_time(), "peak_mb": _peak_mb()}))
