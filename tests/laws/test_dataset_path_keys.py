"""Datasets with keys beside the date, and dates that read what indexes say: by pieces as at once, whatever dies."""

import random
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from ingest.window_seal import seal_through
from lake import commits, datasets
from lake.paths import stage_dir
from tests.fixtures.dbt import Project, keyed_project
from tests.fixtures.lakes import contents, digests
from tests.fixtures.processes import count_instants, dies_at
from tests.fixtures.tokens import event, land_events

D1, D2, D3, D4 = "2024-12-01", "2024-12-02", "2024-12-03", "2024-12-04"
FOLDED = "silver/datasets/tokens_folded"


def first_days() -> list[dict]:
    """Two clients; one token crosses midnight; a symbol that no path can have as it is."""
    return [
        event(f"{D1}T10:00", "a"),
        event(f"{D1}T10:05", "a"),
        event(f"{D1}T23:59", "over"),
        event(f"{D2}T00:01", "over"),
        event(f"{D2}T12:00", "b", 2),
        event(f"{D3}T12:00", "c", 1, symbol="A/B=%C"),
        event(f"{D3}T12:00", "c", 2),
    ]


def late() -> list[dict]:
    """An event that makes a token of D3 one of D1, where client 2 had none; D3 keeps the other client's."""
    return [event(f"{D4}T01:00", "c", 2, at=f"{D1}T05:00")]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("keyed")
    land_events(root, first_days(), "first.ndjson")
    outcome = keyed_project().run(root, "build")
    assert outcome.ok, outcome
    return root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


def run(root: Path, *args: str, project: Project | None = None, **variables: str) -> dict[str, int]:
    outcome = (project or keyed_project()).run(root, "run", *args, **variables)
    assert outcome.ok, outcome
    return outcome.dates()


def seen(root: Path) -> dict:
    return digests(root, keyed_project().datasets())


