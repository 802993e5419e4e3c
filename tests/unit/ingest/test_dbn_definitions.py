"""Definitions as bronze rows, against the vendor's own decoder, and ids resolved through them."""

import datetime
import decimal
import json
from pathlib import Path

import databento_dbn
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingest.dbn import ingest
from lake.digest import table_digest
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import DAY, DAY_NS, HOUR_NS, UNDEF_PRICE, UNDEF_TIMESTAMP, bronze, write_dbn

SCHEMA = "reference.definitions.v1"
LAYOUTS = {
    1: np.dtype(databento_dbn.InstrumentDefMsgV1._dtypes),
    2: np.dtype(databento_dbn.InstrumentDefMsgV2._dtypes),
    3: np.dtype(databento_dbn.InstrumentDefMsg._dtypes),
}
PRICES = (
    "min_price_increment", "min_price_increment_amount", "display_factor", "unit_of_measure_qty", "strike_price",
    "high_limit_price", "low_limit_price",
)  # fmt: skip
TEXTS = {
    "contract": "raw_symbol", "security_type": "security_type", "exchange": "exchange", "asset": "asset",
    "security_group": "group", "cfi": "cfi", "currency": "currency", "settl_currency": "settl_currency",
    "unit_of_measure": "unit_of_measure", "underlying": "underlying",
}  # fmt: skip
LETTERS = ("security_update_action", "instrument_class", "user_defined_instrument")


def decoded(path: Path) -> list[databento_dbn.InstrumentDefMsg]:
    """Records in the newest layout, as the vendor's decoder upgrades them."""
    decoder = databento_dbn.DBNDecoder(upgrade_policy=databento_dbn.VersionUpgradePolicy.UPGRADE_TO_V3)
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    decoder.write(data)
    return [r for r in decoder.decode() if isinstance(r, databento_dbn.InstrumentDefMsg)]


def expected_row(r: databento_dbn.InstrumentDefMsg) -> dict:
    """What bronze should say of a decoded record, one key a column."""

    def price(value: int) -> decimal.Decimal | None:
        return None if value == UNDEF_PRICE else decimal.Decimal(value) / 10**9

    def unless(value: int, undefined: int) -> int | None:
        return None if value == undefined else value

    def letter(value: object) -> str | None:
        return str(getattr(value, "value", value)).strip("\0") or None

    has_legs = r.leg_count > 0
    return (
        {
            "ts_event_ns": r.ts_event,
            "ts_recv_ns": unless(r.ts_recv, UNDEF_TIMESTAMP),
            "publisher_id": r.publisher_id,
            "instrument_id": r.instrument_id,
            "underlying_id": r.underlying_id or None,
            "raw_instrument_id": r.raw_instrument_id or None,
            "contract_multiplier": unless(r.contract_multiplier, 2**31 - 1),
            "activation_ns": unless(r.activation, UNDEF_TIMESTAMP),
            "expiration_ns": unless(r.expiration, UNDEF_TIMESTAMP),
            "maturity_year": unless(r.maturity_year, 2**16 - 1),
            "maturity_month": unless(r.maturity_month, 255),
            "maturity_day": unless(r.maturity_day, 255),
            "maturity_week": unless(r.maturity_week, 255),
            "leg_count": r.leg_count,
            "leg_index": r.leg_index if has_legs else None,
            "leg_instrument_id": r.leg_instrument_id if has_legs else None,
            "leg_contract": (r.leg_raw_symbol if has_legs else "") or None,
            "leg_ratio_qty_numerator": r.leg_ratio_qty_numerator if has_legs else None,
            "leg_ratio_qty_denominator": r.leg_ratio_qty_denominator if has_legs else None,
            "leg_price": price(r.leg_price) if has_legs else None,
            "leg_delta": price(r.leg_delta) if has_legs else None,
        }
        | {c: getattr(r, field) or None for c, field in TEXTS.items()}
        | {c: price(getattr(r, c)) for c in PRICES}
        | {c: letter(getattr(r, c)) for c in LETTERS}
    )


