"""`tickhouse simulate execution`: the files of a trading bot and of its exchange, and the truth about them.

A day is played after the other, an hour at a time, and what was played is written: memory holds what is open and the
market of three days, whatever the number of operations or days.

Everything is written into a folder of its own first and moved when it is whole, truth.json last: it says that the rest
is there. Source: spec/execution.md 10.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock

from ingest.simulator.execution.engine import Engine
from ingest.simulator.execution.faults import (
    ALL_FAULTS,
    ExecutionFaultError,
    FaultSchedule,
    chosen_faults,
)
from ingest.simulator.execution.instruments import CANARY_SYMBOL, FEE_SYMBOL, TRADABLE
from ingest.simulator.execution.market_files import MarketFiles
from ingest.simulator.execution.markets import Markets
from ingest.simulator.execution.row_files import EventFiles, FillFiles, RowFiles
from ingest.simulator.execution.truth import TruthFiles
from ingest.simulator.execution.wire import DAY_US, HOUR_US, SECOND_US
from lake import atomic

TRUTH_VERSION = 1
DEFAULT_START = datetime(2024, 12, 1, tzinfo=UTC)
# What the demo plays: long enough for a training set with its embargo, small enough for seconds.
DEMO_DAYS, DEMO_OPS_PER_DAY, DEMO_CLIENTS = 4, 50, 2
DEMO_SYMBOLS = ("BTCUSDC", "ETHUSDC")
FOLDERS = ("events", "binance", "postgres", "conflict", "truth")
OPS_PER_STEP = 1_000
_STAGE = "._execution-"
MOST_CLIENTS = 900  # the canary is 999


class ExecutionSimulationError(ValueError):
    """The request can't be met: what was, what was expected, what to do."""


@dataclass(frozen=True)
class ExecutionSimulation:
    """``counts`` are those of truth.json; ``written``: by this call."""

    out: Path
    counts: dict
    written: bool


def simulate_execution(
    out: Path,
    *,
    seed: int,
    clients: int,
    days: int,
    ops_per_day: int,
    symbols: Iterable[str],
    start: datetime = DEFAULT_START,
    faults: Iterable[str] = (ALL_FAULTS,),
    progress: Callable[[int, int], None] | None = None,
) -> ExecutionSimulation:
    """Write events, ledger, operations, balances, fills, the market and the truth below ``out``.

    ``ops_per_day`` is for each client; tenant 999 with CANARYUSDC trades a tenth of it beside them. Times lie in
    [start, start + days), ``start`` a UTC midnight. The same arguments give the same rows. ``progress`` is called with
    (days done, days). What was written with the same arguments is left as it is.

    Raises ExecutionSimulationError for an argument out of range, and for an ``out`` that holds another simulation.
    """
    chosen = list(dict.fromkeys(symbols))
    settings = _settings(seed, clients, days, ops_per_day, chosen, start, faults)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "._execution.lock"):
        return _simulated(out, settings, start, progress)


def _simulated(
    out: Path, settings: dict, start: datetime, progress: Callable[[int, int], None] | None
) -> ExecutionSimulation:
    """Under the lock: whatever a killed run left in its stage goes."""
    record = out / "truth" / "truth.json"
    if record.exists():
        return _there(out, record, settings)
    for leftover in out.glob(f"{_STAGE}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if taken := [name for name in ("events", "binance", "conflict") if _has_simulated(out, name)]:
        raise ExecutionSimulationError(
            f"{out / taken[0]} held simulated files without {record}, expected both or neither; "
            "remove them or name another --out"
        )
    stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=out))
    try:
        counts = _play(stage, settings, start, progress)
        _publish(stage, out, {"truth_version": TRUTH_VERSION, "settings": settings, "counts": counts})
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return ExecutionSimulation(out, counts, written=True)


def _settings(
    seed: int, clients: int, days: int, ops_per_day: int, symbols: list[str], start: datetime, faults: Iterable[str]
) -> dict:  # fmt: skip
    for name, value, least, most in (
        ("seed", seed, 0, 2**63),
        ("clients", clients, 1, MOST_CLIENTS),
        ("days", days, 1, 3650),
        ("ops-per-day", ops_per_day, 1, 10**8),
    ):
        if not least <= value <= most:
            raise ExecutionSimulationError(f"{name} was {value}, expected {least} to {most}; choose another")
    for symbol in symbols or ["none"]:
        if symbol not in TRADABLE:
            known = ", ".join(TRADABLE)
            raise ExecutionSimulationError(
                f"symbol was {symbol}, expected one of {known}; choose one of them"
            )
    if start.tzinfo is None or start.timestamp() % 86_400:
        raise ExecutionSimulationError(f"start was {start}, expected a midnight of UTC; name a date")
    try:
        named = sorted(chosen_faults(faults))
    except ExecutionFaultError as error:
        raise ExecutionSimulationError(str(error)) from None
    return {
        "seed": seed, "clients": clients, "days": days, "ops_per_day": ops_per_day, "symbols": symbols,
        "start": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "faults": named,
    }  # fmt: skip


