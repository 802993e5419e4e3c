"""Sorting and partitioning against plain Python, at sizes where every path is taken."""

import datetime
import functools
import operator
from collections import defaultdict
from pathlib import Path

import databento_dbn
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.bronze_schema import FUTURES_TRADES
from ingest.partitioning import PartitionRouter, _ExternalSort
from ingest.symbology import SymbolMap, product_root
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY, DAY_NS, HOUR_NS

MINUTE_NS = 60 * 10**9
IDS = {17: "ESZ5", 18: "ESH6", 19: "ESZ5-ESH6", 20: "NQZ5", 21: "CLF6"}


def route(rows: np.ndarray, stage: Path, *, block: int, **sizes: int) -> tuple[dict, PartitionRouter]:
    """Feed ``rows`` in blocks; returns {(symbol, date, hour): [row groups of ordinals]} and the router."""
    mappings = {s: [(DAY, DAY + datetime.timedelta(days=3), i)] for i, s in IDS.items()}
    symbols = SymbolMap(databento_dbn.Metadata.decode(kit.metadata("trades", mappings=mappings)))
    signed = np.dtype(
        {
            "names": list(rows.dtype.names),
            "formats": [
                {"<u8": "<i8", "<u4": "<i4", "<u2": "<i2", "|S1": "u1"}.get(
                    rows.dtype[n].str, rows.dtype[n].str
                )
                for n in rows.dtype.names
            ],
            "offsets": [rows.dtype.fields[n][1] for n in rows.dtype.names],
            "itemsize": rows.dtype.itemsize,
        }
    )
    rows = rows.view(signed)
    blocks = [rows[i : i + block] for i in range(0, len(rows), block)]
    router = PartitionRouter(
        FUTURES_TRADES, symbols, source="sim", delivery_id="0" * 16, stage=stage, reread=lambda: iter(blocks), **sizes
    )  # fmt: skip
    for part in blocks:
        router.add(part)
    found = {}
    for file in router.finish():
        parquet = pq.ParquetFile(file.staged)
        groups = [parquet.read_row_group(i)["ordinal"].to_pylist() for i in range(parquet.num_row_groups)]
        assert sum(map(len, groups)) == file.rows
        table = parquet.read()
        assert (table["ts_event_ns"][0].as_py(), table["ts_event_ns"][-1].as_py()) == (
            file.ts_min_ns,
            file.ts_max_ns,
        )
        contracts = dict(zip(table["ordinal"].to_pylist(), table["contract"].to_pylist(), strict=True))
        assert all(contracts[i] == IDS[int(rows["instrument_id"][i])] for i in contracts)
        key = (file.partition.symbol, file.partition.date, file.partition.hour)
        assert key not in found
        found[key] = groups
        file.staged.unlink()
    assert {p.name for p in stage.iterdir()} <= {"spill"}
    assert not list(stage.glob("spill/*"))
    return found, router


def expected(rows: np.ndarray) -> dict:
    """The obviously right partitions: dictionaries and `sorted`."""
    partitions = defaultdict(list)
    for ordinal, (ts, sequence, number) in enumerate(
        kit.plain(rows, ["ts_event", "sequence", "instrument_id"])
    ):
        at = datetime.datetime.fromtimestamp(ts // 10**9, datetime.UTC)
        key = (product_root(IDS[number]), at.date().isoformat(), at.hour)
        partitions[key].append((ts, sequence, ordinal))
    return {key: [ordinal for *_, ordinal in sorted(of_key)] for key, of_key in partitions.items()}


def assert_right(rows: np.ndarray, found: dict, row_group_rows: int) -> None:
    assert {key: functools.reduce(operator.iadd, groups, []) for key, groups in found.items()} == expected(
        rows
    )
    for groups in found.values():
        assert all(len(g) == row_group_rows for g in groups[:-1])
        assert 0 < len(groups[-1]) <= row_group_rows


def made(minutes: list[int], sequences: list[int], ids: list[int]) -> np.ndarray:
    rows = kit.records("trades", len(minutes))
    rows["ts_event"] = DAY_NS + np.array(minutes, dtype=np.int64) * MINUTE_NS
    rows["ts_recv"] = DAY_NS + np.maximum.accumulate(np.array(minutes, dtype=np.int64)) * MINUTE_NS
    rows["sequence"], rows["instrument_id"] = sequences, ids
    return rows


row = st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from([17, 17, 17, 18, 19, 20, 21]))
small = st.fixed_dictionaries(
    {
        "block": st.integers(1, 9),
        "row_group_rows": st.integers(1, 6),
        "write_rows": st.integers(1, 6),
        "window_rows": st.integers(1, 6),
        "buffer_bytes": st.sampled_from([1, 2000, 10**8]),
    }
)


