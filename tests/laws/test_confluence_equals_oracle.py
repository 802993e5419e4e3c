"""The confluence columns equal the slow oracle on random sessions (spec market 7.7, 19.4).

Levels, averages, walls and volumes are drawn, not computed, so that every branch and every limit is met often.
"""

from collections import Counter

import pytest

from lake import calendar, params
from lake.params import ParamSet
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import calendar as every_session
from tests.e2e.market import prints
from tests.e2e.support import assert_same
from tests.laws.confluence_kit import NOTHING_SEEN, USED_UNTIL, confluence, level_row, point_row
from tests.oracle import worlds
from tests.oracle.bars import ohlcv
from tests.oracle.confluence import confluence_row
from tests.oracle.rules import DEFAULT, MINUTE_NS, MS_NS, SECOND_NS, ticks

HOUR_NS = 60 * MINUTE_NS
# The values of the specification, and others: a constant in the model would show.
PARAMS = (
    {"CONFLUENCE_BAND": 0.20, "VOLUME_LOOKBACK_DAYS": 7},
    {"CONFLUENCE_BAND": 0.45, "VOLUME_LOOKBACK_DAYS": 4},
)
DATES = ("2025-12-02", "2025-11-28", "2025-11-27", "2025-11-03", "2025-03-10", "2025-07-08")
CODES = {
    **{"PM_HIGH": 0, "PM_LOW": 1, "OR_HIGH": 2, "OR_LOW": 3, "SESSION_HIGH": 4, "SESSION_LOW": 5, "SMA_200": 6},
    **{"VWAP": 7, "ROUND": 8, "STRIKE": 9, "CALL_WALL": 10, "PUT_WALL": 11, "SMA_400": 12, "GAMMA_FLIP": 13},
    "USER": 14,
}  # fmt: skip
STATIC = ("PM_HIGH", "PM_LOW", "OR_HIGH", "OR_LOW", "USER")


@pytest.fixture(scope="module")
def pipelines(manifest: dict) -> list[Pipeline]:
    default = params.load("default")
    assert {name: default.values[name] for name in PARAMS[0]} == PARAMS[0]
    sets = [ParamSet(f"set {i}", {**default.values, **values}, f"{i:064}") for i, values in enumerate(PARAMS)]
    return [Pipeline(manifest, param_set) for param_set in sets]