def _there(out: Path, record: Path, settings: dict) -> ExecutionSimulation:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExecutionSimulationError(
            f"{record} was not JSON ({error}); put it back, or name another --out"
        ) from error
    if known.get("settings") != settings:
        differ = sorted(k for k in settings if known.get("settings", {}).get(k) != settings[k])
        raise ExecutionSimulationError(
            f"{out} holds a simulation with other {', '.join(differ)}, expected those asked for; name another --out"
        )
    return ExecutionSimulation(out, known["counts"], written=False)


def _has_simulated(out: Path, folder: str) -> bool:
    names = {
        "events": "events/events/events-*.ndjson",
        "binance": "binance/spot/klines/*-1m-*.csv",
        "conflict": "conflict/*",
    }
    return any(out.glob(names[folder]))


def _play(stage: Path, settings: dict, start: datetime, progress: Callable[[int, int], None] | None) -> dict:
    seed, days, symbols = settings["seed"], settings["days"], settings["symbols"]
    faults = frozenset(settings["faults"])
    start_us = int(start.timestamp()) * SECOND_US
    markets = Markets(seed, [*symbols, CANARY_SYMBOL], start_us, days, faults)
    operations = settings["clients"] * settings["ops_per_day"] * days
    schedule = FaultSchedule(faults, operations, start_us, start_us + days * DAY_US)
    engine = Engine(seed, settings["clients"], settings["ops_per_day"], markets, symbols, days, schedule)
    # So many that a step's rows stay few: at two million operations a day it is some seconds.
    steps = max(1, min(240, operations // days // OPS_PER_STEP // 24))
    for folder in FOLDERS[:3]:
        (stage / folder).mkdir()
    events = EventFiles(stage, np.random.default_rng([seed, 4]), schedule)
    rows = {name: RowFiles(stage, name) for name in ("orders", "operations", "balance_snapshots")}
    streams = {
        "orders": engine.desk.orders,
        "operations": engine.operations,
        "balance_snapshots": engine.balances,
    }
    fills, truth = FillFiles(stage), TruthFiles(stage)
    tape = MarketFiles(stage, {(symbols[0], 0): "rest", (symbols[-1], days - 1): "capture"})
    for number in range(days):
        markets.advance(number)
        for symbol in [*symbols, CANARY_SYMBOL, FEE_SYMBOL]:
            tape.write(number, markets.days[symbol][number])
        engine.begin_day(number)
        for hour in range(24):
            hour_us = start_us + number * DAY_US + hour * HOUR_US

            def take(until_us: int, hour_us: int = hour_us) -> None:
                events.write(hour_us, engine.events.take_until(until_us))
                for name, stream in streams.items():
                    rows[name].write(hour_us, stream.take_until(until_us))
                fills.write(hour_us, engine.desk.fills.take_until(until_us))
                truth.write(*engine.take_truth())

            engine.hour(hour_us, steps, take)
        if progress:
            progress(number + 1, days)
    engine.finish()
    truth.write(*engine.take_truth())
    for file in (events, *rows.values(), fills, truth):
        file.close()
    return _counts(schedule, engine, events, rows, fills, tape, truth)


def _counts(schedule, engine, events, rows, fills, tape, truth) -> dict:
    return {
        "planted": dict(sorted(schedule.planted.items())),
        "rows": {
            **{name: file.rows for name, file in rows.items()}, "fills": fills.rows,
            **{f"truth_{name}": count for name, count in sorted(truth.rows.items())}, **events.counts, **tape.counts,
            **dict(sorted(engine.desk.counts.items())),
        },
        "event_types": dict(sorted(events.by_type.items())),
        "statuses": dict(sorted(truth.statuses.items())),
        "anomalies": dict(sorted(truth.anomalies.items())),
        "failed_rules": dict(sorted(truth.rules.items())),
        "executions": dict(sorted(Counter(truth.counts).items())),
    }  # fmt: skip


def _publish(stage: Path, out: Path, record: dict) -> None:
    for source in sorted(path for path in stage.rglob("*") if path.is_file()):
        target = out / source.relative_to(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    atomic.write_json(out / "truth" / "truth.json", record)
