"""``model_card.md`` beside an experiment: what it was made of, what it scored, and what it must not be used for."""

from pathlib import Path

from lake import atomic
from ml.report.facts import BASELINES, Experiment, Head

LIMITS = """- Sessions are few and alike: a figure holds for the days that it was measured on.
- Probabilities are of first passage within the label's window, not of a fill; costs are one tick a side.
- Heads that were skipped have no model. A stage that isn't listed was not trained.
- A simulated table says that the path works, and nothing about markets."""


def write(root: Path, experiment: Experiment) -> Path:
    """Put the card beside the experiment's files; returns where it stands."""
    place = root / "ml" / "experiments" / experiment.name / "model_card.md"
    atomic.write_text(place, card(experiment))
    return place


def card(e: Experiment) -> str:
    """The card as Markdown. Every score stands beside its baselines; too few sessions say so in place of a verdict."""
    lines = [
        f"# {e.name}",
        "",
        e.notes or "No notes.",
        "",
        "## Data",
        "",
        "| what | value |",
        "| --- | --- |",
        f"| feature version | {e.version} |",
        f"| ablation | {e.ablation} |",
        f"| table digest | `{e.dataset_digest}`{'' if e.is_current else ', changed since'} |",
        f"| rows, touches | {e.rows:,}, {e.events:,} |",
        f"| sessions | {e.sessions}, {e.first} to {e.last} |",
        "",
        "## Split",
        "",
        f"Rolling origin, whole sessions, purged and embargoed: {e.folds} folds, {e.test_sessions} test sessions, "
        f"holdout {', '.join(e.holdout) or 'none'}.",
        "",
        "## Scores",
        "",
        f"| head | verdict | rows | loss | {' | '.join(f'skill: {b}' for b in BASELINES)} |",
        f"| --- | --- | --- | --- | {' | '.join('---' for _ in BASELINES)} |",
        *(_row(e, h) for h in e.heads),
        "",
        "Skills are 1 − loss / the baseline's loss with 95 % intervals over draws of sessions; the loss is Brier's, of "
        "a number the mean absolute error.",
        "",
        *_backtest(e),
        "## Limits",
        "",
        *([f"- {e.verdict(e.heads[0])}."] if not e.may_claim else []),
        LIMITS,
        "",
    ]
    return "\n".join(lines)


def _row(e: Experiment, h: Head) -> str:
    if h.pooled is None:
        return f"| {h.name} | {e.verdict(h)} | | | {' | '.join('' for _ in BASELINES)} |"
    loss = h.pooled["model"]["mae" if h.kind == "mae_skill" else "brier"]
    skills = " | ".join(_skill(*h.skill(b)) for b in BASELINES)
    return f"| {h.name} | {e.verdict(h)} | {h.pooled['n']:,} | {loss:.4f} | {skills} |"


def _skill(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:+.3f}" if low is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _backtest(e: Experiment) -> list[str]:
    if not e.equities:
        return []
    rows = [
        f"| {q.stage} | {q.trades} | {q.points:+.2f} | {q.cost_points:.2f} | {q.drawdown_points:.2f} |"
        for q in e.equities
    ]
    head = [
        "| stage | trades | points, costs paid | costs | deepest drawdown |",
        "| --- | --- | --- | --- | --- |",
    ]
    return ["## Backtest", "", *head, *rows, ""]
