"""Archive CSV to batches of rows, a block of the file at a time.

The vendor writes plain comma-separated ASCII without quotes. A line with another number of values, with bytes
beyond ASCII or with a carriage return in it is set aside; what is left is split by Arrow, all as text.
Source: spec/execution.md 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from ingest.binance.cells import Cell, Cells, cast
from ingest.binance.elements import Known, Problem, interval_of
from ingest.binance.kinds import AGG_TRADES, KLINES, PRINTS, Kind
from ingest.binance.lines import BLOCK_BYTES, Block, line_blocks
from ingest.binance.strict_json import encode
from ingest.binance.tally import Batch, Tally
from ingest.errors import RefusedFile

LONGEST_LINE = 65_536

# The vendor's columns in order, each with the names that headers give it, without punctuation and case.
_AGG = (
    ("agg_id", "aggtradeid", "aggid", "a"),
    ("price", "price", "p"),
    ("quantity", "quantity", "qty", "q"),
    ("first_trade_id", "firsttradeid", "firstid", "f"),
    ("last_trade_id", "lasttradeid", "lastid", "l"),
    ("exchange_time", "transacttime", "timestamp", "time", "t"),
    ("is_buyer_maker", "isbuyermaker", "buyermaker", "wasthebuyerthemaker", "m"),
    ("is_best_match", "isbestmatch", "bestmatch", "wasthetradethebestpricematch"),
)
_BARS = (
    ("open_time", "opentime"),
    ("open", "open"),
    ("high", "high"),
    ("low", "low"),
    ("close", "close"),
    ("volume", "volume", "basevolume"),
    ("close_time", "closetime"),
    ("quote_volume", "quotevolume", "quoteassetvolume"),
    ("trade_count", "count", "tradecount", "numberoftrades", "trades"),
    ("taker_buy_base", "takerbuyvolume", "takerbuybasevolume", "takerbuybaseassetvolume", "takerbuybase"),
    ("taker_buy_quote", "takerbuyquotevolume", "takerbuyquoteassetvolume", "takerbuyquote"),
    ("", "ignore"),
)
_PRINTS = (
    ("trade_id", "id", "tradeid"),
    ("price", "price"),
    ("quantity", "qty", "quantity"),
    ("quote_quantity", "quoteqty", "quotequantity", "basecurrencyqty"),
    ("exchange_time", "time", "timestamp"),
    ("is_buyer_maker", "isbuyermaker", "buyermaker"),
    ("is_best_match", "isbestmatch", "bestmatch"),
)
_COLUMNS = {AGG_TRADES.name: _AGG, KLINES.name: _BARS, PRINTS.name: _PRINTS}
# Futures have no best match; nothing else may be left out.
_LAST_OPTIONAL = {AGG_TRADES.name: 1, KLINES.name: 0, PRINTS.name: 1}
_WORDS = frozenset({"True", "true", "False", "false"})
_NEWLINE, _COMMA, _RETURN = 10, 44, 13


@dataclass(frozen=True)
class Layout:
    """What stands in which place: a column of ours, "" for what is ignored, or ``+name`` for an unknown one."""

    kind: Kind
    places: tuple[str, ...]
    has_header: bool


def layout_of(first_line: str, kind: Kind | None) -> Layout | None:
    """The layout that the first line shows; None when it fits no kind or, with no ``kind`` named, several.

    Raises RefusedFile with the difference when a header lacks a column of ``kind``, or a headless line of it
    has another number of values.
    """
    values = first_line.rstrip("\r\n").split(",")
    has_header = re.fullmatch(r"-?\d+", values[0].strip()) is None
    kinds = [kind] if kind else [AGG_TRADES, KLINES, PRINTS]
    found = []
    for candidate in kinds:
        layout = _by_header(values, candidate) if has_header else _by_count(len(values), candidate)
        if isinstance(layout, Layout):
            if kind or has_header or _fits(values, layout):
                found.append(layout)
        elif kind:
            raise RefusedFile(layout)
    return found[0] if len(found) == 1 else None


def _by_count(count: int, kind: Kind) -> Layout | str:
    names = tuple(column[0] for column in _COLUMNS[kind.name])
    least = len(names) - _LAST_OPTIONAL[kind.name]
    if not least <= count <= len(names):
        several = f"{least} or {len(names)}" if least < len(names) else f"{least}"
        return f"first line had {count} values, expected {several} as {kind.name} have; check what the file holds"
    return Layout(kind, names[:count], has_header=False)


def _fits(values: list[str], layout: Layout) -> bool:
    """Whether the words of a headless line stand where the kind has them: a count alone says little."""
    words = {place for place in layout.places if place.startswith("is_")}
    return all(
        (value in _WORDS) == (place in words) for value, place in zip(values, layout.places, strict=True)
    )


def _by_header(names: list[str], kind: Kind) -> Layout | str:
    columns = _COLUMNS[kind.name]
    known = {alias: column for column, *aliases in columns for alias in aliases}
    known |= {column.replace("_", ""): column for column, *_ in columns if column}
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    places = tuple(
        known.get(name, f"+{given.strip()[:60]}") for name, given in zip(plain, names, strict=True)
    )
    needed = [column for column, *_ in columns[: len(columns) - _LAST_OPTIONAL[kind.name]] if column]
    missing = [column for column in needed if column not in places]
    twice = sorted({place for place in places if place and places.count(place) > 1})
    if missing or twice:
        what = f"lacked {', '.join(missing)}" if missing else f"named {', '.join(twice)} twice"
        return f"header {what}, expected the columns of {kind.name} once each; check what the file holds"
    return Layout(kind, places, has_header=True)


def read_archive(
    stream: BinaryIO,
    layout: Layout,
    known: Known,
    tally: Tally,
    *,
    span: tuple[int, int] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Batch]:
    """Batches of the rows of ``stream`` in file order; lines that aren't rows go to ``tally``.

    ``span`` is what the name promises, in µs: a row outside of it is rejected.
    """
    fixed = _Fixed(layout, known)
    unknown = [place for place in layout.places if place.startswith("+")]
    if unknown:
        tally.drift({name[1:] for name in unknown})
    for block in line_blocks(stream, longest=LONGEST_LINE, block_bytes=block_bytes):
        if block.is_too_long:
            tally.records += 1
            reason = f"line had {block.length:,} bytes, expected at most {LONGEST_LINE:,}"
            tally.reject(block.line_no, "LINE_LENGTH", reason, _lossy(block.data))
            continue
        if layout.has_header and block.line_no == 1:
            header = block.data.find(b"\n") + 1 or len(block.data)
            yield from _block(Block(2, block.data[header:]), layout, fixed, tally, span)
        else:
            yield from _block(block, layout, fixed, tally, span)


def _block(
    block: Block, layout: Layout, fixed: _Fixed, tally: Tally, span: tuple[int, int] | None
) -> Iterator[Batch]:
    data = block.data.replace(b"\r\n", b"\n") if b"\r" in block.data else block.data
    if not data:
        return
    if not data.endswith(b"\n"):
        data += b"\n"
    width = len(layout.places)
    lines = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(lines == _NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    commas = np.flatnonzero(lines == _COMMA)
    counts = np.searchsorted(commas, ends) - np.searchsorted(commas, starts) + 1
    line_no = block.line_no + np.arange(len(ends))
    blank = ends == starts
    fits = counts == width
    if b"\r" in data or not data.isascii():
        odd = np.flatnonzero((lines >= 128) | (lines == _RETURN))
        fits[np.searchsorted(ends, odd)] = False
    tally.records += len(ends) - int(blank.sum())
    for i in np.flatnonzero(~fits & ~blank).tolist():
        text = _lossy(data[starts[i] : ends[i]])
        if counts[i] != width:
            reason = f"line had {counts[i]} values, expected {width}"
            tally.reject(int(line_no[i]), "COLUMN_COUNT", reason, text)
        else:
            reason = "line had bytes that no number or word has, expected plain ASCII"
            tally.reject(int(line_no[i]), "CAST", reason, text)
    if not fits.all():
        data = b"".join(data[starts[i] : ends[i] + 1] for i in np.flatnonzero(fits).tolist())
        line_no = line_no[fits]
    if not data:
        return
    names = [str(place) for place in range(width)]
    table = pa_csv.read_csv(
        pa.py_buffer(data),
        pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        pa_csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    )
    if table.num_rows != len(line_no):  # would be a wrong line number for every row behind
        raise RefusedFile(
            f"{len(line_no)} lines gave {table.num_rows} rows, expected one each; report this file"
        )
    columns = [column.combine_chunks() for column in table.columns]
    cells: dict[str, Cell] = {
        place: column
        for place, column in zip(layout.places, columns, strict=True)
        if place and place[0] != "+"
    }
    unknown = {
        place[1:]: column for place, column in zip(layout.places, columns, strict=True) if place[:1] == "+"
    }
    cells |= fixed.cells(cells)
    extra = None
    if unknown:
        rows = zip(*(column.to_pylist() for column in unknown.values()), strict=True)
        extra = [encode(dict(zip(unknown, row, strict=True))) for row in rows]
    row_starts = np.concatenate(([0], np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1))

    def raw(i: int) -> str:
        return data[row_starts[i] : row_starts[i + 1] - 1].decode()

    yield cast(Cells(layout.kind, cells, line_no, raw, extra), tally, span=span)


class _Fixed:
    """The columns that the file's name or its caller gives to every row."""

    def __init__(self, layout: Layout, known: Known) -> None:
        self.layout, self.known, self.interval = layout, known, known.interval

    def cells(self, columns: dict[str, Cell]) -> dict[str, Cell]:
        fixed: dict[str, Cell] = {"symbol": self.known.symbol}
        match self.layout.kind.name:
            case AGG_TRADES.name:
                told = "spot" if "is_best_match" in columns else "usdm"
                fixed["market"] = self.known.market or told
            case KLINES.name:
                fixed["market"] = self.known.market or "spot"
                fixed["bar_interval"] = self.interval or self._intervals(columns)
        return fixed

    def _intervals(self, columns: dict[str, Cell]) -> Cell:
        """Each bar's own interval; a bar of none keeps an empty name, which no bar may have."""
        found = []
        for start, end in zip(
            columns["open_time"].to_pylist(), columns["close_time"].to_pylist(), strict=True
        ):
            try:
                found.append(interval_of(start, end))
            except Problem:
                found.append("")
        return found


def _lossy(line: bytes) -> str:
    return line.decode(errors="backslashreplace")
