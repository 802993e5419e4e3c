"""Ledger, fills, operations and tax lots equal plain loops over fractions on random worlds."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.fixtures.operations import SYMBOLS, World, exact, world
from tests.oracle import operations as oracle


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def build(pipeline: ExecutionPipeline, made: World) -> None:
    pipeline.land(**made.sources())
    pipeline.build("operations", "tax_lots")


class Expected:
    """What the oracle makes of a world."""

    def __init__(self, made: World) -> None:
        bars, executions = made.bars(), exact(made.executions)
        self.ledger = oracle.ledger(exact(made.orders))
        self.fills = oracle.fills(exact(made.trades), self.ledger, executions, bars, SYMBOLS)
        states = exact(made.operations)
        self.operations = oracle.operations(states, self.ledger, executions, self.fills, bars, SYMBOLS)
        self.lots = oracle.tax_lots(self.fills, SYMBOLS)


def plain(value: object) -> object:
    if isinstance(value, Decimal):
        return Fraction(value)
    return str(value) if type(value).__name__ == "UUID" else value


# Percents are quotients in DOUBLE: a half may fall to either side.
LAST_DIGIT = {"stop_distance_pct", "return_pct", "r_multiple", "mae_pct", "mfe_pct"}
QUOTIENTS = {"avg_entry_price", "avg_exit_price"}


def differences(row: dict, wanted: dict) -> dict:
    found = {}
    for name, value in wanted.items():
        mine = plain(row[name])
        if name in LAST_DIGIT | QUOTIENTS and None not in (mine, value):
            limit = Fraction(1, 10**4) if name in LAST_DIGIT else max(Fraction(1, 10**8), value / 10**15)
            if abs(mine - value) > limit:
                found[name] = (mine, value)
        elif mine != value:
            found[name] = (mine, value)
    return found


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=() if seed < 4 else pytest.mark.long) for seed in range(150)]
)
def test_a_random_world(pipeline, seed):
    made = world(random.Random(seed))  # noqa: S311
    build(pipeline, made)
    expected = Expected(made)

    ledger = {(r["client_id"], r["transaction_id"]): r for r in pipeline.rows("ledger")}
    assert set(ledger) == {(r["client_id"], r["transaction_id"]) for r in expected.ledger}

    fills = {
        (r["client_id"], r["account_type"], r["symbol"], r["fill_id"]): r for r in pipeline.rows("fills")
    }
    wanted = {(r["client_id"], r["account_type"], r["symbol"], r["fill_id"]): r for r in expected.fills}
    assert set(fills) == set(wanted)
    for key, row in wanted.items():
        names = (
            "operation_id",
            "order_id",
            "side",
            "price",
            "quantity",
            "exchange_time",
            "fee_quote",
            "is_order_in_ledger",
        )
        assert differences(fills[key], {n: row[n] for n in names}) == {}, key

    operations = {(r["client_id"], r["operation_id"]): r for r in pipeline.rows("operations")}
    assert set(operations) == set(expected.operations)
    for key, row in expected.operations.items():
        assert differences(operations[key], row) == {}, key

    lots = {
        ((r["client_id"], r["account_type"], r["base_asset"]), (r["disposal_symbol"], r["disposal_fill_id"]),
         (r["acquisition_symbol"], r["acquisition_fill_id"])): r
        for r in pipeline.rows("tax_lots")
    }  # fmt: skip
    assert set(lots) == {(lot["account"], lot["disposal"], lot["acquisition"]) for lot in expected.lots}
    for lot in expected.lots:
        row = lots[lot.pop("account"), lot.pop("disposal"), lot.pop("acquisition")]
        assert differences(row, lot) == {}
