"""The fold of staged stop events in Polars, lazy and streamed; see `replay_columns` for the list of work.
`python -m benchmarks.rivals.replay_with_polars ROOT OUT`.

As in ours, executions that are as they should be (trigger, submission and an end, each once and in order) are three
rows put side by side; the others, few, are sorted and grouped.
"""

import json
import sys
import time
from pathlib import Path

import polars as pl

from benchmarks.bench_build import _peak_mb
from benchmarks.rivals.replay_columns import FOLDED, GIVES, KEY, READS, TRIGGER, staged

STATE, SEQ, TOKEN = pl.col("state_event"), pl.col("event_seq"), "execution_token"
KNOWN = [
    "operation_id", "symbol", "side", "strategy_id", "trigger_type", "stop_price", "trigger_price", "entry_price",
    "entry_placed_at", "entry_time", "quantity", "source",
]  # fmt: skip
OF_EACH = ["occurred_at", "ingested_at"]
OF_END = [
    "row", "state_event", "event_type", "block_reason", "exchange_order_id", "fill_price", "is_fill_imputed",
    "error_message", "slippage_pct",
]  # fmt: skip
TOGETHER = [
    "client_id", "retry_count", "event_count", "first_event_seq", "last_event_seq", "last_ingested_at",
    "source_event_ids", "stream_seqs", "is_provisional",
]  # fmt: skip
OF_TRIGGER = ["price_age_ms", "spread_bps_at_trigger", "top_depth_quote"]
ENDS = ["EXECUTED", "FAILED", "BLOCKED"]
EXACT = pl.Decimal(38, 16)


def main(files: list[str], out: str | Path) -> None:
    events = pl.scan_parquet(files, hive_partitioning=False, row_index_name="row").select("row", *READS)
    tokens = tokens_of(events).collect(engine="streaming").lazy()
    rows = pl.concat([plain(events, tokens), contested(events, tokens)])
    rows = judged(rows).select(GIVES).sort(KEY)
    rows.sink_parquet(out, compression="zstd", compression_level=3)


def tokens_of(events: pl.LazyFrame) -> pl.LazyFrame:
    """Whether an execution is plain, and what all its events say together. A token that several clients have is not
    plain, so that the token alone is the key."""
    first = {
        name: pl.when(STATE.is_in(states)).then(SEQ).min().alias(name)
        for name, states in {
            "trigger": ["TRIGGERED"], "submit": ["SUBMITTED"], "answer": ENDS[:2], "end": ENDS[1:],
        }.items()
    }  # fmt: skip
    count, trigger, submit = pl.col("count"), pl.col("trigger"), pl.col("submit")
    return (
        events.group_by(TOKEN)
        .agg(
            *first.values(),
            pl.len().alias("count"),
            (STATE == "BLOCKED").sum().alias("blocks"),
            SEQ.null_count().alias("without_seq"),
            pl.col("client_id").min(),
            pl.col("client_id").max().alias("other_client"),
            pl.col("retry_count").max(),
            pl.len().cast(pl.Int32).alias("event_count"),
            SEQ.min().alias("first_event_seq"),
            SEQ.max().alias("last_event_seq"),
            pl.col("ingested_at").max().alias("last_ingested_at"),
            pl.col("event_id").alias("source_event_ids"),
            pl.col("stream_seq").drop_nulls().alias("stream_seqs"),
            pl.col("is_provisional").any(),
        )
        .select(
            TOKEN,
            *TOGETHER,
            is_plain=(
                pl.when(count == 1).then(trigger.is_not_null() | (pl.col("blocks") == 1))
                .when(count == 2).then(trigger < pl.coalesce(submit, "end"))
                .when(count == 3).then((trigger < submit) & (submit < pl.col("answer")))
            ).fill_null(False)
            & (pl.col("without_seq") == 0)
            & (pl.col("client_id") == pl.col("other_client")),
        )
    )  # fmt: skip


