"""Nothing looks ahead: what is known of an instant does not move when the events at or after it do.

The observation table is held fixed, the market after an instant is changed, deleted, added to and replaced, trades
and book alike, and every row of the feature set with `asof_ns` up to that instant has to stay, to the bit; so do levels
that hold by then, touches before it and the front contract. And the converse, so that the law is not kept by features
that see nothing: an event before `asof_ns` moves the feature it is about. Outcomes have the mirror law: nothing before
t0 enters them but the anchor's spot (spec market 19.3).

Properties run on the compiled models and kernels in memory (`tests/e2e/in_memory.py`); that a later session moves
nothing is held through dbt in `test_pipeline_equals_oracle`.
"""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lake import params
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import Day, autumn, busy_morning
from tests.e2e.support import NO_OPTIONS
from tests.oracle import worlds
from tests.oracle.book import F_LAST, F_MAYBE_BAD_BOOK, F_SNAPSHOT
from tests.oracle.rules import MS_NS, SECOND_NS

FRONT = "ESZ5"
FEATURES = "touch_features_v1_0"
HISTORY = ("stg_futures__trades", "ohlcv", "dim_front_month")
BEFORE_TOUCHES = (*HISTORY, "dim_es_spy_ratio", "levels", "int_touches__detected", "touches")
NS = 1

Market = tuple[list[dict], list[dict]]


@dataclass
class World:
    """A built session, its rows, and the market it was made of."""

    pipeline: Pipeline
    days: Sequence[Day]
    built: dict[str, list[dict]]

    @classmethod
    def of(cls, manifest: dict[str, Any], days: Sequence[Day], param_set: str = "default") -> "World":
        """The last of ``days`` built whole; of those before it what it reads of them."""
        pipeline = Pipeline(manifest, params.load(param_set))
        for day in days[:-1]:
            pipeline.market((day.trades, day.records))
            pipeline.build(day.date, only=HISTORY)
        world = cls(pipeline, days, {})
        world.rebuild(world.market)
        world.built = {m.name: world.rows(m.name) for m in pipeline.models if m.is_dataset}
        return world

    @property
    def day(self) -> Day:
        return self.days[-1]

    @property
    def market(self) -> Market:
        return self.day.trades, self.day.records

    def rows(self, name: str) -> list[dict]:
        return self.pipeline.rows(name, self.day.date)

    def rebuild(self, market: Market, **what: Any) -> None:
        self.pipeline.market(market)
        self.pipeline.build(self.day.date, **what)

    def observe(self, market: Market) -> None:
        """Build everything after the touches on another market, with the touches of the first one."""
        self.pipeline.market(market)
        self.pipeline.build(self.day.date, only=(*HISTORY, "dim_es_spy_ratio"))
        self.pipeline.replace("touches", self.day.date, self.built["touches"])
        self.pipeline.build(self.day.date, keep=BEFORE_TOUCHES)

    def instants(self) -> list[int]:
        """Instants at which an inclusive bound would show: of observations, touches, minutes and events."""
        asofs = [row["asof_ns"] for row in self.built["observation_points"]]
        minutes = sorted({row["valid_from_ns"] for row in self.built["levels"]})
        events = [e["ts_event_ns"] for e in self.day.records[::40]]
        return sorted({*asofs, *(row["ts_ns"] for row in self.built["touches"]), *minutes[::30], *events})


def marked_long(*more: tuple) -> list:
    return [pytest.param(*one, marks=pytest.mark.long) for one in more]


OBSERVED = [(11, "default"), *marked_long(*(((seed, "default"),) for seed in (1, 5, 17, 18)))]
EVERY_SET = [*OBSERVED, (5, "overnight"), *marked_long(((11, "atr"),), ((18, "overnight"),))]


@pytest.fixture(scope="module", params=OBSERVED, ids=str)
def world(request: pytest.FixtureRequest, manifest: dict[str, Any]) -> World:
    """Levels of regular hours, with observations that see much."""
    seed, param_set = request.param
    return World.of(manifest, busy_morning(seed), param_set)


