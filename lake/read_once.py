"""What was made of a file's content, kept until another file stands under its name.

Records and modules are replaced whole, and a run asks for the same ones many times: a `stat` tells whether to read
again.
"""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
MOST_HELD = 200_000


class ReadOnce(Generic[T]):
    """``make(path)`` of each path, made again when the file's inode, time of change or size is another."""

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._held: dict[str, tuple[tuple[int, int, int], T]] = {}

    def __call__(self, path: str) -> T:
        """Raises FileNotFoundError where there is no file."""
        found = os.stat(path)
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        held = self._held.get(path)
        if held is None or held[0] != seen:
            if len(self._held) >= MOST_HELD:
                self._held.clear()
            held = self._held[path] = (seen, self._make(path))
        return held[1]
