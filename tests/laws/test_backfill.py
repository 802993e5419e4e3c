"""Backfill: a sibling is made, tested and compared beside what readers see; one record swaps it in, and back."""

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from lake import active, backfill, commits, datasets
from tests.fixtures.dbt import Project, keyed_project
from tests.fixtures.processes import count_instants, dies_at
from tests.fixtures.tokens import event, land_events
from tests.laws.test_dataset_path_keys import D1, D2, D3, D4, FOLDED, first_days, view

DATASET = "tokens_folded"
RANGE = (D1, D3)  # D3 is a copy


@pytest.fixture(scope="module", autouse=True)
def _dataset():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active, "DATASETS", {DATASET: FOLDED})
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("backfill")
    land_events(root, first_days(), "first.ndjson")
    outcome = keyed_project().run(root, "build")
    assert outcome.ok, outcome
    return root


@pytest.fixture(scope="module")
def edited(tmp_path_factory) -> Project:
    return doubled(tmp_path_factory.mktemp("edited") / "project")


def doubled(folder: Path) -> Project:
    """The project with another fold: quantities count twice, and a token of client 2 is no more."""
    shutil.copytree(keyed_project().folder, folder, ignore=shutil.ignore_patterns("target", "logs"))
    model = folder / "models" / "tokens_folded.sql"
    text = model.read_text()
    assert (
        text.count("sum(quantity)") == text.count("group by client_id, execution_token\n\n)\n\nselect") == 1
    )
    text = text.replace("sum(quantity)", "2 * sum(quantity)")
    model.write_text(text.replace("where {{", "where folded.execution_token != 'b' and {{"))
    return Project(folder, folder / "target")


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


@pytest.fixture(scope="module")
def made(built, edited, tmp_path_factory) -> tuple[Path, backfill.Report, bool]:
    """A lake with version 2 beside version 1, what was told of it, and whether all else is as it was."""
    root = Path(shutil.copytree(built, tmp_path_factory.mktemp("made") / "lake"))
    before = snapshot(root)
    report = run(root, edited)
    return root, report, snapshot(root) == before


@pytest.fixture
def sibling(made, tmp_path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "sibling"))


def run(
    root: Path, project: Project, *, target: int = 2, span: tuple = RANGE, **options: bool
) -> backfill.Report:
    return backfill.run(root, backfill.Request(DATASET, *span, target, **options), project_dir=project.folder)


def swap(root: Path, project: Project, to: int) -> int:
    return backfill.swap(root, DATASET, to, project_dir=project.folder, target_path=project.target)


def snapshot(root: Path) -> dict[str, tuple]:
    """Every file of the lake but stage, runs and the sibling: its inode and time of change."""
    found = {}
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if (
            path.is_file()
            and not {"_stage", "runs", "logs"} & set(parts)
            and not any("_v2" in part for part in parts)
        ):
            found["/".join(parts)] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def quantities(root: Path) -> list[tuple]:
    columns = "client_id, execution_token, quantity::int, date::varchar"
    return view(root, f"select {columns} from silver.tokens_folded order by all")


OLD = [(1, "a", 2, D1), (1, "c", 1, D3), (1, "over", 2, D1), (2, "b", 1, D2), (2, "c", 1, D3)]
NEW = [(1, "a", 4, D1), (1, "c", 1, D3), (1, "over", 4, D1), (2, "c", 1, D3)]


