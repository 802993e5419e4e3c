"""The content digest says what rows hold and nothing of how they are stored."""

import datetime
import decimal
import hashlib
import itertools
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.digest import UndigestibleType, _repeated, file_digest, table_digest

# -- an independent, slow twin: one value at a time, bits by hand ------------------------------

EPOCH = datetime.date(1970, 1, 1)
EPOCH_AT = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
INTEGER_CODES = {
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
}


def bits(flags: list[bool]) -> bytes:
    packed = bytearray((len(flags) + 7) // 8)
    for i, flag in enumerate(flags):
        packed[i // 8] |= flag << (i % 8)
    return hashlib.sha256(bytes(packed) + len(flags).to_bytes(8, "little")).digest()


def slow_column(name: str, t: pa.DataType, values: list) -> bytes:
    lengths, parts, children = None, [], []
    if pa.types.is_integer(t):
        type_name, code = str(t), "<" + INTEGER_CODES[str(t)]
        parts = [struct.pack(code, v or 0) for v in values]
    elif t == pa.float64():
        type_name = "double"
        parts = [struct.pack("<d", 0.0 if v is None or v == 0 else v) for v in values]
    elif t == pa.bool_():
        type_name = "bool"
        parts = [bytes([bool(v)]) for v in values]
    elif t == pa.string():
        type_name = "string"
        lengths = [struct.pack("<i", len((v or "").encode())) for v in values]
        parts = [(v or "").encode() for v in values]
    elif t == pa.date32():
        type_name = "date"
        parts = [struct.pack("<i", 0 if v is None else (v - EPOCH).days) for v in values]
    elif pa.types.is_timestamp(t):
        type_name = "timestamp(us,UTC)"
        parts = [
            struct.pack("<q", 0 if v is None else (v - EPOCH_AT) // datetime.timedelta(microseconds=1))
            for v in values
        ]
    elif pa.types.is_decimal(t):
        type_name = f"decimal({t.precision},{t.scale})"
        width = 8 if t.precision <= 18 else 16
        parts = [int((v or 0) * 10**t.scale).to_bytes(width, "little", signed=True) for v in values]
    elif pa.types.is_list(t):
        type_name = f"list<{t.value_type}>"
        lengths = [struct.pack("<i", len(v or [])) for v in values]
        children = [slow_column("item", t.value_type, [x for v in values for x in (v or [])])]
    elif pa.types.is_struct(t):
        type_name = "struct<" + ",".join(f"{f.name}:{f.type}" for f in t) + ">"
        children = [
            slow_column(f.name, f.type, [None if v is None else v[f.name] for v in values]) for f in t
        ]
    h = hashlib.sha256()
    for text in (name, type_name):
        h.update(len(text.encode()).to_bytes(4, "little") + text.encode())
    h.update(bits([v is not None for v in values]))
    if lengths is not None:
        h.update(hashlib.sha256(b"".join(lengths)).digest())
    h.update(hashlib.sha256(b"".join(parts)).digest())
    for child in children:
        h.update(child)
    return h.digest()


def slow_digest(table: pa.Table) -> str:
    columns = [slow_column(f.name, f.type, table[f.name].to_pylist()) for f in table.schema]
    return hashlib.sha256(b"".join(columns)).hexdigest()


# -- random tables ------------------------------

whole_days = st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1))
instants = st.datetimes(
    datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.just(datetime.UTC)
)
int32s = st.integers(-(2**31), 2**31 - 1)
VALUES = {
    pa.int8(): st.integers(-128, 127),
    pa.int32(): int32s,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.float64(): st.floats(allow_nan=False) | st.just(-0.0),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=6),
    pa.date32(): whole_days,
    pa.timestamp("us", "UTC"): instants,
    pa.decimal128(18, 9): st.integers(-(10**18) + 1, 10**18 - 1).map(lambda v: decimal.Decimal(v).scaleb(-9)),
    pa.list_(pa.int32()): st.lists(st.none() | int32s, max_size=4),
    pa.struct([("n", pa.int32()), ("s", pa.string())]): st.fixed_dictionaries(
        {"n": st.none() | int32s, "s": st.none() | st.text("ab", max_size=3)}
    ),
}


