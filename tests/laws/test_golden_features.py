"""The models give the worked values of `seeds/golden/feature_cases.csv`, one test for each row."""

import csv
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from lake.params import load
from physics.tape import tape
from tests.conftest import PROJECT_DIR
from tests.e2e.market import calendar
from tests.fixtures.observed import Observed, closes, touch_of
from tests.oracle.rules import DEFAULT, MINUTE_NS, MS_NS, SECOND_NS

DATE = "2025-11-26"
LEVEL_TICK = 24_000
TAPE_PARAMS = ("W_t", "TAPE_BAND", "SWEEP_MAX_GAP_MS", "SWEEP_MIN_CONTRACTS", "grid_ms")

with open(PROJECT_DIR / "seeds" / "golden" / "feature_cases.csv", newline="") as f:
    CASES = list(csv.DictReader(f))


def tape_of(prints: list[list[int]]) -> dict:
    """Tape columns of prints (ms before the instant, ticks from the level, size, aggressor), by the kernel."""
    asof_ns = calendar()[DATE]["rth_open_ns"]
    points = pa.table({"observation_id": ["case"], "asof_ns": [asof_ns], "level_tick": [LEVEL_TICK]})
    names = ("ts_event_ns", "tick", "size", "aggressor")
    rows = [(asof_ns - ms * MS_NS, LEVEL_TICK + ticks, size, sign) for ms, ticks, size, sign in prints]
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    trades = pa.table(
        {name: pa.array(column, pa.int64()) for name, column in zip(names, columns, strict=True)}
    )
    params = load("default").values
    made = tape(points, trades, es_spy_ratio=10.0, **{name: params[name] for name in TAPE_PARAMS})
    return made.to_pylist()[0]


def imbalance(world: Observed, given: dict) -> float | None:
    prints = [[2, 0, given["buy"], 1], [1, 0, given["sell"], -1]]
    return tape_of([row for row in prints if row[2]])["tape_imbalance"]


def sweep_contracts(world: Observed, given: dict) -> int:
    return tape_of(given["prints"])["sweep_contracts"]


def asof_ms(world: Observed, given: dict) -> int:
    """Where the models place the observation of a touch, ms of its second."""
    at = calendar()[DATE]["rth_open_ns"] + given["t_ms"] * MS_NS
    rows = world.rows_of("observation_points", touches=[touch_of(at, session_date=DATE)])
    (asof_ns,) = (row["asof_ns"] for row in rows if row["stage"] == "touch")
    return asof_ns // MS_NS % 1_000


def touch_is_emitted(world: Observed, given: dict) -> bool:
    """Whether the machine emits the touch of a level at an instant that is far from everything else."""
    session = calendar()[given["date"]]
    clock, fraction = given["new_york"].split(".")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    of_day = (hours * 60 + minutes) * MINUTE_NS + seconds * SECOND_NS + int(fraction)
    at = session["premarket_open_ns"] + of_day - 4 * 60 * MINUTE_NS
    far = closes(session["globex_open_ns"], [LEVEL_TICK + 100])
    trades = [*far, {**far[0], "ts_event_ns": at, "tick": LEVEL_TICK}]
    day = Observed(world.manifest, load("default"), {given["date"]: trades})
    level = {
        "level_id": "USER_24000",
        "level_kind": 14,
        "level_kind_name": "USER",
        "level_tick": LEVEL_TICK,
        "es_spy_ratio": 10.0,
        "valid_from_ns": session["globex_open_ns"],
        "valid_to_ns": session["globex_close_ns"],
        "dynamic": False,
    }
    return [row["ts_ns"] for row in day.rows_of("int_touches__detected", levels=[level])] == [at]


def pressure(name: str) -> Callable[[Observed, dict], float | None]:
    def of(world: Observed, given: dict) -> float | None:
        at = calendar()[DATE]["rth_open_ns"]
        touch = touch_of(at, session_date=DATE, direction=given.pop("direction", "UP"))
        (point,) = world.points([touch], DEFAULT | {"CONFIRMATION_WINDOWS": []})
        return world.pressures([point], {point["observation_id"]: given})[point["observation_id"]][name]

    return of


HOW: dict[str, Callable[[Observed, dict], Any]] = {
    "tape_imbalance": imbalance,
    "sweep_contracts": sweep_contracts,
    "asof_ms": asof_ms,
    "touch_is_emitted": touch_is_emitted,
    **{
        f"{name}_pressure{more}": pressure(f"{name}_pressure{more}")
        for name, more in (
            *(("liquidity", ""), ("tape", ""), ("gamma", ""), ("gamma", "_accel"), ("reversion", "")),
            ("net_break", ""),
        )
    },
}


@pytest.fixture(scope="module")
def world(manifest: dict[str, Any]) -> Observed:
    opened = calendar()[DATE]["globex_open_ns"]
    return Observed(manifest, load("default"), {DATE: closes(opened, [LEVEL_TICK] * 5)})


@pytest.mark.parametrize("case", CASES, ids=[case["case_id"] for case in CASES])
def test_the_models_give_the_worked_value(world: Observed, case: dict[str, str]):
    found = HOW[case["feature"]](world, json.loads(case["given"]))
    expected = json.loads(case["expected"])
    if isinstance(expected, float):
        assert found == pytest.approx(expected, rel=0, abs=float(case["tolerance"]))
    else:
        assert (found, type(found)) == (expected, type(expected))


def test_each_case_has_a_name_and_a_source():
    assert len({case["case_id"] for case in CASES}) == len(CASES)
    assert all(case["source"].startswith("spec/market.md") for case in CASES)
    assert {case["feature"] for case in CASES} == HOW.keys()
