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

from physics.barrier import BARRIER_PHYSICS_SCHEMA, barrier
from physics.book import STATES_SCHEMA, TAPE_SCHEMA, book_states, book_tape
from physics.outcomes import OUTCOMES_SCHEMA, first_passage
from physics.tape import TAPE_PHYSICS_SCHEMA, tape
from physics.touches import TOUCHES_SCHEMA, TouchMachine, detect
from tests.oracle import bars, labels, levels, points, real_hour, touches, worlds
from tests.oracle import book as oracle_book
from tests.oracle.barrier import barrier_row
from tests.oracle.rules import DEFAULT, MINUTE_NS, MS_NS, SECOND_NS, direction_sign, trades_within
from tests.oracle.tape import tape_row

GRID_NS = DEFAULT["grid_ms"] * MS_NS

NO_REAL_HOUR = f"the files of {real_hour.FOLDER.name} are not beside the checkout"
needs_real_hour = pytest.mark.skipif(not real_hour.FOLDER.exists(), reason=NO_REAL_HOUR)


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


# ----- barrier and tape -------------------------------------------------------------------------------------

BARRIER_PARAMETERS = (
    "W_b",
    "BARRIER_ZONE_ES_TICKS",
    "R_vac",
    "R_wall",
    "F_thresh",
    "BARRIER_MIN_VISIBLE",
    "GAP_S",
    "WEAK_PERCENTILE",
    "WEAK_LOOKBACK",
    "grid_ms",
)


def points_table(rows: list[dict]) -> pa.Table:
    """Observation points as kernels take them: the direction is its sign."""
    return pa.table(
        {
            "observation_id": pa.array([row["observation_id"] for row in rows], pa.string()),
            "asof_ns": pa.array([row["asof_ns"] for row in rows], pa.int64()),
            "level_tick": pa.array([row["level_tick"] for row in rows], pa.int32()),
            "direction_sign": pa.array([direction_sign(row["direction"]) for row in rows], pa.int8()),
        }
    )


def last_time_before(rows: list[dict], t_ns: int, name: str) -> list[int]:
    """The latest time below t as a list of one, or nothing."""
    return [row[name] for row in rows if row[name] < t_ns][-1:]


def expected_barrier(session_book: dict, trades: list[dict], point: dict, p: dict) -> dict:
    """The oracle's barrier columns, and the last event before asof that the book or the fills could use."""
    asof = point["asof_ns"]
    window = trades_within(trades, asof - p["W_b"] * SECOND_NS, asof)
    used = last_time_before(session_book["entries"], asof, "ts") + [t["ts_event_ns"] for t in window]
    return {
        "observation_id": point["observation_id"],
        **barrier_row(session_book, trades, point, p),
        "barrier_max_input_ts_ns": max(used, default=None),
    }