@given(st.lists(row, min_size=1, max_size=60), small, st.booleans())
@settings(max_examples=150)
def test_any_rows_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list, sizes: dict, nearly: bool
) -> None:
    """Times all over eight hours, or nearly in order as a vendor gives them; ties at one time and sequence."""
    if nearly:
        rows = sorted(rows, key=lambda r: r[0] // 7)
    table = made(*map(list, zip(*rows, strict=True)))
    found, router = route(table, tmp_path_factory.mktemp("stage"), **sizes)
    assert_right(table, found, sizes["row_group_rows"])
    assert router.rows == len(rows)


def test_a_row_within_the_window_is_sorted_in_without_a_second_reading(tmp_path: Path) -> None:
    minutes = [*range(20), 12, *range(20, 40)]
    table = made(minutes, [0] * len(minutes), [17] * len(minutes))
    found, router = route(table, tmp_path, block=4, row_group_rows=5, window_rows=10)
    assert_right(table, found, 5)
    assert not router._given_up


def test_a_row_older_than_the_window_makes_its_hour_a_sorted_one(tmp_path: Path) -> None:
    minutes = [*range(50), 3, *range(50, 110)]
    table = made(minutes, [0] * len(minutes), [17] * len(minutes))
    found, router = route(table, tmp_path, block=4, row_group_rows=5, window_rows=4)
    assert_right(table, found, 5)
    assert router._given_up == {(router.roots.index("ES"), DAY_NS // HOUR_NS)}


def test_a_row_for_an_hour_that_is_closed_is_not_lost(tmp_path: Path) -> None:
    minutes = [*range(0, 60, 2), *range(60, 180, 2), 31]
    table = made(minutes, [0] * len(minutes), [17] * len(minutes))
    found, router = route(table, tmp_path, block=3, row_group_rows=8, window_rows=4)
    assert_right(table, found, 8)
    assert len(router._given_up) == 1


def test_an_hour_in_reverse_is_sorted_outside_of_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    minutes = [*range(59, -1, -1)] * 200
    table = made(
        minutes, rng.integers(0, 50, len(minutes)).tolist(), rng.choice([17, 18], len(minutes)).tolist()
    )
    found, router = route(table, tmp_path, block=64, row_group_rows=500, window_rows=50, buffer_bytes=300_000)
    assert_right(table, found, 500)
    assert router._given_up


def test_more_products_than_memory_holds_land_all_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    minutes = np.sort(rng.integers(0, 300, 4000)).tolist()
    ids = rng.choice([17, 17, 17, 20, 21], 4000).tolist()
    table = made(minutes, rng.integers(0, 9, 4000).tolist(), ids)
    found, router = route(
        table, tmp_path, block=100, row_group_rows=600, window_rows=60, buffer_bytes=100_000
    )
    assert_right(table, found, 600)
    assert {router.roots[r] for r, _ in router._given_up} <= {"NQ", "CL"}
    assert router._given_up


@pytest.mark.parametrize("seed", range(12))
def test_the_external_sort_gives_runs_back_in_order(tmp_path: Path, seed: int) -> None:
    """Few times and sequences, so that ties run across runs and only the ordinal tells rows apart."""
    rng = np.random.default_rng(seed)
    n, chunk_rows, block = rng.integers(300, 900), int(rng.integers(30, 200)), int(rng.integers(5, 60))
    roots, times, sequences = rng.integers(0, 2, n), rng.integers(0, 6, n), rng.integers(0, 3, n)
    rows = list(zip(roots.tolist(), times.tolist(), sequences.tolist(), strict=True))
    table = kit.records("trades", len(rows))
    table["ts_event"], table["sequence"] = DAY_NS + times, sequences
    sorter = _ExternalSort(tmp_path / "spill", chunk_rows=chunk_rows)
    ordinals = np.arange(len(rows))
    for start in range(0, len(rows), block):
        for root in (1, 0):
            part = np.arange(start, min(start + block, len(rows)))
            part = part[roots[part] == root]
            sorter.add(table[part], ordinals[part], ordinals[part] % 7, root)
    blocks = [b.copy() for b in sorter.sorted_blocks()]
    found = [
        (r, t - DAY_NS, s, o)
        for b in blocks
        for r, t, s, o in zip(
            b["root"].tolist(), b["record"]["ts_event"].tolist(), b["record"]["sequence"].tolist(),
            b["ordinal"].tolist(), strict=True,
        )
    ]  # fmt: skip
    assert found == sorted((r, t, s, o) for o, (r, t, s) in enumerate(rows))
    assert all((b["contract"] == b["ordinal"] % 7).all() for b in blocks)
    assert max(map(len, blocks)) <= 3 * chunk_rows
    assert not list(tmp_path.glob("spill/*"))


@pytest.mark.parametrize(
    ("contract", "root"),
    [
        ("ESZ5", "ES"), ("ESH25", "ES"), ("6EH4", "6E"), ("M2KU5", "M2K"), ("ESZ5-ESH6", "ES"),
        ("ES:BF Z5-H6-M6", "ES"), ("NVDA", "NVDA"), ("AAPL  250221C00250000", "AAPL  250221C00250000"),
        ("ESZ5 C6900", "ESZ5 C6900"), ("UD:1V: GN 2525381", "UD:1V: GN 2525381"), ("BRK.B", "BRK.B"), ("Z5", "Z5"),
    ],
)  # fmt: skip
def test_product_roots(contract: str, root: str) -> None:
    assert product_root(contract) == root
