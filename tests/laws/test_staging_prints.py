"""Staging of option and stock prints: what came more than once is one row, and the aggressor is by the tick test."""

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from lake import datasets
from tests.fixtures.bronze import Delivery, make_bronze, spy_day
from tests.fixtures.dbt import repository_project

DATE = "2025-12-15"
CANCELLED = {7, 8, 10, 11}
VALUES = {
    "options_trades": ("ts_event_ns", "option_symbol", "price", "size", "opt_bid", "opt_ask", "correction"),
    "stocks_trades": ("ts_event_ns", "trade_id", "price", "size", "correction"),
}


def halves(rows: list[dict], rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Two overlapping parts of ``rows``, each in order, that hold each of them at least once."""
    parts = [rng.choice([(True, True), (True, False), (False, True)]) for _ in rows]
    return tuple([row for row, part in zip(rows, parts, strict=True) if part[i]] for i in (0, 1))


def merged(dataset: str, deliveries: list[list[dict]]) -> Counter:
    """The multiset rule by hand: of each value tuple as many as the one delivery that has most of it."""
    counts = [Counter(tuple(row.get(c) for c in VALUES[dataset]) for row in rows) for rows in deliveries]
    return Counter({value: max(c[value] for c in counts) for c in counts for value in c})


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> tuple[dict, Path]:
    """Overlapping deliveries of one day and the lake that staged them."""
    root = tmp_path_factory.mktemp("prints")
    rng = random.Random(20251215)  # noqa: S311
    parts = {name: halves(rows, rng) for name, rows in spy_day(DATE, 3, prints_each=400).items()}
    make_bronze(
        root, [Delivery(f"part {i}", {name: part[i] for name, part in parts.items()}) for i in (0, 1)]
    )
    outcome = repository_project().run(root, "run", "--select", "stg_options__trades", "stg_stocks__trades")
    assert outcome.ok, outcome
    return parts, root


@pytest.mark.parametrize("dataset", VALUES)
def test_overlapping_deliveries_give_each_print_once(staged, dataset):
    parts, root = staged
    expected = merged(dataset, parts[dataset])
    assert sum(expected.values()) > max(map(len, parts[dataset])), "the deliveries don't complete each other"
    names = VALUES[dataset]
    found: Counter = Counter()
    table = datasets.read(root, f"silver/datasets/stg_{dataset.replace('_', '__')}")
    for row in table.to_pylist():
        values = [row.get(name) for name in names[:-3]] if dataset == "options_trades" else None
        if values is None:
            values = [row["ts_event_ns"], row["trade_id"], row["price"] * 4, row["size"]]
        else:
            values[2] *= 4
        found[tuple(values)] += 1
    kept = Counter()
    for value, count in expected.items():
        if (value[-1] or 0) not in CANCELLED:
            kept[value[:4]] += count
    assert found == kept


def test_the_aggressor_is_by_quote_and_else_by_the_tick_test(staged):
    _, root = staged
    rows = datasets.read(root, "silver/datasets/stg_options__trades").to_pylist()
    quotes = {
        (row["ts_event_ns"], row["option_symbol"]): (row.get("opt_bid"), row.get("opt_ask"))
        for part in staged[0]["options_trades"]
        for row in part
    }
    last_price: dict[str, int] = {}
    last_sign: dict[str, int] = defaultdict(int)
    methods = Counter()
    for row in rows:
        symbol, price = row["option_symbol"], row["price"] * 4
        change = price - last_price.get(symbol, price)
        last_price[symbol] = price
        if change:
            last_sign[symbol] = 1 if change > 0 else -1
        bid, ask = quotes[row["ts_event_ns"], symbol]
        if ask is not None and price >= ask:
            expected = (1, "quote")
        elif bid is not None and price <= bid:
            expected = (-1, "quote")
        elif last_sign[symbol]:
            expected = (last_sign[symbol], "tick")
        else:
            expected = (0, "none")
        assert (row["aggressor"], row["aggressor_method"]) == expected, row
        methods[expected] += 1
    assert len(methods) >= 4, methods
