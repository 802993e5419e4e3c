"""Accepted, rejected and filtered add up to what was read, as rows and receipts say it and as a plain count of the
sources does; what is sent again changes nothing; and nothing is complete that isn't.
"""

import datetime
import gzip
import hashlib
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zstandard

from ingest import dbn
from ingest.window_schema import WINDOW_SCHEMAS
from lake.bronze import visible_files
from lake.windows import read_markers, visible_parts
from tests.fixtures import loaders
from tests.fixtures.lake_state import rejects, state
from tests.fixtures.loaders import API_LOADERS, DBN_ROWS, FILE_LOADERS, SAMPLED, Loader
from tests.fixtures.quiet import assert_same
from tests.unit.ingest import dbn_kit

DATASETS = (*FILE_LOADERS, *API_LOADERS)


def receipts(root: Path) -> list[dict]:
    """Of files; the requests that brought them have none of these counts."""
    found = [json.loads(path.read_text()) for path in sorted((root / "raw" / "_metadata").glob("*.json"))]
    return [receipt for receipt in found if "sha256" in receipt]


def rows_on_disk(root: Path) -> int:
    """As the files of readers hold them; that they are whole is another law."""
    windows = sum(part.part.rows for name in WINDOW_SCHEMAS for part in visible_parts(root, name))
    return windows + sum(file.rows for file in visible_files(root))


def plain_count(path: Path) -> int:
    """Records of a source file, without any code of ours."""
    data = path.read_bytes()
    if path.name.endswith(".dbn.zst"):
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        body = data[8 + int.from_bytes(data[4:8], "little") :]
        return len(body) // (4 * body[0])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            data = archive.read(archive.namelist()[0])
    if path.suffix == ".gz":
        return len(gzip.decompress(data).splitlines()) - 1  # the header
    return len(data.splitlines())


@pytest.mark.parametrize("loader", DATASETS, ids=repr)
def test_what_was_read_is_accepted_rejected_or_filtered(loader: Loader, quiet, tmp_path: Path) -> None:
    made, root = quiet(loader), tmp_path / "lake"
    with loader.serving():
        made.run(root)
    landed = [r for r in receipts(root) if r["status"] == "landed"]
    assert landed
    for receipt in landed:
        parts = receipt["accepted_count"] + receipt["rejected_count"] + receipt.get("filtered_count", 0)
        assert parts == receipt["record_count"], receipt["path"]
    assert sum(r["accepted_count"] for r in landed) == rows_on_disk(root)
    kept_aside = rejects(root)
    assert sum(r["rejected_count"] for r in landed) == len(kept_aside)
    assert all(rule and reason and raw is not None for *_, rule, reason, raw in kept_aside)
    assert len({row[2:4] for row in kept_aside}) == len(kept_aside), "a line is kept aside once"
    if loader in FILE_LOADERS:
        assert kept_aside
        by_sha256 = {
            hashlib.sha256(path.read_bytes()).hexdigest(): path
            for name in ("a", "b")
            for path in (made.sources / name).iterdir()
        }
        assert {r["sha256"] for r in landed} == set(by_sha256)
        for receipt in landed:
            assert receipt["record_count"] == plain_count(by_sha256[receipt["sha256"]])


@pytest.mark.parametrize("loader", FILE_LOADERS, ids=repr)
def test_a_share_of_bad_rows_above_the_limit_refuses_the_file(
    loader: Loader, quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit of none, files with a bad row go to quarantine and leave no row; the others land."""
    made, root = quiet(loader), tmp_path / "lake"
    allowed, strict = tmp_path / "allowed", Counter()
    made.run(allowed)
    monkeypatch.setattr(loaders, "MAX_BAD", 0.0)
    made.run(root)
    clean = {r["sha256"]: r for r in receipts(allowed) if r["status"] == "landed" and not r["rejected_count"]}
    for receipt in receipts(root):
        strict[receipt["status"]] += 1
        assert (receipt["status"] == "landed") == (receipt["sha256"] in clean)
    assert strict["quarantined"] >= 2
    assert rejects(root) == []
    assert rows_on_disk(root) == sum(r["accepted_count"] for r in clean.values())
    assert len(list((root / "raw" / "_quarantine").iterdir())) == strict["quarantined"]


@pytest.mark.parametrize("loader", FILE_LOADERS, ids=repr)
def test_a_file_that_is_not_whole_is_told_and_lands_no_row(loader: Loader, quiet, tmp_path: Path) -> None:
    made, root = quiet(loader), tmp_path / "lake"
    shutil.copytree(made.sources / "bad", tmp_path / "in" / "b")
    loader.run_b(root, tmp_path / "in")
    (receipt,) = receipts(root)
    assert receipt["status"] == "quarantined"
    assert "expected" in receipt["reason"]
    assert rows_on_disk(root) == 0
    assert not [m for name in WINDOW_SCHEMAS for m in read_markers(root, name)]


@pytest.mark.parametrize("loader", DATASETS, ids=repr)
def test_what_is_sent_again_changes_nothing(loader: Loader, quiet, tmp_path: Path) -> None:
    made, root = quiet(loader), tmp_path / "lake"
    with loader.serving():
        made.run(root)
        before = state(root)
        made.run(root)
        assert_same(state(root), before)
        if loader in FILE_LOADERS:
            # under other names, too
            for path in (made.sources / "b").iterdir():
                (tmp_path / "in" / "b").mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / "in" / "b" / path.name.replace(".", "-again.", 1))
            loader.run_b(root, tmp_path / "in")
            assert_same(state(root, any_order=True), made.after("again", made.run, any_order=True))


@pytest.mark.parametrize("loader", [each for each in SAMPLED if each.values[0].run_b])
def test_the_order_of_sources_and_windows_does_not_matter(loader: Loader, quiet) -> None:
    """For an API: the second window overlaps the first, and one comes before the other or after it."""
    made = quiet(loader)
    assert_same(made.after("b first", made.run_b, made.run, any_order=True), made.expected_both)


@pytest.mark.parametrize("schema", DBN_ROWS)
def test_a_dbn_file_without_records_leaves_a_record_of_its_day(schema: str, tmp_path: Path) -> None:
    empty = np.zeros(0, DBN_ROWS[schema](1).dtype)
    path = dbn_kit.write_dbn(tmp_path / f"empty.{schema}.dbn.zst", schema, empty)
    (file,) = dbn.ingest(tmp_path / "lake", [path]).files
    assert (file.status, file.rows) == ("landed", 0)
    found = [
        json.loads(p.read_text()) for p in (tmp_path / "lake" / "lake" / "bronze").rglob("commit-*.json")
    ]
    assert [(r["date"], r["files"]) for r in found] == [(datetime.date(2025, 12, 15).isoformat(), [])]
