"""Recorded JSON: every form lands exactly, and what isn't a row is set aside with its line and rule."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.errors import RefusedFile
from tests.unit.ingest_binance.kit import (
    DAY_MS,
    agg_rest,
    bar_values,
    fill,
    lines,
    put,
    read,
    report,
    ws_agg,
    ws_bar,
)

AT = dt.datetime(2024, 12, 1, tzinfo=dt.UTC)


def one(tmp_path: Path, value: object, dataset: str = "agg_trades", **more: object) -> dict:
    found = read(put(tmp_path, "capture.json", lines(value)), dataset, symbol="BTCUSDC", **more)
    (row,) = found.rows(dataset)
    return row


def rejected(tmp_path: Path, value: object, dataset: str = "agg_trades", **more: object) -> tuple[str, str]:
    found = read(put(tmp_path, "capture.json", lines(value)), dataset, symbol="BTCUSDC", **more)
    assert found.rows(dataset) == []
    ((line_no, rule, reason, _, _),) = found.rejects
    assert line_no == 1
    return rule, reason


def test_an_aggregate_trade_of_a_stream_is_landed_to_the_last_digit(tmp_path):
    data = lines({"stream": "btcusdc@aggTrade", "data": ws_agg(7)}, received_ns=1_733_011_209_123_456_789)
    (row,) = read(put(tmp_path, "capture.gz", data)).rows("agg_trades")
    assert row == {
        "symbol": "BTCUSDC", "agg_id": 3_000_000_007, "price": Decimal("96007.07000000"),
        "quantity": Decimal("0.00008000"), "first_trade_id": 6_000_000_014, "last_trade_id": 6_000_000_015,
        "exchange_time": AT + dt.timedelta(milliseconds=8_638), "is_buyer_maker": False, "is_best_match": False,
        "market": "spot", "received_at": dt.datetime(2024, 12, 1, 0, 0, 9, 123_456, dt.UTC), "_extra": None,
    }  # fmt: skip


def test_a_body_an_event_and_an_archive_row_hold_the_same_trade(tmp_path):
    body = read(put(tmp_path, "BTCUSDC-aggTrades.json", lines(agg_rest(3)))).rows("agg_trades")
    events = read(put(tmp_path, "c.json", lines(*[ws_agg(i) for i in range(3)]))).rows("agg_trades")
    assert body == events


@pytest.mark.parametrize("indent", [None, 1])
def test_bodies_stand_one_a_line_in_a_row_or_over_lines(tmp_path, indent):
    bodies = [agg_rest(4)[:2], agg_rest(4)[2:]]
    text = "\n".join(json.dumps(body, indent=indent) for body in bodies)
    found = read(put(tmp_path, "BTCUSDC-aggTrades.json", text.encode()))
    assert [row["agg_id"] for row in found.rows("agg_trades")] == [3_000_000_000 + i for i in range(4)]


def test_a_broken_body_over_lines_is_refused_whole(tmp_path):
    text = json.dumps(agg_rest(4), indent=1)[:-40]
    with pytest.raises(RefusedFile, match=r"was broken: .* record it again"):
        read(put(tmp_path, "BTCUSDC-aggTrades.json", text.encode()))


def test_a_broken_line_is_set_aside_and_the_others_land(tmp_path):
    data = (
        lines(ws_agg(0))
        + b'{"e":"aggTrade","s":"BTCU\n'
        + lines(ws_agg(2))
        + b'{"e":"aggTrade","a":1,"a":2}\n'
    )
    data += b'{"e":"aggTrade","p":NaN}\n\xff\xfe{}\n' + b"[" * 100_000 + b"\n\n" + lines(ws_agg(3))
    found = read(put(tmp_path, "capture.json", data))
    assert found.line_no["agg_trades"] == [1, 3, 9]
    assert [(line, rule) for line, rule, *_ in found.rejects] == [(n, "JSON") for n in (2, 4, 5, 6, 7)]
    assert "'a' stood twice" in found.rejects[1][2]
    assert "NaN" in found.rejects[2][2]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.1", "1.1"), ("0.1", "0.1"), ("1e-7", "0.0000001"), ("12", "12"), ("123456789012.12345678", None)],
)
def test_a_number_without_quotes_is_exact(tmp_path, text, value):
    raw = json.dumps(ws_agg()).replace('"96000.00000000"', text)
    (row,) = read(put(tmp_path, "capture.json", raw.encode())).rows("agg_trades")
    assert row["price"] == Decimal(value or text)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"p": "1.123456789"}, "DECIMAL_RANGE"),
        ({"p": "1000000000000"}, "DECIMAL_RANGE"),
        ({"p": "0x10"}, "CAST"),
        ({"p": "1e5"}, "CAST"),
        ({"p": "+1"}, "CAST"),
        ({"zz": "\ud800"}, "JSON"),
        ({"p": " 1"}, "CAST"),
        ({"p": "١"}, "CAST"),
        ({"p": None}, "MISSING_COLUMN"),
        ({"p": True}, "CAST"),
        ({"p": "-1"}, "PRICE_RANGE"),
        ({"q": "0.00000000"}, "SIZE"),
        ({"a": "3000000000"}, "CAST"),
        ({"a": 1.0}, "CAST"),
        ({"a": 2**63}, "CAST"),
        ({"a": -1}, "ID_RANGE"),
        ({"f": 9, "l": 8}, "ID_RANGE"),
        ({"m": "true"}, "CAST"),
        ({"m": 1}, "CAST"),
        ({"T": 0}, "TS_RANGE"),
        ({"T": 5_000_000_000_000}, "TS_RANGE"),
        ({"T": 9_223_372_036_854_775_807}, "TS_RANGE"),
        ({"s": "btcusdc"}, "SYMBOL"),
        ({"s": "BTCUSDT_240927"}, "SYMBOL"),
        ({"p": "999999999999", "q": "999999999"}, "NOTIONAL_RANGE"),
        ({"e": "somethingNew"}, "EVENT_TYPE"),
    ],
)
def test_a_value_that_breaks_a_rule_is_rejected_by_it(tmp_path, changed, rule):
    assert rejected(tmp_path, ws_agg(**changed))[0] == rule


def test_an_exponent_beyond_all_bounds_is_no_number_of_ours(tmp_path):
    raw = json.dumps(ws_agg()).replace('"96000.00000000"', "1e99999999999999999999")
    found = read(put(tmp_path, "capture.json", raw.encode()))
    assert [rule for _, rule, *_ in found.rejects] == ["CAST"]


def test_a_notional_just_below_the_limit_lands(tmp_path):
    row = one(tmp_path, ws_agg(p="999999999999.99999999", q="1000000.00000000"))
    assert row["price"] * row["quantity"] < 10**18
    assert rejected(tmp_path, ws_agg(p="100000000000", q="10000000"))[0] == "NOTIONAL_RANGE"


def test_a_field_that_is_gone_is_told_and_a_new_one_is_kept(tmp_path, caplog):
    event = ws_agg(nq="0.5", zz={"b": 1.50, "a": [True, None]})
    assert one(tmp_path, event)["_extra"] == '{"nq":"0.5","zz":{"a":[true,null],"b":1.5}}'
    assert "unknown vendor fields kept in _extra: nq, zz" in caplog.text
    del event["q"]
    assert rejected(tmp_path, event) == ("MISSING_COLUMN", "q (quantity) was not there, expected it")


def test_spot_says_best_match_and_futures_do_not(tmp_path):
    futures = ws_agg()
    del futures["M"]
    assert one(tmp_path, futures)["market"] == "usdm"
    assert one(tmp_path, futures, market="spot")["market"] == "spot"
    assert one(tmp_path, ws_agg())["market"] == "spot"
    assert rejected(tmp_path, ws_agg(), market="usdm")[0] == "MARKET"


def test_only_closed_bars_of_a_stream_land(tmp_path):
    found = read(put(tmp_path, "c.json", lines(ws_bar(0), ws_bar(1, closed=False))), "klines")
    (row,) = found.rows("klines")
    assert (row["open_time"], row["bar_interval"]) == (AT, "1m")
    assert (row["volume"], row["quote_volume"]) == (Decimal("12.5"), Decimal("1200018.75"))
    assert found.tally.filtered == {"open bar": 1}


def test_the_last_bar_of_a_body_is_open_unless_the_time_it_was_asked_for_is_known(tmp_path):
    body = [bar_values(i) for i in range(3)]
    path = put(tmp_path, "BTCUSDC-1m.json", lines(body))
    assert len(read(path, "klines").rows("klines")) == 2
    closes_us = (DAY_MS + 3 * 60_000 - 1) * 1000
    assert len(read(path, "klines", as_of_us=closes_us).rows("klines")) == 2  # close_time < asked, not ≤
    assert len(read(path, "klines", as_of_us=closes_us + 1).rows("klines")) == 3
    timed = put(tmp_path, "BTCUSDC-1m-timed.json", lines(body, received_ns=(closes_us - 90_000_000) * 1000))
    assert len(read(timed, "klines", symbol="BTCUSDC").rows("klines")) == 1


def test_a_later_body_does_not_close_the_bar_of_an_earlier_one(tmp_path):
    half_a_bar = bar_values(1)
    half_a_bar[5] = "1.00000000"
    bodies = [[bar_values(0), half_a_bar], [bar_values(1), bar_values(2)]]
    rows = read(put(tmp_path, "BTCUSDC-1m.json", lines(*bodies)), "klines").rows("klines")
    assert [row["volume"] for row in rows] == [Decimal("12.5"), Decimal("12.5")]


@pytest.mark.parametrize(
    ("place", "value", "rule"),
    [
        (2, "95000", "OHLC"),
        (6, DAY_MS - 1, "ENUM"),
        (5, "-1", "SIZE"),
        (8, 4.5, "CAST"),
        (1, None, "MISSING_COLUMN"),
    ],
)
def test_a_bar_that_breaks_a_rule_is_rejected(tmp_path, place, value, rule):
    bar = bar_values(0)
    bar[place] = value
    found = read(put(tmp_path, "c.json", lines([bar, bar_values(1)])), "klines", symbol="BTCUSDC")
    assert [what[1] for what in found.rejects] == [rule]


def test_an_own_fill_is_landed_with_side_and_account(tmp_path):
    row = one(tmp_path, fill(), "trades", client_id=7)
    assert row["client_id"] == 7
    assert (row["trade_id"], row["order_id"], row["order_list_id"]) == (28457, "100234", None)
    assert (row["side"], row["account_type"], row["is_isolated"]) == ("BUY", "SPOT", None)
    assert row["quote_quantity"] == Decimal("115.20001200")
    assert one(tmp_path, fill(isBuyer=False, orderListId=5), "trades")["side"] == "SELL"
    assert one(tmp_path, fill(orderListId=5), "trades")["order_list_id"] == 5


def test_a_margin_fill_without_quote_quantity_gets_the_exact_product(tmp_path):
    value = fill(isIsolated=True, price="96000.01000001", qty="0.12345678")
    del value["quoteQty"]
    row = one(tmp_path, value, "trades")
    assert row["quote_quantity"] == Decimal("11851.85211457")  # 11851.8521145679345678 at 8 decimals
    assert row["account_type"] == "ISOLATED_MARGIN"
    assert one(tmp_path, fill(isIsolated=False), "trades")["account_type"] == "CROSS_MARGIN"
    assert rejected(tmp_path, fill(isIsolated=True), "trades", account_type="SPOT")[0] == "ACCOUNT_TYPE"


def test_an_execution_report_of_a_trade_is_an_own_fill(tmp_path):
    found = read(
        put(tmp_path, "c.json", lines(report(0), report(1, x="NEW", t=-1), report(2, n="0", N=None))),
        "trades",
    )
    first, free = found.rows("trades")
    assert (first["trade_id"], first["side"], first["price"]) == (77, "SELL", Decimal(96_000))
    assert (first["commission"], first["commission_asset"]) == (Decimal("0.00005"), "BNB")
    assert (free["commission"], free["commission_asset"]) == (Decimal(0), "")
    assert found.tally.filtered == {"executionReport": 1}
    assert rejected(tmp_path, report(N=None), "trades")[0] == "MISSING_COLUMN"


def test_what_is_known_and_not_ours_is_counted(tmp_path):
    data = lines(
        {"u": 1, "s": "BTCUSDC", "b": "1", "B": "1", "a": "2", "A": "1"},
        {"stream": "x@depth", "data": {"e": "depthUpdate", "b": [], "a": []}},
        {"lastUpdateId": 1, "bids": [], "asks": []},
        {"result": None, "id": 1},
        {"e": "trade", "E": 1, "s": "BTCUSDC", "t": 1, "p": "1", "q": "1", "T": DAY_MS, "m": True, "M": True},
        fill(),
    )
    found = read(put(tmp_path, "c.json", data))
    assert found.tally.filtered == {
        "bookTicker": 1, "depthUpdate": 1, "depth snapshot": 1, "answer to a subscription": 1, "trades": 1,
    }  # fmt: skip
    assert len(found.rows("prints")) == 1


def test_a_row_with_a_new_field_is_not_taken_for_something_else(tmp_path):
    assert one(tmp_path, fill(result="x", status=1), "trades")["_extra"] == '{"result":"x","status":1}'
    assert rejected(tmp_path, {"result": None, "id": 1, "price": "1"})[0] == "EVENT_TYPE"


def test_an_error_of_the_vendor_is_no_empty_answer(tmp_path):
    assert rejected(tmp_path, {"code": -1121, "msg": "Invalid symbol."})[0] == "VENDOR_ERROR"


def test_a_line_that_is_too_long_is_cut_out(tmp_path):
    data = lines(ws_agg(0)) + b'{"a":"' + b"x" * (9 << 20) + b'"}\n' + lines(ws_agg(1))
    found = read(put(tmp_path, "c.json", data))
    assert found.line_no["agg_trades"] == [1, 3]
    ((line_no, rule, reason, raw, _),) = found.rejects
    assert (line_no, rule, len(raw)) == (2, "LINE_LENGTH", 65_536)
    assert "9,437,192 bytes" in reason


def test_an_empty_file_has_no_rows(tmp_path):
    assert read(put(tmp_path, "BTCUSDC-aggTrades.json", b"[]\n")).tally.records == 0
    assert read(put(tmp_path, "empty.gz", b"")).tally.records == 0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "total", "filtered"),
    [
        ("spot_btcusdt_20240809", 58_325, {"bookTicker": 45_134, "depthUpdate": 3_044}),
        ("usdm_btcusdt_20240808", 93_954, {"bookTicker": 66_089, "depthUpdate": 6_551, "depth snapshot": 1}),
    ],
)
def test_every_line_of_a_real_capture_is_accounted_for(realdata, name, total, filtered):
    """They hold single trades, no aggregate ones: all are checked, none is landed."""
    found = read(realdata / "binance" / "hftbacktest" / f"{name}.gz")
    assert found.tally.records == total
    assert found.tally.filtered == filtered
    assert found.tally.rejected == 0
    assert len(found.rows("prints")) == total - sum(filtered.values())
