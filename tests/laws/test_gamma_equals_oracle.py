"""Dealer gamma by strike, walls, fuel and every kind of level equal the slow oracle on random worlds.

The kernels meet worlds of their own; the SQL over them runs compiled, in memory, on squeezed sessions with a random
ratio and random parameters. Prints have drawn gammas here, so that sums tie and hit thresholds exactly.
"""

import hashlib
import random
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lake.params import LEVEL_KINDS, ParamSet, load
from physics.exposure import EXPOSURE_SCHEMA, exposure
from physics.fuel import FLOWS, gamma_flows
from physics.option_greeks import GREEKS_SCHEMA
from tests.e2e.in_memory import Pipeline
from tests.e2e.market import calendar, in_order, of_contract
from tests.e2e.support import LEVEL_COLUMNS, assert_same, same
from tests.oracle import levels, option_worlds, worlds
from tests.oracle.exposure import WALLS, exposure_rows, wall_rows, walls_row
from tests.oracle.fuel import FUEL, VELOCITY, fuel_row
from tests.oracle.rules import DEFAULT, MINUTE_NS, MS_NS, SECOND_NS

FRONT, DATE = "ESZ5", "2025-11-03"
GAMMAS = (500.0, 999.9999999, 1000.0, 1000.0, 2500.0, 0.1, 0.0)


def seeds(few: int, many: int):
    more = [pytest.param(seed, marks=pytest.mark.long) for seed in range(few, few + many)]
    return pytest.mark.parametrize("seed", [*range(few), *more])


def random_greeks(rng: random.Random, session: dict, trades: list[dict], ratio: float, n: int) -> list[dict]:
    """Prints of options that expire today, with the columns of `option_greeks`; gamma is drawn, and often equal."""
    rows = []
    for option in option_worlds.random_options(rng, session, trades, ratio, n) if n else ():
        if str(option["exp_date"]) != str(session["session_date"]):
            continue
        gamma = rng.choice((*GAMMAS, rng.uniform(0, 3000), 10 ** rng.uniform(-12, 5)))
        known = option["aggressor"] != 0 or rng.random() < 0.5
        sign = -option["aggressor"] or rng.choice((-1, 1))
        kept = ("ts_event_ns", "ordinal", "option_symbol", "strike_milli", "right", "size", "aggressor")
        rows.append(
            dict.fromkeys(GREEKS_SCHEMA.names)
            | {name: option[name] for name in kept}
            | {"price": float(option["price"]), "max_input_ts_ns": option["ts_event_ns"]}
            | {"dealer_gamma": sign * gamma if known else None}
        )
    return rows


def prints_table(greeks: list[dict]) -> pa.Table:
    table = pa.Table.from_pylist(greeks, schema=GREEKS_SCHEMA)
    is_call = pa.array([row["right"] == "C" for row in greeks], pa.bool_()).cast(pa.int8())
    return table.append_column("is_call", is_call)


def random_points(rng: random.Random, session: dict, greeks: list[dict], ratio_asof, n: int) -> list[dict]:
    """Points around strikes that traded, at exact distances in time from prints and in dollars from strikes."""
    points = []
    for i in range(n):
        draw = rng.random()
        if greeks and draw < 0.8:
            back = rng.choice((0, 1, 60, 60, 120, 180, 300, 360, 1200, 1200)) * SECOND_NS
            asof = rng.choice(greeks)["ts_event_ns"] + back
        else:
            asof = rng.randrange(session["globex_open_ns"], session["globex_close_ns"] + 1)
        asof = (asof + rng.choice((0, 99 * MS_NS))) // (100 * MS_NS) * (100 * MS_NS)
        ratio = ratio_asof(asof)
        strike = rng.choice(greeks)["strike_milli"] if greeks else 600_000
        away = rng.choice((0, 0, 1000, 2000, -2000, 2001, -2025, 5000))
        points.append(
            {
                "observation_id": f"point-{i}",
                "asof_ns": asof,
                "level_tick": round((strike + away) / 1000 * ratio * 4),
                "es_spy_ratio": ratio,
            }
        )
    return points


def assert_rows(found: list[dict], expected: list[dict], columns) -> None:
    for a, b in zip(found, expected, strict=True):
        for name in columns:
            assert same(a[name], b[name]), f"{name} was {a[name]!r}, the oracle says {b[name]!r}, at {b}"


@seeds(120, 2000)
def test_exposure_by_strike(seed: int):
    rng = worlds.seeded(8_100_000 + seed)
    session = worlds.random_session(rng, minutes=rng.choice((20, 45)))
    trades = worlds.random_trades(rng, 60, mean_gap_ns=rng.choice((5, 20)) * SECOND_NS)
    greeks = random_greeks(rng, session, trades, 10.0, rng.choice((0, 1, 30, 60)))
    p = DEFAULT | {"W_wall": rng.choice((60, 90, 300)), "event_hours": rng.choice(("rth", "all"))}
    found = exposure(
        prints_table(greeks),
        session_start_ns=levels.session_start_ns(session, p),
        session_end_ns=levels.session_close_ns(session, p),
        W_wall=p["W_wall"],
    )
    assert found.schema == EXPOSURE_SCHEMA
    assert_rows(found.to_pylist(), exposure_rows(greeks, session, p), EXPOSURE_SCHEMA.names)


