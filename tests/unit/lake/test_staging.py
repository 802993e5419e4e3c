"""Rows on their way from DuckDB into stage files."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import encodings, staging
from lake.digest import file_digest, table_digest
from lake.row_laws import StageError
from lake.staging import Target

TYPES = {
    "client_id": "bigint",
    "n": "integer",
    "event_id": "uuid",
    "is_on": "boolean",
    "seen_at": "timestamp with time zone",
    "day": "date",
    "price": "decimal(20,8)",
    "percent": "decimal(10,4)",
    "wide": "decimal(38,8)",
    "small": "tinyint",
    "size": "utinyint",
    "x": "double",
    "y": "float",
    "word": "varchar",
    "ids": "uuid[]",
    "numbers": "bigint[]",
    "fee": "struct(asset varchar, amount decimal(20,8), uuid uuid)",
    "fees": "struct(asset varchar, amount decimal(20,8), ids uuid[])[]",
}
ROW = """
    r // 1000 as client_id, r::integer as n, md5('id' || r)::uuid as event_id,
    case when r % 3 > 0 then r % 2 = 0 end as is_on,
    timestamptz '2024-12-01 00:00:00.000001+00' + to_microseconds(r * 7919) as seen_at,
    case when r % 5 > 0 then date '2024-12-01' + (r % 40)::integer end as day,
    case when r % 7 > 0 then (r * 1.00000001 - 5)::decimal(20,8) end as price,
    (r / 3.0 - 9)::decimal(10,4) as percent, (r * 12345678901234567890.5)::decimal(38,8) as wide,
    (r % 200 - 100)::tinyint as small, (r % 256)::utinyint as size,
    case when r % 4 > 0 then sin(r) end as x, cos(r)::float as y,
    case r % 4 when 0 then null when 1 then '' when 2 then 'é' || r else repeat('a', (r % 90)::integer) end as word,
    case when r % 6 > 0 then list_transform(range(r % 4), lambda i: md5('x' || i || r)::uuid) end as ids,
    case when r % 2 > 0 then [r, null, -r] end as numbers,
    case when r % 3 > 0
        then {'asset': 'USDC', 'amount': (r / 8)::decimal(20,8), 'uuid': md5(r::varchar)::uuid} end as fee,
    [{'asset': null, 'amount': 1.5::decimal(20,8), 'ids': [md5('f' || r)::uuid]}] as fees
