"""From columns of text to columns of types, a block of rows at a time, exact and without a float in between.

The fast way casts a whole column after one look at its bytes; only where that fails are rows looked at singly. A row
is rejected for its first wrong column, in the order of the contract.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.binance.checks import Bad, check_rows
from ingest.binance.kinds import BOOL, DEC, DECIMAL, EPOCH, INT, TEXT, TIME, Column, Kind
from ingest.binance.tally import Batch, Tally

Cell = pa.Array | Sequence[str | None] | str | None  # a column, or one value for all rows

# Bounds of spec/market.md 4.1, in µs: the years 2000 to 2099.
FIRST_US, LAST_US = 946_684_800_000_000, 4_102_444_800_000_000
MICROSECONDS_FROM = 10**14  # a smaller epoch is in milliseconds (spec/execution.md 9)
_DECIMAL_MAX = decimal.Decimal(10) ** 12
_EXACT = decimal.Context(prec=200)
_MAX_TEXT = 200  # of a number; longer ones are nobody's price
_SHOWN = 60
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)\Z", re.ASCII)
_INTEGER = re.compile(r"-?\d+\Z", re.ASCII)
_PLAIN = {DEC: r"^-?\d{1,12}(\.\d{1,8})?$", INT: r"^-?\d{1,18}$"}
_BYTES = {DEC: b"0123456789.-", INT: b"0123456789-"}
_LOOKUP = {form: np.isin(np.arange(256), list(allowed)) for form, allowed in _BYTES.items()}
_BOOLEANS = pa.array(["true", "True", "false", "False"])


@dataclass(frozen=True)
class Cells:
    """A block of rows as text. ``line_no`` is (rows,), ``raw(i)`` the text of row i as it came, ``extra`` the unknown
    fields of each row as JSON, or None.
    """

    kind: Kind
    columns: Mapping[str, Cell]
    line_no: np.ndarray
    raw: Callable[[int], str]
    extra: Sequence[str | None] | None = None


def cast(cells: Cells, tally: Tally, *, span: tuple[int, int] | None = None) -> Batch:
    """The rows of ``cells`` that pass, typed; the others go to ``tally``.

    ``span`` is the half-open range in µs that the file's name promises. Rules: CAST (not that type),
    MISSING_COLUMN (null where a value must be), DECIMAL_RANGE (more than 12 digits before or 8 behind the point),
    TS_RANGE, and those of `checks`.
    """
    rows = len(cells.line_no)
    bad: Bad = {}
    typed = {}
    for column in cells.kind.columns:
        text = _text(cells.columns.get(column.name), rows)
        if column.required and text.null_count:
            _mark(bad, text.is_null(), "MISSING_COLUMN", f"{column.name} was missing, expected a value")
        typed[column.name] = _CASTS[column.form](text, column, bad)
    check_rows(cells.kind, typed, bad, span)
    arrays = [typed[c.name] for c in cells.kind.columns]
    extra = pa.array(cells.extra, pa.string()) if cells.extra else pa.nulls(rows, pa.string())
    table = pa.Table.from_arrays([*arrays, extra], schema=cells.kind.schema)
    line_no = cells.line_no
    if bad:
        times = typed[cells.kind.time]
        for i in sorted(bad):
            rule, reason = bad[i]
            tally.reject(int(line_no[i]), rule, reason, cells.raw(i), times[i].as_py())
        good = np.ones(rows, bool)
        good[list(bad)] = False
        table, line_no = table.filter(pa.array(good)), line_no[good]
    return Batch(cells.kind, table, line_no)


def _text(cell: Cell, rows: int) -> pa.Array:
    if cell is None:
        return pa.nulls(rows, pa.string())
    if isinstance(cell, str):
        return pa.repeat(pa.scalar(cell, pa.string()), rows)
    return cell if isinstance(cell, pa.Array) else pa.array(cell, pa.string())


def _decimals(text: pa.Array, column: Column, bad: Bad) -> pa.Array:
    if _only(text, DEC):
        try:
            return text.cast(DECIMAL)
        except pa.ArrowInvalid:
            pass
    return _singly(text, column, bad, _decimal, DECIMAL)


def _integers(text: pa.Array, column: Column, bad: Bad) -> pa.Array:
    if _only(text, INT):
        try:
            return text.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return _singly(text, column, bad, _integer, pa.int64())


def _epochs(text: pa.Array, column: Column, bad: Bad) -> pa.Array:
    """Epoch milliseconds or microseconds, decided value by value."""
    number = _integers(text, column, bad)
    value = number.fill_null(FIRST_US).to_numpy(zero_copy_only=False)
    # Beyond both units' ranges the product would wrap; such values are out of range in either unit.
    small = (value < MICROSECONDS_FROM) & (value > -MICROSECONDS_FROM)
    micros = np.where(small, value * small * 1000, value)
    outside = (micros < FIRST_US) | (micros >= LAST_US)
    if outside.any():
        _mark(
            bad,
            pa.array(outside),
            "TS_RANGE",
            f"{column.name} was {{}}, expected an epoch of 2000 to 2099",
            text,
        )
        micros = np.where(outside, FIRST_US, micros)
    missing = outside | number.is_null().to_numpy(zero_copy_only=False)
    return pa.array(micros, TIME, mask=missing if missing.any() else None)


def _booleans(text: pa.Array, column: Column, bad: Bad) -> pa.Array:
    place = pc.index_in(text, _BOOLEANS)
    unknown = pc.and_(place.is_null(), text.is_valid())
    if pc.any(unknown).as_py():
        _mark(bad, unknown, "CAST", f"{column.name} was {{}}, expected true or false", text)
    return pc.less(place, 2)


def _texts(text: pa.Array, column: Column, bad: Bad) -> pa.Array:
    return text


_CASTS = {DEC: _decimals, INT: _integers, EPOCH: _epochs, BOOL: _booleans, TEXT: _texts}


def _only(text: pa.Array, form: str) -> bool:
    """Whether the column's bytes are digits and signs only: Arrow's own casts also take 0x10, 1e5 and +1."""
    data = text.buffers()[2]
    if data is None or text.offset:
        return False
    offsets = np.frombuffer(text.buffers()[1], np.int32, len(text) + 1)
    return bool(_LOOKUP[form][np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]].all())


def _singly(text: pa.Array, column: Column, bad: Bad, read: Callable, arrow: pa.DataType) -> pa.Array:
    """Cast what is plain at once and look at each of the rest."""
    plain = pc.match_substring_regex(text, _PLAIN[INT if arrow == pa.int64() else DEC]).fill_null(True)
    odd = np.flatnonzero(~plain.to_numpy(zero_copy_only=False))
    found = pc.if_else(plain, text, pa.scalar(None, pa.string())).cast(arrow)
    if not len(odd):
        return found
    values = []
    for i in odd.tolist():
        value, problem = read(text[i].as_py())
        if problem is not None:
            rule, expected = problem
            was = _show(text[i].as_py())
            bad.setdefault(i, (rule, f"{column.name} was {was}, expected {expected}"))
        values.append(value)
    mask = np.zeros(len(text), bool)
    mask[odd] = True
    return pc.replace_with_mask(found, pa.array(mask), pa.array(values, arrow))


def _decimal(text: str) -> tuple[decimal.Decimal | None, tuple[str, str] | None]:
    if len(text) > _MAX_TEXT or not _NUMBER.match(text):
        return None, ("CAST", "a decimal number")
    value = decimal.Decimal(text)
    if abs(value) >= _DECIMAL_MAX or value != value.quantize(decimal.Decimal("1e-8"), context=_EXACT):
        return None, ("DECIMAL_RANGE", "at most 12 digits before the point and 8 behind it")
    return value.quantize(decimal.Decimal("1e-8"), context=_EXACT), None


def _integer(text: str) -> tuple[int | None, tuple[str, str] | None]:
    if len(text) > _MAX_TEXT or not _INTEGER.match(text) or not -(2**63) <= int(text) < 2**63:
        return None, ("CAST", "an integer of 64 bits")
    return int(text), None


def _mark(bad: Bad, mask: pa.Array, rule: str, reason: str, text: pa.Array | None = None) -> None:
    for i in np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False)).tolist():
        bad.setdefault(i, (rule, reason if text is None else reason.format(_show(text[i].as_py()))))


def _show(text: str | None) -> str:
    return "missing" if text is None else repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
