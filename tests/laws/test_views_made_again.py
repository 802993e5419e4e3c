"""The views of the database can be made again without a build: after a swap, a retention, a compaction."""

from tests.fixtures.dbt import repository_project


def test_every_view_of_the_project_is_made_by_the_operation_alone(tmp_path):
    """Views of monitoring stand on models that are private to a group; an operation is of none."""
    outcome = repository_project().run(tmp_path, "run-operation", "lake_register")
    assert outcome.ok, outcome.error
