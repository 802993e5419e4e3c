"""Bronze of the real files equals what the vendor's own reader gives: rows, order, every value."""

import decimal
import warnings
from pathlib import Path

import databento
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest.dbn import ingest
from tests.unit.ingest.dbn_kit import UNDEF_PRICE, bronze

pytestmark = pytest.mark.realdata

BRONZE = {"trades": "futures.trades.v1", "mbp-10": "futures.mbp10.v1"}


def vendor(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return databento.DBNStore.from_file(path).to_ndarray()


def assert_equals_vendor(table: pa.Table, rows: np.ndarray) -> None:
    """Compare every column of bronze with the vendor's array, both in bronze order."""
    rows = rows[np.lexsort((np.arange(len(rows)), rows["sequence"], rows["ts_event"]))]
    names = {"ts_event_ns": "ts_event", "ts_recv_ns": "ts_recv"}
    made_by_us = {
        "source", "delivery_id", "ordinal", "_extra", "contract", "aggressor", "symbol", "date", "hour",
    }  # fmt: skip
    compared = 0
    for column in table.column_names:
        if column in made_by_us:
            continue
        ours, theirs = table[column], rows[names.get(column, column)]
        if pa.types.is_decimal(ours.type):
            defined = theirs != UNDEF_PRICE
            assert ours.is_valid().to_pylist() == defined.tolist(), column
            exact = [decimal.Decimal(v) / 10**9 for v in theirs[defined].tolist()]
            assert ours.drop_null().to_pylist() == exact, column
        elif theirs.dtype.kind == "S":
            assert ours.to_pylist() == [v.decode() for v in theirs.tolist()], column
        else:
            assert ours.to_pylist() == theirs.tolist(), column
        compared += 1
    assert compared == (11 if "action" not in table.column_names else 72)


@pytest.mark.parametrize(
    ("pattern", "schema", "rows", "hours"),
    [("*.trades.*", "trades", 2_271, 1), ("*.mbp-10.*", "mbp-10", 31_392, 2)],
)
def test_a_real_session_equals_the_vendors_reader(
    realdata: Path, root: Path, pattern: str, schema: str, rows: int, hours: int
) -> None:
    (path,) = (realdata / "databento" / "es_20231225").glob(pattern)
    report = ingest(root, [path])
    assert [(f.status, f.rows, f.partitions) for f in report.files] == [("landed", rows, hours)]
    table, theirs = bronze(root, BRONZE[schema]), vendor(path)
    assert_equals_vendor(table, theirs)
    assert set(table["contract"].to_pylist()) == {"ESH4"}
    assert set(table["source"].to_pylist()) == {"databento_dbn"}
    assert sorted(table["ordinal"].to_pylist()) == list(range(rows))
    trades = table if schema == "trades" else table.filter(pc.equal(table["action"], "T"))
    of_trades = theirs if schema == "trades" else theirs[theirs["action"] == b"T"]
    assert pc.sum(trades["price"]).as_py() == decimal.Decimal(int(of_trades["price"].sum())) / 10**9
    assert pc.sum(trades["size"]).as_py() == int(of_trades["size"].sum())
    buys = pc.sum(pc.equal(trades["aggressor"], 1)).as_py()
    assert buys == int((of_trades["side"] == b"B").sum())


@pytest.mark.parametrize("schema", ["trades", "mbp-10"])
def test_every_version_of_the_format_lands(realdata: Path, tmp_path: Path, schema: str) -> None:
    files = sorted((realdata / "databento" / "dbn_versions").glob(f"test_data.{schema}.*dbn*"))
    files += sorted((realdata / "databento" / "datasets" / "GLBX.MDP3").glob(f"*.{schema}.dbn.zst"))
    versions = set()
    for number, path in enumerate(files):
        root = tmp_path / str(number)
        report = ingest(root, [path])
        assert report.ok, report.files
        assert_equals_vendor(bronze(root, BRONZE[schema]), vendor(path))
        versions.add(databento.DBNStore.from_file(path).metadata.version)
    assert versions == {1, 2, 3}
    assert len(files) == 5
