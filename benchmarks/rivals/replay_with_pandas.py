"""The fold of staged stop events in pandas over Arrow columns and NumPy, no loop over groups; see `replay_columns` for
the list of work. `python -m benchmarks.rivals.replay_with_pandas ROOT OUT`.

Tokens are made numbers once. As in ours, executions that are as they should be (trigger, submission and an end, each
once and in order) are three rows put side by side; the others, few, are sorted and grouped.
"""

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
from benchmarks.rivals.replay_columns import FOLDED, GIVES, KEY, READS, TRIGGER, staged

KNOWN = [
    "operation_id", "symbol", "side", "strategy_id", "trigger_type", "stop_price", "trigger_price", "entry_price",
    "entry_placed_at", "entry_time", "quantity", "source",
]  # fmt: skip
OF_TRIGGER = ["price_age_ms", "spread_bps_at_trigger", "top_depth_quote"]
MONEY, WIDE = pa.decimal128(20, 8), pa.decimal256(41, 16)
STATES = ("TRIGGERED", "SUBMITTED", "BLOCKED", "EXECUTED", "FAILED")


def main(files: list[str], out: str | Path) -> None:
    table = pa.concat_tables([pq.ParquetFile(file).read(columns=READS) for file in files])
    ids = pa.chunked_array([chunk.storage for chunk in table["event_id"].chunks], pa.binary(16))
    table = table.set_column(table.schema.get_field_index("event_id"), "event_id", ids)
    events = table.to_pandas(types_mapper=pd.ArrowDtype)
    del table
    is_plain, code = plain_tokens(events)
    rest = events[~is_plain[code]]
    rows = plain(events, is_plain, code)
    del events
    if len(rest):
        rows = pd.concat([rows, contested(rest)], ignore_index=True)
    rows = judged(rows)[GIVES].sort_values(KEY)
    rows.to_parquet(out, compression="zstd", compression_level=3, index=False)


