"""NDJSON a day, one SQL dump a table, own fills a client and day: the rows as their sources write them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import numpy as np

from ingest.simulator.execution.faults import FaultSchedule
from ingest.simulator.execution.wire import date_text, json_line

_EVENT_COLUMNS = """
    event_id uuid primary key, event_seq bigint, stream_seq bigint, occurred_at timestamptz not null,
    exchange_time timestamptz, operation_id bigint not null, client_id bigint not null, symbol varchar(20) not null,
    event_type varchar(50) not null, trigger_price numeric, stop_price numeric, quantity numeric, side varchar(10),
    execution_token varchar(64), payload_json jsonb not null default '{}', exchange_order_id varchar(100),
    fill_price numeric, slippage_pct numeric, source varchar(20) not null, retry_count integer not null default 0,
    error_message text, ingested_at timestamptz not null default now()"""
_LEDGER_COLUMNS = """
    id bigint primary key, transaction_id varchar(64) not null unique, binance_order_id varchar(64),
    client_id bigint not null, transaction_type varchar(50) not null, status varchar(20) not null,
    symbol varchar(20) not null, asset varchar(10) not null, quantity numeric not null, price numeric,
    total_value numeric, stop_price numeric, risk_amount numeric, fee numeric not null default 0, fee_asset varchar(10),
    side varchar(10), leverage smallint, is_isolated_margin boolean not null, account_type varchar(20) not null,
    category varchar(20) not null, related_operation_id bigint, related_position_id bigint, related_order_id bigint,
    risk_percent numeric, description text not null, source varchar(50) not null, raw_response jsonb,
    created_at timestamptz not null, executed_at timestamptz"""
_OPERATION_COLUMNS = """
    operation_id bigint not null, client_id bigint not null, strategy_id bigint, symbol varchar(20) not null,
    side varchar(10) not null, account_type varchar(20) not null, status varchar(20) not null,
    planned_quantity numeric, stop_price numeric, target_price numeric, leverage integer,
    created_at timestamptz not null, updated_at timestamptz not null,
    primary key (client_id, operation_id, updated_at)"""
_BALANCE_COLUMNS = """
    client_id bigint not null, snapshot_time timestamptz not null, spot_usdc numeric, spot_btc numeric,
    margin_btc_free numeric, margin_btc_borrowed numeric, margin_usdc_free numeric, margin_usdc_borrowed numeric,
    btc_price numeric, total_equity numeric, margin_level numeric, total_equity_btc numeric, spot_btc_value numeric,
    margin_btc_value numeric, balances jsonb, created_at timestamptz not null, primary key (client_id, snapshot_time)"""
TABLES = {
    "events": ("stop_events", _EVENT_COLUMNS),
    "orders": ("audit_transactions", _LEDGER_COLUMNS),
    "operations": ("operations", _OPERATION_COLUMNS),
    "balance_snapshots": ("balance_snapshots", _BALANCE_COLUMNS),
}
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
SHUFFLED_HOUR = 7  # every seventh


class SqlDump:
    """``create table`` and one ``copy`` of its rows, as pg_dump writes them; psql reads it."""

    def __init__(self, path: Path, dataset: str) -> None:
        table, columns = TABLES[dataset]
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._file.write(f"create table {table} ({columns}\n);\n\n")
        self._table, self._names = table, None

    def write(self, row: dict) -> None:
        if self._names is None:
            self._names = list(row)
            self._file.write(f"copy {self._table} ({', '.join(self._names)}) from stdin;\n")
        self._file.write("\t".join([_copied(value) for value in row.values()]) + "\n")

    def close(self) -> None:
        if self._names is not None:
            self._file.write("\\.\n")
        self._file.close()


def _copied(value: object) -> str:
    if value is None:
        return "\\N"
    if type(value) is str and "\\" not in value and value.isprintable():
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, dict | list):
        value = json.dumps(value, separators=(",", ":"))
    return str(value).translate(_COPY_ESCAPES)


class DayFiles:
    """One file of lines a day under ``folder``, opened with the first line."""

    def __init__(self, folder: Path, stem: str, suffix: str = "ndjson") -> None:
        self._folder, self._stem, self._suffix = folder, stem, suffix
        self._date, self._file = "", None
        self.lines = 0

    def at(self, time_us: int) -> TextIO:
        date = date_text(time_us)
        if date != self._date:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            # Not the clock of a row but of its file: days come in order.
            self._file = (self._folder / f"{self._stem}-{date}.{self._suffix}").open(
                "w", encoding="utf-8", newline="\n"
            )
            self._date = date
        return self._file

    def write(self, time_us: int, lines: Iterable[str]) -> None:
        file = self.at(time_us)
        for line in lines:
            file.write(line)
            self.lines += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._date = None, ""


class EventFiles:
    """Events of an hour as they are delivered: numbered in the order of their commits, some again, some shuffled, some
    held back, with lines that are no events among them. ``counts`` is what was written.
    """

    def __init__(self, root: Path, rng: np.random.Generator, schedule: FaultSchedule) -> None:
        self._root, self._rng, self._schedule = root, rng, schedule
        self._files = DayFiles(root / "events" / "events", "events")
        self._dump = SqlDump(root / "postgres" / "stop_events.sql", "events")
        self._next_seq = 1
        self._hour = 0
        self._date, self._highest = "", 0
        self._sample: dict | None = None
        self._held: list[str] = []
        self.counts = dict.fromkeys(
            ("events", "event_lines", "shuffled_lines", "late_events", "null_seq_events", "secret_events"), 0
        )
        self.by_type: dict[str, int] = {}

    def write(self, hour_us: int, events: list[tuple[int, tuple[dict, bool]]]) -> None:
        schedule, lines = self._schedule, []
        for at, (row, is_held) in events:
            if row["event_seq"] is not None:
                row["event_seq"] = self._next_seq
                self._next_seq += 1
            else:
                self.counts["null_seq_events"] += 1
            self.counts["events"] += 1
            self.by_type[row["event_type"]] = self.by_type.get(row["event_type"], 0) + 1
            self._dump.write(row)
            line = (row["event_seq"], json_line(row))
            if is_held:
                self._held.append(line[1])
                continue
            lines.append(line)
            if schedule.take("duplicate-delivery", at):
                lines.append(line)
            if (
                self._sample is None
                and row["event_type"] == "EXECUTED"
                and schedule.take("key-hash-conflict", at)
            ):
                self._sample = row
            if schedule.take("unknown-event-type", at):
                other = row | {
                    "event_id": _new_id(row["event_id"]),
                    "event_type": "STOP_TELEPORTED",
                    "event_seq": None,
                }
                lines.append((None, json_line(other)))
            if schedule.take("malformed-line", at):
                lines.append((None, line[1][: len(line[1]) // 2] + "\n"))
        self._hour += 1
        if "shuffled-delivery" in schedule.faults and self._hour % SHUFFLED_HOUR == 0:
            lines = [lines[k] for k in self._rng.permutation(len(lines)).tolist()]
        if date_text(hour_us) != self._date:
            self._date, self._highest = date_text(hour_us), 0
        for seq, _ in lines:
            if seq is not None:
                self.counts["shuffled_lines"] += seq < self._highest
                self._highest = max(self._highest, seq)
        self.counts["event_lines"] += len(lines)
        self._files.write(hour_us, (text for _, text in lines))

    def close(self) -> None:
        self._files.close()
        self._dump.close()
        if self._held:
            folder = self._root / "events" / "late"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "events-late.ndjson").write_text("".join(self._held), encoding="utf-8")
            self.counts["late_events"] = len(self._held)
        if self._sample is not None:
            folder = self._root / "conflict"
            folder.mkdir(parents=True, exist_ok=True)
            text = json_line(self._sample | {"retry_count": self._sample["retry_count"] + 1})
            (folder / "events-conflict.ndjson").write_text(text, encoding="utf-8")


def _new_id(event_id: str) -> str:
    return ("0" if event_id[0] != "0" else "1") + event_id[1:]


class RowFiles:
    """NDJSON and dump of a dataset whose rows come in order of time."""

    def __init__(self, root: Path, dataset: str) -> None:
        self._files = DayFiles(root / "events" / dataset, dataset)
        self._dump = SqlDump(root / "postgres" / f"{TABLES[dataset][0]}.sql", dataset)
        self._numbers = dataset == "orders"
        self.rows = 0

    def write(self, hour_us: int, rows: list[tuple[int, dict]]) -> None:
        lines = []
        for _, row in rows:
            self.rows += 1
            if self._numbers:
                row["id"] = self.rows
            self._dump.write(row)
            lines.append(json_line(row))
        self._files.write(hour_us, lines)

    def close(self) -> None:
        self._files.close()
        self._dump.close()


class FillFiles:
    """Own fills as bodies of the REST interface, at most 1,000 rows each, one a line: a file a client and day."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, DayFiles] = {}
        self.rows = 0

    def write(self, hour_us: int, fills: list[tuple[int, tuple[int, dict]]]) -> None:
        by_client: dict[int, list[dict]] = {}
        for _, (client, row) in fills:
            by_client.setdefault(client, []).append(row)
        for client, rows in by_client.items():
            if client not in self._files:
                folder = self._root / "binance" / "fills" / f"client-{client}"
                self._files[client] = DayFiles(folder, f"client-{client}-fills", "json")
            bodies = [rows[k : k + 1000] for k in range(0, len(rows), 1000)]
            self._files[client].write(
                hour_us, (json.dumps(body, separators=(",", ":")) + "\n" for body in bodies)
            )
            self.rows += len(rows)

    def close(self) -> None:
        for files in self._files.values():
            files.close()
