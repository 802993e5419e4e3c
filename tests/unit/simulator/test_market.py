"""The market simulator: files a vendor could have sent, a book that adds up, and effects that are really there."""

import itertools
import json
from datetime import date

import databento
import databento_dbn
import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest.simulator import market
from ingest.simulator.clock import session_clock, utc_midnight_ns
from ingest.simulator.contracts import contracts_of
from ingest.simulator.futures_files import SCHEMAS
from ingest.simulator.ledger import SimulationError
from ingest.simulator.market import DEMO_SCALE, simulate
from tests.unit.simulator.reading import (
    ASK,
    BID,
    F_LAST,
    F_SNAPSHOT,
    SECOND_NS,
    TICK_NANO,
    UNDEF_PRICE,
    barrier_state,
    book_tape,
    read,
    round_touches,
)

MONDAY, TUESDAY, FRIDAY = date(2025, 10, 6), date(2025, 10, 7), date(2025, 10, 10)
SMALL = {"scale": 0.001, "seed": 3, "profile": "null"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """One planted session at the demo's scale: (files, truth path)."""
    root, truth = tmp_path_factory.mktemp("lake"), tmp_path_factory.mktemp("truth") / "truth.parquet"
    return simulate(root, [TUESDAY], scale=DEMO_SCALE, seed=1, profile="planted", truth=truth), truth


@pytest.fixture(scope="module")
def records(planted):
    """All mbp-10 records of the planted session."""
    return read(f.path for f in planted[0] if f.schema == "mbp-10")


@pytest.fixture(scope="module")
def front(records):
    return records[records["instrument_id"] == contracts_of(TUESDAY).front.instrument_id]


@pytest.fixture(scope="module")
def tape(front):
    return book_tape(front)


def levels(rows: np.ndarray, what: str, side: int) -> np.ndarray:
    return np.stack([rows[f"{('bid', 'ask')[side]}_{what}_{k:02}"] for k in range(10)], 1).astype(np.int64)


# --- files ---------------------------------------------------------------------------------------------------------


def test_the_vendors_reader_reads_every_file(planted):
    for file in (f for f in planted[0] if f.schema in SCHEMAS):
        store = databento.DBNStore.from_file(file.path)
        rows = store.to_ndarray()
        assert store.metadata.version == 3
        assert (store.dataset, str(store.schema), len(rows)) == ("GLBX.MDP3", file.schema, file.record_count)
        contracts = contracts_of(TUESDAY).all()
        assert store.symbols == [c.symbol for c in contracts]
        mapped = {
            symbol: [(i["start_date"], int(i["symbol"])) for i in intervals]
            for symbol, intervals in store.metadata.mappings.items()
        }
        assert mapped == {c.symbol: [(file.day, c.instrument_id)] for c in contracts}
        assert set(rows["instrument_id"]) == {c.instrument_id for c in contracts}
        assert (rows["ts_recv"] >= utc_midnight_ns(file.day)).all()
        assert (rows["ts_recv"] < utc_midnight_ns(file.day) + 86_400 * SECOND_NS).all()


def test_names_and_ledger_are_the_vendors_and_the_specs(tmp_path):
    files = simulate(tmp_path, [MONDAY], **SMALL)
    names = [f.path.relative_to(tmp_path).as_posix() for f in files]
    assert names == [
        "raw/dbn/mbp10/glbx-mdp3-20251005.mbp-10.dbn.zst",
        "raw/dbn/trades/glbx-mdp3-20251005.trades.dbn.zst",
        "raw/dbn/mbp10/glbx-mdp3-20251006.mbp-10.dbn.zst",
        "raw/polygon/options/2025-10-06.csv.gz",
        "raw/polygon/stocks/2025-10-06.csv.gz",
        "raw/dbn/trades/glbx-mdp3-20251006.trades.dbn.zst",
    ]
    ledger = json.loads((tmp_path / "raw" / "simulation.json").read_text())
    assert {key: ledger[key] for key in SMALL} == SMALL
    assert ledger["dates"] == ["2025-10-06"]
    assert {f["path"]: f["sha256"] for f in ledger["files"]} == {
        n: f.sha256 for n, f in zip(names, files, strict=True)
    }
    leftovers = {p.name for p in (tmp_path / "raw").rglob("*") if p.is_file()}
    assert leftovers == {f.path.name for f in files} | {"simulation.json", "._simulation.lock"}


def test_trades_files_hold_exactly_the_trades_of_the_book(planted, records):
    trades = read(f.path for f in planted[0] if f.schema == "trades")
    printed = records[records["action"] == b"T"]
    for name in databento_dbn.TradeMsg._dtypes:
        if name[0] not in ("length", "rtype"):
            assert (trades[name[0]] == printed[name[0]]).all(), name
    assert set(trades["length"].tolist()) == {12}
    assert set(trades["rtype"].tolist()) == {0}


def test_the_same_settings_give_the_same_bytes_in_another_root(tmp_path):
    first = simulate(tmp_path / "a", [TUESDAY], **SMALL)
    second = simulate(tmp_path / "b", [TUESDAY], **SMALL)
    other_seed = simulate(tmp_path / "c", [TUESDAY], **SMALL | {"seed": 4})
    assert [f.sha256 for f in first] == [f.sha256 for f in second]
    assert not {f.sha256 for f in first} & {f.sha256 for f in other_seed}


def test_a_second_call_writes_nothing(tmp_path):
    first = simulate(tmp_path, [MONDAY, TUESDAY], **SMALL)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "raw").rglob("*.*")}
    calls = []
    second = simulate(tmp_path, [MONDAY, TUESDAY], **SMALL, progress=lambda *done: calls.append(done))
    assert second == first
    assert all(f.written for f in first)
    assert not any(f.written for f in second)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "raw").rglob("*.*")} == before
    assert calls == []


