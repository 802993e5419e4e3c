"""What stands beside datasets: an archived version, and experiments under two writers and in SQL."""

import multiprocessing
import shutil
import tarfile
from pathlib import Path

import duckdb
import pytest
import yaml

from lake import atomic, plan, release, released, version_archive
from ml import experiments
from tests.fixtures.bronze import make_bronze
from tests.fixtures.dbt import Project
from tests.fixtures.released import DATES, FOLDER, TRAINING, VERSION, day, make_project

NEXT = "2025-12-17"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("records") / "project")


@pytest.fixture(scope="module")
def built(project, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("built")
    make_bronze(root, map(day, DATES))
    assert project.build(root).ok
    return root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


# -- archived versions -----------------------------------------------------------------------------------------------


def below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_archived_version_is_one_tar_and_is_not_built_again(project, lake, tmp_path):
    release.release(lake, VERSION, project.graph(), project.macros())
    before, training = below(lake / FOLDER), below(lake / TRAINING)
    record = version_archive.archive(lake, VERSION)
    tar = lake / "lake" / record["path"]
    assert tar == version_archive.tar_path(lake, VERSION)
    with tarfile.open(tar) as packed:
        packed.extractall(tmp_path, filter="data")
    assert below(tmp_path / VERSION) == before
    assert set(below(lake / FOLDER)) == {
        *("manifest.yaml", "params.yaml", "_metadata/release.json", "_metadata/archive.json")
    }
    assert below(lake / TRAINING) == training
    manifest = yaml.safe_load((lake / FOLDER / "manifest.yaml").read_text())
    assert manifest == yaml.safe_load(before["manifest.yaml"]) | {"status": "archived"}

    make_bronze(lake, [day(NEXT)])
    outcome = project.build(lake)
    assert outcome.ok, outcome
    assert outcome.dates() == {"ticks": 1, "minutes": 1, "banded": 1, "banded_py": 1, "version_b": 1}
    assert yaml.safe_load((lake / FOLDER / "manifest.yaml").read_text()) == manifest
    assert below(lake / TRAINING) == training
    assert version_archive.archive(lake, VERSION) == record
    with pytest.raises(release.NotReleasable, match="is archived, expected a draft"):
        release.release(lake, VERSION, project.graph(), project.macros())


def test_params_of_an_archived_version_are_built_no_more(project, lake):
    before = [p.name for p in plan.active_params(project.graph(), (), None, lake)]
    version_archive.archive(lake, VERSION)
    assert sorted(before) == ["atr", "default"]
    assert [p.name for p in plan.active_params(project.graph(), (), None, lake)] == ["atr"]


def test_an_archive_that_was_cut_short_is_finished(project, lake, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(path: Path) -> None:
        raise Killed

    whole = below(lake / FOLDER)
    monkeypatch.setattr(version_archive, "_check", lambda root, record: kill(root))
    with pytest.raises(Killed):
        version_archive.archive(lake, VERSION)
    assert {name: below(lake / FOLDER)[name] for name in whole} == whole
    monkeypatch.undo()
    tar = version_archive.tar_path(lake, VERSION)
    good = tar.read_bytes()
    tar.write_bytes(good[:-1])
    with pytest.raises(version_archive.NotArchivable, match="was not the file that its record names"):
        version_archive.archive(lake, VERSION)
    assert {
        name: below(lake / FOLDER)[name] for name in whole
    } == whole  # nothing goes before its copy is whole
    tar.write_bytes(good)
    version_archive.archive(lake, VERSION)
    assert released.state(lake, VERSION) == "archived"
    assert not [*(lake / FOLDER).glob("date=*")]


def test_what_can_not_be_archived_is_told(lake):
    with pytest.raises(version_archive.NotArchivable, match=r"v9\.0_x has no manifest under"):
        version_archive.archive(lake, "v9.0_x")


# -- experiments -----------------------------------------------------------------------------------------------------


def entry(number: int, **more: object) -> dict:
    return {"id": f"exp{number:03d}", "version": VERSION, **more}


def hammer(root: Path, writer: int, count: int) -> None:
    """Entries of its own, one that both write, and one that one of both completes."""
    for k in range(count):
        experiments.upsert(root, entry(10 + 2 * k + writer, notes=f"of {writer}"))
        experiments.upsert(root, entry(1, tags=[f"{writer}.{k}"]))
        try:
            status = "completed" if k == count // 2 else "running"
            experiments.upsert(root, entry(2, status=status, notes=f"{writer}"))
        except experiments.ExperimentIsFinal:
            pass
        atomic.read_json(experiments.index_path(root))  # whole at every instant


def test_two_writers_lose_nothing(tmp_path):
    count = 40
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=hammer, args=(tmp_path, writer, count)) for writer in (0, 1)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0, 0]
    entries = {e["id"]: e for e in experiments.read_index(tmp_path)}
    own = {f"exp{10 + 2 * k + w:03d}": f"of {w}" for w in (0, 1) for k in range(count)}
    assert {i: entries[i]["notes"] for i in own} == own
    assert list(entries) == sorted(entries)
    assert entries["exp001"]["tags"] in ([f"0.{count - 1}"], [f"1.{count - 1}"])
    assert entries["exp002"]["status"] == "completed"
    assert not [*experiments.index_path(tmp_path).parent.glob("._tmp-*")]


def test_experiments_are_read_in_sql(project, lake):
    def shown() -> list[dict]:
        with duckdb.connect(lake / "lake.duckdb", read_only=True) as con:
            return (
                con.execute("from monitoring.experiments order by experiment_id").to_arrow_table().to_pylist()
            )

    assert project.run(lake, "run", "--select", "experiments").ok
    assert shown() == []
    experiments.upsert(
        lake, entry(1, metrics={"signal_count": 3, "roc_auc": 0.5}, tags=["x", "y"], stage="touch")
    )
    experiments.upsert(lake, entry(2, parent="exp001"))
    assert project.run(lake, "run", "--select", "minutes").ok  # every run makes the views anew
    first, second = shown()
    assert (first["experiment_id"], first["signal_count"], first["roc_auc"], first["brier"]) == (
        "exp001",
        3,
        0.5,
        None,
    )
    assert (first["tags"], first["stage"], first["status"]) == ("x, y", "touch", "running")
    assert first["created_at"].strftime("%Y-%m-%dT%H:%M:%SZ") == experiments.read_index(lake)[0]["created_at"]
    assert (second["parent"], second["tags"]) == ("exp001", "")
    # The view looks at the file each time it is asked.
    experiments.upsert(lake, entry(1, status="failed"))
    assert [row["status"] for row in shown()] == ["failed", "running"]