@st.composite
def tables(draw, min_rows: int = 0) -> pa.Table:
    rows = draw(st.integers(min_rows, 40))
    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    columns = {}
    for i, t in enumerate(types):
        values = draw(st.lists(st.none() | VALUES[t], min_size=rows, max_size=rows))
        columns[f"c{i}"] = pa.array(values, t)
    return pa.table(columns)


def rechunked(table: pa.Table, cuts: list[int]) -> pa.Table:
    edges = [0, *sorted(c % (table.num_rows + 1) for c in cuts), table.num_rows]
    return pa.concat_tables([table.slice(a, b - a) for a, b in itertools.pairwise(edges)])


@given(tables(), st.lists(st.integers(0, 1000), max_size=5))
def test_equals_the_slow_twin_in_any_chunking(table, cuts):
    assert table_digest(rechunked(table, cuts)) == slow_digest(table)


@given(tables(min_rows=1), st.data())
def test_any_changed_cell_changes_it(table, data):
    column = data.draw(st.integers(0, table.num_columns - 1))
    row = data.draw(st.integers(0, table.num_rows - 1))
    values = table.column(column).to_pylist()
    new = data.draw(st.none() | VALUES[table.schema.field(column).type])
    field = table.schema.field(column)
    changed = table.set_column(column, field, pa.array([*values[:row], new, *values[row + 1 :]], field.type))
    assert (table_digest(changed) == table_digest(table)) == (new == values[row])


@given(tables(), st.integers(1, 50))
def test_row_groups_compression_and_reading_do_not_enter(tmp_path_factory, table, rows):
    folder = tmp_path_factory.mktemp("digest")
    pq.write_table(table, folder / "a.parquet", row_group_size=rows, compression="none", use_dictionary=False)
    pq.write_table(table, folder / "b.parquet", compression="zstd", data_page_version="2.0")
    assert file_digest(folder / "a.parquet") == file_digest(folder / "b.parquet") == table_digest(table)


def test_encodings_and_storage_types_do_not_enter():
    values = ["ES", None, "ESZ5", "", "é"]
    plain = table_digest(pa.table({"s": pa.array(values)}))
    for t in (pa.large_string(), pa.string_view()):
        assert table_digest(pa.table({"s": pa.array(values, t)})) == plain
    assert table_digest(pa.table({"s": pa.array(values).dictionary_encode()})) == plain
    days = pa.array([0, None, 20_000], pa.int32())
    as_date64 = days.cast(pa.date32()).cast(pa.date64())
    assert table_digest(pa.table({"d": days.cast(pa.date32())})) == table_digest(pa.table({"d": as_date64}))


@pytest.mark.parametrize(("narrow", "precision"), [(pa.decimal32, 9), (pa.decimal64, 18), (pa.decimal64, 9)])
def test_a_decimal_is_its_value_in_any_width(narrow, precision):
    values = [decimal.Decimal("-1.25"), None, decimal.Decimal("6800.25"), decimal.Decimal(0)]
    wide = pa.array(values, pa.decimal128(precision, 4))
    assert table_digest(pa.table({"p": pa.array(values, narrow(precision, 4))})) == table_digest(
        pa.table({"p": wide})
    )
    other = pa.array(values, pa.decimal128(precision, 5))
    assert table_digest(pa.table({"p": other})) != table_digest(pa.table({"p": wide}))


