"""What was planned, and what must come of it: Parquet tables and truth.json. No loader and no model may read them.

Money, prices and quantities are DECIMAL(20,8), percent points doubles of four decimals, times UTC microseconds.
"""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MONEY, TIME, NUMBER = pa.decimal128(20, 8), pa.timestamp("us", tz="UTC"), pa.float64()
_ID, _INT, _TEXT, _BOOL = pa.int64(), pa.int32(), pa.string(), pa.bool_()
_KEYS = {"client_id": _ID, "execution_token": _TEXT, "operation_id": _ID, "symbol": _TEXT}
EXECUTIONS = pa.schema(
    {
        "date": _TEXT, **_KEYS, "side": _TEXT, "strategy_id": _ID, "trigger_type": _TEXT, "stop_price": MONEY,
        "trigger_price": MONEY, "entry_price": MONEY, "entry_placed_at": TIME, "entry_time": TIME, "quantity": MONEY,
        "executed_quantity": MONEY, "status": _TEXT, "triggered_at": TIME, "submitted_at": TIME, "executed_at": TIME,
        "failed_at": TIME, "blocked_at": TIME, "block_reason": _TEXT, "exchange_order_id": _TEXT, "fill_price": MONEY,
        "slippage_pct": NUMBER, "slippage_vs_trigger_pct": NUMBER, "detection_gap_pct": NUMBER, "fee_quote": MONEY,
        "gross_pnl": MONEY, "net_pnl": MONEY, "source": _TEXT, "retry_count": _INT, "event_count": _INT,
        "source_event_ids": pa.list_(_TEXT), "is_current": _BOOL, "is_fee_unpriced": _BOOL,
        "has_fill_without_event": _BOOL, "report_count": _INT, "shape": _TEXT, "failed_rules": pa.list_(_TEXT),
    }
)  # fmt: skip
OPERATIONS = pa.schema(
    {
        "client_id": _ID, "operation_id": _ID, "strategy_id": _ID, "symbol": _TEXT, "side": _TEXT,
        "account_type": _TEXT, "status": _TEXT, "leverage": _INT, "created_at": TIME, "opened_at": TIME,
        "closed_at": TIME, "entry_order_count": _INT, "exit_order_count": _INT, "planned_quantity": MONEY,
        "stop_price": MONEY, "target_price": MONEY, "entry_quantity": MONEY, "exit_quantity": MONEY,
        "remaining_quantity": MONEY, "dust_quantity": MONEY, "max_position_notional": MONEY, "avg_entry_price": MONEY,
        "avg_exit_price": MONEY, "initial_risk_quote": MONEY, "stop_distance_pct": NUMBER, "gross_pnl": MONEY,
        "gross_pnl_fifo": MONEY, "fees_quote": MONEY, "interest_quote": MONEY, "net_pnl": MONEY, "return_pct": NUMBER,
        "r_multiple": NUMBER, "mae_pct": NUMBER, "mfe_pct": NUMBER, "exit_reason": _TEXT, "is_reconciled": _BOOL,
    }
)  # fmt: skip
PORTFOLIO = pa.schema(
    {
        "client_id": _ID, "snapshot_time": TIME, "total_equity_quote": MONEY, "total_equity_btc": MONEY,
        "spot_value": MONEY, "margin_net_value": MONEY, "margin_debt": MONEY, "margin_level_min": NUMBER,
        "unrealized_pnl": MONEY, "open_operations": _INT, "net_external_flow_since_prev": MONEY,
        "twr_period_return": NUMBER, "drawdown_pct": NUMBER, "unpriced_assets": _INT, "is_complete": _BOOL,
    }
)  # fmt: skip
ANOMALIES = pa.schema({**_KEYS, "date": _TEXT, "anomaly_code": _TEXT, "event_id": _TEXT})
FEATURES = pa.schema(
    {
        **_KEYS, "as_of": TIME, "stop_distance_pct": NUMBER, "time_to_trigger_sec": _ID, "time_in_position_sec": _ID,
        "volatility_15m": NUMBER, "volume_24h": pa.decimal128(28, 8), "volume_24h_base": pa.decimal128(28, 8),
        "hour_of_day": _INT, "day_of_week": _INT, "consecutive_failures_1h": _INT, "side": _TEXT,
        "trigger_type": _TEXT, "source": _TEXT, "order_notional_quote": MONEY,
        "order_qty_to_median_1m_volume": NUMBER, "detection_gap_pct": NUMBER, "last_minute_return_closing": NUMBER,
        "status": _TEXT, "is_quarantined": _BOOL, "execution_success": _BOOL, "slippage_pct": NUMBER,
        "slippage_breach": _BOOL, "slippage_breach_0p1": _BOOL, "slippage_breach_0p5": _BOOL,
        "slippage_breach_1p0": _BOOL, "execution_time_sec": NUMBER,
    }
)  # fmt: skip
SCHEMAS = {
    "executions": EXECUTIONS, "operations": OPERATIONS, "portfolio": PORTFOLIO, "anomalies": ANOMALIES,
    "features": FEATURES,
}  # fmt: skip
_RENAMED = {"entry_time": "entry_us", "snapshot_time": "snapshot_us", "as_of": "as_of"}


