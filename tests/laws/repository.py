"""The files under version control, for the laws about what stands in them."""

import functools
import subprocess
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Tracked files and those about to be (not ignored), relative to the project; what git would commit."""
    # safe.directory: in CI the checkout may belong to another user than the one who runs the tests
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name]
    return tuple(Path(name) for name in sorted(names) if (PROJECT_DIR / name).is_file())


@functools.cache
def text_of(file: Path) -> str | None:
    """Text of a file of `tracked_files`; None when it is binary."""
    content = (PROJECT_DIR / file).read_bytes()
    return None if b"\0" in content[:8192] else content.decode("utf-8", errors="replace")
