"""A flat file of trades, `csv.gz` with a header, to sorted bronze files and rejects.

Every line is accepted, rejected with its number, rule and raw text, or filtered because its ticker is none of
the wanted ones; the three add up to the lines read.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ingest.bronze_schema import TS_EVENT_MAX_NS, TS_EVENT_MIN_NS
from ingest.bronze_writer import BronzeFile
from ingest.errors import RefusedFile
from ingest.polygon.gzip_lines import KEPT_BYTES, LongLine
from ingest.polygon.layout import Kind, Layout, listed, read_header
from ingest.polygon.line_kernel import (
    BYTE_CLASSES,
    CORRECTION_CODES,
    LINE_LENGTH,
    MAX_LINE_BYTES,
    RULES,
    Rejects,
    parse_lines,
)  # fmt: skip
from ingest.polygon.sorted_rows import EXTRA_BYTES, SortedRows
from ingest.rejects import RejectFile, RejectWriter

log = logging.getLogger(__name__)

_REJECTS_AT_ONCE = 4096
RETYPED_SHARE = 0.5  # a column that more lines than this break has another type, and no line can be trusted
_LEAST_ROWS = 2  # one bad line of one says nothing about its column
_CLIP = 60
UNDATED = "1970-01-01"  # of a reject when neither its line nor its file says a date

_EXPECTED = {
    ("CAST", "price"): "digits with at most 9 decimals",
    ("CAST", "bid_price"): "digits with at most 9 decimals",
    ("CAST", "ask_price"): "digits with at most 9 decimals",
    ("PRICE_RANGE", "bid_price"): "at least 0 and below a thousand million",
    ("PRICE_RANGE", "ask_price"): "at least 0 and below a thousand million",
    ("CROSSED_NBBO", "ask_price"): "at least the bid_price of its line",
    ("CAST", "conditions"): "nothing, or whole numbers below 32768 between commas",
    ("CAST", "sip_timestamp"): "whole nanoseconds",
    ("CAST", "participant_timestamp"): "whole nanoseconds",
    ("CAST", "size"): "a number",
    ("CAST", "decimal_size"): "a number",
    ("CAST", "exchange"): "a whole number below 32768",
    ("CAST", "correction"): "a whole number",
    ("CAST", "sequence_number"): "a whole number below 2^63",
    ("TS_RANGE", ""): "nanoseconds of the years 2000 to 2099",
    ("ENUM", "correction"): f"one of {', '.join(map(str, CORRECTION_CODES))}",
}


class FlatFile:
    """Takes the blocks of one file (``parse``) and gives its files and rejects (``finish``).

    ``accepted`` + ``rejected`` + ``filtered`` = ``lines``, the lines after the header. ``kind`` is taken from
    the header when it isn't given. ``date`` (ISO) is the file's own, for rejects whose time can't be read.
    ``raw_line`` gives the raw text of a line by its ordinal, where the lines were made of another text.
    ``run_rows``, ``merge_rows`` and ``row_group_rows`` bound memory, see `SortedRows`.
    """

    def __init__(
        self,
        wanted: list[str],
        *,
        source: str,
        delivery_id: str,
        stage: Path,
        source_file: str,
        kind: Kind | None = None,
        date: str | None = None,
        raw_line: Callable[[int], str] | None = None,
        **bounds: int,
    ) -> None:
        self.wanted = sorted(set(wanted))
        self.source, self.delivery_id, self.stage = source, delivery_id, stage
        self.source_file, self.kind, self.date = source_file, kind, date
        self.layout: Layout | None = None
        self.lines = self.accepted = self.filtered = 0
        self.broken: Counter[tuple[str, str]] = Counter()  # rejects by (rule, column)
        self._examples: dict[tuple[str, str], str] = {}
        self._bounds = bounds
        self._raw_line = raw_line
        self.rows: SortedRows | None = None
        self.rejects: RejectWriter | None = None

    @property
    def rejected(self) -> int:
        return 0 if self.rejects is None else self.rejects.rows

    @property
    def by_rule(self) -> dict[str, int]:
        return {} if self.rejects is None else dict(sorted(self.rejects.by_rule.items()))

    @property
    def ts_span(self) -> tuple[int | None, int | None]:
        """First and last ``ts_event_ns`` of the accepted rows, after ``finish``."""
        return self.rows.ts_min_ns, self.rows.ts_max_ns

    @staticmethod
    def kind_of(first: bytes | LongLine | None) -> Kind:
        """The kind that the header in a file's first block says. Raises RefusedFile as ``parse`` does."""
        return _header(first, None)[0].kind

    def parse(self, blocks: Iterator[bytes | LongLine]) -> None:
        """Read all lines. Raises RefusedFile when the header or a whole column isn't what is expected."""
        layout, rest = _header(next(blocks, None), self.kind)
        self._open(layout)
        if rest:
            self._parse_block(rest)
        del rest
        for block in blocks:
            if isinstance(block, LongLine):
                self._reject_long(self.lines, block.start, block.bytes)
                self.lines += 1
            else:
                self._parse_block(block)
        self._require_columns()

    def finish(self) -> tuple[list[BronzeFile], list[RejectFile]]:
        """The finished files of the delivery in the stage."""
        files = self.rows.finish()
        written = sum(f.rows for f in files)
        if written != self.accepted or self.accepted + self.rejected + self.filtered != self.lines:
            raise AssertionError(
                f"rows were {written} written, {self.accepted} accepted, {self.rejected} rejected and "
                f"{self.filtered} filtered, expected them to add up to the {self.lines} lines read"
            )
        return files, self.rejects.close()

    def abort(self) -> None:
        if self.rows is not None:
            self.rows.abort()
            self.rejects.abort()

    def _open(self, layout: Layout) -> None:
        kind = layout.kind
        self.layout = layout
        self.rows = SortedRows(
            kind, self.wanted, source=self.source, delivery_id=self.delivery_id, stage=self.stage, **self._bounds
        )  # fmt: skip
        self.rejects = RejectWriter(self.stage, kind.rejects, self.delivery_id, source_file=self.source_file)
        roots = [name.encode() for name in self.wanted]
        self._roots = np.frombuffer(b"".join(roots) + b"\0", dtype=np.uint8)
        self._root_ends = np.cumsum([len(r) for r in roots], dtype=np.int64)
        self._fields = np.empty((2, len(layout.columns)), dtype=np.int64)
        self._refused = Rejects(*(np.empty(_REJECTS_AT_ONCE, dtype=np.int64) for _ in Rejects._fields))
        if layout.unknown:
            names = listed(layout.columns[i] for i in layout.unknown)
            log.warning(
                "columns that this version does not know are kept in _extra path=%s columns=%s",
                self.source_file,
                names,
            )

    def _parse_block(self, block: bytes) -> None:
        text = np.frombuffer(block + b"\0", dtype=np.uint8)
        rows, place = self.rows, self.layout.place
        at, ordinal = 0, self.lines
        while at < len(block):
            before = rows.rows
            at, ordinal, rows.rows, refused, filtered = parse_lines(
                text, at, len(block), ordinal, before, 0, self.layout.kind.is_option, place, self._fields[0],
                self._fields[1], self._roots, self._root_ends, BYTE_CLASSES, rows.columns, self._refused,
            )  # fmt: skip
            self.filtered += filtered
            self.accepted += rows.rows - before
            if self.layout.unknown:
                self._keep_extra(block, before)
            for i in range(refused):
                self._reject(block, i)
            # It stopped before the end because an array is full: rows, lists or rejects.
            if rows.extra_bytes > EXTRA_BYTES or (at < len(block) and refused < _REJECTS_AT_ONCE):
                rows.spill()
        self.lines = ordinal

    def _keep_extra(self, block: bytes, first: int) -> None:
        rows, columns, unknown = self.rows, self.layout.columns, self.layout.unknown
        spans = zip(
            rows.columns.line_start[first : rows.rows].tolist(),
            rows.columns.line_end[first : rows.rows].tolist(),
            strict=True,
        )
        for start, end in spans:
            fields = split_fields(block[start:end].decode())
            text = json.dumps(
                {columns[i]: fields[i] for i in unknown}, ensure_ascii=False, separators=(",", ":")
            )
            rows.extra.append(text)
            rows.extra_bytes += len(text)

    def _reject(self, block: bytes, i: int) -> None:
        refused = self._refused
        ordinal, start, end = int(refused.ordinal[i]), int(refused.start[i]), int(refused.end[i])
        rule, column = int(refused.rule[i]), int(refused.column[i])
        if rule == LINE_LENGTH:
            ends_with_return = end < len(block) and block[end] == ord("\r")
            self._reject_long(ordinal, block[start : start + KEPT_BYTES], end - start + ends_with_return)
            return
        raw = block[start:end].decode(errors="backslashreplace")
        name, rule_name = self.layout.columns[column] if column >= 0 else "", RULES[rule]
        if name:
            was = split_fields(raw)[column]
            was = was if len(was) <= _CLIP else f"{was[:_CLIP]}…"
            reason = f"{name} was {was!r}, expected {self._expected(rule_name, name)}"
        else:
            reason = self._broken_line(rule_name, raw)
        self._count_reject(ordinal, rule_name, name, reason, raw, self._date_of(raw, name))

    def _reject_long(self, ordinal: int, start: bytes, length: int) -> None:
        reason = f"line had {length:,} bytes, expected at most {MAX_LINE_BYTES:,}"
        raw = f"{start.decode(errors='backslashreplace')}… ({length} bytes)"
        self._count_reject(ordinal, "LINE_LENGTH", "", reason, raw, self._date_of("", ""))

    def _count_reject(self, ordinal: int, rule: str, column: str, reason: str, raw: str, date: str) -> None:
        self.broken[rule, column] += 1
        self._examples.setdefault((rule, column), reason)
        if self._raw_line is not None:
            raw = self._raw_line(ordinal)
        # The header is line 1.
        self.rejects.add(ordinal + 2, rule, reason, raw, date=date)

    def _broken_line(self, rule: str, raw: str) -> str:
        if rule == "COLUMN_COUNT":
            return f"line had {len(split_fields(raw))} fields, expected the {len(self.layout.columns)} of the header"
        if rule == "QUOTE":
            return "quotes did not open at the start of a field and close at its end, expected them to, on one line"
        return "bytes were not text in UTF-8 or held a NUL, expected text"

    def _expected(self, rule: str, column: str) -> str:
        kind = self.layout.kind
        if rule == "TICKER":
            return "O:, root, YYMMDD, C or P and 8 digits" if kind.is_option else "printable characters"
        if rule == "SIZE":
            return "whole contracts, 1 to 2147483647" if kind.is_option else "more than 0, at most 6 decimals"
        if rule == "PRICE_RANGE" and column == "price":
            return f"{'at least' if kind.is_option else 'more than'} 0 and below a thousand million"
        return _EXPECTED.get((rule, column)) or _EXPECTED[rule, ""]

    def _date_of(self, raw: str, broken_column: str) -> str:
        """The UTC date on which a rejected row would have landed, as far as its line tells."""
        fields = split_fields(raw) if broken_column else []
        if len(fields) == len(self.layout.columns):
            text = fields[self.layout.columns.index("sip_timestamp")]
            if text.isascii() and text.isdigit() and TS_EVENT_MIN_NS < int(text[:20]) < TS_EVENT_MAX_NS:
                return utc_date(int(text))
        return self.date or UNDATED

    def _require_columns(self) -> None:
        """Raise RefusedFile when a column has another type or unit than it should, whatever share of bad
        lines is allowed.
        """
        ours = self.lines - self.filtered
        for (rule, column), count in self.broken.items():
            if rule in ("CAST", "TS_RANGE") and ours >= _LEAST_ROWS and count > RETYPED_SHARE * ours:
                raise RefusedFile(
                    f"column {column} had another type in {count:,} of {ours:,} lines: {self._examples[rule, column]}"
                )


def _header(first: bytes | LongLine | None, kind: Kind | None) -> tuple[Layout, bytes]:
    """The layout that the first block says, and what follows the header line."""
    if not isinstance(first, bytes):
        was = "nothing" if first is None else f"a line of {first.bytes:,} bytes"
        raise RefusedFile(f"file began with {was}, expected a header line; fetch the file again")
    header, _, rest = first.partition(b"\n")
    return read_header(header, kind), rest


def split_fields(line: str) -> list[str]:
    """The fields of one line whose quotes are right (any other line: about right, for a message)."""
    if '"' not in line:
        return line.split(",")
    fields, at = [], 0
    while True:
        if line.startswith('"', at):
            end = at + 1
            while (end := line.find('"', end)) >= 0 and line.startswith('"', end + 1):
                end += 2
            end = len(line) if end < 0 else end
            fields.append(line[at + 1 : end].replace('""', '"'))
            at = end + 1
        else:
            end = line.find(",", at)
            end = len(line) if end < 0 else end
            fields.append(line[at:end])
            at = end
        if at >= len(line):
            return fields
        at = at + 1 if line.startswith(",", at) else at
        if at == len(line):
            return [*fields, ""]


def utc_date(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).date().isoformat()
