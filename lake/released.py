"""What a released version may not lose: its record, and the verdict on a rebuild of one of its dates.

``silver/features/<version>/_metadata/release.json`` makes a version released: its training table follows it. It is
written last and never again, and says what params, code and intent the version had. Beside the commit of each of its
dates ``ancestry.json`` says what the date was made from, down to bronze.

Source: spec/market.md 11.3; architecture D5.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import ancestry, atomic, code
from lake.commits import Partition, now_utc
from lake.params import ParamSet

RELEASE_FILE = "release.json"
ARCHIVE_FILE = "archive.json"
ANCESTRY_FILE = "ancestry.json"
SHOWN = 5

EQUAL, CHANGED, INPUT, FILLED = "equal", "E_RELEASED_CHANGED", "E_INPUT_CHANGED", "filled"
APPEND = "E_RELEASED_APPEND"


class ReleasedError(ValueError):
    """A build would change a released version; it says what differs, and the version stays as it is."""


@dataclass(frozen=True)
class Released:
    """One dataset of a version as it was released: its set of features, or its training table."""

    version: str
    dataset: str
    intent: dict[str, object]
    param_set: str
    params: dict[str, object]
    params_digest: str
    code_digest: str
    build_digest: str
    files: dict[str, str]

    @property
    def values(self) -> ParamSet:
        return ParamSet(self.param_set, self.params, self.params_digest)


@dataclass(frozen=True)
class Now:
    """What the checkout would make of a dataset: resolved params, and the code that it depends on.

    ``override`` is the param set that the invocation gave, if any.
    """

    values: ParamSet
    files: dict[str, str]
    override: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of computing a released date again."""

    outcome: str
    message: str
    columns: list[str]
    inputs: list[str]
    digest: str


# -- records -----------------------------------------------------------------------------------------------------------


def version_dir(root: Path, version: str) -> Path:
    return root / "lake" / "silver" / "features" / version


def state(root: Path, version: str) -> str:
    """``draft``, ``released`` or ``archived``, by the version's records."""
    return state_of(version_dir(root, version))


def state_of(folder: Path) -> str:
    """The state of the version whose features stand in ``folder``."""
    metadata = folder / "_metadata"
    if (metadata / ARCHIVE_FILE).is_file():
        return "archived"
    return "released" if (metadata / RELEASE_FILE).is_file() else "draft"


def read(root: Path, dataset: str) -> Released | None:
    """The release that a dataset of a version is part of; ``dataset`` is its folder below ``lake/``."""
    version = dataset.rpartition("/")[2]
    path = version_dir(root, version) / "_metadata" / RELEASE_FILE
    if not path.is_file():
        return None
    parts = atomic.read_json(path)["datasets"]
    return Released(version, dataset, **parts[dataset]) if dataset in parts else None


def write(root: Path, version: str, parts: Sequence[Released]) -> None:
    """Release a version: from here on none of its dates changes."""
    datasets = {}
    for part in parts:
        content = asdict(part)
        del content["version"]
        datasets[content.pop("dataset")] = content
    folder = version_dir(root, version) / "_metadata"
    atomic.make_dirs(folder)
    record = {"record_version": 1, "version": version, "released_at": now_utc(), "datasets": datasets}
    atomic.write_json(folder / RELEASE_FILE, record)


def write_ancestry(root: Path, partition: Partition) -> None:
    """Keep what a released date was made from: its parents may be built anew for drafts."""
    commit = partition.commit
    content = {"record_version": 1, "inputs": ancestry.walk(root, commit.inputs, commit.params_digest)}
    path = partition.folder / "_metadata" / ANCESTRY_FILE
    if not path.is_file() or atomic.read_json(path) != content:
        atomic.write_json(path, content)


def read_ancestry(root: Path, partition: Partition) -> ancestry.Inputs:
    """What a date was made from, as it was recorded at its release or, for a draft, as records say now."""
    path = partition.folder / "_metadata" / ANCESTRY_FILE
    if path.is_file():
        return atomic.read_json(path)["inputs"]
    return ancestry.walk(root, partition.commit.inputs, partition.commit.params_digest)


# -- rebuilds ----------------------------------------------------------------------------------------------------------


def judge(
    root: Path,
    released: Released,
    kept: Partition,
    now: Now,
    inputs: Mapping[str, str],
    staged: Path,
    digest: str,
    key: Sequence[str],
) -> Verdict:
    """Compare a rebuild in ``staged``, of content ``digest``, with the released date ``kept``; ``key`` names a row.

    Equal content is ``EQUAL``; content that differs by its inputs alone is ``INPUT``, else ``CHANGED``. The first rows
    that new inputs give a date without any are ``FILLED``: a date that had not come yet, as one that is appended.
    """
    where = f"{released.version}, {kept.commit.date}"
    if released.dataset.startswith("gold/"):
        where = f"training table of {where}"
    before = read_ancestry(root, kept)
    after = ancestry.walk(root, inputs, now.values.digest)
    read_anew = ancestry.changed(kept.commit.inputs, inputs)
    bronze = ancestry.changed(before, after, "bronze/") + ancestry.changed(before, after, "gaps/")
    sources = bronze or read_anew
    if digest == kept.commit.content_digest:
        return Verdict(EQUAL, f"{where}: computed again, equal", [], sources, digest)
    own = [*_params(released, now), *_code(released, now)]
    if not own and read_anew and kept.commit.rows == 0:
        return Verdict(FILLED, f"{where}: its first rows came", [], sources, digest)
    columns, rows = _differing(kept.file, staged, key)
    if columns:
        rows.append(f"first differing columns: {_some(columns)}")
    content = f"content ({'; '.join(rows)})"
    if not own and read_anew:
        told = (
            f"{INPUT}: {where} is released and what it was made from changed since: {_some(sources)}; its data "
            f"stay as they were released, though a rebuild differs in {content}"
        )
        return Verdict(INPUT, told, columns, sources, digest)
    parts = [*own, *([f"inputs ({_some(sources)})"] if read_anew else []), content]
    hint = "" if own else "; params, code and inputs are equal: look at the engines in its params.yaml"
    told = (
        f"{CHANGED}: {where} is released and a rebuild differs in {_and(parts)}{hint}; nothing was published: undo "
        "that, or make it a version of its own"
    )
    return Verdict(CHANGED, told, columns, sources, digest)


