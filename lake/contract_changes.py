"""What two versions of a contract differ in, and whether a reader of the old one notices: additive or breaking.

The table of spec/execution.md 7.1: what adds or widens is additive, what removes, retypes, tightens or says something
else of the same name is breaking. A description is the definition of its column; only its spelling may change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

ADDITIVE, BREAKING, EDITORIAL = "additive", "breaking", "editorial"
# Tests that a column's own entry says already: one change is told once.
_OF_COLUMNS = {"not_null", "accepted_values"}


@dataclass(frozen=True)
class Change:
    """One difference: ``kind`` is additive, breaking or editorial, ``what`` one word for it, ``where`` the key,
    column or test, ``old`` and ``new`` how it read."""

    kind: str
    what: str
    where: str
    old: str
    new: str

    def as_row(self) -> dict[str, str]:
        return asdict(self)

    def told(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}: {self.old} → {self.new}"


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every difference between two contracts (their versions aside), in the order of the document."""
    return [*_head(old, new), *_columns(old, new), *_tests(old, new), *_sla(old["sla"], new["sla"])]


def is_breaking(changes: list[Change]) -> bool:
    return any(change.kind == BREAKING for change in changes)


def next_version(version: str, changes: list[Change]) -> str:
    """``1.2`` → ``2.0`` after a breaking change, ``1.3`` after any other."""
    major, minor = map(int, version.split("."))
    return f"{major + 1}.0" if is_breaking(changes) else f"{major}.{minor + 1}"


# -- the dataset -----------------------------------------------------------------------------------------------------


def _head(old: dict, new: dict) -> Iterator[Change]:
    for key, what in (("name", "renamed"), ("path", "moved"), ("grain", "redefined"), ("key", "redefined")):
        if old[key] != new[key]:
            yield Change(BREAKING, what, key, _text(old[key]), _text(new[key]))
    if old["owner"] != new["owner"]:
        yield Change(ADDITIVE, "handed over", "owner", old["owner"], new["owner"])
    yield from _description("description", old["description"], new["description"])
    if old["partition"] != new["partition"]:
        kept = [key for key in new["partition"] if key in old["partition"]]
        kind = ADDITIVE if kept == old["partition"] else BREAKING
        what = "partition added" if kind == ADDITIVE else "partition removed or moved"
        yield Change(kind, what, "partition", _text(old["partition"]), _text(new["partition"]))


def _description(where: str, old: str, new: str) -> Iterator[Change]:
    if old == new:
        return
    same = re.findall(r"[\w<>=≤≥+−×/%-]+", old.lower()) == re.findall(r"[\w<>=≤≥+−×/%-]+", new.lower())
    yield Change(EDITORIAL if same else BREAKING, "respelt" if same else "redefined", where, old, new)


# -- columns ---------------------------------------------------------------------------------------------------------


def _columns(old: dict, new: dict) -> Iterator[Change]:
    before, after = ({c["name"]: c for c in _flat(d["columns"])} for d in (old, new))
    for name in before:
        if name not in after:
            yield Change(BREAKING, "column removed", name, before[name]["type"], "-")
        else:
            yield from _column(before[name], after[name])
    for name in after:
        if name not in before:
            yield Change(ADDITIVE, "column added", name, "-", after[name]["type"])
    orders = [[n for n in these if n in before and n in after] for these in (before, after)]
    if orders[0] != orders[1]:  # the row hash and positional readers follow it
        yield Change(BREAKING, "columns reordered", "columns", _text(orders[0]), _text(orders[1]))


def _column(old: dict, new: dict) -> Iterator[Change]:
    name = old["name"]
    if old["type"] != new["type"]:
        yield Change(BREAKING, "type changed", name, old["type"], new["type"])
    if old["nullable"] != new["nullable"]:
        kind, what = (BREAKING, "tightened") if old["nullable"] else (ADDITIVE, "widened")
        yield Change(kind, what, name, _null(old), _null(new))
    yield from _values(name, old["accepted_values"], new["accepted_values"])
    if old["unit"] != new["unit"]:
        stated = old["unit"] is None
        yield Change(
            ADDITIVE if stated else BREAKING,
            "unit stated" if stated else "unit changed",
            name,
            _text(old["unit"]),
            _text(new["unit"]),
        )
    yield from _description(name, old["description"], new["description"])


