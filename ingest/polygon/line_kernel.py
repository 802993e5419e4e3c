"""Lines of CSV text to exact columns, in one pass over the bytes.

No value is ever a float on its way: times and sequences are integers, prices and sizes decimal mantissas. A
line that breaks a rule is reported with its place and the rule; nothing is corrected.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ingest.bronze_schema import PRICE_LIMIT, TS_EVENT_MAX_NS, TS_EVENT_MIN_NS

# Columns that the kernel reads, as indexes into `place`: where each stands in the file, −1 when absent.
ROLES = (
    "ticker", "conditions", "correction", "exchange", "price", "sip_timestamp", "size",
    "participant_timestamp", "sequence_number", "decimal_size", "id", "bid_price", "ask_price",
)  # fmt: skip
(
    TICKER, CONDITIONS, CORRECTION, EXCHANGE, PRICE, SIP, SIZE, PARTICIPANT, SEQUENCE, DECIMAL_SIZE, ID, BID, ASK
) = range(len(ROLES))  # fmt: skip
RULES = (
    "", "LINE_LENGTH", "QUOTE", "ENCODING", "COLUMN_COUNT", "TICKER", "CAST", "TS_RANGE", "PRICE_RANGE", "SIZE", "ENUM",
    "CROSSED_NBBO",
)  # fmt: skip
(
    _FINE, LINE_LENGTH, QUOTE, ENCODING, COLUMN_COUNT, BAD_TICKER, CAST, TS_RANGE, PRICE_RANGE, BAD_SIZE, ENUM,
    CROSSED_NBBO,
) = range(len(RULES))  # fmt: skip
ABSENT = -1  # under a NULL: no such column holds a negative number
STRIKE_DIGITS, DATE_DIGITS = 8, 6
CONTRACT_CHARS = DATE_DIGITS + 1 + STRIKE_DIGITS  # YYMMDD, C or P, strike in thousandths
MAX_ROOT_CHARS = 6
MAX_LINE_BYTES = 65_536
CORRECTION_CODES = (0, 1, 7, 8, 10, 11, 12)
_MAX_INT16, _MAX_INT32 = 2**15 - 1, 2**31 - 1
_OK, _SYNTAX, _TOO_FINE, _TOO_LARGE = range(4)


class Columns(NamedTuple):
    """Accepted rows by column, filled from the front; ``ABSENT`` stands for NULL.

    ``ordinal`` is the 0-based data line. ``root`` is an index into the wanted roots. Prices count 1e-9,
    ``size`` contracts or 1e-6 shares, ``strike`` 1e-3, ``expiry`` days since 1970-01-01. The lists end where
    ``…_end`` says, each starts where the one before ended.
    """

    ts_event_ns: np.ndarray
    ts_recv_ns: np.ndarray
    ordinal: np.ndarray
    root: np.ndarray
    expiry: np.ndarray
    strike: np.ndarray
    right: np.ndarray
    price: np.ndarray
    bid: np.ndarray
    ask: np.ndarray
    size: np.ndarray
    exchange: np.ndarray
    sequence: np.ndarray
    correction: np.ndarray
    conditions_end: np.ndarray
    id_end: np.ndarray
    conditions: np.ndarray
    id_bytes: np.ndarray
    line_start: np.ndarray
    line_end: np.ndarray


class Rejects(NamedTuple):
    """Refused lines: which, where in the text, by which rule, and the column of the file or −1."""

    ordinal: np.ndarray
    start: np.ndarray
    end: np.ndarray
    rule: np.ndarray
    column: np.ndarray


def _byte_classes() -> np.ndarray:
    """0 for what may stand in a field as it is, else what the tokenizer has to look at."""
    classes = np.zeros(256, dtype=np.uint8)
    classes[128:] = 5
    for byte, kind in ((b",", 1), (b"\n", 2), (b'"', 3), (b"\0", 4)):
        classes[byte[0]] = kind
    return classes


BYTE_CLASSES = _byte_classes()
_POWERS = 10 ** np.arange(19, dtype=np.int64)
_LIMITS = PRICE_LIMIT // _POWERS  # what stays below the limit when multiplied by a power


@njit(cache=True, inline="always")
def _is_digit(byte):
    return 48 <= byte <= 57


@njit(cache=True)
def _whole(text, start, end):
    """(code, value) of an integer without sign in text[start:end], below 2**63."""
    if start == end:
        return _SYNTAX, 0
    value = 0
    i = start
    # Up to 18 digits can't be too large; they are nearly all there are.
    safe = min(end, start + 18)
    while i < safe:
        if not _is_digit(text[i]):
            return _SYNTAX, 0
        value = value * 10 + (np.int64(text[i]) - 48)
        i += 1
    large = False
    while i < end:
        if not _is_digit(text[i]):
            return _SYNTAX, 0
        digit = np.int64(text[i]) - 48
        if value > (2**63 - 1 - digit) // 10:
            large, value = True, 0
        value = value * 10 + digit
        i += 1
    return (_TOO_LARGE, 0) if large else (_OK, value)


@njit(cache=True)
def _decimal(text, start, end, scale):
    """(code, mantissa) of ``-?digits[.digits]`` in text[start:end], exact at ``scale`` decimals.

    Zeros beyond the scale change nothing; any other digit there is ``_TOO_FINE``.
    """
    i = start
    negative = i < end and text[i] == 45
    if negative:
        i += 1
    value, digits, decimals = 0, 0, 0
    large = fine = False
    while i < end and _is_digit(text[i]):
        value = value * 10 + (np.int64(text[i]) - 48)
        if value >= PRICE_LIMIT:
            large, value = True, 0
        digits += 1
        i += 1
    if digits and i < end and text[i] == 46:
        i += 1
        first = i
        while i < end and _is_digit(text[i]):
            if decimals < scale:
                value = value * 10 + (np.int64(text[i]) - 48)
                if value >= PRICE_LIMIT:
                    large, value = True, 0
                decimals += 1
            elif text[i] != 48:
                fine = True
            i += 1
        if i == first:
            return _SYNTAX, 0
    if not digits or i != end:
        return _SYNTAX, 0
    if large or value >= _LIMITS[scale - decimals]:
        return _TOO_LARGE, 0
    if fine:
        return _TOO_FINE, 0
    value *= _POWERS[scale - decimals]
    return _OK, -value if negative else value


@njit(cache=True)
def _days(year, month, day):
    """Days since 1970-01-01 of a Gregorian date; −1 when there is no such day."""
    if month < 1 or month > 12 or day < 1 or day > 31:
        return -1
    if day == 31 and month in (4, 6, 9, 11):
        return -1
    if month == 2:
        leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        if day > (29 if leap else 28):
            return -1
    # Years that begin in March end with the leap day.
    year -= 1 if month <= 2 else 0
    era, year_of_era = year // 400, year % 400
    day_of_year = (153 * (month + (9 if month <= 2 else -3)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


@njit(cache=True)
def _option(text, start, end):
    """(root start, root end, expiry days, strike, right) of an option ticker; a root end of 0 says it is none.

    Read from the right: 8 digits of strike, C or P, 6 of date; before them the root, alone or padded with
    spaces to 6 characters; before it `O:` or nothing.
    """
    at = start
    if end - at > 2 and text[at] == 79 and text[at + 1] == 58:
        at += 2
    root_end = end - CONTRACT_CHARS
    if root_end <= at or root_end - at > MAX_ROOT_CHARS:
        return 0, 0, 0, 0, 0
    right = text[root_end + DATE_DIGITS]
    if right not in (67, 80):
        return 0, 0, 0, 0, 0
    code, strike = _whole(text, end - STRIKE_DIGITS, end)
    if code != _OK:
        return 0, 0, 0, 0, 0
    code, day = _whole(text, root_end, root_end + DATE_DIGITS)
    if code != _OK:
        return 0, 0, 0, 0, 0
    expiry = _days(2000 + day // 10_000, day // 100 % 100, day % 100)
    if expiry < 0:
        return 0, 0, 0, 0, 0
    if text[root_end - 1] == 32:
        if root_end - at != MAX_ROOT_CHARS:
            return 0, 0, 0, 0, 0
        while root_end > at and text[root_end - 1] == 32:
            root_end -= 1
    if root_end == at:
        return 0, 0, 0, 0, 0
    for i in range(at, root_end):
        c = text[i]
        if not (_is_digit(c) or 65 <= c <= 90 or 97 <= c <= 122 or c == 46):
            return 0, 0, 0, 0, 0
    return at, root_end, expiry, strike, right


@njit(cache=True)
def _is_stock(text, start, end):
    """True for a ticker of printable characters without a space, at most 32."""
    if start == end or end - start > 32:
        return False
    for i in range(start, end):  # noqa: SIM110 — numba has no all()
        if text[i] <= 32 or text[i] >= 127 or text[i] == 34 or text[i] == 44:
            return False
    return True


@njit(cache=True)
def _is_utf8(text, start, end):
    i = start
    while i < end:
        c = text[i]
        if c < 0x80:
            i += 1
            continue
        if 0xC2 <= c <= 0xDF:
            more, low, high = 1, 0x80, 0xBF
        elif 0xE0 <= c <= 0xEF:
            more = 2
            low = 0xA0 if c == 0xE0 else 0x80
            high = 0x9F if c == 0xED else 0xBF  # surrogates are no characters
        elif 0xF0 <= c <= 0xF4:
            more = 3
            low = 0x90 if c == 0xF0 else 0x80
            high = 0x8F if c == 0xF4 else 0xBF
        else:
            return False
        if i + more >= end or text[i + 1] < low or text[i + 1] > high:
            return False
        for k in range(2, more + 1):
            if text[i + k] < 0x80 or text[i + k] > 0xBF:
                return False
        i += more + 1
    return True


@njit(cache=True)
def _same(text, a, a_end, b, b_end):
    if a_end - a != b_end - b:
        return False
    for i in range(a_end - a):  # noqa: SIM110 — the same
        if text[a + i] != text[b + i]:
            return False
    return True


@njit(cache=True)
def _wanted(text, start, end, roots, root_ends):
    """Index of text[start:end] among the wanted names, −1 when it is none."""
    first = 0
    for k in range(len(root_ends)):
        last = root_ends[k]
        if last - first == end - start:
            equal = True
            for i in range(end - start):
                if roots[first + i] != text[start + i]:
                    equal = False
                    break
            if equal:
                return k
        first = last
    return -1


@njit(cache=True)
def _tokenize(text, start, classes, fields, field_ends):
    """(rule, fields, end of line, next line) of the line at ``start``; fields beyond the arrays are counted only.

    A line ends at its line feed, quoted or not: no column of this vendor holds one, and so a stray quote
    costs its own line and no other. The text ends with a line feed and one byte more.
    """
    i, count, rule = start, 0, _FINE
    unusual = False
    while True:
        first = i
        if text[i] == 34:
            i += 1
            first = i
            while True:
                kind = classes[text[i]]
                if kind == 3:
                    if text[i + 1] != 34:
                        break
                    i += 1
                elif kind == 2:
                    rule = QUOTE
                    break
                elif kind == 4:
                    rule = ENCODING
                elif kind == 5:
                    unusual = True
                i += 1
            if rule == QUOTE:
                break
            last = i
            i += 1
            if text[i] == 13 and text[i + 1] == 10:
                i += 1
            if text[i] != 44 and text[i] != 10:
                rule = QUOTE
                break
        else:
            while True:
                while classes[text[i]] == 0:
                    i += 1
                kind = classes[text[i]]
                if kind <= 2:
                    break
                if kind == 3:
                    rule = QUOTE
                    break
                if kind == 4:
                    rule = ENCODING
                else:
                    unusual = True
                i += 1
            if rule == QUOTE:
                break
            last = i
            if text[i] == 10 and last > first and text[last - 1] == 13:
                last -= 1
        if count < len(fields):
            fields[count], field_ends[count] = first, last
        count += 1
        if text[i] == 10:
            break
        i += 1
    while text[i] != 10:
        i += 1
    end = i - 1 if i > start and text[i - 1] == 13 else i
    if rule == _FINE and unusual and not _is_utf8(text, start, end):
        rule = ENCODING
    return rule, count, end, i + 1


@njit(cache=True)
def _time(text, start, end):
    """(rule, ns): within the range of bronze."""
    code, value = _whole(text, start, end)
    if code == _SYNTAX:
        return CAST, 0
    if code == _TOO_LARGE or value <= TS_EVENT_MIN_NS or value >= TS_EVENT_MAX_NS:
        return TS_RANGE, 0
    return _FINE, value


@njit(cache=True)
def _price(text, start, end, is_positive):
    """(rule, mantissa) of a price that is not negative and, when ``is_positive``, not 0."""
    code, value = _decimal(text, start, end, 9)
    if code in (_SYNTAX, _TOO_FINE):
        return CAST, 0
    if code == _TOO_LARGE or value < 0 or (value == 0 and is_positive):
        return PRICE_RANGE, 0
    return _FINE, value


@njit(cache=True)
def _quote(text, place, fields, field_ends):
    """(rule, mantissa or ABSENT) of a bid or an ask that may be missing."""
    if place < 0 or fields[place] == field_ends[place]:
        return _FINE, ABSENT
    return _price(text, fields[place], field_ends[place], False)


@njit(cache=True)
def _size(text, start, end, is_option):
    code, value = _decimal(text, start, end, 0 if is_option else 6)
    if code == _SYNTAX:
        return CAST, 0
    if code != _OK or value <= 0 or (is_option and value > _MAX_INT32):
        return BAD_SIZE, 0
    return _FINE, value


@njit(cache=True)
def _conditions(text, start, end, out, at):
    """(rule, end of the list) of whole numbers between commas, written to ``out`` from ``at``."""
    first = start
    for i in range(start, end + 1):
        if i == end or text[i] == 44:
            code, value = _whole(text, first, i)
            if code != _OK or value > _MAX_INT16:
                return CAST, at
            out[at] = value
            at += 1
            first = i + 1
    return _FINE, at


@njit(cache=True)
def _is_correction(value):
    for code in CORRECTION_CODES:  # noqa: SIM110 — numba has no any()
        if value == code:
            return True
    return False


@njit(cache=True)
def _optional(text, place, fields, field_ends, highest):
    """(rule, value or ABSENT) of a whole number that may be missing, at most ``highest``."""
    if place < 0 or fields[place] == field_ends[place]:
        return _FINE, ABSENT
    code, value = _whole(text, fields[place], field_ends[place])
    if code != _OK or value > highest:
        return CAST, ABSENT
    return _FINE, value


@njit(cache=True)
def parse_lines(
    text, start, stop, ordinal, row, reject_row, is_option, place, fields, field_ends, roots, root_ends,
    classes, rows, rejects,
):  # fmt: skip
    """Parse the lines of text[start:stop] into ``rows`` from ``row`` and ``rejects`` from ``reject_row``.

    ``stop`` is after a line feed, and the text has a byte more. Returns (where it stopped, ordinal there, row,
    reject row, filtered lines); it stops early when an array is full. Rows whose ticker is none of ``roots``
    (joined; ``root_ends`` says where each ends) are counted as filtered and not looked at any further.
    """
    n_columns = len(fields)
    capacity = len(rows.ordinal)
    at = start
    filtered = 0
    seen, seen_end, expiry, strike, right, root = 0, 0, 0, 0, 0, -1
    last_ticker_is_known = False
    conditions_at = rows.conditions_end[row - 1] if row else 0
    id_at = rows.id_end[row - 1] if row else 0
    while at < stop and row < capacity and reject_row < len(rejects.rule):
        rule, count, end, following = _tokenize(text, at, classes, fields, field_ends)
        column = -1
        if end - at > MAX_LINE_BYTES:
            rule = LINE_LENGTH
        elif conditions_at + (end - at) > len(rows.conditions) or id_at + (end - at) > len(rows.id_bytes):
            break
        if rule == _FINE and count != n_columns:
            rule = COLUMN_COUNT
        value_ts, value_recv, value_price, value_size = 0, ABSENT, 0, 0
        value_exchange, value_correction, value_sequence = ABSENT, ABSENT, ABSENT
        value_bid, value_ask = ABSENT, ABSENT
        conditions_end, id_end = conditions_at, id_at
        if rule == _FINE:
            column = place[TICKER]
            first, last = fields[column], field_ends[column]
            if not (last_ticker_is_known and _same(text, first, last, seen, seen_end)):
                last_ticker_is_known = False
                if is_option:
                    root_start, root_end, expiry, strike, right = _option(text, first, last)
                else:
                    root_start, root_end = first, (last if _is_stock(text, first, last) else 0)
                if root_end == 0:
                    rule = BAD_TICKER
                else:
                    root = _wanted(text, root_start, root_end, roots, root_ends)
                    seen, seen_end, last_ticker_is_known = first, last, True
            if rule == _FINE and root < 0:
                filtered += 1
                ordinal += 1
                at = following
                continue
        if rule == _FINE:
            column = place[SIP]
            rule, value_ts = _time(text, fields[column], field_ends[column])
        if rule == _FINE:
            column = place[PRICE]
            rule, value_price = _price(text, fields[column], field_ends[column], not is_option)
        if rule == _FINE:
            column = place[BID]
            rule, value_bid = _quote(text, column, fields, field_ends)
        if rule == _FINE:
            column = place[ASK]
            rule, value_ask = _quote(text, column, fields, field_ends)
            if rule == _FINE and value_ask != ABSENT and value_bid > value_ask:
                rule = CROSSED_NBBO
        if rule == _FINE:
            column = place[SIZE]
            exact = place[DECIMAL_SIZE]
            if exact >= 0 and fields[exact] < field_ends[exact]:
                # The exact size stands in its own column; the other one has to be a number all the same.
                code, _ = _decimal(text, fields[column], field_ends[column], 18)
                if code == _SYNTAX:
                    rule = CAST
                else:
                    column = exact
            if rule == _FINE:
                rule, value_size = _size(text, fields[column], field_ends[column], is_option)
        if rule == _FINE:
            column = place[EXCHANGE]
            rule, value_exchange = _optional(text, column, fields, field_ends, _MAX_INT16)
        if rule == _FINE:
            column = place[CORRECTION]
            rule, value_correction = _optional(text, column, fields, field_ends, 2**63 - 1)
            if rule == _FINE and value_correction != ABSENT and not _is_correction(value_correction):
                rule = ENUM
        if rule == _FINE:
            column = place[SEQUENCE]
            rule, value_sequence = _optional(text, column, fields, field_ends, 2**63 - 1)
        if rule == _FINE:
            column = place[PARTICIPANT]
            rule, value_recv = _optional(text, column, fields, field_ends, 2**63 - 1)
            if rule == _FINE and value_recv == 0:  # how the vendor writes a time that it doesn't have
                value_recv = ABSENT
            if rule == _FINE and value_recv != ABSENT:
                rule, value_recv = _time(text, fields[column], field_ends[column])
        if rule == _FINE:
            column = place[CONDITIONS]
            if fields[column] < field_ends[column]:
                rule, conditions_end = _conditions(
                    text, fields[column], field_ends[column], rows.conditions, conditions_at
                )
        if rule != _FINE:
            rejects.ordinal[reject_row], rejects.rule[reject_row] = ordinal, rule
            rejects.start[reject_row], rejects.end[reject_row] = at, end
            rejects.column[reject_row] = column
            reject_row += 1
            ordinal += 1
            at = following
            continue
        if place[ID] >= 0:
            i, last = fields[place[ID]], field_ends[place[ID]]
            while i < last:
                rows.id_bytes[id_end] = text[i]
                id_end += 1
                i += 2 if text[i] == 34 else 1  # a quote inside a quoted field is written twice
        rows.ts_event_ns[row], rows.ts_recv_ns[row], rows.ordinal[row] = value_ts, value_recv, ordinal
        rows.root[row], rows.price[row], rows.size[row] = root, value_price, value_size
        rows.bid[row], rows.ask[row] = value_bid, value_ask
        rows.expiry[row], rows.strike[row], rows.right[row] = expiry, strike, right
        rows.exchange[row], rows.correction[row] = value_exchange, value_correction
        rows.sequence[row] = value_sequence
        rows.conditions_end[row] = conditions_at = conditions_end
        rows.id_end[row] = id_at = id_end
        rows.line_start[row], rows.line_end[row] = at, end
        row += 1
        ordinal += 1
        at = following
    return at, ordinal, row, reject_row, filtered