def assert_equals_decoder(root: Path, path: Path) -> pa.Table:
    records = decoded(path)
    table = bronze(root, SCHEMA)
    by_ordinal = {row["ordinal"]: row for row in table.to_pylist()}
    assert sorted(by_ordinal) == list(range(len(records)))
    for ordinal, record in enumerate(records):
        expected = expected_row(record)
        assert {c: by_ordinal[ordinal][c] for c in expected} == expected
    ours = {"source", "delivery_id", "ordinal", "_extra", "symbol", "date", "hour"}
    assert set(table.column_names) - ours - set(expected_row(records[0])) == {
        "leg_instrument_class",
        "leg_side",
    }
    return table


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("pattern", "versions", "symbols"),
    [
        ("dbn_versions/test_data.definition*.dbn*", {1, 2, 3}, {"MSFT"}),
        ("datasets/*/test_data.definition.dbn.zst", {3}, {"ES", "NVDA", "QQQ", "AAPL"}),
        ("nautilus_fixtures/definition-*.dbn.zst", {1}, {"ES", "SPY"}),
        ("nautilus_fixtures/*/*definition.dbn.zst", {1}, {"ES", "NQ"}),
    ],
)
def test_real_definitions_are_as_the_vendor_decodes_them(
    realdata: Path, tmp_path: Path, pattern: str, versions: set[int], symbols: set[str]
) -> None:
    files = [p for p in sorted((realdata / "databento").glob(pattern)) if ".frag" not in p.name]
    seen_symbols, seen_versions = set(), set()
    for number, path in enumerate(files):
        root = tmp_path / str(number)
        (file,) = ingest(root, [path]).files
        assert file.status == "landed", file
        table = assert_equals_decoder(root, path)
        seen_symbols |= set(table["symbol"].to_pylist())
        seen_versions.add(
            json.loads(next((root / "raw" / "_metadata").glob("receipt-*")).read_text())["format_version"]
        )
    assert (seen_versions, seen_symbols) == (versions, symbols)
    assert len(files) >= 3


def definition(version: int, symbol: str, instrument_id: int, **more: object) -> np.ndarray:
    """One record (1,) of a layout with nothing defined but what is given."""
    row = np.zeros(1, LAYOUTS[version])
    row["length"], row["rtype"], row["publisher_id"] = row.dtype.itemsize // 4, 0x13, 1
    row["instrument_id"], row["raw_symbol"] = instrument_id, symbol.encode()
    row["ts_event"], row["ts_recv"] = DAY_NS - 3 * 24 * HOUR_NS, DAY_NS
    row["security_update_action"], row["instrument_class"] = b"A", b"F"
    for name in (*PRICES, "leg_price", "leg_delta"):
        if name in row.dtype.names:
            row[name] = UNDEF_PRICE
    row["expiration"] = row["activation"] = UNDEF_TIMESTAMP
    for name, value in more.items():
        row[name] = value
    return row


def file_of(path: Path, *rows: np.ndarray, version: int = 3, **head: object) -> Path:
    return write_dbn(
        path, "definition", np.concatenate(rows), head=kit.metadata("definition", version=version, **head)
    )


@pytest.mark.parametrize("version", [1, 2, 3])
def test_each_layout_gives_the_same_rows(tmp_path: Path, root: Path, version: int) -> None:
    rows = [
        definition(version, "ESZ5", 17, min_price_increment=250_000_000, expiration=DAY_NS + 4 * 24 * HOUR_NS),
        definition(version, "ESZ5-ESH6", 19, instrument_class=b"S", user_defined_instrument=b"N"),
        definition(
            version, "ESZ5 C6800", 30, instrument_class=b"C", underlying=b"ESZ5", strike_price=6800 * 10**9,
            underlying_id=17, currency=b"USD",
        ),
        definition(version, "SPY   251219P00600000", 31, instrument_class=b"P", underlying=b"SPY"),
    ]  # fmt: skip
    path = file_of(tmp_path / "d.dbn.zst", *rows, version=version)
    assert ingest(root, [path]).ok
    table = assert_equals_decoder(root, path)
    assert dict(zip(table["contract"].to_pylist(), table["symbol"].to_pylist(), strict=True)) == {
        "ESZ5": "ES", "ESZ5-ESH6": "ES", "ESZ5 C6800": "ES", "SPY   251219P00600000": "SPY",
    }  # fmt: skip
    # The day of the id is that of receipt, the partition's that of the event.
    (receipt,) = (root / "raw" / "_metadata").glob("receipt-*.json")
    told = json.loads(receipt.read_text())
    assert told["symbols"] == {
        DAY.isoformat(): {"17": "ESZ5", "19": "ESZ5-ESH6", "30": "ESZ5 C6800", "31": "SPY   251219P00600000"}
    }
    assert (told["date"], told["schema"]) == (DAY.isoformat(), "definition")
    assert set(table["date"].to_pylist()) == {(DAY - datetime.timedelta(days=3)).isoformat()}


