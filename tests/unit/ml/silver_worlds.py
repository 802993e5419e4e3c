"""Feature versions put on disk by hand: a few columns, their training table, manifest and params."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lake import atomic, code, commits, params, versions
from lake.digest import table_digest

DATES = ("2025-12-15", "2025-12-16")
FILES = {"models/a.sql": "a" * 64}


def commit(root: Path, dataset: str, date: str, table: pa.Table) -> commits.Partition:
    staged = root / "x.parquet"
    pq.write_table(table, staged)
    folder = root / "lake" / dataset / f"date={date}"
    partition = commits.publish(
        staged,
        folder,
        commits.Commit(
            dataset=dataset,
            date=date,
            params_digest=params.load("default").digest,
            rows=table.num_rows,
            bytes=staged.stat().st_size if staged.exists() else 1,
            content_digest=table_digest(table),
            build_key="1" * 64,
            code_digest="2" * 64,
            inputs={f"silver/datasets/physics/{date}": "3" * 64},
            input_digest=code.sha256_text(date),
            build_digest="4" * 64,
            built_at=f"{date}T20:00:00Z",
            run_id="20251216T200000Z_build_000000",
        ),
    )
    commits.mark(partition, True, None, partition.commit.run_id)
    return partition


def put_version(
    root: Path, name: str, columns: Mapping[str, Sequence[object]], param_set: str = "default"
) -> None:
    """A version of two equal dates whose features are ``columns``, each in the group ``tape_physics``."""
    folder = root / "lake" / "silver" / "features" / name
    atomic.make_dirs(folder)
    rows = len(next(iter(columns.values())))
    table = pa.table({"event_id": [f"e{i}" for i in range(rows)], **columns})
    for date in DATES:
        commit(root, f"silver/features/{name}", date, table)
    number, _, slug = name.removeprefix("v").partition("_")
    meaning = {
        "version": f"{number}.0",
        "name": slug,
        "description": "By hand.",
        "parent_version": None,
        "source": {"layer": "bronze", "schemas": ["futures/trades"]},
        "param_set": param_set,
        "features": {"groups": [{"tape_physics": {"columns": [*columns], "dependencies": []}}]},
        "parameters": {},
    }
    found = [*commits.read_partitions(folder).values()]
    versions.write_manifest(folder, meaning, params.load(param_set), FILES, found)


def put_training(root: Path, name: str, outcomes: Sequence[str], tradeable_2: Sequence[int]) -> None:
    """Labels of one date, half of the rows of stage ``touch``, the other half of ``confirm_120``."""
    half = len(outcomes) // 2
    table = pa.table(
        {
            "stage": ["touch"] * half + ["confirm_120"] * (len(outcomes) - half),
            "outcome": outcomes,
            "tradeable_1": [1] * len(outcomes),
            "tradeable_2": tradeable_2,
        }
    )
    commit(root, f"gold/training/candidates/{name}", DATES[0], table)
