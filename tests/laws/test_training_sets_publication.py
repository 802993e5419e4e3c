"""A published version is whole or not there, whatever kills its publication; nothing below it changes."""

from __future__ import annotations

import os
import random
import shutil
from datetime import date
from pathlib import Path

import pytest

from lake import atomic, commits, immutable, retention, runs, training_sets
from lake.immutable import PublishedForGood
from ml.training_sets.publish import file_hash, publish
from tests.fixtures import training_candidates as kit
from tests.fixtures.processes import count_instants, dies_at

NAME = "stop_outcome"
NEXT = "2025-03-02T00:00:00Z"
SAMPLED = 4


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with v1.0.0, and candidates of two more days than it knows."""
    root = tmp_path_factory.mktemp("before")
    kit.commit(root, NAME, kit.rows(NAME, days=6, per_day=5))
    publish(root, NAME, data_through=kit.THROUGH)
    kit.commit(root, NAME, kit.rows(NAME, days=8, per_day=5))
    return root


def versions(root: Path) -> dict[str, str]:
    """What a reader finds of each version: every part there and of the content that the record says."""
    found = {}
    for version in training_sets.published(root, NAME):
        assert {p["path"] for p in version.record["parts"]} == {
            str(p.relative_to(version.folder)) for p in version.folder.rglob("*.parquet")
        }
        for part in version.record["parts"]:
            assert file_hash(version.folder / part["path"]) == part["content_hash"]
        found[version.version] = version.record["dataset_hash"]
    return found


def copy(before: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(before, to)
    return to


def kill_at(before: Path, base: Path, instants: list[int]) -> int:
    """Publish v1.0.1, killed at each of the instants; how many kills came after the move and before the record."""
    truth = copy(before, base / "truth")
    publish(truth, NAME, data_through=NEXT)
    whole = versions(truth)
    between = 0
    for instant in instants:
        root = copy(before, base / "killed")
        died = dies_at(lambda: publish(root, NAME, data_through=NEXT), instant)  # noqa: B023
        found = versions(root)
        assert found in (versions(before), whole)
        assert died or found == whole
        between += (training_sets.set_dir(root, NAME) / "v1.0.1").exists() and found != whole
        publish(root, NAME, "v1.0.1", data_through=NEXT)
        assert versions(root) == whole
        assert not (root / "lake" / "_stage" / f"training_sets.{NAME}").exists()
    return between


def instants(before: Path, base: Path) -> int:
    root = copy(before, base / "counted")
    return count_instants(lambda: publish(root, NAME, data_through=NEXT), base / "count")


def test_killed_publications_leave_whole_versions(before, tmp_path):
    count = instants(before, tmp_path)
    chosen = random.Random(3).sample(range(count), SAMPLED)  # noqa: S311
    # Around the move and the record, every one of them.
    assert kill_at(before, tmp_path, sorted({*chosen, *range(count - 6, count)})) > 0


@pytest.mark.long
def test_a_publication_killed_at_every_instant(before, tmp_path):
    count = instants(before, tmp_path)
    assert kill_at(before, tmp_path, [*range(count)]) > 0


def test_nothing_is_written_below_a_published_version(before, tmp_path):
    root = copy(before, tmp_path / "lake")
    folder = training_sets.set_dir(root, NAME) / "v1.0.0"
    part = folder / training_sets.version(root, NAME).record["parts"][0]["path"]
    stray = tmp_path / "stray.parquet"
    shutil.copy(part, stray)
    seen = versions(root)
    record = commits.read_partitions(root / "lake" / "gold/training_sets/candidates/stop_outcome")[
        None, "2024-12-01"
    ]
    for change in (
        lambda: atomic.replace(stray, part),
        lambda: atomic.write_text(folder / "note.txt", "x"),
        lambda: atomic.write_json(folder / "features.json", {}),
        lambda: atomic.make_dirs(folder / "train" / "date=2030-01-01"),
        lambda: commits.publish(stray, folder / "train" / "date=2024-12-01", record.commit),
        lambda: immutable.refuse(folder),
    ):
        with pytest.raises(
            PublishedForGood, match=r"stop_outcome v1\.0\.0 is published.*training-sets publish"
        ):
            change()
    assert versions(root) == seen
    assert {p.name for p in folder.iterdir()} == {"features.json", "train", "test"}
    # Beside it, and below what is not published, one may write.
    immutable.refuse(training_sets.set_dir(root, NAME) / "v1.0.1" / "features.json")
    immutable.refuse(root / "lake" / "gold" / "training_sets" / "candidates" / NAME / "features.json")
    assert os.access(part, os.R_OK)
    assert part.stat().st_mode & 0o222 == 0


def test_retention_never_takes_a_training_set(before, tmp_path):
    root = copy(before, tmp_path / "lake")
    # A policy that somebody loosened: the guard holds without it.
    policy = retention.Policy("gold/training_sets/*", 0, -1, "date", delete_allowed=True)
    rules = retention.Rules((policy,), frozenset(), date(2030, 1, 1), "gold/training_sets/*")
    seen = versions(root)
    retention.archive(root, rules, runs.new_run_id("retention"))
    rows = retention.delete(root, rules, runs.new_run_id("retention"), yes=True)
    assert not any("v1.0.0" in str(row.unit.partition) for row in rows)
    assert versions(root) == seen
    assert retention.load_rules(date(2030, 1, 1)).policy(f"gold/training_sets/{NAME}").delete_allowed is False
