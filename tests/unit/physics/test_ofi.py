"""Order flow imbalance, counted by hand: what each level adds, what breaks it, where windows begin and end."""

from dataclasses import replace

import pyarrow as pa
import pytest
from book_kit import BAD, LAST, SNAPSHOT, T0, Record, points_table, records_table

from physics.book import BBO_SCHEMA, STATES_SCHEMA, bbo_changes, book_states, book_tape
from physics.ofi import OFI_SCHEMA, ofi
from physics.units import MS_NS, SECOND_NS

BIDS = tuple((100 - k, 10) for k in range(10))
ASKS = tuple((101 + k, 10) for k in range(10))


def cells(records, **options):
    """(ofi, ofi_l1) of every cell that isn't (0, 0), by its end in ms after T0."""
    states = book_states(records_table(records), gap_s=60, grid_ms=100, **options)
    rows = pa.Table.from_batches(states, STATES_SCHEMA).to_pylist()
    return {
        (row["cell_end_ns"] - T0) // MS_NS: (row["ofi"], row["ofi_l1"])
        for row in rows
        if (row["ofi"], row["ofi_l1"]) != (0, 0)
    }


def flow(*books):
    """(ofi, ofi_l1) of the second of two books (bids, asks)."""
    return cells([Record(T0 + k, *book) for k, book in enumerate(books)]).get(100, (0, 0))


def measure(records, points, **p):
    p = {"BARRIER_ZONE_ES_TICKS": 8, "GAP_S": 60, "grid_ms": 100} | p
    table = records_table(records)
    tape = book_tape(table, gap_s=p["GAP_S"])
    states = book_states(table, gap_s=p["GAP_S"], grid_ms=100)
    return ofi(points_table(points), tape, states, **p).to_pylist()


def every_second(seconds, bids=BIDS, asks=ASKS):
    """A book that stands still, with a record each second."""
    return [Record(T0 + k * SECOND_NS, bids, asks) for k in range(seconds)]


def sized(levels, k, size):
    return (*levels[:k], (levels[k][0], size), *levels[k + 1 :])


# ----- one event --------------------------------------------------------------------------------------------


def test_a_price_that_stays_gives_the_change_of_its_size():
    assert flow((BIDS, ASKS), (sized(BIDS, 0, 25), ASKS)) == (15, 15)
    assert flow((BIDS, ASKS), (sized(BIDS, 3, 4), ASKS)) == (-6, 0)
    assert flow((BIDS, ASKS), (BIDS, sized(ASKS, 0, 25))) == (-15, -15)
    assert flow((BIDS, ASKS), (BIDS, sized(ASKS, 9, 4))) == (6, 0)


def test_a_better_bid_adds_its_whole_size_at_every_level_that_moves():
    higher = ((101, 7), *BIDS[:9])
    asks = tuple((102 + k, 10) for k in range(10))
    # level 1: 101 over 100, + 7; levels 2 to 10: each price a tick higher than before, + 10
    assert flow((BIDS, asks), (higher, asks)) == (7 + 9 * 10, 7)
    # and back: every price worse, so the sizes before go
    assert flow((higher, asks), (BIDS, asks)) == (-(7 + 9 * 10), -7)


def test_a_better_ask_takes_its_whole_size_and_a_worse_one_gives_it_back():
    bids = tuple((99 - k, 10) for k in range(10))
    lower = ((100, 7), *ASKS[:9])
    assert flow((bids, ASKS), (bids, lower)) == (-(7 + 9 * 10), -7)
    assert flow((bids, lower), (bids, ASKS)) == (7 + 9 * 10, 7)


def test_an_absent_bid_is_the_worst_price_and_an_absent_ask_too():
    assert flow((BIDS[:2], ASKS), (BIDS[:3], ASKS)) == (10, 0)
    assert flow((BIDS[:3], ASKS), (BIDS[:2], ASKS)) == (-10, 0)
    assert flow((BIDS, ASKS[:2]), (BIDS, ASKS[:3])) == (-10, 0)
    assert flow((BIDS, ASKS[:3]), (BIDS, ASKS[:2])) == (10, 0)
    assert flow((BIDS, ()), (BIDS, ASKS[:1])) == (-10, -10)
    assert flow((BIDS[:1], ()), ((), ())) == (-10, -10)
    assert flow(((), ()), (BIDS[:1], ())) == (10, 10)


