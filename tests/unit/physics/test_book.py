"""The book tape and the states against hand-made cases and a slow twin."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from book_kit import (
    BAD,
    LAST,
    SNAPSHOT,
    T0,
    Record,
    Twin,
    before,
    cut,
    decimals,
    random_records,
    records_table,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from physics.book import (
    BOOK_COLUMNS,
    STATES_SCHEMA,
    TAPE_SCHEMA,
    BookPass,
    _merged,
    book_states,
    book_tape,
    passes,
)
from physics.units import MS_NS, SECOND_NS, TICK_MANTISSA

BIDS = tuple((100 - k, 10) for k in range(10))
ASKS = tuple((101 + k, 10) for k in range(10))


def tape_of(records, **options):
    table = pa.Table.from_batches(book_tape(records_table(records), gap_s=60, **options), TAPE_SCHEMA)
    return [tuple(row.values()) for row in table.to_pylist()]


def states_of(records, rows=10_000, **options):
    options = {"gap_s": 60, "grid_ms": 100} | options
    return pa.Table.from_batches(book_states(cut(records_table(records), rows), **options), STATES_SCHEMA)


def changes(records, **options):
    """(side, tick, delta) of every change."""
    return [row[3:] for row in tape_of(records, **options)]


def with_level(levels, tick, size):
    """``levels`` with another size at a price, ten best shown."""
    book = dict(levels) | {tick: size}
    sign = -1 if levels[0][0] > levels[-1][0] else 1
    return tuple(sorted(((t, s) for t, s in book.items() if s), key=lambda level: sign * level[0])[:10])


def test_the_first_state_is_a_reference_and_a_change_has_the_time_of_the_later_state():
    second = Record(T0 + 5, with_level(BIDS, 98, 25), ASKS, sequence=7, ordinal=3)
    assert tape_of([Record(T0, BIDS, ASKS), second]) == [(T0 + 5, 7, 3, 0, 98, 15)]


def test_level_ten_entering_and_leaving_view_gives_no_change():
    nine_and_new = tuple((101 - k, 10) for k in range(10))  # 101 appears, 91 leaves view
    asks = tuple((102 + k, 10) for k in range(10))  # 101 empties, 111 enters view
    assert changes([Record(T0, BIDS, ASKS), Record(T0 + 1, nine_and_new, asks)]) == [
        (0, 101, 10),
        (1, 101, -10),
    ]
    assert changes([Record(T0, nine_and_new, asks), Record(T0 + 1, BIDS, ASKS)]) == [
        (0, 101, -10),
        (1, 101, 10),
    ]


def test_an_emptied_level_inside_the_view_gives_its_full_size():
    holed = (*(level for level in BIDS if level[0] != 97), (90, 4))
    assert changes([Record(T0, BIDS, ASKS), Record(T0 + 1, holed, ASKS)]) == [(0, 97, -10)]


def test_with_fewer_than_ten_levels_the_whole_axis_is_visible():
    few = BIDS[:4]
    assert changes([Record(T0, few, ASKS), Record(T0 + 1, few[:2], ASKS)]) == [(0, 97, -10), (0, 98, -10)]
    assert changes([Record(T0, few, ASKS), Record(T0 + 1, BIDS, ASKS)]) == [(0, t, 10) for t in range(91, 97)]
    assert changes([Record(T0, (), ASKS), Record(T0 + 1, few, ASKS)]) == [(0, t, 10) for t in range(97, 101)]


def test_a_full_sweep_in_one_event():
    swept = tuple((114 + k, 8) for k in range(10))
    got = changes([Record(T0, BIDS, ASKS), Record(T0 + 1, BIDS, swept)])
    assert got == [(1, t, -10) for t in range(101, 111)]


def test_records_inside_an_event_are_no_states_however_it_is_split():
    end = Record(T0 + 9, with_level(BIDS, 100, 3), ASKS, sequence=5, ordinal=9)
    whole = [Record(T0, BIDS, ASKS), end]
    split = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 9, BIDS, ASKS, "T", 0, 5, 5),
        Record(T0 + 9, with_level(BIDS, 100, 77), ASKS, "C", 0, 5, 6),
        Record(T0 + 9, with_level(BIDS, 99, 1), ASKS, "M", 8, 5, 7),
        end,
    ]
    assert tape_of(split) == tape_of(whole) == [(T0 + 9, 5, 9, 0, 100, -7)]
    assert states_of(split).equals(states_of(whole))


@pytest.mark.parametrize("action", ["T", "F", "N"])
def test_trades_fills_and_nones_never_change_the_state(action):
    odd = Record(T0 + 1, with_level(BIDS, 100, 1), ASKS, action)
    end = Record(T0 + 2, with_level(BIDS, 100, 4), ASKS)
    assert tape_of([Record(T0, BIDS, ASKS), odd, end]) == [(T0 + 2, 0, 0, 0, 100, -6)]


def test_several_event_ends_at_one_instant_are_states_in_order():
    records = [Record(T0, with_level(BIDS, 100, s), ASKS, ordinal=k) for k, s in enumerate((10, 14, 9))]
    assert tape_of(records) == [(T0, 0, 1, 0, 100, 4), (T0, 0, 2, 0, 100, -5)]
    assert states_of(records)["bid_size_00"].to_pylist() == [9]


@pytest.mark.parametrize("best_ask", [100, 99])
def test_a_crossed_or_locked_state_is_skipped(best_ask):
    crossed = ((best_ask, 2), *ASKS[:9])
    records = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 1, BIDS, crossed),
        Record(T0 + 1 + SECOND_NS, BIDS, with_level(ASKS, 101, 12)),
    ]
    assert tape_of(records) == [(T0 + 1 + SECOND_NS, 0, 0, 1, 101, 2)]
    late = [*records[:2], replace(records[2], ts=records[2].ts + 1)]
    assert tape_of(late) == []
    assert states_of(late)["segment_id"].to_pylist()[-1] == 2


def test_a_one_sided_state_is_valid():
    assert changes([Record(T0, BIDS, ()), Record(T0 + 1, BIDS[1:], ())]) == [(0, 100, -10)]


@pytest.mark.parametrize("flags", [LAST | SNAPSHOT, LAST | BAD])
def test_a_snapshot_or_doubtful_record_is_a_new_reference(flags):
    records = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 1, with_level(BIDS, 100, 50), ASKS, flags=flags),
        Record(T0 + 2, with_level(BIDS, 100, 51), ASKS),
    ]
    assert tape_of(records) == [(T0 + 2, 0, 0, 0, 100, 1)]


@pytest.mark.parametrize("flags", [0, LAST])
def test_a_clear_is_no_state_and_the_state_before_it_stays_the_last(flags):
    records = [
        Record(T0, BIDS, ASKS),
        Record(T0 + SECOND_NS, (), (), "R", flags),
        Record(T0 + 2 * SECOND_NS, with_level(BIDS, 100, 50), ASKS),
    ]
    assert tape_of(records) == []
    states = states_of(records).to_pylist()
    assert [s["state_ts_ns"] - T0 for s in states] == [0, 0, 2 * SECOND_NS]
    assert [s["is_broken"] for s in states] == [False, True, False]
    assert [s["closed_cover_ns"] for s in states] == [0, 0, 0]
    assert [s["entry_segment_end_ns"] for s in states] == [None, T0, None]
    assert [s["segment_id"] for s in states] == [1, 1, 2]


def test_a_silence_longer_than_gap_s_breaks_and_any_record_ends_it():
    first, last = Record(T0, BIDS, ASKS), Record(T0 + 61 * SECOND_NS, BIDS[1:], ASKS)
    assert tape_of([first, last]) == []
    exact = replace(last, ts=T0 + 60 * SECOND_NS)
    assert len(tape_of([first, exact])) == 1
    trade = Record(T0 + 30 * SECOND_NS, BIDS, ASKS, "T", 0)
    assert len(tape_of([first, trade, last])) == 1


def test_gaps_that_meet_or_overlap_are_one():
    starts, ends = _merged([(7, 9), (1, 2), (2, 4), (3, 4), (5, 6)])
    assert [*zip(starts.tolist(), ends.tolist(), strict=True)] == [(1, 4), (5, 6), (7, 9)]


def test_a_manifest_gap_breaks_between_the_records_it_overlaps():
    records = [Record(T0 + k * SECOND_NS, with_level(BIDS, 100, 10 + k), ASKS) for k in range(5)]
    all_four = [T0 + k * SECOND_NS for k in (1, 2, 3, 4)]
    at = lambda gaps: [row[0] for row in tape_of(records, gaps=gaps)]  # noqa: E731
    assert at([]) == all_four
    assert at([(records[1].ts, records[2].ts)]) == [all_four[0], *all_four[2:]]
    assert at([(T0 + 1, T0 + 2), (T0 - 5, T0)]) == all_four[1:]
    assert at([(T0 + 3 * SECOND_NS - 1, T0 + 3 * SECOND_NS + 1)]) == all_four[:2]


def test_undefined_prices_and_empty_levels_are_absent():
    holes = ((100, 10), (None, 7), (98, 0), (97, 3))
    states = states_of([Record(T0, holes, ASKS)]).to_pylist()
    assert [(states[0][f"bid_tick_{k:02d}"], states[0][f"bid_size_{k:02d}"]) for k in range(3)] == [
        (100, 10),
        (97, 3),
        (None, 0),
    ]


def test_levels_in_any_order_are_one_book_and_equal_prices_one_level():
    whole = states_of([Record(T0, BIDS, ASKS)])
    assert states_of([Record(T0, BIDS[::-1], ASKS[::-1])]).equals(whole)
    short, mixed = Record(T0, BIDS[:9], ASKS), Record(T0, (BIDS[1], BIDS[0], *BIDS[2:9]), ASKS)
    assert states_of([mixed]).equals(states_of([short]))
    split = ((100, 4), (100, 6), *BIDS[1:9])
    assert states_of([Record(T0, split, ASKS)]).equals(states_of([Record(T0, BIDS[:9], ASKS)]))
    assert changes([Record(T0, BIDS[:9], ASKS), Record(T0 + 1, split, ASKS)]) == []


def test_every_record_counts_where_the_vendor_marks_no_event_end():
    records = [replace(r, flags=0) for r in (Record(T0, BIDS, ASKS), Record(T0 + 1, BIDS[1:], ASKS))]
    assert tape_of(records) == []
    assert len(tape_of(records, f_last_absent=True)) == 1


def test_nothing_in_gives_nothing_out():
    assert tape_of([]) == []
    assert states_of([]).num_rows == 0
    assert states_of([]).schema == STATES_SCHEMA


@pytest.mark.parametrize("arrow_type", [pa.decimal128(18, 9), pa.decimal64(18, 9)])
@pytest.mark.parametrize("encode", ["string", "dictionary", "large", "view", "code"])
def test_every_physical_form_of_the_columns_gives_the_same(arrow_type, encode):
    records = random_records(np.random.default_rng(3), 200)
    table = records_table(records, arrow_type)
    action = table["action"]
    action = {
        "string": lambda: action,
        "dictionary": action.dictionary_encode,
        "large": lambda: action.cast(pa.large_string()),
        "view": lambda: action.cast(pa.string_view()),
        "code": lambda: pa.array([ord(a) for a in action.to_pylist()], pa.uint8()),
    }[encode]()
    table = table.set_column(3, "action", action)
    tape = pa.Table.from_batches(book_tape(cut(table, 7), gap_s=60), TAPE_SCHEMA)
    assert tape.equals(pa.Table.from_batches(book_tape(records_table(records), gap_s=60), TAPE_SCHEMA))


def test_int64_mantissas_are_prices_too():
    records = [Record(T0, BIDS, ASKS), Record(T0 + 1, BIDS[1:], ASKS)]
    table = records_table(records)
    for name in [n for n in table.schema.names if "_px_" in n]:
        mantissas = [None if v is None else int(v.scaleb(9)) for v in table[name].to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(mantissas, pa.int64()))
    tape = pa.Table.from_batches(book_tape(table, gap_s=60), TAPE_SCHEMA)
    assert [tuple(r.values()) for r in tape.to_pylist()] == tape_of(records)


def test_refusals_name_the_trouble():
    table = records_table([Record(T0, BIDS, ASKS), Record(T0 - 1, BIDS, ASKS)])
    with pytest.raises(ValueError, match="in row 1 after"):
        list(book_tape(table, gap_s=60))
    with pytest.raises(ValueError, match="in row 1 after"):
        list(book_tape(cut(table, 1), gap_s=60))
    with pytest.raises(KeyError, match="ask_sz_09"):
        list(book_tape(table.drop_columns(["ask_sz_09"]), gap_s=60))
    at = table.schema.get_field_index("bid_px_00")
    with pytest.raises(TypeError, match=r"decimal128\(18, 4\)"):
        list(
            book_tape(
                table.set_column(at, "bid_px_00", table["bid_px_00"].cast(pa.decimal128(18, 4))), gap_s=60
            )
        )
    with pytest.raises(ValueError, match="one letter"):
        list(book_tape(table.set_column(3, "action", pa.array(["M", "MM"])), gap_s=60))
    with pytest.raises(ValueError, match="grid_ms was 0"):
        BookPass(60, 0)


@given(st.integers(0, 2**32), st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_tape_and_states_agree_with_the_slow_twin_under_any_batching(seed, rows):
    rng = np.random.default_rng(seed)
    records = random_records(rng, int(rng.integers(1, 160)))
    gaps = ((T0 + 2 * SECOND_NS, T0 + 2 * SECOND_NS + MS_NS), (T0 + 2_500_000_000, T0 + 2_700_000_000))
    both = list(passes(cut(records_table(records), rows), gap_s=60, grid_ms=100, gaps=gaps))
    tape = pa.Table.from_batches([rows.tape for rows in both], TAPE_SCHEMA)
    states = pa.Table.from_batches([rows.states for rows in both], STATES_SCHEMA)

    twin = Twin(gaps=gaps).replay(records)
    assert [tuple(row.values()) for row in tape.to_pylist()] == twin.tape
    assert twin.tape == sorted(set(twin.tape))
    ends = states["cell_end_ns"].to_pylist()
    assert ends == sorted({(r.ts // (100 * MS_NS) + 1) * 100 * MS_NS for r in records})
    for row in states.to_pylist():
        asof = row["cell_end_ns"]
        known = Twin(gaps=gaps).replay(before(records, asof))
        assert row["last_record_ns"] == known.last_record
        assert row["invalid_since_ns"] == known.invalid_since
        assert row["is_broken"] == known.is_reference_due
        assert (row["state_ts_ns"] is None) == (known.state is None)
        closed = known.segments if known.is_reference_due else known.segments[:-1]
        assert row["closed_cover_ns"] == sum(end - start for start, end in closed)
        earlier = Twin(gaps=gaps).replay(before(records, asof - 100 * MS_NS))
        entry = None
        if earlier.state is not None and not earlier.is_reference_due:
            was = len(earlier.segments) - 1
            if len(known.segments) > was + 1 or known.is_reference_due:
                entry = known.segments[was][1]
        assert row["entry_segment_end_ns"] == entry
        if known.state is not None:
            assert row["state_ts_ns"] == known.state[0]
            assert row["segment_id"] == len(known.segments)
            assert row["segment_start_ns"] == known.segments[-1][0]
            for side, levels, reverse in (("bid", known.state[1], True), ("ask", known.state[2], False)):
                shown = sorted(levels.items(), reverse=reverse) + [(None, 0)] * (10 - len(levels))
                assert shown == [
                    (row[f"{side}_tick_{k:02d}"], row[f"{side}_size_{k:02d}"]) for k in range(10)
                ]


def test_the_open_cell_can_be_read_before_the_next_record_closes_it():
    book = BookPass(60, 100)
    assert book.open_cell().num_rows == 0
    table = records_table([Record(T0, BIDS, ASKS), Record(T0 + 50 * MS_NS, BIDS[1:], ASKS)])
    first, second = cut(table, 1)
    none = book.update(first).states
    assert none.num_rows == 0
    assert book.open_cell()["bid_tick_00"].to_pylist() == [100]
    book.update(second)
    assert book.open_cell()["bid_tick_00"].to_pylist() == [99]
    assert book.finish().states.equals(book.open_cell())


def test_a_pass_reads_exactly_the_columns_it_names():
    table = records_table([Record(T0, BIDS, ASKS)])
    assert table.schema.names == list(BOOK_COLUMNS)
    for name in BOOK_COLUMNS:
        with pytest.raises(KeyError, match=name):
            list(book_tape(table.drop_columns([name]), gap_s=60))


def test_decimals_of_the_kit_are_what_arrow_reads():
    assert [str(v) for v in decimals([4800 * TICK_MANTISSA * 4, None, -1]).to_pylist() if v is not None] == [
        "4800.000000000",
        "-1E-9",
    ]