def plain(events: pl.LazyFrame, tokens: pl.LazyFrame) -> pl.LazyFrame:
    def of(states: list[str], columns: list[str], suffix: str) -> pl.LazyFrame:
        rows = events.filter(STATE.is_in(states)).select(TOKEN, *columns)
        return rows.rename({name: f"{name}_{suffix}" for name in columns})

    rows = tokens.filter("is_plain")
    for states, columns, suffix in (
        (["TRIGGERED"], [*OF_EACH, *KNOWN, *OF_TRIGGER], "t"),
        (["SUBMITTED"], ["occurred_at", *KNOWN], "s"),
        (ENDS, [*OF_EACH, *KNOWN, *OF_END], "e"),
    ):
        rows = rows.join(of(states, columns, suffix), on=TOKEN, how="left")

    def each(name: str) -> list[pl.Expr]:
        return [pl.col(f"{name}_{suffix}") for suffix in "tse"]

    state = pl.col("state_event_e")
    is_report = (state == "EXECUTED").fill_null(False)
    fees = paid(events.filter(STATE == "EXECUTED"), ["row"])
    known = {name: pl.coalesce(each(name)) for name in KNOWN}
    opened = pl.coalesce("occurred_at_t", "occurred_at_e")

    def report(value: pl.Expr) -> pl.Expr:
        return pl.when(is_report).then(value)

    return rows.join(fees, left_on="row_e", right_on="row", how="left").select(
        TOKEN,
        *(n for n in TOGETHER if n not in ("source_event_ids", "stream_seqs")),
        opened.dt.date().alias("date"),
        *(known[n].alias(n) for n in KNOWN if n != "strategy_id"),
        known["strategy_id"].alias("payload_strategy_id"),
        status=pl.coalesce(
            state,
            pl.when(pl.col("occurred_at_s").is_not_null()).then(pl.lit("SUBMITTED")).otherwise(pl.lit("PENDING")),
        ),
        triggered_at="occurred_at_t",
        submitted_at="occurred_at_s",
        executed_at=report(pl.col("occurred_at_e")),
        failed_at=pl.when(state == "FAILED").then("occurred_at_e"),
        blocked_at=pl.when(state == "BLOCKED").then("occurred_at_e"),
        block_reason=pl.when(pl.col("event_type_e") == "BLOCKED").then(not_empty("block_reason_e"))
        .when(state == "BLOCKED").then("event_type_e"),
        exchange_order_id=report(pl.col("exchange_order_id_e")),
        executed_quantity=report(money(pl.col("quantity_e"))),
        filled_notional=report(product("fill_price_e", "quantity_e")),
        filled_quantity=pl.when(is_report & pl.col("fill_price_e").is_not_null()).then("quantity_e"),
        is_fill_imputed=is_report & pl.col("is_fill_imputed_e").fill_null(False),
        error_message=pl.when(state == "FAILED").then("error_message_e"),
        reported_slippage_pct=report(pl.col("slippage_pct_e")),
        exit_fees="exit_fees",
        **{f"trigger_event_{n}": pl.col(f"{n}_t") for n in TRIGGER},
        trigger_available_at=available("occurred_at_t", "ingested_at_t"),
        terminal_available_at=available("occurred_at_e", "ingested_at_e"),
        **{n: pl.col(f"{n}_t") for n in OF_TRIGGER},
        execution_source=pl.when(state.is_in(ENDS[:2])).then("source_e"),
        first_event_at=opened,
        source_event_ids=pl.col("source_event_ids").list.sort(),
        stream_seqs=present(pl.col("stream_seqs").list.sort()),
        has_null_seq=False,
        is_shared=False,
        is_lone_failure=False,
        has_post_trade_breach=False,
        has_block_after_executed=False,
    ).select(FOLDED)  # fmt: skip