def instants_to_aim_at(session_book: dict, gap_s: int) -> list[int]:
    """Times of the records; a third of the weight lies where something runs out later: before a silence, at
    the first crossed state, at the end of the stream."""
    entries = session_book["entries"]
    edges = [a["ts"] for a, b in pairwise(entries) if b["ts"] - a["ts"] >= gap_s * SECOND_NS]
    states = [entry["state"] for entry in entries if entry["state"] is not None]
    edges += [b["ts"] for a, b in pairwise(states) if oracle_book.is_valid(a) and not oracle_book.is_valid(b)]
    edges.append(entries[-1]["ts"])
    return [entry["ts"] for entry in entries] + edges * (len(entries) // (2 * len(edges)) + 1)


def thresholds_at(rng: random.Random, rows: list[dict], p: dict) -> dict:
    """Move thresholds to where some of these rows stand exactly, so that < and <= are told apart."""
    row = rng.choice([row for row in rows if row["barrier_observable"]] or rows)
    moved = {"BARRIER_MIN_VISIBLE": row["barrier_zone_visible_frac"] or 0.5}
    if row["barrier_observable"]:
        moved["F_thresh"] = rng.choice((abs(row["barrier_delta_liq"]), row["barrier_churn"]))
        moved[rng.choice(("R_vac", "R_wall"))] = row["barrier_replenishment_ratio"]
    return p | {name: moved[name] for name in moved if rng.random() < 0.5}


@seeds(30, 500)
def test_barrier(seed: int) -> None:
    """Every barrier column of random points, in any order, over random books, trades and parameters."""
    rng = worlds.seeded(2_000_000 + seed)
    records = worlds.random_book(
        rng, 300, rng.random() < 0.8, mean_gap_ns=rng.choice((30 * MS_NS, 400 * MS_NS, 3 * SECOND_NS))
    )
    trades = worlds.trades_of(records)
    p = DEFAULT | {
        "W_b": rng.choice((1, 5, 20, 60, 240)),
        "BARRIER_ZONE_ES_TICKS": rng.choice((2, 8, 8, 20)),
        "R_vac": rng.choice((0.3, 0.8)),
        "R_wall": rng.choice((1.05, 1.5)),
        "F_thresh": rng.choice((4, 30, 100)),
        "BARRIER_MIN_VISIBLE": rng.choice((0.2, 0.5, 0.5, 1.0)),
        "GAP_S": rng.choice((5, 60, 60)),
        "WEAK_PERCENTILE": rng.choice((0.2, 0.5)),
        "WEAK_LOOKBACK": rng.choice((1800, 1800, 90)),
    }
    aims = [trade["tick"] for trade in trades] or [24_000]
    session_book = oracle_book.whole(records, p["GAP_S"])
    aimed = worlds.random_points(rng, 16, instants_to_aim_at(session_book, p["GAP_S"]), aims)
    rng.shuffle(aimed)
    table = worlds.mbp10_table(records)
    tape_rows = pa.Table.from_batches(book_tape(table, gap_s=p["GAP_S"]), schema=TAPE_SCHEMA)
    states = pa.Table.from_batches(book_states(table, gap_s=p["GAP_S"], grid_ms=100), schema=STATES_SCHEMA)
    for _ in range(3):
        expected = [expected_barrier(session_book, trades, point, p) for point in aimed]
        result = barrier(
            points_table(aimed),
            in_batches(rng, tape_rows),
            in_batches(rng, states),
            worlds.trades_table(trades),
            **{name: p[name] for name in BARRIER_PARAMETERS},
        )
        assert set(BARRIER_PHYSICS_SCHEMA.names) == set(expected[0])
        assert_rows(result.to_pylist(), expected, BARRIER_PHYSICS_SCHEMA.names)
        p = thresholds_at(rng, expected, p)


def expected_tape(trades: list[dict], point: dict, p: dict, ratio: float) -> dict:
    """The oracle's tape columns, and the last trade of the longest window."""
    asof = point["asof_ns"]
    window = trades_within(trades, asof - max(p["W_t"], 60) * SECOND_NS, asof)
    return {
        "observation_id": point["observation_id"],
        **tape_row(trades, point, p, ratio),
        "tape_max_input_ts_ns": window[-1]["ts_event_ns"] if window else None,
    }


@seeds(40, 600)
def test_tape(seed: int) -> None:
    """Every tape column of random points, in any order, with prints at one ns and a ratio for each point."""
    rng = worlds.seeded(3_000_000 + seed)
    trades = worlds.random_trades(
        rng, rng.choice((0, 1, 300)), mean_gap_ns=rng.choice((1, 20 * MS_NS, 300 * MS_NS, 2 * SECOND_NS))
    )
    p = DEFAULT | {
        "W_t": rng.choice((3, 30, 60, 120)),
        "TAPE_BAND": rng.choice((0.1, 0.5, 2.0)),
        "SWEEP_MAX_GAP_MS": rng.choice((0, 100, 1000)),
        "SWEEP_MIN_CONTRACTS": rng.choice((4, 8, 50)),
    }
    aims = [trade["tick"] for trade in trades] or [24_000]
    instants = [trade["ts_event_ns"] for trade in trades] or [worlds.OPEN_NS]
    aimed = worlds.random_points(rng, 15, instants, aims)
    rng.shuffle(aimed)
    ratios = [rng.choice((10.0, 10.03, 9.87)) for _ in aimed]
    expected = [expected_tape(trades, point, p, ratio) for point, ratio in zip(aimed, ratios, strict=True)]
    parameters = ("W_t", "TAPE_BAND", "SWEEP_MAX_GAP_MS", "SWEEP_MIN_CONTRACTS", "grid_ms")
    result = tape(
        points_table(aimed),
        worlds.trades_table(trades),
        es_spy_ratio=ratios,
        **{name: p[name] for name in parameters},
    )
    assert set(TAPE_PHYSICS_SCHEMA.names) == set(expected[0])
    assert_rows(result.to_pylist(), expected, TAPE_PHYSICS_SCHEMA.names)


@needs_real_hour
@pytest.mark.realdata
def test_barrier_and_tape_of_the_real_hour(hour: dict) -> None:
    """Points spread over the real hour, at ROUND levels and at traded prices, in both directions."""
    rng = worlds.seeded(7)
    trades = hour["trades"]
    first, last = hour["records"][0]["ts_event_ns"], hour["records"][-1]["ts_event_ns"]
    aims = [trade["tick"] for trade in rng.sample(trades, 40)]
    aimed = worlds.random_points(rng, 20, [record["ts_event_ns"] for record in hour["records"]], aims)
    for i, asof in enumerate(range(first // GRID_NS * GRID_NS + MINUTE_NS, last, 6 * MINUTE_NS)):
        spot = last_time_before(trades, asof, "ts_event_ns") and trades_within(trades, 0, asof)[-1]["tick"]
        round_tick = round(spot / levels.ROUND_STEP_TICKS) * levels.ROUND_STEP_TICKS
        aimed += [
            aimed[0]
            | {"observation_id": f"round-{i}-{way}", "asof_ns": asof}
            | {"level_tick": round_tick, "direction": way}
            for way in ("UP", "DOWN")
        ]
    tape_rows = book_tape(hour["table"], gap_s=60)
    states = book_states(hour["table"], gap_s=60, grid_ms=100)
    table = worlds.trades_table(trades)
    result = barrier(
        points_table(aimed), tape_rows, states, table, **{name: DEFAULT[name] for name in BARRIER_PARAMETERS}
    ).to_pylist()
    expected = [expected_barrier(hour["book"], trades, point, DEFAULT) for point in aimed]
    assert_rows(result, expected, BARRIER_PHYSICS_SCHEMA.names)
    assert sum(row["barrier_observable"] for row in expected) > len(aimed) / 2
    assert any(row["wall_ratio"] is not None for row in expected)

    result = tape(
        points_table(aimed),
        table,
        es_spy_ratio=10.0,
        **{name: DEFAULT[name] for name in ("W_t", "TAPE_BAND", "SWEEP_MAX_GAP_MS", "SWEEP_MIN_CONTRACTS")},
    ).to_pylist()
    expected = [expected_tape(trades, point, DEFAULT, 10.0) for point in aimed]
    assert_rows(result, expected, TAPE_PHYSICS_SCHEMA.names)
    assert any(row["tape_velocity"] is not None for row in expected)


# ----- touches and outcomes ---------------------------------------------------------------------------------


def random_day(rng: random.Random, n_trades: int) -> tuple[dict, list[dict], list[dict], dict]:
    """A squeezed session with its trades, level rows (also of earlier days' bars) and parameters."""
    trades = worlds.random_trades(
        rng,
        n_trades,
        mean_gap_ns=2 * SECOND_NS,
        swing_ticks=rng.choice((30, 60)),
        silences=rng.random() < 0.5,
    )
    session = worlds.random_session(rng, minutes=rng.choice((50, 80)))
    p = DEFAULT | {
        "event_hours": rng.choice(("rth", "all")),
        "MONITOR_BAND": rng.choice((0.15, 0.25)),
        "TOUCH_BAND": rng.choice((0.05, 0.10)),
        "HYSTERESIS": rng.choice((0.0, 0.05)),
        "REARM_S": rng.choice((5, 30)),
        "LOOKFORWARD_MINUTES": rng.choice((2, 8)),
        "theta_mode": rng.choice(("dollars", "atr")),
        "STRENGTH_THRESHOLD_1": rng.choice((0.3, 1.0)),
        "STRENGTH_THRESHOLD_2": rng.choice((0.6, 2.0)),
    }
    earlier = [
        bars.ohlcv(worlds.random_trades(rng, 900, mean_gap_ns=20 * SECOND_NS, start_ns=start), 120)
        for start in (worlds.OPEN_NS - 2 * 86_400 * SECOND_NS, worlds.OPEN_NS - 86_400 * SECOND_NS)
    ]
    trades = trades_within(trades, session["globex_open_ns"], session["globex_close_ns"])
    return session, trades, levels.level_rows(session, trades, earlier, p), p


def levels_table(rows: list[dict]) -> pa.Table:
    return pa.table(
        {
            "level_id": pa.array([row["level_id"] for row in rows], pa.string()),
            "level_kind": pa.array([row["level_kind"] for row in rows], pa.int8()),
            "level_tick": pa.array([row["level_tick"] for row in rows], pa.int32()),
            "valid_from_ns": pa.array([row["valid_from_ns"] for row in rows], pa.int64()),
            "valid_to_ns": pa.array([row["valid_to_ns"] for row in rows], pa.int64()),
        }
    )


def random_ratio(
    rng: random.Random, trades: list[dict]
) -> tuple[list[float], list[int], Callable[[int], float]]:
    """A step function of ES/SPY ratios: values, instants (often those of trades), and its value as of t."""
    starts = {worlds.OPEN_NS + rng.randrange(0, 80) * MINUTE_NS for _ in range(6)}
    starts = sorted(starts | {trade["ts_event_ns"] for trade in rng.sample(trades, 60)})
    values = [rng.choice((10.0, 9.6, 11.4, 13.0)) for _ in starts]

    def asof(t_ns: int) -> float:
        begun = [value for start, value in zip(starts, values, strict=True) if start <= t_ns]
        return begun[-1] if begun else values[0]

    return values, starts, asof


@seeds(12, 200)
def test_touches(seed: int) -> None:
    """The emitted touches of a session, of its own levels and of wild ones; and the same from a machine that
    is fed piece by piece."""
    rng = worlds.seeded(4_000_000 + seed)
    session, trades, rows, p = random_day(rng, 1500)
    if rng.random() < 0.6:
        monitor = round(p["MONITOR_BAND"] * 40)
        rows = worlds.random_levels(rng, session, [trade["tick"] for trade in trades], monitor)
    values, starts, ratio_asof = random_ratio(rng, trades)
    expected = touches.touches(session, trades, rows, p, ratio_asof)
    bands = {name: p[name] for name in ("MONITOR_BAND", "TOUCH_BAND", "HYSTERESIS", "REARM_S")}
    ratio = {"es_spy_ratio": values, "ratio_from_ns": starts}
    emit_from, emit_until = touches.emission_hours(session, p)
    shuffled = rng.sample(rows, len(rows))
    found = detect(
        levels_table(shuffled),
        worlds.trades_table(trades),
        emit_from_ns=emit_from,
        emit_until_ns=emit_until,
        **bands,
        **ratio,
    )
    assert_rows(found.to_pylist(), expected, TOUCHES_SCHEMA.names)

    machine = TouchMachine(**bands, **ratio)
    pieces, given = [], 0
    rows = sorted(rows, key=lambda row: row["valid_from_ns"])
    for batch in in_batches(rng, worlds.trades_table(trades)):
        reached = batch.column("ts_event_ns")[-1].as_py()
        upto = sum(row["valid_from_ns"] <= reached for row in rows)
        pieces += machine.update(levels_table(rows[given:upto]), batch).to_pylist()
        given = upto
    emitted = [row for row in pieces if emit_from <= row["ts_ns"] < emit_until]
    assert_rows(emitted, expected, TOUCHES_SCHEMA.names)


def outcome_points(stage_points: list[dict], trades: list[dict], session: dict, p: dict) -> pa.Table:
    """Points as `first_passage` takes them, with the thresholds of their label start."""
    close = session["rth_close_ns" if p["event_hours"] == "rth" else "globex_close_ns"]
    thetas = [
        labels.thresholds_ticks(bars.atr_points(trades, point["label_start_ns"]), p) or (None, None)
        for point in stage_points
    ]
    n = len(stage_points)
    return pa.table(
        {
            "observation_id": pa.array([point["observation_id"] for point in stage_points], pa.string()),
            "label_start_ns": pa.array([point["label_start_ns"] for point in stage_points], pa.int64()),
            "ts_ns": pa.array([point["ts_ns"] for point in stage_points], pa.int64()),
            "level_tick": pa.array([point["level_tick"] for point in stage_points], pa.int32()),
            "direction_sign": pa.array(
                [direction_sign(point["direction"]) for point in stage_points], pa.int8()
            ),
            "theta1_ticks": pa.array([theta[0] for theta in thetas], pa.int64()),
            "theta2_ticks": pa.array([theta[1] for theta in thetas], pa.int64()),
            "window_limit_ns": pa.array([close] * n, pa.int64()),
        }
    )


def random_label_points(
    rng: random.Random, trades: list[dict], edges: list[int], ticks_away: tuple[int, ...]
) -> list[dict]:
    """Label starts at trades and at `edges`, 0, 120 or 480 s after a touch; levels 0, `ticks_away` or some
    ticks from a price that occurred."""
    found = []
    for i in range(30):
        trade = rng.choice(trades)
        wait = rng.choice((0, 120, 480)) * SECOND_NS
        t0 = rng.choice((trade["ts_event_ns"], rng.choice(edges) - wait))
        away = rng.choice((0, 0, 4, 30, *ticks_away))
        found.append(
            {
                "observation_id": f"label-{i}",
                "ts_ns": t0,
                "label_start_ns": t0 + wait,
                "level_tick": trade["tick"] + rng.choice((-1, 1)) * away,
                "direction": rng.choice(("UP", "DOWN")),
            }
        )
    return found


@seeds(12, 200)
def test_outcomes(seed: int) -> None:
    """Every label column, of the session's own observation points and of points at any instant."""
    rng = worlds.seeded(5_000_000 + seed)
    session, trades, rows, p = random_day(rng, 1200)
    p["GAP_S"] = rng.choice((20, 60))
    emitted = touches.touches(session, trades, rows, p)
    own = points.observation_points(emitted, trades, p)
    gaps = random_gaps(rng, trades)
    # Windows that end with the session, start with the end of a gap, or end GAP_S after a trade.
    length = p["LOOKFORWARD_MINUTES"] * MINUTE_NS
    edges = [session["rth_close_ns"] - length, session["globex_close_ns"] - length]
    edges += [edge for gap in gaps for edge in (gap[1], gap[0] - length)]
    edges += [trade["ts_event_ns"] + p["GAP_S"] * SECOND_NS - length for trade in rng.sample(trades, 8)]
    away = (round(p["STRENGTH_THRESHOLD_1"] * 40), round(p["STRENGTH_THRESHOLD_2"] * 40))
    wanted = rng.sample(own, min(40, len(own))) + random_label_points(rng, trades, edges, away)
    expected = [
        {"observation_id": point["observation_id"]}
        | labels.label_row(trades, session, point, p, manifest_gaps=tuple(gaps))
        for point in wanted
    ]
    result = first_passage(
        outcome_points(wanted, trades, session, p),
        worlds.trades_table(trades),
        LOOKFORWARD_MINUTES=p["LOOKFORWARD_MINUTES"],
        GAP_S=p["GAP_S"],
        gaps=gaps,
    )
    assert set(OUTCOMES_SCHEMA.names) == set(expected[0])
    assert_rows(result.to_pylist(), expected, OUTCOMES_SCHEMA.names)