def refuse_append(released: Released, now: Now, dates: Sequence[str]) -> str | None:
    """Why new dates can't join a released dataset; None when they can."""
    parts = [*_params(released, now), *_code(released, now)]
    if not parts or not dates:
        return None
    return (
        f"{APPEND}: {released.dataset} is released and {_some(dates)} can't be added, as the version differs in "
        f"{_and(parts)}; undo that, or make it a version of its own"
    )


def write_verdict(kept: Partition, build_key: str, verdict: Verdict, run_id: str) -> None:
    """Keep what came of a rebuild beside the date's commit: by it the date is not computed again, and the row of the
    monitoring model ``version_warnings`` is made of it."""
    content = {
        "record_version": 1,
        "dataset": kept.commit.dataset,
        "date": kept.commit.date,
        "outcome": verdict.outcome,
        "message": verdict.message,
        "columns": verdict.columns,
        "inputs": verdict.inputs,
        "recorded_digest": kept.commit.content_digest,
        "rebuilt_digest": verdict.digest,
        "build_key": build_key,
        "noticed_at": now_utc(),
        "run_id": run_id,
    }
    atomic.write_json(_verdict_path(kept, build_key), content)


def is_settled(kept: Partition, build_key: str) -> bool:
    """True when this very rebuild was made before and needs no second: it was equal, or only its inputs differed."""
    path = _verdict_path(kept, build_key)
    return path.is_file() and json.loads(path.read_text())["outcome"] in (EQUAL, INPUT)


def verdict_files(root: Path, dataset_dirs: Sequence[Path]) -> list[Path]:
    return sorted(p for d in dataset_dirs for p in d.glob("date=*/_metadata/rebuild-*.json"))


def _verdict_path(kept: Partition, build_key: str) -> Path:
    return kept.folder / "_metadata" / f"rebuild-{build_key[:8]}.json"


# -- what differs ------------------------------------------------------------------------------------------------------


def _params(released: Released, now: Now) -> list[str]:
    if released.params_digest == now.values.digest:
        return []
    gone = object()
    names = sorted(released.params.keys() | now.values.values.keys())
    told = [
        f"{n} {_value(released.params.get(n, gone), gone)} → {_value(now.values.values.get(n, gone), gone)}"
        for n in names
        if released.params.get(n, gone) != now.values.values.get(n, gone)
    ]
    source = f"--vars param_set: {now.override}; " if now.override else ""
    return [f"params ({source}{_some(told)})"]


def _value(value: object, gone: object) -> str:
    return "none" if value is gone else json.dumps(value)


def _code(released: Released, now: Now) -> list[str]:
    if released.code_digest == code.digest(now.files):
        return []
    return [f"code ({_some(ancestry.changed(released.files, now.files))})"]


def _differing(old: Path, new: Path, key: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the columns that differ in rows of one key, in their order, and a word on rows that came or went."""
    before, after = (pq.read_table(p, partitioning=None) for p in (old, new))
    names = [n for n in before.column_names if n in after.column_names]
    columns = [n for n in after.column_names if n not in before.column_names]
    columns += [n for n in before.column_names if n not in after.column_names]
    if not set(key) <= set(names):
        return columns, []
    left, right = _places(before, key), _places(after, key)
    common = [k for k in left if k in right]
    came, went = len(right) - len(common), len(left) - len(common)
    rows = [f"{came} rows came, {went} went"] if came or went else []
    before = before.take(pa.array([left[k] for k in common], pa.int64()))
    after = after.take(pa.array([right[k] for k in common], pa.int64()))
    for name in names:
        a, b = before[name].combine_chunks(), after[name].combine_chunks()
        if not equal_values(a, b):
            columns.append(name)
    return columns, rows


def _places(table: pa.Table, key: Sequence[str]) -> dict[tuple, int]:
    return {row: i for i, row in enumerate(zip(*(table[k].to_pylist() for k in key), strict=True))}


def equal_values(a: pa.Array, b: pa.Array) -> bool:
    if a.type != b.type:
        return False
    if pa.types.is_floating(a.type):  # −0.0 is 0.0, as in the digest
        return pc.all(pc.fill_null(pc.equal(a, b), True)).as_py() is not False and a.is_null().equals(
            b.is_null()
        )
    return a.equals(b)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
