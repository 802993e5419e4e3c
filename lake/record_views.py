"""Records that are no datasets, as relations: the experiments, and what became of rebuilds of released dates.

The SQL is DuckDB's; models read it through the macro ``records``.
"""

from pathlib import Path

from lake import landing_records, training_sets
from lake.views import literal, quote

Columns = dict[str, tuple[str, str]]  # name: (SQL type, expression over the record)

METRICS = {
    **dict.fromkeys(("signal_count", "feature_count", "date_coverage", "n_folds"), "bigint"),
    **dict.fromkeys(("null_rate_avg", "pr_auc", "roc_auc", "brier", "brier_skill", "ece"), "double"),
    **dict.fromkeys(
        ("precision_at_k", "ci_low", "ci_high", "base_rate_brier", "base_rate_roc_auc"), "double"
    ),
}
EXPERIMENT_FIELDS = (
    *(
        "id",
        "version",
        "created_at",
        "status",
        "parent",
        "param_set",
        "params_digest",
        "build_digest",
        "stage",
    ),
    *("model_path", "notes"),
)
REBUILD_FIELDS = (
    *("dataset", "date", "outcome", "message", "recorded_digest", "rebuilt_digest", "noticed_at", "run_id"),
)


def experiments(root: Path) -> str:
    """SELECT of one row per experiment, metrics as columns; empty and typed where there is no file yet."""
    path = root / "lake" / "silver" / "features" / "experiments.json"
    shown: Columns = {
        **{n: ("varchar", quote(n)) for n in EXPERIMENT_FIELDS},
        "created_at": ("timestamp with time zone", "cast(created_at as timestamptz)"),
        **{n: (t, f"metrics.{n}") for n, t in METRICS.items()},
        "tags": ("varchar", "array_to_string(tags, ', ')"),
    }
    shown = {("experiment_id" if n == "id" else n): column for n, column in shown.items()}
    metrics = ", ".join(f"{n} {t}" for n, t in METRICS.items())
    fields = ", ".join(f"{quote(n)} varchar" for n in EXPERIMENT_FIELDS)
    entry = f"struct({fields}, metrics struct({metrics}), tags varchar[])[]"
    scan = f"read_json({literal(path)}, columns = {{experiments: {literal(entry)}}})"
    return _select(
        shown, f"(select unnest(experiments, max_depth := 2) from {scan})" if path.is_file() else None
    )


def rebuilds(root: Path) -> str:
    """SELECT of one row per rebuild of a released date that was compared with it, the newest of each cause."""
    folders = [
        *(root / "lake").glob("silver/features/v*"),
        *(root / "lake").glob("gold/training/candidates/v*"),
    ]
    globs = sorted(
        str(folder / "date=*" / "_metadata" / "rebuild-*.json")
        for folder in folders
        if next(folder.glob("date=*/_metadata/rebuild-*.json"), None)
    )
    shown: Columns = {
        **{n: ("varchar", quote(n)) for n in REBUILD_FIELDS},
        "date": ("date", "cast(date as date)"),
        "columns": ("varchar", "array_to_string(columns, ', ')"),
        "inputs": ("varchar", "array_to_string(inputs, ', ')"),
        "noticed_at": ("timestamp with time zone", "cast(noticed_at as timestamptz)"),
    }
    types = {**dict.fromkeys(REBUILD_FIELDS, "varchar"), "columns": "varchar[]", "inputs": "varchar[]"}
    columns = ", ".join(f"{quote(n)}: {literal(t)}" for n, t in types.items())
    scan = f"read_json({literal(globs)}, columns = {{{columns}}}, hive_partitioning = false)"
    return _select(shown, scan if globs else None)


def _select(shown: Columns, source: str | None) -> str:
    if source is None:
        listed = ", ".join(f"cast(null as {t}) as {quote(n)}" for n, (t, _) in shown.items())
        return f"(select {listed} where false)"
    listed = ", ".join(f"{expression} as {quote(n)}" for n, (_, expression) in shown.items())
    return f"(select {listed} from {source})"


RELATIONS = {
    "experiments": experiments,
    "rebuilds": rebuilds,
    **training_sets.RELATIONS,
    **landing_records.RELATIONS,
}
