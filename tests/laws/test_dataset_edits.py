"""Files of a project are edited between builds: what depends on them is built again, or refused, and nothing else."""

import pytest

from tests.fixtures.bronze import Delivery, make_bronze, market_day
from tests.fixtures.dbt import Project
from tests.fixtures.lakes import digests

DATE = "2025-12-16"
MODELS = ("ticks", "minutes", "trail")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project.fixture(tmp_path_factory.mktemp("edited") / "project")


def test_edits_on_disk(project, tmp_path):
    make_bronze(
        tmp_path, [Delivery("d", {"trades": market_day(DATE, 1, hours=(14,), events_per_hour=20)["trades"]})]
    )
    assert project.built(tmp_path, *MODELS) == dict.fromkeys(MODELS, 1)
    before = digests(tmp_path, project.datasets())

    # A macro that changes nothing in the rows: its one user is built, and the equal result stops there.
    macro = project.folder / "macros" / "minute_of.sql"
    macro.write_text(macro.read_text().replace("* 60000000000)", "* 60000000000 + 0)"))
    project.reparse()
    assert project.built(tmp_path, *MODELS) == {"minutes": 1}
    assert digests(tmp_path, project.datasets()) == before

    # A column more in SQL and not in YAML, another of another type: refused, the old partition stands.
    model = project.folder / "models" / "minutes.sql"
    good = model.read_text()
    model.write_text(good.replace("cast(sum(size) as bigint) as volume", "sum(size) as volume, 1 as more"))
    project.reparse()
    outcome = project.build(tmp_path, "minutes")
    assert not outcome.ok
    _, *message = outcome.messages["minutes"].splitlines()
    assert message == [
        f"  minutes, {DATE}: more is not declared; volume was HUGEINT, expected BIGINT; "
        "mend the model or its YAML; nothing was published"
    ]
    assert digests(tmp_path, project.datasets()) == before

    # Mended, and now the rows do change: the wave goes on.
    model.write_text(good.replace("max(tick)", "min(tick)").replace("sum(size)", "sum(size) + 1"))
    project.reparse()
    assert project.built(tmp_path, *MODELS) == {"minutes": 1, "trail": 1}
    after = digests(tmp_path, project.datasets())
    assert {model for (model, _, _), digest in after.items() if before[model, None, DATE] != digest} == {
        "minutes",
        "trail",
    }


def test_a_new_column_is_read_in_the_run_that_builds_it(tmp_path):
    """Files of before lack it, and stand under the same names."""
    project = Project.fixture(tmp_path / "project")
    day = Delivery("d", {"trades": market_day(DATE, 1, hours=(14,), events_per_hour=20)["trades"]})
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    for root in (grown, fresh):
        make_bronze(root, [day])
    assert project.built(grown, *MODELS) == dict.fromkeys(MODELS, 1)

    models = project.folder / "models"
    for path, old, new in (
        ("minutes.sql", "max(tick) as high_tick", "max(tick) as high_tick, min(tick) as low_tick"),
        ("trail.sql", "sum(volume)", "sum(volume + low_tick)"),
    ):
        text = (models / path).read_text()
        assert old in text
        (models / path).write_text(text.replace(old, new))
    (declared,) = models.glob("*.yml")
    line = "      - {name: high_tick, data_type: integer}\n"
    assert line in declared.read_text()
    declared.write_text(declared.read_text().replace(line, line + line.replace("high", "low"), 1))
    project.reparse()
    assert project.built(grown, *MODELS) == {"minutes": 1, "trail": 1}
    assert project.built(fresh, *MODELS) == dict.fromkeys(MODELS, 1)
    assert digests(grown, project.datasets()) == digests(fresh, project.datasets())
