"""Which dates of a dataset have no open window: a cache of what the markers say, so that sealing costs what is new.

It may be deleted at any time. Whoever writes a provisional marker takes the date out first. Call under the dataset's
lock. Source: spec/execution.md 3.1 ("a checkpoint is a cache").
"""

from __future__ import annotations

from pathlib import Path

from lake import atomic
from lake.paths import stage_dir


def checkpoint_path(root: Path, dataset: str) -> Path:
    return stage_dir(root) / f"closed-{dataset}.json"


def closed_dates(root: Path, dataset: str) -> set[str]:
    """Dates that were seen without a provisional window."""
    path = checkpoint_path(root, dataset)
    return set(atomic.read_json(path)["dates"]) if path.is_file() else set()


def write_closed(root: Path, dataset: str, dates: set[str]) -> None:
    if dates != closed_dates(root, dataset):
        atomic.write_json(checkpoint_path(root, dataset), {"dates": sorted(dates)})


def reopen(root: Path, dataset: str, date: str) -> None:
    """A date is about to get a provisional window."""
    dates = closed_dates(root, dataset)
    if date in dates:
        write_closed(root, dataset, dates - {date})
