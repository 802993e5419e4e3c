"""Realised profit of positions that are scaled in and out, by moving weighted average cost and by first in first out.

Both hang on the path of the fills, so no aggregate says them. Amounts are whole units: prices and quantities of 1e-8,
their products of 1e-16. A product of two DECIMAL(20,8) has up to 134 bits and cost × quantity 195, so the arithmetic is
Python's own integers: exact at any size, about a microsecond a fill.
Source: spec/execution.md 4.8.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

PRICE_SCALE = 10**8
"""Units of a price or a quantity in one; their products have its square."""

AMOUNT = pa.decimal128(38, 16)
QUANTITY = pa.decimal128(20, 8)
RESULTS = (
    ("realised", AMOUNT),
    ("realised_fifo", AMOUNT),
    ("remaining_quantity", QUANTITY),
    ("remaining_cost", AMOUNT),
)


class Cost(NamedTuple):
    """Where one position stands: amounts in units of 1e-16 quote, the quantity in units of 1e-8 base, all integers."""

    realised: int
    realised_fifo: int
    remaining_quantity: int
    remaining_cost: int


def position_costs(fills: pa.Table, keys: Iterable[str]) -> pa.Table:
    """Realised profit and what is left of each operation, one row per operation in the order of ``fills``.

    Shapes:   ``fills`` has (n,) rows: ``keys``, ``fill_number``, ``is_entry``, ``is_long``, ``price``, ``quantity``.
    Units:    price and quantity are DECIMAL(20,8); results ``realised``, ``realised_fifo`` and ``remaining_cost`` are
              exact DECIMAL(38,16) of the quote asset, ``remaining_quantity`` DECIMAL(20,8) of the base asset.
    Ordering: rows of an operation stand together, by (exchange time, trade id); ``fill_number`` 1 starts one.
    Edges:    what is sold beyond the position has no cost: it realises nothing, in both methods.
    Empty:    no fills give no rows, of the same schema.
    Errors:   ValueError when a value is NULL or the first row doesn't start an operation.
    Source:   spec/execution.md 4.8.
    """
    for name in ("fill_number", "is_entry", "is_long", "price", "quantity"):
        if fills[name].null_count:
            raise ValueError(f"{name} was NULL in a fill, expected a value in every row")
    starts = np.flatnonzero(fills["fill_number"].to_numpy() == 1)
    if fills.num_rows and (not len(starts) or starts[0] != 0):
        raise ValueError("fill_number of the first row was not 1, expected the first fill of an operation")
    is_entry = fills["is_entry"].to_pylist()
    is_long = fills["is_long"].to_pylist()
    price, quantity = _units(fills["price"]), _units(fills["quantity"])
    ends = [*starts[1:].tolist(), fills.num_rows]
    costs = [
        position_cost(
            zip(is_entry[start:end], price[start:end], quantity[start:end], strict=True),
            is_long=is_long[start],
        )
        for start, end in zip(starts.tolist(), ends, strict=bool(fills.num_rows))
    ]
    result = fills.select(list(keys)).take(pa.array(starts, pa.int64()))
    for name, decimal in RESULTS:
        result = result.append_column(name, _decimals([getattr(cost, name) for cost in costs], decimal))
    return result


def position_cost(fills: Iterable[tuple[bool, int, int]], *, is_long: bool) -> Cost:
    """One position out of its fills (is_entry, price, quantity) in order; units of 1e-8.

    An entry adds price × quantity to the cost. An exit of x out of Q takes cost · x / Q with it, to 8 decimals, halves
    away from zero, and all of the cost when nothing is left; it realises its proceeds less that, negated of a short.
    """
    sign = 1 if is_long else -1
    cost = held = realised = realised_fifo = 0
    lots: deque[list[int]] = deque()  # [price, quantity left]
    for is_entry, price, quantity in fills:
        if is_entry:
            cost += price * quantity
            held += quantity
            lots.append([price, quantity])
            continue
        matched = min(quantity, held)
        removed = cost if matched == held else _divide(cost * matched, held * PRICE_SCALE) * PRICE_SCALE
        realised += sign * (price * matched - removed)
        cost -= removed
        held -= matched
        while matched:
            lot = lots[0]
            taken = min(matched, lot[1])
            realised_fifo += sign * (price - lot[0]) * taken
            lot[1] -= taken
            matched -= taken
            if not lot[1]:
                lots.popleft()
    return Cost(realised, realised_fifo, held, cost)


def _divide(dividend: int, divisor: int) -> int:
    """A quotient to the next integer, halves away from zero; ``divisor`` > 0."""
    half = (2 * abs(dividend) + divisor) // (2 * divisor)
    return half if dividend >= 0 else -half


def _units(column: pa.ChunkedArray) -> list[int]:
    """DECIMAL(20,8) as integers of 1e-8: of the 128 bits both halves, as Python integers."""
    return [unit for chunk in column.chunks for unit in _chunk_units(chunk.cast(QUANTITY))]


def _chunk_units(chunk: pa.Array) -> Iterator[int]:
    halves = np.frombuffer(chunk.buffers()[1], np.uint64)[2 * chunk.offset : 2 * (chunk.offset + len(chunk))]
    low, high = halves[0::2].tolist(), halves[1::2].view(np.int64).tolist()
    return (h * 2**64 + value for h, value in zip(high, low, strict=True))


def _decimals(units: list[int], decimal: pa.DataType) -> pa.Array:
    """Integers as a decimal column of their scale. OverflowError where one has more than 128 bits."""
    data = b"".join(unit.to_bytes(16, "little", signed=True) for unit in units)
    return pa.Array.from_buffers(decimal, len(units), [None, pa.py_buffer(data)])
