"""Every fault is found in the files as often as truth.json says, by looking for it, and is not there when it is off."""

import json
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from ingest.simulator.execution.faults import ALL_FAULTS, FAULTS, NO_FAULTS, chosen_faults
from lake.paths import PROJECT_DIR
from tests.unit.simulator_execution import kit


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults")
    kit.simulate(out, faults=[ALL_FAULTS])
    return out


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    out = tmp_path_factory.mktemp("clean")
    kit.simulate(out, faults=[NO_FAULTS])
    return out


def counts(out) -> dict:
    return json.loads((out / "truth" / "truth.json").read_text())["counts"]


def tokens(out) -> dict:
    """Events of each (client, token), each id once, in order of their numbers."""
    files = [*sorted((out / "events" / "events").glob("*")), *(out / "events" / "late").glob("*")]
    by_id, grouped = {}, defaultdict(list)
    for file in files:
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row["event_type"] != "STOP_TELEPORTED":
                by_id[row["event_id"]] = row
    for row in sorted(by_id.values(), key=lambda r: (r["event_seq"] or 0, r["stream_seq"] or 0)):
        grouped[row["client_id"], row["execution_token"]].append(row)
    return grouped


def found(out) -> dict[str, int]:
    """What is wrong, fault by fault, as a reader of the files sees it."""
    events = tokens(out)
    kinds = {key: [e["event_type"] for e in group] for key, group in events.items()}
    lines = [
        line
        for file in sorted((out / "events" / "events").glob("*"))
        for line in file.read_text().splitlines()
    ]
    ids, broken, unknown = Counter(), 0, 0
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            broken += 1
            continue
        unknown += row["event_type"] == "STOP_TELEPORTED"
        ids[row["event_id"]] += 1
    by_type = Counter(kind for group in kinds.values() for kind in group)
    guardrails = ("BLOCKED", "STALE_PRICE", "KILL_SWITCH", "SLIPPAGE_BREACH", "CIRCUIT_BREAKER")

    def reports(group: list[dict]) -> list[tuple]:
        return [
            tuple(f["trade_id"] for f in e["payload_json"]["fills"])
            for e in group
            if e["event_type"] == "EXECUTED"
        ]

    def slippage(group: list[dict]) -> Decimal | None:
        sold = [
            (Decimal(e["fill_price"]), Decimal(e["quantity"])) for e in group if e["fill_price"] is not None
        ]
        if not sold:
            return None
        mean = sum(p * q for p, q in sold) / sum(q for _, q in sold)
        level = Decimal(group[0]["stop_price"])
        return (level - mean) / level * 100 * (1 if group[0]["side"] == "SELL" else -1)

    slips = [round(s, 4) for group in events.values() if (s := slippage(group)) is not None]
    fills = defaultdict(Decimal)
    for client, fill in kit.fills(out):
        fills[client, fill["symbol"], str(fill["orderId"])] += Decimal(fill["qty"])
    orders = [r for r in kit.rows(out, "orders") if r["category"] == "TRADING"]
    owners = defaultdict(set)
    for client, token in events:
        owners[token].add(client)
    return {
        "duplicate-delivery": sum(n - 1 for n in ids.values()),
        "duplicate-report": sum(len(r := reports(g)) != len(set(r)) for g in events.values()),
        "null-event-seq": sum(all(e["event_seq"] is None for e in g) for g in events.values()),
        "stream-gap": sum(_has_hole([e["stream_seq"] for e in g if e["stream_seq"]]) for g in events.values()),
        "midnight-crossing": sum(len({e["occurred_at"][:10] for e in g}) > 1 for g in events.values()),
        "late-commit": sum(len(f.read_text().splitlines()) for f in (out / "events" / "late").glob("*")),
        "partial-fills": sum(len(set(reports(g))) > 1 for g in events.values()),
        "lone-failed": sum(k == ["FAILED"] for k in kinds.values()),
        "late-fill-after-failure": sum(_after(k, "FAILED", "EXECUTED") for k in kinds.values()),
        "late-fill-after-block": sum(any(_after(k, b, "EXECUTED") for b in guardrails) for k in kinds.values()),
        "failure-after-fill": sum(_after(k, "EXECUTED", "FAILED") for k in kinds.values()),
        "all-event-types": min(by_type[kind] for kind in guardrails),
        "slippage-at-bound": sum(abs(s) == 50 for s in slips),
        "slippage-beyond": sum(abs(s) > 50 for s in slips),
        "executed-without-fill": sum(
            e["event_type"] == "EXECUTED" and e["fill_price"] is None for g in events.values() for e in g
        ),
        "wrong-time-order": sum(_goes_back(g) for g in events.values()),
        "nonpositive-price": sum(
            e["trigger_price"] is not None and Decimal(e["trigger_price"]) <= 0 for g in events.values() for e in g
        ),
        "tenant-mismatch": sum(len(clients) > 1 for clients in owners.values()),
        "unknown-event-type": unknown,
        "malformed-line": broken,
        "key-hash-conflict": sum(len(f.read_text().splitlines()) for f in (out / "conflict").glob("*")),
        "order-mismatch": sum(
            fills[r["client_id"], r["symbol"], r["binance_order_id"]] != Decimal(r["raw_response"]["executedQty"])
            for r in orders
        ),
        "secrets": sum("key=" in (e["error_message"] or "") for g in events.values() for e in g)
        + sum("jane.doe@" in r["description"] for r in kit.rows(out, "orders")),
    }  # fmt: skip


