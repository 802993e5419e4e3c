"""Writing the marker of an hour window. Source: spec/execution.md 3.1."""

from __future__ import annotations

import os
from pathlib import Path

from lake import atomic
from lake.windows import Marker


def write_marker(metadata: Path, marker: Marker) -> None:
    """Write one marker whole; the caller syncs the folder. A sealed one never takes the place of another content.

    Raises FileExistsError when a sealed marker or a supplement with other rows stands there.
    """
    path = metadata / marker.file_name
    if (marker.state == "sealed" and not path.exists()) or marker.number:
        mine = metadata / f"._tmp-{os.getpid()}-{marker.file_name}"
        atomic.write_json(mine, marker.record())
        try:
            os.link(mine, path)
        except FileExistsError:
            if atomic.read_json(path)["content_hash"] != marker.content_hash:
                raise
        finally:
            mine.unlink(missing_ok=True)
        return
    atomic.write_json(path, marker.record())
