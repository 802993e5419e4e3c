"""Order flow and kinematics equal the slow oracle of `tests/oracle` on random books and on a real hour; so do the best
quotes.

Integers are equal; doubles agree to 1e-9 * max(|a|, |b|) + 1e-12 (spec market 6). A world is named by its seed.
"""

import random
from collections import Counter

import pyarrow as pa
import pytest

from lake import params
from physics.book import BBO_SCHEMA, STATES_SCHEMA, TAPE_SCHEMA, bbo_changes, book_states, book_tape
from physics.kinematics import KINEMATICS_SCHEMA, kinematics
from physics.ofi import OFI_SCHEMA, ofi
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import busy_morning
from tests.laws.test_kernels_equal_oracle import (
    assert_rows,
    hour,  # noqa: F401 (a fixture)
    in_batches,
    instants_to_aim_at,
    last_time_before,
    needs_real_hour,
    points_table,
    random_gaps,
    rows_of,
    seeds,
)
from tests.oracle import book as oracle_book
from tests.oracle import worlds
from tests.oracle.kinematics import kinematics_row
from tests.oracle.ofi import flows, ofi_row
from tests.oracle.rules import DEFAULT, MS_NS, SECOND_NS

GRID_NS = 100 * MS_NS
OFI_PARAMETERS = ("BARRIER_ZONE_ES_TICKS", "GAP_S", "grid_ms")


def expected_quotes(states: list[dict]) -> list[dict]:
    """Best bid and ask of every valid state that differs there from the one before it."""
    rows, was = [], None
    for state in states:
        bid, ask = max(state["bids"], default=None), min(state["asks"], default=None)
        quote = (bid, ask, state["bids"].get(bid, 0), state["asks"].get(ask, 0))
        if quote != was:
            key = (state["ts"], state["sequence"], state["ordinal"])
            rows.append(dict(zip(BBO_SCHEMA.names, (*key, *quote), strict=True)))
        was = quote
    return rows


@seeds(30, 500)
def test_bbo_changes(seed: int) -> None:
    """One row per change of the best quotes, for any cut of the stream."""
    rng = worlds.seeded(seed)
    records = worlds.random_book(rng, 250)
    f_last_absent = rng.random() < 0.1
    gaps = random_gaps(rng, records)
    entries = oracle_book.read(records, f_last_absent)
    expected = expected_quotes(oracle_book.walk(entries, 60, tuple(gaps))["states"])
    batches = in_batches(rng, worlds.mbp10_table(records))
    found = rows_of(bbo_changes(batches, gap_s=60, gaps=gaps, f_last_absent=f_last_absent), BBO_SCHEMA)
    assert_rows(found, expected, BBO_SCHEMA.names)


