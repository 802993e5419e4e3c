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
from tests.oracle import barrier, bars, book, context, labels, levels, points, rules, tape, touches

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
)
LABEL_COLUMNS = (
    *("label_status", "label_start_ns", "label_end_ns", "theta_1", "theta_2"),
    *labels.LABEL_COLUMNS,
    *("cluster_size", "sample_weight"),
)
TAPE_KEY = ("ts_event_ns", "sequence", "ordinal", "side", "tick")
NO_OPTIONS = {  # the catalogue's own values while no option trade is landed
    **dict.fromkeys(
        (
            *("gamma_exposure", "gamma_exposure_wg", "gamma_exposure_5m", "gamma_exposure_20m"),
            *("dealer_pressure", "gamma_flow_velocity", "gamma_flow_impulse", "gamma_flow_accel_1m"),
            *("gamma_flow_accel_3m", "dealer_pressure_accel", "gamma_pressure", "gamma_pressure_accel"),
        )
    ),
    "fuel_effect": "UNKNOWN",
    "gamma_bucket": "UNKNOWN",
}

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


def _by_calendar(day: date) -> str:
    month = day.replace(day=1)
    while True:
        fridays = [month + timedelta(k) for k in range(21) if (month + timedelta(k)).weekday() == 4]
        if month.month % 3 == 0 and fridays[2] > day + timedelta(8):
            return f"ES{'HMUZ'[month.month // 3 - 1]}{month.year % 10}"
        month = (month + timedelta(32)).replace(day=1)


class OracleDay:
    """The whole slice of one session by the slow oracle, each part worked out when it is first asked for.

    ``trades`` and ``records`` are the front contract's inside the session; ``earlier_bars_120s`` the two-minute
    bars of the same contract in the SMA_WARMUP_DAYS weekdays before it, oldest first.
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
        gaps: tuple[tuple[int, int], ...] = (),
        f_last_absent: bool = False,
        trade_gaps: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.gaps, self.f_last_absent, self.trade_gaps = gaps, f_last_absent, trade_gaps
        self.session, self.contract, self.p = session, contract, p
        self.trades, self.records, self.earlier = trades, records, earlier_bars_120s
        self.date = session["session_date"]

    @classmethod
    def of(
        cls, days: Mapping[str, Day], calendar: Mapping[str, dict], day: str, contract: str, p: dict
    ) -> "OracleDay":
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
            gaps=days[day].front_gaps(contract),
            f_last_absent=days[day].f_last_absent,
            trade_gaps=days[day].front_gaps(contract, "trade_gaps"),
        )

    @functools.cached_property
    def levels(self) -> list[dict]:
        found = levels.level_rows(self.session, self.trades, self.earlier, self.p)
        return [{**row, "es_spy_ratio": 10.0} for row in found]

    @functools.cached_property
    def touches(self) -> list[dict]:
        found = touches.touches(self.session, self.trades, self.levels, self.p)
        return [{**row, "contract": self.contract} for row in found]

    @functools.cached_property
    def points(self) -> list[dict]:
        return points.observation_points(self.touches, self.trades, self.p)

    @functools.cached_property
    def labels(self) -> list[dict]:
        found = labels.label_rows(
            self.trades, self.session, self.points, self.p, manifest_gaps=self.trade_gaps
        )
        return [
            {"observation_id": point["observation_id"], **row}
            for point, row in zip(self.points, found, strict=True)
        ]

    @functools.cached_property
    def book(self) -> dict:
        return book.whole(self.records, self.p["GAP_S"], self.f_last_absent, self.gaps)

    def features(self, point: dict) -> dict:
        """Every column of the catalogue that the slice computes, for one point."""
        asof = point["asof_ns"]
        b = barrier.barrier_row(self.book, self.trades, point, self.p)
        t = tape.tape_row(self.trades, point, self.p)
        seen = bisect.bisect_left(self.records, asof, key=lambda r: r["ts_event_ns"])
        last = [rules.last_trade_before(self.trades, asof)["ts_event_ns"]]
        last += [r["ts_event_ns"] for r in self.records[max(0, seen - 1) : seen]]
        place = context.distance_columns(self.trades, point)
        return {
            **{k: point[k] for k in ("observation_id", "event_id", "stage", "ts_ns", "anchor_ns", "asof_ns")},
            **{k: point[k] for k in ("level_id", "attempt_cluster_id", "level_kind_name", "direction")},
            "contract": self.contract,
            "max_input_ts_ns": max(last),
            "direction_sign": rules.direction_sign(point["direction"]),
            "level_tick": point["level_tick"],
            "level_price": point["level_tick"] * 0.25,
            "distance": place["distance"],
            "spot": place["spot"],
            "es_spy_ratio": 10.0,
            "ratio_source": "default",
            **b,
            **t,
            "liquidity_pressure": context.liquidity_pressure(b, self.p),
            "tape_pressure": context.tape_pressure(t, point["direction"], self.p),
            **NO_OPTIONS,
        }


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
    wanted = [oracle.features(point) for point in choose(oracle.points)]
    named = {row["observation_id"] for row in wanted}
    chosen = [row for row in features if row["observation_id"] in named]
    assert_same(f"features of {day}", chosen, wanted, ("observation_id",), wanted[0] if wanted else ())


def of_lake(root: Path, day: str, digest: str) -> Callable[[str], list[dict]]:
    """A reader of one session and param set of a lake, by the models' names."""
    folders = {"observation_features": "physics"}
    return lambda name: silver(root, folders.get(name, name), day, digest)
