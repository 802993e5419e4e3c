"""Files of our encoder through two readers that aren't ours; their schema and statistics against pyarrow's writer."""

import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import bronze_schema
from ingest.bronze_schema import BronzeSchema
from ingest.parquet_encoder import ParquetEncoder
from ingest.parquet_footer import serves
from ingest.parquet_kernels import MAX_CARDINALITY
from lake.digest import file_digest, table_digest

TEXT = pa.dictionary(pa.int8(), pa.string())
INTEGERS = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}
TYPES = [*INTEGERS, pa.uint8(), pa.decimal64(18, 9), pa.decimal128(12, 3), pa.date32(), pa.string(), TEXT]
SCHEMAS = [s for s in vars(bronze_schema).values() if isinstance(s, BronzeSchema) and serves(s.arrow)]


def write(path: Path, tables: list[pa.Table], *, delta: tuple = (), statistics: tuple = ()) -> Path:
    writer = ParquetEncoder(
        path, tables[0].schema, delta=delta, statistics=statistics, metadata={"of": "x"}, created_by="test"
    )
    for table in tables:
        writer.write(table)
        writer.end_group()
    writer.close()
    return path


def plain(table: pa.Table) -> pa.Table:
    """As readers give it: text is text, decimals are wide."""

    def of(t: pa.DataType) -> pa.DataType:
        if pa.types.is_dictionary(t):
            return t.value_type
        return pa.decimal128(t.precision, t.scale) if pa.types.is_decimal(t) else t

    return table.cast(pa.schema([f.with_type(of(f.type)) for f in table.schema])).combine_chunks()


def assert_read_back(path: Path, table: pa.Table) -> None:
    expected = plain(table)
    assert pq.read_table(path).replace_schema_metadata(None).combine_chunks().equals(expected)
    with duckdb.connect() as connection:
        read = connection.execute(f"from read_parquet('{path}')").to_arrow_table()
    assert [str(t).replace("large_", "") for t in read.schema.types] == [
        str(t) for t in expected.schema.types
    ]
    for name in expected.column_names:
        assert read[name].to_pylist() == expected[name].to_pylist(), name


def values_of(t: pa.DataType) -> st.SearchStrategy:
    """Few values, many values, and the ends of the type."""
    if t in INTEGERS:
        top = 2 ** (INTEGERS[t] - 1)
        return st.sampled_from([0, 1, 7]) | st.integers(-top, top - 1) | st.sampled_from([-top, top - 1])
    if t == pa.uint8():
        return st.integers(0, 255)
    if pa.types.is_decimal(t):
        top = 10**t.precision - 1
        return (st.sampled_from([0, 1, -1, top, -top]) | st.integers(-top, top)).map(
            lambda v: Decimal(v).scaleb(-t.scale)
        )
    if pa.types.is_date32(t):
        return st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1))
    return st.sampled_from(["", "A", "ES", "ü"]) | (st.text(max_size=9) if t != TEXT else st.nothing())


@st.composite
def columns(draw: st.DrawFn, rows: int) -> tuple[pa.Field, pa.Array, bool]:
    """A column as runs of values of its type, with or without NULLs; and whether it is stored as deltas."""
    t = draw(st.sampled_from(TYPES))
    nullable = draw(st.booleans())
    one = values_of(t) | st.none() if nullable else values_of(t)
    longest = draw(st.sampled_from([1, 3, 300]))
    runs = draw(st.lists(st.tuples(one, st.integers(1, longest)), max_size=40))
    values = ([v for value, n in runs for v in [value] * n] + [draw(one)] * rows)[:rows]
    array = pa.array(values, t) if t != TEXT else pa.array(values, pa.string()).dictionary_encode().cast(TEXT)
    return pa.field("", t, nullable), array, t in (pa.int32(), pa.int64()) and draw(st.booleans())


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, tuple]:
    rows = draw(st.sampled_from([0, 1, 2, 31, 32, 33, 129, 700]))
    made = draw(st.lists(columns(rows), min_size=1, max_size=5))
    fields = [field.with_name(f"c{i}") for i, (field, _, _) in enumerate(made)]
    delta = tuple(f.name for f, (_, _, d) in zip(fields, made, strict=True) if d)
    return pa.Table.from_arrays([a for _, a, _ in made], schema=pa.schema(fields)), delta


@given(tables(), st.integers(0, 700), st.integers(0, 700))
def test_readers_give_back_what_was_written(tmp_path_factory, made, cut, size) -> None:
    table, delta = made
    path = tmp_path_factory.getbasetemp() / "encoded.parquet"
    write(path, [table, table.slice(cut, size)], delta=delta, statistics=tuple(table.column_names))
    assert_read_back(path, pa.concat_tables([table, table.slice(cut, size)]))