@seeds(120, 2000)
def test_flows_near_a_level(seed: int):
    """Also by the columns that are made of them: the flows have no meaning of their own in the specification."""
    rng = worlds.seeded(8_200_000 + seed)
    session = worlds.random_session(rng, minutes=60)
    trades = worlds.random_trades(rng, 80, mean_gap_ns=rng.choice((5, 40)) * SECOND_NS)
    greeks = random_greeks(rng, session, trades, 10.0, rng.choice((0, 1, 60, 150)))
    p = DEFAULT | {"W_g": rng.choice((30, 60, 600)), "event_hours": rng.choice(("rth", "all"))}
    p |= {"FUEL_STRIKE_RANGE": rng.choice((2.0, 1.0, 0.5, 1.001))}
    ratio = rng.choice((10.0, 10.031, 9.87))
    points = random_points(rng, session, greeks, lambda _: ratio, 12)
    found = gamma_flows(
        pa.Table.from_pylist(points),
        prints_table(greeks),
        session_start_ns=levels.session_start_ns(session, p),
        W_g=p["W_g"],
        FUEL_STRIKE_RANGE=p["FUEL_STRIKE_RANGE"],
    ).to_pylist()
    for point, row in zip(points, found, strict=True):
        oracle = fuel_row(greeks, session, point, p, ratio)
        known = row["option_prints"] > 0
        assert [row[name] is not None for name in FLOWS] == [known] * len(FLOWS)
        made = {
            "gamma_exposure": row["flow_session"],
            "gamma_exposure_wg": row["flow_wg"],
            "gamma_exposure_5m": row["flow_5m"],
            "gamma_exposure_20m": row["flow_20m"],
            "gamma_flow_accel_1m": row["flow_1m"] - row["flow_1m_before"] if known else None,
            "gamma_flow_accel_3m": (row["flow_3m"] - row["flow_3m_before"]) / 3 if known else None,
        }
        for name, value in made.items():
            assert same(value, oracle[name]), (
                f"{name} was {value!r}, the oracle says {oracle[name]!r}, at {point}"
            )
        start = levels.session_start_ns(session, p)
        seen = [g["ts_event_ns"] for g in greeks if start <= g["ts_event_ns"] < point["asof_ns"]]
        assert (row["option_prints"], row["flows_max_input_ts_ns"]) == (len(seen), max(seen, default=None))


def random_params(rng: random.Random, session: dict) -> tuple[ParamSet, dict]:
    """A set with every kind of level, its lines drawn over the session's ends; and the same for the oracle."""
    drawn: dict[str, Any] = {
        "level_kinds": sorted(LEVEL_KINDS),
        "event_hours": rng.choice(("rth", "all")),
        "W_wall": rng.choice((60, 300)),
        "W_g": rng.choice((60, 300)),
        "WALL_MIN_GAMMA": rng.choice((1000, 2500)),
        "FUEL_STRIKE_RANGE": rng.choice((2.0, 1.0)),
        "FUEL_EFFECT_THRESHOLD": rng.choice((1000, 10000)),
        "GAMMA_FLOW_NORM": rng.choice((500, 50000)),
        "FLOW_ACCEL_NORM": rng.choice((500, 50000)),
    }
    around = [
        session[k] // SECOND_NS + d
        for k in ("globex_open_ns", "rth_close_ns")
        for d in (-900, -7, 0, 31, 900)
    ]
    drawn["USER_LEVELS"] = []
    for number in range(3):
        start, end = sorted(rng.sample(around, 2))
        price = 5950 + 50 * number + rng.randrange(-80, 80) / 8
        drawn["USER_LEVELS"].append({"price_points": price, "from_at": utc(start), "until_at": utc(end)})
    values = {**load("default").values, **drawn}
    return ParamSet("random", values, hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()), (
        DEFAULT | drawn
    )


