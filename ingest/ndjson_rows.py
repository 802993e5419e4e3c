"""Lines of NDJSON to typed rows of one execution dataset and to rejects. Pure: nothing here reads or writes a file.

Typing is strict: a decimal is a string or a number of JSON, read as text and never through a float; an integer is a
number, a text a string, a time a string with its zone. Source: spec/execution.md 2.1, 3.1.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from ingest.errors import RefusedFile
from ingest.execution_rows import Typed, shown, type_rows
from ingest.json_text import BadJson, Number, canonical, parse
from ingest.text_lines import MAX_LINE_BYTES, Lines
from ingest.window_schema import WindowSchema

# Columns of source tables that are known and not landed.
_NOT_LANDED = {"events": ("request_payload_hash",)}
_KINDS: dict[str, set[type]] = {
    "decimal": {str, int, Number},
    "integer": {int},
    "boolean": {bool},
    "object": {dict},
    "list": {list},
    "text": {str},
}
_TOLD = {
    "decimal": "a decimal string or number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "an object of JSON",
    "list": "a list of JSON",
    "text": "a string",
}


@dataclass
class Block:
    """Typed rows with their line numbers, (n,) int64, and (line, rule, reason, raw, instant of the window or None)."""

    table: pa.Table
    line_no: np.ndarray
    rejects: list[tuple[int, str, str, str, datetime | None]]


@dataclass
class Drift:
    """How the rows of a file differ from the dataset's columns: counts by name."""

    rows: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    retyped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def told(self) -> str | None:
        """The difference, when at least half of the rows lack a required column or have it in another type."""
        gone = sorted(name for name, n in self.missing.items() if 2 * n >= self.rows)
        other = sorted(name for name, n in self.retyped.items() if 2 * n >= self.rows)
        if not gone and not other:
            return None
        parts = [f"without {', '.join(gone)}"] if gone else []
        parts += [f"with another type of {', '.join(other)}"] if other else []
        parts += [f"and with the unknown {', '.join(sorted(self.unknown))}"] if self.unknown else []
        return " ".join(parts)


