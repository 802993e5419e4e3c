"""The simulated flat files: prints that fit the ES market, prices without arbitrage, flow that the tick test sees."""

import csv
import gzip
import itertools
import math
from collections import Counter, defaultdict
from datetime import date

import numpy as np
import pytest

from ingest.polygon.layout import OPTIONS, STOCKS
from ingest.simulator.clock import session_clock
from ingest.simulator.contracts import contracts_of
from ingest.simulator.market import simulate
from ingest.simulator.ratio import CENTRE, ratio_at
from tests.unit.simulator.reading import MINUTE_NS, SECOND_NS, TICK_NANO, read

DAYS = [date(2025, 10, d) for d in (7, 8, 9)]
EARLY = date(2025, 11, 28)
SETTINGS = {"scale": 0.005, "seed": 3, "profile": "null"}
RATE = 0.045


def rows_of(path) -> list[dict]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    """Files of three sessions and of one that closes early, by (schema, session)."""
    root = tmp_path_factory.mktemp("lake")
    found = defaultdict(list)
    for file in simulate(root, [*DAYS, EARLY], **SETTINGS):
        for session in file.sessions:
            found[file.schema, session].append(file)
    return found


@pytest.fixture(scope="module")
def prints(files) -> dict:
    """Rows of the flat files by (schema, session): dicts of text."""
    return {key: rows_of(found[0].path) for key, found in files.items() if key[0] in ("options", "stocks")}


@pytest.fixture(scope="module")
def front(files) -> dict:
    """(times, prices in points) of the front contract's trades by session."""
    found = {}
    for day in DAYS:
        trades = read(sorted(f.path for f in files["trades", day]))
        trades = trades[trades["instrument_id"] == contracts_of(day).front.instrument_id]
        found[day] = trades["ts_event"].astype(np.int64), trades["price"] / TICK_NANO / 4
    return found


def before(series, ts: np.ndarray) -> np.ndarray:
    """The price of the last trade strictly before each instant."""
    times, prices = series
    return prices[np.searchsorted(times, ts) - 1]


def options_of(rows: list[dict], day: date) -> dict[str, np.ndarray]:
    """Columns of the prints of SPY options that expire on ``day``, in order of time."""
    prefix = f"O:SPY{day:%y%m%d}"
    mine = [r for r in rows if r["ticker"].startswith(prefix) and len(r["ticker"]) == len(prefix) + 9]
    columns = {
        "ts": np.array([int(r["sip_timestamp"]) for r in mine]),
        "price": np.array([float(r["price"]) for r in mine]),
        "size": np.array([int(r["size"]) for r in mine]),
        "strike": np.array([int(r["ticker"][-8:]) / 1000 for r in mine]),
        "is_call": np.array([r["ticker"][-9] == "C" for r in mine]),
        "aggressor": np.array(tick_test(mine)),
    }
    order = np.argsort(columns["ts"], kind="stable")
    return {name: column[order] for name, column in columns.items()}


def tick_test(rows: list[dict]) -> list[int]:
    """+1, −1 or 0 of each print by the prices before it of the same option (rows are grouped by ticker)."""
    signs = []
    for _, group in itertools.groupby(rows, key=lambda r: r["ticker"]):
        last, sign = None, 0
        for row in group:
            price = float(row["price"])
            if last is not None and price != last:
                sign = 1 if price > last else -1
            last = price
            signs.append(sign)
    return signs