def test_legs_of_a_spread(tmp_path: Path, root: Path) -> None:
    legs = [
        definition(
            3, "ESZ5-ESH6", 19, instrument_class=b"S", leg_count=2, leg_index=i, leg_instrument_id=leg_id,
            leg_raw_symbol=symbol, leg_side=side, leg_instrument_class=b"F", leg_ratio_qty_numerator=1,
            leg_ratio_qty_denominator=1, leg_delta=10**9,
        )
        for i, (leg_id, symbol, side) in enumerate([(17, b"ESZ5", b"B"), (18, b"ESH6", b"A")])
    ]  # fmt: skip
    path = file_of(tmp_path / "d.dbn", *legs)
    assert ingest(root, [path]).ok
    rows = assert_equals_decoder(root, path).to_pylist()
    assert [(r["leg_index"], r["leg_contract"], r["leg_side"], r["leg_instrument_class"]) for r in rows] == [
        (0, "ESZ5", "B", "F"),
        (1, "ESH6", "A", "F"),
    ]


def test_definitions_in_any_order_of_days_come_out_sorted_and_equal(tmp_path: Path, root: Path) -> None:
    """As exchanges send them: a file of one morning whose definitions are days old, in no order."""
    rng = np.random.default_rng(5)
    n = 3000
    rows = np.repeat(definition(3, "X", 1), n)
    products = rng.integers(0, 3, n)
    rows["raw_symbol"] = [f"P{chr(65 + p)}Z5".encode() for p in products]
    rows["instrument_id"] = 1000 + products
    rows["ts_event"] = DAY_NS - rng.integers(0, 8, n) * 6 * HOUR_NS + rng.integers(0, HOUR_NS, n)
    path = write_dbn(tmp_path / "d.dbn.zst", "definition", rows, head=kit.metadata("definition"))
    (file,) = ingest(root, [path]).files
    assert (file.status, file.rows) == ("landed", n)
    seen = 0
    for part in (root / "lake" / "bronze" / "reference" / "definitions").rglob("*.parquet"):
        table = pq.ParquetFile(part).read()
        keys = list(zip(table["ts_event_ns"].to_pylist(), table["ordinal"].to_pylist(), strict=True))
        assert keys == sorted(keys)
        at = table["ordinal"].to_numpy()
        assert (rows["ts_event"][at].astype(np.int64) == table["ts_event_ns"].to_numpy()).all()
        assert [v.decode() for v in rows["raw_symbol"][at].tolist()] == table["contract"].to_pylist()
        seen += len(at)
    assert seen == n
    again = tmp_path / "again"
    ingest(again, [path])
    assert table_digest(bronze(again, SCHEMA)) == table_digest(bronze(root, SCHEMA))


