"""Nothing looks ahead: what is known of an instant does not move when the events at or after it do.

The touches are held fixed, the market after an instant is changed, deleted, added to and replaced, trades, book,
options and stocks alike, and every row of every feature set with `asof_ns` up to that instant has to stay, to the bit;
so do levels of every kind that hold by then, option walls, the ratio, touches before it and the front contract. And the
converse, so that the law is not kept by features that see nothing: an event before `asof_ns` moves the feature it is
about. Outcomes have the mirror law: nothing before t0 enters them but the anchor's spot and the thresholds (spec market
19.3).

Properties run on the compiled models and kernels in memory (`tests/e2e/in_memory.py`); that a later session moves
nothing is held through dbt in `test_pipeline_equals_oracle`.
"""

import copy
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from lake import params
from lake.params import ParamSet
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import Day, autumn, busy_morning
from tests.fixtures.edited_market import EDITS, edited, renumbered
from tests.oracle import worlds
from tests.oracle.book import F_LAST, F_MAYBE_BAD_BOOK, F_SNAPSHOT
from tests.oracle.rules import MS_NS

FRONT = "ESZ5"
SETS = ("touch_features_v1_0", "touch_features_v1_1", "touch_features_v2_0")
TABLES = ("observation_features", *SETS)
TOUCHES = ("int_touches__detected", "touches")
NS = 1

Market = dict[str, list[dict]]  # events by their kind in `Day`
KINDS = ("trades", "records", "options", "spy")


def every_kind_of_level() -> ParamSet:
    """The default set with all fifteen kinds, a line that a user has drawn among them."""
    families = ("PM", "OR", "SESSION", "SMA", "VWAP", "ROUND", "STRIKE")
    default = params.load("default").values
    drawn = [
        {"price_points": price, "from_at": f"2025-11-03T{start}:00Z", "until_at": "2025-11-03T20:00:00Z"}
        for price, start in ((6003.5, "09:00"), (6006.0, "14:52"))
    ]
    values = default | {
        "level_kinds": [*families, "CALL_WALL", "PUT_WALL", "GAMMA_FLIP", "USER"],
        "USER_LEVELS": drawn,
    }
    return ParamSet("every kind", values, hashlib.sha256(params.canonical_json(values).encode()).hexdigest())


@dataclass
class World:
    """A built session, its rows, and the market it was made of."""

    pipeline: Pipeline
    days: Sequence[Day]
    built: dict[str, list[dict]]

    @classmethod
    def of(
        cls, manifest: dict[str, Any], days: Sequence[Day], param_set: ParamSet | str = "default"
    ) -> "World":
        """The last of ``days`` built whole; of those before it what it reads of them."""
        pipeline = Pipeline(manifest, params.load(param_set) if isinstance(param_set, str) else param_set)
        for day in days[:-1]:
            pipeline.land(day)
            pipeline.build(day.date, only=pipeline.history)
        world = cls(pipeline, days, {})
        world.rebuild(world.market, only=pipeline.upstream(*SETS, "labels"))
        world.built = {m.name: world.rows(m.name) for m in pipeline.models if m.is_dataset}
        return world

    @property
    def day(self) -> Day:
        return self.days[-1]

    @property
    def market(self) -> Market:
        return {kind: getattr(self.day, kind) for kind in KINDS}

    def rows(self, name: str) -> list[dict]:
        return self.pipeline.rows(name, self.day.date)

    def rebuild(self, market: Market, **what: Any) -> None:
        self.pipeline.market(
            (market["trades"], market["records"]), options=market["options"], spy=market["spy"]
        )
        self.pipeline.build(self.day.date, **what)

    def observe(
        self, market: Market, touches: Sequence[dict] | None = None, *, of: Sequence[str] = SETS
    ) -> None:
        """Build everything on another market but the touches, which are those of the first one or the ones given."""
        self.pipeline.replace("touches", self.day.date, self.built["touches"] if touches is None else touches)
        self.rebuild(market, only=self.pipeline.upstream(*of) - {*TOUCHES})

    def instants(self) -> list[int]:
        """Instants at which an inclusive bound would show: of observations, touches, minutes and events."""
        asofs = [row["asof_ns"] for row in self.built["observation_points"]]
        minutes = sorted({row["valid_from_ns"] for row in self.built["levels"]})
        market = self.market
        events = [
            e["ts_event_ns"] for e in market["records"][::40] + market["options"][::4] + market["spy"][::40]
        ]
        return sorted({*asofs, *(row["ts_ns"] for row in self.built["touches"]), *minutes[::30], *events})


