"""What tests of the whole pipeline share: dbt on a lake of their own, reading it, the oracle's view of a day."""

import atexit
import bisect
import functools
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from cli import dbt
from lake import datasets
from tests.e2e.market import Day
from tests.oracle import (
    approach,
    attempts,
    averages,
    barrier,
    bars,
    book,
    confluence,
    context,
    exposure,
    fuel,
    kinematics,
    labels,
    levels,
    ofi,
    points,
    pressures,
    ratio,
    rules,
    tape,
    touches,
)
from tests.oracle import options as oracle_options

# What is read of a row, and compared with the oracle's.
LEVEL_COLUMNS = (
    *("level_id", "level_kind", "level_kind_name", "level_price_raw", "level_tick", "level_price"),
    *("valid_from_ns", "valid_to_ns", "dynamic", "es_spy_ratio"),
)
TOUCH_COLUMNS = (
    *("event_id", "level_id", "level_kind", "level_kind_name", "level_tick", "level_price", "direction"),
    *("direction_sign", "ts_ns", "touch_tick", "es_spy_ratio", "universe_version", "contract"),
    *("attempt_cluster_id", "attempt_index"),
)
POINT_COLUMNS = (
    *("observation_id", "event_id", "stage", "ts_ns", "anchor_ns", "asof_ns", "label_start_ns", "level_id"),
    *("level_kind_name", "level_tick", "direction", "attempt_cluster_id"),
    *("es_spy_ratio", "ratio_source", "ratio_ts_ns"),
)
LABEL_COLUMNS = (
    *("label_status", "label_start_ns", "label_end_ns", "theta_1", "theta_2"),
    *labels.LABEL_COLUMNS,
    *("cluster_size", "sample_weight"),
)
TAPE_KEY = ("ts_event_ns", "sequence", "ordinal", "side", "tick")
NOT_OF_THE_ORACLE = {"max_input_ts_ns", "params_digest", "session_date", "date"}

DEFAULT = rules.DEFAULT
ATR = DEFAULT | {"theta_mode": "atr"}
OVERNIGHT = ATR | {"event_hours": "all", "level_kinds": ["ROUND", "VWAP", "SESSION"]}


# -- dbt ---------------------------------------------------------------------------------------------------------


