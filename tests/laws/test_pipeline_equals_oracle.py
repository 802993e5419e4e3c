"""The whole pipeline equals the slow oracle: from bronze through every SQL model and kernel to silver and gold.

`test_kernels_equal_oracle` compares the kernels on many random worlds. Here few sessions go through dbt, chosen for
what only the pipeline can get wrong: sessions over UTC dates and the clock change, the front contract and its
history, holidays and early closes, hours of several deliveries, several param sets in one lake (spec market 19.4,
19.13).
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lake import params, plan
from lake.commits import read_partitions
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import Day, autumn, calendar
from tests.e2e.support import (
    ATR,
    DEFAULT,
    LABEL_COLUMNS,
    OVERNIGHT,
    OracleDay,
    assert_day_equals_oracle,
    assert_same,
    front_contracts,
    live_ratios,
    of_lake,
    rows,
    run_dbt,
    silver,
)
from tests.fixtures.bronze import Delivery, make_bronze
from tests.oracle import bars, book, exposure, options
from tests.oracle.rules import MINUTE_NS, SECOND_NS

GOLD = "gold/training/candidates/v1.0_mechanics_only"
SETS = {name: params.load(name).digest for name in ("default", "atr", "overnight")}
CLOCK_CHANGED, HOLIDAY, EARLY_CLOSE, ROLL, AFTER_ROLL = (
    *("2025-11-03", "2025-11-27", "2025-11-28"),
    *("2025-12-01", "2025-12-02"),
)


@pytest.fixture(scope="module")
def days() -> dict[str, Day]:
    """The book of 12-02 and the trades of 10-31 have known gaps; the book of 11-28 has no marks of event ends."""
    found = autumn()
    found[AFTER_ROLL] = with_gaps(found[AFTER_ROLL])
    found[EARLY_CLOSE] = found[EARLY_CLOSE].without_event_ends()
    at = [t["ts_event_ns"] for t in found["2025-10-31"].front_trades("ESZ5")]
    missing = [("ESZ5", at[i], at[i + 1], "sequence") for i in (len(at) // 3, len(at) // 2)]
    missing += [("ESH6", at[0], at[-1], "sequence"), ("ESZ5", at[0], at[-1], "silence")]
    found["2025-10-31"] = replace(found["2025-10-31"], trade_gaps=missing)
    return found


def with_gaps(day: Day) -> Day:
    """Every kind of gap between records of the front and of the other contract: between two, over several, of no
    length, and of the reasons that records show themselves."""
    gaps: list[tuple[str, int, int, str]] = []
    for contract in ("ESH6", "ESZ5"):
        at = [r["ts_event_ns"] for r in day.front_records(contract)]
        for i, (length, reason) in enumerate(
            ((1, "sequence"), (12, "sequence"), (0, "sequence"), (3, "silence"))
        ):
            gaps += [(contract, at[j], at[j + length], reason) for j in range(20 + 9 * i, len(at) - 20, 97)]
        gaps += [(contract, at[j], at[j + 1], "maybe_bad_book") for j in range(60, len(at) - 20, 97)]
    return replace(day, gaps=gaps)


@pytest.fixture(scope="module")
def sessions() -> dict[str, dict]:
    return calendar()


@pytest.fixture(scope="module")
def fronts(days: dict[str, Day], sessions: dict[str, dict]) -> dict[str, dict]:
    return front_contracts(sessions, days)


@pytest.fixture(scope="module")
def built(days: dict[str, Day], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A lake of the eight sessions that grew in two steps, and what each step built.

    First all but the last session. Then the last one lands, and one hour of 11-03 and one of 11-28 a second time,
    trades and book. By the default set, whole; by `atr` the labels from 11-26 on, by `overnight` two sessions.
    """
    root = tmp_path_factory.mktemp("autumn")
    make_bronze(root, [day.delivery() for date, day in days.items() if date != AFTER_ROLL])
    first = run_dbt(root, "run")
    digests = content_digests(root)
    make_bronze(root, [days[AFTER_ROLL].delivery(), again(days[CLOCK_CHANGED]), again(days[EARLY_CLOSE])])
    then = run_dbt(root, "run")
    later = content_digests(root)
    run_dbt(root, "run", "--select", "+labels", param_set="atr", start_date="2025-11-26")
    run_dbt(root, "run", "--select", "+observation_features", param_set="atr", start_date=AFTER_ROLL)
    whole_session = ("run", "--select", "+labels", "+observation_features")
    run_dbt(root, *whole_session, param_set="overnight", start_date=CLOCK_CHANGED, end_date="2025-11-04")
    run_dbt(root, *whole_session, param_set="overnight", start_date=HOLIDAY, end_date=EARLY_CLOSE)
    return {"root": root, "first": first, "then": then, "digests": digests, "later": later}


