"""Publishing a version of a training set: cut the candidates, write, verify, move, and say so last.

Everything is written in ``lake/_stage``, read again and compared, then moved in one rename; ``features.json`` comes
last, created only if it is not there, and makes the version published. A kill at any instant leaves a folder without
that file, or none: no reader takes it for a version, and the next publication begins anew. Memory holds the keys of
the set and the rows of one date.

Source: spec/execution.md 5.3 to 5.6.
"""

import logging
import os
import shutil
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import atomic, contracts, runs
from lake.commits import Partition, now_utc
from lake.digest import ContentDigest
from lake.immutable import FEATURES_FILE
from lake.locks import Locks
from lake.paths import stage_dir
from lake.training_sets import (
    DATA_FILE,
    SPLITS,
    Definition,
    Published,
    definition,
    published,
    set_dir,
    version_numbers,
)
from ml.training_sets import candidates, record
from ml.training_sets.candidates import NotPublishable
from ml.training_sets.split import EMBARGO, SIDES, TRAIN, Cut, Samples, cut

NAMESPACE = uuid.UUID("54c2f5b5-35d0-58f2-80e8-fa82ff7a5431")
FIRST_VERSION = "v1.0.0"
LOCK_TIMEOUT_S = 600
ROW_GROUP_ROWS = 122_880
LINEAGE = candidates.LINEAGE

log = logging.getLogger(__name__)


class VersionDiffers(NotPublishable):
    """A published version would come out otherwise; it stays as it is."""


@dataclass(frozen=True)
class Outcome:
    """What a publication came to: ``published``, ``unchanged`` (the version was there, and is equal) or ``nothing_new``
    (``data_through`` has not moved since the newest version)."""

    name: str
    version: str
    state: str
    record: dict


def publish(
    root: Path, name: str, version: str | None = None, *, note: str = "", data_through: str | None = None
) -> Outcome:
    """Publish ``version`` of the set ``name`` from its candidates; default the first, then the next patch.

    ``data_through`` (ISO instant) defaults to the end of the last sealed window of stop events. A version that is there
    is computed again and compared: equal changes nothing, different raises VersionDiffers. Raises NotPublishable (a
    ValueError) also for candidates that are missing, failed their tests or have other columns, and for a number that
    says less than what changed; EmptySide when train or test would be empty.
    """
    wanted = definition(name)
    folder = stage_dir(root)
    atomic.make_dirs(folder)
    run_id, started = runs.new_run_id("publish"), now_utc()
    locks = Locks(folder)
    locks.take(f"gold/training_sets/{name}", [candidates.folder(name)], LOCK_TIMEOUT_S)
    try:
        through = data_through or candidates.sealed_through(root)
        there = published(root, name)
        target = version or _next(wanted, there, through)
        if target is None:
            return Outcome(name, there[-1].version, "nothing_new", there[-1].record)
        parent = _parent(wanted, there, target)
        made = _make(root, wanted, target, through)
        kept = next((p for p in there if p.version == target), None)
        if kept is not None:
            _compare(kept, made)
            return Outcome(name, target, "unchanged", kept.record)
        content = _complete(made, wanted, parent, note)
        _place(root, name, target, content)
        asked = {"command": "training-sets publish", "name": name, "version": target, "data_through": through}
        rows = content["rows"]["train"] + content["rows"]["test"]
        runs.write_run(root, run_id, config=asked, counts={"rows": rows}, status="ok", started_at=started)
        log.info("training_set=%s version=%s dataset_hash=%s", name, target, content["dataset_hash"][:8])
        return Outcome(name, target, "published", content)
    finally:
        shutil.rmtree(_stage(root, name), ignore_errors=True)
        locks.release()


# -- numbers ---------------------------------------------------------------------------------------------------------


def _next(wanted: Definition, there: list[Published], through: str) -> str | None:
    """The version to publish when none is named; None when the data end where those of the newest one end."""
    if not there:
        return FIRST_VERSION
    newest = there[-1]
    if _instant(newest.record["parameters"]["data_through"]) >= _instant(through):
        return None
    if (step := record.change(newest.record, wanted)) != record.PATCH:
        raise NotPublishable(
            f"{wanted.name} changed since {newest.version} by a {record.CHANGES[step]} step, expected new data only; "
            f"run `tickhouse training-sets publish {wanted.name} --version {_step(newest, step)} --note …`"
        )
    return _step(newest, record.PATCH)


def _parent(wanted: Definition, there: list[Published], target: str) -> Published | None:
    """The highest published version below ``target``. Raises NotPublishable when the number says less than what
    changed since."""
    number = version_numbers(target)
    below = [p for p in there if version_numbers(p.version) < number]
    if not below:
        return None
    parent = below[-1]
    before, step = version_numbers(parent.version), record.change(parent.record, wanted)
    is_said = (True, number[:2] > before[:2], number[0] > before[0])[step]
    if not is_said and target not in {p.version for p in there}:
        raise NotPublishable(
            f"version was {target}, expected at least {_step(parent, step)}: features or labels of {wanted.name} "
            f"changed since {parent.version} by a {record.CHANGES[step]} step; name that one"
        )
    return parent