class TruthFiles:
    """Parquet below ``root/truth``, a row group a day; ``counts`` of what the tables hold."""

    def __init__(self, root: Path) -> None:
        folder = root / "truth"
        folder.mkdir(parents=True, exist_ok=True)
        self._writers = {
            name: pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd")
            for name, schema in SCHEMAS.items()
        }
        self.rows: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.anomalies: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def write(self, executions: list[dict], operations: list[dict], portfolio: list[dict]) -> None:
        """Rows of the engine, with integers of 1e-8 and of microseconds."""
        anomalies = [row for e in executions for row in self._anomalies(e)]
        features = [_features(e) for e in executions if e["triggered_us"] is not None]
        for e in executions:
            self._count(e)
        for name, rows in (
            ("executions", executions), ("operations", operations), ("portfolio", portfolio), ("anomalies", anomalies),
            ("features", features),
        ):  # fmt: skip
            self.rows[name] += len(rows)
            if rows:
                self._writers[name].write_table(_table(rows, SCHEMAS[name]))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _anomalies(self, e: dict) -> list[dict]:
        found = list(e["anomalies"])
        if e["has_fill_without_event"]:
            found.append(("FILL_WITHOUT_EVENT", None))
        rows = [{**e, "anomaly_code": code, "event_id": event_id} for code, event_id in found]
        if e["foreign_event_id"]:
            other = {**e, "client_id": e["foreign_client_id"], "operation_id": e["foreign_operation_id"]}
            rows += [{**row, "anomaly_code": "TENANT_MISMATCH", "event_id": None} for row in (e, other)]
            rows.append({**other, "anomaly_code": "MISSING_TRIGGER", "event_id": e["foreign_event_id"]})
        for row in rows:
            self.anomalies[row["anomaly_code"]] += 1
        return rows

    def _count(self, e: dict) -> None:
        self.statuses[e["status"]] += 1
        if e["shape"]:
            self.shapes[e["shape"]] += 1
        copies = 2 if e["foreign_event_id"] else 1  # the other client's row goes with it
        for rule in e["failed_rules"]:
            self.rules[rule] += copies
        self.counts["quarantined"] += copies if e["failed_rules"] else 0
        self.counts["tokens"] += copies
        self.counts["partial_fill_tokens"] += e["report_count"] > 1
        self.counts["unpriced_executions"] += e["is_fee_unpriced"]
        days = {t // 86_400_000_000 for t in _times(e)}
        self.counts["midnight_tokens"] += len(days) > 1


def _times(e: dict) -> list[int]:
    names = ("triggered_us", "submitted_us", "executed_us", "failed_us", "blocked_us")
    return [e[name] for name in names if e.get(name) is not None]


def _features(e: dict) -> dict:
    """Inputs and labels at the trigger, by their formulas. Source: spec/execution.md 5.1, 5.4."""
    t, entry, stop = e["triggered_us"], e["entry_price"], e["stop_price"]
    days, rest = divmod(t // 1_000_000, 86_400)
    sign = 1 if e["side"] == "SELL" else -1
    quantity = e["quantity"] / 1e8
    slippage = e["slippage_pct"]
    row = {
        **e, "as_of": t, "stop_distance_pct": round(abs(entry - stop) / entry * 100, 4),
        "time_to_trigger_sec": (t - e["entry_placed_us"]) // 1_000_000,
        "time_in_position_sec": (t - e["entry_us"]) // 1_000_000, "hour_of_day": rest // 3600,
        "day_of_week": (days + 3) % 7,  # 1970-01-01 was a Thursday
        "volatility_15m": None if e["volatility_15m"] is None else round(e["volatility_15m"], 6),
        "order_notional_quote": _half_up(e["trigger_price"] * e["quantity"]),
        "order_qty_to_median_1m_volume": quantity / e["median_1m_volume"] if e["median_1m_volume"] else None,
        "last_minute_return_closing": None if e["last_return"] is None else sign * e["last_return"],
        "is_quarantined": bool(e["failed_rules"]), "execution_success": e["status"] == "EXECUTED",
        "execution_time_sec": None,
    }  # fmt: skip
    for name, limit in (("", 10.0), ("_0p1", 0.1), ("_0p5", 0.5), ("_1p0", 1.0)):
        row[f"slippage_breach{name}"] = None if slippage is None else slippage > limit
    if e["executed_us"] is not None and e["status"] == "EXECUTED":
        row["execution_time_sec"] = float(round(Decimal(e["executed_us"] - t) / 1_000_000, 3))
    return row


def _half_up(value: int) -> int:
    return (2 * value + 10**8) // (2 * 10**8)


def _table(rows: list[dict], schema: pa.Schema) -> pa.Table:
    return pa.table([_column(rows, field) for field in schema], schema=schema)


def _column(rows: list[dict], field: pa.Field) -> pa.Array:
    name = field.name
    if pa.types.is_timestamp(field.type):
        source = _RENAMED.get(name) or name.replace("_at", "_us")
        return pa.array([row.get(source) for row in rows], pa.int64()).cast(field.type)
    values = [row.get(name) for row in rows]
    if pa.types.is_decimal(field.type):
        return pa.array([None if v is None else Decimal(v).scaleb(-8) for v in values], field.type)
    return pa.array(values, field.type)