@pytest.fixture(scope="module", params=EVERY_SET, ids=str)
def any_world(request: pytest.FixtureRequest, manifest: dict[str, Any]) -> World:
    seed, param_set = request.param
    return World.of(manifest, busy_morning(seed), param_set)


@pytest.fixture(scope="module", params=["default", "atr"])
def trending(request: pytest.FixtureRequest, manifest: dict[str, Any]) -> World:
    """A session without a book whose price trends: all three outcomes occur."""
    days = autumn()
    return World.of(manifest, [days["2025-10-30"], days["2025-10-31"]], request.param)


# -- changing a market -------------------------------------------------------------------------------------------


def change_trade(rng: random.Random, trade: dict) -> dict:
    return {
        **trade,
        "tick": trade["tick"] + rng.choice((-60, -9, -1, 0, 1, 9, 60)),
        "size": rng.choice((1, 2, 50, 1000)),
        "aggressor": rng.choice((-1, 0, 1)),
        "contract": rng.choice((FRONT, FRONT, FRONT, "ESH6")),
    }


def change_record(rng: random.Random, record: dict) -> dict:
    """Another size at every level, the whole book moved or crossed, another flag or action."""
    changed = dict(record)
    how = rng.randrange(6)
    if how == 0:
        for side in ("bids", "asks"):
            changed[side] = [(t, 0 if t is None else rng.randrange(500)) for t, _ in record[side]]
    elif how == 1:
        shift = rng.choice((-40, -3, 3, 40))
        for side in ("bids", "asks"):
            changed[side] = [(None if t is None else t + shift, size) for t, size in record[side]]
    elif how == 2:
        changed["bids"] = [(None if t is None else t + 4, size) for t, size in record["bids"]]
    elif how == 3:
        changed["flags"] = rng.choice((0, F_LAST, F_LAST | F_SNAPSHOT, F_LAST | F_MAYBE_BAD_BOOK))
    elif how == 4:
        changed["contract"] = "ESH6"
    else:
        changed["action"] = rng.choice("RTFNACM")
    return changed


CHANGES = {"trades": change_trade, "records": change_record}


def perturbed(
    events: list[dict],
    chosen: Callable[[int], bool],
    at_ns: int,
    rng: random.Random,
    how: str,
    change: Callable[[random.Random, dict], dict],
    share: float,
) -> list[dict]:
    """``events`` with those at times that are ``chosen`` changed, deleted, or joined by others, some at ``at_ns``.

    The others stay as they are, in their places and with their numbers when they stand before.
    """
    kept = [e for e in events if not chosen(e["ts_event_ns"])]
    mine = [e for e in events if chosen(e["ts_event_ns"])]
    if how == "delete":
        mine = [e for e in mine if rng.random() >= share]
    elif how == "change":
        mine = [change(rng, e) if rng.random() < share else e for e in mine]
    elif how == "add":
        models = rng.choices(mine or events, k=1 + int(share * 30))
        times = [at_ns, *(rng.choice(mine or [{"ts_event_ns": at_ns}])["ts_event_ns"] for _ in models[1:])]
        mine = mine + [{**change(rng, e), "ts_event_ns": t} for e, t in zip(models, times, strict=True)]
    else:
        raise ValueError(how)
    return renumbered(kept + mine)


@st.composite
def plans(draw: st.DrawFn) -> dict:
    """Which market is changed, and how; instants and seeds are drawn as numbers, for a world of any size."""
    return {
        "instant": draw(st.floats(0, 1, exclude_max=True)),
        "shift_ns": draw(st.sampled_from((0, 0, 0, NS, -NS, 100 * MS_NS))),
        "trades": draw(st.sampled_from((None, "delete", "change", "add"))),
        "records": draw(st.sampled_from((None, "delete", "change", "add"))),
        "share": draw(st.sampled_from((0.3, 1.0))),
        "seed": draw(st.integers(0, 2**32)),
    }


