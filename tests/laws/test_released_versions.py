"""A released version keeps its word: each way to break it is refused with what changed, and its files stand."""

import re
import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from lake import code, params, release, released
from lake.commits import read_partitions
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, print_at
from tests.fixtures.dbt import Outcome, Project
from tests.fixtures.released import DATES, FOLDER, TRAINING, VERSION, day, make_project

NEXT = "2025-12-17"
LATE = Delivery("late", {"trades": [print_at(at_ns(f"{DATES[0]}T15:30:00"), 27_200, 5)]})
# A print of size 0 in a minute that has prints: another row of bronze and of ticks, the same minutes.
FIRST = day(DATES[0]).rows["trades"][0]
LATE_BUT_EQUAL = Delivery("late", {"trades": [print_at(FIRST["ts_event_ns"], FIRST["price"], 0)]})


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("released") / "project")


@pytest.fixture(scope="module")
def built(original, tmp_path_factory) -> Path:
    """A lake of two sessions with the version released."""
    root = tmp_path_factory.mktemp("built")
    make_bronze(root, map(day, DATES))
    outcome = original.build(root)
    assert outcome.ok, outcome
    release.release(root, VERSION, original.graph(), original.macros())
    return root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


@pytest.fixture
def project(original, tmp_path) -> Project:
    """A copy whose files a test may edit."""
    folder = tmp_path / "project"
    shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("target", "logs"))
    return Project(folder, folder / "target")


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every data file and commit record of the version, training table included."""
    return {
        str(p.relative_to(root)): (p.stat().st_mtime_ns, p.read_bytes())
        for place in (FOLDER, TRAINING)
        for p in (root / place).rglob("*")
        if p.name == "data.parquet" or p.name.startswith("commit-")
    }


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    project.reparse()


def refused(project: Project, lake: Path, *args: str, model: str = "version_a", **variables: str) -> str:
    """The message of a build that must fail at the version alone, and leave its files as they are."""
    before = files(lake)
    assert len(before) == 8
    outcome = project.run(lake, "build", *args, **variables)
    assert not outcome.ok
    assert failures(outcome) == {model}
    assert files(lake) == before
    assert not [*(lake / "lake" / "_stage").glob("*.parquet")]
    return " ".join(outcome.messages[model].split())


def failures(outcome: Outcome) -> set[str]:
    return {name for name, status in outcome.statuses.items() if status in ("error", "fail")}


RELEASED = f"E_RELEASED_CHANGED: {VERSION}, {DATES[0]} is released and a rebuild differs in"
WAY_OUT = "nothing was published: undo that, or make it a version of its own"
FROM_BANDED = (
    f"inputs (silver/datasets/banded/{DATES[0]}, silver/datasets/banded_py/{DATES[0]})",
    "content (first differing columns: scaled, shifted)",
)


# -- ways to break it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        pytest.param(
            *("models/version_a.sql", "banded.scaled,", "banded.scaled + 1 as scaled,"),
            "code (models/version_a.sql) and content (first differing columns: scaled);",
            id="its own SQL",
        ),
        pytest.param(
            *(
                "models/version_a.sql",
                "from {{ ref('banded') }}",
                "from (select * from {{ ref('banded') }} limit 5)",
            ),
            "code (models/version_a.sql) and content (0 rows came, 12 went);",
            id="fewer rows",
        ),
        pytest.param(
            *("models/minutes.sql", "sum(size)", "sum(size) + 1"),
            f"code (models/minutes.sql), {FROM_BANDED[0]} and {FROM_BANDED[1]};",
            id="an upstream model",
        ),
        pytest.param(
            *("models/banded_py.py", "scaled + ", "1 + scaled + "),
            f"code (models/banded_py.py), inputs (silver/datasets/banded_py/{DATES[0]}) and content (first differing "
            "columns: shifted);",
            id="an upstream model in Python",
        ),
        pytest.param(
            *("macros/minute_of.sql", "* 60000000000)", "* 60000000000 + 1)"),
            f"code (macros/minute_of.sql#minute_of), {FROM_BANDED[0]} and content (17 rows came, 17 went);",
            id="a macro",
        ),
    ],
)
def test_an_edit_is_refused(project, lake, file, old, new, named):
    edit(project, file, old, new)
    assert f"{RELEASED} {named} {WAY_OUT}" in refused(project, lake)
    edit(project, file, new, old)
    assert project.build(lake).ok


def test_an_edited_kernel_is_refused(project, lake, monkeypatch):
    """As far as the small project can show it: the hash of a module that an upstream model imports is another."""
    real = code.kernel_code

    def edited(source: str) -> dict[str, str]:
        return {**real(source), **({"physics/band.py": "0" * 64} if "shifted" in source else {})}

    monkeypatch.setattr(code, "kernel_code", edited)
    edit(project, "models/banded_py.py", "scaled + ", "2 + scaled + ")
    told = refused(project, lake)
    assert f"{RELEASED} code (models/banded_py.py, physics/band.py (new)), inputs (" in told


def test_an_edited_parameter_is_refused(original, lake, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(params.PARAMS_DIR, tmp_path / "params"))
    default = folder / "default.yaml"
    default.write_text(re.sub(r"(?m)^W_b: 240\b", "W_b: 120", default.read_text()))
    monkeypatch.setenv("TICKHOUSE_PARAMS_DIR", str(folder))
    told = refused(original, lake)
    assert (
        f"{RELEASED} params (W_b 240 → 120), inputs (silver/datasets/banded_py/{DATES[0]}) and content ("
        in told
    )
    assert "first differing columns: shifted, params_digest" in told


def test_another_param_set_for_the_invocation_is_refused(original, lake):
    told = refused(original, lake, param_set="overnight")
    assert f'{RELEASED} params (--vars param_set: overnight; event_hours "rth" → "all", level_kinds [' in told
    assert "first differing columns: params_digest)" in told
    # A draft takes it.
    versions = read_partitions(lake / "lake/silver/datasets/version_b").values()
    assert {p.commit.params_digest for p in versions} == {params.load("overnight").digest}


def test_a_full_refresh_of_other_content_is_refused_and_of_equal_content_does_nothing(project, lake):
    before = files(lake)
    outcome = project.run(lake, "build", "--full-refresh")
    assert outcome.ok
    assert outcome.messages["version_a"] == outcome.messages["train_a"] == "0 of 2 dates"
    assert outcome.dates()["version_b"] == 2
    assert files(lake) == before
    edit(project, "models/version_a.sql", "banded.scaled,", "banded.scaled * 2 as scaled,")
    span = {"start_date": DATES[1], "end_date": NEXT}
    told = refused(project, lake, "--full-refresh", **span)
    assert f"{VERSION}, {DATES[1]} is released and a rebuild differs in code (models/version_a.sql)" in told


def test_an_edit_of_the_training_table_alone_is_refused(project, lake):
    edit(project, "models/train_a.sql", "scaled,", "scaled - 1 as scaled,")
    told = refused(project, lake, model="train_a")
    assert f"E_RELEASED_CHANGED: training table of {VERSION}, {DATES[0]} is released" in told
    assert "code (models/train_a.sql) and content (first differing columns: scaled)" in told


def test_a_column_more_is_refused(project, lake):
    edit(project, "models/version_a.sql", "banded.scaled,", "banded.scaled, 1 as one,")
    listed = "{name: scaled, data_type: bigint, config: {meta: {group: level}}}"
    edit(project, "models/_models.yml", listed, f"{listed}\n      - {{name: one, data_type: integer}}")
    edit(project, "models/train_a.sql", "scaled,", "scaled, one,")
    told = refused(project, lake)
    assert "first differing columns: one" in told
    assert "models/_models.yml#version_a" in told


# -- late bronze -----------------------------------------------------------------------------------------------------


def warnings(root: Path) -> list[dict]:
    """Rows of the monitoring model, as anybody may ask for them."""
    with duckdb.connect(root / "lake.duckdb", read_only=True) as con:
        return con.execute("from monitoring.version_warnings order by all").to_arrow_table().to_pylist()


def test_late_rows_are_told_and_change_nothing(original, lake):
    before = files(lake)
    assert original.build(lake).ok
    assert warnings(lake) == []
    make_bronze(lake, [LATE])
    outcome = original.build(lake)
    assert outcome.ok, outcome
    assert files(lake) == before
    told = outcome.messages["version_a"]
    assert told.startswith(
        f"0 of 2 dates; E_INPUT_CHANGED: {VERSION}, {DATES[0]} is released and what it was made "
    )
    assert f"bronze/futures_trades/{DATES[0]}/15/part-{LATE.id[:8]}-000.parquet (new)" in told
    assert outcome.dates()["version_b"] == 1  # a draft takes the late rows
    assert "1 rows came, 0 went" in told
    (row,) = warnings(lake)
    assert (str(row["session_date"]), row["warning_code"]) == (DATES[0], "E_INPUT_CHANGED")
    assert row["message"] == told.partition("; ")[2]
    assert "bronze/futures_trades/" in row["changed_inputs"]
    assert row["recorded_digest"] != row["rebuilt_digest"]
    # Told once: the same rebuild is not made a second time.
    again = original.build(lake)
    assert again.ok
    assert again.dates() == {}
    assert again.messages["version_a"] == "0 of 2 dates"
    assert len(warnings(lake)) == 1
    # An error of its own where warnings are none.
    assert failures(original.run(lake, "--warn-error", "build", "--full-refresh")) == {"version_a"}


def test_late_rows_that_change_no_value_are_no_news(original, lake):
    before = files(lake)
    make_bronze(lake, [LATE_BUT_EQUAL])
    outcome = original.build(lake)
    assert outcome.ok, outcome
    assert "version_a" not in outcome.dates()
    assert outcome.messages["version_a"] == "0 of 2 dates"
    assert files(lake) == before


def test_changed_rows_are_told_and_change_nothing(original, lake):
    """The same rows once more from a better source, of another size: they take the hour (spec market 4.3)."""
    before = files(lake)
    rows = [{**row, "size": row["size"] + 1} for row in day(DATES[0]).rows["trades"]]
    make_bronze(lake, [Delivery("again", {"trades": rows}, source="databento_dbn")])
    outcome = original.build(lake)
    assert outcome.ok, outcome
    assert files(lake) == before
    told = outcome.messages["version_a"]
    assert "E_INPUT_CHANGED" in told
    assert "first differing columns: scaled, shifted" in told
    assert "(gone)" in told
    assert "(new)" in told


# -- new dates -------------------------------------------------------------------------------------------------------


def test_new_dates_are_appended_and_stand_from_then_on(original, lake):
    before = files(lake)
    make_bronze(lake, [day(NEXT)])
    built = original.built(lake)
    assert built["version_a"] == built["train_a"] == 1
    after = files(lake)
    assert {name: after[name] for name in before} == before
    assert len(after) == 12
    manifest = yaml.safe_load((lake / FOLDER / "manifest.yaml").read_text())
    assert manifest["status"] == "released"
    assert [d["date"] for d in manifest["dates"]] == [*DATES, NEXT]
    assert set(yaml.safe_load((lake / FOLDER / "params.yaml").read_text())["inputs"]) == {*DATES, NEXT}
    make_bronze(lake, [Delivery("late", {"trades": [print_at(at_ns(f"{NEXT}T15:30:00"), 27_200, 5)]})])
    outcome = original.build(lake)
    assert f"{VERSION}, {NEXT} is released and what it was made from changed" in outcome.messages["version_a"]
    assert files(lake) == after


def test_a_date_released_empty_takes_its_first_rows(project, tmp_path):
    """Prints that make no row are no session yet: its rows come later, once, and by the code of the release."""
    edit(
        project,
        "models/version_a.sql",
        "= banded_py.minute_ns",
        "= banded_py.minute_ns and banded.scaled > 0",
    )
    root = tmp_path / "lake"
    nothing = Delivery("early", {"trades": [print_at(at_ns(f"{NEXT}T15:30:00"), 27_200, 0)]})
    make_bronze(root, [*map(day, DATES), nothing])
    assert project.build(root).ok
    release.release(root, VERSION, project.graph(), project.macros())
    before = files(root)
    make_bronze(root, [day(NEXT)])
    edit(project, "models/version_a.sql", "banded.scaled > 0", "banded.scaled > 1")
    outcome = project.run(root, "build")
    assert f"E_RELEASED_CHANGED: {VERSION}, {NEXT} is released" in outcome.messages["version_a"]
    assert files(root) == before
    edit(project, "models/version_a.sql", "banded.scaled > 1", "banded.scaled > 0")
    built = project.built(root)
    assert built["version_a"] == built["train_a"] == 1
    after = files(root)
    assert {n: after[n] for n in before if NEXT not in n} == {n: before[n] for n in before if NEXT not in n}
    assert len(pq.read_table(root / TRAINING / f"date={NEXT}" / "data.parquet")) > 0
    make_bronze(root, [Delivery("late", {"trades": [print_at(at_ns(f"{NEXT}T15:30:00"), 27_200, 5)]})])
    outcome = project.build(root)
    assert f"{VERSION}, {NEXT} is released and what it was made from changed" in outcome.messages["version_a"]
    assert files(root) == after


def test_no_date_is_appended_by_other_code(project, lake):
    """An edit that changes no row: the released dates are what they were, and still nothing new joins them."""
    make_bronze(lake, [day(NEXT)])
    edit(project, "models/version_a.sql", "banded.scaled,", "banded.scaled + 0 as scaled,")
    told = refused(project, lake)
    assert (
        f"E_RELEASED_APPEND: silver/features/{VERSION} is released and {NEXT} can't be added, as the version differs "
        "in code (models/version_a.sql); undo that, or make it a version of its own"
    ) in told
    edit(project, "models/version_a.sql", "banded.scaled + 0 as scaled,", "banded.scaled,")
    assert project.built(lake)["version_a"] == 1


def test_no_date_is_appended_with_other_params(original, lake, monkeypatch, tmp_path):
    """A parameter that nothing of the small version reads; its digest is no column of the training table here."""
    make_bronze(lake, [day(NEXT)])
    folder = Path(shutil.copytree(params.PARAMS_DIR, tmp_path / "params"))
    default = folder / "default.yaml"
    default.write_text(re.sub(r"(?m)^W_g: 60\b", "W_g: 120", default.read_text()))
    monkeypatch.setenv("TICKHOUSE_PARAMS_DIR", str(folder))
    span = {"start_date": NEXT}
    assert "E_RELEASED_APPEND" in (told := refused(original, lake, **span))
    assert "as the version differs in params (W_g 60 → 120); undo" in told


# -- what a release needs, and what it leaves free -------------------------------------------------------------------


def test_a_draft_is_not_refused(project, lake):
    edit(project, "models/version_b.sql", "banded.scaled,", "banded.scaled + 1 as scaled,")
    assert project.built(lake) == {"version_b": 2}


def test_the_manifest_tells_the_release_whatever_the_checkout_is(project, lake):
    texts = {name: (lake / FOLDER / name).read_text() for name in ("manifest.yaml", "params.yaml")}
    assert yaml.safe_load(texts["manifest.yaml"])["status"] == "released"
    edit(project, "models/minutes.sql", "select", "-- a remark\nselect")
    assert project.build(lake).ok
    assert {name: (lake / FOLDER / name).read_text() for name in texts} == texts
    (lake / FOLDER / "manifest.yaml").unlink()
    assert project.run(lake, "build", "--full-refresh").ok
    manifest = yaml.safe_load((lake / FOLDER / "manifest.yaml").read_text())
    assert manifest["status"] == "released"
    assert manifest["digests"] == yaml.safe_load(texts["manifest.yaml"])["digests"]


def test_what_can_not_be_released_is_told(project, tmp_path):
    root = tmp_path / "fresh"
    make_bronze(root, map(day, DATES))

    def told() -> str:
        with pytest.raises(release.NotReleasable) as caught:
            release.release(root, VERSION, project.graph(), project.macros())
        assert released.state(root, VERSION) == "draft"
        return str(caught.value)

    assert told().startswith(
        f"E_NOT_RELEASABLE: {VERSION} has no date, expected at least one; run `dbt build"
    )
    assert project.run(root, "run").ok
    assert f"2 of 2 dates in version_a that are not ok, the first is {DATES[0]}: not tested since" in told()
    assert project.build(root).ok
    make_bronze(root, [LATE])
    assert "ticks has 1 dates to be built anew, the first is" in told()
    assert project.build(root).ok
    make_bronze(root, [day(NEXT)])
    assert project.run(root, "build", "--exclude", "banded_py").ok
    assert f"silver/datasets/banded_py has 1 dates to be built anew, the first is {NEXT}" in told()
    assert project.build(root).ok
    edit(project, "models/minutes.sql", "sum(size)", "sum(size) + 1")
    assert (
        "is not what its code, params and inputs would make now: silver/datasets/minutes has 3 dates"
        in told()
    )
    edit(project, "models/minutes.sql", "sum(size) + 1", "sum(size)")
    release.release(root, VERSION, project.graph(), project.macros())
    assert released.state(root, VERSION) == "released"
    before = (root / FOLDER / "_metadata" / "release.json").read_bytes()
    release.release(root, VERSION, project.graph(), project.macros())
    assert (root / FOLDER / "_metadata" / "release.json").read_bytes() == before


def test_a_feature_that_says_nothing_is_told(original, tmp_path, monkeypatch):
    root = tmp_path / "fresh"
    make_bronze(root, map(day, DATES))
    assert original.build(root).ok
    monkeypatch.setattr(release.variance, "LEAST_ROWS", 1)
    monkeypatch.setattr(release, "_features", lambda _: ["scaled", "params_digest"])
    with pytest.raises(
        release.NotReleasable, match="1 features that say nothing: params_digest is the same in every"
    ):
        release.release(root, VERSION, original.graph(), original.macros())
    assert released.state(root, VERSION) == "draft"


def test_another_version_is_told(original, lake):
    told = r"version was 'v9.0_x', expected one that this project makes: v1\.0_a"
    with pytest.raises(release.NotReleasable, match=told):
        release.release(lake, "v9.0_x", original.graph(), original.macros())