@settings(max_examples=40)
@given(tables())
def test_statistics_are_those_of_pyarrow(tmp_path_factory, made) -> None:
    table, delta = made
    folder = tmp_path_factory.getbasetemp()
    ours = write(folder / "ours.parquet", [table], delta=delta, statistics=tuple(table.column_names))
    pq.write_table(plain(table), folder / "theirs.parquet")
    mine, theirs = (pq.ParquetFile(p).metadata for p in (ours, folder / "theirs.parquet"))
    for i in range(table.num_columns if table.num_rows else 0):
        a, b = mine.row_group(0).column(i).statistics, theirs.row_group(0).column(i).statistics
        if not b.has_min_max:
            assert a is None or not a.has_min_max
            continue
        assert (a.min, a.max, a.null_count) == (b.min, b.max, b.null_count)


def book_like(schema: pa.Schema, rows: int, seed: int = 3) -> pa.Table:
    """Rows of any bronze schema: mostly repeats, as books are, NULLs where the schema allows them."""
    rng = np.random.default_rng(seed)

    def column(field: pa.Field) -> pa.Array:
        t = field.type
        steps = np.cumsum(rng.random(rows) < 0.1)
        mask = rng.random(rows) < 0.05 if field.nullable else None
        if pa.types.is_dictionary(t):
            texts = pa.array([f"t{v % 3}" for v in steps], pa.string(), mask=mask)
            return texts.dictionary_encode().cast(t)
        if pa.types.is_string(t):
            return pa.array([f"e{v % 50}" for v in steps], t, mask=mask)
        if pa.types.is_date32(t):
            return pa.array(steps.astype(np.int32) % 9, pa.int32(), mask=mask).cast(t)
        if pa.types.is_decimal(t):
            wide = pa.array(
                [Decimal(int(v) % 40 - 20).scaleb(-2) for v in steps], pa.decimal128(18, 2), mask=mask
            )
            return wide.cast(pa.decimal128(t.precision, t.scale)).cast(t)
        return pa.array(steps % 100, t, mask=mask)

    return pa.Table.from_arrays([column(f) for f in schema], schema=schema)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.name)
def test_a_bronze_file_says_of_itself_what_pyarrows_does(tmp_path: Path, schema: BronzeSchema) -> None:
    """Names, logical types, repetition, metadata, encodings that the specification fixes, rows; digest too."""
    table = book_like(schema.arrow, 3000)
    parts = [table.slice(0, 2000), table.slice(2000)]
    ours = write(tmp_path / "ours.parquet", parts, delta=schema.DELTA, statistics=schema.STATISTICS)
    with pq.ParquetWriter(tmp_path / "theirs.parquet", schema.arrow, **schema.parquet_options()) as writer:
        for part in parts:
            writer.write_table(part)
    mine, theirs = pq.ParquetFile(ours), pq.ParquetFile(tmp_path / "theirs.parquet")
    assert mine.schema.equals(theirs.schema)
    assert mine.metadata.metadata == {b"of": b"x"}
    assert [mine.metadata.row_group(g).num_rows for g in range(2)] == [2000, 1000]
    for i, name in enumerate(schema.arrow.names):
        a, b = (f.metadata.row_group(0).column(i) for f in (mine, theirs))
        assert a.compression == b.compression == "ZSTD"
        assert (a.statistics is None) == (b.statistics is None), name
        if b.statistics is not None:
            assert (a.statistics.min, a.statistics.max) == (b.statistics.min, b.statistics.max)
        assert ("DELTA_BINARY_PACKED" in a.encodings) == ("DELTA_BINARY_PACKED" in b.encodings), name
        if name in schema.dictionary:
            assert "RLE_DICTIONARY" in a.encodings, name
    assert_read_back(ours, table)
    assert file_digest(ours) == table_digest(table)
    with duckdb.connect() as connection:
        types = [
            connection.execute(f"describe from '{f}'").fetchall() for f in (ours, tmp_path / "theirs.parquet")
        ]
    assert types[0] == types[1]


