"""Rows of events, orders, operations and balances out of text: typed exactly, or rejected with the reason.

Shared by every source of the four datasets. Columns come as text (or already in their type); what can't be held
without loss is rejected, never rounded. One row is rejected once, by the first rule it breaks in column order.
Source: spec/execution.md 2.1, 2.2, 3.1, 3.2, 3.3, 3.5.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.execution_rules import DEFAULTS, ENUMS, LENGTHS, NOTIONAL_LIMIT, NOTIONALS, PATTERNS, RANGES
from ingest.json_text import MARK, BadJson, canonical, parse, plain_number
from ingest.redaction import redaction
from ingest.window_schema import TIME, WindowSchema

FIRST_YEAR, END_YEAR = 2000, 2100
_FIRST_US, _END_US = (
    int(datetime(y, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for y in (FIRST_YEAR, END_YEAR)
)
_PLAIN_DECIMAL = r"^-?[0-9]{1,%d}(?:\.[0-9]{1,%d})?$"
_ANY_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_PLAIN_TIME = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"
)
_LONG_TIME = re.compile(r"(.*\.[0-9]{6})0+((?:Z|[+-][0-9:]{2,5})?)", re.ASCII)
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


_WIDE = Context(prec=400)  # more digits than a number of JSON may have


@dataclass
class Typed:
    """``table``: the good rows, business columns and ``ingested_at``, ``_extra`` where given; ``rows`` their place in
    the input, (n,) int64. ``rejects``: (place in the input, rule, reason, instant of its window or None).
    """

    table: pa.Table
    rows: np.ndarray
    rejects: list[tuple[int, str, str, datetime | None]] = field(default_factory=list)


class _Faults:
    """The first fault of each row."""

    def __init__(self, given: dict[int, tuple[str, str]] | None = None) -> None:
        self.by_row: dict[int, tuple[str, str]] = dict(given or {})

    def add(self, row: int, rule: str, reason: str) -> None:
        self.by_row.setdefault(row, (rule, reason))

    def where(self, bad: pa.Array, column: pa.Array, rule: str, name: str, expected: str) -> None:
        """Fault every row where ``bad`` is true."""
        for row in _places(bad):
            self.add(row, rule, f"{name} was {shown(column[row].as_py())}, expected {expected}")


def type_rows(
    table: pa.Table,
    schema: WindowSchema,
    faults: dict[int, tuple[str, str]] | None = None,
    *,
    json_is_canonical: bool = False,
) -> Typed:
    """Type ``table``, whose columns are text or already of their type; a column may be missing when it is optional.

    ``faults`` are rows that the caller has found bad already: row → (rule, reason). Columns beside the schema's, but
    for ``ingested_at`` and ``_extra``, are an error of the caller. ``json_is_canonical``: the caller has parsed the
    columns of JSON, seen that they are of their kind, and written them in the canonical form.
    """
    found = _Faults(faults)
    n = table.num_rows
    columns: dict[str, pa.Array] = {}
    given = {name: _flat(table.column(name)) for name in table.column_names}
    for name in ["ingested_at"] if "ingested_at" in given else []:
        columns[name] = _times(given[name], name, found)
    for f in schema.columns:
        raw = given.get(f.name)
        if raw is None:
            raw = pa.nulls(n, f.type)
        if json_is_canonical and schema.is_json(f.name):
            typed = _objects(raw, f.name, found) if f.name == "balances" else raw
        else:
            typed = _typed(raw, f, schema, found)
        columns[f.name] = _with_default(typed, schema, f)
    if "_extra" in given:
        columns["_extra"] = given["_extra"].cast(pa.string())
    _lift(columns, schema, found)
    for name in schema.required:
        for row in _places(pc.is_null(columns[name])):
            found.add(row, "MISSING_COLUMN", f"{name} was missing, expected a value")
    _check_values(columns, schema, found)
    good = np.ones(n, dtype=bool)
    rejects = []
    for row, (rule, reason) in sorted(found.by_row.items()):
        good[row] = False
        rejects.append((row, rule, reason, _window_of(columns, schema, row)))
    made = pa.table(columns)
    rows = np.flatnonzero(good)
    return Typed(made if len(rows) == n else made.take(pa.array(rows)), rows, rejects)


def _typed(raw: pa.Array, field: pa.Field, schema: WindowSchema, found: _Faults) -> pa.Array:
    kind = field.type
    if pa.types.is_null(raw.type):
        return pa.nulls(len(raw), kind)
    if schema.is_json(field.name):
        return _json(raw, field.name, found)
    if schema.is_uuid(field.name):
        return _uuids(raw, field.name, found)
    if raw.type.equals(kind):
        return _in_range(raw, field.name, found) if pa.types.is_timestamp(kind) else raw
    if pa.types.is_decimal(kind):
        return _decimals(raw, field, found)
    if pa.types.is_timestamp(kind):
        return _times(raw, field.name, found)
    if pa.types.is_integer(kind):
        return _integers(raw, field, found)
    if pa.types.is_boolean(kind):
        return _booleans(raw, field.name, found)
    return raw.cast(kind)


# -- one type each ---------------------------------------------------------------------------------------------------


def _decimals(raw: pa.Array, field: pa.Field, found: _Faults) -> pa.Array:
    kind = field.type
    if not pa.types.is_string(raw.type):
        if pa.types.is_floating(raw.type):
            raise TypeError(f"{field.name} came as floats, expected text or decimals; read it as text")
        raw = pa.array([None if v is None else f"{Decimal(v):f}" for v in raw.to_pylist()], pa.string())
    plain = pc.match_substring_regex(raw, _PLAIN_DECIMAL % (kind.precision - kind.scale, kind.scale))
    return _with_slow(raw, plain, kind, lambda text: _decimal(text, kind), field.name, found)


def _decimal(text: str, kind: pa.Decimal128Type) -> Decimal:
    if not _ANY_DECIMAL.fullmatch(text):
        raise ValueError("a decimal number")
    try:
        number = Decimal(plain_number(text))
    except BadJson:
        raise ValueError(f"at most {kind.precision - kind.scale} digits and {kind.scale} decimals") from None
    exact = number.quantize(Decimal(1).scaleb(-kind.scale), context=_WIDE)
    if exact != number or abs(exact) >= Decimal(10) ** (kind.precision - kind.scale):
        raise ValueError(
            f"at most {kind.precision - kind.scale} digits and {kind.scale} decimals, it is never rounded"
        )
    return exact


def _times(raw: pa.Array, name: str, found: _Faults) -> pa.Array:
    if pa.types.is_timestamp(raw.type):
        return _in_range(raw.cast(TIME), name, found)
    plain = pc.match_substring_regex(raw, _PLAIN_TIME)
    return _in_range(_with_slow(raw, plain, TIME, _time, name, found), name, found)


def _time(text: str) -> datetime:
    expected = "an instant with its zone and at most 6 decimals, such as 2024-12-01T00:00:00.000000Z"
    if match := _LONG_TIME.fullmatch(text):
        text = match[1] + match[2]
    if not re.fullmatch(_PLAIN_TIME, text, re.ASCII):
        raise ValueError(expected)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None


def _in_range(times: pa.Array, name: str, found: _Faults) -> pa.Array:
    micros = times.cast(TIME).cast(pa.int64())
    bad = pc.or_(pc.less(micros, _FIRST_US), pc.greater_equal(micros, _END_US))
    if pc.any(bad).as_py():
        for row in _places(bad):
            found.add(
                row,
                "TS_RANGE",
                f"{name} was outside the years {FIRST_YEAR} to {END_YEAR - 1}, expected inside",
            )
        times = pc.if_else(bad, pa.scalar(None, TIME), times)
    return times.cast(TIME)


def _integers(raw: pa.Array, field: pa.Field, found: _Faults) -> pa.Array:
    kind = field.type
    bits = kind.bit_width

    def slow(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or not -(2 ** (bits - 1)) <= int(text) < 2 ** (
            bits - 1
        ):
            raise ValueError(f"a whole number of {bits} bits")
        return int(text)

    if pa.types.is_integer(raw.type):
        with contextlib.suppress(pa.ArrowInvalid):  # one of them is too large
            return raw.cast(kind)
    text = raw if pa.types.is_string(raw.type) else raw.cast(pa.string())
    digits = 18 if bits == 64 else 9 if bits == 32 else 4
    plain = pc.match_substring_regex(text, f"^-?[0-9]{{1,{digits}}}$")
    return _with_slow(text, plain, kind, slow, field.name, found)


def _booleans(raw: pa.Array, name: str, found: _Faults) -> pa.Array:
    text = raw.cast(pa.string())
    known = pa.array(["true", "false", "t", "f"])
    bad = pc.and_(pc.is_valid(text), pc.invert(pc.is_in(text, known)))
    found.where(bad, text, "CAST", name, "true or false")
    made = pc.is_in(text, pa.array(["true", "t"]))
    return pc.if_else(pc.or_(bad, pc.is_null(text)), pa.scalar(None, pa.bool_()), made)


def _uuids(raw: pa.Array, name: str, found: _Faults) -> pa.Array:
    bad = pc.invert(pc.match_substring_regex(raw, _UUID))
    found.where(bad, raw, "CAST", name, "a UUID")
    if pc.any(bad).as_py():
        raw = pc.if_else(bad, pa.scalar(None, pa.string()), raw)
    return pc.ascii_lower(raw)


def _json(raw: pa.Array, name: str, found: _Faults) -> pa.Array:
    """Canonical text; an object, but a list where the column is one."""
    wanted, what = (list, "a list of objects") if name == "balances" else (dict, "an object of JSON")
    made: list[str | None] = []
    for row, text in enumerate(raw.to_pylist()):
        if text is None or row in found.by_row:
            made.append(None)
            continue
        try:
            value = parse(text)
        except BadJson as error:
            found.add(row, "JSON", f"{name}: {error}")
            made.append(None)
            continue
        good = isinstance(value, wanted) and (wanted is dict or all(isinstance(v, dict) for v in value))
        if not good:
            found.add(row, "CAST", f"{name} was {shown(text)}, expected {what}")
        made.append(canonical(value) if good else None)
    return pa.array(made, pa.string())


def _objects(raw: pa.Array, name: str, found: _Faults) -> pa.Array:
    for row, text in enumerate(raw.to_pylist()):
        if text is not None and not all(isinstance(v, dict) for v in parse(text)):
            found.add(row, "CAST", f"{name} was {shown(text)}, expected a list of objects")
    return raw


def _with_slow(
    raw: pa.Array,
    plain: pa.Array,
    kind: pa.DataType,
    slow: Callable[[str], object],
    name: str,
    found: _Faults,
) -> pa.Array:
    """Cast what is ``plain`` at once and the rest one by one; ``slow`` raises ValueError saying what it expected."""
    valid = pc.is_valid(raw)
    odd = pc.and_(valid, pc.invert(plain))
    some_odd = pc.any(odd).as_py()
    try:
        rest = (pc.if_else(odd, pa.scalar(None, pa.string()), raw) if some_odd else raw).cast(kind)
    except pa.ArrowInvalid:  # of the right form, but 30 February
        odd, some_odd, rest = valid, True, pa.nulls(len(raw), kind)
    if not some_odd:
        return rest
    values: list[object] = [None] * len(raw)
    for row in _places(odd):
        text = raw[row].as_py()
        try:
            values[row] = slow(text)
        except ValueError as error:
            found.add(row, "CAST", f"{name} was {shown(text)}, expected {error}")
    return pc.coalesce(pa.array(values, kind), rest)


# -- rules over columns ----------------------------------------------------------------------------------------------


def _with_default(column: pa.Array, schema: WindowSchema, field: pa.Field) -> pa.Array:
    default = DEFAULTS.get(schema.name, {}).get(field.name)
    if default is None or not column.null_count:
        return column
    return pc.fill_null(column, pa.scalar(default, pa.string()).cast(field.type))


def _lift(columns: dict[str, pa.Array], schema: WindowSchema, found: _Faults) -> None:
    """Columns that a payload holds and the row itself does not."""
    if schema.name == "events":
        _lift_text(columns, "trigger_type", "payload_json", "trigger_type", found)
    elif schema.name == "orders":
        times = columns["exchange_time"]
        where = pc.and_(pc.is_null(times), pc.match_substring(columns["raw_response"], '"transactTime":'))
        values: list[datetime | None] = [None] * len(times)
        for row in _places(where):
            millis = parse(columns["raw_response"][row].as_py()).get("transactTime")
            if type(millis) is int and 0 <= millis < _END_US // 1000:
                values[row] = datetime.fromtimestamp(millis // 1000, UTC).replace(
                    microsecond=millis % 1000 * 1000
                )
        columns["exchange_time"] = pc.coalesce(
            times, _in_range(pa.array(values, TIME), "exchange_time", found)
        )


def _lift_text(columns: dict[str, pa.Array], name: str, payload: str, key: str, found: _Faults) -> None:
    column = columns[name]
    where = pc.and_(pc.is_null(column), pc.match_substring(columns[payload], f'"{key}":'))
    values: list[str | None] = [None] * len(column)
    for row in _places(where):
        value = parse(columns[payload][row].as_py()).get(key)
        if isinstance(value, str) and not value.startswith(MARK):
            values[row] = value
        elif value is not None:
            found.add(row, "CAST", f"{payload}.{key} was {shown(value)}, expected text")
    columns[name] = pc.coalesce(column, pa.array(values, pa.string()))


def _check_values(columns: dict[str, pa.Array], schema: WindowSchema, found: _Faults) -> None:
    for f in schema.columns:
        column = columns[f.name]
        if accepted := ENUMS.get(schema.name, {}).get(f.name):
            bad = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, pa.array(accepted))))
            found.where(bad, column, "ENUM", f.name, "one of " + ", ".join(accepted))
        if pattern := PATTERNS.get(f.name):
            bad = pc.invert(pc.match_substring_regex(column, pattern))
            found.where(bad, column, "PATTERN", f.name, f"text like {pattern}")
        if longest := LENGTHS.get(schema.name, {}).get(f.name):
            bad = pc.greater(pc.utf8_length(column), longest)
            found.where(bad, column, "LENGTH", f.name, f"at most {longest} characters")
        if bounds := RANGES.get(schema.name, {}).get(f.name):
            low, high = bounds
            bad = pc.less(column, _bound(low, f.type))
            if high is not None:
                bad = pc.or_(bad, pc.greater(column, _bound(high, f.type)))
            found.where(
                bad, column, "RANGE", f.name, f"at least {low}" + (f", at most {high}" if high else "")
            )
    for price, quantity in NOTIONALS.get(schema.name, ()):
        _check_notional(columns[price], columns[quantity], price, quantity, found)
    if schema.name == "balance_snapshots":
        names = [n for n in schema.columns.names if n not in ("client_id", "snapshot_time", "created_at")]
        empty = np.ones(len(columns["client_id"]), dtype=bool)
        for name in names:
            empty &= pc.is_null(columns[name]).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(empty).tolist():
            found.add(
                row, "MISSING_COLUMN", "balances and all flat columns were missing, expected one of the two"
            )


def _check_notional(
    price: pa.Array, quantity: pa.Array, price_name: str, quantity_name: str, found: _Faults
) -> None:
    # A double is off by less than 1e-15 of its value: what is well below the limit needs no exact product.
    about = pc.abs(pc.multiply(price.cast(pa.float64()), quantity.cast(pa.float64())))
    for row in _places(pc.greater(about, float(NOTIONAL_LIMIT) * 0.999)):
        exact = price[row].as_py() * quantity[row].as_py()
        if abs(exact) >= NOTIONAL_LIMIT:
            found.add(
                row,
                "NOTIONAL_RANGE",
                f"{price_name} × {quantity_name} was {exact:.3e}, expected less than 1e18",
            )


def _window_of(columns: dict[str, pa.Array], schema: WindowSchema, row: int) -> datetime | None:
    for name in ("ingested_at", schema.row_time):
        if name in columns and columns[name][row].is_valid:
            return columns[name][row].as_py()
    return None


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _bound(value: int, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(Decimal(value) if pa.types.is_decimal(kind) else value, kind)


def _places(mask: pa.Array) -> list[int]:
    return pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist()


def shown(value: object) -> str:
    """A value as a reason tells it: redacted as a whole, then cut, so that no part of a secret is left."""
    text = redaction().raw(str(value))
    return repr(text[:60] + "…" if len(text) > 60 else text)
