"""Each fault of the simulator, landed, and handled as its line in `faults.FAULTS` says."""

import functools
import json
import math
import os
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import databento
import numpy as np
import pyarrow.dataset as ds
import pytest

from ingest import dbn
from ingest.file_report import FileReport
from ingest.polygon import landing as polygon
from ingest.simulator import stocks
from ingest.simulator.clock import session_clock
from ingest.simulator.contracts import contracts_of
from ingest.simulator.faults import ALL_FAULTS, FAULTS, FaultError, chosen_names, resolve
from ingest.simulator.ledger import delivery_list
from ingest.simulator.market import simulate
from ingest.simulator.session import open_session
from lake import datasets
from lake.paths import PROJECT_DIR
from tests.fixtures.dbt import repository_project
from tests.unit.simulator.reading import MINUTE_NS, SECOND_NS

NEW_YORK = ZoneInfo("America/New_York")
DAY = date(2025, 10, 7)
TWO_DAYS = [DAY, date(2025, 10, 8)]
# Faults on the way: the market behind them is the same, so staging must give what it gives without them.
ON_THE_WAY = (
    "redelivery", "disorder", "id-reuse", "crossed-book", "odd-tickers", "identical-prints", "fractional-size",
    "truncated-file", "wrong-sha256",
)  # fmt: skip
# The days of October take the faults of one session in this order.
NO_SPY, NO_OPTIONS, ROLL = (date(2025, 10, d) for d in (29, 30, 31))
AFTER_DST, HOLIDAY, EARLY = date(2025, 11, 3), date(2025, 11, 27), date(2025, 11, 28)
IN_THE_MARKET = (
    "other-contracts", "book-gap", "book-clear", "undef-levels", "no-spy-day", "no-options-day", "roll-day",
    "early-close", "holiday", "dst-change",
)  # fmt: skip

MODELS = ("+book_states", "+book_tape", "+option_greeks", "+touches")


def landed(root: Path) -> dict[Path, FileReport]:
    """Land all simulated files, as the demo does; the report of each."""
    expected, _ = delivery_list(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)  # its wait is most of a small landing
        report = dbn.ingest(root, [root / "raw" / "dbn"], expected=expected).files
        report += polygon.ingest(root, [root / "raw" / "polygon"]).files
    return {file.path: file for file in report}


@functools.cache
def bronze(root: Path, name: str) -> dict[str, np.ndarray]:
    """All rows of a bronze dataset, file by file in order of path."""
    files = sorted((root / "lake" / "bronze" / name).rglob("part-*.parquet"))
    table = ds.dataset(files, partitioning=None).to_table()
    return {column: table[column].to_numpy(zero_copy_only=False) for column in table.column_names}


def silver(root: Path, model: str, *columns: str, day: date | None = None) -> list[tuple]:
    table = datasets.read(root, f"silver/datasets/{model}", dates=day and [day.isoformat()])
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


@pytest.fixture(scope="module")
def lakes(tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """The same session, clean and with the faults on the way, landed and staged: (root, reports)."""
    made = {}
    for name, faults in (("clean", ()), ("faulty", ON_THE_WAY)):
        root = tmp_path_factory.mktemp(name)
        simulate(root, [DAY], scale=0.001, seed=5, profile="null", faults=faults)
        made[name] = root, landed(root)
        outcome = repository_project().run(
            root, "run", "--select", "+book_tape", "stg_options__trades", "stg_stocks__trades"
        )
        assert outcome.ok, outcome
    return made


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    """Sessions with faults of the market and the calendar, landed and built up to touches and fuel."""
    root = tmp_path_factory.mktemp("market")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stocks, "FULL_SPY", 14_000_000)  # enough for a live ratio at so small a scale
        simulate(root, [NO_SPY, NO_OPTIONS, ROLL], scale=0.001, seed=5, profile="null", faults=IN_THE_MARKET)
    assert all(file.ok for file in landed(root).values())
    outcome = repository_project().run(root, "run", "--select", *MODELS)
    assert outcome.ok, outcome
    return root


# --- names ---------------------------------------------------------------------------------------------------------