def _has_hole(numbers: list[int]) -> bool:
    return len(numbers) != max(numbers, default=0) - min(numbers, default=1) + 1


def _after(kinds: list[str], first: str, second: str) -> bool:
    return first in kinds and second in kinds[kinds.index(first) + 1 :]


def _goes_back(group: list[dict]) -> bool:
    at = {e["event_type"]: e["occurred_at"] for e in group}
    return "EXECUTED" in at and "EXECUTION_SUBMITTED" in at and at["EXECUTED"] < at["EXECUTION_SUBMITTED"]


def test_each_fault_is_found_as_often_as_it_was_planted(out):
    planted, seen = counts(out)["planted"], found(out)
    assert seen.keys() <= FAULTS.keys()
    at_least = {"all-event-types": 1}  # a guardrail also refuses by itself
    for name, count in seen.items():
        if name in at_least:
            assert count >= at_least[name]
        else:
            assert count == planted[name], name
            assert count > 0, name


def test_the_other_faults_are_counted_too(out):
    counted = counts(out)
    rows = counted["rows"]
    assert rows["agg_id_gaps"] == 1
    assert rows["missing_klines"] == 180
    assert rows["shuffled_lines"] > 20
    assert counted["planted"]["unpriced-fee"] > 0
    assert counted["planted"]["two-attempts"] > 0
    assert sum(counted["event_types"].values()) == rows["events"] == sum(map(len, tokens(out).values()))
    assert set(counted["statuses"]) == {"PENDING", "SUBMITTED", "EXECUTED", "FAILED", "BLOCKED"}


def test_nothing_is_wrong_without_faults(clean):
    seen = found(clean)
    assert {name for name, count in seen.items() if count} <= {"all-event-types"}
    counted = counts(clean)
    assert counted["planted"] == {}
    assert counted["failed_rules"] == {}
    assert set(counted["anomalies"]) <= {"FILL_WITHOUT_EVENT"}
    assert counted["rows"]["agg_id_gaps"] == counted["rows"]["missing_klines"] == 0


@pytest.mark.parametrize("name", ["lone-failed", "slippage-beyond", "duplicate-delivery"])
def test_a_fault_comes_alone_when_it_is_named_alone(name, tmp_path):
    kit.simulate(tmp_path, faults=[name], days=2)
    seen = {fault for fault, count in found(tmp_path).items() if count} - {"all-event-types"}
    assert seen == {name}


def test_names_are_checked():
    assert chosen_faults(["all"]) == FAULTS.keys()
    assert chosen_faults(["none"]) == frozenset()
    with pytest.raises(ValueError, match="expected none alone"):
        chosen_faults(["none", "secrets"])


def test_every_fault_of_the_guide_is_one_that_can_be_switched_on():
    guide = (PROJECT_DIR / "docs" / "guides" / "simulator.md").read_text().partition("## The bot")[2]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in guide.splitlines()
        if line.startswith("| `")
    ]
    told = {name.strip("`"): cells for name, *cells in rows}
    assert {n: cells for n, cells in told.items() if n in FAULTS} == {
        n: [f.what, f.handling] for n, f in FAULTS.items()
    }
