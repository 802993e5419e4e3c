"""What is landed and built, dataset by dataset: how much, how fresh, what is missing, what was set aside.

Reads records only, never rows. Freshness of bronze is judged as `dbt source freshness` judges it, by `lake.sources`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lake import atomic, bronze, commits, sources, windows
from lake.commits import Partition, read_partitions
from lake.paths import bronze_dir, lake_dir, receipts_dir, runs_dir

SILVER_LIMIT_HOURS = 24.0  # spec/execution.md 7.1
GOLD_LIMIT_HOURS = 168.0
# What a run of a loader is called, by the dataset that it lands; the market domain names its run in each commit.
_COMMANDS = {
    "events": "ingest events",
    "orders": "ingest orders",
    "operations": "ingest operations",
    "balance_snapshots": "ingest balances",
    "trades": "ingest binance trades",
    "agg_trades": "ingest binance agg_trades",
    "klines": "ingest binance klines",
}


@dataclass
class Status:
    """One dataset, one param set of it, or one raw file that couldn't be landed.

    ``dates`` counts partitions by date (UTC of bronze, session dates of market silver and gold) between ``first_date``
    and ``last_date``. ``last_at`` is the newest event of bronze, the newest build of silver and gold, ISO UTC;
    ``freshness`` is ``fresh``, ``late``, ``stale`` or ``never landed`` against ``limit_hours``. ``rejected`` rows are
    set aside, and ``rejected_share`` is theirs of all rows that came. ``gaps`` are known holes. ``last_run`` names the
    run record under ``_meta/runs``, ``last_run_status`` what it says.
    """

    dataset: str
    dates: int = 0
    first_date: str | None = None
    last_date: str | None = None
    rows: int = 0
    bytes: int = 0
    last_at: str | None = None
    freshness: str | None = None
    limit_hours: float | None = None
    gaps: int = 0
    rejected: int = 0
    rejected_share: float = 0.0
    last_run: str | None = None
    last_run_status: str | None = None
    problem: str | None = None

    def as_row(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class _Landed:
    """What the records of one bronze dataset add up to."""

    dates: set[str] = field(default_factory=set)
    rows: int = 0
    paths: set[Path] = field(default_factory=set)
    gaps: int = 0
    rejected: int = 0
    last_run: str | None = None
    open_commits: int = 0
    incomplete_hours: int = 0

    @property
    def problem(self) -> str | None:
        if self.open_commits:
            return f"{self.open_commits} commits are open: a quality check failed, see `tickhouse manifest`"
        if self.incomplete_hours:
            return f"{self.incomplete_hours} hours are incomplete: lines were set aside, see bronze.rejects"
        return None


def lake_status(root: Path, now: datetime | None = None) -> list[Status]:
    """Every dataset in order: bronze by name, those that nothing is landed of included, then what is built, then files
    that couldn't be landed. ``now`` is what ages are counted to, by default the present.
    """
    now = now or datetime.now(UTC)
    return [*bronze_status(root, now), *built_status(root, now), *quarantine_status(root)]


def bronze_status(root: Path, now: datetime) -> Iterator[Status]:
    """One row per declared source. Raises ValueError naming a record that can't be read."""
    declared = sources.declared()
    files = bronze.visible_files(root)
    last_at = sources.last_at(root, {s.name: s.windows_of for s in declared}, files)
    market = _market(root, files)
    runs = _last_runs(root)
    for source in sorted(declared, key=lambda s: s.folder):
        landed = _windowed(root, source.name) if source.windows_of else market[source.name]
        last_run = landed.last_run or runs.get(_COMMANDS.get(source.name, ""))
        newest = None if last_at[source.name] == sources.EPOCH else last_at[source.name]
        read = landed.rows + landed.rejected
        yield Status(
            dataset=f"bronze/{source.folder}",
            dates=len(landed.dates),
            first_date=min(landed.dates, default=None),
            last_date=max(landed.dates, default=None),
            rows=landed.rows,
            bytes=sum(path.stat().st_size for path in landed.paths if path.is_file()),
            last_at=_iso(newest),
            freshness=source.freshness(newest, now),
            limit_hours=_hours(source.error_after_s),
            gaps=landed.gaps,
            rejected=landed.rejected,
            rejected_share=landed.rejected / read if read else 0.0,
            last_run=last_run,
            last_run_status=_run_status(root, last_run),
            problem=landed.problem,
        )


