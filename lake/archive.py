"""The archive: one Parquet file for each partition, by month, with an ``archive.json`` that says what it holds.

``lake/archive/<layer>/<dataset>/month=YYYY-MM/`` has the partition's own folders below. A file counts when
``archive.json`` lists it, which is written after the file is in place and synced; an unlisted one is made again.
"""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lake import atomic, merge
from lake.merge import MergeError, Part, Slice
from lake.paths import archive_dir, stage_dir

ARCHIVE_FILE = "archive.json"


@dataclass(frozen=True)
class Entry:
    """One file of the archive, as its ``archive.json`` lists it. ``path`` is below the month's folder.

    ``sources`` are the parts as their records have them; ``content_hash`` is of the rows as they
    stand in the file.
    """

    partition: str
    date: str
    path: str
    rows: int
    bytes: int
    sha256: str
    content_hash: str
    sources: list[dict]
    archived_at: str
    run_id: str


@dataclass(frozen=True)
class Unit:
    """One partition that is archived and deleted as a whole.

    ``partition`` is its path below the dataset's folder. ``parts`` say what its rows are, ``sources`` where they stand
    now, ``deletes`` what goes when it lives on in the archive alone, in that order. ``order`` sorts the rows, and
    ``owner_column`` says of which part one is; or ``slices`` follow each other, whose digests leave out the columns
    ``exclude``; or there is one source, which is copied byte by byte.
    ``is_archived`` says that its records name the archive copy already. ``blocked`` is the reason for which it must
    stay, if any. ``mark(file, entry)`` makes its records name the copy, or finishes what a killed call
    began of that: from then on readers read the copy.
    """

    dataset: str
    date: str
    partition: str
    parts: tuple[Part, ...]
    sources: tuple[Path, ...]
    deletes: tuple[Path, ...]
    order: tuple[str, ...] = ()
    owner_column: str | None = None
    slices: tuple[Slice, ...] = ()
    exclude: tuple[str, ...] = ()
    is_parquet: bool = True
    is_archived: bool = False
    blocked: str | None = None
    mark: Callable[[Path, Entry], None] = lambda file, entry: None

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def month(self) -> str:
        return self.date[:7]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.partition}"

    @property
    def content(self) -> list[dict]:
        """What the records say that the partition holds."""
        return [
            {"file": p.path.name, "owner": p.owner, "rows": p.rows, "content_digest": p.content_digest}
            for p in sorted(self.parts, key=lambda p: (p.path.name, p.owner, p.content_digest))
        ]


def month_dir(root: Path, dataset: str, month: str) -> Path:
    return archive_dir(root) / dataset / f"month={month}"


class Copies:
    """What the archive lists, read once for each dataset."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, dict[tuple[str, str], Entry]] = {}

    def of(self, unit: Unit) -> Entry | None:
        """The copy of a unit's content as its records have it now, None where there is none."""
        if unit.dataset not in self._found:
            self._found[unit.dataset] = {
                (entry.partition, str(entry.sources)): entry
                for path in sorted((archive_dir(self._root) / unit.dataset).glob(f"month=*/{ARCHIVE_FILE}"))
                for entry in (Entry(**record) for record in atomic.read_json(path)["partitions"])
            }
        return self._found[unit.dataset].get((unit.partition, str(unit.content)))


def file_of(root: Path, dataset: str, entry: Entry) -> Path:
    return month_dir(root, dataset, entry.date[:7]) / entry.path