def test_levels_are_those_present_whatever_the_rows_they_stand_in():
    holed = (BIDS[0], (None, 0), (99, 0), *BIDS[1:8])
    assert flow((BIDS[:8], ASKS), (holed, ASKS)) == (0, 0)


# ----- segments ---------------------------------------------------------------------------------------------

MORE = sized(BIDS, 0, 30)


def test_the_first_state_of_a_segment_gives_no_flow():
    start = Record(T0, BIDS, ASKS)
    for flags in (LAST | SNAPSHOT, LAST | BAD):
        after = [Record(T0 + 1, MORE, ASKS, flags=flags), Record(T0 + 2, sized(BIDS, 0, 31), ASKS)]
        assert cells([start, *after]) == {100: (1, 1)}
    clear = Record(T0 + 1, (), (), "R")
    assert cells([start, clear, Record(T0 + 2, MORE, ASKS)]) == {}
    assert cells([start, Record(T0 + 60 * SECOND_NS, MORE, ASKS)]) == {60_100: (20, 20)}
    assert cells([start, Record(T0 + 60 * SECOND_NS + 1, MORE, ASKS)]) == {}
    assert cells([start, Record(T0 + 9, MORE, ASKS)], gaps=[(T0 + 3, T0 + 4)]) == {}


def test_a_crossed_state_is_skipped_and_the_flow_goes_from_valid_to_valid():
    crossed = ((100, 3), *ASKS[:9])
    records = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 1, MORE, crossed),
        Record(T0 + 2, sized(BIDS, 0, 12), ASKS),
    ]
    assert cells(records) == {100: (2, 2)}
    late = [*records[:2], replace(records[2], ts=T0 + 2 + SECOND_NS)]
    assert cells(late) == {}


def test_splitting_an_event_into_more_records_changes_nothing():
    end = Record(T0 + 9, MORE, ASKS, sequence=5, ordinal=9)
    split = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 9, BIDS, ASKS, "T", 0, 5, 5),
        Record(T0 + 9, sized(BIDS, 0, 90), ASKS, "A", 0, 5, 6),
        Record(T0 + 9, (), ASKS, "C", 0, 5, 7),
        end,
    ]
    assert cells(split) == cells([split[0], end]) == {100: (20, 20)}


def test_two_event_ends_at_one_instant_are_two_events():
    higher = ((101, 7), *BIDS[:9])
    asks = tuple((102 + k, 10) for k in range(10))
    records = [
        Record(T0, BIDS, asks),
        Record(T0 + 1, higher, asks, ordinal=1),
        Record(T0 + 1, BIDS, asks, ordinal=2),
    ]
    assert cells(records) == {}  # there and back: + 97 and - 97
    assert cells(records[:2]) == {100: (97, 7)}


# ----- windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at_ms", "counted"), [(-1, False), (0, True), (29_999, True), (30_000, False)])
def test_a_window_holds_its_start_and_not_its_end(at_ms, counted):
    """An event 40 s + at_ms after the start, seen at 70 s."""
    at = T0 + 40 * SECOND_NS + at_ms * MS_NS
    records = [
        *(r for r in every_second(120) if r.ts < at),
        Record(at, MORE, ASKS, ordinal=1),
        *(replace(r, bids=MORE) for r in every_second(120) if r.ts > at),
    ]
    (row,) = measure(records, [(T0 + 70 * SECOND_NS, 100, 1)])
    assert (row["ofi_30s"], row["ofi_l1_30s"], row["ofi_near_level_30s"]) == (
        (20,) * 3 if counted else (0,) * 3
    )
    assert row["ofi_60s"] == (20 if at < T0 + 70 * SECOND_NS else 0)
    assert row["ofi_120s"] is None
    assert row["ofi_acceleration"] is None


def test_acceleration_is_the_difference_of_the_rates():
    """20 contracts 50 s ago, 10 more 10 s ago: 10/30 - 30/120."""
    records = [
        *every_second(150),
        *(Record(T0 + k * SECOND_NS, MORE, ASKS) for k in range(150, 190)),
        *(Record(T0 + k * SECOND_NS, sized(BIDS, 0, 40), ASKS) for k in range(190, 200)),
    ]
    (row,) = measure(records, [(T0 + 200 * SECOND_NS, 100, 1)])
    assert [row[f"ofi_{w}s"] for w in (30, 60, 120, 300)] == [10, 30, 30, None]
    assert row["ofi_acceleration"] == pytest.approx(10 / 30 - 30 / 120, rel=1e-15)
    assert row["ofi_max_input_ts_ns"] == T0 + 199 * SECOND_NS


