"""Every real DBN file of a few records, in every schema, version and wrapping: landed as the vendor's reader has it, or
refused for the right reason.
"""

import datetime
import decimal
import json
from pathlib import Path

import databento
import pyarrow.compute as pc
import pytest

from ingest.dbn import ingest
from tests.unit.ingest.dbn_kit import bronze
from tests.unit.ingest.test_dbn_real import vendor

pytestmark = pytest.mark.realdata

BRONZE = {
    "trades": "futures.trades.v1",
    "mbp-10": "futures.mbp10.v1",
    "definition": "reference.definitions.v1",
    **dict.fromkeys(("ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d"), "futures.ohlcv.v1"),
}
SUMS = {
    "trades": ("price", "size"),
    "mbp-10": ("bid_px_00", "ask_px_09", "ask_sz_03", "bid_ct_05"),
    "definition": (),  # column by column in test_dbn_definitions
    **dict.fromkeys(
        ("ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d"), ("open", "high", "low", "close", "volume")
    ),
}


def schema_of(path: Path) -> str:
    """``test_data.ohlcv-1s.v2.dbn.zst`` → ``ohlcv-1s``."""
    return path.name.split(".")[1]


def test_every_fixture_lands_or_says_why_not(realdata: Path, tmp_path: Path) -> None:
    folder = realdata / "databento" / "dbn_versions"
    landed: dict[str, set] = {}
    refused = {"fragment": 0, "partial day": 0, "other schema": 0}
    files = sorted(p for p in folder.iterdir() if p.is_file())
    for number, path in enumerate(files):
        schema, root = schema_of(path), tmp_path / str(number)
        (file,) = ingest(root, [path]).files
        if ".frag" in path.name:
            assert file.status == "quarantined"
            assert "a fragment without its header" in file.reason
            refused["fragment"] += 1
        elif schema == "mbo":
            assert file.status == "quarantined"
            assert (
                "record 0 was of order 647784973705 of instrument 5482, which nothing had added"
                in file.reason
            )
            refused["partial day"] += 1
        elif schema not in BRONZE:
            assert file.status == "quarantined"
            assert file.reason.startswith(
                f"schema was {schema}, expected trades, mbp-10, mbo, definition, ohlcv-1s"
            )
            refused["other schema"] += 1
        else:
            assert file.status == "landed", file
            theirs = vendor(path)
            landed.setdefault(schema, set()).add(
                (databento.DBNStore.from_file(path).metadata.version, path.suffix == ".zst", len(theirs))
            )
            assert file.rows == len(theirs)
            assert (root / "raw" / "dbn").is_dir()
            if not len(theirs):
                (receipt,) = (root / "raw" / "_metadata").glob("receipt-*.json")
                assert json.loads(receipt.read_text())["record_count"] == 0
                assert not list((root / "lake" / "bronze").rglob("*.parquet"))
                continue
            table = bronze(root, BRONZE[schema])
            assert table.num_rows == len(theirs)
            assert set(table["ts_event_ns"].to_pylist()) == set(theirs["ts_event"].tolist())
            first = {c: v for c, v in table.slice(0, 1).to_pylist()[0].items() if c in theirs.dtype.names}
            last = {
                c: v
                for c, v in table.slice(len(theirs) - 1, 1).to_pylist()[0].items()
                if c in theirs.dtype.names
            }
            for ours, row in ((first, theirs[0]), (last, theirs[-1])):
                if schema != "definition":
                    assert ours == {c: _value(row, c, ours[c]) for c in ours}
            for column in SUMS[schema]:
                total = pc.sum(table[column]).as_py()
                exact = int(theirs[column].astype(object).sum())
                assert total == (
                    decimal.Decimal(exact) / 10**9 if isinstance(total, decimal.Decimal) else exact
                )
    assert set(landed) == set(BRONZE)
    for schema, seen in landed.items():
        assert {(version, zst) for version, zst, _ in seen} >= {
            (1, True),
            (2, True),
            (3, True),
            (2, False),
        }, schema
    assert {rows for _, _, rows in landed["ohlcv-1d"]} == {0}
    assert refused["fragment"] >= 6
    assert refused["partial day"] == 5
    assert refused["other schema"] >= 25


