"""Every kernel equals the slow oracle of `tests/oracle` on random worlds and on a real hour.

Integers, enums and booleans are equal; doubles agree to 1e-9 * max(|a|, |b|) + 1e-12 (spec market 6). A
world is named by its seed, so a failure repeats: the default run draws a modest sample, the marker `long`
many more.
"""

import random
from collections.abc import Callable
from itertools import pairwise

import pyarrow as pa
import pytest

from physics.book import STATES_SCHEMA, TAPE_SCHEMA, book_states, book_tape
from tests.oracle import book as oracle_book
from tests.oracle import real_hour, worlds
from tests.oracle.rules import DEFAULT, MS_NS, SECOND_NS

GRID_NS = DEFAULT["grid_ms"] * MS_NS

needs_real_hour = pytest.mark.skipif(
    not real_hour.FOLDER.exists(), reason=f"the files of {real_hour.FOLDER.name} are not beside the checkout"
)


def seeds(few: int, many: int) -> Callable:
    """Parametrize by seed: `few` worlds in every run, `many` more under the marker `long`."""
    more = [pytest.param(seed, marks=pytest.mark.long) for seed in range(few, few + many)]
    return pytest.mark.parametrize("seed", [*range(few), *more])


def assert_value(name: str, kernel, oracle, where: str) -> None:
    """One value of a kernel equals the oracle's, by the rule of spec market 6."""
    message = f"{name} was {kernel!r}, the oracle says {oracle!r}, at {where}"
    if oracle is None or kernel is None:
        assert kernel is oracle, message
    elif isinstance(oracle, float):
        assert abs(kernel - oracle) <= 1e-9 * max(abs(kernel), abs(oracle)) + 1e-12, message
    else:
        assert type(kernel) is type(oracle), message
        assert kernel == oracle, message


def assert_rows(kernel: list[dict], oracle: list[dict], columns: list[str]) -> None:
    """Row by row equality in the oracle's columns."""
    for i, (a, b) in enumerate(zip(kernel, oracle, strict=False)):
        for name in columns:
            assert_value(name, a[name], b[name], f"row {i}: kernel {a}, oracle {b}")
    assert len(kernel) == len(oracle)


def in_batches(rng: random.Random, table: pa.Table) -> list[pa.RecordBatch]:
    """The table cut at random places: how a stream is cut must not matter."""
    cuts = sorted({0, table.num_rows, *(rng.randrange(table.num_rows + 1) for _ in range(rng.randrange(4)))})
    return [
        batch
        for start, stop in pairwise(cuts)
        for batch in table.slice(start, stop - start).combine_chunks().to_batches()
    ]


@pytest.fixture(scope="module")
def hour() -> dict:
    """The real records and trades from the Globex open on, and the oracle's reading of that book.

    The pre-open before it, with its crossed book, is kept apart: a session never looks at it.
    """
    everything, trades = real_hour.load_records(), real_hour.load_trades()
    records = [record for record in everything if record["ts_event_ns"] >= real_hour.GLOBEX_OPEN_NS]
    return {
        "everything": everything,
        "records": records,
        "table": worlds.mbp10_table(records),
        "trades": trades,
        "book": oracle_book.whole(records),
    }


def rows_of(parts, schema: pa.Schema) -> list[dict]:
    return pa.Table.from_batches(list(parts), schema=schema).to_pylist()


def random_gaps(rng: random.Random, records: list[dict]) -> list[tuple[int, int]]:
    """Now and then a manifest gap somewhere in the stream, often with an end exactly at a record."""
    if rng.random() < 0.7:
        return []
    first, last = records[0]["ts_event_ns"], records[-1]["ts_event_ns"]
    at = rng.choice((rng.choice(records)["ts_event_ns"], rng.randrange(first, last + 1)))
    length = rng.choice((1, rng.randrange(1, 30 * SECOND_NS)))
    return [rng.choice(((at, at + length), (at - length, at)))]


# ----- book -------------------------------------------------------------------------------------------------