def test_a_window_is_null_below_nine_tenths_of_cover():
    """The book begins exactly 27 s, and a cell less, before asof."""
    records = every_second(100)
    rows = measure(records, [(T0 + 27 * SECOND_NS + d * MS_NS, 100, 1) for d in (0, -100)])
    assert [row["ofi_30s"] for row in rows] == [0, None]
    assert [row["ofi_near_level_30s"] for row in rows] == [0, None]
    (silent,) = measure(records[:40], [(T0 + 99 * SECOND_NS + 100 * MS_NS, 100, 1)])
    assert silent["ofi_60s"] is None  # more than 60 s after the last record: the segment ended with it
    (still,) = measure(records[:40], [(T0 + 99 * SECOND_NS, 100, 1)])
    assert still["ofi_60s"] == 0


def test_near_the_level_bids_that_come_and_asks_that_go_count_alike():
    bids, asks = sized(BIDS, 2, 25), sized(sized(ASKS, 1, 4), 8, 3)
    records = [*every_second(40), Record(T0 + 40 * SECOND_NS, bids, asks), *every_second(60, bids, asks)[41:]]
    near, below, far = measure(
        records,
        [(T0 + 60 * SECOND_NS, level, -1) for level in (100, 97, 80)],
        BARRIER_ZONE_ES_TICKS=2,
    )
    assert near["ofi_near_level_30s"] == 15 + 6  # 98: + 15 of bids; 102: 6 asks fewer; 109 is out of the zone
    assert below["ofi_near_level_30s"] == 15
    assert far["ofi_near_level_30s"] == 0
    assert {row["ofi_30s"] for row in (near, below, far)} == {15 + 6 + 7}


def test_nothing_of_the_book_gives_nulls_and_no_points_give_no_rows():
    (row,) = measure([], [(T0, 100, 1)])
    assert set(row.values()) == {"p0", None}
    assert measure(every_second(3), []) == []
    (early,) = measure(every_second(3), [(T0, 100, 1)])
    assert set(early.values()) == {"p0", None}


def test_refusals():
    with pytest.raises(ValueError, match="grid_ms"):
        measure(every_second(3), [(T0 + 1, 100, 1)])
    table = records_table(every_second(3))
    states = list(book_states(table, gap_s=60, grid_ms=100))
    with pytest.raises(ValueError, match="one row per cell"):
        ofi(
            points_table([(T0, 100, 1)]),
            [],
            [*states, *states],
            BARRIER_ZONE_ES_TICKS=8,
            GAP_S=60,
            grid_ms=100,
        )
    assert ofi(points_table([]), [], [], BARRIER_ZONE_ES_TICKS=8, GAP_S=60, grid_ms=100).schema == OFI_SCHEMA


# ----- best quotes ------------------------------------------------------------------------------------------


def quotes(records):
    rows = pa.Table.from_batches(bbo_changes(records_table(records), gap_s=60), BBO_SCHEMA).to_pylist()
    return [(row["ts_event_ns"] - T0, *list(row.values())[3:]) for row in rows]


def test_quotes_are_told_when_a_best_price_or_size_changes():
    records = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 1, sized(BIDS, 1, 99), ASKS),  # not the best
        Record(T0 + 2, sized(BIDS, 0, 11), ASKS),
        Record(T0 + 3, sized(BIDS, 0, 11), ASKS[1:]),
        Record(T0 + 4, (), ASKS[1:]),
        Record(T0 + 5, (), ASKS[1:], "T"),
    ]
    assert quotes(records) == [
        (0, 100, 101, 10, 10),
        (2, 100, 101, 11, 10),
        (3, 100, 102, 11, 10),
        (4, None, 102, 0, 10),
    ]


def test_quotes_skip_crossed_states_and_clears_and_go_on_after_a_break():
    crossed = ((100, 3), *ASKS[:9])
    records = [
        Record(T0, BIDS, ASKS),
        Record(T0 + 1, BIDS, crossed),
        Record(T0 + 2, (), (), "R"),
        Record(T0 + 3, BIDS, ASKS),  # another segment, the same quote
        Record(T0 + 4, BIDS, ASKS[1:], flags=LAST | SNAPSHOT),
    ]
    assert quotes(records) == [(0, 100, 101, 10, 10), (4, 100, 102, 10, 10)]
    assert quotes([]) == []
