"""The vendor's bars as bronze rows."""

import decimal
import json
from pathlib import Path

import databento_dbn
import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest.dbn import ingest
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY_NS, HOUR_NS, IDS, UNDEF_PRICE, bronze, write_dbn
from tests.unit.ingest.test_dbn_real import vendor

OHLCV = np.dtype(databento_dbn.OHLCVMsg._dtypes)
RTYPES = {"ohlcv-1s": 0x20, "ohlcv-1m": 0x21, "ohlcv-1h": 0x22, "ohlcv-1d": 0x23}
SECONDS = {"ohlcv-1s": 1, "ohlcv-1m": 60, "ohlcv-1h": 3600, "ohlcv-1d": 86_400}
SCHEMA = "futures.ohlcv.v1"


def bars(schema: str, n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, OHLCV)
    rows["length"], rows["rtype"], rows["publisher_id"] = 14, RTYPES[schema], 1
    rows["instrument_id"] = rng.choice([IDS["ESZ5"], IDS["ESH6"], IDS["NQZ5"]], n)
    rows["ts_event"] = DAY_NS + np.arange(n) * SECONDS[schema] * 10**9
    prices = np.sort(27_200 + rng.integers(-40, 40, (n, 4)), axis=1) * 250_000_000
    rows["low"], rows["high"] = prices[:, 0], prices[:, 3]
    rows["open"], rows["close"] = prices[:, 1], prices[:, 2]
    rows["volume"] = rng.integers(0, 10**12, n)
    return rows


def as_rows(records: np.ndarray, seconds: int) -> list[tuple]:
    names = {i: s for s, i in IDS.items()}
    return sorted(
        (
            int(r["ts_event"]), ordinal, names[int(r["instrument_id"])], seconds,
            *(decimal.Decimal(int(r[c])) / 10**9 for c in ("open", "high", "low", "close")), int(r["volume"]),
        )
        for ordinal, r in enumerate(records)
    )  # fmt: skip


@pytest.mark.parametrize("schema", RTYPES)
@pytest.mark.parametrize("version", [1, 3])
def test_bars_of_every_interval_land_exactly(tmp_path: Path, root: Path, schema: str, version: int) -> None:
    records = bars(schema, 2 if schema == "ohlcv-1d" else 40)
    path = write_dbn(tmp_path / "b.dbn.zst", schema, records, head=kit.metadata(schema, version=version))
    (file,) = ingest(root, [path]).files
    assert (file.status, file.schema, file.rows) == ("landed", schema, len(records))
    table = bronze(root, SCHEMA)
    columns = (
        "ts_event_ns",
        "ordinal",
        "contract",
        "bar_interval_s",
        "open",
        "high",
        "low",
        "close",
        "volume",
    )
    assert sorted(zip(*(table[c].to_pylist() for c in columns), strict=True)) == as_rows(
        records, SECONDS[schema]
    )
    roots = {"ESZ5": "ES", "ESH6": "ES", "NQZ5": "NQ"}
    assert table["symbol"].to_pylist() == [roots[c] for c in table["contract"].to_pylist()]
    assert file.raw_path.startswith("raw/dbn/ohlcv/")


def test_bars_that_are_none_are_kept_aside(tmp_path: Path, root: Path) -> None:
    records = bars("ohlcv-1m", 12)
    records["low"][0] = records["high"][0] + 1
    records["high"][1] = records["close"][1] - 250_000_000
    records["open"][2] = UNDEF_PRICE
    records["volume"][3] = 2**63
    records["ts_event"][4] += 1
    records["ts_event"][5] = 0
    records["close"][6] = records["low"][6] - 1
    records["volume"][7] = 0  # no trade but a bar: it stays
    path = write_dbn(tmp_path / "b.dbn", "ohlcv-1m", records)
    (file,) = ingest(root, [path], max_bad=1).files
    assert (file.status, file.rows, file.rejected) == ("landed", 5, 7)
    rejects = [
        row
        for part in sorted(
            (root / "lake" / "bronze" / "_rejects" / "dataset=futures_ohlcv").rglob("*.parquet")
        )
        for row in pq.ParquetFile(part).read().to_pylist()
    ]
    assert {r["line_no"]: r["rule"] for r in rejects} == {
        0: "BAR_RANGE", 1: "BAR_RANGE", 2: "PRICE_RANGE", 3: "SIZE", 4: "BAR_START", 5: "TS_RANGE", 6: "BAR_RANGE",
    }  # fmt: skip
    assert json.loads(next(r["raw"] for r in rejects if r["line_no"] == 4))["ts_event"] == int(
        records["ts_event"][4]
    )
    assert sorted(bronze(root, SCHEMA)["ordinal"].to_pylist()) == [7, 8, 9, 10, 11]


def test_too_many_bad_bars_refuse_the_file(tmp_path: Path, root: Path) -> None:
    records = bars("ohlcv-1m", 12)
    records["low"][0] = records["high"][0] + 1
    (file,) = ingest(root, [write_dbn(tmp_path / "b.dbn", "ohlcv-1m", records)]).files
    assert file.status == "quarantined"
    assert "1 of 12 rows were bad (BAR_RANGE 1; the first: " in file.reason


def test_a_record_of_another_interval_refuses_the_file(tmp_path: Path, root: Path) -> None:
    records = bars("ohlcv-1m", 12)
    records["rtype"][5] = RTYPES["ohlcv-1s"]
    (file,) = ingest(root, [write_dbn(tmp_path / "b.dbn", "ohlcv-1m", records)]).files
    assert file.status == "quarantined"
    assert "record 5 was of rtype 0x20" in file.reason


@pytest.mark.realdata
def test_real_minutes_of_two_futures(realdata: Path, root: Path) -> None:
    folder = realdata / "databento" / "nautilus_fixtures"
    (path,) = folder.glob("historical_bars_catalog/futures_ohlcv-1m*")
    assert ingest(root, [path]).ok
    table, theirs = bronze(root, SCHEMA), vendor(path)
    assert len(theirs) == len(table) == 60
    assert set(table["symbol"].to_pylist()) == {"ES", "NQ"}
    at = table["ordinal"].to_pylist()
    for column in ("open", "high", "low", "close"):
        exact = [decimal.Decimal(v) / 10**9 for v in theirs[column][at].tolist()]
        assert table[column].to_pylist() == exact
    assert table["volume"].to_pylist() == theirs["volume"][at].tolist()
    assert [int(h) * HOUR_NS for h in theirs["ts_event"][at] // HOUR_NS] == [
        t // HOUR_NS * HOUR_NS for t in table["ts_event_ns"].to_pylist()
    ]
