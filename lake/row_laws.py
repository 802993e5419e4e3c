"""The laws that the rows of a partition are held to before they are published, and what its indexes say of them."""

from datetime import date, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.digest import booleans

MAX_INDEX_PAIRS = 200_000
EPOCH = date(1970, 1, 1)


class StageError(ValueError):
    """A partition under construction breaks its contract; nothing of it is published."""


INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")}
INTEGERS |= {"INTEGER", "UINTEGER"}
FLOATS = {"FLOAT", "DOUBLE"}


def check_columns(
    found: list[tuple[str, str]], declared: list[tuple[str, str]], where: str, *, exact: bool
) -> None:
    """Compare a result's columns, (name, DuckDB type), with the declared ones; raises StageError.

    Not ``exact`` lets integers differ in width (the cast to the declared one fails where a value doesn't fit), and
    floats too: kernels count in 64 bits.
    """
    types = {name: str(duckdb.sqltype(t)) for name, t in declared}
    names = [name for name, _ in found]
    faults = [f"{name} is missing" for name in types if name not in names]
    faults += [f"{name} is not declared" for name in names if name not in types]
    faults += [f"{name} appears twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for name, t in found:
        want = types.get(name, t)
        if t != want and (exact or not any({t, want} <= family for family in (INTEGERS, FLOATS))):
            faults.append(f"{name} was {t}, expected {want}")
    if faults:
        raise StageError(f"{where}: {'; '.join(faults)}; mend the model or its YAML; nothing was published")


class RowLaws:
    """What rows are held to before anything of them is published, batch by batch.

    They stand in strictly increasing key order (so the key is unique), keys aren't NULL, doubles are finite or NULL,
    and where both columns exist ``max_input_ts_ns`` is below ``asof_ns``. `update` raises StageError.
    """

    def __init__(self, schema: pa.Schema, key: list[str], where: str) -> None:
        self.key, self.where = key, where
        self.floats = [f.name for f in schema if pa.types.is_floating(f.type)]
        self.looks_ahead = {"max_input_ts_ns", "asof_ns"} <= set(schema.names)
        self.rows = 0
        self.last: pa.RecordBatch | None = None

    def update(self, batch: pa.RecordBatch) -> None:
        _check_keys(batch, self.key, self.last, self.where, self.rows)
        for column in self.floats:
            _check_finite(batch.column(column), column, self.where)
        if self.looks_ahead:
            _check_look_ahead(batch, self.where)
        if batch.num_rows:
            self.rows += batch.num_rows
            self.last = _comparable(batch.select(self.key)).slice(batch.num_rows - 1)


class IndexPairs:
    """Distinct pairs of each index of the rows that pass, ``{index: {mapped date: [dates it reads]}}``, ISO.

    ``indexes`` names for each the columns of both; the partition's own date is in no row. `update` raises StageError
    for a pair with a NULL, and above ``MAX_INDEX_PAIRS``.
    """

    def __init__(
        self, indexes: dict[str, tuple[str, str]], partition_column: str, date: str, where: str
    ) -> None:
        self.indexes, self.partition_column, self.date, self.where = indexes, partition_column, date, where
        self.pairs: dict[str, set[tuple[str, str]]] = {name: set() for name in indexes}

    def update(self, batch: pa.RecordBatch) -> None:
        for name, columns in self.indexes.items():
            held = [c for c in dict.fromkeys(columns) if c != self.partition_column]
            if any(batch.column(c).null_count for c in held):
                raise StageError(
                    f"{self.where}: index {name} had a NULL in {' or '.join(held)}; nothing was published"
                )
            packed = np.zeros(batch.num_rows if held else 0, dtype=np.int64)
            for column in held:
                packed = packed << 32 | _days(batch.column(column))
            distinct = np.unique(packed)
            shown = {
                c: [_iso(day) for day in (distinct >> shift & 0xFFFFFFFF).tolist()]
                for c, shift in zip(reversed(held), (0, 32), strict=False)
            }
            # an index of the own date alone names no column: it says so of any row
            shown[self.partition_column] = [self.date] * (len(distinct) if held else min(batch.num_rows, 1))
            self.pairs[name].update(zip(*(shown[c] for c in columns), strict=True))
            if len(self.pairs[name]) > MAX_INDEX_PAIRS:
                raise StageError(
                    f"{self.where}: index {name} had more than {MAX_INDEX_PAIRS} pairs of dates, expected a few for "
                    "each date; nothing was published"
                )

    def found(self) -> dict[str, dict[str, list[str]]] | None:
        """The pairs of all rows that came, in order; None without indexes."""
        found: dict[str, dict[str, list[str]]] = {}
        for name, pairs in self.pairs.items():
            found[name] = {}
            for mapped, read in sorted(pairs):
                found[name].setdefault(mapped, []).append(read)
        return found or None


def _check_keys(
    batch: pa.RecordBatch, key: list[str], last: pa.RecordBatch | None, where: str, offset: int
) -> None:
    keys = _comparable(batch.select(key))
    for name, column in zip(key, keys.columns, strict=True):
        if column.null_count:
            raise StageError(
                f"{where}: key column {name} was NULL in {column.null_count} rows; nothing was published"
            )
    # Lexicographic "less than the next row": decided by the first key column that differs.
    before, after, shift = keys.slice(0, keys.num_rows - 1), keys.slice(1), 1
    if last is not None and keys.num_rows:
        before = pa.Table.from_batches([last, before]).combine_chunks()
        after, shift = keys, 0
    if after.num_rows == 0:
        return
    less = np.zeros(after.num_rows, dtype=bool)
    equal = np.ones(after.num_rows, dtype=bool)
    for name in key:
        less |= equal & booleans(pc.less(before.column(name), after.column(name)))
        equal &= booleans(pc.equal(before.column(name), after.column(name)))
    if not less.all():
        i = int(np.argmin(less))
        row = {k: after.column(k)[i].as_py() for k in key}
        what = "repeats the key of the row before it" if equal[i] else "is out of key order"
        raise StageError(f"{where}: row {offset + i + shift} {what}, {row}; nothing was published")


def _days(dates: pa.Array) -> np.ndarray:
    """Days since 1970, uint32 (n,), of dates without NULLs. Not by a `group_by`, whose engine imports pandas."""
    if not len(dates):
        return np.zeros(0, dtype=np.uint32)
    return np.frombuffer(dates.buffers()[1], dtype=np.uint32, count=len(dates), offset=4 * dates.offset)


def _iso(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()


def _comparable(keys: pa.RecordBatch) -> pa.RecordBatch:
    """A UUID compares by its bytes."""
    columns = [c.storage if isinstance(c.type, pa.UuidType) else c for c in keys.columns]
    return pa.RecordBatch.from_arrays(columns, names=keys.schema.names)


def _check_finite(column: pa.Array, name: str, where: str) -> None:
    finite = pc.is_finite(column)
    if pc.any(pc.invert(finite)).as_py():
        raise StageError(
            f"{where}: {name} held a NaN or an infinity; expected a number or NULL; nothing was published"
        )


def _check_look_ahead(batch: pa.RecordBatch, where: str) -> None:
    ahead = pc.greater_equal(batch.column("max_input_ts_ns"), batch.column("asof_ns"))
    if pc.any(ahead).as_py():
        row = batch.filter(ahead).slice(0, 1).select(["max_input_ts_ns", "asof_ns"]).to_pylist()[0]
        raise StageError(
            f"{where}: a row looks ahead, {row}; expected max_input_ts_ns < asof_ns; nothing was published"
        )