def test_every_fault_of_the_guide_is_one_that_can_be_switched_on():
    guide = (PROJECT_DIR / "docs" / "guides" / "simulator.md").read_text().partition("## Faults")[2]
    guide = guide.partition("## The bot")[0]
    rows = [line.split("|")[1:-1] for line in guide.splitlines() if line.startswith("| `")]
    told = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in rows}
    assert told == {name: [f.hits, f.what, f.handling] for name, f in FAULTS.items()}
    assert set(ON_THE_WAY) | set(IN_THE_MARKET) == set(FAULTS)


def test_names_are_checked_and_mean_what_they_say():
    assert chosen_names(["all"]) == tuple(FAULTS)
    assert chosen_names(["none"]) == ()
    assert chosen_names(["disorder", "book-gap", "disorder"]) == ("disorder", "book-gap")
    with pytest.raises(FaultError, match="fault was 'dissorder', expected all, none or one of redelivery"):
        chosen_names(["dissorder"])
    with pytest.raises(FaultError, match="expected none alone"):
        chosen_names(["none", "disorder"])


def test_the_session_of_a_fault_is_chosen_once():
    first = resolve([ALL_FAULTS], TWO_DAYS, {})
    assert first.dates["no-spy-day"] == TWO_DAYS[0]
    assert first.dates["no-options-day"] == TWO_DAYS[1]
    assert first.dates["holiday"] == date(2025, 11, 27)
    assert first.dates["early-close"] == date(2025, 11, 28)
    assert first.added_sessions() == {date(2025, 10, 31), AFTER_DST, HOLIDAY, EARLY}
    again = resolve([ALL_FAULTS], [date(2026, 1, 5)], first.dates)
    assert again == first
    assert first.of(TWO_DAYS[1]) >= {"no-options-day", "disorder"}
    assert "no-spy-day" not in first.of(TWO_DAYS[1])


# --- faults on the way ---------------------------------------------------------------------------------------------

TRADE = ("ts_event_ns", "sequence", "contract", "price", "size", "aggressor")


def test_redelivered_rows_are_in_bronze_twice_and_in_staging_once(lakes):
    clean, faulty = (lakes[name][0] for name in ("clean", "faulty"))
    for name in ("futures/trades", "futures/mbp10", "options/trades", "stocks/trades"):
        rows = [len(bronze(root, name)["ts_event_ns"]) for root in (clean, faulty)]
        assert rows[1] > 1.002 * rows[0], name
    staged = [Counter(silver(root, "stg_futures__trades", "ts_event_ns", "sequence", "contract", "tick", "size"))
              for root in (clean, faulty)]  # fmt: skip
    assert staged[0] == staged[1]
    stock = [
        Counter(silver(root, "stg_stocks__trades", "ts_event_ns", "price", "size"))
        for root in (clean, faulty)
    ]
    assert stock[0] == stock[1]


def test_the_book_is_the_same_after_disorder_new_ids_a_crossed_preopen_and_redelivery(lakes):
    tapes = [
        silver(lakes[name][0], "book_tape", "ts_event_ns", "sequence", "side", "tick", "delta")
        for name in ("clean", "faulty")
    ]
    assert len(tapes[0]) > 1_000
    assert tapes[0] == tapes[1]


def test_late_records_arrive_in_order_of_arrival_and_are_sorted_by_event(lakes):
    root, _ = lakes["faulty"]
    (path,) = (root / "raw" / "dbn" / "mbp10").glob("glbx-mdp3-20251007.mbp-10.dbn.zst")
    rows = databento.DBNStore.from_file(path).to_ndarray()
    recv, event = rows["ts_recv"].astype(np.int64), rows["ts_event"].astype(np.int64)
    assert (np.diff(recv) >= 0).all()
    late = recv - event > SECOND_NS // 2_000
    assert 0.01 < np.mean(late) < 0.04
    assert (recv - event)[late].max() <= 501_000_000
    assert (np.diff(event) < 0).sum() > 50
    for part in sorted((root / "lake" / "bronze" / "futures").rglob("part-*.parquet")):
        table = ds.dataset(part, partitioning=None).to_table(columns=["ts_event_ns", "sequence", "ordinal"])
        keys = list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
        assert keys == sorted(keys)


