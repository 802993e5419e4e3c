"""`tickhouse evaluate`: backtest experiments and write the report."""

from typing import Annotated

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from lake.paths import lake_root

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: tickhouse evaluate exp001 exp002")
def evaluate(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experiments by id or full name; default every completed one.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the page from the backtests that are there.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM; enters no result.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array, one flat object a head.")] = False,
) -> None:
    """Backtest out of fold into lake/gold/evaluation, then write ml/report.html and each experiment's model card.

    The page needs no network. An experiment whose table has changed since it was trained is shown as it was, and not
    backtested again.
    """
    from ml import backtest, experiments, model_card  # noqa: PLC0415 (LightGBM takes a second that --help should not pay)
    from ml.datasets import DatasetError  # noqa: PLC0415
    from ml.report import facts, page  # noqa: PLC0415

    root = lake_root()
    wanted = [experiments.entry_of(root, name)["id"] for name in names or []] or [
        e["id"] for e in experiments.read_index(root) if e["status"] == "completed"
    ]
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
    found = facts.gather(root, names or [])
    place = page.write(root, found)
    cards = [model_card.write(root, experiment) for experiment in found]
    print_rows([_brief(e, h) for e in found for h in e.heads], as_json=as_json)
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