def test_values_under_null_do_not_enter():
    validity = pa.py_buffer(bytes([0b101]))
    for dtype, t in ((np.int64, pa.int64()), (np.float64, pa.float64()), (np.int64, pa.decimal64(18, 9))):
        a, b = (
            pa.Array.from_buffers(t, 3, [validity, pa.py_buffer(np.array([1, hidden, 3], dtype))])
            for hidden in (7, 9)
        )
        assert table_digest(pa.table({"x": a})) == table_digest(pa.table({"x": b}))
    offsets = pa.py_buffer(np.array([0, 1, 3, 4], np.int32))
    a, b = (
        pa.Array.from_buffers(pa.string(), 3, [validity, offsets, pa.py_buffer(text)])
        for text in (b"axxb", b"ayyb")
    )
    assert table_digest(pa.table({"x": a})) == table_digest(pa.table({"x": b}))
    lists = [
        pa.Array.from_buffers(pa.list_(pa.int64()), 3, [validity, offsets], children=[pa.array([1, v, v, 2])])
        for v in (7, 9)
    ]
    assert table_digest(pa.table({"x": lists[0]})) == table_digest(pa.table({"x": lists[1]}))
    structs = [
        pa.StructArray.from_arrays([pa.array([1, v, 3])], ["n"], mask=pa.array([False, True, False]))
        for v in (7, 9)
    ]
    assert table_digest(pa.table({"x": structs[0]})) == table_digest(pa.table({"x": structs[1]}))


def test_minus_zero_is_zero_but_null_is_not():
    zero, minus, null = (
        table_digest(pa.table({"x": pa.array([v], pa.float64())})) for v in (0.0, -0.0, None)
    )
    assert zero == minus
    assert zero != null


def test_names_types_and_column_order_enter():
    base = pa.table({"a": pa.array([1, 2], pa.int32()), "b": pa.array([3, 4], pa.int32())})
    others = [
        base.select(["b", "a"]),
        base.rename_columns(["a", "c"]),
        base.cast(pa.schema([("a", pa.int64()), ("b", pa.int32())])),
    ]
    assert len({table_digest(t) for t in (base, *others)}) == 4


def test_rows_in_another_order_are_another_table():
    table = pa.table({"a": [1, 2]})
    assert table_digest(table) != table_digest(table.take([1, 0]))


def test_empty_tables_of_other_schemas_differ_and_chunks_may_be_empty():
    a, b = pa.table({"a": pa.array([], pa.int32())}), pa.table({"a": pa.array([], pa.int64())})
    assert table_digest(a) != table_digest(b)
    for t in VALUES:
        empty = pa.table({"x": pa.array([], t)})
        assert (
            table_digest(pa.table({"x": pa.chunked_array([], t)}))
            == table_digest(empty)
            == slow_digest(empty)
        )


def test_a_list_of_structs_with_a_uuid_may_be_null_in_every_row_of_a_chunk():
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16)))
    structs = pa.StructArray.from_arrays([pa.array(["A"]), ids], ["code", "event_id"])
    some = pa.ListArray.from_arrays(pa.array([None, 0, None, 1], pa.int32()), structs)
    whole, chunked = pa.table({"x": some}), pa.table({"x": pa.chunked_array([some[:1], some[1:2], some[2:]])})
    assert table_digest(whole) == table_digest(chunked) != table_digest(whole.slice(1))


def test_lineage_columns_stay_out(tmp_path):
    a, b = (pa.table({"a": [1], "run_id": [run]}) for run in ("x", "y"))
    assert table_digest(a) != table_digest(b)
    assert table_digest(a, ["run_id"]) == table_digest(b, ["run_id"]) == table_digest(a.select(["a"]))
    pq.write_table(a, tmp_path / "a.parquet")
    assert file_digest(tmp_path / "a.parquet", ["run_id"]) == table_digest(a.select(["a"]))


def test_a_type_without_a_canonical_form_is_refused():
    with pytest.raises(UndigestibleType, match="column type was binary"):
        table_digest(pa.table({"x": pa.array([b"a"])}))


def test_a_constant_longer_than_what_is_kept_of_it() -> None:
    """Repetitions are gone on from states that are kept; beyond the last of them, by hashing the rest."""
    pattern = b"ab"
    for count in (0, 1, 8191, 8192, 8193, 20_000, 256 * 8192, 257 * 8192 + 70_000):
        assert _repeated(pattern, count).digest() == hashlib.sha256(pattern * count).digest()
