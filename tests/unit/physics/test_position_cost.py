"""Average cost and first in first out of a position: by hand, and against exact decimals on random paths."""

import random
from decimal import ROUND_HALF_UP, Context, Decimal

import pyarrow as pa
import pytest

from physics.position_cost import position_cost, position_costs

EXACT = Context(prec=120)
EIGHT = Decimal("0.00000001")
KEYS = ["operation_id"]


def table(*operations, is_long=True) -> pa.Table:
    """Operations as lists of (is_entry, price, quantity) with decimal texts."""
    rows = [
        {"operation_id": n, "fill_number": i, "is_entry": e, "is_long": is_long}
        | {"price": Decimal(p), "quantity": Decimal(q)}
        for n, fills in enumerate(operations)
        for i, (e, p, q) in enumerate(fills, 1)
    ]
    schema = {
        "operation_id": pa.int64(),
        "fill_number": pa.int64(),
        "is_entry": pa.bool_(),
        "is_long": pa.bool_(),
    }
    decimals = {"price": pa.decimal128(20, 8), "quantity": pa.decimal128(20, 8)}
    return pa.Table.from_pylist(rows, schema=pa.schema(schema | decimals))


GOLDEN_A = [
    (True, "100", "0.002"),
    (True, "130", "0.001"),
    (False, "120", "0.0015"),
    (False, "115", "0.0015"),
]


@pytest.mark.parametrize(
    ("fills", "average", "fifo"),
    [(GOLDEN_A[:3], "0.0150", "0.0300"), (GOLDEN_A, "0.0225", "0.0225")],
)
def test_golden_a(fills, average, fifo):
    (row,) = position_costs(table(fills), KEYS).to_pylist()
    assert (row["realised"], row["realised_fifo"]) == (Decimal(average), Decimal(fifo))
    short = position_costs(table(fills, is_long=False), KEYS).to_pylist()[0]
    assert (short["realised"], short["realised_fifo"]) == (-Decimal(average), -Decimal(fifo))


def test_what_is_left_keeps_its_cost():
    (row,) = position_costs(table(GOLDEN_A[:3]), KEYS).to_pylist()
    assert (row["remaining_quantity"], row["remaining_cost"]) == (Decimal("0.0015"), Decimal("0.165"))


def test_more_than_is_held_realises_nothing_more():
    (row,) = position_costs(table([(True, "100", "1"), (False, "110", "3")]), KEYS).to_pylist()
    assert (row["realised"], row["realised_fifo"], row["remaining_quantity"]) == (10, 10, 0)
    (row,) = position_costs(table([(False, "110", "3"), (True, "100", "1")]), KEYS).to_pylist()
    assert (row["realised"], row["realised_fifo"], row["remaining_cost"]) == (0, 0, 100)


def test_no_fills_are_no_rows():
    made = position_costs(table(), KEYS)
    assert made.num_rows == 0
    assert made.schema == position_costs(table(GOLDEN_A), KEYS).schema


def test_a_row_that_starts_nothing_is_refused():
    with pytest.raises(ValueError, match="fill_number of the first row"):
        position_costs(table(GOLDEN_A).slice(1), KEYS)


def exact(fills, sign: int) -> tuple[Decimal, Decimal]:
    """The sentence of the specification, in decimals of 120 digits."""
    cost = held = realised = fifo = Decimal(0)
    lots: list[list[Decimal]] = []
    for is_entry, price, quantity in fills:
        p, q = Decimal(price), Decimal(quantity)
        if is_entry:
            cost, held = EXACT.add(cost, EXACT.multiply(p, q)), EXACT.add(held, q)
            lots.append([p, q])
            continue
        out = min(q, held)
        share = EXACT.divide(EXACT.multiply(cost, out), held) if out != held else cost
        removed = share.quantize(EIGHT, ROUND_HALF_UP, EXACT) if out != held else cost
        realised = EXACT.add(realised, sign * EXACT.subtract(EXACT.multiply(p, out), removed))
        cost, held = EXACT.subtract(cost, removed), EXACT.subtract(held, out)
        while out > 0:
            taken = min(out, lots[0][1])
            fifo = EXACT.add(fifo, sign * EXACT.multiply(EXACT.subtract(p, lots[0][0]), taken))
            lots[0][1] -= taken
            out -= taken
            if lots[0][1] == 0:
                del lots[0]
    return realised, fifo


def test_random_paths_equal_exact_decimals():
    rng = random.Random(20261126)  # noqa: S311
    for _ in range(300):
        digits = rng.choice([3, 6, 11])
        fills = [
            (
                rng.random() < 0.5,
                f"{rng.uniform(0, 10**digits):.8f}",
                f"{rng.uniform(0, 10 ** (11 - digits)):.8f}",
            )
            for _ in range(rng.randint(1, 30))
        ]
        is_long = rng.random() < 0.5
        (row,) = position_costs(table(fills, is_long=is_long), KEYS).to_pylist()
        assert (row["realised"], row["realised_fifo"]) == exact(fills, 1 if is_long else -1)


def test_the_widest_values_are_exact():
    """Price × quantity of all 20 digits, and cost × quantity beyond 128 bits."""
    huge, some = 10**20 - 1, 10**13 - 1
    cost = position_cost([(True, huge, some), (False, huge - 1, some // 3)], is_long=True)
    assert cost.remaining_cost + (huge - 1) * (some // 3) - cost.realised == huge * some


def test_several_operations_do_not_touch():
    apart = [
        position_costs(table(fills), KEYS).to_pylist()[0]["realised"] for fills in (GOLDEN_A, GOLDEN_A[:3])
    ]
    assert [
        row["realised"] for row in position_costs(table(GOLDEN_A, GOLDEN_A[:3]), KEYS).to_pylist()
    ] == apart