def view(root: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(root / "lake.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def paths(root: Path, folder: str = FOLDED) -> list[str]:
    found = (
        p.parent.relative_to(root / "lake" / folder) for p in (root / "lake" / folder).rglob("*.parquet")
    )
    return sorted(map(str, found))


def test_a_date_has_one_file_for_each_key_and_one_record(built):
    assert paths(built) == [
        f"client_id=1/date={D1}", f"client_id=1/date={D3}", f"client_id=2/date={D2}", f"client_id=2/date={D3}",
    ]  # fmt: skip
    found = commits.read_partitions(built / "lake" / FOLDED)
    assert {date for _, date in found} == {D1, D2, D3}
    third = found[None, D3]
    assert [f.key for f in third.key_files] == [{"client_id": "1"}, {"client_id": "2"}]
    assert third.commit.rows == 2
    assert third.status()["status"] == "ok"
    contents(built, keyed_project().datasets())


def test_a_view_shows_the_keys_in_their_types_and_reads_only_the_files_of_a_key(built):
    rows = view(
        built,
        "select client_id, execution_token, events, date::varchar from silver.tokens_folded order by all",
    )
    assert rows == [(1, "a", 2, D1), (1, "c", 1, D3), (1, "over", 2, D1), (2, "b", 1, D2), (2, "c", 1, D3)]
    assert view(built, "select typeof(client_id), typeof(date) from silver.tokens_folded limit 1") == [
        ("BIGINT", "DATE")
    ]
    assert view(built, "select min(client_id), max(date)::varchar from silver.tokens_folded") == [(1, D3)]
    plan = str(
        view(
            built,
            "explain analyze select * from silver.tokens_folded where client_id = 2 and date > '2024-12-02'",
        )
    )
    assert "Scanning Files: 1/4" in plan or "Total Files Read: 1" in plan, plan


def test_a_text_that_no_path_can_have_is_shown_as_it_was(built):
    rows = view(built, "select symbol, name from silver.day_after where date = '2024-12-03' order by all")
    assert rows == [("A/B=%C", "c-1"), ("BTCUSDC", "c-2")]


def test_readers_by_record_see_the_keys(built):
    table = datasets.read(built, FOLDED, ["client_id", "execution_token"])
    assert table.drop_columns("date").to_pydict() == {
        "client_id": [1, 1, 2, 1, 2],
        "execution_token": ["a", "over", "b", "c", "c"],
    }
    assert datasets.read(built, FOLDED).column_names[:2] == ["date", "client_id"]


def test_a_token_over_midnight_is_one_row_of_its_first_date_and_stays_when_nothing_comes(lake):
    before = seen(lake)
    assert run(lake) == {}
    assert seen(lake) == before


def test_a_token_that_moves_leaves_a_date_and_enters_another(lake):
    land_events(lake, late(), "late.ndjson")
    built = run(lake)
    assert (built["tokens_folded"], built["running_total"]) == (2, 3)
    assert view(
        lake,
        "select date::varchar, events from silver.tokens_folded where client_id = 2 and execution_token = 'c'",
    ) == [(D1, 2)]
    assert f"client_id=2/date={D3}" not in paths(lake)
    assert run(lake) == {}


def test_by_pieces_equals_at_once(lake, tmp_path):
    land_events(lake, late(), "late.ndjson")
    run(lake)
    scratch = tmp_path / "scratch"
    land_events(scratch, first_days() + late(), "all.ndjson")
    run(scratch)
    assert seen(scratch) == seen(lake)
    before = seen(lake)
    assert run(lake, "--full-refresh")["tokens_folded"] == 3
    assert seen(lake) == before


# -- dates that come and go --------------------------------------------------------------------------------------------


def test_a_date_that_its_tokens_left_is_empty_and_has_no_file(lake, tmp_path):
    # The only token of D2 turns out to have begun on D1.
    moved = event(f"{D3}T01:00", "b", 2, at=f"{D1}T01:00")
    land_events(lake, [moved], "late.ndjson")
    assert run(lake)["tokens_folded"] == 3  # D3 as well, which reads the date that has another event
    assert_empty(lake, D2)
    scratch = tmp_path / "scratch"
    land_events(scratch, [*first_days(), moved], "all.ndjson")
    run(scratch)
    assert seen(scratch) == seen(lake)


def test_a_date_that_no_index_names_any_more_is_empty_and_stays(lake):
    """As when a provisional window came again without the rows that it had."""
    (lake / f"lake/bronze/events/date={D2}/_metadata/commit-12.json").unlink()
    land_events(lake, [event(f"{D2}T00:01", "over", 1, at=f"{D1}T23:58")], "again.ndjson")
    assert run(lake)["tokens_folded"] == 2  # D2, and D1 with the event that D2 still holds
    assert_empty(lake, D2)
    assert commits.read_partitions(lake / "lake/silver/datasets/tokens_seen")[None, D2].commit.indexes == {
        "home": {D1: [D2]}
    }
    assert commits.read_partitions(lake / "lake" / FOLDED)[None, D2].commit.inputs == {}


def assert_empty(lake: Path, date: str) -> None:
    found = commits.read_partitions(lake / "lake" / FOLDED)[None, date]
    assert (found.commit.rows, found.commit.files, found.commit.bytes) == (0, [], 0)
    assert [path for path in paths(lake) if date in path] == []
    assert view(lake, f"select count(*) from silver.tokens_folded where date = '{date}'") == [(0,)]
    assert datasets.read(lake, FOLDED, ["client_id"], dates=[date]).num_rows == 0
    assert run(lake) == {}


def test_all_earlier_dates_are_one_input(built):
    record = commits.read_partitions(built / "lake/silver/datasets/running_total")[None, D3].commit
    assert list(record.inputs) == [f"{FOLDED}/{D3}", f"{FOLDED}/until={D2}"]


def test_a_change_of_an_early_date_reaches_every_date_that_reads_all_before(lake):
    land_events(lake, [event(f"{D1}T11:00", "new", 2)], "late.ndjson")
    built = run(lake)
    assert (built["tokens_folded"], built["running_total"], built["day_after"]) == (1, 3, 1)


def test_windows_that_are_not_sealed_are_told_until_they_are(lake):
    flagged = "select count(*) filter (is_provisional), count(*) from silver.tokens_folded"
    assert view(lake, flagged) == [(5, 5)]
    seal_through(lake, "events", datetime(2024, 12, 3, tzinfo=UTC))
    assert run(lake)["events_seen"] == 2
    assert view(lake, "select distinct date::varchar from silver.tokens_folded where is_provisional") == [
        (D3,)
    ]


def test_a_perturbed_file_is_not_what_its_record_says_and_a_lost_one_is_made_again(lake):
    found = commits.read_partitions(lake / "lake" / FOLDED)[None, D3]
    found.key_files[0].path.unlink()
    assert (None, D3) not in commits.read_partitions(lake / "lake" / FOLDED)
    before = seen(lake)
    assert run(lake) == {"tokens_folded": 1}
    assert seen(lake).items() >= before.items()


# -- refusals ----------------------------------------------------------------------------------------------------------


def refusal(lake: Path, tmp_path: Path, model: str, old: str, new: str) -> str:
    """What a build says of the project with one text of its models edited."""
    source = keyed_project()
    project = Project(tmp_path / "edited", tmp_path / "edited" / "target")
    shutil.copytree(source.folder, project.folder, ignore=shutil.ignore_patterns("target", "logs"))
    path = next(p for p in (project.folder / "models").glob("*") if p.name == model)
    assert path.read_text().count(old) >= 1
    path.write_text(path.read_text().replace(old, new))
    outcome = project.run(lake, "run", "--full-refresh", "--select", "day_after")
    assert not outcome.ok
    (told,) = [m for n, m in outcome.messages.items() if outcome.statuses[n] == "error"]
    return told.splitlines()[-1].strip()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "!= 'NOSYMBOL'",
            "!= 'BTCUSDC'",
            "day_after, 2024-12-01: key column symbol was NULL in 2 rows; nothing was published",
        ),
        (
            "= 'TWICE'",
            "= 'A/B=%C' or folded.client_id = 2",
            "day_after, 2024-12-03: 2 rows had the key {'name': 'same'}; nothing was published",
        ),
        (
            "case when folded.symbol != 'NOSYMBOL' then folded.symbol end",
            "''",
            "day_after, 2024-12-01: path key symbol was '', expected 1 to 200 characters in a path; "
            "nothing was published",
        ),
    ],
)
def test_a_key_that_no_path_can_have_is_refused_in_one_line(lake, tmp_path, old, new, told):
    before = seen(lake)
    assert refusal(lake, tmp_path, "day_after.sql", old, new) == told
    refused = re.search(r"\d{4}-\d\d-\d\d", told)[0]  # dates before it may have been published
    changed = {key for key, digest in seen(lake).items() if before[key] != digest}
    assert all(name == "day_after" and date < refused for name, _, date in changed)


