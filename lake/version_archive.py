"""Archiving a feature version: its folder as one tar in the archive; its manifest stays, its dates go.

Source: spec/market.md 2 (retention), 11.3.
"""

import hashlib
import shutil
import tarfile
from pathlib import Path

import yaml

from lake import atomic, commits, released, runs, yaml_files
from lake.commits import now_utc
from lake.locks import Locks
from lake.paths import archive_dir, lake_dir, stage_dir

LOCK_TIMEOUT_S = 600


class NotArchivable(ValueError):
    """The version can't be archived; the message says why."""


def tar_path(root: Path, version: str) -> Path:
    return archive_dir(root) / "silver" / "features" / f"{version}.tar"


def archive(root: Path, version: str) -> dict[str, object]:
    """Move the dates of ``version`` into ``lake/archive`` and return the record of it.

    The tar is read back and compared file by file before the record is written, which makes the version archived:
    nothing builds it, or its training table, from then on. A call that was killed is finished by the next. Manifest,
    params and the entries in ``experiments.json`` stay. Raises NotArchivable.
    """
    folder = released.version_dir(root, version)
    if not (folder / "manifest.yaml").is_file():
        raise NotArchivable(
            f"{version} has no manifest under {folder}, expected a built version; `tickhouse versions list` tells "
            "which there are"
        )
    atomic.make_dirs(stage_dir(root))
    locks = Locks(stage_dir(root))
    locks.take(f"silver/features/{version}", [f"gold/training/candidates/{version}"], LOCK_TIMEOUT_S)
    try:
        path = folder / "_metadata" / released.ARCHIVE_FILE
        if not path.is_file():
            if not commits.read_partitions(folder):
                raise NotArchivable(
                    f"{version} has no date, expected at least one; there is nothing to archive"
                )
            atomic.write_json(path, _pack(root, version, folder))
        record = atomic.read_json(path)
        _check(root, record)
        manifest = yaml_files.read(folder / "manifest.yaml")
        if manifest["status"] != "archived":
            text = yaml.safe_dump(
                manifest | {"status": "archived"}, sort_keys=False, allow_unicode=True, width=120
            )
            atomic.write_text(folder / "manifest.yaml", text)
        for date in sorted(folder.glob("date=*")):
            shutil.rmtree(date)
        return record
    finally:
        locks.release()


def _pack(root: Path, version: str, folder: Path) -> dict[str, object]:
    staged, final = stage_dir(root) / f"{version}.tar", tar_path(root, version)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("._"))
    digests = {str(p.relative_to(folder)): atomic.sha256_file(p) for p in files}
    with tarfile.open(staged, "w") as tar:
        for name in digests:
            tar.add(folder / name, f"{version}/{name}", filter=_plain)
    with tarfile.open(staged) as tar:
        packed = {m.name.partition("/")[2]: _sha256(tar, m) for m in tar.getmembers()}
    if packed != digests:
        raise NotArchivable(
            f"{staged} did not read back as it was written; check the disk and archive it again"
        )
    atomic.fsync_file(staged)
    size, sha256 = staged.stat().st_size, atomic.sha256_file(staged)
    atomic.make_dirs(final.parent)
    atomic.replace(staged, final)
    return {
        "record_version": 1,
        "version": version,
        "archived_at": now_utc(),
        "path": str(final.relative_to(lake_dir(root))),
        "bytes": size,
        "sha256": sha256,
        "files": digests,
        "run_id": runs.new_run_id("archive"),
    }


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose files they were is no part of what they hold."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _sha256(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    with tar.extractfile(member) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check(root: Path, record: dict) -> None:
    """Nothing is deleted while the copy is not what its record says."""
    path = lake_dir(root) / record["path"]
    if not path.is_file() or atomic.sha256_file(path) != record["sha256"]:
        raise NotArchivable(
            f"{path} was not the file that its record names, expected sha256 {record['sha256'][:16]}…; put it back"
        )
