"""Option prints through the compiled models: who started each, and when it expires (spec market 5.1, 7.4, 19.6)."""

from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.oracle import option_worlds, options, worlds
from tests.oracle.rules import MINUTE_NS, SECOND_NS

DATE = "2025-12-16"  # the session that holds the oracle's random worlds
UP_TO_GREEKS = (
    *("stg_futures__trades", "stg_options__trades", "stg_stocks__trades", "ohlcv", "dim_front_month"),
    *("int_es_spy_ratio__live", "dim_es_spy_ratio", "option_greeks"),
)


def seeds(few: int, many: int):
    more = [pytest.param(seed, marks=pytest.mark.long) for seed in range(few, few + many)]
    return pytest.mark.parametrize("seed", [*range(few), *more])


@pytest.fixture(scope="module")
def pipeline(manifest: dict[str, Any]) -> Pipeline:
    return Pipeline(manifest, params.load("default"))


def random_prints(seed: int) -> list[dict]:
    rng = worlds.seeded(seed)
    session = worlds.random_session(rng)
    return option_worlds.random_prints(rng, session, worlds.random_trades(rng, 200), n=200)


@seeds(40, 200)
def test_aggressors(pipeline: Pipeline, seed: int) -> None:
    """The vendor's word, the quote, the tick test: by option, cancelled prints left out, anew in each session."""
    prints = random_prints(seed)
    pipeline.market(([], []), options=prints)
    pipeline.build(DATE, only=("stg_options__trades",))
    found = pipeline.rows("stg_options__trades", DATE)
    expected = options.with_aggressors(prints)
    assert len(expected) < len(prints)
    names = ("ts_event_ns", "ordinal", "option_symbol", "price", "size", "aggressor", "aggressor_method")
    assert [tuple(row[k] for k in names) for row in found] == [
        tuple(row[k] for k in names) for row in expected
    ]


def test_the_worlds_have_every_method() -> None:
    seen = Counter(
        (row["aggressor_method"], row["aggressor"])
        for seed in range(40)
        for row in options.with_aggressors(random_prints(seed))
    )
    signed = {(method, sign) for method in ("vendor", "quote", "tick") for sign in (-1, 1)}
    assert set(seen) == signed | {("none", 0)}


@pytest.mark.parametrize(
    ("day", "contract", "hour"),
    [
        ("2025-03-07", "ESH5", 16),  # the last session of standard time
        ("2025-03-10", "ESH5", 16),  # the first of daylight saving
        ("2025-10-31", "ESZ5", 16),
        ("2025-11-03", "ESZ5", 16),  # standard time again
        ("2025-07-03", "ESU5", 13),  # early closes, one in each
        ("2025-11-28", "ESZ5", 13),
    ],
)
def test_time_to_expiry_is_to_the_close_of_the_day_in_new_york(
    pipeline: Pipeline, day: str, contract: str, hour: int
) -> None:
    """16:00, 13:00 on early closes; at least a minute, also after it."""
    new_york = ZoneInfo("America/New_York")
    close = datetime.fromisoformat(f"{day}T{hour}:00").replace(tzinfo=new_york)
    close_ns = int(close.timestamp()) * SECOND_NS
    today = date.fromisoformat(day)
    before_ns = (7_200 * SECOND_NS, 60 * SECOND_NS + 1, 60 * SECOND_NS, 1, 0, -5 * MINUTE_NS)
    option = {
        "option_symbol": option_worlds.option_symbol(today, "C", 600_000),
        **{"exp_date": today, "strike_milli": 600_000, "right": "C", "price": Decimal("1.00"), "size": 1},
        **{"stated_aggressor": 1, "opt_bid": None, "opt_ask": None, "correction": 0},
    }
    prints = [{**option, "ts_event_ns": close_ns - left, "ordinal": k} for k, left in enumerate(before_ns)]
    trade = {"contract": contract, "sequence": 1, "ordinal": 0, "tick": 24_000, "size": 1, "aggressor": 1}
    pipeline.market(([{**trade, "ts_event_ns": close_ns - 8_000 * SECOND_NS}], []), options=prints)
    pipeline.build(day, only=UP_TO_GREEKS)
    year_ns = 365 * 86_400 * SECOND_NS
    found = [row["time_to_expiry_years"] for row in pipeline.rows("option_greeks", day)]
    assert found == [max(left, 60 * SECOND_NS) / year_ns for left in before_ns]
