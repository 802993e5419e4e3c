"""Blocks of lines are the lines of the file, wherever blocks end and however long a line is."""

from __future__ import annotations

import io

import numpy as np
import pytest

from ingest.binance.lines import line_blocks


def slow(data: bytes, longest: int) -> list[tuple[int, bytes | int]]:
    """(line number, the line, or its length where it is too long) of each line."""
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [(n, line if len(line) <= longest else len(line)) for n, line in enumerate(lines, 1)]


@pytest.mark.parametrize("block_bytes", [1, 3, 10, 64, 1000])
def test_blocks_hold_every_line_once(block_bytes):
    rng = np.random.default_rng(5)
    for _ in range(60):
        data = b"".join(
            b"x" * int(rng.choice([0, 1, 2, 5, 19, 20, 21, 60, 200])) + (b"\n" if rng.random() < 0.9 else b"")
            for _ in range(int(rng.integers(0, 30)))
        )
        found = []
        for block in line_blocks(io.BytesIO(data), longest=20, block_bytes=block_bytes):
            if block.is_too_long:
                assert data.split(b"\n")[block.line_no - 1].startswith(block.data)
                found.append((block.line_no, block.length))
            else:
                lines = block.data.split(b"\n")
                if lines[-1] == b"":
                    lines.pop()
                found += list(enumerate(lines, block.line_no))
        assert found == slow(data, 20)
