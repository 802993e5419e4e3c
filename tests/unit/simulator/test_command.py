"""`tickhouse simulate market` at the shell: faults are listed, checked, and the demo's unless others are named."""

import json

import pytest
from typer.testing import CliRunner

from cli import simulate as command
from ingest.simulator.faults import DEMO_FAULTS, FAULTS
from ingest.simulator.ledger import SimulationError

ARGUMENTS = ["market", "--dates", "2025-10-07", "--scale", "0.0005"]


def run(root, *args: str):
    return CliRunner().invoke(command.app, list(args), env={"LAKE_ROOT": str(root)}, catch_exceptions=False)


def faults_of(root) -> dict:
    return json.loads((root / "raw" / "simulation.json").read_text())["faults"]


def test_faults_are_listed_with_their_handling(tmp_path):
    rows = json.loads(run(tmp_path, "market", "--fault", "list", "--json").stdout)
    assert {row["fault"]: row["handling"] for row in rows} == {name: f.handling for name, f in FAULTS.items()}
    assert {row["fault"] for row in rows if row["default"]} == set(DEMO_FAULTS)
    assert not (tmp_path / "raw").exists()


def test_the_demos_faults_are_the_default_and_none_is_none(tmp_path):
    files = json.loads(run(tmp_path / "default", *ARGUMENTS, "--json").stdout)
    assert {file["schema"] for file in files} == {"trades", "mbp-10", "options", "stocks"}
    assert faults_of(tmp_path / "default") == dict.fromkeys(DEMO_FAULTS)
    run(tmp_path / "none", *ARGUMENTS, "--fault", "none")
    assert faults_of(tmp_path / "none") == {}
    run(tmp_path / "two", *ARGUMENTS, "--fault", "no-spy-day", "--fault", "disorder")
    assert faults_of(tmp_path / "two") == {"disorder": None, "no-spy-day": "2025-10-07"}


def test_a_root_keeps_its_faults_and_a_name_must_be_known(tmp_path):
    run(tmp_path, *ARGUMENTS, "--fault", "none")
    with pytest.raises(
        SimulationError, match=r"made with .*faults none, expected .*faults disorder as asked for"
    ):
        run(tmp_path, *ARGUMENTS, "--fault", "disorder")
    with pytest.raises(SimulationError, match="fault was 'dissorder', expected all, none or one of"):
        run(tmp_path, *ARGUMENTS, "--fault", "dissorder")