class World:
    """A session with trades, those before it, and around its points whatever may stand there."""

    def __init__(self, seed: int) -> None:
        self.rng = worlds.seeded(seed)
        self.params = PARAMS[self.rng.random() < 0.3]
        sessions = every_session()
        self.date = DATES[seed % len(DATES)]
        self.session = sessions[self.date]
        self.ratio = self.rng.choice((10.0, 10.0, 10.03, 9.871, 10.4, 10.4, 0.5))
        # one weekday more than is looked at; each has its own front, and some have no data at all
        before = calendar.load().before(self.date, self.params["VOLUME_LOOKBACK_DAYS"] + 1)
        share = self.rng.choice((0.0, 0.1, 0.4))
        self.events = {
            date: [] if date != self.date and self.rng.random() < share else self.trades_of(sessions[date])
            for date in (*before, self.date)
        }
        self.fronts = {date: self.rng.choice(("ESZ5", "ESH6")) for date in self.events}
        self.earlier = [(sessions[date], self.front(date)) for date in before]
        self.trades = self.front(self.date)
        self.levels, self.points, self.seen = [], [], {}
        asofs = sorted({self.some_asof() for _ in range(60)})
        self.add_static(asofs)
        for minute in sorted({asof // MINUTE_NS * MINUTE_NS for asof in asofs}):
            self.add_dynamic(minute)
        for asof in asofs:
            if asof > self.trades[0]["ts_event_ns"]:
                self.add_point(asof)

    def trades_of(self, session: dict) -> list[dict]:
        """Few prints all session long, of two contracts; on some days none in regular hours."""
        opened, rth, closed = (session[k] for k in ("globex_open_ns", "rth_open_ns", "rth_close_ns"))
        busy = [(rth, rth + 90 * MINUTE_NS, 40 * SECOND_NS), (rth + 90 * MINUTE_NS, closed, 300 * SECOND_NS)]
        spans = [(opened, rth, 3000 * SECOND_NS), *(busy if self.rng.random() < 0.95 else [])]
        found = prints(self.rng, spans, tick=24_000)
        busyness = self.rng.choice((1, 2, 4))
        return [
            {
                **t,
                "size": t["size"] * busyness,
                "ordinal": i,
                "contract": self.rng.choice(("ESZ5", "ESZ5", "ESH6")),
            }
            for i, t in enumerate(found)
        ]

    def front(self, date: str) -> list[dict]:
        return [t for t in self.events[date] if t["contract"] == self.fronts[date]]

    def some_asof(self) -> int:
        """Anywhere, most often in the first hours; some at a minute, at the bounds of regular hours and of the
        first hour, and 100 ms before."""
        rth, closed = self.session["rth_open_ns"], self.session["rth_close_ns"]
        grid = 100 * MS_NS
        if self.rng.random() < 0.15:
            edges = (rth, rth + MINUTE_NS, rth + 15 * MINUTE_NS, rth + 60 * MINUTE_NS, closed)
            return self.rng.choice(edges) - self.rng.choice((0, grid))
        first_hour, day = (rth + 15 * MINUTE_NS, rth + 60 * MINUTE_NS), (rth - 20 * MINUTE_NS, closed)
        asof = self.rng.randrange(
            *self.rng.choice((first_hour, first_hour, first_hour, day, (rth, closed + HOUR_NS)))
        )
        return asof // (step := self.rng.choice((grid, grid, MINUTE_NS))) * step

    def near(self, tick: int) -> int:
        """A tick around another one, often exactly at a limit: of the band, of the stacking columns."""
        band = ticks(self.params["CONFLUENCE_BAND"], self.ratio)
        limit = self.rng.choice((0, 0, 1, band, band + 1, 8, 9, 20, 21, 40, 41, self.rng.randrange(90)))
        return tick + self.rng.choice((-1, 1)) * limit

    def add_static(self, asofs: list[int]) -> None:
        """The ranges from 09:30 and 09:45 on, wide or narrow, now and then without one; some USER levels that start and
        end just when somebody looks."""
        rth, end = self.session["rth_open_ns"], self.session["globex_close_ns"]
        width = self.rng.choice((2, 10, 40))
        for name in STATIC[:4]:
            if self.rng.random() < 0.97:
                start = rth + (15 * MINUTE_NS if name.startswith("OR") else 0)
                side = 1 if name.endswith("HIGH") else -1
                tick = 24_000 + side * self.rng.randrange(width)
                self.levels.append(level_row(name, tick, start, end, CODES[name], False))
        for tick in sorted({self.near(24_000) for _ in range(self.rng.randrange(4))}):
            start, until = sorted(self.rng.sample(asofs, 2))
            self.levels.append(level_row("USER", tick, start, until, CODES["USER"], False))

    def add_dynamic(self, minute: int) -> None:
        """Any of the kinds that hold for one minute, several of the same price and some far away."""
        names = [name for name in CODES if name not in STATIC and self.rng.random() < 0.6]
        for name in names:
            several = name in ("ROUND", "STRIKE")
            for tick in {self.near(24_000) for _ in range(self.rng.randrange(1, 4) if several else 1)}:
                self.levels.append(level_row(name, tick, minute, minute + MINUTE_NS, CODES[name], True))

    def add_point(self, asof: int) -> None:
        rng = self.rng
        active = [level for level in self.levels if level["valid_from_ns"] <= asof < level["valid_to_ns"]]
        own = rng.choice(active or self.levels)  # also one that holds no longer
        point = {
            "observation_id": f"point-{len(self.points):03d}",
            "asof_ns": asof,
            "level_id": own["level_id"],
            "level_kind_name": own["level_kind_name"],
            "level_tick": own["level_tick"] + rng.choice((0, 0, 0, 1)),
            "direction": rng.choice(("UP", "DOWN")),
        }
        row = point_row(point, self.trades, self.ratio)
        self.points.append({**row, "ratio_ts_ns": self.some_instant(row["spot_ts_ns"])})
        view = self.some_view(row["spot_tick"], row["level_tick"])
        view |= {name: self.some_instant(row["spot_ts_ns"]) for name in USED_UNTIL}
        self.seen[point["observation_id"]] = view

    def some_instant(self, ts_ns: int) -> int | None:
        """A time around another one, or none."""
        return None if self.rng.random() < 0.3 else ts_ns + self.rng.randrange(-SECOND_NS, SECOND_NS)

    def used_until(self, point: dict) -> int:
        """The latest event that any input of a point says it used."""
        inputs = (self.seen[point["observation_id"]][name] for name in USED_UNTIL)
        return max(t for t in (point["spot_ts_ns"], point["ratio_ts_ns"], *inputs) if t is not None)

    def some_view(self, spot_tick: int, level_tick: int) -> dict:
        rng = self.rng
        view = dict(NOTHING_SEEN)
        if rng.random() < 0.9:
            view["atr"] = rng.uniform(0, 20)
        side = rng.choice((-1, 1))
        for name in ("sma_200", "sma_400"):
            if rng.random() < 0.9:
                # on one side of the level or at it, and around the half percent of the price
                away = rng.choice(
                    (0, rng.randrange(1, 20), rng.randrange(1, 20), rng.randrange(100, 160), 120)
                )
                view[name] = rng.choice((level_tick, spot_tick)) * 0.25 + side * away * 0.25
                if rng.random() < 0.9:
                    view[f"{name}_slope"] = (
                        side * rng.choice((-1, -1, -1, 1)) * rng.choice((0.0, 0.1, 0.2, 0.3))
                    )
        if rng.random() < 0.9:
            view["fuel_effect"] = rng.choice(("AMPLIFY", "AMPLIFY", "AMPLIFY", "DAMPEN", "DAMPEN", "NEUTRAL"))
            strike = round(spot_tick * 0.25 / self.ratio)
            for name, side in (("wall_short_call", -1), ("wall_short_put", 1)):
                if rng.random() < 0.95:
                    view[name] = float(strike + side * rng.choice((2, 1, 1, 0, -1)))
        return view

    def put_volumes(self, pipeline: Pipeline) -> None:
        """Bars of every day into the pipeline, and the profiles it makes of them."""
        for date, trades in self.events.items():
            bars = [
                {**bar, "contract": contract}
                for contract in ("ESH6", "ESZ5")
                for bar in ohlcv([t for t in trades if t["contract"] == contract], 60)
            ]
            pipeline.replace("ohlcv", date, bars)
            pipeline.replace("dim_front_month", date, [{"contract": self.fronts[date]}] if trades else [])
            pipeline.build(date, only=("int_bars__volume_profile",))
            if not trades:  # a date without data has no partition
                pipeline.replace("int_bars__volume_profile", date, [])

    def expected(self) -> list[dict]:
        return [
            {
                "observation_id": point["observation_id"],
                **confluence_row(
                    self.session,
                    self.levels,
                    self.trades,
                    self.earlier,
                    self.seen[point["observation_id"]],
                    self.ratio,
                    point,
                    DEFAULT | self.params,
                ),
            }
            for point in self.points
        ]


def seeds(few: int, many: int) -> list:
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(few, many))]


