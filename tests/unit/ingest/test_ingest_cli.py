"""`tickhouse ingest dbn` as a person or a script meets it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.ingest import app
from cli.manifest import app as manifest_app
from tests.unit.ingest import dbn_kit as kit
from tests.unit.ingest.dbn_kit import records, write_dbn

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dbn(tmp_path / "in" / kit.name("trades"), "trades", records("trades", 30))
    write_dbn(tmp_path / "in" / kit.name("mbp-10"), "mbp-10", records("mbp-10", 20))
    return tmp_path / "in"


def test_help_shows_an_example() -> None:
    result = runner.invoke(app, ["dbn", "--help"])
    assert result.exit_code == 0
    assert "Example: tickhouse ingest dbn" in result.stdout


def test_landing_prints_a_line_a_file_and_nothing_else(root: Path, folder: Path) -> None:
    result = runner.invoke(app, ["dbn", str(folder)])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(": landed, 20 mbp-10 rows of 2025-12-15")
    assert lines[1].endswith(": landed, 30 trades rows of 2025-12-15")
    assert result.stderr == ""
    again = runner.invoke(app, ["dbn", str(folder)])
    assert again.exit_code == 0
    assert [": already landed, " in line for line in again.stdout.splitlines()] == [True, True]


def test_json_is_an_array_of_flat_objects_with_the_same_keys(root: Path, folder: Path) -> None:
    (folder / "bad.dbn").write_bytes(b"nothing")
    result = runner.invoke(app, ["dbn", "--json", str(folder)])
    assert result.exit_code == 1
    objects = json.loads(result.stdout)
    assert [o["status"] for o in objects] == ["quarantined", "landed", "landed"]
    assert len({tuple(o) for o in objects}) == 1
    assert not any(isinstance(v, dict | list) for o in objects for v in o.values())
    assert objects[2]["rows"] == 30
    assert Path(objects[2]["path"]).name == kit.name("trades")
    assert (root / objects[2]["raw_path"]).is_file()


def test_a_refused_file_is_one_line_on_stderr_and_exit_code_1(root: Path, folder: Path) -> None:
    (folder / "bad.dbn").write_bytes(b"nothing")
    result = runner.invoke(app, ["dbn", str(folder)])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"tickhouse: {folder / 'bad.dbn'}: quarantined: first bytes were b'noth'")
    assert len(result.stdout.splitlines()) == 2


def test_a_path_that_is_not_there_is_exit_code_1_and_the_rest_lands(root: Path, folder: Path) -> None:
    result = runner.invoke(app, ["dbn", str(folder / "absent.dbn"), str(folder)])
    assert result.exit_code == 1
    assert "absent.dbn: failed: path was not there" in result.stderr
    assert len(result.stdout.splitlines()) == 2


def test_the_roll_ups_are_written_when_asked_for(root: Path, folder: Path) -> None:
    runner.invoke(app, ["dbn", str(folder)])
    assert not (root / "raw" / "manifest.json").exists()
    result = runner.invoke(manifest_app, ["--json"])
    assert result.exit_code == 0
    raw, bronze = json.loads(result.stdout)
    assert (raw["files"], bronze["partitions"]) == (2, 2)
    assert bronze["path"] == str(root / "lake" / "bronze" / "manifest.json")


def test_a_roll_up_that_is_no_json_is_made_anew(root: Path, folder: Path) -> None:
    runner.invoke(app, ["dbn", str(folder)])
    runner.invoke(manifest_app, [])
    manifest = root / "raw" / "manifest.json"
    whole, before = json.loads(manifest.read_text()), manifest.stat().st_mtime_ns
    runner.invoke(manifest_app, [])
    assert manifest.stat().st_mtime_ns == before
    manifest.write_text("{")
    assert runner.invoke(manifest_app, []).exit_code == 0
    assert json.loads(manifest.read_text())["files"] == whole["files"]


def test_a_share_of_bad_rows_is_allowed_by_option(root: Path, folder: Path) -> None:
    rows = records("trades", 50)
    rows["size"][3] = 0
    path = str(write_dbn(folder / "bad.dbn", "trades", rows))
    assert "expected at most 1.00%" in runner.invoke(app, ["dbn", path]).stderr
    result = runner.invoke(app, ["dbn", path, "--max-bad", "0.02"])
    assert result.stdout.endswith(": landed, 49 trades rows of 2025-12-15, 1 bad rows kept aside\n")
    assert runner.invoke(app, ["dbn", path, "--max-bad", "1.5"]).exit_code == 2


def test_no_path_is_a_wrong_call(root: Path) -> None:
    result = runner.invoke(app, ["dbn"])
    assert result.exit_code == 2
    assert "nothing was named" in result.stderr


def test_recover_alone_lands_raw_files_without_a_receipt(root: Path) -> None:
    write_dbn(root / "raw" / "dbn" / "trades" / kit.name("trades"), "trades", records("trades", 7))
    result = runner.invoke(app, ["dbn", "--recover"])
    assert result.exit_code == 0
    assert result.stdout.endswith(": landed, 7 trades rows of 2025-12-15\n")