def test_a_sibling_is_made_beside_what_readers_see_and_told_row_by_row(made):
    lake, report, is_as_before = made
    assert is_as_before
    assert report.problem is None
    assert [(row.dataset, row.computed, row.copied) for row in report.rows] == [
        ("silver/datasets/day_after", 2, 1), (FOLDED, 2, 1),
    ]  # fmt: skip
    folded = next(d for d in report.diff["datasets"] if d["dataset"] == FOLDED)
    assert (folded["added"], folded["removed"], folded["changed"]) == (0, 1, 2)
    assert folded["columns"] == {"quantity": 2}
    doubled = {"quantity": ["2.00000000", "4.00000000"]}
    assert [(row["key"]["execution_token"], row["change"], row["columns"]) for row in folded["rows"]] == [
        ("a", "changed", doubled), ("over", "changed", doubled), ("b", "removed", {}),
    ]  # fmt: skip
    folder = lake / f"lake/{FOLDED}_v2"
    assert json.loads((folder / "_metadata/diff.json").read_text()) == report.diff
    assert "| silver/datasets/tokens_folded | quantity | 2 |" in (folder / "_metadata/diff.md").read_text()
    found = commits.read_partitions(folder)
    copied = {date: p.commit.extra.get("copied_from") for (_, date), p in found.items()}
    assert copied == {
        D1: None,
        D2: None,
        D3: FOLDED,
    }
    assert {p.commit.dataset for p in found.values()} == {f"{FOLDED}_v2"}
    assert {p.status()["status"] for p in found.values()} == {"ok"}
    assert quantities(lake) == OLD


def test_a_swap_shows_the_sibling_builds_go_on_in_it_and_another_goes_back(sibling, edited):
    lake = sibling
    assert swap(lake, edited, 2) == 1
    assert quantities(lake) == NEW
    outcome = edited.run(lake, "run")
    assert outcome.ok, outcome
    # What reads it from outside follows its content; nothing of it is due, the copy included, whose code is another.
    assert outcome.dates() == {"running_total": 3}
    land_events(lake, [event(f"{D4}T10:00", "d")], "more.ndjson")
    outcome = edited.run(lake, "run")
    assert outcome.dates()["tokens_folded"] == 1
    assert quantities(lake) == [*NEW[:2], (1, "d", 2, D4), *NEW[2:]]
    assert not (lake / f"lake/{FOLDED}/_metadata/date={D4}").exists()
    assert (lake / f"lake/{FOLDED}_v2/_metadata/date={D4}").exists()
    # An event of a copied date makes it anew by the code of now.
    land_events(lake, [event(f"{D3}T13:00", "c", 2)], "late.ndjson")
    assert edited.run(lake, "run").dates()["tokens_folded"] == 1
    assert (2, "c", 4, D3) in quantities(lake)
    assert swap(lake, edited, 1) == 2
    assert quantities(lake) == OLD


def test_readers_by_record_follow_the_swap(sibling, edited):
    lake = sibling
    swap(lake, edited, 2)
    swap(lake, edited, 2)  # once more makes the views anew and changes nothing
    content = json.loads(active.record_path(lake, DATASET).read_text())
    assert (content["version"], content["previous"], content["published"]) == (2, 1, [1, 2])
    table = datasets.read(lake, FOLDED, ["execution_token"])
    assert sorted(table["execution_token"].to_pylist()) == ["a", "c", "c", "over"]
    with pytest.raises(backfill.BackfillError, match="version 2 of tokens_folded was published"):
        run(lake, edited, overwrite=True)
    for to in (0, 3):
        with pytest.raises(backfill.BackfillError, match="expected one that is there: 1, 2"):
            swap(lake, edited, to)


def test_a_dry_run_writes_nothing(lake, edited):
    before = snapshot(lake)
    rows = backfill.preview(lake, backfill.Request(DATASET, *RANGE, 2), project_dir=edited.folder)
    assert [(row.sibling, row.computed, row.copied) for row in rows][-1] == (f"{FOLDED}_v2", 2, 1)
    assert snapshot(lake) == before
    assert not (lake / f"lake/{FOLDED}_v2").exists()