@seeds(40, 600)
def test_book_tape(seed: int) -> None:
    """One row per changed price, in order, for any cut of the stream (spec market 7.1)."""
    rng = worlds.seeded(seed)
    records = worlds.random_book(rng, 250)
    f_last_absent = rng.random() < 0.1
    gaps = random_gaps(rng, records)
    entries = oracle_book.read(records, f_last_absent)
    expected = oracle_book.changes(oracle_book.walk(entries, 60, tuple(gaps))["states"])
    batches = in_batches(rng, worlds.mbp10_table(records))
    tape = book_tape(batches, gap_s=60, gaps=gaps, f_last_absent=f_last_absent)
    assert_rows(rows_of(tape, TAPE_SCHEMA), expected, TAPE_SCHEMA.names)


@needs_real_hour
@pytest.mark.realdata
def test_book_tape_of_the_real_hour(hour: dict) -> None:
    """All 31,392 records, with the crossed pre-open: every change of the tape."""
    assert len(hour["everything"]) == 31_392
    expected = oracle_book.whole(hour["everything"])["tape"]
    tape = book_tape(worlds.mbp10_table(hour["everything"]), gap_s=60)
    assert_rows(rows_of(tape, TAPE_SCHEMA), expected, TAPE_SCHEMA.names)


def expected_state(entries: list[dict], cell_end_ns: int, gaps: list[tuple[int, int]]) -> dict:
    """What a row of `book_states` says at the end of its cell, from the records before it."""
    seen = [entry for entry in entries if entry["ts"] < cell_end_ns]
    walk = oracle_book.walk(seen, 60, tuple(gaps))
    state = walk["states"][-1] if walk["states"] else None
    row = {
        "cell_end_ns": cell_end_ns,
        "last_record_ns": walk["last_record_ts"],
        "state_ts_ns": state and state["ts"],
        "segment_id": state and state["segment"] + 1,
        "segment_start_ns": state
        and next(s["ts"] for s in walk["states"] if s["segment"] == state["segment"]),
        "is_broken": walk["broken"],
        "invalid_since_ns": walk["invalid_since"],
    }
    for side, name in (("bid", "bids"), ("ask", "asks")):
        levels = sorted(state[name].items(), reverse=side == "bid") if state else []
        for k in range(10):
            row[f"{side}_tick_{k:02d}"] = levels[k][0] if k < len(levels) else None
            row[f"{side}_size_{k:02d}"] = levels[k][1] if k < len(levels) else 0
    return row


@seeds(20, 300)
def test_book_states(seed: int) -> None:
    """The last valid state of every 100 ms with records, and what is known of its segment."""
    rng = worlds.seeded(1_000_000 + seed)
    records = worlds.random_book(rng, 120)
    f_last_absent = rng.random() < 0.1
    gaps = random_gaps(rng, records)
    entries = oracle_book.read(records, f_last_absent)
    cells = sorted({(entry["ts"] // GRID_NS + 1) * GRID_NS for entry in entries})
    expected = [expected_state(entries, cell, gaps) for cell in cells]
    batches = in_batches(rng, worlds.mbp10_table(records))
    states = book_states(batches, gap_s=60, grid_ms=100, gaps=gaps, f_last_absent=f_last_absent)
    assert_rows(rows_of(states, STATES_SCHEMA), expected, list(expected[0]))


@needs_real_hour
@pytest.mark.realdata
def test_book_states_of_the_real_hour(hour: dict) -> None:
    """A hundred cells of the real hour, drawn over all of it."""
    states = rows_of(book_states(hour["table"], gap_s=60, grid_ms=100), STATES_SCHEMA)
    entries = hour["book"]["entries"]
    assert [row["cell_end_ns"] for row in states] == sorted(
        {(entry["ts"] // GRID_NS + 1) * GRID_NS for entry in entries}
    )
    rng = worlds.seeded(5)
    for row in [states[0], states[-1], *rng.sample(states, 100)]:
        expected = expected_state(entries, row["cell_end_ns"], [])
        assert_rows([row], [expected], list(expected))