def normal(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def dealer_gamma(options: dict, spot: np.ndarray, close_ns: int) -> np.ndarray:
    """−aggressor · size · gamma · 100 of each print, with the volatility its price implies (bisection)."""
    years = np.maximum(close_ns - options["ts"], 60 * SECOND_NS) / (365 * 86_400 * SECOND_NS)
    strike = options["strike"] * np.exp(-RATE * years)
    # out-of-the-money side by parity: one formula for both rights
    value = np.where(options["is_call"], options["price"], options["price"] + spot - strike)
    low, high = np.full(len(spot), 0.01), np.full(len(spot), 5.0)
    for _ in range(30):
        sigma = (low + high) / 2
        d1 = np.log(spot / strike) / (sigma * np.sqrt(years)) + sigma * np.sqrt(years) / 2
        below = spot * normal(d1) - strike * normal(d1 - sigma * np.sqrt(years)) < value
        low, high = np.where(below, sigma, low), np.where(below, high, sigma)
    gamma = np.exp(-(d1**2) / 2) / math.sqrt(2 * math.pi) / (spot * sigma * np.sqrt(years))
    return -options["aggressor"] * options["size"] * gamma * 100


@pytest.fixture(scope="module")
def flows(prints, front) -> dict:
    """Options with their spot and dealer gamma, by session."""
    found = {}
    for day in DAYS:
        options = options_of(prints["options", day], day)
        options["spot"] = before(front[day], options["ts"]) / ratio_at(SETTINGS["seed"], options["ts"])
        options["gamma"] = dealer_gamma(options, options["spot"], session_clock(day).rth_close_ns)
        found[day] = options
    return found


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_have_the_vendors_shape(files, prints):
    for day in DAYS:
        for kind in (OPTIONS, STOCKS):
            (file,), rows = files[kind.name, day], prints[kind.name, day]
            assert file.path.parts[-4:] == ("raw", "polygon", kind.name, f"{day}.csv.gz")
            assert file.record_count == len(rows)
            assert tuple(rows[0]) == kind.required
            tickers = [r["ticker"] for r in rows]
            assert tickers == sorted(tickers)
            for _, group in itertools.groupby(rows, key=lambda r: r["ticker"]):
                times = [int(r["sip_timestamp"]) for r in group]
                assert times == sorted(times)


def test_the_same_settings_give_the_same_bytes_whatever_else_is_simulated(files, tmp_path):
    alone = simulate(tmp_path / "alone", [DAYS[1]], **SETTINGS)
    assert {f.sha256 for f in alone if f.path.suffix == ".gz"} == {
        files[schema, DAYS[1]][0].sha256 for schema in ("options", "stocks")
    }
    other = simulate(tmp_path / "other", [DAYS[1]], **SETTINGS | {"seed": 4})
    assert not {f.sha256 for f in alone} & {f.sha256 for f in other}


def test_a_file_that_was_deleted_is_written_again(tmp_path):
    settings = SETTINGS | {"scale": 0.0005}
    first = simulate(tmp_path, [DAYS[0]], **settings)
    (options,) = (f for f in first if f.schema == "options")
    options.path.unlink()
    second = simulate(tmp_path, [DAYS[0]], **settings)
    assert [f for f in second if f.written] == [options]
    assert second == first


# --- stocks --------------------------------------------------------------------------------------------------------


def test_spy_times_the_ratio_is_es_within_a_tick(prints, front):
    for day in DAYS:
        clock = session_clock(day)
        rows = [r for r in prints["stocks", day] if r["ticker"] == "SPY" and r["correction"] == "0"]
        ts = np.array([int(r["sip_timestamp"]) for r in rows])
        price = np.array([float(r["price"]) for r in rows])
        inside = ts < clock.globex_close_ns
        off = price * ratio_at(SETTINGS["seed"], ts) - before(front[day], ts)
        assert np.abs(off[inside]).max() <= 0.5
        assert np.mean(np.abs(off[inside]) <= 0.25) > 0.97
        if day != DAYS[-1]:  # the evening belongs to the next session
            evening = ts > clock.globex_close_ns + 3_605 * SECOND_NS
            off = price * ratio_at(SETTINGS["seed"], ts) - before(front[DAYS[DAYS.index(day) + 1]], ts)
            assert evening.sum() > 5
            assert np.abs(off[evening]).max() <= 0.5


def test_the_ratio_drifts_slowly_around_its_centre():
    t = session_clock(DAYS[0]).rth_open_ns + np.arange(0, 200 * 86_400, 600) * SECOND_NS
    ratio = ratio_at(3, t)
    assert abs(ratio.mean() - CENTRE) < 0.002
    assert 0.005 < np.ptp(ratio) < 0.02
    assert np.abs(np.diff(ratio)).max() < 0.0002  # in ten minutes
    assert not np.allclose(ratio, ratio_at(4, t), atol=1e-4)


def test_spy_trades_from_four_to_eight_in_odd_lots_too_and_some_were_corrected(prints):
    for day in [*DAYS, EARLY]:
        clock = session_clock(day)
        rows = [r for r in prints["stocks", day] if r["ticker"] == "SPY"]
        assert len(rows) == 400_000 * SETTINGS["scale"]
        ts = np.array([int(r["sip_timestamp"]) for r in rows])
        assert ts.min() >= clock.premarket_open_ns
        hours = (ts.max() - clock.premarket_open_ns) / 3600 / SECOND_NS
        assert 12 < hours < (13 if day == EARLY else 16)
        regular = (ts >= clock.rth_open_ns) & (ts < clock.rth_close_ns)
        assert regular.mean() > 0.75
        odd = [float(r["size"]) < 100 for r in rows]
        assert [("37" in r["conditions"].split(",")) for r in rows] == odd
        assert 0.1 < np.mean(odd) < 0.4
        assert all(int(r["participant_timestamp"]) < int(r["sip_timestamp"]) for r in rows)
    corrections = Counter(r["correction"] for day in DAYS for r in prints["stocks", day])
    assert {"0", "8"} < set(corrections)
    assert corrections["0"] > 0.99 * corrections.total()


# --- options -------------------------------------------------------------------------------------------------------


def test_shares_of_expiries_and_roots_are_the_specs(prints):
    for day in DAYS:
        rows = prints["options", day]
        today = options_of(rows, day)
        spy = [r for r in rows if r["ticker"].startswith("O:SPY2")]
        assert len(today["ts"]) == pytest.approx(750_000 * SETTINGS["scale"], abs=2)
        assert len(spy) - len(today["ts"]) == pytest.approx(0.30 * len(today["ts"]), rel=0.01)
        assert len(rows) - len(spy) == pytest.approx(0.20 * len(today["ts"]), rel=0.01)
        assert any(r["ticker"].startswith("O:SPYG") for r in rows)  # a root that begins like ours
        assert 40 <= len(set(today["strike"])) <= 120
        assert {"", "209"} < {r["conditions"] for r in rows}
        assert any("," in r["conditions"] for r in rows)


def test_options_trade_from_the_open_until_a_quarter_past_the_close(prints):
    for day in [*DAYS, EARLY]:
        clock = session_clock(day)
        ts = np.array([int(r["sip_timestamp"]) for r in prints["options", day]])
        assert clock.rth_open_ns <= ts.min() < clock.rth_open_ns + MINUTE_NS
        assert clock.rth_close_ns < ts.max() < clock.rth_close_ns + 15 * MINUTE_NS
        today = options_of(prints["options", day], day)["ts"]
        assert today.max() < clock.rth_close_ns


def test_no_print_is_an_arbitrage_and_calls_and_puts_agree(flows):
    for day, options in flows.items():
        close = session_clock(day).rth_close_ns
        years = np.maximum(close - options["ts"], 60 * SECOND_NS) / (365 * 86_400 * SECOND_NS)
        discounted = options["strike"] * np.exp(-RATE * years)
        forward = options["spot"] - discounted
        least = np.maximum(np.where(options["is_call"], forward, -forward), 0)
        most = np.where(options["is_call"], options["spot"], discounted)
        # two cents: the last ES trade stands half a tick off the middle, a tick is 2.5 cents of SPY
        assert (options["price"] >= least - 0.02).all()
        assert (options["price"] <= most).all()
        pairs = {}
        gaps = []
        for k in range(len(years)):
            key = options["strike"][k], options["ts"][k] // MINUTE_NS
            pairs[(*key, bool(options["is_call"][k]))] = options["price"][k], forward[k]
            other = pairs.get((*key, not options["is_call"][k]))
            if other and abs(other[1] - forward[k]) < 0.01:
                sign = 1 if options["is_call"][k] else -1
                gaps.append(sign * (options["price"][k] - other[0]) - forward[k])
        assert len(gaps) > 30
        assert np.abs(gaps).max() < 0.30  # spreads of both
        assert abs(np.median(gaps)) < 0.05


def test_longer_options_are_dearer_and_of_lower_volatility(prints, front):
    day = DAYS[0]
    noon = session_clock(day).rth_open_ns + 180 * MINUTE_NS
    by_expiry = defaultdict(list)
    for r in prints["options", day]:
        ts = int(r["sip_timestamp"])
        if not r["ticker"].startswith("O:SPY2") or abs(ts - noon) > 120 * MINUTE_NS:
            continue
        spot = before(front[day], np.array([ts]))[0] / CENTRE
        strike = int(r["ticker"][-8:]) / 1000
        if abs(strike - spot) < 1.0:
            by_expiry[r["ticker"][5:11]].append(float(r["price"]))
    medians = [np.median(by_expiry[k]) for k in sorted(by_expiry)]
    assert len(medians) == 7
    assert all(a < b for a, b in itertools.pairwise(medians))  # the longer, the dearer
    # at the money, an option is worth about 0.4 · spot · sigma · √T: volatility a year falls with the term
    days = [0.2, *(date(2000 + int(k[:2]), int(k[2:4]), int(k[4:])) - day for k in sorted(by_expiry)[1:])]
    years = [d / 365 if isinstance(d, float) else (d.days + 0.2) / 365 for d in days]
    sigma = [m / (0.4 * 580 * math.sqrt(t)) for m, t in zip(medians, years, strict=True)]
    assert sigma[0] > 1.3 * sigma[-1]


def test_dealer_gamma_takes_both_signs_makes_walls_and_flips(flows):
    exposure, walls, flips = [], [], []
    for day, options in flows.items():
        opens = session_clock(day).rth_open_ns
        for minute in range(30, 390, 10):
            at = opens + minute * MINUTE_NS
            n = np.searchsorted(options["ts"], at)
            spot, gamma, strike = options["spot"][n - 1], options["gamma"][:n], options["strike"][:n]
            exposure.append(gamma[np.abs(strike - spot) <= 2].sum())
            near = np.abs(strike - spot) <= 10
            recent = near & (options["ts"][:n] >= at - 300 * SECOND_NS)
            sums = [gamma[recent & (strike == k)].sum() for k in np.unique(strike[recent])]
            walls.append((min(sums) <= -1000, max(sums) >= 1000))
            whole = [gamma[near & (strike == k)].sum() for k in np.unique(strike[near])]
            flips.append(sum(a * b < 0 for a, b in itertools.pairwise(whole)))
    exposure = np.array(exposure)
    assert 0.15 < np.mean(exposure < -10_000) < 0.85
    assert 0.15 < np.mean(exposure > 10_000) < 0.85
    assert 10_000 < np.median(np.abs(exposure)) < 120_000
    assert np.mean(walls, axis=0).min() > 0.5
    assert np.mean(np.array(flips) > 0) > 0.8


def test_sizes_grow_as_the_scale_thins(files, flows, tmp_path):
    day = DAYS[0]
    (thick,) = (f for f in simulate(tmp_path, [day], **SETTINGS | {"scale": 0.03}) if f.schema == "options")
    more = options_of(rows_of(thick.path), day)
    few = flows[day]
    assert len(more["ts"]) == pytest.approx(6 * len(few["ts"]), rel=0.01)
    large = [np.median(o["size"][o["size"] > 1]) for o in (few, more)]
    assert 2 < large[0] / large[1] < 4
    more["spot"] = np.interp(more["ts"], few["ts"], few["spot"])
    more["gamma"] = dealer_gamma(more, more["spot"], session_clock(day).rth_close_ns)
    strikes = np.unique(few["strike"])
    sums = [np.array([o["gamma"][o["strike"] == k].sum() for k in strikes]) for o in (few, more)]
    busy = np.abs(sums[1]) > 3_000
    assert busy.sum() > 15
    assert np.corrcoef(sums[0][busy], sums[1][busy])[0, 1] > 0.8  # the same sums, of a sixth of the trades
