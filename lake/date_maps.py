"""Which dates of its parents a date reads: ``meta.reads`` of models that are partitioned by the UTC date.

Per parent: ``days_before: N | all`` and ``days_after: N`` in UTC days, ``dates_of: [index.name, …]``, and ``own``, its
own date: by default read, unless ``dates_of`` says which are. An index dataset declares ``meta.indexes: {name: {for:
column, reads: column}}``; the distinct pairs of each of its partitions stand in that partition's commit record.
Source: architecture D3; docs/adr/0015.
"""

import bisect
import datetime
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ALL = "all"
UNTIL = "until="  # of an input's name: one digest of all dates of a parent up to the one that is named
OPTIONS = ("days_before", "days_after", "dates_of", "own")

Index = dict[str, set[str]]  # date that is mapped: the dates it reads, ISO


class DateMapError(ValueError):
    """A model's ``meta.reads`` or ``meta.indexes`` can't be followed."""


@dataclass(frozen=True)
class Read:
    """How a model reads one parent. ``days_before`` is None for all earlier dates."""

    own: bool = True
    days_before: int | None = 0
    days_after: int = 0
    dates_of: tuple[tuple[str, str], ...] = ()  # (alias of an index dataset, name of its index)


@dataclass
class Dates:
    """The committed dates of one parent with their content digests, and what is kept of them for maps over all."""

    digests: dict[str, str]
    dates: list[str] = field(init=False)
    _running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dates = sorted(self.digests)

    def until(self, count: int) -> str:
        """One digest of the first ``count`` dates; each is made of the one before it."""
        while len(self._running) < count:
            date = self.dates[len(self._running)]
            before = self._running[-1] if self._running else ""
            text = f"{before} {date} {self.digests[date]}"
            self._running.append(hashlib.sha256(text.encode()).hexdigest())
        return self._running[count - 1]


def is_by_utc_date(node: dict) -> bool:
    return _meta(node).get("partition") == "date"


def reads(node: dict, graph: dict) -> dict[str, Read]:
    """The date map of each parent that ``meta.reads`` names, by alias. Raises DateMapError in one line."""
    declared = _meta(node).get("reads") or {}
    if not isinstance(declared, dict):
        raise DateMapError(f"{node['name']}: meta.reads was {declared!r}, expected a map of parents")
    return {parent: _read(node, graph, parent, options) for parent, options in declared.items()}


def _read(node: dict, graph: dict, parent: str, options: object) -> Read:
    where = f"{node['name']}: meta.reads of {parent}"
    if not isinstance(options, dict) or set(options) - set(OPTIONS):
        raise DateMapError(f"{where} was {options!r}, expected some of {', '.join(OPTIONS)}")
    named = options.get("dates_of", [])
    if not isinstance(named, list) or ("dates_of" in options and not named):
        raise DateMapError(f"{where}: dates_of was {named!r}, expected a list such as [int_x__tokens.home]")
    own = options.get("own", not named)
    if not isinstance(own, bool):
        raise DateMapError(f"{where}: own was {own!r}, expected true or false")
    before = options.get("days_before", 0)
    return Read(
        own=own,
        days_before=None
        if before == ALL
        else _count(where, "days_before", before, f"a number of days or {ALL}"),
        days_after=_count(where, "days_after", options.get("days_after", 0), "a number of days"),
        dates_of=tuple(_index_of(where, node, graph, name) for name in named),
    )


def _count(where: str, name: str, value: object, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DateMapError(f"{where}: {name} was {value!r}, expected {expected}")
    return value


def _index_of(where: str, node: dict, graph: dict, name: object) -> tuple[str, str]:
    alias, _, index = str(name).partition(".")
    found = [n for n in graph["nodes"].values() if n["resource_type"] == "model" and n["alias"] == alias]
    if not found or index not in (_meta(found[0]).get("indexes") or {}):
        known = sorted(
            f"{n['alias']}.{i}"
            for n in graph["nodes"].values()
            if n["resource_type"] == "model"
            for i in _meta(n).get("indexes") or ()
        )
        raise DateMapError(
            f"{where}: dates_of named {name}, expected one of {', '.join(known) or 'no model'}"
        )
    if found[0]["unique_id"] not in _ancestors(node, graph):
        raise DateMapError(
            f"{where}: dates_of named {name}, but {node['name']} isn't built after {alias}; expected an index of "
            f"what it reads, directly or not: add `-- depends_on: {{{{ ref('{alias}') }}}}` unless that makes a cycle"
        )
    return alias, index


def _ancestors(node: dict, graph: dict) -> set[str]:
    found: set[str] = set()
    todo = [*node["depends_on"]["nodes"]]
    while todo:
        uid = todo.pop()
        if uid not in found:
            found.add(uid)
            todo += graph["nodes"].get(uid, {}).get("depends_on", {}).get("nodes", [])  # seeds have none
    return found


def declared_indexes(node: dict) -> dict[str, tuple[str, str]]:
    """``{index: (column of the mapped date, column of the date it reads)}``. Raises DateMapError."""
    found: dict[str, tuple[str, str]] = {}
    indexes = _meta(node).get("indexes") or {}
    if not isinstance(indexes, dict) or (indexes and not is_by_utc_date(node)):
        raise DateMapError(
            f"{node['name']}: meta.indexes was {indexes!r}, expected a map of names, of a model with `partition: date`"
        )
    for name, columns in indexes.items():
        where = f"{node['name']}: index {name}"
        if not isinstance(columns, dict) or set(columns) != {"for", "reads"}:
            raise DateMapError(f"{where} was {columns!r}, expected {{for: column, reads: column}}")
        for column in columns.values():
            declared = node["columns"].get(column)
            if declared is None or str(declared.get("data_type")).lower() != "date":
                raise DateMapError(
                    f"{where} named {column}, expected a column that the YAML declares as a date"
                )
        found[name] = (columns["for"], columns["reads"])
    return found


def merged(records: Iterable[Mapping[str, Mapping[str, list[str]]] | None], name: str) -> Index:
    """One index over all partitions of its dataset, from what their commit records hold."""
    found: Index = {}
    for record in records:
        for mapped, read in ((record or {}).get(name) or {}).items():
            found.setdefault(mapped, set()).update(read)
    return found


def dates_read(
    read: Read, date: str, have: Dates, indexes: Iterable[Index]
) -> tuple[list[str], dict[str, str]]:
    """The parent's dates that ``date`` reads, in order, and its inputs: ``{date: content digest}``, where all earlier
    dates are one input, ``until=<date>``: a long history must not make every record long."""
    wanted: set[str] = {d for index in indexes for d in index.get(date, ())}
    if read.own:
        wanted.add(date)
    if read.days_before or read.days_after:
        day = datetime.date.fromisoformat(date)
        for count in range(-(read.days_before or 0), read.days_after + 1):
            if count:
                wanted.add((day + datetime.timedelta(count)).isoformat())
    earlier = bisect.bisect_left(have.dates, date) if read.days_before is None else 0
    inputs = {f"{UNTIL}{have.dates[earlier - 1]}": have.until(earlier)} if earlier else {}
    last_of_all = have.dates[earlier - 1] if earlier else ""
    rest = sorted(d for d in wanted if d in have.digests and d > last_of_all)
    inputs |= {d: have.digests[d] for d in rest}
    return have.dates[:earlier] + rest, inputs


def _meta(node: dict) -> dict[str, Any]:
    return node["config"].get("meta") or {}