def add(
    root: Path, units: Iterable[Unit], *, archived_at: str, run_id: str
) -> Iterator[tuple[Unit, str | None]]:
    """Copy units of one dataset, in order of date, into the archive; yields each with the reason if it was refused.

    Each file is read back and compared with the digests of its parts; a month's files are listed together, once they
    are all in place.
    """
    for (dataset, month), group in itertools.groupby(units, key=lambda u: (u.dataset, u.month)):
        folder = month_dir(root, dataset, month)
        atomic.make_dirs(folder)
        fresh: dict[str, dict] = {}
        results: list[tuple[Unit, str | None]] = []
        for unit in group:
            try:
                entry = _copy(root, folder, unit, archived_at, run_id)
            except MergeError as error:
                results.append((unit, str(error)))
                continue
            fresh[entry.path] = asdict(entry)
            results.append((unit, None))
        if fresh:
            kept = [record for record in _read(folder) if record["path"] not in fresh]
            content = {
                "archive_version": 1,
                "dataset": dataset,
                "month": month,
                "partitions": sorted([*kept, *fresh.values()], key=lambda r: r["path"]),
            }
            atomic.write_json(folder / ARCHIVE_FILE, content)
        yield from results


def remove_temporaries(root: Path) -> None:
    """Delete what a killed call left beside the lists. Call where no other writes the archive."""
    for leftover in archive_dir(root).rglob("._tmp-*"):
        leftover.unlink(missing_ok=True)


def _read(folder: Path) -> list[dict]:
    path = folder / ARCHIVE_FILE
    return atomic.read_json(path)["partitions"] if path.is_file() else []


def _copy(root: Path, folder: Path, unit: Unit, archived_at: str, run_id: str) -> Entry:
    stage = stage_dir(root) / "archive.parquet"
    final = folder / unit.partition
    if unit.is_parquet:
        final = final / f"part-{_digits(unit)}.parquet"
    if unit.slices:
        digest = merge.concat(unit.slices, unit.parts, stage, unit.exclude).content_digest
    elif unit.order:
        made = merge.merge(unit.sources, unit.parts, stage, unit.order, unit.owner_column)
        digest = made.content_digest
    else:
        shutil.copyfile(unit.sources[0], stage)
        _, digest = _contents(unit, stage)
        atomic.fsync_file(stage)
    atomic.make_dirs(final.parent)
    size, sha256 = stage.stat().st_size, atomic.sha256_file(stage)
    atomic.replace(stage, final)
    return Entry(
        partition=unit.partition,
        date=unit.date,
        path=str(final.relative_to(folder)),
        rows=unit.rows,
        bytes=size,
        sha256=sha256,
        content_hash=digest,
        sources=unit.content,
        archived_at=archived_at,
        run_id=run_id,
    )


def verify(root: Path, unit: Unit, entry: Entry) -> None:
    """Read an archived file again and compare it with the records of what it was made from. Raises MergeError."""
    file = file_of(root, unit.dataset, entry)
    if not file.is_file():
        raise MergeError(f"{file} was not there, expected the copy that archive.json lists; archive it again")
    if (found := atomic.sha256_file(file)) != entry.sha256:
        raise MergeError(
            f"{file} had sha256 {found[:16]}…, expected {entry.sha256[:16]}…; move it away and archive again"
        )
    if entry.sources != unit.content:
        raise MergeError(f"{unit.name} changed since it was archived; archive it again")
    rows, digest = _contents(unit, file)
    if (rows, digest) != (entry.rows, entry.content_hash):
        raise MergeError(
            f"{file} held {rows} rows of another content, expected {entry.rows}; archive it again"
        )


def _contents(unit: Unit, file: Path) -> tuple[int, str]:
    """(rows, content hash) of a copy of the unit, after its parts were found in it."""
    if unit.is_parquet:
        return merge.verify(file, unit.parts, unit.owner_column, unit.exclude)
    (part,) = unit.parts
    if (found := atomic.sha256_file(file)) != part.content_digest:
        raise MergeError(
            f"{file} had sha256 {found[:16]}…, expected {part.content_digest[:16]}… of its receipt"
        )
    return part.rows, found


def _digits(unit: Unit) -> str:
    return hashlib.sha256(str(unit.content).encode()).hexdigest()[:8]


def sizes(paths: Sequence[Path]) -> int:
    """Bytes of the files that are there."""
    return sum(path.stat().st_size for path in paths if path.is_file())