def built_status(root: Path, now: datetime | None = None) -> Iterator[Status]:
    """One row per silver and gold dataset and param set, in order of path."""
    now = now or datetime.now(UTC)
    for folder in dataset_folders(root):
        by_params: dict[str | None, list[Partition]] = defaultdict(list)
        for (params, _), partition in read_partitions(folder).items():
            by_params[params].append(partition)
        name = folder.relative_to(lake_dir(root)).as_posix()
        limit = GOLD_LIMIT_HOURS if name.startswith("gold/") else SILVER_LIMIT_HOURS
        for params, partitions in by_params.items():
            newest = max(partitions, key=lambda p: p.commit.built_at).commit
            age_hours = (now - datetime.fromisoformat(newest.built_at)).total_seconds() / 3600
            dates = {p.commit.date for p in partitions}
            yield Status(
                dataset=name if params is None else f"{name}/params={params}",
                dates=len(dates),
                first_date=min(dates),
                last_date=max(dates),
                rows=sum(p.commit.rows for p in partitions),
                bytes=sum(p.commit.bytes for p in partitions),
                last_at=newest.built_at,
                freshness="fresh" if age_hours <= limit else "stale",
                limit_hours=limit,
                last_run=newest.run_id,
                last_run_status=_run_status(root, newest.run_id),
                problem=failures(partitions),
            )


def quarantine_status(root: Path) -> Iterator[Status]:
    """One row per raw file that couldn't be landed whole, with the reason, in order of its receipt."""
    for path in sorted(receipts_dir(root).glob("*.json")):
        receipt = atomic.read_json(path)
        if receipt.get("status") == "quarantined" and "path" in receipt:
            yield Status(
                receipt["path"],
                rows=receipt.get("record_count") or 0,
                bytes=receipt["bytes"],
                last_at=receipt.get("downloaded_at") or receipt.get("loaded_at"),
                problem=receipt["reason"],
            )


def failures(partitions: list[Partition]) -> str | None:
    """How many of ``partitions`` didn't pass their data tests, and what the first of them says."""
    failed = [(p.commit.date, status) for p in partitions if (status := p.status())["status"] != "ok"]
    if not failed:
        return None
    return f"{len(failed)} dates failed, first {failed[0][0]}: {failed[0][1]['error']}"


def dataset_folders(root: Path) -> Iterator[Path]:
    """Folders under silver and gold that hold committed partitions, in order of path."""
    for layer in ("gold", "silver"):
        yield from commits.dataset_dirs(lake_dir(root) / layer)


# -- bronze ----------------------------------------------------------------------------------------------------------


def _market(root: Path, files: Iterable[bronze.BronzeFile]) -> defaultdict[str, _Landed]:
    """Sums by source name. Gaps and state stand once in each commit record, and so in each of its files."""
    found: defaultdict[str, _Landed] = defaultdict(_Landed)
    seen = set()
    for file in files:
        landed = found[file.source_name]
        landed.dates.add(file.date)
        landed.rows += file.rows
        landed.paths.add(file.path)
        if (key := (file.schema, file.date, file.delivery_id)) not in seen:
            seen.add(key)
            landed.gaps += len(json.loads(file.state)[1])
            landed.open_commits += file.is_open
    for path in bronze_dir(root).glob("*/*/_metadata/date=*/commit-*.json"):
        record = atomic.read_json(path)
        landed = found["_".join(record["schema"].split(".")[:-1])]
        landed.last_run = max(filter(None, (landed.last_run, record["run_id"])), default=None)
    for path in receipts_dir(root).glob("receipt-*.json"):
        for reject in atomic.read_json(path).get("rejects") or ():
            dataset = re.search(r"dataset=(\w+)", reject["path"])
            found[dataset[1] if dataset else ""].rejected += reject["rows"]
    return found


def _windowed(root: Path, name: str) -> _Landed:
    found = _Landed()
    for marker in windows.read_markers(root, name):
        found.dates.add(marker.date)
        found.rows += marker.rows
        found.rejected += marker.reject_rows
        found.incomplete_hours += marker.incomplete
    found.paths = {part.path for part in windows.visible_parts(root, name)}
    for path in receipts_dir(root).glob("load-*.json"):
        load = atomic.read_json(path)
        if load["dataset"] == name and load["status"] == "landed":
            found.gaps += load["gap_count"]
    return found


def _last_runs(root: Path) -> dict[str, str]:
    """The newest run of each command, by the command."""
    found: dict[str, str] = {}
    for path in sorted(runs_dir(root).glob("*_ingest_*.json")):
        record = atomic.read_json(path)
        found[record["config"].get("command", "")] = record["run_id"]
    return found


def _run_status(root: Path, run_id: str | None) -> str | None:
    path = runs_dir(root) / f"{run_id}.json"
    return atomic.read_json(path)["status"] if run_id and path.is_file() else None


def _iso(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _hours(seconds: int | None) -> float | None:
    return None if seconds is None else seconds / 3600
