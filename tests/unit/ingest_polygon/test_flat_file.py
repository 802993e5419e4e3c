"""What becomes of each kind of line, header and file."""

import gzip
import logging
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.errors import RefusedFile
from ingest.polygon.gzip_lines import text_blocks
from tests.fixtures.fuzz import bomb_gzip
from tests.unit.ingest_polygon.kit import (
    HOUR_NS,
    OPEN_NS,
    OPTIONS,
    OPTIONS_HEADER,
    STOCKS,
    STOCKS_HEADER,
    packed,
    parse,
)  # fmt: skip

GOOD = f"O:SPY251224C00690000,209,0,300,0.86,{OPEN_NS + 7},1"


def option(**values: str) -> str:
    """A good line with these values in their columns."""
    fields = dict(zip(OPTIONS_HEADER.split(","), GOOD.split(","), strict=True))
    return ",".join((fields | values).values())


def one(line: str, header: str = OPTIONS_HEADER) -> tuple[dict | None, str | None]:
    """The row or the rule of a line that stands between good ones."""
    more = "," * (header.count(",") - OPTIONS_HEADER.count(","))
    good = GOOD + more
    parsed = parse("\n".join([header, good, line, good, good]) + "\n")
    assert parsed.file.lines == 4
    if parsed.rejected:
        ((number, rule, raw),) = parsed.rejected
        assert (number, raw) == (3, line)
        return None, rule
    return parsed.accepted.get(1), None


def test_options_golden() -> None:
    parsed = parse(OPTIONS)
    assert parsed.rejected == []
    assert (parsed.file.lines, parsed.file.filtered) == (8, 3)
    assert list(parsed.accepted) == [5, 2, 3, 4, 1]  # by time, then by line
    first = {
        "ts_event_ns": OPEN_NS + HOUR_NS, "ts_recv_ns": None, "source": "polygon_flatfile",
        "delivery_id": "0123456789abcdef", "_extra": None, "option_symbol": "O:SPY251224C00690000",
        "exp_date": date(2025, 12, 24), "strike": Decimal("690.000"), "right": "C",
        "price": Decimal("0.850000000"), "size": 10, "opt_bid": None, "opt_ask": None, "aggressor": 0,
        "exchange": 312, "conditions": [209], "sequence": None, "correction": 0,
    }  # fmt: skip
    assert parsed.accepted[1] == first
    # nothing where nothing stood; padded OCC is brought to the vendor's form
    assert parsed.accepted[2]["conditions"] is None
    assert parsed.accepted[2]["correction"] is None
    assert parsed.accepted[5]["option_symbol"] == "O:SPY260116C00700000"
    assert (parsed.accepted[5]["exchange"], parsed.accepted[5]["price"]) == (None, 0)
    # identical prints are genuine
    same = [parsed.accepted[n] for n in (3, 4)]
    assert same[0] == same[1]
    assert same[0]["conditions"] == [209, 233]
    assert same[0]["price"] == Decimal("1.230000001")


def test_stocks_golden() -> None:
    parsed = parse(STOCKS)
    assert parsed.rejected == []
    assert (parsed.file.lines, parsed.file.filtered) == (6, 3)
    assert parsed.accepted[2] == {
        "ts_event_ns": OPEN_NS + 20, "ts_recv_ns": OPEN_NS - 400, "source": "polygon_flatfile",
        "delivery_id": "0123456789abcdef", "_extra": None, "price": Decimal("690.120000000"),
        "size": Decimal("0.500000"), "exchange": 4, "conditions": [12, 37], "sequence": 2001,
        "trade_id": "52983", "correction": 0,
    }  # fmt: skip
    assert parsed.accepted[4]["trade_id"] == 'a"b, c'
    assert (parsed.accepted[3]["trade_id"], parsed.accepted[3]["ts_recv_ns"]) == (None, None)


@pytest.mark.parametrize("ticker", ["NA", "NULL", "nan"])
def test_tickers_that_look_like_nothing_are_tickers(ticker: str) -> None:
    parsed = parse(STOCKS, wanted=(ticker,))
    assert len(parsed.accepted) == 1


