"""Publishing on a file system: a reader sees the old file or the new one, and a finished step survives a crash."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from lake import immutable


def fsync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_dir(path: Path) -> None:
    """Make the entries of a folder durable: a rename is only in its folder."""
    fsync_file(path)


def make_dirs(folder: Path) -> None:
    """Create a folder with its parents, durably: each new entry is synced in the folder that holds it."""
    if folder.is_dir():
        return
    immutable.refuse(folder)
    make_dirs(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_dir(folder.parent)


def replace(src: Path, dst: Path) -> None:
    """Rename ``src`` over ``dst`` durably. Both must be on one file system; the content of ``src`` must be synced.

    Only the folder of ``dst`` is synced: should ``src`` come back after a power loss, it is a stage file again.
    """
    immutable.refuse(dst)
    os.replace(src, dst)
    fsync_dir(dst.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all; the temporary stands beside it as ``._tmp-*``."""
    immutable.refuse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix="._tmp-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fchmod(f.fileno(), 0o644)
            os.fsync(f.fileno())
        replace(Path(name), path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, obj: object) -> None:
    write_text(path, json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
    """A small file that this project wrote. Raises ValueError naming the file when it isn't a JSON object."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} was no JSON ({error}), expected what was written; restore it from a copy"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} was a {type(content).__name__}, expected a JSON object; restore it from a copy"
        )
    return content


def sha256_file(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