def marked_long(*more: tuple) -> list:
    return [pytest.param(*one, marks=pytest.mark.long) for one in more]


OBSERVED = [(11, "every kind"), *marked_long(((13, "every kind"),))]
EVERY_SET = [
    (11, "every kind"),
    (9, "overnight"),
    *marked_long(
        ((7, "every kind"),), ((18, "every kind"),), ((11, "atr"),), ((18, "overnight"),), ((3, "default"),)
    ),
]


def world_of(manifest: dict[str, Any], seed: int, param_set: str) -> World:
    given_set = every_kind_of_level() if param_set == "every kind" else param_set
    return World.of(manifest, busy_morning(seed), given_set)


@pytest.fixture(scope="module", params=OBSERVED, ids=str)
def world(request: pytest.FixtureRequest, manifest: dict[str, Any]) -> World:
    """Levels of regular hours, with observations that see much."""
    return world_of(manifest, *request.param)


@pytest.fixture(scope="module", params=EVERY_SET, ids=str)
def any_world(request: pytest.FixtureRequest, manifest: dict[str, Any]) -> World:
    return world_of(manifest, *request.param)


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


def change_option(rng: random.Random, option: dict) -> dict:
    """Another price and size, another party's trade, another option, or one that was cancelled."""
    changed = dict(option)
    how = rng.randrange(5)
    if how == 0:
        changed |= {"price": rng.choice((Decimal(0), Decimal("0.05"), option["price"] * 2)), "size": 5_000}
    elif how == 1:
        changed["stated_aggressor"] = rng.choice((-1, 1))
    elif how == 2:
        strike = option["strike_milli"] + rng.choice((-2_000, 1_000, 12_000))
        symbol = f"{option['option_symbol'][:-8]}{strike:08d}"
        changed |= {"strike_milli": strike, "option_symbol": symbol}
    elif how == 3:
        changed["opt_bid"], changed["opt_ask"] = option["price"], option["price"]
    else:
        changed["correction"] = 8
    return changed


def change_spy(rng: random.Random, spy: dict) -> dict:
    return {
        **spy,
        "price": spy["price"] * rng.choice((1, 2, Decimal("0.5"), Decimal("1.01"))),
        "conditions": rng.choice(([], [], [37])),
        "correction": rng.choice((0, 0, 8)),
    }


CHANGES = {"trades": change_trade, "records": change_record, "options": change_option, "spy": change_spy}


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
        **{kind: draw(st.sampled_from((None, "delete", "change", "add"))) for kind in KINDS},
        "share": draw(st.sampled_from((0.3, 1.0))),
        "seed": draw(st.integers(0, 2**32)),
    }


def after(world: World, plan: dict) -> tuple[int, Market]:
    """The instant of a plan, and the market with events at or after it perturbed, and none before."""
    instants = world.instants()
    instant = instants[int(plan["instant"] * len(instants))] + plan["shift_ns"]
    rng = worlds.seeded(plan["seed"])
    events = dict(world.market)
    for name, change in CHANGES.items():
        if plan[name]:
            events[name] = perturbed(
                events[name], lambda t: t >= instant, instant, rng, plan[name], change, plan["share"]
            )
    # A session is one with a print (dim_front_month): without any there is nothing to build, whatever was before it.
    events["trades"] = events["trades"] or world.market["trades"][-1:]
    for kind, old in world.market.items():
        assert known_before(old, instant) == known_before(events[kind], instant), kind
    return instant, events