@pytest.mark.parametrize("distinct", [1, 2, 3, 4, 5, 16, 17, 254, 255, 256, 257, 5000, MAX_CARDINALITY + 1])
@pytest.mark.parametrize("run", [1, 3, 40])
def test_any_number_of_distinct_values_in_any_runs(tmp_path: Path, distinct: int, run: int) -> None:
    """Every form of a page of indexes (packed in 1 to 16 bits, runs, spread codes) and the plain one after them."""
    rows = 70_000
    index = np.arange(rows) // run % distinct
    values = (index * 250_000_007 - 10**9).astype(np.int64)
    mask = np.arange(rows) % 97 == 0
    table = pa.table(
        {
            "price": pa.array(values),
            "maybe": pa.array(values, mask=mask),
            "size": pa.array(index.astype(np.int32)),
            "text": pa.array([f"c{i}" for i in index]),
        }
    )
    path = write(tmp_path / "x.parquet", [table], statistics=("price",))
    assert pq.read_table(path).replace_schema_metadata(None).equals(table)
    with duckdb.connect() as connection:
        for name in table.column_names:
            read = connection.execute(f"select \"{name}\" from '{path}'").to_arrow_table()[name]
            assert read.cast(table[name].type).combine_chunks().equals(table[name].combine_chunks()), name


def cut(table: pa.Table, sizes: list[int]) -> list[pa.Table]:
    """Consecutive parts of a table: of ``sizes`` in turn, the rest as the last one."""
    parts, at = [], 0
    for size in sizes:
        parts.append(table.slice(at, size))
        at += size
    return [*parts, table.slice(at)]


def in_parts(path: Path, parts: list[pa.Table], *, delta: tuple = (), statistics: tuple = ()) -> Path:
    """A file of one row group that several writes filled."""
    writer = ParquetEncoder(
        path, parts[0].schema, delta=delta, statistics=statistics, metadata={"of": "x"}, created_by="test"
    )
    for part in parts:
        writer.write(part)
    writer.close()
    return path


@given(tables(), st.lists(st.sampled_from([0, 1, 2, 7, 31, 32, 33, 64, 300]), max_size=12))
def test_a_row_group_filled_by_several_writes_has_the_bytes_of_one(tmp_path_factory, made, sizes) -> None:
    """Of any types and sizes, parts without rows or of NULLs only too; so what holds of one write holds of all."""
    table, delta = made
    folder, names = tmp_path_factory.getbasetemp(), tuple(table.column_names)
    once = write(folder / "once.parquet", [table], delta=delta, statistics=names)
    parts = in_parts(folder / "parts.parquet", cut(table, sizes), delta=delta, statistics=names)
    assert parts.read_bytes() == once.read_bytes()


PARTS = 10_000
WAYS = {
    "values after a part of NULLs": [None] * PARTS + list(range(100)) * 30,
    "NULLs after values": list(range(100)) * 30 + [None] * PARTS,
    "a run over all parts": [5] * (3 * PARTS),
    "one bit, then sixteen": [0, 1] * (PARTS // 2) + [v % 4000 for v in range(2 * PARTS)],
    "runs, then changes in each row": [7] * (2 * PARTS) + [v * v % 251 for v in range(PARTS)],
    "too many values in the second part": list(range(4 * PARTS)) + [1, 2, 3] * 5,
    "too many for the rows": list(range(PARTS)) + [3] * (PARTS // 10),
    "too many for the rows until others follow": list(range(PARTS)) + [3] * (2 * PARTS),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", [[1], [PARTS] * 4, [PARTS - 1, 2, PARTS], [8191, 8192, 8193, 1]])
def test_columns_that_change_their_form_between_writes(tmp_path: Path, way: str, sizes: list[int]) -> None:
    values = WAYS[way]
    text = pa.array([None if v is None else f"t{v}" for v in values], pa.string())
    table = pa.table(
        {"number": pa.array(values, pa.int64()), "small": pa.array(values, pa.int32()), "text": text}
    )
    names = tuple(table.column_names)
    once = write(tmp_path / "once.parquet", [table], delta=("small",), statistics=names)
    parts = in_parts(tmp_path / "parts.parquet", cut(table, sizes), delta=("small",), statistics=names)
    assert parts.read_bytes() == once.read_bytes()
    assert pq.read_table(parts).replace_schema_metadata(None).equals(table)
    plain = "too many" in way and "others" not in way
    assert ("RLE_DICTIONARY" in pq.ParquetFile(parts).metadata.row_group(0).column(0).encodings) != plain


def test_texts_are_told_apart_by_what_they_say_not_by_their_number(tmp_path: Path) -> None:
    """Each part has its own dictionary: other orders, texts that no row has, NULL as one of the texts."""
    parts = [
        pa.table({"contract": pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(texts))})
        for codes, texts in [
            ([0, 0, 1], ["ESZ5", "ESH6"]),
            ([0, 1, 1], ["ESH6", "ESZ5"]),
            ([0, 0], ["ESZ5"]),
            ([2, 1, 2], ["never", None, "NQZ5"]),
            ([None, 0], ["ESZ5"]),
        ]
    ]
    expected = [v for part in parts for v in part["contract"].to_pylist()]
    path = in_parts(tmp_path / "x.parquet", parts, statistics=("contract",))
    assert pq.read_table(path)["contract"].to_pylist() == expected
    statistics = pq.ParquetFile(path).metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max, statistics.null_count) == ("ESH6", "NQZ5", 2)


def test_what_was_written_may_be_overwritten_before_the_group_ends(tmp_path: Path) -> None:
    """The rows' memory is a buffer that the next rows come into."""
    memory = {name: np.zeros(100, np.int64) for name in ("sequence", "price")}
    schema = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in memory])
    writer = ParquetEncoder(
        tmp_path / "x", schema, delta=("sequence",), statistics=(), metadata={}, created_by="test"
    )
    expected = []
    for part in range(5):
        for values in memory.values():
            values[:] = np.arange(100) + 70 * part
        arrays = [pa.Array.from_buffers(pa.int64(), 100, [None, pa.py_buffer(v)]) for v in memory.values()]
        writer.write(pa.Table.from_arrays(arrays, schema=schema))
        expected += memory["price"].tolist()
    for values in memory.values():
        values[:] = -1
    writer.close()
    read = pq.read_table(tmp_path / "x")
    assert read["price"].to_pylist() == read["sequence"].to_pylist() == expected


