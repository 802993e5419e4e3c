"""Small gold tables whose truth is known: what the simulator promises, made in a fraction of a second."""

import datetime
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.commits import Commit, publish
from lake.digest import file_digest
from ml import datasets
from ml.datasets import Contract, contract_from

VERSION = "v1.0_mechanics_only"
KINDS = [
    "PM_HIGH", "PM_LOW", "OR_HIGH", "OR_LOW", "SESSION_HIGH", "SESSION_LOW", "SMA_200", "SMA_400", "VWAP",
    "ROUND",
]  # fmt: skip
STATES = ["VACUUM", "WALL", "CONSUMED", "ABSORPTION", "WEAK", "NEUTRAL", "UNKNOWN"]
ENUMS = {
    "stage": ["touch", "confirm_120", "confirm_240", "confirm_480"],
    "level_kind_name": KINDS,
    "direction": ["UP", "DOWN"],
    "barrier_state": STATES,
    "fuel_effect": ["AMPLIFY", "DAMPEN", "NEUTRAL", "UNKNOWN"],
    "gamma_bucket": ["SHORT_GAMMA", "LONG_GAMMA", "UNKNOWN"],
    "outcome": ["BREAK", "BOUNCE", "CHOP"],
    "label_status": ["ok", "already_resolved", "crosses_session", "data_gap"],
}
ID = "observation_id event_id session_date stage ts_ns anchor_ns asof_ns max_input_ts_ns contract level_id attempt_cluster_id universe_version params_digest"  # noqa: E501
LEVEL = "level_kind_name direction direction_sign distance"
BARRIER = "barrier_state barrier_delta_liq barrier_replenishment_ratio wall_ratio barrier_delta_liq_log wall_ratio_log barrier_added barrier_canceled barrier_filled barrier_churn barrier_depth_in_zone barrier_zone_visible_frac barrier_observable"  # noqa: E501
TAPE = "tape_imbalance tape_velocity sweep_detected tape_buy_vol tape_sell_vol tape_price_slope_3s tape_price_slope_15s tape_trade_rate_3s tape_trade_rate_15s tape_trade_rate_60s sweep_direction sweep_contracts"  # noqa: E501
FUEL = "gamma_exposure fuel_effect dealer_pressure gamma_exposure_wg gamma_exposure_20m gamma_bucket gamma_flow_velocity gamma_flow_impulse gamma_flow_accel_1m gamma_flow_accel_3m dealer_pressure_accel"  # noqa: E501
PRESSURE = "liquidity_pressure tape_pressure gamma_pressure gamma_pressure_accel"
LABEL = "outcome time_to_break_1 time_to_break_2 time_to_bounce_1 time_to_bounce_2 time_to_threshold_1 time_to_threshold_2 tradeable_1 tradeable_2 excursion_max excursion_min strength_signed strength_abs anchor_spot future_price label_status label_start_ns label_end_ns theta_1 theta_2 cluster_size sample_weight"  # noqa: E501
TEXT = {"observation_id", "event_id", "contract", "level_id", "universe_version", "params_digest", *ENUMS}
BOOLEAN = {"barrier_observable", "sweep_detected"}
SECOND_NS = 1_000_000_000
_runs = itertools.count()


def contract() -> Contract:
    """The columns of v1.0 by role, written from the specification, not from the code under test."""
    groups = [
        ("id", "identity", ID), ("feature", "level", LEVEL), ("feature", "barrier_physics", BARRIER),
        ("feature", "tape_physics", TAPE), ("feature", "fuel_physics", FUEL),
        ("feature", "pressure_indicators", PRESSURE), ("label", "labels", LABEL),
    ]  # fmt: skip
    columns = []
    for role, group, names in groups:
        for name in names.split():
            dtype = "VARCHAR" if name in TEXT else "BOOLEAN" if name in BOOLEAN else "DOUBLE"
            columns.append(
                {"name": name, "dtype": dtype, "unit": None, "nullable": True, "domain": ENUMS.get(name),
                 "role": role, "group": group}
            )  # fmt: skip
    return contract_from(VERSION, columns)


def session_names(n: int, first: str = "2025-10-06") -> list[str]:
    """``n`` weekdays."""
    day, found = datetime.date.fromisoformat(first), []
    while len(found) < n:
        if day.weekday() < 5:
            found.append(day.isoformat())
        day += datetime.timedelta(days=1)
    return found


