"""Simulated files, read back by plain code that shares nothing with the simulator."""

import csv
import io
import json
import zipfile
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq

from ingest.simulator.execution.simulation import ExecutionSimulation, simulate_execution

SMALL = {"seed": 7, "clients": 2, "days": 4, "ops_per_day": 25, "symbols": ["BTCUSDC", "ETHUSDC"]}


def simulate(out: Path, **other: object) -> ExecutionSimulation:
    return simulate_execution(out, **(SMALL | other))


def rows(out: Path, dataset: str) -> list[dict]:
    """NDJSON rows of a dataset in file order; lines that are no JSON are left out."""
    found = []
    for file in sorted((out / "events" / dataset).glob("*.ndjson")):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def fills(out: Path) -> list[tuple[int, dict]]:
    """(client, own fill) of every body."""
    found = []
    for file in sorted((out / "binance" / "fills").rglob("*.json")):
        client = int(file.parent.name.removeprefix("client-"))
        for line in file.read_text().splitlines():
            found += [(client, row) for row in json.loads(line)]
    return found


def truth(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / "truth" / f"{name}.parquet").to_pylist()


def tape(out: Path, symbol: str) -> list[tuple[int, Decimal, Decimal, int]]:
    """(milliseconds, price, quantity, agg id) of a symbol out of zips, REST bodies and captures."""
    found = []
    for file in sorted((out / "binance" / "spot").rglob(f"*{symbol}-aggTrades-*.zip")):
        with zipfile.ZipFile(file) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        for row in csv.reader(io.StringIO(text)):
            clock = int(row[5])
            found.append(
                (clock if clock < 10**14 else clock // 1000, Decimal(row[1]), Decimal(row[2]), int(row[0]))
            )
    for file in sorted((out / "binance" / "spot").rglob(f"*{symbol}-aggTrades-*.json")):
        bodies = [json.loads(line) for line in file.read_text().splitlines()]
        found += [(r["T"], Decimal(r["p"]), Decimal(r["q"]), r["a"]) for body in bodies for r in body]
    for file in sorted((out / "binance" / "spot").rglob(f"capture-{symbol.lower()}-*.jsonl")):
        for line in file.read_text().splitlines():
            event = json.loads(line.split(" ", 1)[1])
            if "data" in event:
                r = event["data"]
                found.append((r["T"], Decimal(r["p"]), Decimal(r["q"]), r["a"]))
    return sorted(found, key=lambda trade: trade[3])


def klines(out: Path, symbol: str) -> dict[int, list[Decimal]]:
    """Open, high, low, close, base volume, quote volume by open time in milliseconds."""
    found = {}
    for file in sorted((out / "binance" / "spot" / "klines").glob(f"{symbol}-1m-*.csv")):
        for row in csv.reader(file.open()):
            found[int(row[0])] = [Decimal(v) for v in (*row[1:6], row[7])]
    return found


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def replayed_balances(out: Path) -> dict[tuple[int, str], dict[tuple[str, str, str], list[Decimal]]]:
    """[free, borrowed + interest] by (client, snapshot time) and (account, symbol, asset), summed over the ledger."""
    moves = defaultdict(list)
    for row in rows(out, "orders"):
        if row["status"] == "FILLED":
            response = row["raw_response"] or {}
            when = instant(row["executed_at"])
            if "transactTime" in response:
                when = datetime.fromtimestamp(response["transactTime"] / 1000, UTC)
            moves[row["client_id"]].append((when, row))
    found = {}
    for snapshot in rows(out, "balance_snapshots"):
        client, at = snapshot["client_id"], instant(snapshot["snapshot_time"])
        held: dict = defaultdict(lambda: [Decimal(0)] * 2)

        def add(key: tuple[str, str, str], part: int, amount: Decimal, held: dict = held) -> None:
            held[key] = [v + amount * (n == part) for n, v in enumerate(held[key])]

        for when, row in moves[client]:
            if when < at:
                _move(row, add)
        found[client, snapshot["snapshot_time"]] = dict(held)
    return found


def _move(row: dict, add) -> None:
    kind, symbol, asset, quantity = (
        row["transaction_type"],
        row["symbol"],
        row["asset"],
        Decimal(row["quantity"]),
    )
    spot, margin = ("SPOT", "", asset), ("ISOLATED_MARGIN", symbol, asset)
    if kind in ("DEPOSIT", "WITHDRAWAL"):
        add(spot, 0, quantity if kind == "DEPOSIT" else -quantity)
    elif kind == "TRANSFER_SPOT_TO_ISOLATED":
        add(spot, 0, -quantity)
        add(margin, 0, quantity)
    elif kind == "TRANSFER_ISOLATED_TO_SPOT":
        add(margin, 0, -quantity)
        add(spot, 0, quantity)
    elif kind == "MARGIN_BORROW":
        add(margin, 0, quantity)
        add(margin, 1, quantity)
    elif kind == "INTEREST_CHARGED":
        add(margin, 1, quantity)
    elif kind == "MARGIN_REPAY":
        add(margin, 0, -quantity)
        add(margin, 1, -quantity)
    elif row["category"] == "TRADING":
        account = ("SPOT", "") if kind.startswith("SPOT") else ("ISOLATED_MARGIN", symbol)
        sign = 1 if row["side"] == "BUY" else -1
        add((*account, asset), 0, sign * quantity)
        add((*account, "USDC"), 0, -sign * Decimal(row["total_value"]))
        fee = ("SPOT", "", "BNB") if row["fee_asset"] == "BNB" else (*account, row["fee_asset"])
        add(fee, 0, -Decimal(row["fee"]))
