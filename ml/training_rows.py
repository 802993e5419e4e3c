"""``metrics.json`` of an experiment as flat rows: the printed table."""

from collections.abc import Iterator

from ml.scoring import NUMBER_PREDICTORS, PREDICTORS


def rows(summary: dict) -> Iterator[dict]:
    """One flat row for each stage, head and fold, then their mean, their pool and the holdout; equal keys in each."""
    for r in summary["results"]:
        key = {"stage": r["stage"], "head": r["head"]}
        for f in r["folds"]:
            yield key | _row(str(f["fold"]), f["test_first"], f["test_last"], f, f["skipped"])
        if r["pooled"] is not None:
            scored = [f for f in r["folds"] if f["skipped"] is None]
            span = (scored[0]["test_first"], scored[-1]["test_last"])
            counts = {k: r["pooled"][k] for k in ("n", "positives")}
            yield key | _row("mean", *span, r["mean"] | counts, None)
            yield key | _row("pooled", *span, r["pooled"], None)
        if r["holdout"] is not None:
            yield key | _row(
                "holdout", r["holdout"]["test_first"], r["holdout"]["test_last"], r["holdout"], None
            )


def _row(fold: str, first: str, last: str, scores: dict, skipped: str | None) -> dict:
    """``ci`` columns are of the pooled row only; scores of the other kind of head are None."""
    ci = (scores.get("ci") or {}) if skipped is None else {}
    scored = {} if skipped else scores
    row: dict = {
        "fold": fold,
        "test_first": first,
        "test_last": last,
        "n": scores["n"],
        "positives": scores["positives"],
    }

    def score(name: str, what: str) -> float | None:
        return (scored.get(name) or {}).get(what)

    def interval(kind: str, name: str) -> list[float | None]:
        return (ci.get(kind) or {}).get(name) or [None, None]

    for what in ("roc_auc", "pr_auc", "brier"):
        row |= {f"{what}_{name}": score(name, what) for name in PREDICTORS}
    row |= {"brier_calibrated": score("calibrated", "brier")}
    row |= {f"mae_{name}": score(name, "mae") for name in NUMBER_PREDICTORS}
    row["roc_auc_ci_low"], row["roc_auc_ci_high"] = interval("model", "roc_auc")
    row["brier_skill_base_rate"] = score("brier_skill", "base_rate")
    row["brier_skill_ci_low"], row["brier_skill_ci_high"] = interval("brier_skill", "base_rate")
    row["mae_skill_base_rate"] = score("mae_skill", "base_rate")
    row["mae_skill_ci_low"], row["mae_skill_ci_high"] = interval("mae_skill", "base_rate")
    raw = ((scored.get("calibration") or {}).get("raw")) or {}
    row["ece"], row["precision_at_5"], row["precision_at_10"] = (
        raw.get(k) for k in ("ece", "precision_at_5", "precision_at_10")
    )
    row["deflated_skill"] = score("deflated", "deflated")
    row["skipped"] = skipped
    return row