def after(world: World, plan: dict) -> tuple[int, Market]:
    """The instant of a plan, and the market with events at or after it perturbed, and none before."""
    instants = world.instants()
    instant = instants[int(plan["instant"] * len(instants))] + plan["shift_ns"]
    rng = worlds.seeded(plan["seed"])
    events = {"trades": world.day.trades, "records": world.day.records}
    for name, change in CHANGES.items():
        if plan[name]:
            events[name] = perturbed(
                events[name], lambda t: t >= instant, instant, rng, plan[name], change, plan["share"]
            )
    assert all(
        [e for e in old if e["ts_event_ns"] < instant] == [e for e in new if e["ts_event_ns"] < instant]
        for old, new in zip(world.market, events.values(), strict=True)
    )
    return instant, (events["trades"], events["records"])


def examples(few: int, many: int) -> list:
    """Properties run on few examples by default, on many under the marker `long`."""
    return [few, pytest.param(many, marks=pytest.mark.long)]


def hold(few_or_many: int, law: Callable[[dict], None]) -> None:
    """Try the law on as many plans."""
    checked = settings(max_examples=few_or_many, deadline=None, suppress_health_check=list(HealthCheck))
    checked(given(plans())(law))()


# -- the laws ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", examples(8, 100))
def test_no_feature_moves_with_the_future(any_world: World, count: int):
    """Every column of the set, identity and lineage included, for every observation up to the instant."""
    assert {row["stage"] for row in any_world.built[FEATURES]} == {
        "touch",
        "confirm_120",
        "confirm_240",
        "confirm_480",
    }
    assert sum(row["barrier_observable"] for row in any_world.built[FEATURES]) >= 8

    def law(plan: dict) -> None:
        instant, market = after(any_world, plan)
        any_world.observe(market)
        for name in ("observation_features", FEATURES):
            then = {row["observation_id"]: row for row in any_world.built[name] if row["asof_ns"] <= instant}
            now = {row["observation_id"]: row for row in any_world.rows(name) if row["asof_ns"] <= instant}
            assert now.keys() == then.keys()
            for key, row in then.items():
                moved = {k: (row[k], now[key][k]) for k in row if row[k] != now[key][k]}
                assert moved == {}, f"{name} {key}, asof {row['asof_ns']}, events from {instant} on: {moved}"
        event(f"{len(then)} of {len(any_world.built[FEATURES])} rows known")

    hold(count, law)


@pytest.mark.parametrize("count", examples(5, 100))
def test_no_level_and_no_touch_moves_with_the_future(any_world: World, count: int):
    """Nor the front contract: each is made of events before it."""

    def law(plan: dict) -> None:
        instant, market = after(any_world, plan)
        any_world.rebuild(market, only=BEFORE_TOUCHES)
        for name, known in (
            ("levels", lambda row: row["valid_from_ns"] <= instant),
            ("int_touches__detected", lambda row: row["ts_ns"] < instant),
        ):
            assert [r for r in any_world.rows(name) if known(r)] == [
                r for r in any_world.built[name] if known(r)
            ]
        # clusters and attempts count backwards, so the whole row of an earlier touch stays
        touches = [row for row in any_world.rows("touches") if row["ts_ns"] < instant]
        assert touches == [row for row in any_world.built["touches"] if row["ts_ns"] < instant]
        for fronts in (any_world.rows("dim_front_month"), any_world.built["dim_front_month"]):
            assert [(f["contract"], f["selection"]) for f in fronts] == [(FRONT, "volume")]

    hold(count, law)


def test_a_look_ahead_of_one_nanosecond_would_be_seen(world: World, manifest: dict[str, Any]):
    """The law can fail: a spot by `>=` instead of `>` takes the trade at `asof_ns` itself, and is found out."""
    leaking = copy.deepcopy(manifest)
    node = leaking["nodes"]["model.tickhouse.observation_points"]
    strict = "points.asof_ns > spots.ts_event_ns"
    assert node["compiled_code"].count(strict) == 1
    node["compiled_code"] = node["compiled_code"].replace(strict, strict.replace(">", ">="))
    leak = World.of(leaking, world.days)
    asof = world.built[FEATURES][-1]["asof_ns"]
    last = [t for t in world.day.trades if t["ts_event_ns"] < asof][-1]
    trade = {**last, "ts_event_ns": asof, "tick": last["tick"] + 7}
    moved = {}
    for name, seen in (("leak", leak), ("law", world)):
        seen.observe((renumbered([*world.day.trades, trade]), world.day.records))
        moved[name] = moved_columns(seen, lambda row: row["asof_ns"] == asof)
    assert "distance" in moved["leak"]
    assert moved["law"] == set()


