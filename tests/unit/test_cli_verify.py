"""What `tickhouse verify` prints and exits with, for rebuilds that came out one way or the other."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from lake import verify

SET = "silver/features/v1.0_x"


def run(monkeypatch, report: verify.Report, *args: str):
    def rebuild(root: Path, version: str, **options: object) -> verify.Report:
        assert (root, version, options["threads"]) == (Path("/nowhere"), "v1.0_x", 2)
        options["on_node"]("ticks")
        return report

    monkeypatch.setattr(verify, "verify", rebuild)
    return CliRunner().invoke(app, ["verify", "v1.0_x", "--root", "/nowhere", "--threads", "2", *args])


def test_equal_digests_are_listed_and_the_exit_code_is_0(monkeypatch):
    rows = [verify.Row(SET, "2025-12-15", "a" * 64, "a" * 64)]
    result = run(monkeypatch, verify.Report("v1.0_x", rows))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == [SET, "2025-12-15", "a" * 12, "a" * 12, "yes"]
    assert result.stderr.splitlines() == ["v1.0_x: every digest is equal"]


def test_a_difference_is_exit_code_1_with_what_may_explain_it(monkeypatch):
    rows = [verify.Row(SET, "2025-12-15", "a" * 64, None), verify.Row(SET, "2025-12-16", "b" * 64, "b" * 64)]
    report = verify.Report(
        "v1.0_x", rows, ["physics/tape.py"], ["bronze/x (new)"], ["duckdb 1.5.5 → 1.5.6"], "c" * 40
    )
    result = run(monkeypatch, report, "--json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    assert first == {
        "dataset": SET, "date": "2025-12-15", "recorded": "a" * 64, "rebuilt": None, "equal": False,
    }  # fmt: skip
    assert second["equal"]
    assert result.stderr.splitlines() == [
        f"code differs from that on record of commit {'c' * 12}: physics/tape.py",
        "bronze changed since: bronze/x (new)",
        "engines differ: duckdb 1.5.5 → 1.5.6",
        "v1.0_x: 1 of 2 digests differ",
    ]


def test_a_version_that_is_not_there_is_told(tmp_path):
    result = CliRunner().invoke(app, ["verify", "v1.0_x", "--root", str(tmp_path)])
    assert isinstance(result.exception, verify.NotVerifiable)
    with pytest.raises(verify.NotVerifiable, match=r"v1\.0_x has no manifest\.yaml under"):
        raise result.exception
