"""How commands print: rows as a table or as JSON on stdout, progress on stderr."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print ``rows``, flat and with the same keys in the same order, as an array of objects or as a table."""
    if as_json:
        print(json.dumps([dict(row) for row in rows], indent=2, allow_nan=False))
        return
    if not rows:
        return
    names = list(rows[0])
    cells = [names] + [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(names))]
    numeric = [all(isinstance(row[name], int | float) for row in rows) for name in names]
    for line in cells:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)


def say(text: str) -> None:
    """Print one line that a reader needs beside the data to stderr."""
    print(text, file=sys.stderr, flush=True)


def progress(text: str) -> None:
    """Print one line of progress to stderr; nothing when nobody watches."""
    if sys.stderr.isatty():
        say(text)