def moved_columns(world: World, which: Callable[[dict], bool]) -> set[str]:
    """Columns of the set in which a row now differs from what was built first."""
    then = {row["observation_id"]: row for row in world.built[FEATURES]}
    now = [row for row in world.rows(FEATURES) if which(row)]
    return {k for row in now for k in row if row[k] != then[row["observation_id"]][k]}


# What each edit of the market just before `asof_ns` has to move of an observation.
MOVES = {
    "prints at the level": {
        *(
            "tape_trade_rate_3s",
            "tape_trade_rate_15s",
            "tape_trade_rate_60s",
            "tape_buy_vol",
            "tape_sell_vol",
        ),
        *("tape_imbalance", "tape_velocity", "tape_price_slope_3s", "tape_price_slope_15s", "tape_pressure"),
        *("distance", "barrier_filled", "barrier_canceled"),
    },
    "a sweep": {"sweep_detected", "sweep_direction", "sweep_contracts"},
    "a wall goes up": {
        *(
            "barrier_delta_liq",
            "barrier_delta_liq_log",
            "barrier_added",
            "barrier_churn",
            "barrier_depth_in_zone",
        ),
        *(
            "barrier_replenishment_ratio",
            "wall_ratio",
            "wall_ratio_log",
            "liquidity_pressure",
            "barrier_state",
        ),
    },
    "the book falls silent": {"barrier_observable", "barrier_state"},
    "the book leaves the zone": {"barrier_zone_visible_frac"},
}
OF_THE_POINT = {"level_kind_name", "direction", "direction_sign"}  # the observation itself, not of the market


def edited(world: World, row: dict, edit: str) -> Market:
    """The market with one of `MOVES` done to it before the ``asof_ns`` of an observation."""
    trades, records = world.market
    asof, level = row["asof_ns"], row["level_tick"]
    if edit == "prints at the level":
        ticks = [level, level + 1, level + 2, level - 1, level + 2, level + 1]
        ticks.append(level + round(row["distance"] * 4) + 3)  # the last one is farther than the spot was
        found = [
            {"ts_event_ns": asof - 1 - (6 - k) * 300 * MS_NS, "tick": tick}
            | {"size": 2_000 + 1_000 * (k % 2), "aggressor": 1 - 2 * (k % 2)}
            for k, tick in enumerate(ticks)
        ]
    elif edit == "a sweep":
        found = [
            {
                "ts_event_ns": asof - 500 * MS_NS + k * MS_NS,
                "tick": level + k % 2,
                "size": 500,
                "aggressor": -1,
            }
            for k in range(4)
        ]
    else:
        found = []
    trades = renumbered([*trades, *({**trades[0], "sequence": 0, **t} for t in found)])

    shown = [r for r in records if r["ts_event_ns"] < asof and r["flags"] == F_LAST and r["action"] in "ACM"][
        -1
    ]
    if edit == "a wall goes up":
        sides = {
            s: [(t, size + 50_000 if t is not None else 0) for t, size in shown[s]] for s in ("bids", "asks")
        }
        records = [*records, {**shown, "ts_event_ns": asof - 1, **sides}]
    elif edit == "the book falls silent":
        quiet_ns = asof - 90 * SECOND_NS
        records = [r for r in records if not quiet_ns <= r["ts_event_ns"] < asof]
    elif edit == "the book leaves the zone":
        best = level - row["direction_sign"] * 60
        sides = {"bids": [(best - k, 9) for k in range(10)], "asks": [(best + 1 + k, 9) for k in range(10)]}
        records = [*records, {**shown, "ts_event_ns": asof - 1, **sides}]
    return trades, renumbered(records)


def renumbered(events: list[dict]) -> list[dict]:
    rows = sorted(events, key=lambda e: (e["ts_event_ns"], e["sequence"]))
    return [{**row, "ordinal": i} for i, row in enumerate(rows)]


