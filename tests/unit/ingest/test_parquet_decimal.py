"""Files whose decimals went in as integers are the files that pyarrow writes, but for the way there."""

from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES, PRICE, BronzeSchema
from ingest.parquet_decimal import as_integers, mantissas, put_schema


def some_rows(schema: pa.Schema, n: int) -> pa.Table:
    columns = []
    for number, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            values = pa.array([f"t{i % 3}" for i in range(n)]).dictionary_encode()
            columns.append(values.cast(field.type))
        elif pa.types.is_decimal(field.type):
            whole = [Decimal(i * number - n).scaleb(-9) for i in range(n)]
            gaps = [None if field.nullable and i % 7 == 0 else v for i, v in enumerate(whole)]
            columns.append(pa.array(gaps, pa.decimal128(18, 9)).cast(PRICE))
        elif pa.types.is_string(field.type):
            columns.append(pa.nulls(n, pa.string()))
        else:
            columns.append(pa.array([i % 100 for i in range(n)], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


@pytest.mark.parametrize("schema", [FUTURES_TRADES, FUTURES_MBP10], ids=lambda s: s.name)
@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_the_file_is_the_one_that_pyarrow_writes(tmp_path: Path, schema: BronzeSchema, rows: int) -> None:
    table, options = some_rows(schema.arrow, rows), schema.parquet_options()
    usual, ours = tmp_path / "usual.parquet", tmp_path / "ours.parquet"
    for path, given, physical in (
        (usual, table, schema.arrow),
        (ours, mantissas(table, as_integers(schema.arrow)), as_integers(schema.arrow)),
    ):
        with pq.ParquetWriter(path, physical, **options) as writer:
            writer.write_table(given)
            writer.add_key_value_metadata({"delivery_id": "x"})
    assert pq.read_schema(ours) != pq.read_schema(usual)
    put_schema(ours, *schema.footers)
    theirs, mine = pq.ParquetFile(usual), pq.ParquetFile(ours)
    assert mine.schema.equals(theirs.schema)
    assert mine.metadata.to_dict() == theirs.metadata.to_dict() | {
        "serialized_size": mine.metadata.serialized_size
    }
    assert mine.metadata.metadata == {b"delivery_id": b"x"}
    assert mine.read().equals(theirs.read())
    assert ours.read_bytes() == usual.read_bytes()
    with duckdb.connect() as connection:
        types = [connection.execute(f"describe from '{p}'").fetchall() for p in (usual, ours)]
        values = [connection.execute(f"from '{p}'").fetchall() for p in (usual, ours)]
    assert types[0] == types[1]
    assert values[0] == values[1]
    assert ("price", "DECIMAL(18,9)") in [row[:2] for row in types[1]]


def test_slices_keep_their_place() -> None:
    schema = pa.schema([pa.field("price", PRICE)])
    whole = pa.array([Decimal(i) for i in range(10)], pa.decimal128(18, 9)).cast(PRICE)
    part = pa.Table.from_arrays([whole.slice(3, 4)], schema=schema)
    assert mantissas(part, as_integers(schema))["price"].to_pylist() == [i * 10**9 for i in (3, 4, 5, 6)]


def test_another_footer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    data = bytearray(path.read_bytes())
    data[-8 - int.from_bytes(data[-8:-4], "little")] = 0x18
    path.write_bytes(data)
    with pytest.raises(ValueError, match="footer began with 0x18, expected 0x15"):
        put_schema(path, b"", b"")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="was another one"):
        put_schema(path, *FUTURES_TRADES.footers)
    assert path.read_bytes() == before