@functools.cache
def _target_path() -> Path:
    """One target folder for this process: what dbt has parsed once it reads again in half a second."""
    folder = Path(tempfile.mkdtemp(prefix="dbt-target-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def run_dbt(root: Path, *args: str, **variables: str) -> dict[str, int]:
    """One dbt command on the lake under ``root``, as people run it: their profile, with all its threads.

    Returns how many partitions each dataset built, for those that built any. Raises RuntimeError when a node failed.
    """
    results = dbt.invoke(args, root=root, target_path=_target_path(), variables=variables).results
    messages = {
        r.node.alias: r.message
        for r in results
        if r.node.resource_type == "model" and r.node.config.materialized == "dataset"
    }
    built = {name: int(message.split(" of ")[0]) for name, message in messages.items()}
    return {name: count for name, count in built.items() if count}


def listed(root: Path, *select: str) -> set[str]:
    """Names of the nodes that a dbt command with this selection works on, data tests included."""
    args = ("ls", "--output", "name", "--select", *select)
    return set(dbt.invoke(args, root=root, target_path=_target_path()))


def rows(root: Path, folder: str, day: str, digest: str | None = None) -> list[dict]:
    """Rows of one partition as dicts, in file order; none where it is not committed."""
    try:
        return datasets.read(root, folder, dates=[day], params_digest=digest).to_pylist()
    except datasets.NoSuchDataset:
        return []


def silver(root: Path, name: str, day: str, digest: str | None = None) -> list[dict]:
    return rows(root, f"silver/datasets/{name}", day, digest)


# -- comparing ---------------------------------------------------------------------------------------------------


def assert_same(
    name: str, found: Sequence[dict], expected: Sequence[dict], key: Sequence[str], columns: Collection[str]
) -> None:
    """Rows equal by ``key`` in ``columns``: integers, enums and booleans exactly, doubles by spec market 6."""

    def keyed(table: Iterable[dict]) -> dict[tuple, dict]:
        result = {tuple(row[k] for k in key): row for row in table}
        assert len(result) == len(list(table)), f"{name}: {key} does not name a row"
        return result

    mine, theirs = keyed(found), keyed(expected)
    missing, extra = sorted(theirs.keys() - mine.keys()), sorted(mine.keys() - theirs.keys())
    assert not missing, f"{name}: {len(missing)} rows are missing, the first is {missing[0]}"
    assert not extra, f"{name}: {len(extra)} rows are not the oracle's, the first is {extra[0]}"
    for k, row in theirs.items():
        for column in columns:
            a, b = mine[k][column], row[column]
            assert same(a, b), f"{name} {k}: {column} was {a!r}, the oracle says {b!r}"


def same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(b, float):
        return abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1e-12
    return type(a) is type(b) and a == b


# -- the oracle's day --------------------------------------------------------------------------------------------


def front_contracts(calendar: Mapping[str, dict], days: Mapping[str, Day]) -> dict[str, dict]:
    """dim_front_month by date, in plain sentences: the leader of the latest session with data among the ten
    weekdays before, else the nearest third Friday of March, June, September or December more than 8 days ahead."""
    weekdays = list(calendar)
    volumes: dict[str, dict[str, int]] = {}
    for day, events in days.items():
        for contract in {t["contract"] for t in events.trades if "-" not in t["contract"]}:
            if size := sum(t["size"] for t in events.front_trades(contract)):
                volumes.setdefault(day, {})[contract] = size
    found = {}
    for day, volume in volumes.items():
        at = weekdays.index(day)
        earlier = [d for d in weekdays[max(0, at - 10) : at] if d in volumes]
        if earlier:
            contract = max(sorted(volumes[earlier[-1]]), key=volumes[earlier[-1]].__getitem__)
        else:
            contract = _by_calendar(date.fromisoformat(day))
        total = sum(volume.values())
        others = sorted(((v, c) for c, v in volume.items() if c != contract), key=lambda vc: (-vc[0], vc[1]))
        found[day] = {
            "contract": contract,
            "selection": "volume" if earlier else "calendar",
            "dominance_ratio": volume.get(contract, 0) / total,
            "roll_contaminated": volume.get(contract, 0) / total < 0.6,
            "runner_up": others[0][1] if others else None,
            "runner_up_ratio": others[0][0] / total if others else None,
            "total_contracts": total,
        }
    return found


def live_ratios(days: Mapping[str, Day], fronts: Mapping[str, dict]) -> dict[str, list[dict]]:
    """The live seconds of the ratio by date, each by the front contract of its own session."""
    return {
        day: ratio.live_rows(events.spy, events.front_trades(fronts[day]["contract"]), events.session)
        if events.spy
        else []
        for day, events in days.items()
    }


def _by_calendar(day: date) -> str:
    month = day.replace(day=1)
    while True:
        fridays = [month + timedelta(k) for k in range(21) if (month + timedelta(k)).weekday() == 4]
        if month.month % 3 == 0 and fridays[2] > day + timedelta(8):
            return f"ES{'HMUZ'[month.month // 3 - 1]}{month.year % 10}"
        month = (month + timedelta(32)).replace(day=1)


class OracleDay:
    """The whole domain of one session by the slow oracle, each part worked out when it is first asked for.

    ``trades`` and ``records`` are the front contract's inside the session, ``options`` the option prints that
    landed of it; ``earlier_bars_120s`` the two-minute bars of the same contract in the SMA_WARMUP_DAYS weekdays before
    it, oldest first; ``live`` and ``live_before`` the live seconds of the ratio in it and in the session before;
    ``volumes`` the VOLUME_LOOKBACK_DAYS weekdays before it, each with the trades of its own front contract.
    """

    def __init__(
        self,
        session: dict,
        contract: str,
        trades: list[dict],
        records: list[dict],
        earlier_bars_120s: Sequence[list[dict]] = (),
        p: dict = DEFAULT,
        *,
        options: Sequence[dict] = (),
        live: Sequence[dict] = (),
        live_before: Sequence[dict] = (),
        volumes: Sequence[tuple[dict, list[dict]]] = (),
        gaps: tuple[tuple[int, int], ...] = (),
        f_last_absent: bool = False,
        trade_gaps: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.given = {k: v for k, v in locals().items() if k != "self"}
        self.gaps, self.f_last_absent, self.trade_gaps = gaps, f_last_absent, trade_gaps
        self.session, self.contract, self.p = session, contract, p
        self.trades, self.records, self.earlier = trades, records, earlier_bars_120s
        self.live, self.live_before, self.volumes = live, live_before, volumes
        self.options = oracle_options.with_aggressors(options)
        self.date = session["session_date"]
        self._of_book: dict[str, dict] = {}

    def but(self, **other: Any) -> "OracleDay":
        """The same day with something else given."""
        return OracleDay(**{**self.given, **other})

    @classmethod
    def of(
        cls,
        days: Mapping[str, Day],
        calendar: Mapping[str, dict],
        day: str,
        fronts: Mapping[str, dict],
        live: Mapping[str, list[dict]],
        p: dict,
    ) -> "OracleDay":
        """One of several days, with what it needs of those before it; ``fronts`` are `front_contracts`, ``live`` the
        `live_ratios` of all."""
        contract = fronts[day]["contract"]
        weekdays = list(calendar)
        at = weekdays.index(day)
        before = weekdays[at - p["SMA_WARMUP_DAYS"] : at]
        return cls(
            days[day].session,
            contract,
            days[day].front_trades(contract),
            days[day].front_records(contract),
            [bars.ohlcv(days[d].front_trades(contract), 120) for d in before if d in days],
            p,
            options=days[day].options,
            live=live[day],
            live_before=live.get(weekdays[at - 1], ()),
            volumes=[
                (calendar[d], days[d].front_trades(fronts[d]["contract"]) if d in days else [])
                for d in weekdays[at - p["VOLUME_LOOKBACK_DAYS"] : at]
            ],
            gaps=days[day].front_gaps(contract),
            f_last_absent=days[day].f_last_absent,
            trade_gaps=days[day].front_gaps(contract, "trade_gaps"),
        )

    @functools.cached_property
    def ratios(self) -> list[dict]:
        return ratio.ratio_rows(self.live, self.live_before, self.session)

    def ratio_row(self, t_ns: int) -> dict:
        return ratio.ratio_at(self.ratios, t_ns)

    def ratio_asof(self, t_ns: int) -> float:
        return self.ratio_row(t_ns)["es_spy_ratio"]

    @functools.cached_property
    def greeks(self) -> list[dict]:
        rates = self.p["RISK_FREE"], self.p["SIGMA_DEFAULT"]
        return oracle_options.greeks_rows(self.options, self.trades, self.ratio_asof, self.session, *rates)

    @functools.cached_property
    def walls(self) -> list[dict]:
        return exposure.wall_rows(self.greeks, self.trades, self.session, self.p, ratio_asof=self.ratio_asof)

    @functools.cached_property
    def levels(self) -> list[dict]:
        return levels.level_rows(
            self.session,
            self.trades,
            self.earlier,
            self.p,
            ratio_asof=self.ratio_asof,
            prints=self.greeks,
            walls=self.walls,
        )

    @functools.cached_property
    def touches(self) -> list[dict]:
        found = touches.touches(self.session, self.trades, self.levels, self.p, self.ratio_asof)
        return [{**row, "contract": self.contract} for row in found]

    @functools.cached_property
    def points(self) -> list[dict]:
        found = points.observation_points(self.touches, self.trades, self.p)
        ratios = [self.ratio_row(point["asof_ns"]) for point in found]
        return [
            {**point, "es_spy_ratio": row["es_spy_ratio"], "ratio_source": row["ratio_source"]}
            | {"ratio_ts_ns": row["max_input_ts_ns"]}
            for point, row in zip(found, ratios, strict=True)
        ]

    @functools.cached_property
    def labels(self) -> list[dict]:
        found = labels.label_rows(
            self.trades,
            self.session,
            self.points,
            self.p,
            ratio_asof=self.ratio_asof,
            manifest_gaps=self.trade_gaps,
        )
        return [
            {"observation_id": point["observation_id"], **row}
            for point, row in zip(self.points, found, strict=True)
        ]

    @functools.cached_property
    def book(self) -> dict:
        return book.whole(self.records, self.p["GAP_S"], self.f_last_absent, self.gaps)

    @functools.cached_property
    def order_flow(self) -> list:
        return ofi.flows(self.book["states"])

    def barrier_and_tape(self, point: dict) -> dict:
        """Kept by point: the trends of a cluster compare its attempts with its first one."""
        key = point["observation_id"]
        if key not in self._of_book:
            self._of_book[key] = barrier.barrier_row(self.book, self.trades, point, self.p) | tape.tape_row(
                self.trades, point, self.p, point["es_spy_ratio"]
            )
        return self._of_book[key]

    @functools.cached_property
    def by_event(self) -> dict[tuple[str, str], dict]:
        return {(point["event_id"], point["stage"]): point for point in self.points}

    def at_attempt(self, event_id: str, stage: str) -> dict | None:
        point = self.by_event.get((event_id, stage))
        return None if point is None else self.barrier_and_tape(point)

    def features(self, point: dict) -> dict:
        """Every column of the catalogue for one point, but ``max_input_ts_ns``."""
        place = context.distance_columns(self.trades, point)
        found = {
            **{k: point[k] for k in ("observation_id", "event_id", "stage", "ts_ns", "anchor_ns", "asof_ns")},
            **{k: point[k] for k in ("level_id", "attempt_cluster_id", "level_kind_name", "direction")},
            **{k: point[k] for k in ("es_spy_ratio", "ratio_source")},
            "contract": self.contract,
            "universe_version": self.p["universe_version"],
            "direction_sign": rules.direction_sign(point["direction"]),
            "level_kind": levels.CODES[point["level_kind_name"]],
            "level_tick": point["level_tick"],
            "level_price": point["level_tick"] * 0.25,
            "distance": place["distance"],
            "spot": place["spot"],
            **context.geometry_row(self.trades, point),
            **self.barrier_and_tape(point),
            **fuel.fuel_row(self.greeks, self.session, point, self.p, point["es_spy_ratio"]),
            **exposure.walls_row(self.walls, point),
            **ofi.ofi_row(self.book, point, self.p, self.order_flow),
            **kinematics.kinematics_row(self.book, point, self.p),
            **averages.averages_row(self.trades, point, self.p, self.earlier),
            **approach.approach_row(self.trades, point, self.p),
            **attempts.attempts_row(self.touches, self.at_attempt, point, self.p, point["es_spy_ratio"]),
            **context.context_row(self.session, self.trades, point, self.p),
        }
        found |= confluence.confluence_row(
            self.session,
            self.levels,
            self.trades,
            self.volumes,
            found,
            point["es_spy_ratio"],
            point,
            self.p,
        )
        return found | pressures.pressures_row(found, point, self.p)

    def inputs(self, point: dict) -> int:
        """Time of the last event that the spot and the book see before ``asof_ns``: the least that an honest
        ``max_input_ts_ns`` says."""
        asof = point["asof_ns"]
        seen = bisect.bisect_left(self.records, asof, key=lambda r: r["ts_event_ns"])
        last = [rules.last_trade_before(self.trades, asof)["ts_event_ns"]]
        return max(last + [r["ts_event_ns"] for r in self.records[max(0, seen - 1) : seen]])


def assert_day_equals_oracle(
    read: Callable[[str], list[dict]],
    oracle: OracleDay,
    *,
    choose: Callable[[list[dict]], list[dict]] = lambda found: found,
) -> None:
    """One session of one param set equals the oracle: levels, touches, points, labels, book tape, and for the points
    that ``choose`` keeps every column of the catalogue. ``read(dataset)`` gives the session's rows."""
    day = oracle.date
    assert_same(
        f"levels of {day}", read("levels"), oracle.levels, ("level_id", "valid_from_ns"), LEVEL_COLUMNS
    )
    assert_same(f"touches of {day}", read("touches"), oracle.touches, ("event_id",), TOUCH_COLUMNS)
    found_points = read("observation_points")
    assert_same(f"points of {day}", found_points, oracle.points, ("observation_id",), POINT_COLUMNS)
    assert_same(f"labels of {day}", read("labels"), oracle.labels, ("observation_id",), LABEL_COLUMNS)
    assert_same(f"book_tape of {day}", read("book_tape"), oracle.book["tape"], TAPE_KEY, (*TAPE_KEY, "delta"))
    features = read("observation_features")
    assert {row["observation_id"] for row in features} == {row["observation_id"] for row in oracle.points}
    chosen = {point["observation_id"]: point for point in choose(oracle.points)}
    wanted = [oracle.features(point) for point in chosen.values()]
    found = [row for row in features if row["observation_id"] in chosen]
    assert_same(f"features of {day}", found, wanted, ("observation_id",), wanted[0] if wanted else ())
    for row in found:
        assert row.keys() - wanted[0].keys() <= NOT_OF_THE_ORACLE
        assert oracle.inputs(chosen[row["observation_id"]]) <= row["max_input_ts_ns"] < row["asof_ns"]


def of_lake(root: Path, day: str, digest: str) -> Callable[[str], list[dict]]:
    """A reader of one session and param set of a lake, by the models' names."""
    folders = {"observation_features": "physics"}
    return lambda name: silver(root, folders.get(name, name), day, digest)
