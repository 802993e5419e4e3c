"""Option tickers: both forms, and every symbol of a real list."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import databento
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.polygon.occ_ticker import BadTicker, OptionTicker, parse, symbol
from tests.unit.ingest_polygon.kit import OPEN_NS, OPTIONS_HEADER
from tests.unit.ingest_polygon.kit import parse as parse_file

TICKERS = st.builds(
    OptionTicker,
    st.from_regex(r"[A-Za-z0-9.]{1,6}", fullmatch=True),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    st.sampled_from("CP"),
    st.integers(0, 99_999_999).map(lambda n: Decimal(n).scaleb(-3)),
)


@given(TICKERS)
def test_what_is_written_is_read_again(ticker: OptionTicker) -> None:
    text = str(ticker)
    assert parse(text) == ticker
    assert parse(text.removeprefix("O:")) == ticker
    padded = ticker.root.ljust(6) + text.removeprefix("O:" + ticker.root)
    assert parse(padded) == ticker


def test_the_documents_example() -> None:
    expected = OptionTicker("SPY", date(2025, 12, 24), "C", Decimal(690))
    assert parse("O:SPY251224C00690000") == parse("SPY   251224C00690000") == expected
    assert symbol("SPY", date(2025, 12, 24), "C", 690_000) == str(expected) == "O:SPY251224C00690000"


@pytest.mark.parametrize(
    "text",
    [
        "", "O:", "SPY", "O:SPY251224C0069000", "O:SPY251224X00690000", "O:SPY251324C00690000",
        "O:SPY250229C00690000", "O:251224C00690000", "SPY 251224C00690000", "SPY   251224C00690000 ",
        "O:SPY251224C006900000000", "O:TOOLONG251224C00690000", "O:SPY٢٥1224C00690000", "o:SPY251224C00690000",
    ],
)  # fmt: skip
def test_what_is_no_ticker_is_told(text: str) -> None:
    with pytest.raises(BadTicker, match="ticker was"):
        parse(text)


@pytest.mark.realdata
def test_every_real_opra_symbol_is_read_alike_everywhere(realdata: Path) -> None:
    path = realdata / "databento" / "nautilus_fixtures" / "definition-opra.dbn.zst"
    # The file's head lists every symbol of the chain; few have records.
    symbols = sorted(databento.DBNStore.from_file(path).metadata.mappings)
    assert len(symbols) == 13_492
    for text in symbols:
        ticker = parse(text)
        assert f"{ticker.root:6}{str(ticker).removeprefix('O:' + ticker.root)}" == text
    lines = [f"{text},209,0,300,1.5,{OPEN_NS},1" for text in symbols]
    parsed = parse_file("\n".join([OPTIONS_HEADER, *lines]), run_rows=1 << 14)
    assert (len(parsed.accepted), parsed.rejected) == (sum(parse(t).root == "SPY" for t in symbols), [])
    assert len(parsed.accepted) > 13_000
    for ordinal, row in parsed.accepted.items():
        expected = parse(symbols[ordinal])
        assert row["option_symbol"] == str(expected)
        assert (row["exp_date"], row["strike"], row["right"]) == (
            expected.expiry,
            expected.strike,
            expected.right,
        )
