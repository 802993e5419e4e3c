"""The files that a call names by globs."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from ingest.errors import SourceUnreachable


def named_files(patterns: Iterable[str], *, beside: tuple[str, ...] = ()) -> list[Path]:
    """The files that the globs name, each once, in order of name within a glob; those whose names end like ``beside``
    only accompany others. A name that exists is meant as it stands, brackets and all.

    Raises SourceUnreachable for a glob that names none.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        paths = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [path for path in map(Path, paths) if path.is_file() and not path.name.endswith(beside)]
        if not files:
            raise SourceUnreachable(f"no file matched {pattern}, expected at least one; check --from")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())
