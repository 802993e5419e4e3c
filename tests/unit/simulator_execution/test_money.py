"""Every balance is the sum of the ledger, and what an operation earned is what its account has more."""

from collections import defaultdict
from decimal import Decimal

import pytest

from tests.unit.simulator_execution import kit


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("money")
    kit.simulate(out)
    return out


def test_balances_follow_from_the_ledger_exactly(out):
    replayed = kit.replayed_balances(out)
    snapshots = kit.rows(out, "balance_snapshots")
    assert len(snapshots) == 3 * (4 * 24 - 1)
    for row in snapshots:
        told = {
            (b["account_type"], b["symbol"] or "", b["asset"]): [
                Decimal(b["free"]), Decimal(b["borrowed"]) + Decimal(b["interest"])
            ]
            for b in row["balances"]
        }  # fmt: skip
        known = replayed[row["client_id"], row["snapshot_time"]]
        assert {k: v for k, v in told.items() if any(v)} == {k: v for k, v in known.items() if any(v)}


def test_no_balance_is_negative(out):
    for row in kit.rows(out, "balance_snapshots"):
        for balance in row["balances"]:
            for name in ("free", "borrowed", "interest"):
                assert Decimal(balance[name]) >= 0, (row["snapshot_time"], balance)


def test_the_ledger_of_a_closed_operation_balances(out):
    """Start + net_pnl = end: the quote that came in for an operation less what went out, exactly, where no fee had to
    be priced. Source: spec/execution.md 4.8."""
    cash: dict = defaultdict(Decimal)
    fee_assets: dict = defaultdict(set)
    for row in kit.rows(out, "orders"):
        key = (row["client_id"], row["related_operation_id"])
        if row["category"] == "TRADING":
            sign = -1 if row["side"] == "BUY" else 1
            fee_assets[key].add(row["fee_asset"])
            cash[key] += sign * Decimal(row["total_value"])
            cash[key] -= Decimal(row["fee"]) if row["fee_asset"] == "USDC" else 0
        elif row["transaction_type"] == "INTEREST_CHARGED":
            cash[key] -= Decimal(row["quantity"])
    checked = defaultdict(int)
    for row in kit.truth(out, "operations"):
        key = (row["client_id"], row["operation_id"])
        if row["status"] == "CLOSED" and fee_assets[key] == {"USDC"}:
            assert cash[key] == row["net_pnl"]
            checked[row["account_type"], row["side"]] += 1
        elif row["status"] == "CLOSED" and fee_assets[key] & {"BTC", "ETH", "CANARY"}:
            # What is left is the commission, which the fee has priced already.
            assert cash[key] == pytest.approx(row["net_pnl"], abs=Decimal("0.0000001"))
            checked["base"] += 1
    sides = [("SPOT", "BUY"), ("ISOLATED_MARGIN", "BUY"), ("ISOLATED_MARGIN", "SELL"), "base"]
    assert min(checked[key] for key in sides) >= 3