QUOTED_HEADER = OPTIONS_HEADER + ",bid_price,ask_price"


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        ("0.84", "0.87", (Decimal("0.84"), Decimal("0.87"))),
        ("0.85", "0.85", (Decimal("0.85"), Decimal("0.85"))),  # locked, not crossed
        ("0", "0.05", (0, Decimal("0.05"))),
        ("", "0.87", (None, Decimal("0.87"))),
        ("0.84", "", (Decimal("0.84"), None)),
        ("", "", (None, None)),
        ("0.850000001", "0.85", "CROSSED_NBBO"),
        ("0.05", "0", "CROSSED_NBBO"),
        ("-0.01", "0.05", "PRICE_RANGE"),
        ("0.01", "1000000000", "PRICE_RANGE"),
        ("x", "0.05", "CAST"),
        ("0.01", "0.0000000001", "CAST"),
    ],
)
def test_a_quote_beside_an_option_print_is_kept_and_never_crossed(
    bid: str, ask: str, expected: tuple | str
) -> None:
    row, rule = one(f"{GOOD},{bid},{ask}", QUOTED_HEADER)
    assert (rule or (row["opt_bid"], row["opt_ask"])) == expected
    assert row is None or row["_extra"] is None


def test_a_crossed_quote_is_told_with_both_its_sides(tmp_path: Path) -> None:
    parsed = parse(f"{QUOTED_HEADER}\n{GOOD},0.9,0.8\n")
    assert parsed.file.broken == {("CROSSED_NBBO", "ask_price"): 1}
    (reason,) = parsed.file._examples.values()
    assert reason == "ask_price was '0.8', expected at least the bid_price of its line"


def test_a_quote_column_of_stock_trades_is_one_that_bronze_does_not_know() -> None:
    more = STOCKS.replace("trf_timestamp\n", "trf_timestamp,bid_price\n").replace("0,0\n", "0,0,9\n")
    (row,) = parse(more, wanted=("NA",)).accepted.values()
    assert row["_extra"] == {"bid_price": "9"}


def test_columns_are_found_by_name_in_any_order() -> None:
    rows = [dict(zip(OPTIONS_HEADER.split(","), line.split(","), strict=True)) for line in [GOOD] * 3]
    names = ["size", "price", "ticker", "sip_timestamp", "exchange", "conditions", "correction"]
    text = "\n".join([",".join(names), *(",".join(r[n] for n in names) for r in rows)])
    assert parse(text).accepted == parse(f"{OPTIONS_HEADER}\n" + f"{GOOD}\n" * 3).accepted


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (option(ticker="O:SPY251224X00690000"), "TICKER"),
        (option(ticker="O:SPY251324C00690000"), "TICKER"),
        (option(ticker="O:SPY250229C00690000"), "TICKER"),
        (option(ticker="O:SPY251224C0069000"), "TICKER"),
        (option(ticker="O:251224C00690000"), "TICKER"),
        (option(ticker="SPY    251224C00690000"), "TICKER"),
        (option(ticker=""), "TICKER"),
        (option(ticker="NULL"), "TICKER"),
        (option(ticker="O:AAPL251324C00690000"), "TICKER"),
        (option(price=""), "CAST"),
        (option(price="nan"), "CAST"),
        (option(price="1e-2"), "CAST"),
        (option(price="0.1234567891"), "CAST"),
        (option(price=" 1"), "CAST"),
        (option(price="1."), "CAST"),
        (option(price="-0.01"), "PRICE_RANGE"),
        (option(price="1000000000"), "PRICE_RANGE"),
        (option(price="9" * 40), "PRICE_RANGE"),
        (option(sip_timestamp=""), "CAST"),
        (option(sip_timestamp="1.7665866e18"), "CAST"),
        (option(sip_timestamp=f"{OPEN_NS}.0"), "CAST"),
        (option(sip_timestamp="946684800000000000"), "TS_RANGE"),
        (option(sip_timestamp="4102444800000000000"), "TS_RANGE"),
        (option(sip_timestamp="9" * 25), "TS_RANGE"),
        (option(sip_timestamp=f"-{OPEN_NS}"), "CAST"),
        (option(size="0"), "SIZE"),
        (option(size="-1"), "SIZE"),
        (option(size="1.5"), "SIZE"),
        (option(size="2147483648"), "SIZE"),
        (option(size="many"), "CAST"),
        (option(exchange="32768"), "CAST"),
        (option(exchange="-1"), "CAST"),
        (option(correction="5"), "ENUM"),
        (option(correction="x"), "CAST"),
        (option(conditions='"209,"'), "CAST"),
        (option(conditions='"209,,233"'), "CAST"),
        (option(conditions="40000"), "CAST"),
        (option(conditions='"209,233'), "QUOTE"),
        (option(conditions='"209"233'), "QUOTE"),
        (option(price='1"'), "QUOTE"),
        (GOOD + ",", "COLUMN_COUNT"),
        (GOOD.rsplit(",", 1)[0], "COLUMN_COUNT"),
        ("", "COLUMN_COUNT"),
        (option(price="1\r"), "CAST"),
    ],
)
def test_a_line_that_breaks_a_rule_is_kept_aside(line: str, rule: str) -> None:
    assert one(line) == (None, rule)


