"""Prices of option prints equal the slow oracle on random prints: integers and sources exactly, doubles to 1e-9."""

from collections import Counter
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from physics.option_greeks import GREEKS_SCHEMA, PRINT_COLUMNS, option_greeks
from tests.oracle import option_worlds, options, ratio, worlds
from tests.oracle.rules import MINUTE_NS, SECOND_NS

PARAMS = {"RISK_FREE": 0.045, "SIGMA_DEFAULT": 0.20}


def seeds(few: int, many: int):
    more = [pytest.param(seed, marks=pytest.mark.long) for seed in range(few, few + many)]
    return pytest.mark.parametrize("seed", [*range(few), *more])


def world(seed: int) -> tuple[dict, list[dict], list[dict], list[dict]]:
    """A session, its ES trades, its option prints and its ratio, second by second."""
    rng = worlds.seeded(seed)
    session = worlds.random_session(rng, minutes=30)
    if rng.random() < 0.3:  # expiry in the middle of the prints
        session["rth_close_ns"] = session["globex_open_ns"] + rng.randrange(8, 20) * MINUTE_NS
    value = rng.choice((10.0, 10.03, 9.5))
    trades = worlds.random_trades(rng, 250, mean_gap_ns=3 * SECOND_NS)
    trades = [trade for trade in trades if trade["ts_event_ns"] < session["globex_close_ns"]]
    spy = option_worlds.random_spy(rng, session, trades, value) if rng.random() < 0.7 else []
    rows = ratio.ratio_rows(ratio.live_rows(spy, trades, session), [], session)
    found = option_worlds.random_options(rng, session, trades, value)
    # the first prints come before the first ES trade now and then
    first = min(print_["ts_event_ns"] for print_ in found)
    trades = trades if rng.random() < 0.7 else [t for t in trades if t["ts_event_ns"] > first]
    return session, trades, found, rows


def by_kernel(session: dict, trades: list[dict], found: list[dict], ratios: list[dict]) -> pa.Table:
    today = date.fromisoformat(session["session_date"])
    rows = [{**p, "price": float(p["price"])} for p in found if p["exp_date"] == today]
    schema = pa.schema([GREEKS_SCHEMA.field(name) for name in PRINT_COLUMNS])
    return option_greeks(
        pa.Table.from_pylist([{k: row[k] for k in PRINT_COLUMNS} for row in rows], schema=schema),
        worlds.trades_table(trades),
        pa.table({k: [row[k] for row in ratios] for k in ("asof_ns", "es_spy_ratio")}),
        expiry_ns=session["rth_close_ns"],
        **PARAMS,
    )


def close(mine: float, theirs: float) -> bool:
    return abs(mine - theirs) <= 1e-9 * max(abs(mine), abs(theirs)) + 1e-12


@seeds(200, 800)
def test_option_greeks(seed: int) -> None:
    session, trades, found, ratios = world(seed)
    table = by_kernel(session, trades, found, ratios)
    assert table.schema == GREEKS_SCHEMA
    expected = options.greeks_rows(
        found, trades, lambda t: ratio.ratio_at(ratios, t)["es_spy_ratio"], session,
        PARAMS["RISK_FREE"], PARAMS["SIGMA_DEFAULT"],
    )  # fmt: skip
    mine = table.to_pylist()
    assert len(mine) == len(expected)
    for a, b in zip(mine, expected, strict=True):
        for name in GREEKS_SCHEMA.names:
            same = (
                close(a[name], b[name])
                if isinstance(b[name], float) and a[name] is not None
                else a[name] == b[name]
            )
            assert same, f"{name} was {a[name]!r}, the oracle says {b[name]!r}: {b}"


def test_the_worlds_have_every_kind_of_print() -> None:
    """All sources and both reasons for none, both rights, prints after expiry, at one ns with others and with ES."""
    seen: Counter = Counter()
    for seed in range(40):
        session, trades, found, ratios = world(seed)
        rows = by_kernel(session, trades, found, ratios).to_pylist()
        es = {trade["ts_event_ns"] for trade in trades}
        seen.update(row["iv_source"] for row in rows)
        seen.update(row["right"] for row in rows)
        seen["aggressor 0"] += sum(row["aggressor"] == 0 for row in rows)
        seen["no spot"] += sum(row["spot_tick"] is None for row in rows)
        seen["expired"] += sum(row["ts_event_ns"] > session["rth_close_ns"] for row in rows)
        seen["tie with ES"] += sum(row["ts_event_ns"] in es for row in rows)
        seen["tie"] += len(rows) - len({row["ts_event_ns"] for row in rows})
        seen["other expiry"] += len(found) - len(rows)
    wanted = (
        "solved",
        "carried",
        "default",
        None,
        "C",
        "P",
        "aggressor 0",
        "no spot",
        "expired",
        "tie with ES",
        "tie",
    )
    assert min(seen[kind] for kind in (*wanted, "other expiry")) > 0, seen


def test_prints_out_of_order_are_refused() -> None:
    session, trades, found, ratios = world(0)
    backwards = sorted(found, key=lambda row: -row["ts_event_ns"])
    with pytest.raises(ValueError, match=r"prints had .* expected ascending"):
        by_kernel(session, trades, backwards, ratios)


def test_copies_of_prints_are_worth_what_each_is() -> None:
    """Equal keys are in order; and there are more prints than are solved together."""
    session, trades, found, ratios = world(2)
    once = by_kernel(session, trades, found, ratios)
    many = by_kernel(session, trades, [row for row in found for _ in range(30)], ratios)
    priced = many.num_rows - many["iv"].null_count
    assert priced > 1024
    assert many.equals(once.take([row for row in range(once.num_rows) for _ in range(30)]))


def test_nothing_priced_depends_on_what_comes_later() -> None:
    """The rows before an instant are the same without every print and trade at or after it."""
    session, trades, found, ratios = world(3)
    whole = by_kernel(session, trades, found, ratios)
    at = found[len(found) // 2]["ts_event_ns"]
    cut = by_kernel(
        session,
        [t for t in trades if t["ts_event_ns"] < at],
        [p for p in found if p["ts_event_ns"] < at],
        [r for r in ratios if r["asof_ns"] <= at],
    )
    assert 0 < cut.num_rows < whole.num_rows
    assert whole.slice(0, cut.num_rows).equals(cut)


@seeds(20, 100)
def test_prints_of_the_last_300_s_are_all_that_pricing_looks_at(seed: int) -> None:
    """A live host that keeps no more gets the same rows."""
    session, trades, found, ratios = world(seed)
    at = found[len(found) // 2]["ts_event_ns"]
    whole = by_kernel(session, trades, found, ratios)
    recent = by_kernel(
        session, trades, [p for p in found if p["ts_event_ns"] >= at - 300 * SECOND_NS], ratios
    )
    whole, recent = (t.filter(pc.greater_equal(t["ts_event_ns"], at)) for t in (whole, recent))
    assert whole.num_rows
    assert whole.equals(recent)


def test_a_strike_of_nothing_has_no_price() -> None:
    """No exchange lists one; a row that says so must not stop the day."""
    session, trades, found, ratios = world(0)
    odd = [{**p, "strike_milli": 0} for p in found]
    table = by_kernel(session, trades, odd, ratios)
    assert table.num_rows
    assert table["iv"].null_count == table["gamma"].null_count == table.num_rows


def test_without_prints_there_are_no_rows() -> None:
    session, trades, _, ratios = world(0)
    assert by_kernel(session, trades, [], ratios).equals(GREEKS_SCHEMA.empty_table())
