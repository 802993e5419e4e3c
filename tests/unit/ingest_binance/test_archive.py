"""Archive files: both units of time, both markets, headers, and every way in which a file isn't what its name says."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import zipfile
from decimal import Decimal

import numpy as np
import pytest

from ingest.binance import opened
from ingest.binance.archive import read_archive
from ingest.binance.elements import Known
from ingest.binance.gaps import Gaps
from ingest.binance.kinds import AGG_TRADES, KLINES
from ingest.binance.opened import check_sum_file, open_recorded
from ingest.binance.tally import Tally
from ingest.errors import RefusedFile
from tests.fixtures.fuzz import bomb_gzip
from tests.unit.ingest_binance.kit import (
    DAY,
    agg_csv,
    agg_rest,
    agg_values,
    bars_csv,
    lines,
    long_form,
    put,
    read,
    zipped,
)

NAME = f"BTCUSDC-aggTrades-{DAY}"
AT = dt.datetime(2024, 12, 1, tzinfo=dt.UTC)


def test_an_archive_day_is_landed_to_the_last_digit(tmp_path):
    rows = read(put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(50)))).rows("agg_trades")
    for i, row in enumerate(rows):
        agg_id, price, quantity, first, last, time, maker, best = agg_values(i)
        assert row == {
            "symbol": "BTCUSDC", "agg_id": agg_id, "price": Decimal(price), "quantity": Decimal(quantity),
            "first_trade_id": first, "last_trade_id": last,
            "exchange_time": dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=time),
            "is_buyer_maker": maker, "is_best_match": best, "market": "spot", "received_at": None, "_extra": None,
        }  # fmt: skip
    assert len(rows) == 50


def test_milliseconds_and_microseconds_are_told_value_by_value(tmp_path):
    mixed = agg_csv(4).splitlines()[:2] + agg_csv(4, unit="us").splitlines()[2:]
    rows = read(put(tmp_path, f"{NAME}.csv", b"\n".join(mixed))).rows("agg_trades")
    micros = [int((row["exchange_time"] - AT) / dt.timedelta(microseconds=1)) for row in rows]
    assert micros == [0, 1_234_000, 2_468_002, 3_702_003]


def test_a_zip_a_csv_and_a_gzip_hold_the_same(tmp_path):
    data = agg_csv(30)
    a = read(put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", data))).rows("agg_trades")
    b = read(put(tmp_path, f"{NAME}.csv", data)).rows("agg_trades")
    c = read(put(tmp_path, f"{NAME}.csv.gz", data)).rows("agg_trades")
    d = read(put(tmp_path, f"{NAME}.crlf.csv", data.replace(b"\n", b"\r\n"))).rows("agg_trades")
    e = read(put(tmp_path, "BTCUSDC-aggTrades.json", lines(agg_rest(30)))).rows("agg_trades")
    assert a == b == c == d == e


@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1 << 20])
def test_where_blocks_end_changes_nothing(tmp_path, block_bytes):
    data = agg_csv(20).replace(b",3000000003,", b",,") + b"\nshort,line\n" + agg_csv(3)[:-1]
    path = put(tmp_path, f"{NAME}.csv", data)
    expected = read(path)
    rejects: list[tuple] = []
    with open_recorded(path) as file:
        tally = Tally(lambda *what: rejects.append(what))
        batches = list(
            read_archive(file.stream, file.layout, Known(symbol="BTCUSDC"), tally, block_bytes=block_bytes)
        )
    assert [row for b in batches for row in b.table.to_pylist()] == expected.rows("agg_trades")
    assert [int(n) for b in batches for n in b.line_no] == expected.line_no["agg_trades"]
    assert rejects == expected.rejects


def test_futures_have_a_header_and_no_best_match(tmp_path):
    path = put(tmp_path, f"{NAME}.csv", agg_csv(5, futures=True, header=True))
    found = read(path)
    assert {(row["market"], row["is_best_match"]) for row in found.rows("agg_trades")} == {("usdm", None)}
    assert found.line_no["agg_trades"] == [2, 3, 4, 5, 6]
    headless = read(put(tmp_path, f"{NAME}.csv", agg_csv(5, futures=True)))
    assert headless.rows("agg_trades") == found.rows("agg_trades")


def test_a_header_gives_the_columns_by_name_and_new_ones_are_kept(tmp_path, caplog):
    data = (
        b"timestamp,agg_trade_id,quantity,price,first_trade_id,last_trade_id,is_buyer_maker,rpi\n"
        b"1733011200000,1,2.5,96000,1,1,true,x y\n"
    )
    (row,) = read(put(tmp_path, f"{NAME}.csv", data)).rows("agg_trades")
    assert (row["price"], row["quantity"], row["_extra"]) == (
        Decimal(96_000),
        Decimal("2.5"),
        '{"rpi":"x y"}',
    )
    assert "rpi" in caplog.text
    with pytest.raises(RefusedFile, match="header lacked price, expected the columns of agg_trades"):
        read(put(tmp_path, f"{NAME}.csv", data.replace(b",price", b",prize")))


def test_a_name_that_says_nothing_is_made_good_by_where_the_words_stand(tmp_path):
    assert (
        len(read(put(tmp_path, "x.csv", agg_csv(5, futures=True)), symbol="BTCUSDC").rows("agg_trades")) == 5
    )
    prints = b"1,96000.5,0.1,9600.05,1733011200000,True,True\n"
    assert len(read(put(tmp_path, "y.csv", prints), symbol="BTCUSDC").rows("prints")) == 1


def test_bars_of_an_archive_are_all_closed(tmp_path):
    for header in (False, True):
        found = read(put(tmp_path, f"BTCUSDC-1m-{DAY}.csv", bars_csv(60, header=header)), "klines")
        rows = found.rows("klines")
        assert len(rows) == 60
        assert rows[0]["volume"] == Decimal("12.5")
        assert rows[0]["quote_volume"] == Decimal("1200018.75")
        assert rows[0]["close_time"] == AT + dt.timedelta(milliseconds=59_999)
        assert {row["bar_interval"] for row in rows} == {"1m"}


def test_the_folders_of_the_vendor_say_the_market(tmp_path):
    um = put(tmp_path / "futures" / "um" / "daily", f"BTCUSDC-1m-{DAY}.csv", bars_csv(2))
    assert {row["market"] for row in read(um, "klines").rows("klines")} == {"usdm"}


def test_single_trades_are_checked_and_not_landed(tmp_path):
    data = b"1,96000.5,0.1,9600.05,1733011200000,True,True\n2,x,0.1,1,1733011200001,True,True\n"
    found = read(put(tmp_path, f"BTCUSDC-trades-{DAY}.csv", data))
    assert len(found.rows("prints")) == 1
    assert [(n, rule) for n, rule, *_ in found.rejects] == [(2, "CAST")]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"1,96000,1,1,1,1733011200000,True", "COLUMN_COUNT"),
        (b"1,96000,1,1,1,1733011200000,True,True,", "COLUMN_COUNT"),
        (b'"1",96000,1,1,1,1733011200000,True,True', "CAST"),
        (b"1,96000,1,1,1,1733011200000,TRUE,True", "CAST"),
        (b"1,96000,1,1,1,1733011200000,1,True", "CAST"),
        (b"1,,1,1,1,1733011200000,True,True", "CAST"),
        (b"1,1e5,1,1,1,1733011200000,True,True", "CAST"),
        (b"0x1,96000,1,1,1,1733011200000,True,True", "CAST"),
        (b"1,96000.123456789,1,1,1,1733011200000,True,True", "DECIMAL_RANGE"),
        (b"1,96000,1,1,1,1733097600000,True,True", "FILE_DATE"),
        (b"1,96000,1,1,1,1733011199999,True,True", "FILE_DATE"),
        (b"1,96000,1,1,1,1733011200,True,True", "TS_RANGE"),
        (b"1,96000,\xff,1,1,1733011200000,True,True", "CAST"),
        (b"1,96000,1\r,1,1,1733011200000,True,True", "CAST"),
    ],
)
def test_a_line_that_breaks_a_rule_is_set_aside_with_its_number(tmp_path, line, rule):
    data = agg_csv(3) + line + b"\n" + agg_csv(5).split(b"\n", 3)[3]
    found = read(put(tmp_path, f"{NAME}.csv", data))
    assert [(n, told, raw) for n, told, _, raw, _ in found.rejects] == [
        (4, rule, line.decode(errors="backslashreplace"))
    ]
    assert found.line_no["agg_trades"] == [1, 2, 3, 5, 6]


def test_numbers_that_need_a_second_look_keep_their_value(tmp_path):
    line = b"0000000000000000000000000000007,0000000000000000000000000000000000000000001.5,1." + b"0" * 50
    line += b",1,1,1733011200000,True,True"
    (row,) = read(put(tmp_path, f"{NAME}.csv", line)).rows("agg_trades")
    assert (row["agg_id"], row["price"], row["quantity"]) == (7, Decimal("1.5"), Decimal(1))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"1,2,3,4,5,6,7\n", "could be of several kinds"),
        ("x.csv", b"1,2\n", "could be of several kinds or of none"),
        (f"{NAME}.csv", bars_csv(3), "first line had 12 values, expected 7 or 8"),
        (f"{NAME}.csv", b"  \n\n", "file was blank"),
        (f"{NAME}.csv", b"\x00\x01\x02,", "neither text nor a zip"),
        (f"{NAME}.csv", b"hello\n", "neither JSON nor CSV"),
        (f"BTCUSDC-7m-{DAY}.csv", bars_csv(3), "expected one of 1s, 1m"),
        ("BTCUSDC-1m-2024-13-01.csv", bars_csv(3), "which has no date"),
        (f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(9))[:-30], "no end record"),
        (
            f"{NAME}.zip",
            zipped(f"ETHUSDC-aggTrades-{DAY}.csv", agg_csv(9)),
            "expected the file that its own name says",
        ),
        (f"{NAME}.zip", zipped(f"../{NAME}.csv", agg_csv(9)), "without a folder"),
        (f"{NAME}.zip", zipped("inner.zip", zipped(f"{NAME}.csv", agg_csv(9))), "expected one CSV"),
        (f"{NAME}.csv.gz", None, "ended early"),
    ],
)
def test_what_is_not_whole_or_not_clear_is_refused_in_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(gzip.compress(agg_csv(5_000))[:-100] if data is None else data)
    with pytest.raises(RefusedFile) as refused:
        read(path, "klines" if "m-2024" in name else "agg_trades")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_zip_of_two_files_is_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", agg_csv(2))
        archive.writestr("b.csv", agg_csv(2))
    with pytest.raises(RefusedFile, match="held 2 files"):
        read(put(tmp_path, f"{NAME}.zip", out.getvalue()))


def test_a_zip_with_the_long_end_record_is_read(tmp_path):
    packed = zipped(f"{NAME}.csv", agg_csv(9))
    assert len(read(put(tmp_path, f"{NAME}.zip", long_form(packed))).rows("agg_trades")) == 9
    with pytest.raises(RefusedFile, match="said it held 4000000000 files"):
        read(put(tmp_path, f"{NAME}.zip", long_form(packed, 4_000_000_000)))


@pytest.mark.realdata
def test_a_real_zip_of_another_vendor_is_refused_for_what_is_in_it(realdata):
    """It has the long end record, and bars of six columns."""
    (path,) = (realdata / "lean" / "crypto" / "binance" / "minute" / "btcbusd").glob("*.zip")
    with pytest.raises(RefusedFile, match="CSV of 6 columns could be of several kinds or of none"):
        read(path)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "RATIO_FROM_BYTES", 1 << 20)
    packed = bomb_gzip(8 << 20)
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress(lines({"result": None, "id": 1})) + packed)
    with pytest.raises(RefusedFile, match="as a bomb does"):
        read(path)
    with pytest.raises(RefusedFile, match="as a bomb does"):
        read(put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", b"0," * (4 << 20))))
    monkeypatch.setattr(opened, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(RefusedFile, match="expected less; split it"):
        read(put(tmp_path, f"{NAME}.csv.gz", agg_csv(20_000)))


def test_a_broken_checksum_inside_a_zip_is_seen(tmp_path):
    packed = bytearray(zipped(f"{NAME}.csv", agg_csv(500)))
    packed[len(packed) // 2] ^= 1
    with pytest.raises(RefusedFile, match="was broken"):
        read(put(tmp_path, f"{NAME}.zip", bytes(packed)))


def test_a_checksum_file_is_compared(tmp_path):
    path = put(tmp_path, f"{NAME}.zip", zipped(f"{NAME}.csv", agg_csv(9)))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert check_sum_file(path, sha256) is False
    neighbour = put(tmp_path, f"{path.name}.CHECKSUM", f"{sha256}  {path.name}\n".encode())
    assert check_sum_file(path, sha256) is True
    neighbour.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(RefusedFile, match=r"as .*CHECKSUM says"):
        check_sum_file(path, sha256)
    neighbour.write_text(f"{sha256}  other.zip\n")
    with pytest.raises(RefusedFile, match=r"was of 'other.zip'"):
        check_sum_file(path, sha256)
    neighbour.write_text("<html>not found</html>")
    with pytest.raises(RefusedFile, match="was no checksum"):
        check_sum_file(path, sha256)


def test_holes_are_found_in_any_order_of_rows(tmp_path):
    data = agg_csv(300, gap_at=100).splitlines()
    expected = None
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(data))
        path = put(tmp_path, f"{NAME}.csv", b"\n".join(data[i] for i in order))
        gaps = Gaps(AGG_TRADES)
        with open_recorded(path) as file:
            found = read_archive(
                file.stream, file.layout, Known(symbol="BTCUSDC"), Tally(), block_bytes=2_000
            )
            for batch in found:
                gaps.add(batch.table)
        holes = gaps.found()
        assert expected in (None, holes)
        expected = holes
    (gap,) = expected
    assert gap.key == {"market": "spot", "symbol": "BTCUSDC"}
    assert (gap.first, gap.last, gap.missing) == (3_000_000_100, 3_000_000_104, 5)
    assert (gap.to_ns - gap.from_ns) == 1_234_000_000
    assert gap.record()["reason"] == "agg_id 3000000100 to 3000000104 missing, 5 in all"


def test_missing_bars_are_holes(tmp_path):
    data = [line for i, line in enumerate(bars_csv(10).splitlines()) if i not in (3, 4)]
    table = read(put(tmp_path, f"BTCUSDC-1m-{DAY}.csv", b"\n".join(data)), "klines").tables["klines"]
    gaps = Gaps(KLINES)
    gaps.add(table)
    (gap,) = gaps.found()
    assert gap.missing == 2
    assert gap.key["bar_interval"] == "1m"