@pytest.mark.parametrize("seed", seeds(12, 120))
def test_confluence(pipelines: list[Pipeline], seed: int):
    world = World(seed)
    pipeline = pipelines[PARAMS.index(world.params)]
    world.put_volumes(pipeline)
    found = confluence(pipeline, world.date, world.points, world.levels, world.seen)
    expected = world.expected()
    assert_same(f"world {seed}", list(found.values()), expected, ("observation_id",), expected[0])
    until = {point["observation_id"]: world.used_until(point) for point in world.points}
    assert {k: row["confluence_max_input_ts_ns"] for k, row in found.items()} == until


def test_the_worlds_meet_every_branch():
    """A comparison of nothing would pass as well: each value of each enum occurs, and so does each NULL."""
    rows = [row for seed in range(12) for row in World(seed).expected()]
    names = ("confluence_level", "breakout_state", "gex_alignment", "confluence_alignment")
    values = {name: Counter(row[name] for row in rows) for name in names}
    assert values["confluence_level"].keys() == {0, 1, 2, 3, 4, 5, 6, 7, 9, 10}, values
    assert values["breakout_state"].keys() == {0, 1, 2, 3, None}
    assert values["gex_alignment"].keys() == values["confluence_alignment"].keys() == {-1, 0, 1, None}
    volumes = [row["rel_vol_ratio"] for row in rows]
    assert volumes.count(None) not in (0, len(rows))
    assert 0 < sum(v >= 1.3 for v in volumes if v is not None) < len(rows) / 2
    assert max(row["confluence_count"] for row in rows) > 4
    assert min(row["confluence_count"] for row in rows) == 0
