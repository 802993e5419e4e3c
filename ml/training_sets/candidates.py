"""Candidates of a training set: what dbt built by date, read a date at a time.

A candidate has all columns of a sample but ``version``, ``sample_id`` and ``split``, which hang on the whole set. A
column ``excluded_reason``, where there is one, is NULL for the eligible and counted for the others.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import datasets, windows
from lake.commits import Partition
from lake.training_sets import Definition

EXCLUDED = "excluded_reason"
OF_THE_WHOLE_SET = {"version", "split"}
"""Metadata that only the publication can know."""
LINEAGE = "generated_at"


class NotPublishable(ValueError):
    """The candidates can't become a version; the message says why and what to do."""


@dataclass(frozen=True)
class Keys:
    """Keys of all eligible candidates, each (n,), in order of date and row: 40 bytes each, the only thing that is held
    of the whole set. Times are microseconds since 1970, UTC."""

    as_of_us: np.ndarray
    label_time_us: np.ndarray
    client_id: np.ndarray
    operation_id: np.ndarray
    rows_of_date: tuple[int, ...]


def folder(name: str) -> str:
    """Place of the candidates of a set, relative to ``<root>/lake``."""
    return f"gold/training_sets/candidates/{name}"


def partitions(root: Path, name: str) -> list[Partition]:
    """Built dates of the candidates, in order. Raises NotPublishable where there is none, or one failed its tests."""
    found = datasets.partitions(root, folder(name))
    again = f"run `dbt build --select +{name}_candidates`"
    if not found:
        raise NotPublishable(f"candidates of {name} had no date under {root}, expected some; {again}")
    failed = {p.commit.date: s["error"] for p in found if (s := p.status())["status"] != "ok"}
    if failed:
        date, error = next(iter(failed.items()))
        raise NotPublishable(
            f"candidates of {name} had {len(failed)} of {len(found)} dates that are not ok, the first is {date}: "
            f"{error}; {again}"
        )
    return found


def sealed_through(root: Path) -> str:
    """``data_through``: the end of the last sealed window of stop events, never the clock. Raises NotPublishable."""
    for date in reversed(windows.landed_dates(root, "events")):
        ends = [m.window_end for m in windows.read_date(root, "events", date) if m.state != "provisional"]
        if ends:
            return max(ends)
    raise NotPublishable(
        f"bronze events had no sealed window under {root}, expected one: data_through is its end; run `tickhouse seal`"
    )


def check(name: str, part: Partition, wanted: Definition) -> None:
    """Raise NotPublishable unless a date's file has the columns and types of the set."""
    schema = pq.read_schema(part.file)
    faults = []
    for struct in ("features", "label", "metadata"):
        if struct not in schema.names:
            faults.append(f"{struct} is missing")
            continue
        found = {f.name: sql_type(f.type) for f in schema.field(struct).type}
        declared = {c.name: c.dtype for c in wanted.struct(struct)}
        optional = OF_THE_WHOLE_SET | {LINEAGE} if struct == "metadata" else set()
        faults += [f"{struct}.{n} is missing" for n in declared if n not in found and n not in optional]
        faults += [f"{struct}.{n} is not declared" for n in found if n not in declared]
        faults += [
            f"{struct}.{n} was {t}, expected {declared[n]}"
            for n, t in found.items()
            if n in declared and t != declared[n].replace(" ", "")
        ]
    faults += [f"{n} is missing" for n in ("client_id", "symbol") if n not in schema.names]
    if faults:
        raise NotPublishable(
            f"candidates of {name}, {part.commit.date}: {'; '.join(faults[:5])}"
            f"{f' and {len(faults) - 5} more' if len(faults) > 5 else ''}; expected what "
            f"training_sets_{name}_flat.yml says, so mend one of them and run `dbt build`"
        )


