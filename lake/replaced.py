"""Bronze files that stand for others: merged ones beside them (``compact-*.json``), copies in the archive.

A commit record never changes. What replaces the files it lists is said by a record of its own, written after the new
file is in place and before an old one goes; so a reader finds each row exactly once at any instant, and what a
partition was built from stays what its commit records say (spec/market.md 4.2, 11.1; architecture D6).
"""

import hashlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lake import atomic
from lake.paths import bronze_dir, lake_dir

if TYPE_CHECKING:
    from lake.merge import Part

COMPACTED, ARCHIVED = "compacted", "archived"
_PREFIX = {COMPACTED: "compact", ARCHIVED: "archive"}
RECORD_VERSION = 1
LOCK = "bronze"  # one compaction or retention at a time
LOCK_TIMEOUT_S = 600


@dataclass(frozen=True)
class Replaced:
    """A file that a replacement stands for: its path below ``lake/bronze`` and what its commit record says of it."""

    path: str
    delivery_id: str
    rows: int
    content_digest: str


@dataclass(frozen=True)
class Replacement:
    """One file of one hour of one key, with the files that it stands for. ``path`` is below ``lake/``."""

    kind: str
    schema: str
    date: str
    key: dict[str, str]
    hour: int
    path: str
    bytes: int
    sha256: str
    rows: int
    ts_min_ns: int
    ts_max_ns: int
    content_digest: str
    parts: list[Replaced]
    made_at: str
    run_id: str

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(part.path for part in self.parts)

    def file(self, root: Path) -> Path:
        return lake_dir(root) / self.path

    def as_parts(self, root: Path) -> "list[Part]":
        """The replaced files as `lake.merge` checks them."""
        from lake.merge import Part  # noqa: PLC0415  # 18 MB of pyarrow's modules, which readers of bronze don't need

        return [Part(bronze_dir(root) / p.path, p.delivery_id, p.rows, p.content_digest) for p in self.parts]

    def record_path(self, root: Path) -> Path:
        dataset = bronze_dir(root) / "/".join(self.parts[0].path.split("/")[:2])
        name = f"{_PREFIX[self.kind]}-{name_of(self.paths)}.json"
        return dataset / "_metadata" / f"date={self.date}" / name


def name_of(paths: Iterable[str]) -> str:
    """8 hex digits that name a set of replaced files."""
    return hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()[:8]


def write(root: Path, replacement: Replacement) -> None:
    """Write the record: from now on every reader that lists bronze reads the new file."""
    path = replacement.record_path(root)
    atomic.make_dirs(path.parent)
    atomic.write_json(path, {"record_version": RECORD_VERSION, **asdict(replacement)})


def read_all(root: Path) -> Iterator[Replacement]:
    """Every replacement record of the lake, in no order."""
    for prefix in _PREFIX.values():
        for path in bronze_dir(root).glob(f"*/*/_metadata/date=*/{prefix}-*.json"):
            try:
                record = atomic.read_json(path)
            except FileNotFoundError:  # a compaction took it away just now: a wider one stands
                continue
            del record["record_version"]
            yield Replacement(**record | {"parts": [Replaced(**p) for p in record["parts"]]})


def standing(root: Path, visible: Set[str]) -> dict[str, Replacement]:
    """Which replacement each file of ``visible`` has, by the file's path below ``lake/bronze``.

    The archive copy comes before a merged file, and the wider merge before the one that it took in. One that holds
    rows of a file that isn't visible is not read.
    """
    found: dict[str, Replacement] = {}
    for replacement in sorted(read_all(root), key=lambda r: (r.kind == ARCHIVED, len(r.parts), r.path)):
        if replacement.paths <= visible:
            found |= dict.fromkeys(replacement.paths, replacement)
    return found
