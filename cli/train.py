"""`tickhouse train`: fit, evaluate and store one experiment, or a model of a published training set."""

from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from cli.output import print_rows, say
from lake.paths import lake_root

app = typer.Typer(add_completion=False)

VERSION = "v1.0_mechanics_only"


@app.command(
    epilog="Examples: tickhouse train --version v1.0_mechanics_only --experiment exp002_other_sessions; "
    "tickhouse train stop_outcome --version v1.0.0"
)
def train(
    training_set: Annotated[
        str | None, typer.Argument(help="Published training set, stop_outcome or slippage_prediction.")
    ] = None,
    *,
    version: Annotated[
        str | None,
        typer.Option(help=f"Feature version, default {VERSION}; or of the set, default the newest."),
    ] = None,
    experiment: Annotated[str, typer.Option(help="Full name of the experiment, expNNN_name.")] = (
        "exp001_mechanics_only"
    ),
    root: Annotated[
        Path | None, typer.Option(help="Root of the lake; default LAKE_ROOT, else data/.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM; enters no result.")] = 1,
    notes: Annotated[str, typer.Option(help="A remark that is kept with the experiment.")] = "",
    heads: Annotated[
        str | None, typer.Option(help="Heads, with a comma between, or all; default tradeable_2,direction.")
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            help="Groups of features: mechanics, ta, full or level_only; default the version's own."
        ),
    ] = None,
    tries: Annotated[
        int,
        typer.Option(min=1, help="Of a training set: ways of training looked at so far, this one included."),
    ] = 1,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give up the result of a completed experiment.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of flat objects.")] = False,
) -> None:
    """Train LightGBM heads on a gold table and print them fold by fold beside what they must beat.

    Columns: auc, pr, brier and mae are the model's, brier_cal after calibration; _level is a model of the
    level group alone, _logit a logistic regression, _base the base rate (of strength, the median) by level
    kind × direction × half hour, _prior that of the training part. skill is 1 − brier/brier_base, left what
    the number of heads and stages tried leaves of it, saves 1 − mae/mae_base; top_5 is the precision of the
    best 5 % of the rows; the intervals are 95 % over draws of whole sessions. An experiment that is up to
    date is not trained again.

    With the name of a training set a model of one of its published versions is trained instead and written to
    gold/models: each line is a predictor, and model_saves is what the model saves of its loss. --experiment, --notes
    and --replace have no meaning then.
    """
    if training_set is not None:
        train_set(training_set, version, root, threads, tries, dry_run=dry_run, as_json=as_json)
        return
    version = version or VERSION
    # Imported here: LightGBM and scikit-learn take a second that --help should not pay.
    from ml import training  # noqa: PLC0415

    place = root.expanduser().resolve() if root else lake_root()
    config = asked(version, heads, ablation)
    if dry_run:
        state = training.outlook(place, version, experiment, config=config)
        print_rows([{"experiment": experiment, "version": version, "state": state}], as_json=as_json)
        return
    with tqdm(desc="training", unit="fit", disable=None, leave=False) as bar:

        def on_progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)

        report = training.train(
            place,
            version,
            experiment,
            config=config,
            num_threads=threads,
            replace=replace,
            notes=notes,
            on_progress=on_progress,
        )
    rows = report.rows()
    print_rows(rows if as_json else spoken([compact(row) for row in rows]), as_json=as_json)
    for line in report.remarks():
        say(line)


def asked(version: str, heads: str | None, ablation: str | None) -> Any:
    """The configuration of the options; what isn't given is the default."""
    from ml import datasets, training  # noqa: PLC0415
    from ml.heads import ALL_HEADS  # noqa: PLC0415

    more = {}
    if heads is not None:
        more["heads"] = ALL_HEADS if heads == "all" else tuple(h.strip() for h in heads.split(","))
    if ablation is None:
        return training.Config(version=version, **more)
    return training.Config.of_ablation(datasets.load_contract(version), ablation, **more)


def spoken(rows: list[dict]) -> list[dict]:
    """Rows without the columns that are empty in all of them: those of the other kind of head."""
    kept = (
        [k for k in rows[0] if k == "skipped" or any(row[k] not in ("-", "") for row in rows)] if rows else []
    )
    return [{k: row[k] for k in kept} for row in rows]


def train_set(
    name: str,
    version: str | None,
    root: Path | None,
    threads: int,
    tries: int,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train on a published version of a training set and print its scores."""
    from lake import training_sets  # noqa: PLC0415
    from ml.training_sets import train as sets  # noqa: PLC0415

    place = root.expanduser().resolve() if root else lake_root()
    if dry_run:
        found = training_sets.version(place, name, version)
        written = str(sets.folder(place, name, found.version))
        print_rows([{"set": name, "version": found.version, "writes": written}], as_json=as_json)
        return
    report = sets.train(place, name, version, config=sets.Config(tries=tries), num_threads=threads)
    rows = report.rows()
    if not as_json:  # scores of the other kind of target
        silent = [key for key in rows[0] if all(row[key] is None for row in rows)]
        rows = [{k: v for k, v in row.items() if k not in silent} for row in rows]
    print_rows(rows, as_json=as_json)
    for line in report.remarks():
        say(line)


def compact(row: dict) -> dict:
    """One printed line of `training.Report.rows`: three digits, intervals in one cell, the reason of a
    skipped fold.
    """

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    def interval(key: str) -> str:
        low, high = row[f"{key}_ci_low"], row[f"{key}_ci_high"]
        return "" if low is None else f"[{low:.3f}, {high:.3f}]"

    return {
        "stage": row["stage"],
        "head": row["head"],
        "fold": row["fold"],
        "first": row["test_first"],
        "last": row["test_last"],
        "n": row["n"],
        "pos": row["positives"],
        "auc": number(row["roc_auc_model"]),
        "auc_level": number(row["roc_auc_level_only"]),
        "auc_logit": number(row["roc_auc_logistic"]),
        "auc_base": number(row["roc_auc_base_rate"]),
        "pr": number(row["pr_auc_model"]),
        "pr_level": number(row["pr_auc_level_only"]),
        "pr_base": number(row["pr_auc_base_rate"]),
        "pr_prior": number(row["pr_auc_class_prior"]),
        "brier": number(row["brier_model"]),
        "brier_cal": number(row["brier_calibrated"]),
        "brier_level": number(row["brier_level_only"]),
        "brier_logit": number(row["brier_logistic"]),
        "brier_base": number(row["brier_base_rate"]),
        "brier_prior": number(row["brier_class_prior"]),
        "skill": number(row["brier_skill_base_rate"]),
        "auc_95": interval("roc_auc"),
        "skill_95": interval("brier_skill"),
        "left": number(row["deflated_skill"]),
        "ece": number(row["ece"]),
        "top_5": number(row["precision_at_5"]),
        "mae": number(row["mae_model"]),
        "mae_level": number(row["mae_level_only"]),
        "mae_base": number(row["mae_base_rate"]),
        "mae_prior": number(row["mae_class_prior"]),
        "saves": number(row["mae_skill_base_rate"]),
        "saves_95": interval("mae_skill"),
        "skipped": row["skipped"] or "",
    }
