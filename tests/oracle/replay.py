"""The replay of stop events, one event after the other, by the table of spec/execution.md 4.2.

Plain and slow. Events are dicts with the columns of bronze.events, ``loaded_at``, ``row_hash`` and ``payload_json`` as
a dict; times are datetimes with UTC, numbers Decimal. Order, batches and copies of the input must not matter.
"""

import datetime
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal

from tests.oracle.execution_fees import exit_fees

RANKS = {"TRIGGERED": 0, "SUBMITTED": 1, "BLOCKED": 2, "EXECUTED": 3, "FAILED": 4}
KINDS = {
    "STOP_TRIGGERED": "TRIGGERED", "EXECUTION_SUBMITTED": "SUBMITTED", "EXECUTED": "EXECUTED", "FAILED": "FAILED",
    "BLOCKED": "BLOCKED", "STALE_PRICE": "BLOCKED", "KILL_SWITCH": "BLOCKED", "SLIPPAGE_BREACH": "BLOCKED",
    "CIRCUIT_BREAKER": "BLOCKED",
}  # fmt: skip

# (state, event) → (next state, anomaly). A next state of None leaves the state and the event is ignored; "keep" leaves
# the state too.
TABLE = {
    ("none", "TRIGGERED"): ("PENDING", None),
    ("none", "SUBMITTED"): ("SUBMITTED", "MISSING_TRIGGER"),
    ("none", "EXECUTED"): ("EXECUTED", "MISSING_TRIGGER"),
    ("none", "FAILED"): ("FAILED", "MISSING_TRIGGER"),
    ("none", "BLOCKED"): ("BLOCKED", None),
    ("PENDING", "TRIGGERED"): (None, "DUPLICATE_EVENT"),
    ("PENDING", "SUBMITTED"): ("SUBMITTED", None),
    ("PENDING", "EXECUTED"): ("EXECUTED", "MISSING_SUBMIT"),
    ("PENDING", "FAILED"): ("FAILED", None),
    ("PENDING", "BLOCKED"): ("BLOCKED", None),
    ("SUBMITTED", "TRIGGERED"): (None, "OUT_OF_ORDER"),
    ("SUBMITTED", "SUBMITTED"): (None, "DUPLICATE_EVENT"),
    ("SUBMITTED", "EXECUTED"): ("EXECUTED", None),
    ("SUBMITTED", "FAILED"): ("FAILED", None),
    ("SUBMITTED", "BLOCKED"): ("keep", "BLOCK_AFTER_SUBMIT"),
    ("EXECUTED", "TRIGGERED"): (None, "EVENT_AFTER_TERMINAL"),
    ("EXECUTED", "SUBMITTED"): (None, "EVENT_AFTER_TERMINAL"),
    ("EXECUTED", "EXECUTED"): ("EXECUTED", None),  # accumulates, unless the report is known
    ("EXECUTED", "FAILED"): ("keep", "CONFLICTING_TERMINAL"),
    ("EXECUTED", "BLOCKED"): ("keep", None),  # a flag
    ("FAILED", "TRIGGERED"): (None, "EVENT_AFTER_TERMINAL"),
    ("FAILED", "SUBMITTED"): (None, "EVENT_AFTER_TERMINAL"),
    ("FAILED", "EXECUTED"): ("EXECUTED", "LATE_FILL_AFTER_FAILURE"),
    ("FAILED", "FAILED"): (None, "DUPLICATE_EVENT"),
    ("FAILED", "BLOCKED"): (None, "EVENT_AFTER_TERMINAL"),
    ("BLOCKED", "TRIGGERED"): (None, "EVENT_AFTER_TERMINAL"),
    ("BLOCKED", "SUBMITTED"): (None, "EVENT_AFTER_TERMINAL"),
    ("BLOCKED", "EXECUTED"): ("EXECUTED", "LATE_FILL_AFTER_BLOCK"),
    ("BLOCKED", "FAILED"): (None, "EVENT_AFTER_TERMINAL"),
    ("BLOCKED", "BLOCKED"): (None, "DUPLICATE_EVENT"),
}
ERRORS = {
    "TENANT_MISMATCH", "CONFLICTING_TERMINAL", "LATE_FILL_AFTER_FAILURE", "LATE_FILL_AFTER_BLOCK",
    "FILL_WITHOUT_EVENT", "OVERFILL",
}  # fmt: skip
INFOS = {"MISSING_SUBMIT", "DUPLICATE_EVENT", "NULL_SEQ"}