def contested(events: pl.LazyFrame, tokens: pl.LazyFrame) -> pl.LazyFrame:
    of_token = tokens.filter(~pl.col("is_plain")).select(TOKEN)
    client, legacy = pl.col("client_id"), pl.col(TOKEN).str.starts_with("legacy:")
    by_number = SEQ.is_not_null().all()
    told = (
        events.join(of_token, on=TOKEN, how="semi")
        .with_columns(
            has_null_seq=(~by_number).over(KEY),
            is_shared=~legacy & (client.min() != client.max()).over(TOKEN),
        )
        # the first landing of an event
        .sort("loaded_at", "row_hash", "ingested_at", "source_file")
        .unique([*KEY, "event_id"], keep="first", maintain_order=True)
        .with_columns(place=pl.when(~pl.col("has_null_seq")).then(SEQ))
        .sort(*KEY, "place", "occurred_at", "event_rank", "event_id")
        .with_columns(
            available_at=available("occurred_at", "ingested_at"),
            event_order=pl.int_range(1, pl.len() + 1).over(KEY),
            is_report=(STATE == "EXECUTED").fill_null(False)
            # told by its order and trades or, where it names no trades, by its order, quantity and price
            & pl.struct(
                *KEY, STATE == "EXECUTED", "exchange_order_id", "trade_ids",
                pl.when(pl.col("trade_ids").is_null()).then("quantity").alias("quantity"),
                pl.when(pl.col("trade_ids").is_null()).then("fill_price").alias("fill_price"),
            ).is_first_distinct(),
        )
    )  # fmt: skip
    at, is_report = pl.col("event_order"), pl.col("is_report")

    def known(name: str) -> pl.Expr:
        return pl.col(name).drop_nulls().first()

    def first(name: str, state: str) -> pl.Expr:
        return pl.col(name).filter(STATE.eq(state)).first()

    def position(state: str) -> pl.Expr:
        return at.filter(STATE.eq(state)).min()

    def reported(value: pl.Expr | str) -> pl.Expr:
        return (pl.col(value) if isinstance(value, str) else value).filter(is_report)

    block = pl.col("event_type")
    groups = told.group_by(KEY).agg(
        *(position(state).alias(state) for state in ("TRIGGERED", "SUBMITTED", "BLOCKED", "EXECUTED", "FAILED")),
        *(known(n).alias("payload_strategy_id" if n == "strategy_id" else n) for n in KNOWN),
        *(first(n, "TRIGGERED").alias(f"trigger_event_{n}") for n in TRIGGER),
        *(first(n, "TRIGGERED").alias(n) for n in OF_TRIGGER),
        first("occurred_at", "TRIGGERED").alias("triggered_at"),
        first("available_at", "TRIGGERED").alias("trigger_available_at"),
        first("occurred_at", "SUBMITTED").alias("submitted_at"),
        first("occurred_at", "FAILED").alias("failed_at"),
        first("available_at", "FAILED").alias("failure_available_at"),
        first("occurred_at", "BLOCKED").alias("blocked_at"),
        first("available_at", "BLOCKED").alias("block_available_at"),
        pl.when(block == "BLOCKED").then(pl.col("block_reason")).otherwise(block)
        .filter(STATE == "BLOCKED").first().alias("block_reason"),
        last_breach=at.filter(block == "SLIPPAGE_BREACH").max(),
        last_other_block=at.filter((STATE == "BLOCKED") & (block != "SLIPPAGE_BREACH")).max(),
        unknown_events=STATE.is_null().sum(),
        is_lone_failure=((STATE != "FAILED").sum() == 0),
        error_message=pl.col("error_message").filter(STATE == "FAILED").drop_nulls().last(),
        executed_at=reported("occurred_at").max(),
        execution_available_at=reported("available_at").max(),
        reports=reported("quantity").count(),
        executed_quantity=reported("quantity").sum(),
        filled_notional=reported(product("fill_price", "quantity")).sum(),
        filled_quantity=pl.col("quantity").filter(is_report & pl.col("fill_price").is_not_null()).sum(),
        is_fill_imputed=reported("is_fill_imputed").any(),
        exchange_order_id=reported("exchange_order_id").drop_nulls().first(),
        reported_slippage_pct=reported("slippage_pct").drop_nulls().last(),
        execution_source=pl.col("source").filter(STATE.is_in(ENDS[:2])).drop_nulls().last(),
        retry_count=pl.col("retry_count").max(),
        event_count=pl.len().cast(pl.Int32),
        first_event_seq=SEQ.min(),
        last_event_seq=SEQ.max(),
        first_event_at=pl.col("occurred_at").first(),
        last_ingested_at=pl.col("ingested_at").max(),
        source_event_ids=pl.col("event_id").sort(),
        stream_seqs=pl.col("stream_seq").drop_nulls().sort(),
        is_provisional=pl.col("is_provisional").any(),
        has_null_seq=pl.col("has_null_seq").first(),
        is_shared=pl.col("is_shared").first(),
    )  # fmt: skip
    fees = paid(told.filter(is_report), KEY)
    submit, end, failure = pl.col("SUBMITTED"), pl.col("EXECUTED"), pl.col("failure")

    def before(left: str, *others: str) -> pl.Expr:
        """The position ``left``, where it comes before all of the others that are."""
        return pl.when((pl.col(left) < pl.col(n)).fill_null(True) for n in others).then(left)

    counts = pl.col("reports") > 0
    return (
        groups.join(fees, on=KEY, how="left", nulls_equal=True)
        .with_columns(block=before("BLOCKED", "SUBMITTED", "FAILED", "EXECUTED"))
        .with_columns(failure=before("FAILED", "EXECUTED", "block"))
        .with_columns(
            date=pl.col("first_event_at").dt.date(),
            trigger_price=pl.coalesce("trigger_event_trigger_price", "trigger_price"),
            entry_price=pl.coalesce("trigger_event_entry_price", "entry_price"),
            quantity=pl.coalesce("trigger_event_quantity", "quantity"),
            status=pl.when(pl.col("unknown_events") > 0).then(None)
            .when(end.is_not_null()).then(pl.lit("EXECUTED"))
            .when(failure.is_not_null()).then(pl.lit("FAILED"))
            .when(pl.col("block").is_not_null()).then(pl.lit("BLOCKED"))
            .when(submit.is_not_null()).then(pl.lit("SUBMITTED"))
            .otherwise(pl.lit("PENDING")),
            triggered_at=pl.when(pl.col("TRIGGERED") == 1).then("triggered_at"),
            trigger_available_at=pl.when(pl.col("TRIGGERED") == 1).then("trigger_available_at"),
            submitted_at=pl.when(before("SUBMITTED", "EXECUTED", "failure", "block").is_not_null())
            .then("submitted_at"),
            failed_at=pl.when(failure.is_not_null()).then("failed_at"),
            blocked_at=pl.when(pl.col("block").is_not_null()).then("blocked_at"),
            block_reason=pl.when(pl.col("block").is_not_null()).then(not_empty("block_reason")),
            executed_quantity=pl.when(counts).then(money(pl.col("executed_quantity"))),
            filled_notional=pl.when(counts).then("filled_notional"),
            filled_quantity=pl.when(counts).then("filled_quantity"),
            terminal_available_at=pl.when(end.is_not_null()).then("execution_available_at")
            .when(failure.is_not_null()).then("failure_available_at")
            .when(pl.col("block").is_not_null()).then("block_available_at"),
            stream_seqs=present(pl.col("stream_seqs")),
            has_post_trade_breach=(pl.col("last_breach") > end).fill_null(False),
            has_block_after_executed=(pl.col("last_other_block") > end).fill_null(False),
        )
        .select(FOLDED)
    )  # fmt: skip


