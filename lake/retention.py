"""Retention: what is older than its policy goes to the archive, and is deleted only when the copy there was read again.

The policy is the seed ``retention_policy.csv``: one row for each dataset, whose name is its folder (``bronze/events``)
or a pattern of such; ``hot_days`` −1 means that it stays. Partitions with rows of a client in ``legal_holds.csv`` stay
as they are. Source: spec/execution.md 8.1, spec/market.md 2, architecture D6.
"""

import csv
import datetime
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import archive as archives
from lake import atomic, immutable
from lake.archive import Unit
from lake.archive_units import units
from lake.commits import now_utc
from lake.locks import Locks
from lake.merge import MergeError
from lake.paths import PROJECT_DIR, stage_dir
from lake.replaced import LOCK, LOCK_TIMEOUT_S

POLICY_FILE = PROJECT_DIR / "seeds" / "reference" / "retention_policy.csv"
HOLDS_FILE = PROJECT_DIR / "seeds" / "reference" / "legal_holds.csv"
FOREVER = -1

log = logging.getLogger(__name__)


class PolicyError(ValueError):
    """The policy doesn't say exactly one thing about a dataset."""


@dataclass(frozen=True)
class Policy:
    """One row of the seed. ``archive_days`` is how long the copy has to stay; no command deletes copies."""

    dataset: str
    hot_days: int
    archive_days: int
    date_column: str
    delete_allowed: bool


@dataclass(frozen=True)
class Rules:
    """The policies and holds of one call, and the day that it judges ages by."""

    policies: tuple[Policy, ...]
    held_clients: frozenset[str]
    as_of: datetime.date
    only: str | None = None  # a dataset, or a pattern of some

    def policy(self, dataset: str) -> Policy:
        """The one row that is about a dataset. Raises PolicyError when there is none, or more."""
        found = [p for p in self.policies if fnmatchcase(dataset, p.dataset)]
        if len(found) != 1:
            names = ", ".join(p.dataset for p in found) or "none"
            raise PolicyError(
                f"rows of {POLICY_FILE.name} about {dataset} were {names}, expected exactly one; add or narrow it"
            )
        return found[0]

    def is_due(self, dataset: str, date: str) -> bool:
        """Whether a partition is older than its dataset's ``hot_days``."""
        if self.only is not None and not fnmatchcase(dataset, self.only):
            return False
        hot_days = self.policy(dataset).hot_days
        return hot_days != FOREVER and (self.as_of - datetime.date.fromisoformat(date)).days > hot_days


def load_rules(
    as_of: datetime.date,
    only: str | None = None,
    policy_file: Path = POLICY_FILE,
    holds_file: Path = HOLDS_FILE,
) -> Rules:
    """The seeds as they stand. Raises PolicyError for a value that means nothing."""
    with open(policy_file, encoding="utf-8", newline="") as f:
        policies = tuple(_policy(row) for row in csv.DictReader(f))
    with open(holds_file, encoding="utf-8", newline="") as f:
        held = frozenset(row["client_id"].strip() for row in csv.DictReader(f))
    return Rules(policies, held, as_of, only)


def _policy(row: dict[str, str]) -> Policy:
    try:
        hot, kept = int(row["hot_days"]), int(row["archive_days"])
        if min(hot, kept) < FOREVER or row["date_column"] != "date":
            raise ValueError
        allowed = {"true": True, "false": False}[row["delete_allowed"]]
    except (ValueError, KeyError, TypeError):
        raise PolicyError(
            f"row of {POLICY_FILE.name} was {row}, expected days of at least -1, date_column date, and true or false"
        ) from None
    return Policy(row["dataset"], hot, kept, row["date_column"], allowed)


@dataclass(frozen=True)
class Row:
    """One partition in the answer of a command. ``state`` is what it is now, ``problem`` why it isn't further.

    ``bytes`` are those outside the archive, before the command.
    """

    unit: Unit
    state: str  # hot | archived | verified | would be deleted | deleted | refused
    problem: str | None
    bytes: int

    def flat(self) -> dict[str, object]:
        unit = self.unit
        return {
            "dataset": unit.dataset,
            "partition": unit.partition,
            "date": unit.date,
            "rows": unit.rows,
            "bytes": self.bytes,
            "state": self.state,
            "problem": self.problem,
        }


def _row(unit: Unit, state: str, problem: str | None = None) -> Row:
    return Row(
        unit, "refused" if problem and state != "hot" else state, problem, archives.sizes(unit.deletes)
    )


def plan(root: Path, rules: Rules) -> list[Row]:
    """Partitions past their ``hot_days`` of which something still stands outside the archive. Writes nothing."""
    copies = archives.Copies(root)
    return [
        _row(unit, "archived" if copies.of(unit) else "hot", _refusal(unit, rules))
        for unit in units(root, rules.is_due)
        if unit.deletes
    ]