def test_sessions_added_later_complete_the_days_without_touching_a_file(tmp_path):
    days = [MONDAY, TUESDAY, date(2025, 10, 8)]
    at_once = simulate(tmp_path / "once", days, **SMALL)
    early = simulate(tmp_path / "grown", [days[1]], **SMALL)
    grown = simulate(tmp_path / "grown", days, **SMALL)
    assert [f for f in grown if not f.written] == early
    for schema in ("trades", "mbp-10"):
        whole, parts = (read(f.path for f in files if f.schema == schema) for files in (at_once, grown))
        parts = parts[
            np.lexsort((parts["sequence"], parts["ts_recv"]))
        ]  # stable: an event stays in its order
        assert whole.tobytes() == parts.tobytes()
    second = [f for f in grown if f.day == MONDAY and f.schema == "trades"]
    assert sorted(f.path.name for f in second) == sorted(
        ["glbx-mdp3-20251006.trades.dbn.zst", f"glbx-mdp3-20251006.trades.{second[0].sha256[:8]}.dbn.zst"]
    )


@pytest.mark.parametrize(
    ("publish_bytes", "published"), [(1, {"glbx-mdp3-20251005.trades.dbn.zst"}), (1 << 30, set())]
)
def test_a_session_that_dies_leaves_whole_files_and_the_next_call_finishes(
    tmp_path, monkeypatch, publish_bytes, published
):
    days, honest = [MONDAY, TUESDAY], market.open_session

    def dies_on_tuesday(seed, day, *more):
        if day == TUESDAY:
            raise OSError("No space left on device")
        return honest(seed, day, *more)

    monkeypatch.setattr(market, "open_session", dies_on_tuesday)
    monkeypatch.setattr(market, "PUBLISH_BYTES", publish_bytes)
    with pytest.raises(OSError, match="No space"):
        simulate(tmp_path / "died", days, **SMALL)
    monkeypatch.undo()
    assert {p.name for p in (tmp_path / "died" / "raw" / "dbn" / "trades").iterdir()} == published
    finished = simulate(tmp_path / "died", days, **SMALL)
    assert [f.sha256 for f in finished] == [f.sha256 for f in simulate(tmp_path / "clean", days, **SMALL)]