@pytest.mark.parametrize(
    ("line", "column", "value"),
    [
        (option(size="5.000"), "size", 5),
        (option(size="2147483647"), "size", 2**31 - 1),
        (option(price="0"), "price", 0),
        (option(price="0.1234567890000"), "price", Decimal("0.123456789")),
        (option(price="999999999.999999999"), "price", Decimal("999999999.999999999")),
        (option(sip_timestamp="946684800000000001"), "ts_event_ns", 946_684_800_000_000_001),
        (option(sip_timestamp="1766586600000000129"), "ts_event_ns", 1_766_586_600_000_000_129),
        (option(ticker="O:SPY280229P00000500"), "strike", Decimal("0.5")),
        (option(ticker="SPY991231P99999999"), "strike", Decimal("99999.999")),
        (option(conditions='"1,2,3"'), "conditions", [1, 2, 3]),
        (option(conditions='""'), "conditions", None),
        (option(correction='"7"'), "correction", 7),
    ],
)
def test_a_line_at_the_edge_of_a_rule_is_exact(line: str, column: str, value: object) -> None:
    row, rule = one(line)
    assert rule is None
    assert row[column] == value


@pytest.mark.parametrize("root", ["SPY1", "SP", "SPYX", "spy", "BSPY", "S.PY"])
def test_the_root_is_compared_exactly(root: str) -> None:
    assert one(option(ticker=f"O:{root}251224C00690000")) == (None, None)  # neither landed nor rejected


@pytest.mark.parametrize(
    ("size", "exact", "expected"),
    [
        ("5", "", 5),
        ("5", "5.0", 5),
        ("5", "7", 7),
        ("5", "5.5", "SIZE"),
        ("x", "5", "CAST"),
        ("5", "y", "CAST"),
    ],
)
def test_the_exact_size_counts_where_it_is_given(size: str, exact: str, expected: object) -> None:
    row, rule = one(option(size=size) + f",{exact}", OPTIONS_HEADER + ",decimal_size")
    assert (rule or row["size"]) == expected


def test_stock_sizes_keep_six_decimals_and_no_more() -> None:
    line = f"SPY,,0,4,1,{OPEN_NS},690.12,1,{OPEN_NS},{{}},1,0,0"
    sizes = ["0.000001", "0.0000001", "0", "-1", "999999999999.999999", "1000000000000"]
    parsed = parse("\n".join([STOCKS_HEADER, *map(line.format, sizes), *[line.format("1")] * 6]))
    assert [(n, rule) for n, rule, _ in parsed.rejected] == [
        (3, "SIZE"),
        (4, "SIZE"),
        (5, "SIZE"),
        (7, "SIZE"),
    ]
    assert parsed.accepted[0]["size"] == Decimal("0.000001")
    assert parsed.accepted[4]["size"] == Decimal("999999999999.999999")


def test_bytes_that_are_no_text_are_kept_aside() -> None:
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x00"):
        line = b"SPY,,0,4," + bad + f",{OPEN_NS},690.12,1,{OPEN_NS},1,1,0,0".encode()
        good = line.replace(bad, "é€😀".encode())
        parsed = parse(b"\n".join([STOCKS_HEADER.encode(), good, line, good, b""]))
        assert parsed.rules == ["ENCODING"]
        assert parsed.accepted[0]["trade_id"] == "é€😀"


