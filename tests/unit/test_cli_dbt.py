"""dbt in this process: failures are told by node, and the database file is given back."""

import subprocess
import sys
from pathlib import Path

import pytest

from lake import dbt

PROFILE = """
scratch:
  target: dev
  outputs:
    dev: {type: duckdb, path: "{{ env_var('LAKE_ROOT') }}/lake.duckdb", threads: 1}
"""
PROJECT = """
name: scratch
profile: scratch
models: {+materialized: table}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "profiles.yml").write_text(PROFILE)
    (folder / "models" / "good.sql").write_text("select {{ var('answer', 1) }} as a")
    return folder


def test_a_build_returns_its_results_and_lets_go_of_the_file(project, root, capfd):
    events = []
    result = dbt.invoke(
        ["build"],
        root=root,
        project_dir=project,
        variables={"answer": 42},
        on_event=events.append,
    )
    assert [(r.node.name, str(r.status)) for r in result.results] == [("good", "success")]
    assert "LogModelResult" in {event.info.name for event in events}
    assert capfd.readouterr() == ("", "")
    # another process may read what this one has built, while this one lives on
    code = (
        "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).sql('from good').fetchall())"
    )
    command = [sys.executable, "-c", code, str(root / "lake.duckdb")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[(42,)]\n"


def test_a_failure_names_each_node_and_the_reason(project, root):
    (project / "models" / "bad.sql").write_text("select nosuch from {{ ref('good') }}")
    (project / "models" / "after.sql").write_text("select * from {{ ref('bad') }}")
    with pytest.raises(
        RuntimeError, match=r'bad: .*"nosuch" not found.* \(1 nodes after them were skipped\)'
    ):
        dbt.invoke(["build"], root=root, project_dir=project)


def test_an_operation_that_fails_is_named(project, root):
    (project / "macros").mkdir()
    (project / "macros" / "broken.sql").write_text(
        "{% macro broken() %}{% do run_query('select 1 from nowhere') %}{% endmacro %}"
    )
    with pytest.raises(
        RuntimeError, match=r"dbt run-operation failed: broken: no reason given; run dbt itself"
    ):
        dbt.invoke(["run-operation", "broken"], root=root, project_dir=project)


def test_a_project_that_does_not_parse_says_why(project, root):
    (project / "models" / "bad.sql").write_text("select * from {{ ref('missing') }}")
    with pytest.raises(RuntimeError, match=r"dbt build failed: .*depends on a node named 'missing'"):
        dbt.invoke(["build"], root=root, project_dir=project)


def test_a_lake_that_another_process_holds_says_so_and_what_to_do(project, root):
    root.mkdir(parents=True, exist_ok=True)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(root / "lake.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(RuntimeError, match=rf"PID {holder.pid}.* then run again"):
            dbt.invoke(["build"], root=root, project_dir=project)
        holder.stdin.close()


def test_a_traceback_is_told_as_its_exception() -> None:
    message = "Python model failed:\nTraceback (most recent call last):\n  File x, line 3\n"
    message += "  ValueError: ts was 3, expected 4\n"
    assert dbt._cause(message) == "ValueError: ts was 3, expected 4"
    assert dbt._cause("two\n  lines") == "two lines"