def plain_tokens(events: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """By number of a token whether its execution is plain, and each event's number. A token that several clients have
    is not plain."""
    code, tokens = pd.factorize(events["execution_token"])
    client = events["client_id"].to_numpy(np.int64)
    first_client = np.empty(len(tokens), np.int64)
    first_client[code] = client
    count = np.bincount(code, minlength=len(tokens))
    bad = np.bincount(
        code[(client != first_client[code]) | events["event_seq"].isna().to_numpy()], minlength=len(tokens)
    )
    seq = events["event_seq"].fillna(-1).to_numpy(np.int64)
    state = events["state_event"].fillna("").to_numpy(object)

    def place(*states: str) -> np.ndarray:
        """event_seq of the one event of these states, -1 where there is none."""
        found = np.full(len(tokens), -1)
        is_of = np.isin(state, states)
        found[code[is_of]] = seq[is_of]
        return found

    trigger, submit, block = place("TRIGGERED"), place("SUBMITTED"), place("BLOCKED")
    answer, end = place("EXECUTED", "FAILED"), place("FAILED", "BLOCKED")
    second = np.where(submit >= 0, submit, end)
    is_plain = np.select(
        [count == 1, count == 2, count == 3],
        [
            (trigger >= 0) | (block >= 0),
            (trigger >= 0) & (second >= 0) & (trigger < second),
            (trigger >= 0) & (submit >= 0) & (answer >= 0) & (trigger < submit) & (submit < answer),
        ],
        False,
    )
    return is_plain & (bad == 0), code


def plain(events: pd.DataFrame, is_plain: np.ndarray, code: np.ndarray) -> pd.DataFrame:
    of_plain = is_plain[code]
    number = np.cumsum(is_plain) - 1  # of the execution among the plain ones
    state = events["state_event"]

    def side_by_side(states: list[str]) -> pd.DataFrame:
        at = np.full(int(is_plain.sum()), -1)
        is_of = of_plain & state.isin(states).to_numpy(bool)
        at[number[code[is_of]]] = np.flatnonzero(is_of)
        return events.reindex(at)  # -1 is no label: a row of NULLs

    parts = {"t": side_by_side(["TRIGGERED"]), "s": side_by_side(["SUBMITTED"])}
    parts["e"] = side_by_side(["EXECUTED", "FAILED", "BLOCKED"])
    trigger, submit, end = (part.reset_index(drop=True) for part in parts.values())
    each = (trigger, submit, end)

    def coalesced(name: str) -> pd.Series:
        return trigger[name].fillna(submit[name]).fillna(end[name])

    what, kind = end["state_event"], end["event_type"]
    is_report = (what == "EXECUTED").fillna(False).astype(bool)
    is_failure = (what == "FAILED").fillna(False).astype(bool)
    is_block = (what == "BLOCKED").fillna(False).astype(bool)
    mine = events[of_plain]
    numbers, count = number[code[of_plain]], len(trigger)
    rows = {n: coalesced(n) for n in (*KEY, *KNOWN) if n != "strategy_id"}
    rows["payload_strategy_id"] = coalesced("strategy_id")
    opened = trigger["occurred_at"].fillna(end["occurred_at"])
    waiting = pd.Series(np.where(submit["event_id"].notna(), "SUBMITTED", "PENDING"), dtype=what.dtype)
    rows |= {
        "date": opened.dt.date,
        "status": what.fillna(waiting),
        "triggered_at": trigger["occurred_at"],
        "submitted_at": submit["occurred_at"],
        "executed_at": end["occurred_at"].where(is_report),
        "failed_at": end["occurred_at"].where(is_failure),
        "blocked_at": end["occurred_at"].where(is_block),
        "block_reason": end["block_reason"].where(end["block_reason"] != "")
        .where((kind == "BLOCKED").fillna(False).astype(bool), kind.where(is_block)),
        "exchange_order_id": end["exchange_order_id"].where(is_report),
        "executed_quantity": money(arrow(end["quantity"].where(is_report))),
        "filled_notional": product(arrow(end["fill_price"].where(is_report)), arrow(end["quantity"])),
        "filled_quantity": end["quantity"].where(is_report & end["fill_price"].notna()),
        "is_fill_imputed": is_report & end["is_fill_imputed"].fillna(False).astype(bool),
        "error_message": end["error_message"].where(is_failure),
        "reported_slippage_pct": end["slippage_pct"].where(is_report),
        "exit_fees": fees(end[is_report], np.flatnonzero(is_report), count),
        **{f"trigger_event_{n}": trigger[n] for n in TRIGGER},
        "trigger_available_at": available(trigger),
        "terminal_available_at": available(end),
        **{n: trigger[n] for n in OF_TRIGGER},
        "execution_source": end["source"].where(is_report | is_failure),
        "retry_count": greatest(*(part["retry_count"] for part in each)),
        "event_count": np.bincount(numbers, minlength=count).astype(np.int32),
        "first_event_seq": trigger["event_seq"].fillna(end["event_seq"]),
        "last_event_seq": end["event_seq"].fillna(submit["event_seq"]).fillna(trigger["event_seq"]),
        "first_event_at": opened,
        "last_ingested_at": greatest(*(part["ingested_at"] for part in each)),
        "source_event_ids": ids_of(mine, numbers, count),
        "stream_seqs": numbers_of(mine, numbers, count),
        "is_provisional": np.logical_or.reduce(
            [part["is_provisional"].fillna(False).to_numpy(bool) for part in each]
        ),
    }  # fmt: skip
    for flag in (
        "has_null_seq",
        "is_shared",
        "is_lone_failure",
        "has_post_trade_breach",
        "has_block_after_executed",
    ):
        rows[flag] = np.zeros(count, bool)
    return frame(rows)[FOLDED]


def contested(events: pd.DataFrame) -> pd.DataFrame:
    token, client, seq = events["execution_token"], events["client_id"], events["event_seq"]
    clients = client.groupby(token)
    events = events.assign(
        has_null_seq=seq.isna().groupby([client, token]).transform("any").astype(bool),
        is_shared=(clients.transform("min") != clients.transform("max")) & ~token.str.startswith("legacy:"),
    )
    # the first landing of an event
    events = events.sort_values(["loaded_at", "row_hash", "ingested_at", "source_file"])
    events = events.drop_duplicates([*KEY, "event_id"])
    events["place"] = events["event_seq"].mask(events["has_null_seq"], 0)
    events = events.sort_values([*KEY, "place", "occurred_at", "event_rank", "event_id"]).reset_index(
        drop=True
    )
    state, kind = events["state_event"].astype(object), events["event_type"].astype(object)
    is_one = {name: (state == name).to_numpy(bool) for name in STATES}
    # A report is told by its order and trades or, where it names no trades, by its order, quantity and price.
    untold = events["trade_ids"].isna()
    told_by = events[[*KEY, "exchange_order_id", "trade_ids"]].assign(
        quantity=events["quantity"].where(untold), fill_price=events["fill_price"].where(untold)
    )
    reports = is_one["EXECUTED"].copy()
    reports[reports] = ~told_by[reports].duplicated().to_numpy()
    code = events.groupby(KEY, sort=False).ngroup().to_numpy()
    count = int(code.max()) + 1
    order = np.arange(len(events)) - np.searchsorted(code, code) + 1
    events["available_at"] = available(events)

    def at(mask: np.ndarray, *, last: bool = False) -> np.ndarray:
        """The row of the first (or last) event of each execution where ``mask`` holds, -1 where it does nowhere."""
        found, held = np.full(count, -1), np.flatnonzero(mask)
        held = held if last else held[::-1]
        found[code[held]] = held  # of rows with one code the one that is written last stays
        return found

    def value(name: str, row: np.ndarray) -> pd.Series:
        return events[name].reindex(row).reset_index(drop=True)

    def known(name: str, mask: np.ndarray | bool = True, *, last: bool = False) -> pd.Series:
        return value(name, at(mask & events[name].notna().to_numpy(bool), last=last))

    def summed(values: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.Array:
        given = pa.table({"code": code[reports], "value": pc.cast(values, pa.decimal256(60, kind.scale))})
        sums = given.group_by("code").aggregate([("value", "sum")]).sort_by("code")
        by_code = dict(zip(sums["code"].to_pylist(), sums["value_sum"].to_pylist(), strict=True))
        return pa.array([by_code.get(n) for n in range(count)], pa.decimal256(60, kind.scale))

    first = {name: at(mask) for name, mask in is_one.items()}
    position = {name: np.where(row >= 0, order[row], np.iinfo(np.int64).max) for name, row in first.items()}
    never = np.iinfo(np.int64).max
    submit, block, execution, failure = (position[n] for n in ("SUBMITTED", "BLOCKED", "EXECUTED", "FAILED"))
    block = np.where((block < submit) & (block < failure) & (block < execution), block, never)
    failure = np.where((failure < execution) & (failure < block), failure, never)
    is_failed, is_blocked, is_executed = failure != never, block != never, execution != never
    is_triggered = position["TRIGGERED"] == 1
    triggers = first["TRIGGERED"]
    breach, other = (
        at((kind == "SLIPPAGE_BREACH").to_numpy(bool), last=True),
        at(is_one["BLOCKED"] & (kind != "SLIPPAGE_BREACH").to_numpy(bool), last=True),
    )
    reason = value("block_reason", first["BLOCKED"]).where(
        value("event_type", first["BLOCKED"]) == "BLOCKED", value("event_type", first["BLOCKED"])
    )
    opened = at(np.ones(len(events), bool))
    by_code = events.groupby(code)
    of_reports = events[reports].groupby(code[reports])
    unknown = np.bincount(code[state.isna().to_numpy(bool)], minlength=count) > 0
    rows = {n: known(n) for n in KNOWN if n != "strategy_id"}
    rows["payload_strategy_id"] = known("strategy_id")
    rows |= {f"trigger_event_{n}": value(n, triggers) for n in TRIGGER}
    for name in ("trigger_price", "entry_price", "quantity"):
        rows[name] = rows[f"trigger_event_{name}"].fillna(rows[name])
    price, size = arrow(events["fill_price"][reports]), arrow(events["quantity"][reports])
    status = np.select(
        [unknown, is_executed, is_failed, is_blocked, submit != never],
        ["", "EXECUTED", "FAILED", "BLOCKED", "SUBMITTED"],
        "PENDING",
    )
    reported_at = of_reports["occurred_at"].max().reindex(range(count)).reset_index(drop=True)
    ended_at = of_reports["available_at"].max().reindex(range(count)).reset_index(drop=True)
    rows |= {
        **{n: value(n, opened) for n in (*KEY, "has_null_seq", "is_shared")},
        "date": value("occurred_at", opened).dt.date,
        "status": pd.Series(status, dtype=events["state_event"].dtype).where(~unknown),
        "triggered_at": value("occurred_at", triggers).where(is_triggered),
        "submitted_at": value("occurred_at", first["SUBMITTED"])
        .where((submit < execution) & (submit < failure) & (submit < block)),
        "executed_at": reported_at,
        "failed_at": value("occurred_at", first["FAILED"]).where(is_failed),
        "blocked_at": value("occurred_at", first["BLOCKED"]).where(is_blocked),
        "block_reason": reason.where(is_blocked & (reason != "").fillna(False).to_numpy(bool)),
        "exchange_order_id": known("exchange_order_id", reports),
        "executed_quantity": money(summed(size, MONEY)),
        "filled_notional": pc.cast(summed(product(price, size), WIDE), WIDE),
        "filled_quantity": pc.cast(
            summed(pc.if_else(pc.is_valid(price), size, pa.scalar(None, MONEY)), MONEY), pa.decimal128(38, 8)
        ),
        "is_fill_imputed": np.bincount(
            code[reports & events["is_fill_imputed"].fillna(False).to_numpy(bool)], minlength=count
        ) > 0,
        "error_message": known("error_message", is_one["FAILED"], last=True),
        "reported_slippage_pct": known("slippage_pct", reports, last=True),
        "exit_fees": fees(events[reports], code[reports], count),
        "trigger_available_at": value("available_at", triggers).where(is_triggered),
        "terminal_available_at": ended_at.where(
            is_executed,
            value("available_at", first["FAILED"]).where(
                is_failed, value("available_at", first["BLOCKED"]).where(is_blocked)
            ),
        ),
        **{n: value(n, triggers) for n in OF_TRIGGER},
        "execution_source": known("source", is_one["EXECUTED"] | is_one["FAILED"], last=True),
        "retry_count": by_code["retry_count"].max(),
        "event_count": np.bincount(code).astype(np.int32),
        "first_event_seq": by_code["event_seq"].min(),
        "last_event_seq": by_code["event_seq"].max(),
        "first_event_at": value("occurred_at", opened),
        "last_ingested_at": by_code["ingested_at"].max(),
        "source_event_ids": ids_of(events, code, count),
        "stream_seqs": numbers_of(events, code, count),
        "is_provisional": np.bincount(code[events["is_provisional"].to_numpy(bool)], minlength=count) > 0,
        "is_lone_failure": np.bincount(code[~is_one["FAILED"] & state.notna().to_numpy(bool)], minlength=count) == 0,
        "has_post_trade_breach": is_executed & (np.where(breach >= 0, order[breach], -1) > execution),
        "has_block_after_executed": is_executed & (np.where(other >= 0, order[other], -1) > execution),
    }  # fmt: skip
    return frame(rows)[FOLDED]


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Executions priced, with their flags and the rules that they break."""
    level, seen, entry, asked, done = (
        arrow(rows[n])
        for n in ("stop_price", "trigger_price", "entry_price", "quantity", "executed_quantity")
    )
    side = rows["side"].astype(object)
    sign = np.select([side == "SELL", side == "BUY"], [1, -1], 0)
    notional, filled = (numbers(arrow(rows[n])) for n in ("filled_notional", "filled_quantity"))
    fill = money(pa.array(notional / np.where(filled == 0, np.nan, filled), from_pandas=True))
    is_real = ~rows["is_fill_imputed"].to_numpy(bool)
    real = pa.array(is_real)
    is_defaulted, kind = rows["trigger_type"].isna(), rows["trigger_type"].fillna("STOP_LOSS")
    aim = np.select([kind == "STOP_LOSS", kind == "TAKE_PROFIT"], [1, -1], 0)
    signs = pc.if_else(pa.array(sign != 0), pa.array(sign, pa.int8()), pa.scalar(None, pa.int8()))
    gain = pc.multiply(
        pc.cast(pc.subtract(fill, entry), pa.decimal256(21, 8)), pc.cast(signs, pa.decimal256(3, 0))
    )
    rows["fill_price"], rows["trigger_type"] = series(fill), kind
    rows["detection_gap_pct"] = series(adverse(signs, level, seen))
    rows["slippage_pct"] = series(only(real, adverse(signs, level, fill)))
    rows["slippage_vs_trigger_pct"] = series(only(real, adverse(signs, seen, fill)))
    rows["abs_slippage_pct"] = rows["slippage_pct"].abs()
    rows["gross_pnl"] = series(only(real, money(product(gain, done))))
    over = pc.greater(
        pc.multiply(
            pc.cast(pc.subtract(done, asked), pa.decimal256(21, 8)),
            pa.scalar(100_000_000, pa.decimal256(9, 0)),
        ),
        pc.cast(asked, pa.decimal256(30, 8)),
    )
    status = rows["status"] == "EXECUTED"
    slippage = numbers(arrow(rows["slippage_pct"]))
    amounts = (level, seen, entry, asked, done, fill)
    with np.errstate(invalid="ignore"):
        lowest = np.fmin.reduce([numbers(amount) for amount in amounts])
        rows["quality_flags"] = series(names_of(
            BLOCK_AFTER_EXECUTED=rows["has_block_after_executed"],
            FILL_IMPUTED=~is_real,
            OVERFILL=pc.fill_null(over, False),
            POST_TRADE_SLIPPAGE_BREACH=rows["has_post_trade_breach"],
            TRIGGER_TYPE_DEFAULTED=is_defaulted,
            WRONG_SIDE_STOP=(sign * aim != 0) & (sign * aim * numbers(pc.subtract(level, entry)) >= 0),
        ))  # fmt: skip
        earlier, between, later = (rows[n] for n in ("triggered_at", "submitted_at", "executed_at"))
        rows["failed_rules"] = series(names_of(
            EXECUTED_NO_FILL=status.fillna(False).to_numpy(bool) & pc.is_null(fill).to_numpy(False),
            NONPOSITIVE=lowest <= 0,
            REQUIRED_NULL=rows[["client_id", "symbol", "stop_price", "quantity", "side"]].isna().any(axis=1),
            SLIPPAGE_RANGE=np.abs(slippage) > 50,
            TENANT_MISMATCH=rows["is_shared"],
            TIME_ORDER=(between < earlier).fillna(False) | (later < between).fillna(False)
            | (later < earlier).fillna(False),
        ))  # fmt: skip
    return rows


def fees(reports: pd.DataFrame, code: np.ndarray, count: int) -> pa.Array:
    """What the reports of each of ``count`` executions paid: their commissions, else their own fees."""
    listed, paid_at = (
        arrow(reports["commissions"]),
        arrow(reports["exchange_time"].fillna(reports["occurred_at"])),
    )
    at, paid = pc.list_parent_indices(listed), pc.list_flatten(listed)
    single = np.flatnonzero((reports["commissions"].isna() & reports["fee"].notna()).to_numpy(bool))
    names = {"asset": "fee_asset", "amount": "fee", "price": "fill_price"}
    columns = {
        name: pa.concat_arrays([pc.struct_field(paid, name), arrow(reports[own]).take(pa.array(single))])
        for name, own in names.items()
    }
    rows = np.concatenate([at.to_numpy().astype(np.int64), single])
    table = pa.table({"code": code[rows], **columns, "paid_at": paid_at.take(pa.array(rows))})
    table = table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()
    held = [table[n].combine_chunks() for n in table.column_names[1:]]
    values = pa.StructArray.from_arrays(held, names=table.column_names[1:])
    return lists(table["code"].to_numpy(), count, values, null_of_none=True)


def ids_of(events: pd.DataFrame, code: np.ndarray, count: int) -> pa.Array:
    ids = arrow(events["event_id"])
    halves = np.frombuffer(ids.buffers()[1], ">u8", offset=16 * ids.offset, count=2 * len(ids)).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0], code))
    return lists(code[order], count, ids.take(pa.array(order)))


def numbers_of(events: pd.DataFrame, code: np.ndarray, count: int) -> pa.Array:
    has = events["stream_seq"].notna().to_numpy(bool)
    values, code = events["stream_seq"][has].to_numpy(np.int64), code[has]
    order = np.lexsort((values, code))
    return lists(code[order], count, pa.array(values[order]), null_of_none=True)


def lists(code: np.ndarray, count: int, values: pa.Array, *, null_of_none: bool = False) -> pa.Array:
    """``values``, in order of their numbers, as one list a number."""
    sizes = np.bincount(code, minlength=count)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    missing = pa.array(sizes == 0) if null_of_none else None
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=missing)


def names_of(**conditions: object) -> pa.Array:
    """The names whose conditions hold, in order, as one list a row."""
    held = np.column_stack([np.asarray(c, bool) for c in conditions.values()])
    row, name = np.nonzero(held)
    return lists(row, len(held), pa.array([*conditions]).take(pa.array(name)))


def adverse(signs: pa.Array, base: pa.Array, price: pa.Array) -> pa.Array:
    gap = pc.multiply(pc.subtract(base, price), pc.multiply(signs, pa.scalar(100, pa.int8())))
    below = numbers(base)
    with np.errstate(invalid="ignore"):
        exact = np.round(numbers(gap) / np.where(below == 0, np.nan, below), 4)
    return pc.cast(
        pa.array(np.clip(exact, -999999.9999, 999999.9999), from_pandas=True), pa.decimal128(10, 4)
    )


def money(values: pa.Array) -> pa.Array:
    """As DECIMAL(20,8), halves away from zero; what it can't hold is NULL."""
    size = np.abs(numbers(values))
    held = only(pa.array(size <= 999_999_999_999), values)
    if pa.types.is_decimal(held.type):
        held = pc.round(held, 8, "half_towards_infinity")
    return pc.cast(held, MONEY, safe=False)


def product(left: pa.Array, right: pa.Array) -> pa.Array:
    """Exact, of two DECIMAL(20,8); NULL from 10^18 on."""
    size = np.abs(numbers(left) * numbers(right))
    held = [
        pc.cast(only(pa.array(size < 1e18), side), pa.decimal256(20, 8), safe=False) for side in (left, right)
    ]
    return pc.multiply(*held)


def only(mask: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def numbers(values: pa.Array) -> np.ndarray:
    """As doubles, NaN for NULL."""
    return pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)


def available(events: pd.DataFrame) -> pd.Series:
    return greatest(events["occurred_at"], events["ingested_at"])


def greatest(*columns: pd.Series) -> pd.Series:
    """Of what isn't NULL."""
    arrays = [arrow(column) for column in columns]  # times have no kernel for it, their numbers have
    kind, plain = arrays[0].type, pa.int32() if pa.types.is_int32(arrays[0].type) else pa.int64()
    return series(pc.cast(pc.max_element_wise(*(pc.cast(a, plain) for a in arrays)), kind))


def arrow(column: pd.Series) -> pa.Array:
    found = pa.array(column)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def series(values: pa.Array) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(values))


def frame(columns: dict[str, object]) -> pd.DataFrame:
    found = {n: series(v) if isinstance(v, pa.Array) else v for n, v in columns.items()}
    return pd.DataFrame(found)


if __name__ == "__main__":
    before_s = time.process_time()  # imports are no part of the fold, on no side
    main(staged(sys.argv[1]), sys.argv[2])
    print(json.dumps({"cpu_s": time.process_time() - before_s, "peak_mb": _peak_mb()}))
