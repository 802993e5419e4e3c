"""Columns copied tile by tile are those that numpy copies, and what is said of their bits is true."""

import databento_dbn
import numpy as np
import pytest

from ingest.bronze_schema import FUTURES_MBP10, FUTURES_TRADES, BronzeSchema
from ingest.dbn_format import signed_dtype
from ingest.dbn_rows import RowBuffer
from ingest.record_columns import ColumnCopy

MESSAGES = {"mbp-10": databento_dbn.MBP10Msg, "trades": databento_dbn.TradeMsg}


def some_records(schema: str, n: int, *, ts_out: bool = False) -> np.ndarray:
    layout = signed_dtype(MESSAGES[schema], ts_out=ts_out)
    data = np.random.default_rng(n).integers(0, 256, n * layout.itemsize, dtype=np.uint8)
    return np.frombuffer(data.tobytes(), layout)


@pytest.mark.parametrize("ts_out", [False, True])
@pytest.mark.parametrize(("schema", "name"), [(FUTURES_MBP10, "mbp-10"), (FUTURES_TRADES, "trades")])
def test_a_buffer_holds_the_fields_of_its_records(schema: BronzeSchema, name: str, ts_out: bool) -> None:
    """In parts of any size; contiguous, strided and as a field of wider records; moved to a larger buffer."""
    records = some_records(name, 700, ts_out=ts_out)
    wide = np.zeros(100, np.dtype([("root", "<i4"), ("record", records.dtype)]))
    wide["record"] = records[200:300]
    small, large = RowBuffer(schema, 300), RowBuffer(schema, 800)
    small.append(records[:1], 0, np.zeros(1))
    small.append(records[1:200], 1, np.zeros(199))
    small.append(wide["record"], 200, np.zeros(100))
    large.take_over(small)
    large.append(records[300:365], 300, np.zeros(65))
    large.append(records[::-1][:335][::-1], 365, np.zeros(335))
    for column, (field, kind) in RowBuffer.fields(schema).items():
        assert (large.columns[column][:700] == records[field].astype(kind)).all(), column
    assert (large.columns["ordinal"][:700] == np.arange(700)).all()


def test_bits_that_are_not_seen_are_in_no_value() -> None:
    records = some_records("mbp-10", 130).copy()
    records["price"] = np.arange(130) * 250_000_000
    records["bid_sz_00"] = 5
    records["ask_sz_00"] = 5
    records["ask_sz_00"][129] = -1
    buffer = RowBuffer(FUTURES_MBP10, 200)
    buffer.append(records, 0, np.zeros(130))
    copy: ColumnCopy = buffer._copy
    assert copy.seen("price") == int(np.bitwise_or.reduce(records["price"]))
    assert copy.seen("bid_sz_00") == 5
    assert copy.seen("ask_sz_00") == -1
    assert copy.seen("no such column") == -1
    other = RowBuffer(FUTURES_MBP10, 400)
    other.take_over(buffer)
    assert other._copy.seen("ask_sz_00") == -1
    assert other._copy.seen("bid_sz_00") == 5
    buffer.drop(130)
    buffer.append(records[:129], 0, np.zeros(129))
    assert buffer._copy.seen("ask_sz_00") == 5
