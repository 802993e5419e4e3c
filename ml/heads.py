"""What a model is asked: the heads of spec/market.md 14.2, as rows and targets of a gold table at one stage."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import datasets, splits

HORIZONS_S = (60, 120, 180, 300)
# What is reached within how many seconds of the label's start: name → (column of the time, seconds).
REACH = {
    f"t{k}_{side}{h}": (f"time_to_{what}_{k}", h)
    for k in (1, 2)
    for side, what in (("", "threshold"), ("break_", "break"), ("bounce_", "bounce"))
    for h in HORIZONS_S
}
REGRESSION = ("strength",)
CLUSTER = ("session_date", "level_kind_name", "direction", "attempt_cluster_id")
ALL_HEADS = ("tradeable_2", "direction", *REGRESSION, *REACH)


def is_regression(head: str) -> bool:
    """Whether a head's target is a number in points and not a class."""
    return head in REGRESSION


def target(stage_table: pa.Table, head: str) -> tuple[pa.Table, np.ndarray]:
    """The rows that a head is about, and its target: class 0 or 1 (rows,) int64, or points (rows,) float64.

    ``direction`` is of rows that passed a threshold only. A threshold that is never reached is reached in no time.
    """
    if head == "direction":
        rows = stage_table.filter(pc.equal(stage_table["tradeable_2"], 1))
        return rows, pc.equal(rows["outcome"], "BREAK").to_numpy(zero_copy_only=False).astype(np.int64)
    if head == "strength":
        return stage_table, stage_table["strength_signed"].to_numpy().astype(float)
    if head in REACH:
        column, horizon_s = REACH[head]
        within = pc.fill_null(pc.less_equal(stage_table[column], float(horizon_s)), False)
        return stage_table, within.to_numpy(zero_copy_only=False).astype(np.int64)
    return stage_table, stage_table[head].to_numpy().astype(np.int64)


@dataclass(frozen=True)
class HeadData:
    """Rows of one head at one stage; everything (rows,). ``session`` is datetime64[D], ``cluster`` numbers attempt
    clusters of the table."""

    inputs: pa.Table
    level_inputs: pa.Table
    y: np.ndarray
    weight: np.ndarray
    session: np.ndarray
    asof_ns: np.ndarray
    label_end_ns: np.ndarray
    cluster: np.ndarray
    kind: np.ndarray
    direction: np.ndarray
    is_regression: bool = False

    def take(self, part: np.ndarray) -> tuple[pa.Table, pa.Table, np.ndarray, np.ndarray]:
        """Inputs, those of the level group, target and weight of the rows ``part``, ascending."""
        inputs, level_inputs = (datasets.rows_at(t, part) for t in (self.inputs, self.level_inputs))
        return inputs, level_inputs, self.y[part], self.weight[part]


def head_data(
    stage_table: pa.Table,
    head: str,
    names: Sequence[str],
    level_names: Sequence[str],
    dictionaries: dict[str, list],
) -> HeadData:
    """Inputs and target of ``head`` over the rows of one stage."""
    table, y = target(stage_table, head)
    return HeadData(
        inputs=datasets.encode(table, names, dictionaries),
        level_inputs=datasets.encode(table, level_names, dictionaries),
        y=y,
        weight=table["sample_weight"].to_numpy().astype(float, copy=False),
        session=datasets.session_days(table),
        asof_ns=table["asof_ns"].to_numpy(),
        label_end_ns=table["label_end_ns"].to_numpy(),
        cluster=datasets.numbered(table, CLUSTER),
        kind=datasets.texts(table["level_kind_name"]),
        direction=datasets.texts(table["direction"]),
        is_regression=is_regression(head),
    )


def rows_of(data: HeadData, fold: splits.Fold) -> splits.Rows:
    """Rows of each part of a fold, purged."""
    return splits.rows(fold, data.session, data.asof_ns, data.label_end_ns, data.cluster)