def gold(
    sessions: int = 20,
    touches: int = 60,
    *,
    planted: bool,
    seed: int = 1,
    stages: tuple[str, ...] = ("touch", "confirm_240"),
) -> pa.Table:
    """A gold table of ``sessions`` × ``touches`` × stages rows.

    ``planted``: VACUUM before the touch multiplies the odds of a break by 6 and those of reaching θ2 by 3,
    as in the simulator. Otherwise outcomes are independent of every column.
    """
    rng = np.random.default_rng(seed)
    days = np.repeat(session_names(sessions), touches)
    n = len(days)
    # 09:30 in New York is 13:30 UTC in summer and 14:30 in winter; both lie in the span.
    opens = np.array([_open_ns(d) for d in session_names(sessions)]).repeat(touches)
    t0 = opens + rng.integers(0, 374 * 60, n) * SECOND_NS + rng.integers(1, SECOND_NS, n)
    state = rng.choice(STATES, n, p=[0.2, 0.15, 0.15, 0.15, 0.1, 0.2, 0.05])
    vacuum = (state == "VACUUM") & planted
    reach_odds = np.where(vacuum, 3.0, 1.0) * 1.2
    break_odds = np.where(vacuum, 6.0, 1.0) * 0.8
    tradeable = rng.random(n) < reach_odds / (1 + reach_odds)
    breaks = rng.random(n) < break_odds / (1 + break_odds)
    outcome = np.where(tradeable, np.where(breaks, "BREAK", "BOUNCE"), "CHOP")
    kind = rng.choice(KINDS, n)
    direction = rng.choice(["UP", "DOWN"], n)
    cluster = rng.integers(1, 6, n)
    # Known only afterwards: the size of a cluster is a label.
    keys, inverse, size = np.unique(
        np.array([f"{a}|{b}|{c}|{d}" for a, b, c, d in zip(days, kind, direction, cluster, strict=True)]),
        return_inverse=True,
        return_counts=True,
    )
    del keys
    cluster_size = size[inverse]
    seconds = rng.uniform(1, 480, n)
    hidden = state == "UNKNOWN"

    def maybe(values: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
        return pa.array(values, mask=mask)

    delta = (
        np.where(state == "VACUUM", rng.normal(-400, 150, n), rng.normal(50, 200, n)).round().astype(np.int64)
    )
    tables = []
    for stage in stages:
        horizon = int(stage.partition("_")[2] or 0) * SECOND_NS
        u = t0 + horizon
        asof = u // 100_000_000 * 100_000_000
        columns: dict[str, pa.Array] = {
            "observation_id": pa.array([f"{stage[0]}{i:031x}" for i in range(n)]),
            "event_id": pa.array([f"e{i:031x}" for i in range(n)]),
            "session_date": pa.array(days).cast(pa.date32()),
            "stage": pa.array([stage] * n),
            "ts_ns": pa.array(t0),
            "anchor_ns": pa.array(t0),
            "asof_ns": pa.array(asof),
            "max_input_ts_ns": pa.array(asof - rng.integers(1, SECOND_NS, n)),
            "contract": pa.array(["ESZ5"] * n),
            "level_id": pa.array([f"{k}-1" for k in kind]),
            "attempt_cluster_id": pa.array(cluster.astype(np.int32)),
            "universe_version": pa.array(["u1"] * n),
            "params_digest": pa.array(["ab" * 32] * n),
            "level_kind_name": pa.array(kind),
            "direction": pa.array(direction),
            "direction_sign": pa.array(np.where(direction == "UP", 1, -1).astype(np.int8)),
            "distance": pa.array(rng.integers(0, 5, n) * 0.25),
            "barrier_state": pa.array(state),
            "barrier_delta_liq": maybe(delta, hidden),
            "barrier_observable": pa.array(~hidden),
            "sweep_detected": pa.array(rng.random(n) < 0.1),
            "fuel_effect": pa.array(["UNKNOWN"] * n),
            "gamma_bucket": pa.array(["UNKNOWN"] * n),
            "outcome": pa.array(outcome),
            "tradeable_2": pa.array(tradeable.astype(np.int8)),
            "tradeable_1": pa.array((tradeable | (rng.random(n) < 0.5)).astype(np.int8)),
            "time_to_threshold_2": maybe(seconds, ~tradeable),
            "time_to_break_2": maybe(seconds, outcome != "BREAK"),
            "time_to_bounce_2": maybe(seconds, outcome != "BOUNCE"),
            "strength_signed": pa.array(rng.normal(0, 10, n)),
            "label_status": pa.array(["ok"] * n),
            "label_start_ns": pa.array(u),
            "label_end_ns": pa.array(u + 480 * SECOND_NS),
            "theta_1": pa.array(np.full(n, 10.0)),
            "theta_2": pa.array(np.full(n, 20.0)),
            "cluster_size": pa.array(cluster_size.astype(np.int32)),
            "sample_weight": pa.array(1.0 / cluster_size),
        }
        for column in contract().columns:
            if column.name in columns:
                continue
            gamma = column.name in FUEL.split() or column.name.startswith("gamma_pressure")
            columns[column.name] = pa.nulls(n, pa.float64()) if gamma else pa.array(rng.normal(0, 1, n))
        tables.append(pa.table({c.name: columns[c.name] for c in contract().columns}))
    return pa.concat_tables(tables)


def _open_ns(day: str) -> int:
    summer = "2025-03-09" <= day < "2025-11-02"
    return (np.datetime64(f"{day}T{'13' if summer else '14'}:30", "ns")).astype(np.int64).item()


def commit_gold(root: Path, table: pa.Table, version: str = VERSION) -> None:
    """Commit ``table`` as the gold training table of a version, one partition for each session."""
    dataset = root / "lake" / datasets.folder(version)
    stage = root / "lake" / "_stage"
    stage.mkdir(parents=True, exist_ok=True)
    for day in sorted(set(datasets.session_dates(table).tolist())):
        rows = table.filter(pc.equal(table["session_date"].cast(pa.string()), day)).drop_columns(
            ["session_date"]
        )
        staged = stage / f"{next(_runs)}.parquet"
        pq.write_table(rows, staged)
        digest = file_digest(staged)
        folder = dataset / f"date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        publish(
            staged,
            folder,
            Commit(
                dataset="train_signals", date=day, params_digest=None, rows=rows.num_rows, bytes=0,
                content_digest=digest, build_key=digest, code_digest="", inputs={}, input_digest="",
                build_digest=None, built_at="2025-12-24T00:00:00Z", run_id="test",
            ),
        )  # fmt: skip