def _value(row, column: str, like: object) -> object:
    value = row[column].item()
    if isinstance(value, bytes):
        return value.decode()
    return decimal.Decimal(value) / 10**9 if isinstance(like, decimal.Decimal) else value


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "XNAS.ITCH", "EQUS.MINI", "OPRA.PILLAR"])
def test_bars_and_definitions_of_every_dataset_land(realdata: Path, root: Path, dataset: str) -> None:
    folder = realdata / "databento" / "datasets" / dataset
    files = sorted([*folder.glob("*.ohlcv-*.dbn.zst"), *folder.glob("*.definition.dbn.zst")])
    report = ingest(root, files)
    assert len(files) == 5
    assert [(f.status, f.rows) for f in report.files] == [("landed", len(vendor(p))) for p in files]
    bars = bronze(root, "futures.ohlcv.v1")
    assert set(bars["bar_interval_s"].to_pylist()) == {1, 60, 3600, 86_400}
    assert bars["ts_recv_ns"].null_count == len(bars)
    (definition,) = bronze(root, "reference.definitions.v1").to_pylist()
    if dataset != "OPRA.PILLAR":  # there the files are of different options
        assert set(bars["contract"].to_pylist()) == {definition["contract"]}


def test_orders_of_a_real_hour_land_as_the_vendors_book(realdata: Path, tmp_path: Path) -> None:
    folder = realdata / "databento" / "es_20231225"
    (orders,), (book,) = folder.glob("*.mbo.*"), folder.glob("*.mbp-10.*")
    built, given = tmp_path / "built", tmp_path / "given"
    (file,) = ingest(built, [orders]).files
    assert (file.status, file.schema, file.rows, file.partitions) == ("landed", "mbo", 31_392, 2)
    ingest(given, [book])
    ours, theirs = bronze(built, "futures.mbp10.v1"), bronze(given, "futures.mbp10.v1")
    own = ["delivery_id", "ordinal"]
    assert ours.drop_columns(own).equals(theirs.drop_columns(own))
    sequences = vendor(orders)["sequence"]
    assert [sequences[i] for i in ours["ordinal"].to_pylist()] == theirs["sequence"].to_pylist()
    (path,) = (built / "raw" / "_metadata").glob("receipt-*.json")
    receipt = json.loads(path.read_text())
    counts = [receipt[f"{name}_count"] for name in ("record", "accepted", "rejected", "filtered")]
    assert counts == [53_250, 31_392, 0, 53_250 - 31_392]
    assert receipt["symbols"] == {"2023-12-25": {"17077": "ESH4"}}
    (commit,) = (built / "lake" / "bronze" / "futures" / "mbp10" / "_metadata").rglob("commit-*.json")
    of_orders = {
        q["check"]: q for q in json.loads(commit.read_text())["quality"] if q["check"].startswith("orders_")
    }
    assert {(q["value"], q["verdict"]) for q in of_orders.values()} == {(0, "ok")}
    assert len(of_orders) == 4


def test_a_file_of_a_snapshot_only_lands_without_rows(realdata: Path, root: Path) -> None:
    path = realdata / "databento" / "nautilus_fixtures" / "esh4-glbx-mdp3-20231224.mbo.dbn.zst"
    (file,) = ingest(root, [path]).files
    assert (file.status, file.rows, file.date) == ("landed", 0, "2023-12-24")
    (receipt,) = (root / "raw" / "_metadata").glob("receipt-*.json")
    assert json.loads(receipt.read_text())["filtered_count"] == 8_725
    datetime.date.fromisoformat(file.date)