def _step(before: Published, step: int) -> str:
    major, minor, patch = version_numbers(before.version)
    return (f"v{major}.{minor}.{patch + 1}", f"v{major}.{minor + 1}.0", f"v{major + 1}.0.0")[step]


# -- making ----------------------------------------------------------------------------------------------------------


def _make(root: Path, wanted: Definition, version: str, through: str) -> dict:
    """Write every part into the stage and return the record as far as it hangs on rows alone."""
    parts = candidates.partitions(root, wanted.name)
    for part in parts:
        candidates.check(wanted.name, part, wanted)
    excluded: Counter[str] = Counter()
    keys = candidates.keys(parts, excluded)
    found = cut(Samples.of(keys.as_of_us, keys.label_time_us, keys.client_id, keys.operation_id))
    excluded.update({SIDES[side]: int((found.side == side).sum()) for side in range(EMBARGO, len(SIDES))})
    stage = _stage(root, wanted.name)
    shutil.rmtree(stage, ignore_errors=True)
    written = _write(stage / version, wanted, version, parts, keys.rows_of_date, found)
    files = {
        side: [stage / version / p["path"] for p in written if p["path"].startswith(f"{side}/")]
        for side in SPLITS
    }
    return {
        "dataset": wanted.name,
        "version": version,
        "split": record.split(found),
        **record.counts(wanted.name, files),
        "train_stats": record.train_stats(wanted, files["train"]),
        "excluded": dict(sorted(excluded.items())),
        "parameters": {
            "breach_threshold_pct": record.BREACH_THRESHOLD_PCT,
            "label_horizon_sec": record.LABEL_HORIZON_S,
            "data_through": through,
        },
        "inputs": candidates.inputs(wanted.name, parts),
        "parts": written,
        "dataset_hash": candidates.joint({p["path"]: p["content_hash"] for p in written}),
    }


def _write(
    folder: Path, wanted: Definition, version: str, parts: list[Partition], rows: tuple[int, ...], found: Cut
) -> list[dict]:
    """Write train and test of each date, read each file again, and return what the record says of them."""
    written = []
    generated_at = datetime.fromisoformat(now_utc())
    start = 0
    for part, n in zip(parts, rows, strict=True):
        side, start = found.side[start : start + n], start + n
        table = candidates.eligible(part)
        candidates.refuse_nulls(table, wanted, part.commit.date)
        for number, split in enumerate(SPLITS, start=TRAIN):
            chosen = np.flatnonzero(side == number)
            if not len(chosen):
                continue
            samples = _samples(table.take(pa.array(chosen)), wanted, version, split, generated_at)
            path = folder / split / f"date={part.commit.date}" / DATA_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(samples, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
            path.chmod(0o444)
            atomic.fsync_file(path)
            atomic.fsync_dir(path.parent)
            written.append((path, samples.num_rows, content_hash(samples)))
    for place in [*folder.glob("*"), folder]:
        atomic.fsync_dir(place)
    return [_verified(folder, *entry) for entry in sorted(written)]


def _verified(folder: Path, path: Path, rows: int, expected: str) -> dict:
    """The entry of one part, after its file gave back what was written."""
    again = file_hash(path)
    if again != expected or pq.read_metadata(path).num_rows != rows:
        raise NotPublishable(
            f"{path.relative_to(folder)} read back as {again[:8]}, expected {expected[:8]}; check the disk, and repeat"
        )
    return {
        "path": str(path.relative_to(folder)),
        "rows": rows,
        "sha256": atomic.sha256_file(path),
        "content_hash": expected,
    }


def _samples(
    table: pa.Table, wanted: Definition, version: str, split: str, generated_at: datetime
) -> pa.Table:
    """Candidates of one date and side as samples, in order of (as_of, execution_id)."""
    table = table.combine_chunks()
    n, metadata = table.num_rows, _child(table, "metadata")
    ids = np.frombuffer(
        b"".join(u.bytes for u in metadata.field("execution_id").to_pylist()), dtype=">u8"
    ).reshape(n, 2)
    as_of = np.asarray(metadata.field("as_of").cast(pa.int64()))
    order = pa.array(np.lexsort((ids[:, 1], ids[:, 0], as_of)))
    table = table.take(order).combine_chunks()
    metadata = _child(table, "metadata")
    known = {f.name: metadata.field(i) for i, f in enumerate(metadata.type)}
    known["version"] = pa.array([version] * n, pa.string())
    known["split"] = pa.array([split] * n, pa.string())
    if LINEAGE not in known:
        known[LINEAGE] = pa.array([generated_at] * n, pa.timestamp("us", tz="UTC"))
    executions = metadata.field("execution_id").to_pylist()
    names = [uuid.uuid5(NAMESPACE, f"sample|{wanted.name}|{version}|{e}").bytes for e in executions]
    sample_id = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(names, pa.binary(16)))
    return pa.table(
        {
            "sample_id": sample_id,
            "client_id": table["client_id"],
            "symbol": table["symbol"],
            "features": _struct(_child(table, "features"), [c.name for c in wanted.features]),
            "label": _struct(_child(table, "label"), [c.name for c in wanted.label]),
            "metadata": pa.StructArray.from_arrays(
                [known[c.name] for c in wanted.metadata], [c.name for c in wanted.metadata]
            ),
        }
    )


