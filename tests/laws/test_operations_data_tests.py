"""The data tests of operations pass on a good day and fail on the defect that each is about."""

from __future__ import annotations

import pytest

from tests.e2e.execution import ExecutionPipeline
from tests.laws.operations_kit import GOLDEN_A, GOLDEN_B_MOVEMENTS, GOLDEN_B_TRADES, orders_of, state

FIRST = "where operation_id = 7 and client_id = 1"
DEFECTS = {
    "assert_operations_add_up_to_their_fills": [
        f"update silver.operations set entry_quantity = entry_quantity + 0.00000001 {FIRST}",
        f"update silver.operations set exit_quantity = 0 {FIRST}",
        f"update silver.operations set remaining_quantity = 1 {FIRST}",
        f"update silver.operations set entry_order_count = 0 {FIRST}",
        "update silver.operations set remaining_quantity = -1, exit_quantity = entry_quantity + 1, status = 'ACTIVE' "
        + FIRST,
        f"delete from silver.int_operations__fills {FIRST} and fill_number = 1",
    ],
    "assert_operations_realise_what_they_traded": [
        f"update silver.operations set gross_pnl = gross_pnl + 0.00000001 {FIRST}",
        f"update silver.operations set gross_pnl_fifo = 0 {FIRST}",
        f"update silver.int_operations__fills set price = price + 1 {FIRST} and fill_number = 1",
    ],
    "assert_operations_net_is_gross_less_costs": [
        f"update silver.operations set net_pnl = net_pnl + 0.00000002 {FIRST}",
        f"update silver.operations set net_pnl = null {FIRST}",
        f"update silver.operations set fees_quote = null {FIRST}",
        f"update silver.operations set status = 'ACTIVE' {FIRST}",
    ],
    "assert_operations_stand_on_one_date": [
        "insert into silver.operations select * from silver.operations",
        f"insert into silver.int_operations__fills select * from silver.int_operations__fills {FIRST}",
        f"delete from silver.int_operations__fills {FIRST} and fill_number = 2",
    ],
    "assert_operations_cycles_balance": [
        "update silver.ledger set quantity = 62 where transaction_type = 'MARGIN_REPAY'",
        "update silver.ledger set value_quote = 32 where transaction_type = 'TRANSFER_ISOLATED_TO_SPOT'",
        f"update silver.operations set net_pnl = net_pnl + 0.00000001 {FIRST}",
    ],
    "assert_orders_are_reconciled": [
        "update silver.fills set quantity = quantity + 0.00000002 where order_id = 'o1'",
        "delete from silver.fills where order_id = 'o1'",
    ],
}


@pytest.fixture(scope="module")
def pipeline(manifest) -> ExecutionPipeline:
    """The golden margin cycle, with an order whose answer says what was executed, and golden A of another client."""
    pipeline = ExecutionPipeline(manifest)
    said = {"raw_response": {"executedQty": "0.001", "cummulativeQuoteQty": "90"}}
    cycle = [m | said if m.get("binance_order_id") == "o1" else m for m in GOLDEN_B_MOVEMENTS]
    pipeline.land(
        trades=[*GOLDEN_B_TRADES, *(t | {"client_id": 2} for t in GOLDEN_A)],
        orders=[*cycle, *orders_of(GOLDEN_A, client_id=2)],
        operations=[state(account_type="ISOLATED_MARGIN")],
    )
    pipeline.build("operations", "fills", "ledger")
    for view in ("ledger_cycles", "order_reconciliation"):
        pipeline.rows(view)
    return pipeline


@pytest.fixture(scope="module")
def tests(manifest) -> dict[str, str]:
    return {n["name"]: n["compiled_code"] for n in manifest["nodes"].values() if n["name"] in DEFECTS}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_good_day_passes_and_each_defect_fails(pipeline, tests, name):
    assert pipeline.query(tests[name]) == []
    for defect in DEFECTS[name]:
        pipeline.con.execute("begin")
        pipeline.con.execute(defect)
        found = pipeline.query(tests[name])
        pipeline.con.execute("rollback")
        assert found, defect


def test_every_data_test_of_operations_is_tried(manifest):
    names = {n["name"] for n in manifest["nodes"].values() if n["resource_type"] == "test"}
    assert {n for n in names if n.startswith("assert_operations_")} <= set(DEFECTS) <= names