@pytest.mark.parametrize("block_bytes", [64, 1 << 12, 1 << 17, 1 << 22])
@pytest.mark.parametrize("length", [65_536, 65_537, 300_000])
def test_a_line_above_the_limit_costs_no_other(length: int, block_bytes: int) -> None:
    line = GOOD + "9" * (length - len(GOOD))
    parsed = parse(f"{OPTIONS_HEADER}\n{GOOD}\n{line}\r\n{GOOD}\n{GOOD}\n", block_bytes=block_bytes)
    ((number, rule, raw),) = parsed.rejected
    assert number == 3
    assert list(parsed.accepted) == [0, 2, 3]
    if length > 65_536:
        assert (rule, raw) == ("LINE_LENGTH", f"{line[:4096]}… ({length + 1} bytes)")
    else:
        assert rule == "SIZE"


@pytest.mark.parametrize("block_bytes", [64, 100, 1000, 1 << 22])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_marks_and_blocks_change_nothing(
    block_bytes: int, end: str, start: str, last: bool
) -> None:
    text = start + OPTIONS.replace("\n", end)
    text = text if last else text.removesuffix(end)
    assert parse(text, block_bytes=block_bytes).accepted == parse(OPTIONS).accepted


def test_a_new_column_is_kept_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        row, rule = one(GOOD + ',"x, ""y""",', OPTIONS_HEADER + ",venue_note,more")
    assert rule is None
    assert row["_extra"] == {"venue_note": 'x, "y"', "more": ""}
    assert "columns=venue_note, more" in caplog.text


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (OPTIONS_HEADER.replace(",price", ""), "missing: price"),
        (OPTIONS_HEADER.replace("sip_timestamp", "timestamp"), "missing: sip_timestamp"),
        (STOCKS_HEADER.replace(",id", ""), "missing: id"),
        (OPTIONS_HEADER + ",price", "twice: price"),
        (GOOD, "missing: ticker"),
        ("", "missing: ticker"),
        ('"a', "expected column names"),
        ("ticker\x01", "expected column names"),
    ],
)
def test_a_header_that_lacks_a_column_refuses_the_file(header: str, told: str) -> None:
    with pytest.raises(RefusedFile, match=told):
        parse(f"{header}\n{GOOD}\n")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sip_timestamp": "2025-12-24T14:30:00Z"}, "column sip_timestamp had another type in 4 of 5"),
        ({"sip_timestamp": str(OPEN_NS // 10**6)}, "column sip_timestamp had another type in 4 of 5"),
        ({"price": "USD 1"}, "column price had another type in 4 of 5"),
        ({"conditions": "[209]"}, "column conditions had another type in 4 of 5"),
    ],
)
def test_a_column_of_another_type_refuses_the_file(values: dict, told: str) -> None:
    with pytest.raises(RefusedFile, match=told):
        parse("\n".join([OPTIONS_HEADER, GOOD, *[option(**values)] * 4]))


def test_a_header_alone_is_a_file_without_rows_and_nothing_is_not() -> None:
    parsed = parse(f"{OPTIONS_HEADER}\n")
    assert (parsed.file.lines, parsed.accepted, parsed.rejected) == (0, {}, [])
    with pytest.raises(RefusedFile, match="file began with nothing"):
        parse("")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "expected 1f8b"),
        (OPTIONS.encode(), "expected 1f8b"),
        (packed(OPTIONS)[:-1], "was cut"),
        (packed(OPTIONS)[:-20], "was cut"),
        (packed(OPTIONS)[:-8] + bytes(8), "was damaged"),
        (packed(OPTIONS) + b"\0", "followed by"),
        (packed(OPTIONS) + packed(OPTIONS)[:30], "was cut"),
        (bomb_gzip(32 << 20), "more than"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(RefusedFile, match=told):
        parse("", data=data)


def test_members_of_one_file_are_read_as_one_text() -> None:
    half = len(OPTIONS) // 2
    assert parse("", data=packed(OPTIONS[:half]) + packed(OPTIONS[half:])).accepted == parse(OPTIONS).accepted


def test_what_a_file_unpacks_to_is_bounded_by_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(OPTIONS.encode() * 100))
    with pytest.raises(RefusedFile, match="more than 1,000 bytes"):
        list(text_blocks(path, max_bytes=1000))
    assert sum(len(b) for b in text_blocks(path)) == len(OPTIONS) * 100