@pytest.mark.parametrize("edit", list(MOVES))
def test_each_feature_moves_with_its_past(world: World, edit: str):
    """The market just before an observation is edited, and each feature that the edit is about shows it."""
    row = well_observed(world)
    world.observe(edited(world, row, edit))
    moved = moved_columns(world, lambda now: now["observation_id"] == row["observation_id"])
    assert MOVES[edit] - moved == set()


def well_observed(world: World) -> dict:
    """An observation that sees depth, cancels and trades of both signs, and neither a sweep nor a wall."""
    found = [
        row
        for row in world.built["observation_features"]
        if all(
            row[k] for k in ("barrier_observable", "barrier_depth_in_zone", "barrier_canceled", "wall_ratio")
        )
        and row["barrier_filled"] > 0
        and row["tape_imbalance"] is not None
        and row["tape_price_slope_3s"] is not None
        and row["barrier_state"] != "WALL"
        and not row["sweep_detected"]
    ]
    return found[0]


def test_every_feature_of_the_set_is_moved_by_something(world: World):
    features = {column["name"] for column in feature_columns(world)}
    assert features - set().union(*MOVES.values()) == OF_THE_POINT | (features & NO_OPTIONS.keys())


def feature_columns(world: World) -> list[dict]:
    """Columns of the set with the role of a feature."""
    model = next(m for m in world.pipeline.models if m.name == FEATURES)
    found = [c for c in model.node["columns"].values() if c["config"]["meta"]["role"] == "feature"]
    assert len(found) == 44
    return found


@pytest.mark.parametrize("count", examples(8, 100))
def test_no_outcome_moves_with_the_past(trending: World, count: int):
    """Of a touch at t0, trades before t0 enter the anchor's spot only and, in `atr` mode, the thresholds.

    A changed anchor may itself lie beyond θ2, which resolves the window before it starts; other thresholds give
    another outcome of the same path. How many `ok` rows share a cluster hangs on the earlier ones of it.
    """
    t0s = sorted({row["ts_ns"] for row in trending.built["touches"]})
    points = {row["observation_id"]: row for row in trending.built["observation_points"]}
    then = {row["observation_id"]: row for row in trending.built["labels"]}
    assert {row["outcome"] for row in then.values()} == {"BREAK", "BOUNCE", "CHOP", None}

    def law(plan: dict) -> None:
        instant = t0s[int(plan["instant"] * len(t0s))]
        how = plan["trades"] or "change"
        # some of the past stays, or there is nothing to anchor to
        trades = perturbed(
            trending.day.trades,
            lambda t: t < instant,
            instant - 1,
            worlds.seeded(plan["seed"]),
            how,
            change_trade,
            0.3,
        )
        trending.observe((trades, []))
        now = {row["observation_id"]: row for row in trending.rows("labels")}
        for key, point in points.items():
            if point["ts_ns"] >= instant:
                why = outcome_moved(point, then[key], now[key], trades)
                assert why is None, f"{key} {point['stage']}: {why}; trades before {instant} were changed"

    hold(count, law)


def outcome_moved(point: dict, then: dict, now: dict, trades: list[dict]) -> str | None:
    """What changed of a label that a changed past does not explain."""
    of_path = {"excursion_max", "excursion_min", "strength_signed", "strength_abs", "future_price"}
    free = {"cluster_size", "sample_weight"} | ({"anchor_spot"} if point["stage"] == "touch" else set())
    moved = {k: (then[k], now[k]) for k in then if then[k] != now[k] and k not in free}
    if (then["theta_1"], then["theta_2"]) != (now["theta_1"], now["theta_2"]):
        both_ok = then["label_status"] == now["label_status"] == "ok"
        fixed = {"label_start_ns", "label_end_ns"} | (of_path if both_ok else set())
        return str({k: moved[k] for k in moved.keys() & fixed}) if moved.keys() & fixed else None
    if "label_status" in moved:
        anchor = [t for t in trades if t["ts_event_ns"] < point["label_start_ns"]][-1]["tick"]
        is_beyond = abs(anchor - point["level_tick"]) * 0.25 >= now["theta_2"]
        if (now["label_status"] == "already_resolved") == is_beyond and "already_resolved" in moved[
            "label_status"
        ]:
            return None
    return str(moved) if moved else None