def archive(root: Path, rules: Rules, run_id: str) -> list[Row]:
    """Copy what is past its ``hot_days`` and not yet in the archive; nothing is deleted.

    Raises OSError when a write fails; what was listed before it stays.
    """
    with _alone(root):
        archives.remove_temporaries(root)
        copies = archives.Copies(root)
        lacking = [u for u in units(root, rules.is_due) if not u.is_archived and copies.of(u) is None]
        refused = [_row(unit, "refused", unit.blocked) for unit in lacking if unit.blocked]
        free = [unit for unit in lacking if not unit.blocked]
        added = archives.add(root, free, archived_at=now_utc(), run_id=run_id)
        return [*refused, *(_row(unit, "archived", problem) for unit, problem in added)]


def verify(root: Path, rules: Rules) -> list[Row]:
    """Read the archive copies of everything past its ``hot_days`` and compare them with the records of the sources."""
    copies = archives.Copies(root)
    return [
        _verified(root, unit, copies)
        for unit in units(root, rules.is_due)
        if unit.is_archived or copies.of(unit)
    ]


def delete(root: Path, rules: Rules, run_id: str, *, yes: bool = False) -> list[Row]:
    """Delete what is past its ``hot_days`` and has a copy that this very call has read and found right.

    The records name the copy before the first file goes, so that at any instant readers find every row, and a build
    finds nothing due. Without ``yes`` nothing is changed. Every deletion is a line of ``_meta/retention.log``.
    """
    with _alone(root):
        copies = archives.Copies(root)
        return [
            _delete(root, unit, rules, copies, run_id, yes=yes)
            for unit in units(root, rules.is_due)
            if unit.deletes
        ]


def _delete(root: Path, unit: Unit, rules: Rules, copies: archives.Copies, run_id: str, *, yes: bool) -> Row:
    if problem := _refusal(unit, rules):
        return _row(unit, "refused", problem)
    if (entry := copies.of(unit)) is None:
        return _row(unit, "refused", "it has no copy in the archive; run `tickhouse retention archive` first")
    locks = Locks(stage_dir(root))
    locks.take(unit.dataset, [], LOCK_TIMEOUT_S)  # nobody builds it anew between the comparison and the mark
    try:
        row = _verified(root, unit, copies)
        if row.state != "verified" or not yes:
            return _row(unit, "would be deleted", row.problem)
        try:
            unit.mark(archives.file_of(root, unit.dataset, entry), entry)
        except MergeError as error:
            return _row(unit, "refused", str(error))
        row = _row(unit, "deleted")
        for path in unit.deletes:
            immutable.refuse(path)
            _log_deletion(root, path, entry, run_id)
            path.unlink(missing_ok=True)
        return row
    finally:
        locks.release()


def _verified(root: Path, unit: Unit, copies: archives.Copies) -> Row:
    if (entry := copies.of(unit)) is None:
        return _row(
            unit, "refused", "its record names a copy that archive.json doesn't list; restore that file"
        )
    try:
        archives.verify(root, unit, entry)
    except MergeError as error:
        return _row(unit, "refused", str(error))
    return _row(unit, "verified")


def _refusal(unit: Unit, rules: Rules) -> str | None:
    """Why a unit must not be deleted, whatever the archive has of it."""
    if not rules.policy(unit.dataset).delete_allowed:
        return "its policy says delete_allowed false"
    if unit.blocked:
        return unit.blocked
    if held := sorted(_clients(unit) & rules.held_clients) if rules.held_clients else []:
        return f"client {', '.join(held)} is under legal hold"
    return None


def _clients(unit: Unit) -> set[str]:
    """Clients that a unit has rows of: from its path, else from its column ``client_id``."""
    for step in unit.partition.split("/"):
        if step.startswith("client_id="):
            return {step.removeprefix("client_id=")}
    found: set[str] = set()
    for path in unit.sources or unit.deletes:
        if path.suffix == ".parquet" and "client_id" in pq.read_schema(path).names:
            values = pq.read_table(path, columns=["client_id"], partitioning=None)["client_id"]
            found |= {str(v) for v in pc.unique(values.cast(pa.string())).to_pylist()}
    return found


def _log_deletion(root: Path, path: Path, entry: archives.Entry, run_id: str) -> None:
    """Say it before it is done: a log that names too much is better than one that names too little."""
    relative = path.relative_to(root)
    log.info("deleted path=%s archived_sha256=%s run_id=%s", relative, entry.sha256, run_id)
    target = root / "_meta" / "retention.log"
    atomic.make_dirs(target.parent)
    with open(target, "a", encoding="utf-8") as f:
        f.write(f"{now_utc()} run_id={run_id} deleted={relative} archived_sha256={entry.sha256}\n")
        f.flush()
        os.fsync(f.fileno())


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One compaction or retention at a time."""
    stage_dir(root).mkdir(parents=True, exist_ok=True)
    locks = Locks(stage_dir(root))
    locks.take(LOCK, [], LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        locks.release()