def known_before(events: list[dict], instant_ns: int) -> list[dict]:
    """What is known of the events before an instant: all but their row numbers."""
    return [{k: v for k, v in e.items() if k != "ordinal"} for e in events if e["ts_event_ns"] < instant_ns]


def examples(few: int, many: int) -> list:
    """Properties run on few examples by default, on many under the marker `long`."""
    return [few, pytest.param(many, marks=pytest.mark.long)]


def hold(few_or_many: int, law: Callable[[dict], None]) -> None:
    """Try the law on as many plans. One that breaks it is told as it is: to shrink it would build hundreds of days."""
    checked = settings(
        max_examples=few_or_many,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    checked(given(plans())(law))()


# -- the laws ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", examples(5, 100))
def test_no_feature_moves_with_the_future(any_world: World, count: int):
    """Every column of every set, identity and lineage included, for every observation up to the instant."""
    rows = any_world.built["observation_features"]
    assert {row["stage"] for row in rows} == {"touch", "confirm_120", "confirm_240", "confirm_480"}
    assert sum(row["barrier_observable"] for row in rows) >= 8
    assert sum(row["gamma_exposure"] is not None for row in rows) >= 8

    def law(plan: dict) -> None:
        instant, market = after(any_world, plan)
        any_world.observe(market)
        for name in TABLES:
            then = {row["observation_id"]: row for row in any_world.built[name] if row["asof_ns"] <= instant}
            now = {row["observation_id"]: row for row in any_world.rows(name) if row["asof_ns"] <= instant}
            assert now.keys() == then.keys()
            for key, row in then.items():
                moved = {k: (row[k], now[key][k]) for k in row if row[k] != now[key][k]}
                assert moved == {}, f"{name} {key}, asof {row['asof_ns']}, events from {instant} on: {moved}"
        event(f"{len(then)} of {len(rows)} rows known")

    hold(count, law)


def test_every_kind_of_level_is_observed(any_world: World):
    kinds = {row["level_kind_name"] for row in any_world.built["levels"]}
    wanted = any_world.pipeline.param_set.values["level_kinds"]
    both = {"PM": ("PM_HIGH", "PM_LOW"), "OR": ("OR_HIGH", "OR_LOW"), "SMA": ("SMA_200", "SMA_400")}
    both["SESSION"] = ("SESSION_HIGH", "SESSION_LOW")
    assert kinds == {name for family in wanted for name in both.get(family, (family,))}


# What each table knows by an instant.
KNOWN: dict[str, Callable[[dict, int], bool]] = {
    "levels": lambda row, instant: row["valid_from_ns"] <= instant,
    "dim_es_spy_ratio": lambda row, instant: row["asof_ns"] <= instant,
    "option_exposure": lambda row, instant: row["minute_ns"] <= instant,
    "option_walls": lambda row, instant: row["minute_ns"] <= instant,
    "int_touches__detected": lambda row, instant: row["ts_ns"] < instant,
    # clusters and attempts count backwards, so the whole row of an earlier touch stays
    "touches": lambda row, instant: row["ts_ns"] < instant,
}


@pytest.mark.parametrize("count", examples(3, 100))
def test_no_level_and_no_touch_moves_with_the_future(any_world: World, count: int):
    """Nor a wall, the ratio or the front contract: each is made of events before it."""

    def law(plan: dict) -> None:
        instant, market = after(any_world, plan)
        any_world.rebuild(market, only=any_world.pipeline.upstream(*KNOWN))
        for name, known in KNOWN.items():
            then = [row for row in any_world.built[name] if known(row, instant)]
            assert [row for row in any_world.rows(name) if known(row, instant)] == then, name
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
    leak = World.of(leaking, world.days, world.pipeline.param_set)
    asof = world.built[SETS[0]][-1]["asof_ns"]
    last = [t for t in world.day.trades if t["ts_event_ns"] < asof][-1]
    trade = {**last, "ts_event_ns": asof, "tick": last["tick"] + 7}
    moved = {}
    for name, seen in (("leak", leak), ("law", world)):
        seen.observe({**world.market, "trades": renumbered([*world.day.trades, trade])})
        moved[name] = moved_columns(seen, lambda row: row["asof_ns"] == asof)
    assert "distance" in moved["leak"]
    assert moved["law"] == set()


def moved_columns(world: World, which: Callable[[dict], bool]) -> set[str]:
    """Columns of the catalogue in which a row now differs from what was built first."""
    then = {row["observation_id"]: row for row in world.built["observation_features"]}
    now = [row for row in world.rows("observation_features") if which(row)]
    return {k for row in now for k in row if row[k] != then[row["observation_id"]][k]}


# Functions of the observation itself, not of the market.
OF_THE_POINT = {"level_kind_name", "direction", "direction_sign", "minutes_since_open", "is_first_15m"}


@pytest.mark.parametrize("edit", list(EDITS))
def test_each_feature_moves_with_its_past(world: World, edit: str):
    """The market just before an observation is edited, and each feature that the edit is about shows it; or of those
    that the first observation cannot show, for a base of 0 or a level that is nearer, one of another level does."""
    row = well_observed(world)
    due = set(EDITS[edit]) - shown(world, row, edit)
    known = [r for r in world.built["observation_features"] if all(r[k] is not None for k in due)]
    for other in {r["level_id"]: r for r in known}.values():
        if due:
            due -= shown(world, row | other, edit)
    assert due == set()


def shown(world: World, row: dict, edit: str) -> set[str]:
    """Features of the observation that an edit of what was just before it moves."""
    moved: set[str] = set()
    for market, touches in edited(world.market, world.built["touches"], row, edit):
        world.observe(market, touches)
        moved |= moved_columns(world, lambda now: now["observation_id"] == row["observation_id"])
    return moved


# What an observation has to see, more or less of it, for every edit to show.
SEEN = ("barrier_observable", "barrier_depth_in_zone", "barrier_canceled", "barrier_filled", "wall_ratio")
KNOWN_OF = (
    *("tape_imbalance", "tape_price_slope_3s", "gamma_exposure", "atr", "sma_400_slope", "ofi_300s"),
    *("mean_reversion_pressure_400", "dist_to_pm_high", "dist_to_or_high", "rel_vol_ratio", "velocity_20min"),
    *("barrier_delta_liq_trend", "tape_imbalance_trend", "tape_velocity_trend"),
)


def well_observed(world: World) -> dict:
    """A later attempt that sees depth, cancels and trades of both signs, options and averages, and neither a sweep nor
    a wall of the book."""
    found = [
        row
        for row in world.built["observation_features"]
        if all(row[k] for k in SEEN)
        and all(row[k] is not None for k in KNOWN_OF)
        and row["attempt_index"] > 1
        and row["barrier_state"] != "WALL"
        and not row["sweep_detected"]
    ]
    assert found, "no observation of this world sees enough"
    more = {"today": world.day.date, "rth_open_ns": world.day.session["rth_open_ns"]}
    return found[0] | more


def test_every_feature_is_moved_by_something(world: World):
    features = {column["name"] for column in feature_columns(world)}
    assert features - set().union(*EDITS.values()) == OF_THE_POINT


def feature_columns(world: World) -> list[dict]:
    """Columns of the catalogue with the role of a feature."""
    model = next(m for m in world.pipeline.models if m.name == "observation_features")
    return [c for c in model.node["columns"].values() if c["config"]["meta"]["role"] == "feature"]


@pytest.mark.parametrize("count", examples(6, 100))
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
        trending.observe({**trending.market, "trades": trades}, of=("labels",))
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