@seeds(30, 500)
def test_order_flow_of_the_cells(seed: int) -> None:
    """The sums over each 100 ms of what its events say one by one."""
    rng = worlds.seeded(6_000_000 + seed)
    records = worlds.random_book(rng, 250, mean_gap_ns=rng.choice((20 * MS_NS, 400 * MS_NS)))
    f_last_absent = rng.random() < 0.1
    gaps = random_gaps(rng, records)
    entries = oracle_book.read(records, f_last_absent)
    events = flows(oracle_book.walk(entries, 60, tuple(gaps))["states"])
    cells = sorted({(entry["ts"] // GRID_NS + 1) * GRID_NS for entry in entries})
    expected = {cell: [0, 0] for cell in cells}
    for ts, of_all, of_best in events:
        cell = expected[(ts // GRID_NS + 1) * GRID_NS]
        cell[0] += of_all
        cell[1] += of_best
    batches = in_batches(rng, worlds.mbp10_table(records))
    states = book_states(batches, gap_s=60, grid_ms=100, gaps=gaps, f_last_absent=f_last_absent)
    found = {row["cell_end_ns"]: [row["ofi"], row["ofi_l1"]] for row in rows_of(states, STATES_SCHEMA)}
    assert found == expected
    assert any(values != [0, 0] for values in found.values())


def silver(rng: random.Random, records: list[dict], gap_s: int, gaps: list) -> tuple[pa.Table, pa.Table]:
    """Tape and states of the records, as the kernels read them."""
    table = worlds.mbp10_table(records)
    tape = pa.Table.from_batches(book_tape(table, gap_s=gap_s, gaps=gaps), schema=TAPE_SCHEMA)
    states = book_states(in_batches(rng, table), gap_s=gap_s, grid_ms=100, gaps=gaps)
    return tape, pa.Table.from_batches(states, schema=STATES_SCHEMA)


@seeds(30, 500)
def test_ofi(seed: int) -> None:
    """Every column of random points, in any order, over random books with every fault."""
    rng = worlds.seeded(7_000_000 + seed)
    records = worlds.random_book(
        rng, 300, rng.random() < 0.8, mean_gap_ns=rng.choice((100 * MS_NS, 400 * MS_NS, 3 * SECOND_NS))
    )
    p = DEFAULT | {"BARRIER_ZONE_ES_TICKS": rng.choice((2, 8, 20)), "GAP_S": rng.choice((5, 60, 60))}
    gaps = random_gaps(rng, records)
    session_book = oracle_book.whole(records, p["GAP_S"], manifest_gaps=tuple(gaps))
    aims = [change["tick"] for change in session_book["tape"]] or [24_000]
    aimed = worlds.random_points(rng, 16, instants_to_aim_at(session_book, p["GAP_S"]), aims)
    # windows that begin exactly at an event, or a cell later
    for w in (30, 60, 120, 300):
        ts = rng.choice(session_book["entries"])["ts"] // GRID_NS * GRID_NS + rng.choice((0, 1)) * GRID_NS
        aimed.append(aimed[0] | {"observation_id": f"edge-{w}", "asof_ns": ts + w * SECOND_NS})
    rng.shuffle(aimed)
    tape, states = silver(rng, records, p["GAP_S"], gaps)
    found = ofi(
        points_table(aimed),
        in_batches(rng, tape),
        in_batches(rng, states),
        **{name: p[name] for name in OFI_PARAMETERS},
    )
    events = flows(session_book["states"])
    expected = [
        {
            "observation_id": point["observation_id"],
            **ofi_row(session_book, point, p, events),
            "ofi_max_input_ts_ns": next(
                iter(last_time_before(session_book["entries"], point["asof_ns"], "ts")), None
            ),
        }
        for point in aimed
    ]
    assert set(OFI_SCHEMA.names) == set(expected[0])
    assert_rows(found.to_pylist(), expected, OFI_SCHEMA.names)


@seeds(6, 100)
def test_kinematics(seed: int) -> None:
    """Every column of random points, with windows that are whole and windows that miss a mid."""
    rng = worlds.seeded(8_000_000 + seed)
    records = worlds.random_book(
        rng, 400, rng.random() < 0.6, mean_gap_ns=rng.choice((400 * MS_NS, 3 * SECOND_NS, 5 * SECOND_NS))
    )
    session_book = oracle_book.whole(records)
    aims = [change["tick"] for change in session_book["tape"]] or [24_000]
    instants = instants_to_aim_at(session_book, 60)
    aimed = worlds.random_points(rng, 5, instants, aims) + worlds.random_points(rng, 3, instants[-40:], aims)
    rng.shuffle(aimed)
    _, states = silver(rng, records, 60, [])
    found = kinematics(points_table(aimed), in_batches(rng, states), grid_ms=100)
    expected = [
        {
            "observation_id": point["observation_id"],
            **kinematics_row(session_book, point),
            "kinematics_max_input_ts_ns": next(
                iter(last_time_before(session_book["states"], point["asof_ns"], "ts")), None
            ),
        }
        for point in aimed
    ]
    assert set(KINEMATICS_SCHEMA.names) == set(expected[0])
    assert_rows(found.to_pylist(), expected, KINEMATICS_SCHEMA.names)


@needs_real_hour
@pytest.mark.realdata
def test_order_flow_and_kinematics_of_the_real_hour(hour: dict) -> None:  # noqa: F811
    """Points spread over the real hour, at prices that traded, in both directions; every window is seen whole."""
    rng = worlds.seeded(11)
    ends = [hour["records"][0]["ts_event_ns"] + 400 * SECOND_NS, hour["records"][-1]["ts_event_ns"]]
    aimed = [
        {
            "observation_id": f"real-{i}",
            "asof_ns": rng.randrange(*ends) // GRID_NS * GRID_NS,
            "level_tick": rng.choice(hour["trades"])["tick"] + rng.choice((-3, 0, 5)),
            "direction": rng.choice(("UP", "DOWN")),
        }
        for i in range(20)
    ]
    tape = book_tape(hour["table"], gap_s=60)
    states = pa.Table.from_batches(book_states(hour["table"], gap_s=60, grid_ms=100), schema=STATES_SCHEMA)
    events = flows(hour["book"]["states"])
    expected = [ofi_row(hour["book"], point, DEFAULT, events) for point in aimed]
    found = ofi(points_table(aimed), tape, states, **{name: DEFAULT[name] for name in OFI_PARAMETERS})
    assert_rows(found.to_pylist(), expected, list(expected[0]))
    assert any(row["ofi_300s"] for row in expected)

    expected = [kinematics_row(hour["book"], point) for point in aimed]
    found = kinematics(points_table(aimed), states, grid_ms=100)
    assert_rows(found.to_pylist(), expected, list(expected[0]))
    assert any(row["jerk_20min"] is not None for row in expected)


def test_the_models_hold_what_the_oracle_says(manifest: dict) -> None:
    """Cells, flows, quotes and both feature models of a busy morning, as the project's own SQL and kernels build them
    on one connection."""
    *before, day = busy_morning(3)
    pipeline = Pipeline(manifest, params.load("default"))
    for earlier in before:
        pipeline.land(earlier)
        pipeline.build(earlier.date, only=pipeline.history)
    pipeline.land(day)
    contract = day.records[0]["contract"]
    session_book, trades = oracle_book.whole(day.front_records(contract)), day.front_trades(contract)
    names = ("ofi_100ms", "flow_100ms", "bbo_changes", "feat_touch_ofi", "feat_touch_kinematics")
    pipeline.build(day.date, only=pipeline.upstream(*names))
    rows = {name: pipeline.rows(name, day.date) for name in (*names, "observation_points")}
    of_cells, of_flows = Counter(), Counter()
    for ts, of_all, of_best in flows(session_book["states"]):
        of_cells[ts // GRID_NS * GRID_NS, "ofi"] += of_all
        of_cells[ts // GRID_NS * GRID_NS, "ofi_l1"] += of_best
    for change in session_book["tape"]:
        key = (change["ts_event_ns"] // GRID_NS * GRID_NS, change["side"], change["tick"])
        of_flows[key, "added" if change["delta"] > 0 else "lost"] += abs(change["delta"])
    for trade in trades:
        if trade["aggressor"]:
            side = {1: 1, -1: 0}[trade["aggressor"]]
            of_flows[(trade["ts_event_ns"] // GRID_NS * GRID_NS, side, trade["tick"]), "filled"] += trade[
                "size"
            ]

    cells = rows["ofi_100ms"]
    buckets = sorted({entry["ts"] // GRID_NS * GRID_NS for entry in session_book["entries"]})
    assert [row["bucket_ns"] for row in cells] == buckets
    for name in ("ofi", "ofi_l1"):
        assert [row[name] for row in cells] == [of_cells[bucket, name] for bucket in buckets]
    found = {
        ((row["bucket_ns"], row["side"], row["tick"]), name): row[name]
        for row in rows["flow_100ms"]
        for name in ("added", "lost", "filled")
        if row[name]
    }
    assert found == dict(of_flows)
    assert_rows(rows["bbo_changes"], expected_quotes(session_book["states"]), BBO_SCHEMA.names)

    points = {point["observation_id"]: point for point in rows["observation_points"]}
    assert len(points) > 20
    events = flows(session_book["states"])
    for row in rows["feat_touch_ofi"]:
        expected = ofi_row(session_book, points[row["observation_id"]], DEFAULT, events)
        assert_rows([row], [expected], list(expected))
    for row in worlds.seeded(0).sample(rows["feat_touch_kinematics"], 15):
        expected = kinematics_row(session_book, points[row["observation_id"]])
        assert_rows([row], [expected], list(expected))
    for name in ("ofi", "kinematics"):
        for row in rows[f"feat_touch_{name}"]:
            used = row[f"{name}_max_input_ts_ns"]
            assert used is None or used < points[row["observation_id"]]["asof_ns"]
    assert any(row["ofi_300s"] is not None for row in rows["feat_touch_ofi"])
    assert any(row["jerk_3min"] is not None for row in rows["feat_touch_kinematics"])