def paid(reports: pl.LazyFrame, key: list[str]) -> pl.LazyFrame:
    """What reports paid: their commissions, else their own fees, as one list for each ``key``."""
    paid_at = pl.coalesce("exchange_time", "occurred_at").alias("paid_at")
    listed = reports.filter(pl.col("commissions").is_not_null()).select(*key, paid_at, "commissions")
    single = reports.filter(pl.col("commissions").is_null() & pl.col("fee").is_not_null()).select(
        *key, paid_at, asset="fee_asset", amount="fee", price="fill_price"
    )
    fees = pl.concat([listed.explode("commissions").unnest("commissions"), single], how="diagonal")
    order = ["asset", "amount", "price", "paid_at"]
    fees = fees.sort(*key, *order).select(*key, exit_fees=pl.struct(order))  # a list of structs sorts slowly
    return fees.group_by(key, maintain_order=True).agg("exit_fees")


def judged(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Executions priced, with their flags and the rules that they break."""
    side, level, fill = pl.col("side"), pl.col("stop_price"), pl.col("fill_price")
    seen, entry, asked, done = (
        pl.col(n) for n in ("trigger_price", "entry_price", "quantity", "executed_quantity")
    )
    sign = pl.when(side == "SELL").then(1).when(side == "BUY").then(-1)
    is_real = ~pl.col("is_fill_imputed")
    kind = pl.col("trigger_type").fill_null("STOP_LOSS")
    aim = pl.when(kind == "STOP_LOSS").then(1).when(kind == "TAKE_PROFIT").then(-1)

    def adverse(base: pl.Expr, price: pl.Expr) -> pl.Expr:
        exact = (sign * (base - price) * 100).cast(pl.Float64) / pl.when(base != 0).then(base).cast(
            pl.Float64
        )
        return exact.round(4, mode="half_to_even").clip(-999999.9999, 999999.9999).cast(pl.Decimal(10, 4))

    mean = pl.col("filled_notional").cast(pl.Float64) / pl.when(pl.col("filled_quantity") != 0).then(
        pl.col("filled_quantity")
    ).cast(pl.Float64)
    submitted, triggered, executed = (pl.col(f"{n}_at") for n in ("submitted", "triggered", "executed"))
    return (
        rows.with_columns(fill_price=money(mean))
        .with_columns(
            detection_gap_pct=adverse(level, seen),
            slippage_pct=pl.when(is_real).then(adverse(level, fill)),
            slippage_vs_trigger_pct=pl.when(is_real).then(adverse(seen, fill)),
            gross_pnl=pl.when(is_real).then(money(sign * product(fill - entry, done))),
        )
        .with_columns(
            abs_slippage_pct=pl.col("slippage_pct").abs(),
            trigger_type=kind,
            quality_flags=names_of(
                BLOCK_AFTER_EXECUTED=pl.col("has_block_after_executed"),
                FILL_IMPUTED=pl.col("is_fill_imputed"),
                OVERFILL=(done - asked) * 100_000_000 > asked,
                POST_TRADE_SLIPPAGE_BREACH=pl.col("has_post_trade_breach"),
                TRIGGER_TYPE_DEFAULTED=pl.col("trigger_type").is_null(),
                WRONG_SIDE_STOP=sign * aim * (level - entry) >= 0,
            ),
            failed_rules=names_of(
                EXECUTED_NO_FILL=(pl.col("status") == "EXECUTED") & fill.is_null(),
                NONPOSITIVE=pl.min_horizontal(level, seen, entry, asked, done, fill) <= 0,
                REQUIRED_NULL=pl.any_horizontal(
                    e.is_null() for e in (pl.col("client_id"), pl.col("symbol"), level, asked, side)
                ),
                SLIPPAGE_RANGE=pl.col("slippage_pct").abs() > 50,
                TENANT_MISMATCH=pl.col("is_shared"),
                TIME_ORDER=pl.any_horizontal(
                    later.lt(earlier).fill_null(False)
                    for later, earlier in (
                        (submitted, triggered),
                        (executed, submitted),
                        (executed, triggered),
                    )
                ),
            ),
        )
    )


def names_of(**conditions: pl.Expr) -> pl.Expr:
    """The names whose conditions hold, in order."""
    named = [pl.when(holds).then(pl.lit(name)) for name, holds in conditions.items()]
    return pl.concat_list(named).list.drop_nulls()


def money(value: pl.Expr) -> pl.Expr:
    """As DECIMAL(20,8), halves away from zero; what it can't hold is NULL."""
    held = pl.when(value.is_between(-999999999999, 999999999999)).then(value)
    return held.round(8, mode="half_away_from_zero").cast(pl.Decimal(20, 8))


def product(left: pl.Expr | str, right: pl.Expr | str) -> pl.Expr:
    """Exact, of two DECIMAL(20,8); NULL from 10^18 on."""
    left, right = (pl.col(e) if isinstance(e, str) else e for e in (left, right))
    size = (left.cast(pl.Float64) * right.cast(pl.Float64)).abs()
    return pl.when(size < 10**18).then(left.cast(EXACT) * right)


def available(occurred_at: str, ingested_at: str) -> pl.Expr:
    return pl.max_horizontal(occurred_at, ingested_at)


def not_empty(name: str) -> pl.Expr:
    return pl.when(pl.col(name) != "").then(name)


def present(values: pl.Expr) -> pl.Expr:
    return pl.when(values.list.len() > 0).then(values)


if __name__ == "__main__":
    before_s = time.process_time()  # imports are no part of the fold, on no side
    main(staged(sys.argv[1]), sys.argv[2])
    print(json.dumps({"cpu_s": time.process_time() - before_s, "peak_mb": _peak_mb()}))
