"""What a training on a version came to, as rows and remarks for people."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """What `train` did: the folder it wrote, and ``metrics.json``."""

    path: Path
    metrics: dict

    def rows(self) -> list[dict[str, object]]:
        """Flat rows: for a classifier one by predictor, for numbers one by target, loss and predictor."""
        found = []
        for target, scored in self.metrics["scores"].items():
            told = _numeric_rows if isinstance(scored, list) else _binary_rows
            found += [{"target": target, **row} for row in told(scored)]
        return found

    def remarks(self) -> list[str]:
        m = self.metrics
        lines = [
            f"{m['name']} {m['version']}, dataset {m['dataset_hash'][:8]}: {m['rows']['train']} rows to train, "
            f"{m['rows']['test']} to test, on {m['rows']['test_days']} days; wrote {self.path}"
        ]
        return [*lines, *m["remarks"]]


def _binary_rows(scored: dict) -> list[dict[str, object]]:
    rows = []
    intervals = scored["intervals"] or {}
    for name in [n for n, v in scored.items() if isinstance(v, dict) and "accuracy" in v]:
        skill = (intervals.get("brier_skill") or {}).get(name, [None, None])
        rows.append(
            {
                "loss": None,
                "predictor": name,
                "n": scored["n"],
                "value": None,
                "roc_auc": scored[name].get("roc_auc"),
                "brier": scored[name].get("brier"),
                "log_loss": scored[name].get("log_loss"),
                "accuracy": scored[name]["accuracy"],
                "model_saves": scored["brier_skill"].get(name),
                "low": skill[0],
                "high": skill[1],
            }
        )
    return rows


def _numeric_rows(scored: list[dict]) -> list[dict[str, object]]:
    empty = dict.fromkeys(("roc_auc", "brier", "log_loss", "accuracy"))
    rows = []
    for loss in scored:
        for name, value in loss["mean"].items():
            less = loss["less"].get(name, {"share": None, "interval": None})
            low, high = less["interval"] or [None, None]
            told = {"loss": loss["loss"], "predictor": name, "n": loss["n"], "value": value, **empty}
            rows.append({**told, "model_saves": less["share"], "low": low, "high": high})
    return rows