def utc(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def some_ratios(rng: random.Random, session: dict) -> list[dict]:
    """A row for each second, as `dim_es_spy_ratio` has them, that changes now and then."""
    rows, ratio = [], rng.choice((10.0, 10.03, 9.9))
    for second in range(session["globex_open_ns"], session["globex_close_ns"], SECOND_NS):
        if rng.random() < 0.01:
            ratio += rng.choice((-0.01, 0.001, 0.01))
        rows.append(
            {
                "asof_ns": second,
                "es_spy_ratio": ratio,
                "ratio_source": "live",
                "max_input_ts_ns": rng.choice((None, second - 5, second - 300 * SECOND_NS)),
            }
        )
    return rows


BEFORE = ("2025-10-29", "2025-10-30", "2025-10-31")
LEVELS_OF = ("option_exposure", "option_walls", "int_bars__ranges", "int_bars__averages")
LEVELS_OF += ("int_levels__running", "int_levels__options", "levels")
GROUPS = ("int_touch__gamma_flows", "feat_touch_fuel", "feat_touch_dealer_velocity", "feat_touch_walls")
WALL_COLUMNS = ("spot_tick", "es_spy_ratio", "spot_spy_milli", "hvl", "wall_short_call", "wall_short_put")
WALL_COLUMNS += ("wall_long_call", "wall_long_put")


@seeds(16, 300)
def test_walls_levels_and_features_of_a_session(manifest: dict[str, Any], seed: int):
    rng = worlds.seeded(8_300_000 + seed)
    start = calendar()[DATE]["rth_open_ns"] - 30 * MINUTE_NS
    session = {**calendar()[DATE], **worlds.random_session(rng, start, 60), "session_date": DATE}
    param_set, p = random_params(rng, session)
    trades = worlds.random_trades(
        rng, 150, start_ns=start + rng.choice((0, 0, 15)) * MINUTE_NS, mean_gap_ns=15 * SECOND_NS
    )
    trades = [t for t in trades if t["ts_event_ns"] < session["globex_close_ns"]]
    rows = some_ratios(rng, session)

    def ratio_asof(t_ns: int) -> float:
        return rows[min((t_ns - start) // SECOND_NS, len(rows) - 1)]["es_spy_ratio"]

    greeks = random_greeks(rng, session, trades, rows[0]["es_spy_ratio"], rng.choice((0, 40, 150)))
    points = random_points(rng, session, greeks, ratio_asof, 15)

    pipeline = Pipeline(manifest, param_set)
    for name in ("globex_open_ns", "premarket_open_ns", "rth_open_ns", "rth_close_ns", "globex_close_ns"):
        pipeline.con.execute(
            f"update reference.dim_session set {name} = ? where session_date = date '{DATE}'", [session[name]]
        )
    pipeline.market((in_order(of_contract(trades, FRONT)), []))
    pipeline.build(DATE, only=("stg_futures__trades", "dim_front_month", "ohlcv"))
    pipeline.replace("dim_es_spy_ratio", DATE, rows)
    pipeline.replace("option_greeks", DATE, greeks)
    pipeline.build(DATE, only=LEVELS_OF)
    known = (
        pipeline.con.query("select * from silver.observation_points limit 0").to_arrow_table().schema.names
    )
    for point in points:
        point["ratio_ts_ns"] = rng.choice((None, point["asof_ns"] - 7))
    pipeline.replace("observation_points", DATE, [dict.fromkeys(known) | point for point in points])
    pipeline.build(DATE, only=GROUPS)

    walls = wall_rows(greeks, trades, session, p, ratio_asof=ratio_asof)
    found = pipeline.rows("option_walls", DATE)
    assert_same("walls", found, walls, ("minute_ns",), WALL_COLUMNS)

    def latest(*instants: int | None) -> int | None:
        return max((t for t in instants if t is not None), default=None)

    priced = [row["ts_event_ns"] for row in greeks if row["dealer_gamma"] is not None]
    looked_at = {}
    for row in found:
        m = row["minute_ns"]
        before = [t for t in (*priced, *(trade["ts_event_ns"] for trade in trades)) if t < m]
        looked_at[m] = latest(rows[(m - start) // SECOND_NS]["max_input_ts_ns"], *before)
        assert row["max_input_ts_ns"] == looked_at[m]
    wanted = levels.level_rows(session, trades, (), p, ratio_asof=ratio_asof, prints=greeks, walls=walls)
    found = pipeline.rows("levels", DATE)
    assert_same("levels", found, wanted, ("level_id", "valid_from_ns"), LEVEL_COLUMNS)
    assert all(row["source_asof_ns"] <= row["valid_from_ns"] < row["valid_to_ns"] for row in found)

    by_id = {point["observation_id"]: point for point in points}
    for model, names in (("feat_touch_fuel", FUEL), ("feat_touch_dealer_velocity", VELOCITY)):
        for row in pipeline.rows(model, DATE):
            point = by_id[row["observation_id"]]
            oracle = fuel_row(greeks, session, point, p, point["es_spy_ratio"])
            assert_rows([row], [oracle], names)
            since = levels.session_start_ns(session, p)
            seen = [g["ts_event_ns"] for g in greeks if since <= g["ts_event_ns"] < point["asof_ns"]]
            expected = latest(*seen, point["ratio_ts_ns"]) if seen else None
            assert row[model.removeprefix("feat_touch_") + "_max_input_ts_ns"] == expected
    for row in pipeline.rows("feat_touch_walls", DATE):
        assert_rows(
            [row],
            [walls_row(walls, by_id[row["observation_id"]])],
            (*WALLS, "hvl"),
        )
        minutes = [m for m in looked_at if m <= by_id[row["observation_id"]]["asof_ns"]]
        assert row["walls_max_input_ts_ns"] == (looked_at[minutes[-1]] if minutes else None)
