"""From a stage file to a committed partition: check it, digest it, put it in place."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.digest import ContentDigest

BATCH_ROWS = 30_720  # a quarter of a row group: its columns stay in the buffers of the batch before
MAX_INDEX_PAIRS = 200_000


class StageError(ValueError):
    """A partition under construction breaks its contract; nothing of it is published."""


INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")}
INTEGERS |= {"INTEGER", "UINTEGER"}
FLOATS = {"FLOAT", "DOUBLE"}

# Why a Python model's rows were not staged, by stage file: an exception from within dbt's Python job would reach
# people as a traceback.
_refusals: dict[Path, str] = {}


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


def stage_python(
    df: object,
    con: duckdb.DuckDBPyConnection,
    stage: str,
    declared: list[tuple[str, str]],
    where: str,
    copy_sql: str,
) -> None:
    """Write what a Python model returned to its stage file. ``copy_sql`` reads it as ``model__df``.

    A broken contract writes nothing; `raise_refusal` then says why.
    """
    con.register("model__df", df)
    try:
        found = [(row[0], row[1]) for row in con.execute("describe select * from model__df").fetchall()]
        check_columns(found, declared, where, exact=False)
        con.execute(copy_sql)
    except StageError as error:
        _refusals[Path(stage)] = str(error)
    except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
        line = str(error).splitlines()[0].partition("Error: ")[2]
        if isinstance(error, duckdb.InvalidInputException) and not line.startswith(where):
            raise  # the model's own code failed while it streamed: its traceback is of use
        _refusals[Path(stage)] = line if line.startswith(where) else f"{where}: {line}; nothing was published"
    finally:
        con.unregister("model__df")


def raise_refusal(staged: Path) -> None:
    """Raise StageError if this stage file was refused while it was written."""
    if reason := _refusals.pop(staged, None):
        staged.unlink(missing_ok=True)
        raise StageError(reason)


def check_and_digest(path: Path, name: str, date: str, key: list[str], lineage: list[str]) -> tuple[int, str]:
    """Row count and content digest of a stage file, in one pass that holds its laws.

    Rows must stand in strictly increasing key order (so the key is unique), keys must not be NULL, doubles must be
    finite or NULL, and where both columns exist ``max_input_ts_ns`` must be below ``asof_ns``. Raises StageError.
    """
    where = f"{name}, {date}"
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        digest = ContentDigest(schema, lineage)
        floats = [f.name for f in schema if pa.types.is_floating(f.type)]
        looks_ahead = {"max_input_ts_ns", "asof_ns"} <= set(schema.names)
        rows = 0
        last: pa.RecordBatch | None = None
        for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            _check_keys(batch, key, last, where, rows)
            for column in floats:
                _check_finite(batch.column(column), column, where)
            if looks_ahead:
                _check_look_ahead(batch, where)
            digest.update(batch)
            rows += batch.num_rows
            last = _comparable(batch.select(key)).slice(batch.num_rows - 1)
        return rows, digest.hexdigest()


def index_pairs(
    path: Path, indexes: dict[str, tuple[str, str]], partition_column: str, date: str
) -> dict[str, dict[str, list[str]]] | None:
    """Distinct pairs of each index of a stage file, ``{index: {mapped date: [dates it reads]}}`` in order, ISO.

    ``indexes`` names for each the columns of both; the partition's own date is in no file. None without indexes.
    Raises StageError for a pair with a NULL, and above ``MAX_INDEX_PAIRS``.
    """
    if not indexes:
        return None
    found: dict[str, dict[str, list[str]]] = {}
    for name, columns in indexes.items():
        held = [c for c in dict.fromkeys(columns) if c != partition_column]
        pairs: set[tuple[str, str]] = set()
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=held, use_threads=False):
                if any(column.null_count for column in batch.columns):
                    raise StageError(
                        f"{path.stem}: index {name} had a NULL in {' or '.join(held)}; nothing was published"
                    )
                distinct = pa.table(batch).group_by(held).aggregate([]) if held else pa.table(batch)
                shown = {c: [d.isoformat() for d in distinct[c].to_pylist()] for c in held}
                # an index of the own date alone names no column of the file: it says so of any row
                shown[partition_column] = [date] * (
                    distinct.num_rows if held else min(file.metadata.num_rows, 1)
                )
                pairs.update(zip(*(shown[c] for c in columns), strict=True))
                if len(pairs) > MAX_INDEX_PAIRS:
                    raise StageError(
                        f"{path.stem}: index {name} had more than {MAX_INDEX_PAIRS} pairs of dates, expected a few for "
                        "each date; nothing was published"
                    )
        found[name] = {}
        for mapped, read in sorted(pairs):
            found[name].setdefault(mapped, []).append(read)
    return found


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
        less |= equal & _numpy(pc.less(before.column(name), after.column(name)))
        equal &= _numpy(pc.equal(before.column(name), after.column(name)))
    if not less.all():
        i = int(np.argmin(less))
        row = {k: after.column(k)[i].as_py() for k in key}
        what = "repeats the key of the row before it" if equal[i] else "is out of key order"
        raise StageError(f"{where}: row {offset + i + shift} {what}, {row}; nothing was published")


def _comparable(keys: pa.RecordBatch) -> pa.RecordBatch:
    """A UUID compares by its bytes."""
    columns = [c.storage if isinstance(c.type, pa.UuidType) else c for c in keys.columns]
    return pa.RecordBatch.from_arrays(columns, names=keys.schema.names)


def _numpy(mask: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if isinstance(mask, pa.ChunkedArray):
        mask = mask.combine_chunks()
    return mask.to_numpy(zero_copy_only=False)


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