class NdjsonParser:
    """Turns the blocks of one file into rows; ``drift`` and ``read`` count over all of them."""

    def __init__(self, schema: WindowSchema, environment: str) -> None:
        self.schema, self.environment = schema, environment
        self.drift = Drift()
        self.read = 0
        self._columns = {"ingested_at": "text"} if schema.by_ingested_at else {}
        self._columns |= {f.name: _kind(f, schema) for f in schema.columns}
        self._known = frozenset([*self._columns, "environment", *_NOT_LANDED.get(schema.name, ())])
        self._needed = [
            n for n in schema.required if n not in ("payload_json", "retry_count", "fee", "strategy_id")
        ]

    def parse(self, block: Lines) -> Block:
        """Raises RefusedFile when a row says that it is of another environment."""
        # A block makes 100,000 containers without a cycle among them: looking for one costs more than the parsing.
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._parse(block)
        finally:
            if collects:
                gc.enable()

    def _parse(self, block: Lines) -> Block:
        rows: list[dict] = []
        texts: list[str] = []
        line_no: list[int] = []
        rejects: list[tuple[int, str, str, str, datetime | None]] = []
        for place, line in enumerate(block.lines):
            number = block.first + place
            if place in block.overlong:
                text = line.decode(errors="backslashreplace")
                reason = f"line was {block.overlong[place]:,} bytes, expected at most {MAX_LINE_BYTES:,}"
                rejects.append((number, "LINE_LENGTH", reason, text, None))
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"byte {error.start} was no UTF-8, expected UTF-8; write the file as UTF-8"
                rejects.append((number, "ENCODING", reason, line.decode(errors="backslashreplace"), None))
                continue
            if not text.strip(" \t\r"):
                continue
            try:
                row = parse(text)
                if type(row) is not dict:
                    raise BadJson(f"line was a {type(row).__name__}, expected an object")
            except BadJson as error:
                rejects.append((number, "JSON", str(error), text, None))
                continue
            rows.append(row)
            texts.append(text)
            line_no.append(number)
        self.read += len(rows) + len(rejects)
        if not rows:
            return Block(self.schema.columns.empty_table(), np.zeros(0, dtype=np.int64), rejects)
        typed = self._type(rows)
        rejects += [(line_no[i], rule, reason, texts[i], at) for i, rule, reason, at in typed.rejects]
        rejects.sort(key=lambda reject: reject[0])
        return Block(typed.table, np.array(line_no, dtype=np.int64)[typed.rows], rejects)

    def _type(self, rows: list[dict]) -> Typed:
        faults: dict[int, tuple[str, str]] = {}
        self.drift.rows += len(rows)
        given = _transposed(rows)
        self._check_environment(given)
        if "payload_json" in given and "trigger_type" in self._columns:
            given["trigger_type"] = _lifted(given.get("trigger_type"), given["payload_json"])
        columns = {
            name: self._column(given[name], name, kind, faults)
            for name, kind in self._columns.items()
            if name in given
        }
        if unknown := [name for name in given if name not in self._known]:
            columns["_extra"] = self._extra(rows, unknown)
        for name in self._needed:
            missing = sum(value is None for value in given[name]) if name in given else len(rows)
            if missing:
                self.drift.missing[name] += missing
        if not columns:  # rows that have nothing of ours
            columns["_extra"] = pa.nulls(len(rows), pa.string())
        return type_rows(pa.table(columns), self.schema, faults, json_is_canonical=True)

    def _column(
        self, values: Sequence[object], name: str, kind: str, faults: dict[int, tuple[str, str]]
    ) -> pa.Array:
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds <= _KINDS[kind]:
            values = list(values)
            for i, value in enumerate(values):
                if value is not None and type(value) not in _KINDS[kind]:
                    reason = f"{name} was {shown(canonical(value))}, expected {_TOLD[kind]}"
                    faults.setdefault(i, ("CAST", reason))
                    self.drift.retyped[name] += 1
                    values[i] = None
        if kind == "boolean":
            return pa.array(values, pa.bool_())
        if kind in ("object", "list"):
            values = [None if value is None else canonical(value) for value in values]
        elif kind == "integer":
            try:
                return pa.array(values, pa.int64())
            except (OverflowError, pa.ArrowInvalid):
                values = [None if value is None else str(value) for value in values]
        elif kind == "decimal" and kinds != {str}:
            values = [_number_text(value) for value in values]
        return pa.array(values, pa.string())

    def _extra(self, rows: list[dict], unknown: list[str]) -> pa.Array:
        names = set(unknown)
        values: list[str | None] = [None] * len(rows)
        for i, row in enumerate(rows):
            if found := {key: value for key, value in row.items() if key in names}:
                self.drift.unknown.update(found.keys())
                values[i] = canonical(found)
        return pa.array(values, pa.string())

    def _check_environment(self, given: dict[str, Sequence[object]]) -> None:
        for value in given.get("environment", ()):
            if value is not None and value != self.environment:
                raise RefusedFile(
                    f"a row was of environment {str(value)[:20]!r}, expected {self.environment}; "
                    "load it into a lake of its own"
                )


def _transposed(rows: list[dict]) -> dict[str, Sequence[object]]:
    """Values by key, in the order of the rows, None where a row has no such key."""
    shapes: dict[tuple, list[int]] = {}
    for i, row in enumerate(rows):
        shapes.setdefault(tuple(row), []).append(i)
    if len(shapes) == 1:
        (shape,) = shapes
        return dict(zip(shape, zip(*map(dict.values, rows), strict=True), strict=True))
    given: dict[str, list[object]] = {}
    for shape, places in shapes.items():
        for key, values in zip(shape, zip(*(rows[i].values() for i in places), strict=True), strict=True):
            column = given.get(key)
            if column is None:
                column = given[key] = [None] * len(rows)
            for i, value in zip(places, values, strict=True):
                column[i] = value
    return given


def _lifted(trigger_types: Sequence[object] | None, payloads: Sequence[object]) -> list[object]:
    """The trigger type of each row, out of its payload, here still an object, where the row has none."""
    own = trigger_types or [None] * len(payloads)
    return [
        value if value is not None or type(payload) is not dict else payload.get("trigger_type")
        for value, payload in zip(own, payloads, strict=True)
    ]


def _kind(field: pa.Field, schema: WindowSchema) -> str:
    if schema.is_json(field.name):
        return "list" if field.name == "balances" else "object"
    if pa.types.is_decimal(field.type):
        return "decimal"
    if pa.types.is_integer(field.type):
        return "integer"
    return "boolean" if pa.types.is_boolean(field.type) else "text"


def _number_text(value: object) -> str | None:
    if value is None or type(value) is str:
        return value
    return value.text if type(value) is Number else str(value)
