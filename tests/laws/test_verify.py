"""`verify` builds a version again elsewhere: equal digests on any number of threads, without silver, or the names."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from lake import params, release, verify
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, print_at
from tests.fixtures.dbt import Project
from tests.fixtures.released import DATES, FOLDER, VERSION, day, make_project

SET, TABLE = f"silver/features/{VERSION}", f"gold/training/candidates/{VERSION}"
DATASETS = ("banded", "banded_py", "minutes", "ticks")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("verified") / "project")


@pytest.fixture(scope="module")
def built(project, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("built")
    make_bronze(root, map(day, DATES))
    assert project.build(root).ok
    release.release(root, VERSION, project.graph(), project.macros())
    return root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


def state(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def check(project: Project, root: Path, **options: object) -> verify.Report:
    before = state(root)
    report = verify.verify(root, VERSION, project_dir=project.folder, **options)
    assert state(root) == before
    return report


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_rebuild_is_equal_on_any_number_of_threads(project, built, threads):
    told: list[str] = []
    report = check(project, built, threads=threads, on_node=told.append)
    assert {(r.dataset, r.date) for r in report.rows} == {
        (dataset, date)
        for dataset in (SET, TABLE, *(f"silver/datasets/{name}" for name in DATASETS))
        for date in DATES
    }
    assert [r.dataset for r in report.rows[-4:]] == [SET, SET, TABLE, TABLE]
    assert report.is_equal
    assert (report.code, report.bronze, report.engines) == ([], [], [])
    assert sorted(told) == sorted([*DATASETS, "train_a", "version_a"])


def test_silver_is_not_needed(project, lake):
    shutil.rmtree(lake / "lake/silver/datasets")
    assert check(project, lake).is_equal


def test_the_params_on_record_are_used(project, lake, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(params.PARAMS_DIR, tmp_path / "params"))
    default = folder / "default.yaml"
    default.write_text(re.sub(r"(?m)^W_b: 240\b", "W_b: 120", default.read_text()))
    monkeypatch.setenv("TICKHOUSE_PARAMS_DIR", str(folder))
    assert params.load("default").values["W_b"] == 120
    report = check(project, lake)
    assert report.is_equal
    assert report.rows


def test_late_bronze_and_other_code_are_named(project, lake, tmp_path):
    make_bronze(lake, [Delivery("late", {"trades": [print_at(at_ns(f"{DATES[0]}T15:30:00"), 27_200, 5)]})])
    other = Project(tmp_path / "project", tmp_path / "project" / "target")
    shutil.copytree(project.folder, other.folder, ignore=shutil.ignore_patterns("target", "logs"))
    model = other.folder / "models" / "banded.sql"
    model.write_text(model.read_text().replace("volume *", "1 + volume *"))
    report = check(other, lake)
    assert not report.is_equal
    assert report.code == ["models/banded.sql"]
    assert [name.split("/")[-2:] for name in report.bronze] == [["15", report.bronze[0].rpartition("/")[2]]]
    assert report.bronze[0].endswith("(new)")
    differing = {(r.dataset.rpartition("/")[2], r.date) for r in report.rows if not r.is_equal}
    assert differing == {
        *((name, DATES[0]) for name in ("ticks", "minutes", "banded_py")),
        *((name, date) for name in ("banded", VERSION) for date in DATES),
        ("banded_py", DATES[1]),
    }


def test_what_can_not_be_verified_is_told(project, lake):
    with pytest.raises(
        verify.NotVerifiable, match=r"v9\.0_x has no manifest\.yaml .*, expected a built version"
    ):
        verify.verify(lake, "v9.0_x", project_dir=project.folder)
    path = lake / FOLDER / "params.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"resolved": content["resolved"] | {"W_b": 120}}))
    with pytest.raises(verify.NotVerifiable, match="but its values have"):
        verify.verify(lake, VERSION, project_dir=project.folder)