def test_definitions_that_break_the_schema_are_kept_aside(tmp_path: Path, root: Path) -> None:
    good = [definition(3, f"E{i}Z5", 100 + i) for i in range(4)]
    bad = [
        definition(3, "", 5),
        definition(3, "ESZ5", 6, ts_event=1),
        definition(3, "ESZ5", 7, security_update_action=b"?"),
        definition(3, "ESZ5", 8, strike_price=10**18),
        definition(3, "ESZ5", 2**31),
        definition(3, "ESZ5", 9, exchange=b"X\xffME"),
        definition(3, "ESZ5", 10, instrument_class=b"\0"),
    ]
    path = file_of(tmp_path / "d.dbn", *good, *bad)
    (file,) = ingest(root, [path], max_bad=1).files
    assert (file.status, file.rows, file.rejected) == ("landed", 4, 7)
    rejects = [
        row
        for part in sorted(
            (root / "lake" / "bronze" / "_rejects" / "dataset=reference_definitions").rglob("*.parquet")
        )
        for row in pq.ParquetFile(part).read().to_pylist()
    ]
    rules = {r["line_no"]: r["rule"] for r in rejects}
    assert rules == {
        4: "SYMBOL", 5: "TS_RANGE", 6: "ACTION", 7: "PRICE_RANGE", 8: "INSTRUMENT_ID", 9: "ENCODING", 10: "ENUM",
    }  # fmt: skip
    assert all(json.loads(r["raw"])["raw_symbol"] in ("", "ESZ5") for r in rejects)
    (receipt,) = (root / "raw" / "_metadata").glob("receipt-*.json")
    assert set(json.loads(receipt.read_text())["symbols"][DAY.isoformat()]) == {"100", "101", "102", "103"}


# -- ids that a later file doesn't name ----------------------------------------------------------------------------


def unnamed_trades(path: Path, **head: object) -> Path:
    return write_dbn(path, "trades", kit.records("trades", 50), head=kit.metadata("trades", **head))


CONTINUOUS = {"ES.c.0": [(DAY, DAY + datetime.timedelta(days=2), 17)]}


@pytest.mark.parametrize(
    ("head", "stype_in"),
    [({"mappings": {}}, "raw_symbol"), ({"mappings": CONTINUOUS}, "continuous")],
)
def test_definitions_name_what_a_file_does_not(tmp_path: Path, root: Path, head: dict, stype_in: str) -> None:
    trades = unnamed_trades(tmp_path / "t.dbn.zst", **head, stype_in=stype_in)
    (file,) = ingest(root, [trades]).files
    assert file.status == "quarantined"
    assert "land the definitions first" in file.reason or "land these first" in file.reason
    other_day = file_of(tmp_path / "old.dbn", definition(3, "ESU5", 17, ts_recv=DAY_NS - 1))
    ingest(root, [other_day])
    (file,) = ingest(root, [trades]).files
    assert file.status == "quarantined"  # an id means a contract on its day only
    ingest(root, [file_of(tmp_path / "new.dbn", definition(3, "ESZ5", 17))])
    (file,) = ingest(root, [trades]).files
    assert (file.status, file.rows) == ("landed", 50)
    table = bronze(root)
    assert set(table["contract"].to_pylist()) == {"ESZ5"}
    assert set(table["symbol"].to_pylist()) == {"ES"}


def test_the_files_own_names_come_before_definitions(tmp_path: Path, root: Path) -> None:
    ingest(root, [file_of(tmp_path / "d.dbn", definition(3, "NQZ5", 17))])
    ingest(root, [unnamed_trades(tmp_path / "t.dbn.zst")])
    assert set(bronze(root)["contract"].to_pylist()) == {"ESZ5"}


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "XNAS.ITCH"])
def test_definitions_that_contradict_each_other_or_are_of_another_venue_name_nothing(
    tmp_path: Path, root: Path, dataset: str
) -> None:
    ingest(root, [file_of(tmp_path / "a.dbn", definition(3, "ESZ5", 17), dataset=dataset)])
    if dataset == "GLBX.MDP3":
        ingest(root, [file_of(tmp_path / "b.dbn", definition(3, "ESH6", 17))])
    (file,) = ingest(root, [unnamed_trades(tmp_path / "t.dbn.zst", mappings={})]).files
    assert file.status == "quarantined"
    assert "instrument id 17 had no symbol on 2025-12-15" in file.reason


def test_an_id_of_two_contracts_on_one_day_names_nothing(tmp_path: Path, root: Path) -> None:
    path = file_of(
        tmp_path / "d.dbn", definition(3, "ESZ5", 17), definition(3, "ESH6", 17), definition(3, "NQZ5", 18)
    )
    assert ingest(root, [path]).ok
    (receipt,) = (root / "raw" / "_metadata").glob("receipt-*.json")
    assert json.loads(receipt.read_text())["symbols"] == {DAY.isoformat(): {"18": "NQZ5"}}