def test_a_version_made_anew_whose_data_tests_fail_is_not_swapped_in(sibling, edited, tmp_path):
    lake = sibling
    ignored = shutil.ignore_patterns("target", "logs")
    folder = Path(shutil.copytree(edited.folder, tmp_path / "failing", ignore=ignored))
    test = folder / "macros" / "positive.sql"
    test.write_text(test.read_text().replace("<= 0", "> 0"))
    with pytest.raises(
        backfill.BackfillError, match=r"version 2 of tokens_folded exists, of .*overwrite makes it anew"
    ):
        run(lake, edited)
    report = run(lake, Project(folder, folder / "target"), span=(D1, D2), overwrite=True)
    assert report.rows[-1].copied == 2
    assert "positive_tokens_folded" in report.problem
    assert {p.status()["status"] for p in commits.read_partitions(lake / "lake" / FOLDED).values()} == {"ok"}
    with pytest.raises(
        backfill.BackfillError, match="version 2 of tokens_folded can't be swapped in: dbt test failed"
    ):
        swap(lake, edited, 2)
    assert not active.record_path(lake, DATASET).exists()


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (("stop_losses", D1, D2, 2), "dataset was stop_losses, expected tokens_folded"),
        ((DATASET, "tomorrow", D2, 2), "start was 'tomorrow', expected a date such as 2024-12-01"),
        ((DATASET, D1, "2024-13-01", 2), "end was '2024-13-01', expected a date such as 2024-12-01"),
        (
            (DATASET, D2, D2, 2),
            "start was 2024-12-02, expected one before end = 2024-12-02, which is exclusive",
        ),
        ((DATASET, D1, D2, 1), "target version was 1, expected 2 or more"),
    ],
)
def test_what_can_not_be_asked_for_is_refused(lake, request_, told):
    with pytest.raises(backfill.BackfillError, match=told):
        backfill.preview(lake, backfill.Request(*request_))


# -- kills -------------------------------------------------------------------------------------------------------------


def kill_swap(lake: Path, project: Project, tmp_path: Path, sample: int | None) -> None:
    def work(root: Path) -> None:
        swap(root, project, 2)

    whole = Path(shutil.copytree(lake, tmp_path / "whole"))
    count = count_instants(lambda: work(whole), tmp_path / "count")
    instants = range(count)
    if sample:
        instants = sorted(random.Random(2).sample(instants, sample))  # noqa: S311
    for instant in instants:
        root = Path(shutil.copytree(lake, tmp_path / "killed"))
        assert dies_at(lambda root=root: work(root), instant)
        assert quantities(root) in (OLD, NEW)
        assert active.version(root, DATASET) in (1, 2)
        work(root)
        assert quantities(root) == NEW
        shutil.rmtree(root)


def test_a_kill_of_a_swap_leaves_one_version_to_every_reader(sibling, edited, tmp_path):
    kill_swap(sibling, edited, tmp_path, 1)


@pytest.mark.long
def test_a_kill_of_a_swap_at_any_instant(sibling, edited, tmp_path):
    kill_swap(sibling, edited, tmp_path, None)


def kill_backfill(lake: Path, made: Path, project: Project, tmp_path: Path, instants: Iterable[int]) -> None:
    names, gone_on = snapshot(lake).keys(), 0
    for instant in instants:
        root = Path(shutil.copytree(lake, tmp_path / f"killed{instant}"))
        assert dies_at(lambda root=root: run(root, project), instant)
        assert snapshot(root).keys() == names
        assert quantities(root) == OLD
        if not is_whole(root):
            with pytest.raises(backfill.BackfillError):
                swap(root, project, 2)
            run(root, project)
            gone_on += 1
        assert is_whole(root)
        assert sibling_digests(root) == sibling_digests(made)
        shutil.rmtree(root)
    assert gone_on


def is_whole(root: Path) -> bool:
    state = backfill.state_of(root, DATASET, 2)
    return state is not None and state["state"] == "complete"


def sibling_digests(root: Path) -> dict[tuple, str]:
    found = commits.read_partitions(root / f"lake/{FOLDED}_v2")
    return {key: p.commit.content_digest for key, p in found.items()}


def test_a_killed_backfill_is_gone_on_with(lake, made, edited, tmp_path):
    kill_backfill(
        lake, made[0], edited, tmp_path, [60]
    )  # between the first date that is computed and the last


@pytest.mark.long
def test_backfills_killed_many_times_are_gone_on_with(lake, made, edited, tmp_path):
    counted = Path(shutil.copytree(lake, tmp_path / "counted"))
    count = count_instants(lambda: run(counted, edited), tmp_path / "count")
    kill_backfill(lake, made[0], edited, tmp_path, random.Random(3).sample(range(count), 12))  # noqa: S311
