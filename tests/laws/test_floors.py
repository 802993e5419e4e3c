"""The floors of the house: who may import whom."""

import ast
from pathlib import Path

import pytest

from tests.laws.repository import PROJECT_DIR, tracked_files

OURS = {"cli", "ingest", "lake", "ml", "physics", "serve"}

# package: what of ours it may import beside itself
FLOORS = {
    "lake": set(),
    "physics": set(),
    "ingest": {"lake", "physics"},
    "ml": {"lake", "physics"},
    "serve": {"lake", "physics", "ml.prediction"},
    "cli": {"ingest", "lake", "ml", "physics", "serve"},
}
ADAPTERS = {"physics"}  # dbt Python models
# Kernels take columns and give columns back: nothing that reads or writes anything but memory.
FORBIDDEN_IN_PHYSICS = {
    "dbt", "duckdb", "io", "logging", "os", "pathlib", "pyarrow.csv", "pyarrow.dataset", "pyarrow.fs",
    "pyarrow.parquet", "requests", "shutil", "socket", "subprocess", "sys", "tempfile", "urllib",
}  # fmt: skip


def imported(source: str) -> set[str]:
    """Dotted names that ``source`` imports absolutely, anywhere in it; ``from a import b`` counts as a.b."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def within(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in allowed)


def trespassers(source: str, home: str | None, allowed: set[str]) -> set[str]:
    """Imports of ours in ``source`` that neither stay at ``home`` nor are ``allowed``."""
    ours = {name for name in imported(source) if within(name, OURS)}
    return {name for name in ours if not within(name, allowed | ({home} if home else set()))}


def python_files(*below: str) -> list[Path]:
    return [file for file in tracked_files() if file.suffix == ".py" and file.parts[0] in below]


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_imports_only_the_floors_below_it(package):
    files = python_files(package)
    assert files or package == "serve", f"no Python file below {package}/"  # serve holds no module yet
    found = {
        str(file): names
        for file in files
        if (names := trespassers((PROJECT_DIR / file).read_text(), package, FLOORS[package]))
    }
    assert found == {}


def test_dbt_python_models_import_kernels_only():
    found = {
        str(file): names
        for file in python_files("models")
        if (names := trespassers((PROJECT_DIR / file).read_text(), None, ADAPTERS))
    }
    assert found == {}


def test_kernels_do_no_io():
    found = {
        str(file): names
        for file in python_files("physics")
        if (
            names := {
                name
                for name in imported((PROJECT_DIR / file).read_text())
                if within(name, FORBIDDEN_IN_PHYSICS)
            }
        )
    }
    assert found == {}


def test_the_oracle_shares_no_code_with_what_it_judges():
    found = {
        str(file): names
        for file in python_files("tests")
        if file.parts[1] == "oracle" and (names := trespassers((PROJECT_DIR / file).read_text(), None, set()))
    }
    assert found == {}


def test_a_trespasser_is_seen_in_every_form():
    source = (
        "import numpy\nimport ml.metrics\nfrom lake import paths\nfrom ml import prediction\n"
        "def f():\n    from ingest.dbn import read\n    import importlib\n"
        "    importlib.import_module('serve.core')\n"
        "from . import lake_like\n"
    )
    assert trespassers(source, "serve", FLOORS["serve"]) == {"ml.metrics", "ingest.dbn.read"}
    assert trespassers(source, None, ADAPTERS) >= {"lake.paths", "ml.prediction", "serve.core"}
    assert trespassers("import lakehouse\n", None, set()) == set()