def test_reused_ids_are_mapped_by_date(lakes):
    root, _ = lakes["faulty"]
    ids = {}
    for path in (root / "raw" / "dbn" / "trades").glob("glbx-mdp3-2025100[67].trades.dbn.zst"):
        mappings = databento.DBNStore.from_file(path).metadata.mappings
        ids[path.name[10:18]] = {symbol: part[0]["symbol"] for symbol, part in mappings.items()}
    front, spread = contracts_of(DAY).front.symbol, contracts_of(DAY).spread.symbol
    assert ids["20251007"][front] == ids["20251006"][spread]
    assert ids["20251006"][front] == ids["20251007"][spread]
    contracts = [
        Counter(bronze(lakes[name][0], "futures/trades")["contract"]) for name in ("clean", "faulty")
    ]
    assert set(contracts[0]) == set(contracts[1]) == {c.symbol for c in contracts_of(DAY).all()}
    assert contracts[1][front] > 10 * contracts[1][spread]


def test_the_crossed_preopen_book_stays_in_bronze(lakes):
    for name, count in (("clean", 0), ("faulty", 60)):
        rows = bronze(lakes[name][0], "futures/mbp10")
        before = rows["ts_event_ns"] < session_clock(DAY).globex_open_ns
        assert count <= before.sum() <= count + 2  # a few of them came again
        assert (rows["bid_px_00"][before] > rows["ask_px_00"][before]).all()


def filtered(root: Path, files: dict[Path, FileReport], schema: str) -> int:
    """Rows of other tickers in the flat file of the first day, by its receipt."""
    (file,) = (
        f for f in files.values() if f.path.parent.name == schema and f.path.name == "2025-10-07.csv.gz"
    )
    return json.loads((root / "raw" / "_metadata" / f"receipt-{file.delivery_id}.json").read_text())[
        "filtered_count"
    ]


def test_odd_tickers_are_filtered_as_text(lakes):
    for schema in ("options", "stocks"):
        more = filtered(*lakes["faulty"], schema) - filtered(*lakes["clean"], schema)
        assert 60 <= more <= 65, schema  # identical prints are among them


def test_identical_prints_are_kept_and_a_fractional_size_is_rejected(lakes):
    options = [
        Counter(
            silver(lakes[name][0], "stg_options__trades", "ts_event_ns", "option_symbol", "price", "size")
        )
        for name in ("clean", "faulty")
    ]
    again, missing = options[1] - options[0], options[0] - options[1]
    assert missing.total() == 2
    assert again.total() == pytest.approx(0.01 * options[0].total(), rel=0.3)
    assert set(again) <= set(options[0])
    files = [
        f for f in lakes["faulty"][1].values() if f.path.parent.name == "options" and f.status == "landed"
    ]
    assert [f.rejected for f in files if f.rows > 100] == [2]
    table = ds.dataset(
        sorted((lakes["faulty"][0] / "lake" / "bronze" / "_rejects").rglob("*.parquet")), partitioning=None
    )
    rejects = table.to_table().to_pylist()
    assert {r["rule"] for r in rejects} == {"SIZE"}
    assert len(rejects) == 2


def test_broken_deliveries_are_quarantined_and_leave_no_row(lakes):
    root, reports = lakes["faulty"]
    assert all(file.ok for file in lakes["clean"][1].values())
    refused = {path: file for path, file in reports.items() if not file.ok}
    _, broken = delivery_list(root)
    assert {path.resolve() for path in refused} == {path.resolve() for path in broken}
    reasons = sorted(file.reason for file in refused.values())
    assert [reason.split(" was")[0] for reason in reasons] == ["gzip stream", "sha256", "zstd frame"]
    assert not any(path.exists() for path in refused)
    assert len(list((root / "raw" / "_quarantine").iterdir())) == 3
    ids = {file.delivery_id for file in refused.values()}
    for name in ("futures/trades", "options/trades"):
        assert not ids & set(bronze(root, name)["delivery_id"])
    # What was refused isn't sent again.
    again = simulate(root, [DAY], scale=0.001, seed=5, profile="null", faults=ON_THE_WAY)
    assert not any(file.written for file in again)