def token_of(event: dict) -> str:
    return event.get("execution_token") or f"legacy:{event['operation_id']}"


def replay(events: list[dict], closes: dict | None = None) -> tuple[list[dict], list[dict]]:
    """Executions, accepted ones with ``failed_rules`` empty, and anomalies (no order).

    ``closes`` are closes of 1-minute bars by (symbol, bar_end), for fees in a third asset.
    """
    groups: dict[tuple[int, str], list[dict]] = defaultdict(list)
    for event in events:
        groups[event["client_id"], token_of(event)].append(event)
    clients = defaultdict(set)
    for client, token in groups:
        clients[token].add(client)

    executions, anomalies = [], []
    for (client, token), landed in groups.items():
        row, found = _execution(landed, closes or {})
        row |= {"client_id": client, "execution_token": token}
        if not token.startswith("legacy:") and len(clients[token]) > 1:
            row["failed_rules"] = sorted([*row["failed_rules"], "TENANT_MISMATCH"])
            found.append((None, "TENANT_MISMATCH"))
        executions.append(row)
        for event_id, code in found:
            anomalies.append(_anomaly(row, event_id, code))

    for row, gap in _gaps(executions):
        anomalies.append(_anomaly(row, None, "SEQ_GAP") | {"gap": gap})
    _mark_current(executions)
    return executions, anomalies


def _anomaly(row: dict, event_id: str | None, code: str) -> dict:
    severity = "error" if code in ERRORS else "info" if code in INFOS else "warn"
    if code == "MISSING_TRIGGER" and row["kinds"] == {"FAILED"}:
        severity = "info"
    return {
        "client_id": row["client_id"], "execution_token": row["execution_token"], "event_id": event_id,
        "anomaly_code": code, "severity": severity, "date": row["date"], "operation_id": row["operation_id"],
        "detected_at": row["last_ingested_at"],
    }  # fmt: skip


def _first_landings(landed: list[dict]) -> tuple[list[dict], set]:
    """One row an event, the first loaded, and the ids of events that came in two forms."""
    by_id = defaultdict(list)
    for event in landed:
        by_id[event["event_id"]].append(event)
    kept, conflicts = [], set()
    for event_id, copies in by_id.items():
        kept.append(min(copies, key=lambda e: (e["loaded_at"], e["row_hash"], e["ingested_at"])))
        if len({e["row_hash"] for e in copies}) > 1:
            conflicts.add(event_id)
    return kept, conflicts