def _struct(values: pa.StructArray, names: list[str]) -> pa.StructArray:
    return pa.StructArray.from_arrays([values.field(n) for n in names], names)


def _child(table: pa.Table, name: str) -> pa.StructArray:
    values = table[name].combine_chunks()
    return values.chunk(0) if isinstance(values, pa.ChunkedArray) else values


def content_hash(samples: pa.Table) -> str:
    """Content digest of samples, ``metadata.generated_at`` left out."""
    bare = _bare(samples)
    digest = ContentDigest(bare.schema)
    digest.update(bare)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """`content_hash` of a part, a row group at a time."""
    with pq.ParquetFile(path) as file:
        digest = None
        for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, use_threads=False):
            bare = _bare(pa.Table.from_batches([batch]))
            digest = digest or ContentDigest(bare.schema)
            digest.update(bare)
        return digest.hexdigest()


def verify(found: Published) -> list[dict]:
    """One row for each part of a published version: ``path``, ``rows`` and ``problem``, None where the file is what the
    record says."""
    rows = []
    for part in found.record["parts"]:
        path, problem = found.folder / part["path"], None
        if not path.is_file():
            problem = "the file is missing"
        elif atomic.sha256_file(path) != part["sha256"]:
            problem = "its bytes differ from those published"
        elif file_hash(path) != part["content_hash"]:
            problem = "its rows differ from those published"
        rows.append({"path": part["path"], "rows": part["rows"], "problem": problem})
    return rows


def _bare(samples: pa.Table) -> pa.Table:
    metadata = _child(samples, "metadata")
    kept = _struct(metadata, [f.name for f in metadata.type if f.name != LINEAGE])
    return samples.set_column(samples.column_names.index("metadata"), "metadata", kept)


# -- placing ---------------------------------------------------------------------------------------------------------


def _complete(made: dict, wanted: Definition, parent: Published | None, note: str) -> dict:
    """The whole record, its keys in the order of the specification."""
    known = {
        **made,
        **record.columns(wanted),
        **record.maker(),
        "parent_version": parent.version if parent else None,
        "change_note": note
        or ("first version" if parent is None else f"data through {made['parameters']['data_through']}"),
        "grain": record.GRAIN,
        "entity_keys": record.ENTITY_KEYS,
        "event_time_column": "as_of",
        "created_at": now_utc(),
    }
    content = {key: known[key] for key in record.KEYS}
    contracts.check(content, "training_set", f"{wanted.name} {made['version']}, {FEATURES_FILE}")
    return content


def _place(root: Path, name: str, version: str, content: dict) -> None:
    """Move the stage into place, then make the version published."""
    stage, final = _stage(root, name), set_dir(root, name) / version
    ready = stage / FEATURES_FILE
    atomic.write_json(ready, content)
    if final.exists():  # of a publication that was killed: it has no features.json
        shutil.rmtree(final)
    atomic.make_dirs(final.parent)
    atomic.replace(stage / version, final)
    os.link(ready, final / FEATURES_FILE)
    atomic.fsync_dir(final)


def _compare(kept: Published, made: dict) -> None:
    """Raise VersionDiffers, with what differs, unless the samples are those that are published."""
    if made["dataset_hash"] == kept.record["dataset_hash"]:
        return
    before, after = ({p["path"]: p["content_hash"] for p in r["parts"]} for r in (kept.record, made))
    parts = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    old, new = ({i["relation"]: i["content_hash"] for i in r["inputs"]} for r in (kept.record, made))
    read = sorted(r for r in old.keys() | new.keys() if old.get(r) != new.get(r))
    raise VersionDiffers(
        f"{kept.record['dataset']} {kept.version} is published and would come out otherwise in {len(parts)} of "
        f"{len(before)} parts, the first is {parts[0]}; inputs that changed since: {', '.join(read) or 'none'}; it "
        "stays as it is: publish the next version"
    )


def _stage(root: Path, name: str) -> Path:
    return stage_dir(root) / f"training_sets.{name}"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