def keys(parts: Sequence[Partition], excluded: Counter[str]) -> Keys:
    """Keys of every eligible candidate; reasons of the others are counted into ``excluded``."""
    columns: list[list[np.ndarray]] = [[], [], [], []]
    rows = []
    for part in parts:
        of_metadata = ("as_of", "label_time", "operation_id")
        table = eligible(part, ["client_id", *(f"metadata.{n}" for n in of_metadata)], excluded)
        metadata = table["metadata"].combine_chunks()
        as_of, label_time, operation = (metadata.field(n) for n in of_metadata)
        read = (as_of, label_time, table["client_id"], operation)
        if any(values.null_count for values in read):
            raise NotPublishable(
                f"candidates of {part.commit.date} held a NULL among client, operation, as_of and label_time, "
                "expected none; mend the model and run `dbt build`"
            )
        for column, values in zip(columns, read, strict=True):
            column.append(np.asarray(values.cast(pa.int64())))
        rows.append(table.num_rows)
    return Keys(*(np.concatenate(c) for c in columns), tuple(rows))


def eligible(
    part: Partition, columns: Sequence[str] | None = None, excluded: Counter[str] | None = None
) -> pa.Table:
    """Rows of a date that no reason excludes, without the reason."""
    with pq.ParquetFile(part.file) as file:
        judged = EXCLUDED in file.schema_arrow.names
        table = file.read(None if columns is None else [*columns, *([EXCLUDED] if judged else [])])
    if not judged:
        return table
    reasons = table[EXCLUDED]
    if excluded is not None:
        excluded.update(r for r in reasons.to_pylist() if r is not None)
    return table.filter(pc.is_null(reasons)).drop_columns([EXCLUDED])


def refuse_nulls(table: pa.Table, wanted: Definition, date: str) -> None:
    """Raise NotPublishable when a feature or label that is never NULL by its definition is NULL in a sample."""
    for struct in ("features", "label"):
        children = table[struct].combine_chunks()
        for column in wanted.struct(struct):
            missing = children.field(column.name).null_count
            if missing and not column.nullable:
                raise NotPublishable(
                    f"candidates of {wanted.name}, {date}: {column.name} was NULL in {missing} of {len(children)} "
                    "samples, expected a value; give such a row its excluded_reason, or the column its null_when"
                )


def inputs(name: str, parts: Sequence[Partition]) -> list[dict[str, str]]:
    """``inputs`` of the record: the candidates, then each dataset that they were built from, each by one digest over
    the dates read."""
    own = {f"{folder(name)}/{p.commit.date}": p.commit.content_digest for p in parts}
    read: dict[str, dict[str, str]] = {}
    for part in parts:
        for path, digest in part.commit.inputs.items():
            read.setdefault(_relation(path), {})[f"{part.commit.date} {path}"] = digest
    found = {f"gold.{name}_candidates": own, **dict(sorted(read.items()))}
    return [{"relation": relation, "content_hash": joint(digests)} for relation, digests in found.items()]


def joint(digests: dict[str, str]) -> str:
    """One sha256 over named digests, in order of name."""
    text = "".join(f"{name}|{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _relation(path: str) -> str:
    """``silver/stop_executions/2024-12-01`` → ``silver.stop_executions``."""
    layer, _, rest = path.partition("/")
    return f"{layer}.{'/'.join(rest.split('/')[:-1]) or rest}"


def sql_type(t: pa.DataType) -> str:
    """A stored type as SQL spells it, without spaces."""
    if pa.types.is_decimal(t):
        return f"decimal({t.precision},{t.scale})"
    if isinstance(t, pa.UuidType):
        return "uuid"
    if pa.types.is_list(t):
        return f"{sql_type(t.value_type)}[]"
    if pa.types.is_timestamp(t):
        return "timestampwithtimezone" if t.tz else "timestamp"
    names = {
        "int8": "tinyint", "int16": "smallint", "int32": "integer", "int64": "bigint", "double": "double",
        "bool": "boolean", "string": "varchar", "large_string": "varchar", "date32[day]": "date",
    }  # fmt: skip
    return names.get(str(t), str(t))
