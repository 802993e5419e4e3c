"""``experiments.json`` as a list: reading it costs no more than its bytes, so nothing heavy is imported here."""

import json
from collections.abc import Sequence
from pathlib import Path

SHOWN = (
    "roc_auc",
    "base_rate_roc_auc",
    "pr_auc",
    "brier",
    "base_rate_brier",
    "brier_skill",
    "ci_low",
    "ci_high",
)


class UnknownExperiment(ValueError):
    """``experiments.json`` can't be read, or lacks an experiment that was asked for."""


def path(root: Path) -> Path:
    return root / "lake" / "silver" / "features" / "experiments.json"


def side_by_side(root: Path, names: Sequence[str] = ()) -> list[dict[str, object]]:
    """One flat row for each head of each completed experiment (or of those named, by id or full name), in order of id.

    Scores are pooled and out of fold, the base rate's beside the model's; the interval is of the Brier skill.
    Raises UnknownExperiment for a name that isn't there.
    """
    file = path(root)
    try:
        entries = json.loads(file.read_text())["experiments"] if file.is_file() else []
    except (ValueError, KeyError, TypeError) as error:
        raise UnknownExperiment(
            f"{file} could not be read ({error}), expected what training wrote; put it back"
        ) from error
    wanted = [name.partition("_")[0] for name in names]
    known = [e["id"] for e in entries]
    if unknown := [name for name, i in zip(names, wanted, strict=True) if i not in known]:
        raise UnknownExperiment(
            f"experiment was {unknown[0]!r}, expected one of {', '.join(known) or 'nothing yet'}; "
            "`tickhouse experiments list` tells more"
        )
    chosen = [e for e in entries if (e["id"] in wanted if wanted else e["status"] == "completed")]
    return [
        {
            "experiment": e["id"],
            "version": e["version"],
            "status": e["status"],
            "head": head,
            "signals": e["metrics"].get("signal_count"),
            "features": e["metrics"].get("feature_count"),
            **{name: scores.get(name) for name in SHOWN},
        }
        for e in chosen
        for head, scores in (e["model_metrics"] or {"": {}}).items()
    ]
