"""`tickhouse evaluate`: backtest experiments and write the report."""

from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: tickhouse evaluate exp001 exp002; tickhouse evaluate stop_outcome")
def evaluate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Experiments by id or full name, or training sets; default every completed and trained one."
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the page from the backtests that are there.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM; enters no result.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a head.")] = False,
) -> None:
    """Backtest out of fold into lake/gold/evaluation, then write ml/report.html and each experiment's model card.

    The page needs no network. It also shows what serves and what challenges it, and the models of published training
    sets (stop_outcome, slippage_prediction), which have no backtest. An experiment whose table has changed since it was
    trained is shown as it was, and not backtested again.
    """
    from lake import training_sets  # noqa: PLC0415
    from ml import backtest, experiments, model_card  # noqa: PLC0415 (LightGBM takes a second that --help should not pay)
    from ml.datasets import DatasetError  # noqa: PLC0415
    from ml.report import facts, page, set_facts  # noqa: PLC0415

    root = lake_root()
    sets = [name for name in names or [] if name in training_sets.SETS]
    asked = [name for name in names or [] if name not in sets]
    models = set_facts.gather(root, sets) if sets or not names else []
    if sets and not models:
        raise experiments.ExperimentError(
            f"no model of {', '.join(sets)} is trained, expected one; run `tickhouse train {sets[0]}` first"
        )
    wanted = [experiments.entry_of(root, name)["id"] for name in asked]
    if not names:
        wanted = [e["id"] for e in experiments.read_index(root) if e["status"] == "completed"]
    if not report_only:
        with tqdm(desc="evaluating", unit="fold", disable=None, leave=False) as bar:
            for name in wanted:

                def on_progress(stage: str, done: int, total: int, name: str = name) -> None:
                    bar.set_postfix_str(f"{name} {stage} {done}/{total}", refresh=False)
                    bar.update()

                try:
                    backtest.evaluate(root, name, num_threads=threads, on_progress=on_progress)
                except DatasetError as error:
                    if names:
                        raise
                    say(f"{name} was not backtested: {error}")
    found = facts.gather(root, asked) if wanted or not models else []
    place = page.write(root, found, models)
    cards = [model_card.write(root, experiment) for experiment in found]
    rows = [_brief(e, h) for e in found for h in e.heads]
    print_rows([*rows, *(_of_set(m, t) for m in models for t in m.targets)], as_json=as_json)
    say(f"report: {place}; {len(cards)} model cards beside the experiments")


def _brief(experiment: object, head: object) -> dict[str, object]:
    skill, low, high = head.skill("base_rate")
    return {
        "experiment": experiment.name,
        "head": head.head,
        "stage": head.stage,
        "test_sessions": experiment.test_sessions,
        "skill_base_rate": skill,
        "low": low,
        "high": high,
        "verdict": experiment.verdict(head),
    }


def _of_set(model: object, target: object) -> dict[str, object]:
    """The same columns: days are its sessions; against the base rate, or of a number the median of train."""
    against = next(s for s in target.scores if s.predictor in ("base_rate", "train_median"))
    return {
        "experiment": model.title,
        "head": target.name,
        "stage": "",
        "test_sessions": model.test_days,
        "skill_base_rate": against.saves,
        "low": against.low,
        "high": against.high,
        "verdict": target.verdict,
    }