# --- faults of the market and the calendar -------------------------------------------------------------------------


def front_book(root: Path, day: date) -> dict[str, np.ndarray]:
    """Bronze book rows of the front contract in regular hours."""
    clock, rows = session_clock(day), bronze(root, "futures/mbp10")
    mine = (rows["ts_event_ns"] >= clock.rth_open_ns) & (rows["ts_event_ns"] < clock.rth_close_ns)
    mine &= rows["contract"] == contracts_of(day).front.symbol
    order = np.lexsort((rows["ordinal"][mine], rows["sequence"][mine], rows["ts_event_ns"][mine]))
    return {name: column[mine][order] for name, column in rows.items()}


def segments(root: Path, day: date, *instants: int) -> list[int]:
    """Segment of the last state as of each instant."""
    cells = silver(root, "book_states", "cell_end_ns", "segment_id", day=day)
    return [[segment for end, segment in cells if end <= at][-1] for at in instants]


def test_other_contracts_are_in_bronze_and_spreads_in_no_bar(market):
    shares = []
    for faults in (frozenset(), frozenset({"other-contracts"})):
        stream = open_session(5, NO_SPY, 0.06, "null", faults)
        front = np.concatenate(
            [block[:, 0] >> 32 == stream.contracts.front.instrument_id for block in stream.blocks]
        )
        shares.append(1 - front.mean())
    assert shares[0] < 0.025
    assert shares[1] == pytest.approx(0.04, abs=0.006)
    rows = Counter(bronze(market, "futures/mbp10")["contract"])
    assert any("-" in contract for contract in rows)
    bars = {contract for (contract,) in silver(market, "ohlcv", "contract")}
    assert bars == {contract for contract in rows if "-" not in contract}


def test_a_hole_in_the_book_breaks_the_segment(market):
    book = front_book(market, NO_SPY)
    ts = book["ts_event_ns"]
    widest = int(np.argmax(np.diff(ts)))
    start, end = int(ts[widest]), int(ts[widest + 1])
    assert 300 * SECOND_NS <= end - start < 330 * SECOND_NS
    trades = bronze(market, "futures/trades")["ts_event_ns"]
    assert ((trades > start) & (trades < end)).sum() > 3
    before, after = segments(market, NO_SPY, start + SECOND_NS, end + 30 * SECOND_NS)
    assert after > before
    changes = [t for (t,) in silver(market, "book_tape", "ts_event_ns", day=NO_SPY)]
    assert not any(start < t <= end for t in changes)