def _execution(landed: list[dict], closes: dict) -> tuple[dict, list]:
    events, conflicts = _first_landings(landed)
    anomalies = [(event_id, "KEY_HASH_CONFLICT") for event_id in conflicts]
    flags = set()

    has_null_seq = any(e["event_seq"] is None for e in events)
    if has_null_seq:
        events.sort(key=lambda e: (e["occurred_at"], RANKS[KINDS[e["event_type"]]], e["event_id"]))
        anomalies.append((None, "NULL_SEQ"))
    else:
        events.sort(
            key=lambda e: (e["event_seq"], e["occurred_at"], RANKS[KINDS[e["event_type"]]], e["event_id"])
        )

    state = "none"
    times: dict[str, datetime.datetime] = {}
    reports, seen, block_reason = [], set(), None
    for event in events:
        kind = KINDS[event["event_type"]]
        after, anomaly = TABLE[state, kind]
        counts = after not in (None, "keep")
        if kind == "EXECUTED":
            report = _report_key(event)
            if report in seen:
                counts, anomaly = False, "DUPLICATE_EVENT"
            else:
                seen.add(report)
                reports.append(event)
        if state == "EXECUTED" and kind == "BLOCKED":
            breach = event["event_type"] == "SLIPPAGE_BREACH"
            flags.add("POST_TRADE_SLIPPAGE_BREACH" if breach else "BLOCK_AFTER_EXECUTED")
        if anomaly:
            anomalies.append((event["event_id"], anomaly))
        if counts:
            state = after
            if kind == "EXECUTED":
                times[kind] = max(event["occurred_at"], times.get(kind, event["occurred_at"]))
            else:
                times.setdefault(kind, event["occurred_at"])
            if kind == "BLOCKED":
                payload = event["payload_json"]
                block_reason = (
                    payload.get("block_reason") if event["event_type"] == "BLOCKED" else event["event_type"]
                )

    row = _columns(events, reports, closes, flags)
    for event in events:
        price = event["stop_price"]
        if price is not None and price != row["stop_price"]:
            anomalies.append((event["event_id"], "LEVEL_CHANGED"))
    row |= {
        "status": state, "triggered_at": times.get("TRIGGERED"), "submitted_at": times.get("SUBMITTED"),
        "executed_at": times.get("EXECUTED"), "failed_at": times.get("FAILED"), "blocked_at": times.get("BLOCKED"),
        "block_reason": block_reason, "kinds": {KINDS[e["event_type"]] for e in events},
    }  # fmt: skip
    row["date"] = (row["triggered_at"] or events[0]["occurred_at"]).date()
    executed, requested = row["executed_quantity"], row["quantity"]
    if None not in (executed, requested) and executed > requested * (1 + Decimal("1e-8")):
        flags.add("OVERFILL")
        anomalies.append((None, "OVERFILL"))
    flags.add("UNKNOWN_OPERATION")  # these worlds have stop events alone
    row["quality_flags"] = sorted(flags)
    row["failed_rules"] = _failed_rules(row)
    return row, anomalies


def _report_key(event: dict) -> tuple:
    fills = event["payload_json"].get("fills") or []
    trades = sorted(f["trade_id"] for f in fills if f.get("trade_id") is not None)
    if trades:
        return event["exchange_order_id"], tuple(trades)
    return event["exchange_order_id"], event["quantity"], event["fill_price"]


def _first(events: list[dict], read) -> object:
    return next((value for e in events if (value := read(e)) is not None), None)


def _of_trigger(events: list[dict], read) -> object:
    trigger = next((e for e in events if e["event_type"] == "STOP_TRIGGERED"), None)
    value = read(trigger) if trigger else None
    return value if value is not None else _first(events, read)