"""


def connection(threads: int = 2) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(config={"threads": threads})
    con.execute("set TimeZone = 'UTC'; set arrow_output_version = '1.5'")
    return con


def target(
    folder: Path, sql: str, types: dict[str, str] = TYPES, key: tuple[str, ...] = ("n",), **more
) -> Target:
    columns = [*types.items()]
    return Target("model, 2024-12-01", folder / "stage.parquet", sql, columns, [*key], "2024-12-01", **more)


def rows_sql(count: int) -> str:
    casts = ", ".join(f"cast({name} as {t}) as {name}" for name, t in TYPES.items())
    return f"select {casts} from (select {ROW} from range({count}) as numbers (r)) order by n"


def described(con: duckdb.DuckDBPyConnection, relation: str) -> list[tuple]:
    return [row[:2] for row in con.execute(f"describe {relation}").fetchall()]


@pytest.mark.parametrize("count", [0, 1, 2, 5_000, 123_000])
def test_a_file_holds_what_the_query_gives(tmp_path, count):
    con, sql = connection(), rows_sql(count)
    staged = staging.stage(con, target(tmp_path, sql, metadata={"dataset": "silver/x"}))
    (file,) = staged.files
    assert (staged.rows, file.rows, file.folder) == (count, count, "")
    read = f"from read_parquet('{file.path}')"
    assert described(con, read) == described(con, sql)
    differ = f"({sql}) except all ({read})"
    assert con.execute(f"select count(*) from ({differ})").fetchone() == (0,)
    assert file_digest(file.path) == file.content_digest == staged.content_digest
    metadata = pq.read_metadata(file.path)
    assert metadata.metadata[b"dataset"] == b"silver/x"
    assert metadata.num_row_groups == -(-count // staging.ROW_GROUP_ROWS)


def test_any_number_of_threads_and_any_batch_give_the_same_content(tmp_path, monkeypatch):
    written = set()
    for threads, batch_rows in ((1, 30_720), (2, 30_720), (2, 4_096)):
        monkeypatch.setattr(staging, "BATCH_ROWS", batch_rows)
        staged = staging.stage(connection(threads), target(tmp_path, rows_sql(40_000)))
        written.add((staged.content_digest, pq.read_table(staged.files[0].path).num_rows))
    assert len(written) == 1


def test_rows_are_shared_out_by_their_path_keys(tmp_path):
    con, sql = connection(), rows_sql(70_500)
    keyed = target(tmp_path, sql, key=("client_id", "n"), path_keys=["client_id"])
    staged = staging.stage(con, keyed)
    assert [f.folder for f in staged.files] == [f"client_id={i}" for i in range(71)]
    assert [f.rows for f in staged.files] == [1000] * 70 + [500]
    for client, file in ((0, staged.files[0]), (70, staged.files[70])):
        wanted = f"select * exclude (client_id) from ({sql}) where client_id = {client}"
        assert described(con, f"from read_parquet('{file.path}')") == described(con, wanted)
        found = f"from read_parquet('{file.path}')"
        assert con.execute(f"select count(*) from (({wanted}) except all ({found}))").fetchone() == (0,)
        assert file_digest(file.path) == file.content_digest
    whole = staging.stage(con, target(tmp_path, sql, key=("client_id", "n")))
    assert whole.content_digest == staged.content_digest


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    batch=st.integers(1, 7),
    group=st.integers(1, 7),
    group_bytes=st.sampled_from([1, 100, 1 << 20]),
)
def test_batches_and_row_groups_may_end_anywhere(tmp_path_factory, counts, batch, group, group_bytes):
    folder = tmp_path_factory.mktemp("groups")
    keys = [k for k, count in enumerate(counts) for _ in range(count)]
    table = pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array(range(len(keys)), pa.int64())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "ROW_GROUP_ROWS", group)
        patch.setattr(staging, "ROW_GROUP_BYTES", group_bytes)
        staged = staging.stage_batches(
            table.to_batches(max_chunksize=batch),
            table.schema,
            target(folder, "", key=("k", "v"), path_keys=["k"]),
        )
    assert staged.content_digest == table_digest(table)
    assert {f.folder: pq.read_table(f.path)["v"].to_pylist() for f in staged.files} == {
        f"k={k}": [v for key, v in zip(keys, range(len(keys)), strict=True) if key == k] for k in {*keys}
    }
    for file in staged.files:
        metadata = pq.read_metadata(file.path)
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert max(sizes) <= group
        assert group_bytes < 1 << 20 or set(sizes[:-1]) <= {group}


ROWS = "from range(50000) as numbers (i)"


@pytest.mark.parametrize(
    ("a", "b", "error", "more"),
    [
        ("-i", "i", "row 1 is out of key order", {}),
        ("i", "i // 2", "2 rows had the key", {"unique": ["b"]}),
        ("i", "case when i < 49999 then date '2024-12-01' end", "index i had a NULL in b",
         {"indexes": {"i": ("b", "day")}}),
        ("i", "case when i = 49999 then error('model, 2024-12-01: a row was odd') end", "a row was odd", {}),
        ("i", "cast(case when i = 49999 then 'x' end as bigint)", "Could not convert string 'x'", {}),
        ("case when i > 9 then 'x' else '' end", "i", "path key a was '', expected", {"path_keys": ["a"]}),
        ("case when i > 9 then repeat('x', 201) else '3' end", "i", "path key a was 'xxx", {"path_keys": ["a"]}),
    ],
)  # fmt: skip
def test_rows_that_break_a_law_leave_no_file(tmp_path, a, b, error, more):
    types = {"a": "varchar" if a.startswith("case") else "bigint", "b": "date" if "date" in b else "bigint"}
    key = ("a", "b") if "path_keys" in more else ("a",)
    refused = target(
        tmp_path, f"select {a} as a, {b} as b {ROWS}", types, key, partition_column="day", **more
    )
    with pytest.raises((StageError, duckdb.Error), match=error):
        staging.stage(connection(1), refused)
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def close(writer: pq.ParquetWriter) -> None:
        writer.is_open = False  # or it would close itself once more when it is collected
        full()

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    monkeypatch.setattr(pq.ParquetWriter, "close", close)
    with pytest.raises(StageError, match=r"model, 2024-12-01: .* can't be written .*No space left on device"):
        staging.stage(connection(), target(tmp_path, rows_sql(10)))
    assert [*tmp_path.iterdir()] == []


def test_the_connection_is_free_after_a_refusal(tmp_path):
    con = connection(1)
    with pytest.raises(StageError):
        staging.stage(
            con,
            target(
                tmp_path,
                "select 5 - i as a, i as b from range(500000) t (i)",
                {"a": "bigint", "b": "bigint"},
                ("a",),
            ),
        )
    assert con.execute("select 1").fetchone() == (1,)


def test_columns_of_few_values_get_a_dictionary_and_others_their_kind(tmp_path):
    staged = staging.stage(connection(), target(tmp_path, rows_sql(50_000)))
    group = pq.read_metadata(staged.files[0].path).row_group(0)
    found = {group.column(i).path_in_schema: {*group.column(i).encodings} for i in range(group.num_columns)}
    assert all("RLE_DICTIONARY" in found[c] for c in ("small", "size", "day", "fee.asset"))
    assert (
        found["n"]
        >= {"DELTA_BINARY_PACKED"}
        <= found["seen_at"] & found["percent"] & found["numbers.list.element"]
    )
    assert "BYTE_STREAM_SPLIT" in found["x"] & found["y"]
    assert "DELTA_LENGTH_BYTE_ARRAY" in found["word"]
    assert "RLE_DICTIONARY" not in found["event_id"] | found["price"] | found["ids.list.element"]


def test_a_column_without_values_is_no_hindrance():
    batch = pa.record_batch({"a": pa.nulls(10, pa.int64()), "b": pa.nulls(10, pa.list_(pa.string()))})
    assert encodings.of(batch) == {"use_dictionary": ["a", "b.list.element"], "column_encoding": None}