def test_a_clear_and_its_snapshot_are_no_flow(market):
    book = front_book(market, NO_SPY)
    (at,) = np.flatnonzero(book["action"] == "R")
    assert (book["flags"][at : at + 21] & 32 > 0).all()
    ts = int(book["ts_event_ns"][at])
    # the snapshot is the book as it stood
    for side in ("bid", "ask"):
        for k in range(7):
            for column in (f"{side}_px_{k:02}", f"{side}_sz_{k:02}"):
                assert book[column][at + 20] == book[column][at - 1]
    before, after = segments(market, NO_SPY, ts // 100_000_000 * 100_000_000, ts + 30 * SECOND_NS)
    assert after > before
    changes = [(t, s) for t, s in silver(market, "book_tape", "ts_event_ns", "ordinal", day=NO_SPY)]
    snapshot = set(book["ordinal"][at : at + 21].tolist())
    assert not any(t == ts and ordinal in snapshot for t, ordinal in changes)


def test_levels_that_are_undef_are_null_and_no_price(market):
    book = front_book(market, NO_SPY)
    empty = book["bid_sz_09"] == 0
    ts = book["ts_event_ns"][empty & (book["action"] != "R") & (book["flags"] & 32 == 0)]
    assert len(ts) > 30
    assert 8 * MINUTE_NS < ts.max() - ts.min() < 10 * MINUTE_NS
    assert all(price is None or math.isnan(price) for price in book["bid_px_09"][empty].tolist())
    cells = silver(market, "book_states", "cell_end_ns", "bid_tick_06", "bid_tick_09", day=NO_SPY)
    inside = [(seventh, tenth) for end, seventh, tenth in cells if ts.min() + SECOND_NS < end < ts.max()]
    assert inside
    assert all(seventh is not None and tenth is None for seventh, tenth in inside)


def test_without_spy_the_ratio_is_the_default_and_live_the_day_after(market):
    assert set(silver(market, "dim_es_spy_ratio", "es_spy_ratio", "ratio_source", day=NO_SPY)) == {
        (10.0, "default")
    }
    after = silver(market, "dim_es_spy_ratio", "es_spy_ratio", "ratio_source", day=NO_OPTIONS)
    live = [ratio for ratio, source in after if source == "live"]
    assert len(live) > 3_600
    assert max(abs(ratio - 10.03) for ratio in live) < 0.02


def test_a_day_without_options_has_none_and_the_others_do(market):
    assert not (market / "raw" / "polygon" / "options" / f"{NO_OPTIONS}.csv.gz").exists()
    assert silver(market, "option_greeks", "ts_event_ns", day=NO_OPTIONS) == []
    assert len(silver(market, "option_greeks", "ts_event_ns", day=ROLL)) > 500


def test_the_day_of_a_roll_is_flagged(market):
    rolled = dict(silver(market, "dim_front_month", "session_date", "roll_contaminated"))
    assert [day for day, flag in sorted(rolled.items()) if flag] == [ROLL]
    assert silver(market, "touches", "ts_ns", day=ROLL)


def wall(ts_ns: int) -> datetime:
    return datetime.fromtimestamp(ts_ns / 1e9, UTC).astimezone(NEW_YORK)


def test_an_early_close_ends_the_event_hours(market):
    times = [wall(t) for (t,) in silver(market, "touches", "ts_ns", day=EARLY)]
    assert len(times) > 20
    assert max(times).strftime("%H:%M") < "12:44"
    years = silver(market, "option_greeks", "ts_event_ns", "time_to_expiry_years", day=EARLY)
    close = session_clock(EARLY).rth_close_ns
    assert close == int(datetime(2025, 11, 28, 13, tzinfo=NEW_YORK).timestamp()) * SECOND_NS
    known = [(ts, value) for ts, value in years if value is not None]
    assert len(known) > 500
    for ts, value in known[:50]:
        assert value == pytest.approx((close - ts) / (365 * 86_400 * SECOND_NS), rel=1e-9)


def test_a_holiday_has_trades_but_no_touch(market):
    trades = bronze(market, "futures/trades")["ts_event_ns"]
    opens, ends = (
        int(datetime(2025, 11, d, h, tzinfo=NEW_YORK).timestamp()) * SECOND_NS
        for d, h in ((26, 18), (27, 13))
    )
    mine = trades[(trades >= opens) & (trades < ends + 12 * 3600 * SECOND_NS)]
    assert len(mine[mine < ends]) > 300
    assert mine[mine >= ends].min() >= ends + 5 * 3600 * SECOND_NS  # the next session's first
    assert silver(market, "touches", "ts_ns", day=HOLIDAY) == []
    assert not (market / "raw" / "polygon" / "stocks" / f"{HOLIDAY}.csv.gz").exists()


def test_the_open_moves_with_new_yorks_clocks(market):
    first = {}
    for day in (ROLL, AFTER_DST):
        first[day] = min(wall(t) for (t,) in silver(market, "touches", "ts_ns", day=day))
        assert "09:30" <= first[day].strftime("%H:%M") < "10:00"
    assert first[ROLL].utcoffset() - first[AFTER_DST].utcoffset() == timedelta(hours=1)
    options = [t for (t,) in silver(market, "option_greeks", "ts_event_ns", day=AFTER_DST)]
    assert min(options) >= session_clock(AFTER_DST).rth_open_ns