# -- kills -------------------------------------------------------------------------------------------------------------


def kill(lake: Path, tmp_path: Path, sample: int | None) -> None:
    """Two keyed dates are due: one gains a key that it never had, the other loses one."""
    old = rows_by_date(lake)
    land_events(lake, late(), "late.ndjson")
    run(lake, "--exclude", "tokens_folded", "running_total", "day_after")

    def work(root: Path) -> None:
        run(root, "--select", "tokens_folded")

    whole = Path(shutil.copytree(lake, tmp_path / "whole"))
    count = count_instants(lambda: work(whole), tmp_path / "count")
    whole = Path(shutil.copytree(lake, tmp_path / "again"))
    work(whole)
    new, truth = rows_by_date(whole), seen(whole)
    assert old[D1] != new[D1]
    assert old[D3] != new[D3]
    instants = range(count)
    if sample:
        instants = sorted(random.Random(20241201).sample(instants, sample))  # noqa: S311
    met = set()
    for instant in instants:
        root = Path(shutil.copytree(lake, tmp_path / "killed"))
        assert dies_at(lambda root=root: work(root), instant)
        for date, rows in rows_by_date(root).items():
            assert rows in (old[date], new[date]), f"instant {instant}, {date}: by view"
        for (_, date), partition in commits.read_partitions(root / "lake" / FOLDED).items():
            found = datasets.read(root, FOLDED, dates=[date]).num_rows
            assert found == partition.commit.rows, f"instant {instant}, {date}"
            assert found in (len(old[date]), len(new[date])), f"instant {instant}, {date}"
        assert len(commits.read_partitions(root / "lake" / FOLDED)) == 3, "no date is ever without a record"
        met.add(tuple(rows_by_date(root)[d] == new[d] for d in (D1, D3)))
        work(root)
        assert seen(root) == truth, instant
        assert rows_by_date(root) == new
        assert paths(root) == paths(whole)
        assert not [
            p for p in (root / "lake").rglob("*") if p.name == "publishing" or p.name.startswith("._tmp")
        ]
        assert not list(stage_dir(root).glob("*.parquet"))
        shutil.rmtree(root)
    assert (False, False) in met
    if not sample:
        assert (True, True) in met


def test_a_kill_leaves_each_date_whole_by_record_and_by_view(lake, tmp_path):
    kill(lake, tmp_path, 4)


@pytest.mark.long
def test_a_kill_at_any_instant_leaves_each_date_whole(lake, tmp_path):
    kill(lake, tmp_path, None)


def rows_by_date(root: Path) -> dict[str, list[tuple]]:
    """What a reader of the view sees."""
    found: dict[str, list[tuple]] = {D1: [], D2: [], D3: []}
    for date, *row in view(
        root, "select date::varchar, * exclude (date) from silver.tokens_folded order by all"
    ):
        found[date].append(tuple(row))
    return found