def test_a_reader_prunes_by_the_statistics(tmp_path: Path) -> None:
    """DuckDB leaves out the row groups that the least and greatest times rule out, and counts from the others."""
    times = np.arange(10_000, dtype=np.int64) + 1_700_000_000_000_000_000
    groups = [pa.table({"ts_event_ns": times[i : i + 1000]}) for i in range(0, 10_000, 1000)]
    path = write(tmp_path / "x.parquet", groups, delta=("ts_event_ns",), statistics=("ts_event_ns",))
    with duckdb.connect() as connection:
        statistics = connection.execute(
            f"select stats_min_value::bigint, stats_max_value::bigint from parquet_metadata('{path}')"
        ).fetchall()
        assert statistics == [(int(g[0][0].as_py()), int(g[0][-1].as_py())) for g in groups]
        found = connection.execute(
            f"select count(*), min(ts_event_ns) from '{path}' where ts_event_ns >= {times[8999]}"
        ).fetchone()
    assert found == (1001, times[8999])


def test_equal_rows_give_equal_bytes_whatever_was_written_before(tmp_path: Path) -> None:
    schema = bronze_schema.FUTURES_TRADES.arrow
    table, other = book_like(schema, 500), book_like(schema, 2000, seed=8)
    first = write(tmp_path / "first.parquet", [table]).read_bytes()
    write(tmp_path / "other.parquet", [other])
    assert write(tmp_path / "second.parquet", [table]).read_bytes() == first


def test_the_hash_kept_on_the_way_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib  # noqa: PLC0415

    table = book_like(bronze_schema.FUTURES_TRADES.arrow, 300)
    writer = ParquetEncoder(
        tmp_path / "x", table.schema, delta=(), statistics=(), metadata={}, created_by="test"
    )
    writer.write(table)
    writer.close()
    content = (tmp_path / "x").read_bytes()
    assert writer.bytes == len(content)
    assert writer.sha256 == hashlib.sha256(content).hexdigest()


def test_a_null_in_a_required_column_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("size", pa.int32(), nullable=False)])
    table = pa.Table.from_arrays([pa.array([1, None], pa.int32())], schema=schema)
    with pytest.raises(ValueError, match="column size had 1 NULLs, expected none"):
        write(tmp_path / "x", [table])


def test_types_that_the_encoder_does_not_know_are_left_to_pyarrow() -> None:
    assert {s.name for s in SCHEMAS} >= {"futures.trades.v1", "futures.mbp10.v1"}
    assert not serves(pa.schema([pa.field("conditions", pa.list_(pa.int16()))]))
    assert not serves(pa.schema([pa.field("small", pa.decimal64(5, 2))]))


def test_memory_that_may_not_be_written_is_read_only(tmp_path: Path) -> None:
    """Columns over bytes, a file or another process's memory."""
    buffer = pa.py_buffer(np.arange(100, dtype=np.int64).tobytes())
    assert not buffer.is_mutable
    table = pa.table(
        {c: pa.Array.from_buffers(pa.int64(), 100, [None, buffer]) for c in ("sequence", "price")}
    )
    assert_read_back(write(tmp_path / "x", [table], delta=("sequence",)), table)
