"""The order guard and the merge of hours that were delivered apart."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physics.order import interleave, require_batch_sorted, require_sorted, unfilled
from physics.units import HOUR_NS, points_to_ticks, ticks, window_ns


def keys(rows):
    return [np.array(c, np.int64) for c in zip(*rows, strict=True)] if rows else [np.array([], np.int64)] * 3


def test_equal_keys_are_in_order_and_the_last_key_is_given_back():
    assert require_sorted(*keys([(1, 5, 0), (1, 5, 0), (1, 6, 0), (2, 0, 9)])) == (2, 0, 9)


@pytest.mark.parametrize(
    "rows",
    [[(1, 1, 1), (2, 1, 1), (1, 9, 9)], [(1, 1, 1), (1, 2, 1), (1, 1, 2)], [(1, 1, 1), (1, 1, 2), (1, 1, 0)]],
)
def test_the_first_row_out_of_order_is_named(rows):
    with pytest.raises(ValueError, match=r"in row 2 after \(") as error:
        require_sorted(*keys(rows))
    assert str(rows[2]) in str(error.value)


def test_the_seam_between_two_batches_is_checked():
    with pytest.raises(ValueError, match="row 0"):
        require_sorted(*keys([(4, 0, 0)]), after=(5, 0, 0))
    assert require_sorted(*keys([]), after=(5, 0, 0)) == (5, 0, 0)


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), max_size=8))
@settings(max_examples=200, deadline=None)
def test_the_guard_agrees_with_sorted(rows):
    if rows == sorted(rows):
        assert require_sorted(*keys(rows)) == (rows[-1] if rows else None)
    else:
        with pytest.raises(ValueError, match="sort the rows"):
            require_sorted(*keys(rows))


def batch(hours_and_offsets, tag):
    ts = [h * HOUR_NS + o for h, o in hours_and_offsets]
    return pa.record_batch(
        {"ts_event_ns": pa.array(ts, pa.int64()), "tag": pa.array([tag] * len(ts), pa.string())}
    )


def merged(stream, shared):
    out = list(interleave(stream, shared))
    return pa.Table.from_batches(out) if out else None


def test_shared_hours_land_before_inside_and_after_the_stream():
    stream = [
        batch([(2, 1), (2, 5)], "s"),
        batch([(2, 7), (4, 0), (4, 1)], "s"),
        batch([(4, 1), (5, 3)], "s"),
    ]
    shared = pa.Table.from_batches(
        [batch([(1, 0), (1, 9)], "x"), batch([(3, 0), (3, 3)], "x"), batch([(7, 0)], "x")]
    )
    table = merged(stream, shared)
    ts = table["ts_event_ns"].to_pylist()
    assert ts == sorted(ts)
    assert "".join(table["tag"].to_pylist()) == "xxsssxxssssx"


def test_a_stream_without_shared_rows_passes_untouched_and_an_empty_stream_gives_the_shared_ones():
    only = batch([(1, 1)], "s")
    none = pa.Table.from_batches([only.slice(0, 0)])
    assert list(interleave([only], none)) == [only]
    assert merged([], pa.Table.from_batches([only])) == pa.Table.from_batches([only])


def test_an_hour_on_both_sides_is_refused():
    with pytest.raises(ValueError, match="UTC hour 2"):
        merged([batch([(1, 0), (2, 5)], "s")], pa.Table.from_batches([batch([(2, 6)], "x")]))


def test_a_stream_out_of_order_is_refused_across_batches():
    with pytest.raises(ValueError, match="row 0"):
        merged([batch([(2, 5)], "s"), batch([(2, 4)], "s")], pa.Table.from_batches([batch([], "x")]))


def test_narrow_reads_are_guarded_by_what_they_hold():
    assert require_batch_sorted(batch([(1, 0), (1, 0)], "s")) == (HOUR_NS, 0, 0)


def test_widths_in_ticks():
    assert [ticks(b, 10.0) for b in (0.25, 0.10, 0.05, 0.50, 0.20, 1.0, 2.0)] == [10, 4, 2, 20, 8, 40, 80]
    assert ticks(np.array([0.1, 0.1]), np.array([10.0, 10.03])).tolist() == [4, 4]
    assert points_to_ticks([4800.0, 4800.124, 4800.125, -0.125]).tolist() == [19200, 19200, 19201, 0]
    with pytest.raises(ValueError, match="finite"):
        ticks(0.1, float("nan"))


def test_a_window_off_the_grid_is_refused():
    assert window_ns("W_b", 240, 100) == 240_000_000_000
    with pytest.raises(ValueError, match=r"W_b was 0\.25 s"):
        window_ns("W_b", 0.25, 100)


def test_a_gap_stands_until_a_record_of_another_delivery_is_inside_it():
    shared = pa.table({"ts_event_ns": pa.array([10, 20, 20, 30], pa.int64())})
    gaps = [(1, 9), (1, 11), (10, 20), (19, 21), (20, 20), (20, 30), (10, 30), (30, 40), (31, 31)]
    of_one = [("ESZ5", *gap) for gap in gaps]
    assert unfilled(of_one, "ESZ5", shared) == [(1, 9), (10, 20), (20, 20), (20, 30), (30, 40), (31, 31)]
    assert unfilled(of_one, "ESZ5", shared.slice(0, 0)) == gaps
    assert unfilled(of_one, "ESH6", shared) == []
    assert unfilled([(None, 1, 9), ("ESH6", 2, 8)], "ESZ5", shared) == [(1, 9)]
