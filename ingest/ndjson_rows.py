"""Lines of NDJSON to typed rows of one execution dataset and to rejects. Pure: nothing here reads or writes a file.

Typing is strict: a decimal is a string or a number of JSON, read as text and never through a float; an integer is a
number, a text a string, a time a string with its zone. Source: spec/execution.md 2.1, 3.1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from ingest.errors import RefusedFile
from ingest.execution_rows import Typed, type_rows
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
        self._check_environment(rows)
        columns = {name: self._column(rows, name, kind, faults) for name, kind in self._columns.items()}
        extra = self._extra(rows)
        if extra is not None:
            columns["_extra"] = extra
        for name in self._needed:
            if columns[name].null_count:
                self.drift.missing[name] += sum(row.get(name) is None for row in rows)
        return type_rows(pa.table(columns), self.schema, faults, json_is_canonical=True)

    def _column(self, rows: list[dict], name: str, kind: str, faults: dict[int, tuple[str, str]]) -> pa.Array:
        values = [row.get(name) for row in rows]
        if name == "trigger_type":
            # Lifted here, where the payload is at hand as an object.
            for i, row in enumerate(rows):
                if values[i] is None and type(payload := row.get("payload_json")) is dict:
                    values[i] = payload.get("trigger_type")
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds <= _KINDS[kind]:
            for i, value in enumerate(values):
                if value is not None and type(value) not in _KINDS[kind]:
                    shown = canonical(value)
                    reason = f"{name} was {shown[:60]}{'…' * (len(shown) > 60)}, expected {_TOLD[kind]}"
                    faults.setdefault(i, ("CAST", reason))
                    self.drift.retyped[name] += 1
                    values[i] = None
        if kind == "boolean":
            return pa.array(values, pa.bool_())
        if kind in ("object", "list"):
            values = [None if value is None else canonical(value) for value in values]
        elif kind == "integer":
            values = [None if value is None else str(value) for value in values]
        elif kind == "decimal" and kinds != {str}:
            values = [_number_text(value) for value in values]
        return pa.array(values, pa.string())

    def _extra(self, rows: list[dict]) -> pa.Array | None:
        known = self._known
        odd = [i for i, row in enumerate(rows) if not row.keys() <= known]
        if not odd:
            return None
        values: list[str | None] = [None] * len(rows)
        for i in odd:
            unknown = {key: value for key, value in rows[i].items() if key not in known}
            self.drift.unknown.update(unknown.keys())
            values[i] = canonical(unknown)
        return pa.array(values, pa.string())

    def _check_environment(self, rows: list[dict]) -> None:
        for row in rows:
            if "environment" in row and row["environment"] not in (None, self.environment):
                raise RefusedFile(
                    f"a row was of environment {str(row['environment'])[:20]!r}, expected {self.environment}; "
                    "load it into a lake of its own"
                )


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