@pytest.fixture(scope="module")
def lake(built: dict) -> Path:
    return built["root"]


def content_digests(root: Path) -> dict[tuple[str, str], str]:
    """Content digest of every committed partition of silver and gold, by dataset and date."""
    folders = {f.parent for layer in ("silver", "gold") for f in (root / "lake" / layer).glob("**/date=*")}
    return {
        (folder.relative_to(root / "lake").as_posix(), date): partition.commit.content_digest
        for folder in folders
        for (_, date), partition in read_partitions(folder).items()
    }


def again(day: Day) -> Delivery:
    """The hour of the book's first record in a delivery of its own."""
    session_records = [r for r in day.records if r["ts_event_ns"] >= day.session["globex_open_ns"]]
    return day.hour_again(session_records[0]["ts_event_ns"], f"{day.date} again")


def few(points: list[dict]) -> list[dict]:
    """Points of every stage spread over the day: the oracle takes its time for the book."""
    return points[:: max(1, len(points) // 40)]


@pytest.fixture(scope="module")
def oracle(days: dict[str, Day], sessions: dict[str, dict], fronts: dict[str, dict]):
    """`oracle(date, p)`: the oracle's day, worked out once for each pair."""
    known: dict[tuple[str, int], OracleDay] = {}
    live = live_ratios(days, fronts)

    def day(date: str, p: dict) -> OracleDay:
        key = (date, id(p))
        if key not in known:
            known[key] = OracleDay.of(days, sessions, date, fronts, live, p)
        return known[key]

    return day


def test_the_front_contract_is_chosen_before_the_open(lake: Path, fronts: dict[str, dict]):
    for date, expected in fronts.items():
        assert_same(
            f"front of {date}", silver(lake, "dim_front_month", date), [expected], ("contract",), expected
        )
    assert {d: f["selection"] for d, f in fronts.items() if f["selection"] == "calendar"}.keys() == {
        *("2025-10-30", "2025-11-26")
    }
    assert [d for d, f in fronts.items() if f["roll_contaminated"]] == [ROLL]
    assert (fronts[ROLL]["contract"], fronts[AFTER_ROLL]["contract"]) == ("ESZ5", "ESH6")


def test_staging_and_bars(lake: Path, days: dict[str, Day]):
    """Prints of outrights inside a session, each once, in order; bars of every outright in every width."""
    for date, day in days.items():
        trades = silver(lake, "stg_futures__trades", date)
        contracts = ("ESH6", "ESZ5")
        expected = [t for c in contracts for t in day.front_trades(c)]
        columns = ("contract", "ts_event_ns", "sequence", "tick", "size", "aggressor")
        assert_same(f"trades of {date}", trades, expected, ("ordinal",), columns)
        keys = [(t["ts_event_ns"], t["sequence"], t["ordinal"]) for t in trades]
        assert keys == sorted(keys)
        found = silver(lake, "ohlcv", date)
        expected = [
            {**bar, "contract": c}
            for c in contracts
            for w in (1, 60, 120)
            for bar in bars.ohlcv(day.front_trades(c), w)
        ]
        assert_same(f"bars of {date}", found, expected, ("contract", "bar_s", "bar_start_ns"), expected[0])


def test_staging_of_option_and_spy_prints(lake: Path, days: dict[str, Day], oracle):
    """Standing prints, each once, an option's with who started it; and what today's options are worth."""
    for date, day in days.items():
        spy = [row for row in day.spy if row["correction"] not in options.CANCELLED]
        columns = ("ts_event_ns", "price", "size", "correction")
        assert_same(f"SPY of {date}", silver(lake, "stg_stocks__trades", date), spy, ("ordinal",), columns)
        prints = options.with_aggressors(day.options)
        found = silver(lake, "stg_options__trades", date)
        columns = (
            "ts_event_ns",
            "option_symbol",
            "exp_date",
            "price",
            "size",
            "aggressor",
            "aggressor_method",
        )
        assert_same(f"options of {date}", found, prints, ("ordinal",), columns)
        expected = oracle(date, DEFAULT)
        greeks = silver(lake, "option_greeks", date, SETS["default"])
        columns = ("spot_tick", "es_spy_ratio", "iv", "iv_source", "gamma", "delta", "dealer_gamma")
        assert_same(f"greeks of {date}", greeks, expected.greeks, ("ts_event_ns", "ordinal"), columns)
        walls = silver(lake, "option_walls", date, SETS["default"])
        columns = ("spot_tick", "spot_spy_milli", *exposure.WALLS, "hvl")
        assert_same(f"walls of {date}", walls, expected.walls, ("minute_ns",), columns)
    assert any(row["wall_short_call"] for row in silver(lake, "option_walls", "2025-11-26", SETS["default"]))


def test_the_ratio_is_carried_from_one_session_into_the_next(lake: Path, oracle):
    """10-31 has SPY prints and 11-03, the next one, none; 12-01 and the session before it have none either."""
    for date, sources in (
        ("2025-10-31", {"default", "live", "carried"}),
        (CLOCK_CHANGED, {"carried"}),
        (ROLL, {"default"}),
    ):
        found = silver(lake, "dim_es_spy_ratio", date)
        expected = oracle(date, DEFAULT).ratios
        assert_same(f"ratio of {date}", found, expected, ("asof_ns",), expected[0])
        assert {row["ratio_source"] for row in found} == sources


@pytest.mark.parametrize(
    "date", ["2025-10-30", "2025-10-31", CLOCK_CHANGED, "2025-11-26", HOLIDAY, EARLY_CLOSE, ROLL, AFTER_ROLL]
)
def test_regular_hours(lake: Path, oracle, date: str):
    assert_day_equals_oracle(of_lake(lake, date, SETS["default"]), oracle(date, DEFAULT), choose=few)


@pytest.mark.parametrize("date", [CLOCK_CHANGED, HOLIDAY])
def test_the_whole_session(lake: Path, oracle, date: str):
    """`all` mode: from the Sunday open over the clock change, and through a holiday."""
    assert_day_equals_oracle(of_lake(lake, date, SETS["overnight"]), oracle(date, OVERNIGHT), choose=few)


def test_another_set_of_thresholds(lake: Path, oracle):
    assert_day_equals_oracle(of_lake(lake, AFTER_ROLL, SETS["atr"]), oracle(AFTER_ROLL, ATR), choose=few)


@pytest.mark.parametrize("date", ["2025-11-26", AFTER_ROLL])
def test_thresholds_by_the_days_own_range(lake: Path, oracle, date: str):
    """`atr` mode changes labels and nothing else."""
    day = oracle(date, DEFAULT)
    by_atr = day.but(p=ATR)
    by_atr.points = day.points
    found = silver(lake, "labels", date, SETS["atr"])
    assert_same(f"atr labels of {date}", found, by_atr.labels, ("observation_id",), LABEL_COLUMNS)
    thetas = {row["theta_2"] for row in found}
    assert len(thetas) > 5, "the thresholds did not follow the range"
    for name in ("levels", "touches", "observation_points"):
        same, other = (
            [
                {k: v for k, v in row.items() if k != "params_digest"}
                for row in silver(lake, name, date, SETS[s])
            ]
            for s in ("default", "atr")
        )
        assert same == other, name


def test_gaps_and_missing_event_ends_change_the_book(lake: Path, oracle):
    """The tape of both days, which equals the oracle's, is not the one that it would be without."""
    for date in (AFTER_ROLL, EARLY_CLOSE):
        day = oracle(date, DEFAULT)
        tape = [
            {k: r[k] for k in day.book["tape"][0]} for r in silver(lake, "book_tape", date, SETS["default"])
        ]
        known = {"manifest_gaps": day.gaps, "f_last_absent": day.f_last_absent}
        assert tape == book.whole(day.records, DEFAULT["GAP_S"], **known)["tape"] != []
        known |= {"manifest_gaps": ()} if day.gaps else {"f_last_absent": False}
        assert tape != book.whole(day.records, DEFAULT["GAP_S"], **known)["tape"], date


def test_windows_over_a_known_gap_of_the_trades_have_no_outcome(lake: Path, oracle):
    day = oracle("2025-10-31", DEFAULT)
    plain = day.but(trade_gaps=())
    plain.points = day.points
    lost = {
        a["observation_id"]: (a["label_status"], b["label_status"])
        for a, b in zip(plain.labels, day.labels, strict=True)
        if a["label_status"] != b["label_status"]
    }
    assert set(lost.values()) == {("ok", "data_gap")}
    found = silver(lake, "labels", "2025-10-31", SETS["default"])
    assert {r["label_status"] for r in found if r["observation_id"] in lost} == {"data_gap"}
    assert any(r["label_status"] == "ok" for r in found)


def test_what_the_days_were_chosen_for(
    lake: Path, oracle, sessions: dict[str, dict], fronts: dict[str, dict]
):
    """Each peculiarity is really there: a test that compares nothing would pass as well."""
    opened = sessions[CLOCK_CHANGED]["rth_open_ns"] - sessions[CLOCK_CHANGED]["globex_open_ns"]
    assert opened == 930 * MINUTE_NS  # Sunday 18:00 to 09:30, both after the change
    assert (
        sessions["2025-10-31"]["rth_open_ns"] % (86_400 * SECOND_NS) == 810 * MINUTE_NS
    )  # 13:30 UTC before it
    assert (
        sessions[CLOCK_CHANGED]["rth_open_ns"] % (86_400 * SECOND_NS) == 870 * MINUTE_NS
    )  # 14:30 UTC after it
    kinds = Counter(row["level_kind_name"] for row in silver(lake, "touches", CLOCK_CHANGED, SETS["default"]))
    for date in ("2025-10-31", "2025-11-26", EARLY_CLOSE, AFTER_ROLL):
        kinds += Counter(row["level_kind_name"] for row in silver(lake, "touches", date, SETS["default"]))
    wanted = {
        "PM_HIGH",
        "PM_LOW",
        "OR_HIGH",
        "OR_LOW",
        "SESSION_HIGH",
        "SESSION_LOW",
        "SMA_200",
        "SMA_400",
        "VWAP",
        "ROUND",
        "CALL_WALL",
        "PUT_WALL",
    }
    assert set(kinds) == wanted, wanted - set(kinds)

    assert silver(lake, "touches", HOLIDAY, SETS["default"]) == []
    assert len(silver(lake, "touches", HOLIDAY, SETS["overnight"])) > 0
    last = max(row["ts_ns"] for row in silver(lake, "touches", EARLY_CLOSE, SETS["default"]))
    close = sessions[EARLY_CLOSE]["rth_close_ns"]
    assert close - 60 * MINUTE_NS < last < close - 16 * MINUTE_NS  # none after 12:44

    clusters = [
        max(row["attempt_index"] for row in silver(lake, "touches", d, SETS["default"]))
        for d in ("2025-10-31", "2025-11-26", CLOCK_CHANGED)
    ]
    assert max(clusters) >= 3
    # ten minutes of the front's own history a day earlier are no warm-up of the averages
    sma = [
        r for r in silver(lake, "levels", AFTER_ROLL, SETS["default"]) if r["level_kind_name"] == "SMA_400"
    ]
    assert sma
    assert {r["level_kind_name"] for r in silver(lake, "levels", "2025-10-30", SETS["default"])} >= {
        "SMA_200"
    }
    statuses = {row["label_status"] for d in fronts for row in silver(lake, "labels", d, SETS["default"])}
    assert statuses == {"ok", "already_resolved", "data_gap"}
    states = Counter(r["barrier_state"] for d in fronts for r in silver(lake, "physics", d, SETS["default"]))
    assert len(states) >= 4, states
    assert states["UNKNOWN"] < states.total(), states


def test_gold_holds_ok_rows_of_clean_dates(lake: Path, fronts: dict[str, dict]):
    """The roll's date is built and labelled, and not trained on."""
    assert {date for _, date in read_partitions(lake / "lake" / GOLD)} == fronts.keys()
    for date, front in fronts.items():
        labels = silver(lake, "labels", date, SETS["default"])
        ok = {row["observation_id"] for row in labels if row["label_status"] == "ok"}
        gold = rows(lake, GOLD, date)
        assert {row["observation_id"] for row in gold} == (set() if front["roll_contaminated"] else ok)
        assert {row["params_digest"] for row in gold} <= {SETS["default"]}
        assert ok or date not in ("2025-10-31", "2025-11-26", ROLL), date


def test_a_later_session_changes_no_earlier_one(built: dict):
    """What is known of seven sessions stays as it is when the eighth lands: the past does not read the future."""
    of_spy = {"stg_options__trades": 3, "stg_stocks__trades": 2}  # which do not trade every day
    assert {name: count for name, count in built["first"].items() if count != 7} == of_spy
    changed = {k for k, digest in built["digests"].items() if built["later"][k] != digest}
    assert changed == set()
    assert {date for _, date in built["later"].keys() - built["digests"].keys()} == {AFTER_ROLL}


def test_a_copy_of_an_hour_changes_nothing_and_the_wave_stops(built: dict):
    """The two dates are read again, and give what they gave: nothing after them is built."""
    readers = dict.fromkeys(
        ("stg_futures__trades", "stg_options__trades", "book_tape", "book_states", "bbo_changes"), 3
    )
    assert built["then"] == {name: readers.get(name, 1) for name in built["first"]}


def test_data_tests_pass_with_several_param_sets_in_one_lake(lake: Path):
    run_dbt(lake, "test")
    params_of = {p for p, _ in read_partitions(lake / "lake" / "silver" / "datasets" / "labels")}
    assert params_of == {digest[:8] for digest in SETS.values()}


NO_ROWS = ("int_es_spy_ratio__live",)  # of a session in which SPY does not trade


def test_the_compiled_models_in_memory_give_what_dbt_publishes(
    lake: Path, manifest: dict, days: dict[str, Day]
):
    """`tests/e2e/in_memory.py` stands in for dbt where a property is tried on many markets: row for row, to the bit."""
    pipeline = Pipeline(manifest, params.load("default"))
    for date, day in days.items():
        if date <= CLOCK_CHANGED:
            pipeline.land(day)
            pipeline.build(date)
    for model in pipeline.models:
        if model.is_dataset:
            folder = plan.dataset_folder(model.node)
            digest = SETS["default"] if plan.per_params(model.node) else None
            published = rows(lake, folder, CLOCK_CHANGED, digest)
            found = pipeline.rows(model.name, CLOCK_CHANGED)
            assert found == [{k: v for k, v in r.items() if k != "session_date"} for r in published], (
                model.name
            )
            landed = not model.name.startswith("stg_") or model.name in (
                "stg_futures__trades",
                "stg_options__trades",
            )
            assert found or not landed or model.name in NO_ROWS or model.node["schema"] == "gold", model.name
