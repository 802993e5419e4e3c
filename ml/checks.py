"""Does the pipeline find what is there, and nothing where there is nothing (spec/market.md 14.4, null
checks)?

Each check walks forward over a gold table exactly as training does and judges the out-of-fold interval.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ml import datasets, training
from ml.datasets import TrainingTable

CHANCE = 0.5
PLANTED_AUC = 0.55
# Labels that say what happened after the row; the others describe the row's window and stay with it.
OUTCOMES = (
        "outcome", "tradeable_1", "tradeable_2", "time_to_break_1", "time_to_break_2", "time_to_bounce_1",
        "time_to_bounce_2", "time_to_threshold_1", "time_to_threshold_2", "excursion_max", "excursion_min",
        "strength_signed", "strength_abs", "anchor_spot", "future_price",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One judged interval. ``passed`` is also False when the head could not be trained: nothing was shown
    then.
    """

    check: str
    stage: str
    head: str
    n: int
    sessions: int
    score: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    passed: bool
    reason: str


def permuted(table: TrainingTable, seed: int) -> TrainingTable:
    """The table with what happened shuffled among the rows of one (stage, session_date, level_kind_name).

    All outcome columns of a row move together, so a row stays consistent in itself.
    """
    rows = table.table
    rng = np.random.default_rng(seed)
    keys = zip(
        rows["stage"].to_pylist(),
        datasets.session_dates(rows).tolist(),
        rows["level_kind_name"].to_pylist(),
        strict=True,
    )
    _, stratum = np.unique(np.array(["|".join(k) for k in keys]), return_inverse=True)
    source = np.empty(rows.num_rows, dtype=np.int64)
    by_stratum = np.argsort(stratum, kind="stable")
    for part in np.split(by_stratum, np.flatnonzero(np.diff(stratum[by_stratum])) + 1):
        source[part] = rng.permutation(part)
    shuffled = rows.select([c for c in OUTCOMES if c in rows.column_names]).take(pa.array(source))
    for name in shuffled.column_names:
        rows = rows.set_column(rows.column_names.index(name), name, shuffled[name])
    return replace(table, table=rows)


def check_permuted(
    table: TrainingTable, config: training.Config, *, seed: int = training.SEED, num_threads: int = 1
) -> list[Finding]:
    """(i) With permuted labels the AUC of every head and stage must not differ from chance.

    The permutation keeps how often each session and level kind breaks, and a model may know that from the
    features that name them. So the AUC judged here compares rows of one session and level kind only; there
    it is 0.5 on average.
    """
    evaluation = training.evaluate(permuted(table, seed), config, num_threads=num_threads)
    return [_at_chance("permuted", "roc_auc_within", r) for r in evaluation.metrics["results"]]


def check_null(table: TrainingTable, config: training.Config, *, num_threads: int = 1) -> list[Finding]:
    """(ii) On a table whose outcomes are independent of every feature the AUC must not differ from chance."""
    evaluation = training.evaluate(table, config, num_threads=num_threads)
    return [_at_chance("null", "roc_auc", r) for r in evaluation.metrics["results"]]


def check_planted(
    table: TrainingTable,
    config: training.Config,
    *,
    planted: Collection[str] | None = None,
    num_threads: int = 1,
) -> list[Finding]:
    """(iii) On planted data the ``direction`` head must find the effect, and by a planted feature.

    Passed when the AUC's lower bound is above 0.55 and one of ``planted`` (default: the group
    ``barrier_physics``) is among the ten features of most gain. One finding for each stage.
    """
    features = datasets.feature_columns(table.contract, config.features)
    wanted = (
        set(planted) if planted is not None else {c.name for c in features if c.group == "barrier_physics"}
    )
    config = replace(config, heads=("direction",))
    findings = []
    for r in training.evaluate(table, config, num_threads=num_threads).metrics["results"]:
        finding = _finding("planted", "roc_auc", r)
        top = [i["feature"] for i in r["importance_gain"][: training.TOP_FEATURES] if i["share"] > 0]
        found = sorted(wanted & set(top), key=top.index)
        strong = finding.ci_low is not None and finding.ci_low > PLANTED_AUC
        reason = finding.reason or (
            f"lower bound {'above' if strong else 'not above'} {PLANTED_AUC}; "
            f"planted among the top {training.TOP_FEATURES}: {', '.join(found) or 'none'}"
        )
        findings.append(replace(finding, passed=strong and bool(found), reason=reason))
    return findings


def _at_chance(check: str, score: str, result: dict) -> Finding:
    finding = _finding(check, score, result)
    if finding.ci_low is None or finding.ci_high is None:
        return finding
    holds = finding.ci_low <= CHANCE <= finding.ci_high
    return replace(finding, passed=holds, reason=f"the interval {'holds' if holds else 'excludes'} {CHANCE}")


def _finding(check: str, score: str, result: dict) -> Finding:
    pooled = result["pooled"]
    base = Finding(check, result["stage"], result["head"], 0, 0, score, None, None, None, False, "")
    if pooled is None:
        return replace(base, reason=result["skipped"])
    ci = pooled["ci"] or {}
    within = score == "roc_auc_within"
    value = pooled[score] if within else pooled["model"][score]
    low, high = (ci.get(score) if within else (ci.get("model") or {}).get(score)) or (None, None)
    reason = "" if low is not None else "no interval: fewer than two test sessions, or one class"
    return replace(
        base, n=pooled["n"], sessions=pooled["sessions"], value=value, ci_low=low, ci_high=high, reason=reason
    )