def _number(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def money(value: Decimal | float) -> Decimal:
    return Decimal(value).quantize(Decimal("1e-8"), ROUND_HALF_UP)


def percent(value: float) -> Decimal:
    return Decimal(f"{round(value, 4):.4f}")


def _columns(events: list[dict], reports: list[dict], closes: dict, flags: set) -> dict:
    row: dict = {}
    for name in ("operation_id", "symbol", "side", "stop_price"):
        row[name] = _first(events, lambda e, name=name: e[name])
    row["trigger_type"] = _first(events, lambda e: e["trigger_type"] or e["payload_json"].get("trigger_type"))
    if row["trigger_type"] is None:
        row["trigger_type"] = "STOP_LOSS"
        flags.add("TRIGGER_TYPE_DEFAULTED")
    row["trigger_price"] = _of_trigger(events, lambda e: e["trigger_price"])
    row["entry_price"] = _of_trigger(events, lambda e: _number(e["payload_json"].get("entry_price")))
    row["quantity"] = _of_trigger(events, lambda e: e["quantity"])

    known = [e["quantity"] for e in reports if e["quantity"] is not None]
    row["executed_quantity"] = sum(known) if known else None
    priced = [e for e in reports if e["quantity"] is not None and e["fill_price"] is not None]
    total = sum(e["quantity"] for e in priced)
    notional = sum(e["quantity"] * e["fill_price"] for e in priced)
    row["fill_price"] = money(notional / total) if total else None
    is_imputed = any(e["payload_json"].get("fill_imputed") is True for e in reports)
    if is_imputed:
        flags.add("FILL_IMPUTED")

    sign = {"SELL": 1, "BUY": -1}.get(row["side"])
    real = None if is_imputed else row["fill_price"]

    def adverse(reference: Decimal | None, price: Decimal | None) -> Decimal | None:
        if None in (sign, reference, price) or reference == 0:
            return None
        return percent(float(sign * (reference - price) * 100) / float(reference))

    row["slippage_pct"] = adverse(row["stop_price"], real)
    row["slippage_vs_trigger_pct"] = adverse(row["trigger_price"], real)
    row["detection_gap_pct"] = adverse(row["stop_price"], row["trigger_price"])
    row["abs_slippage_pct"] = None if row["slippage_pct"] is None else abs(row["slippage_pct"])
    row["gross_pnl"] = None
    if None not in (sign, real, row["entry_price"], row["executed_quantity"]):
        row["gross_pnl"] = money(sign * (real - row["entry_price"]) * row["executed_quantity"])
    row["fee_quote"], fee_flags = exit_fees(reports, row["symbol"], closes)
    flags |= fee_flags
    row["net_pnl"] = (
        None if row["gross_pnl"] is None or row["fee_quote"] is None else row["gross_pnl"] - row["fee_quote"]
    )
    if None not in (sign, row["stop_price"], row["entry_price"]):
        direction = sign * (1 if row["trigger_type"] == "STOP_LOSS" else -1)
        if direction * (row["stop_price"] - row["entry_price"]) >= 0:
            flags.add("WRONG_SIDE_STOP")

    failures = [e for e in events if e["event_type"] == "FAILED"]
    ends = [e for e in events if e["event_type"] in ("EXECUTED", "FAILED")]
    row["error_message"] = next((e["error_message"] for e in failures[::-1] if e["error_message"]), None)
    row["source"] = events[0]["source"]
    row["execution_source"] = ends[-1]["source"] if ends else None
    row["exchange_order_id"] = _first(reports, lambda e: e["exchange_order_id"])
    row["retry_count"] = max(e["retry_count"] for e in events)
    row["event_count"] = len(events)
    row["first_event_at"] = events[0]["occurred_at"]
    row["last_ingested_at"] = max(e["ingested_at"] for e in events)
    row["source_event_ids"] = sorted(e["event_id"] for e in events)
    row["stream_seqs"] = [e["stream_seq"] for e in events if e["stream_seq"] is not None]
    row["is_current"] = None
    return row


def _failed_rules(row: dict) -> list[str]:
    rules = []
    if any(row[name] is None for name in ("symbol", "stop_price", "quantity", "side")):
        rules.append("REQUIRED_NULL")
    if row["slippage_pct"] is not None and not -50 <= row["slippage_pct"] <= 50:
        rules.append("SLIPPAGE_RANGE")
    if row["status"] == "EXECUTED" and row["fill_price"] is None:
        rules.append("EXECUTED_NO_FILL")
    steps = [row[name] for name in ("triggered_at", "submitted_at", "executed_at") if row[name] is not None]
    if steps != sorted(steps):
        rules.append("TIME_ORDER")
    values = ("stop_price", "trigger_price", "entry_price", "quantity", "executed_quantity", "fill_price")
    if any(row[name] is not None and row[name] <= 0 for name in values):
        rules.append("NONPOSITIVE")
    return sorted(rules)


def _gaps(executions: list[dict]) -> list[tuple[dict, int]]:
    """Executions with a number whose predecessor no event of the operation has, and the least such number."""
    numbers = defaultdict(set)
    for row in executions:
        numbers[row["client_id"], row["operation_id"]] |= set(row["stream_seqs"])
    found = []
    for row in executions:
        known = numbers[row["client_id"], row["operation_id"]]
        after = [n for n in row["stream_seqs"] if n > 1 and n - 1 not in known]
        if after:
            found.append((row, min(after)))
    return found


def _mark_current(executions: list[dict]) -> None:
    latest: dict = {}
    for row in executions:
        if not row["failed_rules"]:
            key = row["client_id"], row["operation_id"]
            rank = row["first_event_at"], row["execution_token"]
            latest[key] = max(rank, latest.get(key, rank))
    for row in executions:
        if not row["failed_rules"]:
            rank = row["first_event_at"], row["execution_token"]
            row["is_current"] = rank == latest[row["client_id"], row["operation_id"]]
