"""What the files say: the same for the same arguments, a tape that is its bars, events in order of their commits."""

import hashlib
import itertools
from collections import defaultdict
from decimal import Decimal

import pytest

from ingest.simulator.execution import simulation
from ingest.simulator.execution.engine import Engine
from ingest.simulator.execution.simulation import ExecutionSimulationError
from tests.unit.simulator_execution import kit

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("files")
    kit.simulate(out, faults=["agg-id-gap", "missing-bars"])
    return out


def digests(folder) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_arguments_give_the_same_files_and_another_seed_others(tmp_path):
    small = {"days": 2, "ops_per_day": 6}
    first = kit.simulate(tmp_path / "a", **small)
    kit.simulate(tmp_path / "b", **small)
    kit.simulate(tmp_path / "c", **small, seed=8)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")
    again = kit.simulate(tmp_path / "a", **small)
    assert (first.written, again.written, again.counts) == (True, False, first.counts)


def test_a_folder_with_another_simulation_or_half_of_one_is_refused(tmp_path):
    small = {"days": 1, "ops_per_day": 2}
    kit.simulate(tmp_path, **small)
    with pytest.raises(ExecutionSimulationError, match="other days, expected those asked for"):
        kit.simulate(tmp_path, days=2, ops_per_day=2)
    (tmp_path / "truth" / "truth.json").unlink()
    with pytest.raises(ExecutionSimulationError, match="expected both or neither"):
        kit.simulate(tmp_path, **small)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"clients": 0}, "clients was 0, expected 1 to 900"),
        ({"symbols": ["BNBUSDC"]}, "symbol was BNBUSDC, expected one of BTCUSDC"),
        ({"symbols": []}, "symbol was none"),
        ({"faults": ["typo"]}, "fault was 'typo'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(other, told, tmp_path):
    with pytest.raises(ExecutionSimulationError, match=told):
        kit.simulate(tmp_path, **other)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    def broken(self, *_):
        raise RuntimeError("stopped")

    monkeypatch.setattr(Engine, "hour", broken)
    (tmp_path / "._execution-killed").mkdir()
    with pytest.raises(RuntimeError, match="stopped"):
        kit.simulate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["._execution.lock"]


@pytest.mark.parametrize("symbol", ["BTCUSDC", "ETHUSDC"])
def test_bars_are_those_of_the_tape(out, symbol):
    """Days with klines: each minute again out of its prints. Minutes without a print are flat at the close before."""
    bars, by_minute = kit.klines(out, symbol), defaultdict(list)
    for millis, price, quantity, _ in kit.tape(out, symbol):
        by_minute[millis // MINUTE_MS * MINUTE_MS].append((price, quantity))
    assert len(bars) == 2 * 1440
    empty = 0
    for opens, told in bars.items():
        prints = by_minute[opens]
        if not prints:
            empty += 1
            assert told[4:] == [0, 0]
            assert len(set(told[:4])) == 1
            continue
        prices = [p for p, _ in prints]
        volume, quote = sum(q for _, q in prints), sum(p * q for p, q in prints)
        assert told == [prices[0], max(prices), min(prices), prices[-1], volume, quote]
    assert empty > 50


def test_the_tape_has_one_gap(out):
    gaps = 0
    for symbol in ("BTCUSDC", "ETHUSDC"):
        ids = [trade[3] for trade in kit.tape(out, symbol)]
        gaps += sum(b != a + 1 for a, b in itertools.pairwise(ids))
    assert gaps == 1


def test_the_price_of_bnb_is_missing_for_three_hours(out):
    assert len(kit.klines(out, "BNBUSDC")) == 4 * 1440 - 180
    assert len(kit.klines(out, "CANARYUSDC")) == 4 * 1440


def test_events_are_numbered_as_they_were_committed(out):
    events = kit.rows(out, "events")
    assert [e["event_seq"] for e in events] == list(range(1, len(events) + 1))
    commits = [e["ingested_at"] for e in events]
    assert commits == sorted(commits)
    streams = defaultdict(list)
    for e in events:
        streams[e["client_id"], e["operation_id"]].append(e["stream_seq"])
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in streams.values())


def test_levels_are_crossed_when_they_are_triggered(out):
    """A long fires the stop at or below it and the target at or above it, a short mirrored. Source: spec 3.2."""
    fired = defaultdict(int)
    for e in kit.rows(out, "events"):
        if e["event_type"] == "STOP_TRIGGERED":
            price, level = Decimal(e["trigger_price"]), Decimal(e["stop_price"])
            kind = e["payload_json"]["trigger_type"]
            falls = (e["side"] == "SELL") == (kind == "STOP_LOSS")
            assert price <= level if falls else price >= level
            fired[e["side"], kind] += 1
    assert len(fired) == 4


def test_ids_are_the_symbols_own(out):
    """Two symbols share order and trade ids, a symbol never has one twice."""
    keys = [(f["symbol"], f["id"]) for _, f in kit.fills(out)]
    assert len(keys) == len(set(keys))
    assert len({trade for _, trade in keys}) < len(keys)


def test_tenants_share_operation_ids_and_the_canary_trades_alone(out):
    operations = {(r["client_id"], r["operation_id"], r["symbol"]) for r in kit.rows(out, "operations")}
    by_client = defaultdict(set)
    for client, operation, _ in operations:
        by_client[client].add(operation)
    assert by_client[1] == by_client[2]
    assert {s for c, _, s in operations if c == 999} == {"CANARYUSDC"}
    assert "CANARYUSDC" not in {s for c, _, s in operations if c != 999}


def test_steps_within_an_hour_change_no_row(tmp_path, monkeypatch):
    """Many operations are played in shorter steps; only bodies of own fills and row groups of the truth are cut so."""
    made = {}
    for name, ops in (("whole", 10**9), ("steps", 1)):
        monkeypatch.setattr(simulation, "OPS_PER_STEP", ops)
        kit.simulate(tmp_path / name, days=1, ops_per_day=40, faults=["none"])
        files = digests(tmp_path / name)
        made[name] = {file: sha for file, sha in files.items() if file.endswith((".ndjson", ".sql"))}
        made[name]["fills"] = kit.fills(tmp_path / name)
        made[name]["truth"] = kit.truth(tmp_path / name, "executions")
    assert made["whole"] == made["steps"]


def test_memory_holds_what_is_open(out, tmp_path, monkeypatch):
    """After each hour nothing of it is left waiting, and the market has three days, however long the run."""
    waiting, market_days = [], []
    real = Engine.hour

    def watched(self, start_us, *more):
        real(self, start_us, *more)
        held = [
            self.events,
            self.operations,
            self.balances,
            self.desk.orders,
            self.desk.fills,
            self.desk.effects,
        ]
        before = [entry for stream in held for entry in stream._rows if entry[0] < start_us]
        waiting.append((len(before), len(self._positions), sum(map(len, held))))
        market_days.append(max(map(len, self.markets.days.values())))

    monkeypatch.setattr(Engine, "hour", watched)
    kit.simulate(tmp_path, days=6, ops_per_day=12)
    assert {count for count, _, _ in waiting} == {0}
    assert set(market_days) <= {2, 3}
    # One hour's rows, and those of what is open: the last days need no more than the first.
    sizes = [size for _, _, size in waiting]
    assert max(sizes[72:]) <= 2 * max(sizes[:72])