def _values(where: str, old: list | None, new: list | None) -> Iterator[Change]:
    if old is None or new is None:
        if old is not new:
            kind, what = (BREAKING, "tightened") if old is None else (ADDITIVE, "widened")
            yield Change(kind, what, where, _text(old or "any value"), _text(new or "any value"))
        return
    gone = [value for value in old if value not in new]
    come = [value for value in new if value not in old]
    if gone:
        yield Change(BREAKING, "value removed", where, _text(gone), "-")
    if come:
        yield Change(ADDITIVE, "value added", where, "-", _text(come))


def _null(column: dict) -> str:
    return "null allowed" if column["nullable"] else "not null"


def _flat(columns: list[dict]) -> Iterator[dict]:
    """Columns, and of a structure its fields as columns after it: a field more is a column more."""
    for column in columns:
        fields = struct_fields(column["type"])
        if not fields:
            yield column
            continue
        yield column | {"type": "struct"}
        inner = [
            column | {"name": f"{column['name']}.{name}", "type": kind, "unit": None, "description": ""}
            for name, kind in fields
        ]
        yield from _flat(inner)


def struct_fields(data_type: str) -> list[tuple[str, str]]:
    """``struct(a bigint,b decimal(10,4))`` → [("a", "bigint"), ("b", "decimal(10,4)")]; [] for another type."""
    if not (data_type.startswith("struct(") and data_type.endswith(")")):
        return []
    fields, depth, start = [], 0, 0
    inner = data_type.removeprefix("struct(").removesuffix(")")
    for at, letter in enumerate(inner + ","):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            name, _, kind = inner[start:at].strip().partition(" ")
            fields.append((name.strip('"'), kind.strip()))
            start = at + 1
    return fields


# -- tests and service level -----------------------------------------------------------------------------------------


def _tests(old: dict, new: dict) -> Iterator[Change]:
    """A test that is new claims more of rows that were good before: it tightens. One that goes claims less."""
    before, after = (_claims(document) for document in (old, new))
    known = {column["name"] for column in old["columns"]}
    for claim in before:
        if claim not in after:
            yield Change(ADDITIVE, "widened", claim[0], claim[1], "-")
        elif before[claim] != after[claim]:
            kind, what = (ADDITIVE, "widened") if after[claim] == "warn" else (BREAKING, "tightened")
            yield Change(kind, what, claim[0], f"{claim[1]} {before[claim]}", f"{claim[1]} {after[claim]}")
    for claim, severity in after.items():
        if claim not in before:
            told = severity != "error" or claim[2] not in known | {None}
            yield Change(
                ADDITIVE if told else BREAKING, "test added" if told else "tightened", claim[0], "-", claim[1]
            )


def _claims(document: dict) -> dict[tuple[str, str, str | None], str]:
    return {
        (test["column"] or "rows", f"{test['test']} {_text(test['arguments'])}", test["column"]): test[
            "severity"
        ]
        for test in document["tests"]
        if test["test"] not in _OF_COLUMNS
    }


def _sla(old: dict, new: dict) -> Iterator[Change]:
    """A weaker promise is one less: higher is better of percentages, lower of everything else."""
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        if was is None or now is None:
            weaker = now is None
        elif isinstance(was, str) or isinstance(now, str):
            weaker = True
        else:
            weaker = now < was if key.endswith("_pct") else now > was
        kind, what = (BREAKING, "promised less") if weaker else (ADDITIVE, "promised more")
        yield Change(kind, what, f"sla.{key}", _text(was), _text(now))


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}={_text(v)}" for k, v in sorted(value.items())) or "()"
    return str(value)
