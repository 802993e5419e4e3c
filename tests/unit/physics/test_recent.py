"""A live host that keeps only the recent part of its streams gets what a batch run gets."""

import numpy as np
import pyarrow as pa
import pytest
from book_kit import T0, before, cut, points_table, random_records, random_trades, records_table, trades_table
from hypothesis import given, settings
from hypothesis import strategies as st
from test_barrier import PARAMETERS, measure, random_points

from physics.barrier import barrier
from physics.book import STATES_SCHEMA, TAPE_SCHEMA, BookPass
from physics.recent import Recent
from physics.tape import tape
from physics.units import SECOND_NS

SMALL = {"W_b": 5, "WEAK_LOOKBACK": 70, "F_thresh": 40, "GAP_S": 60}
TAPE = {"W_t": 10, "SWEEP_MAX_GAP_MS": 100, "SWEEP_MIN_CONTRACTS": 50, "band_ticks": 20}


def batch(*times):
    return pa.record_batch({"ts_event_ns": pa.array(times, pa.int64())})


def test_rows_within_the_span_and_the_one_that_held_at_its_edge_are_kept():
    recent = Recent(batch().schema, 10)

    def kept():
        return recent.table()["ts_event_ns"].to_pylist()

    assert kept() == []
    for row in (1, 5, 12):
        recent.update(batch(row))
    assert kept() == [1, 5, 12]
    recent.update(batch(14))
    assert kept() == [1, 5, 12, 14]
    recent.update(batch(15))
    assert kept() == [5, 12, 14, 15]
    recent.update(batch())
    assert kept() == [5, 12, 14, 15]
    recent.update(batch(40, 41))
    assert kept() == [15, 40, 41]


def test_refusals():
    recent = Recent(batch().schema, 10)
    recent.update(batch(5))
    with pytest.raises(ValueError, match="in order"):
        recent.update(batch(4))
    with pytest.raises(ValueError, match="positive"):
        Recent(batch().schema, 0)


@given(st.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_live_equals_batch(seed):
    rng = np.random.default_rng(seed)
    records = random_records(rng, 300, faults=0.02, step_ns=int(rng.choice([4e7, 1e9])))
    trades = random_trades(rng, 300, mean_step_ns=(records[-1].ts - T0) // 350 + 1)
    points = sorted(random_points(rng, records, 8))
    p = PARAMETERS | SMALL
    wanted = measure(records, trades, points, **p)
    prints = trades_table(trades)
    wanted_tape = tape(points_table(points), prints, **TAPE).to_pylist()

    book = BookPass(p["GAP_S"], p["grid_ms"])
    changes = Recent(TAPE_SCHEMA, p["W_b"] * SECOND_NS)
    states = Recent(STATES_SCHEMA, (300 + p["W_b"]) * SECOND_NS, time="cell_end_ns")
    recent_trades = Recent(prints.schema, 60 * SECOND_NS)
    done = done_trades = 0
    for row, row_tape, point in zip(wanted, wanted_tape, points, strict=True):
        now = len(before(records, point[0]))
        for part in cut(records_table(records[done:now]), 5) if now > done else []:
            rows = book.update(part)
            changes.update(rows.tape)
            states.update(rows.states)
        done = now
        now = sum(t[0] < point[0] for t in trades)
        for part in cut(prints.slice(done_trades, now - done_trades), 3):
            recent_trades.update(part)
        done_trades = now
        known = [*states.table().to_batches(), book.open_cell()]
        one = points_table([point])
        got = barrier(one, changes.table(), known, recent_trades.table(), **p).to_pylist()[0]
        assert got | {"observation_id": row["observation_id"]} == row
        got = tape(one, recent_trades.table(), **TAPE).to_pylist()[0]
        assert got | {"observation_id": row_tape["observation_id"]} == row_tape