def test_weekends_and_holidays_have_no_session(tmp_path):
    days = [date(2025, 11, d) for d in (26, 27, 28, 29)]  # Thanksgiving is the 27th
    files = simulate(tmp_path, days, **SMALL)
    assert sorted({session for f in files for session in f.sessions}) == [days[0], days[2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dates": []}, "dates were empty"),
        ({"dates": [date(2025, 10, 4)]}, "without a trading session"),
        ({"dates": [date(1999, 10, 4)]}, "expected 2010-01-04 or later"),
        ({"scale": 0.0}, "scale was 0.0, expected more than 0"),
        ({"scale": 1.5}, "scale was 1.5"),
        ({"scale": float("nan")}, "scale was nan"),
        ({"seed": -1}, "seed was -1"),
        ({"profile": "calm"}, "profile was 'calm', expected one of default, null, planted"),
    ],
)
def test_wrong_input_is_one_clear_error_and_nothing_is_written(tmp_path, change, message):
    wanted = {"dates": [MONDAY], **SMALL} | change
    with pytest.raises(SimulationError, match=message):
        simulate(tmp_path, wanted.pop("dates"), **wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_root_with_another_simulation_or_somebody_elses_file_is_refused(tmp_path):
    files = simulate(tmp_path, [MONDAY], **SMALL)
    with pytest.raises(SimulationError, match=r"seed 3.*expected.*seed 4"):
        simulate(tmp_path, [MONDAY], **SMALL | {"seed": 4})
    with pytest.raises(SimulationError, match="outside"):
        simulate(tmp_path, [MONDAY], **SMALL, truth=tmp_path / "raw" / "truth.parquet")

    foreign = tmp_path / "raw" / "dbn" / "trades" / "glbx-mdp3-20251010.trades.dbn.zst"
    foreign.write_bytes(b"real data")
    with pytest.raises(SimulationError, match="no file of this simulation"):
        simulate(tmp_path, [MONDAY, FRIDAY], **SMALL)
    assert foreign.read_bytes() == b"real data"

    files[0].path.write_bytes(b"altered")
    with pytest.raises(SimulationError, match=r"sha256 of .* was"):
        simulate(tmp_path, [MONDAY], **SMALL)
    files[0].path.unlink()
    assert simulate(tmp_path, [MONDAY], **SMALL)[0].written

    (tmp_path / "raw" / "simulation.json").write_text("{")
    with pytest.raises(SimulationError, match=r"simulation\.json was not JSON"):
        simulate(tmp_path, [MONDAY], **SMALL)


# --- the book ------------------------------------------------------------------------------------------------------


def test_the_book_is_sound_at_every_event_end(records):
    ends = records[records["flags"] & F_LAST > 0]
    assert (ends["bid_px_00"] < ends["ask_px_00"]).all()
    for side, order in ((BID, -1), (ASK, 1)):
        price, size, count = (levels(ends, what, side) for what in ("px", "sz", "ct"))
        assert (price != UNDEF_PRICE).all()
        assert (np.diff(price, axis=1) * order > 0).all()
        assert (count >= 1).all()
        assert (size >= count).all()
    outright = ends[ends["instrument_id"] != contracts_of(TUESDAY).spread.instrument_id]
    assert (outright["bid_px_00"] % TICK_NANO == 0).all()
    assert outright["bid_px_00"].min() > 3_000 * 10**9
    assert outright["ask_px_00"].max() < 10_000 * 10**9


def test_records_stand_in_order_and_events_end_once(records):
    event, recv, sequence = (records[n].astype(np.int64) for n in ("ts_event", "ts_recv", "sequence"))
    assert (np.diff(event) >= 0).all()
    assert (np.diff(recv) >= 0).all()
    assert (recv > event).all()
    starts = np.flatnonzero(np.diff(sequence, prepend=-1))
    assert (np.diff(sequence) >= 0).all()
    last = np.flatnonzero(records["flags"] & F_LAST > 0)
    assert (np.append(starts[1:], len(records)) - 1 == last).all()
    for column in (event, recv, records["instrument_id"]):
        assert (column[starts] == column[last]).all()


def test_every_record_says_what_changed(front):
    """From one record to the next, the size at the record's price changes by what its action says."""
    at = np.searchsorted(front["ts_event"], session_clock(TUESDAY).rth_open_ns)
    rows = front[at : at + 12_000]
    sides = {b"B": BID, b"A": ASK}
    price = [levels(rows, "px", side) for side in (BID, ASK)]
    size = [levels(rows, "sz", side) for side in (BID, ASK)]
    seen = {"A": 0, "C": 0, "M": 0, "T": 0}
    for i in range(1, len(rows)):
        action, side = rows["action"][i].decode(), sides[bytes(rows["side"][i])]
        seen[action] += 1
        if action == "T":  # the levels are those before the trade, and it hits the other side
            for column in (*price, *size):
                assert (column[i] == column[i - 1]).all()
            assert rows["price"][i] in price[1 - side][i]
            continue
        was, now = (int(size[side][k][price[side][k] == rows["price"][i]].sum()) for k in (i - 1, i))
        amount = int(rows["size"][i])
        if action == "A":
            assert now - was == amount
        elif action == "C":
            assert was - now == amount
        else:
            assert now >= amount
            assert now != was or amount == now
        assert (price[1 - side][i] == price[1 - side][i - 1]).all()
        assert (size[1 - side][i] == size[1 - side][i - 1]).all()
    assert min(seen.values()) > 300


def test_trades_come_first_in_their_event_and_take_at_least_what_disappears(front):
    sequence = front["sequence"].astype(np.int64)
    bounds = np.flatnonzero(np.diff(sequence, prepend=-1, append=2**40))
    icebergs = 0
    for start, end in itertools.pairwise(bounds):
        actions = front["action"][start:end]
        is_trade = actions == b"T"
        if not is_trade.any():
            continue
        n_trades = is_trade.sum()
        assert is_trade[:n_trades].all()
        assert end - start > n_trades
        side = ASK if front["side"][start] == b"B" else BID
        hit = front["price"][start:end][is_trade]
        before, after = front[start : start + 1], front[end - 1 : end]
        was, now = (
            levels(row, "sz", side)[np.isin(levels(row, "px", side), hit)].sum() for row in (before, after)
        )
        traded = front["size"][start:end][is_trade].sum()
        assert traded >= was - now > 0 or traded > 0 >= was - now
        icebergs += traded > was - now
    assert icebergs > 20


def test_a_session_opens_with_its_snapshot_and_is_never_silent(front):
    clock = session_clock(TUESDAY)
    head = front[:21]
    assert head["action"].tolist() == [b"R"] + [b"A"] * 20
    assert (head["flags"] & F_SNAPSHOT > 0).all()
    assert (head["flags"] & F_LAST > 0).tolist() == [False] * 20 + [True]
    assert (front["flags"][21:] & F_SNAPSHOT == 0).all()
    ts = front["ts_event"].astype(np.int64)
    assert clock.globex_open_ns <= ts[0] < clock.globex_open_ns + SECOND_NS
    assert clock.globex_close_ns - 30 * SECOND_NS < ts[-1] < clock.globex_close_ns
    assert np.diff(ts).max() < 30 * SECOND_NS
    assert np.diff(ts[front["action"] == b"T"]).max() < 60 * SECOND_NS


def test_sizes_spread_and_shares_are_those_of_a_liquid_future(records, front):
    assert len(records) >= 100_000
    assert len(records) == pytest.approx(8_000_000 * DEMO_SCALE, rel=0.02)
    trades = front[front["action"] == b"T"]
    assert 200_000 * DEMO_SCALE < len(trades) < 800_000 * DEMO_SCALE
    assert 0.005 < 1 - len(front) / len(records) < 0.06
    assert 0.4 < np.average(trades["side"] == b"B", weights=trades["size"]) < 0.6
    assert 30 <= np.median(levels(front, "sz", BID)) <= 60
    ts = front["ts_event"].astype(np.int64)
    one_tick = front["ask_px_00"] - front["bid_px_00"] == TICK_NANO
    assert np.average(one_tick[:-1], weights=np.diff(ts)) > 0.8
    rth = (ts >= session_clock(TUESDAY).rth_open_ns) & (ts < session_clock(TUESDAY).rth_close_ns)
    assert rth.mean() > 0.6


@pytest.mark.parametrize("scale", [0.0005, DEMO_SCALE])
def test_the_front_contract_has_most_of_the_volume(tmp_path, scale):
    files = simulate(tmp_path, [TUESDAY], scale=scale, seed=1, profile="null")
    trades = read(f.path for f in files if f.schema == "trades")
    outright = trades[trades["instrument_id"] != contracts_of(TUESDAY).spread.instrument_id]
    is_front = outright["instrument_id"] == contracts_of(TUESDAY).front.instrument_id
    assert np.average(is_front, weights=outright["size"]) > 0.8


def test_thinning_leaves_sizes_alone(tmp_path, front):
    files = simulate(tmp_path, [TUESDAY], scale=0.06, seed=1, profile="planted")
    rows = read(f.path for f in files if f.schema == "mbp-10")
    assert len(rows) == pytest.approx(480_000, rel=0.02)
    assert np.median(levels(rows, "sz", ASK)) == pytest.approx(np.median(levels(front, "sz", ASK)), rel=0.15)


# --- what is planted -----------------------------------------------------------------------------------------------


def test_a_session_has_enough_touches_of_every_outcome(front):
    clock = session_clock(TUESDAY)
    trades = front[front["action"] == b"T"]
    touches = round_touches(trades, clock.rth_open_ns, clock.rth_close_ns - 960 * SECOND_NS)
    assert len(touches) >= 150
    outcomes = [touch.outcome for touch in touches]
    for outcome in ("BREAK", "BOUNCE", "CHOP"):
        assert outcomes.count(outcome) >= 0.15 * len(touches), outcome


def test_planted_vacuums_are_vacuums_and_others_are_not(planted, front, tape):
    clock = session_clock(TUESDAY)
    trades = front[front["action"] == b"T"]
    truth = pq.read_table(planted[1]).to_pylist()
    known = {}
    for row in truth:
        key = (row["level_tick"], 1 if row["direction"] == "UP" else -1)
        known.setdefault(key, []).append((row["planned_ns"], row["planted_state"], row["outcome"]))
    found = {"VACUUM": [], None: []}
    agreed = []
    touches = round_touches(trades, clock.rth_open_ns, clock.rth_close_ns - 960 * SECOND_NS)
    for touch in touches:
        for planned_ns, state, outcome in known.get((touch.level_tick, touch.direction), []):
            if abs(planned_ns - touch.t0_ns) < SECOND_NS:
                found[state].append(barrier_state(tape, trades, touch))
                agreed.append(outcome == touch.outcome)
    assert len(agreed) > 0.95 * len(touches)
    assert np.mean(agreed) > 0.95
    for states in found.values():
        assert states.count("UNKNOWN") < 0.1 * len(states)
    vacuums, others = ([s for s in found[key] if s != "UNKNOWN"] for key in ("VACUUM", None))
    assert len(vacuums) > 25
    assert vacuums.count("VACUUM") >= 0.85 * len(vacuums)
    assert others.count("VACUUM") <= 0.10 * len(others)


def test_truth_counts_the_clean_stream(planted, records):
    hours = pq.read_table(planted[1].with_name("truth_hours.parquet")).to_pylist()
    is_trade = records["action"] == b"T"
    assert sum(h["records"] for h in hours) == len(records)
    assert sum(h["event_ends"] for h in hours) == (records["flags"] & F_LAST > 0).sum()
    assert sum(h["trades"] for h in hours) == is_trade.sum()
    assert sum(h["volume_contracts"] for h in hours) == records["size"][is_trade].sum()
    hour = hours[len(hours) // 2]
    mine = records["ts_event"] // 3_600_000_000_000 * 3_600_000_000_000 == hour["hour_ns"]
    assert hour["records"] == (mine & (records["instrument_id"] == hour["instrument_id"])).sum()
