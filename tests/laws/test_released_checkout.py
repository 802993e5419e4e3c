"""A released version against edits of the real project, each in a copy of the checkout that stands at another path."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.market import busy_morning
from tests.fixtures.bronze import make_bronze
from tests.laws.repository import PROJECT_DIR, tracked_files

pytestmark = pytest.mark.long

VERSION = "v1.0_mechanics_only"
FEATURES, TRAINING = f"lake/silver/features/{VERSION}", f"lake/gold/training/candidates/{VERSION}"
DAYS = busy_morning(1)[-2:]
SETS = "models/silver/market/sets"
NOT_COPIED = {"tests", "docs", "benchmarks", "examples", "data"}


class Checkout:
    """A copy of the project, whose own Python is what runs: the editable install must not stand in for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for file in tracked_files():
            if file.parts[0] not in NOT_COPIED or file.parts[:2] == ("tests", "data"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT_DIR / file, folder / file)

    def call(self, *args: str, root: Path, code: int = 0) -> str:
        """Output of a command in a process of its own, which must end with ``code``."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DBT_", "TICKHOUSE_"))},
            "PYTHONPATH": str(self.folder),
            "DBT_PROJECT_DIR": str(self.folder),
            "DBT_PROFILES_DIR": str(self.folder),
            "LAKE_ROOT": str(root),
            "NUMBA_CACHE_DIR": str(self.folder.parent / "numba"),
        }
        command = [sys.executable, "-m", *args]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def dbt(self, root: Path, *args: str, code: int = 0) -> str:
        out = self.call("dbt.cli.main", "--no-use-colors", *args, root=root, code=code)
        return " ".join(out.split())

    def build(self, root: Path, *select: str, code: int = 0) -> str:
        return self.dbt(root, "build", "--select", *select, code=code)

    def tickhouse(self, root: Path, *args: str, code: int = 0) -> str:
        return self.call("cli.main", *args, root=root, code=code)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new, 1))


V1_0 = ("+touch_features.v1_0", "+train_signals.v1_0")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Checkout, Path]:
    """A checkout that built and released the version on two sessions."""
    folder = tmp_path_factory.mktemp("checkout")
    checkout, root = Checkout(folder / "first"), folder / "lake_root"
    make_bronze(root, [day.delivery() for day in DAYS])
    checkout.build(root, *V1_0)
    rows = json.loads(checkout.tickhouse(root, "versions", "release", VERSION, "--json"))
    assert rows[0]["status"] == "released"
    return checkout, root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built[1], tmp_path / "lake"))


@pytest.fixture
def other(built, tmp_path) -> Checkout:
    """Another copy, to be edited. It shares compiled kernels with no one: their place is part of their key."""
    return Checkout(tmp_path / "other")


def files(root: Path) -> dict[str, bytes]:
    found = [p for place in (FEATURES, TRAINING) for p in (root / place).rglob("*")]
    kept = [p for p in found if p.name == "data.parquet" or p.name.startswith("commit-")]
    return {str(p.relative_to(root)): p.read_bytes() for p in kept}


def test_a_checkout_at_another_path_makes_the_same_digests(built, other, lake):
    for threads in ("1", "4"):
        out = other.tickhouse(lake, "verify", VERSION, "--threads", threads)
        assert f"{VERSION}: every digest is equal" in out
        assert "differ" not in out
    # And builds nothing anew of what the first one built: no digest holds a path.
    assert "E_" not in other.dbt(lake, "run", "--select", *V1_0)
    assert "0 of 2 dates" in other.dbt(lake, "run", "--select", "touch_features.v1_0")


@pytest.mark.parametrize(
    ("file", "old", "new", "column"),
    [
        pytest.param(
            *(
                f"{SETS}/touch_features_v1_0.sql",
                "    tape_buy_vol,",
                "    tape_buy_vol + 1 as tape_buy_vol,",
            ),
            "tape_buy_vol",
            id="its own SQL",
        ),
        pytest.param(
            *("models/silver/market/features/observation_features.sql", "tape.tape_buy_vol,"),
            *("tape.tape_buy_vol + 1 as tape_buy_vol,", "tape_buy_vol"),
            id="an upstream model",
        ),
        pytest.param(
            *("physics/tape.py", "nulled((buy - sell) /", "nulled((sell - buy) /", "tape_imbalance"),
            id="a kernel",
        ),
        pytest.param("params/default.yaml", "W_t: 60", "W_t: 50", "tape_imbalance", id="a parameter"),
        pytest.param(f"{SETS}/touch_features_v1_0.sql", "with", "-- a remark\nwith", None, id="a remark"),
        pytest.param(
            "physics/tape.py", "\nimport ", "\n# a remark\nimport ", None, id="a remark in a kernel"
        ),
    ],
)
def test_an_edit_is_compared_and_refused(other, lake, file, old, new, column):
    before = files(lake)
    other.edit(file, old, new)
    out = other.build(lake, *V1_0, code=0 if column is None else 1)
    assert files(lake) == before
    if column is None:
        assert "E_RELEASED" not in out
        assert "0 of 2 dates" in out
    else:
        told = f"E_RELEASED_CHANGED: {VERSION}, {DAYS[0].date} is released and a rebuild differs in "
        assert told in out
        named = out.partition(told)[2].partition("; nothing was published")[0]
        assert ("params (W_t 60 → 50)" if file.startswith("params") else file) in named
        assert column in named.partition("first differing columns: ")[2]
        assert "Completed with 1 error" in out
    if not file.startswith("params"):
        # verify builds with the params on record, and by the code that is there
        out = other.tickhouse(lake, "verify", VERSION, code=0 if column is None else 1)
        assert "code differs from that on record" in out
        assert file in out


def test_a_new_version_on_a_new_param_set_leaves_the_old_physics_alone(built, other, lake):
    """As a researcher does it: a set in YAML, a version that names it, one SQL file and one entry for each table."""
    (other.folder / "params" / "quick.yaml").write_text("extends: default\nW_b: 120\n")
    sql = (other.folder / SETS / "touch_features_v1_0.sql").read_text()
    (other.folder / SETS / "touch_features_v1_2.sql").write_text(sql)
    path = other.folder / SETS / "touch_features.yml"
    content = yaml.safe_load(path.read_text())
    (model,) = content["models"]
    first = next(v for v in model["versions"] if v["v"] == "1_0")
    meta = first["config"]["meta"] | {
        "folder": "silver/features/v1.2_quick_barrier",
        "version_name": "quick_barrier",
        "semantic_version": "1.2.0",
        "param_set": "quick",
        "parent_version": VERSION,
    }
    model["versions"].append({**first, "v": "1_2", "config": {"meta": meta}})
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    before = files(lake)
    old = {p: p.stat().st_mtime_ns for p in (lake / "lake/silver").rglob("data.parquet")}
    other.build(lake, "+touch_features.v1_2")
    assert {p: p.stat().st_mtime_ns for p in old} == old
    resolved = yaml.safe_load((lake / "lake/silver/features/v1.2_quick_barrier/params.yaml").read_text())
    default = yaml.safe_load((lake / FEATURES / "params.yaml").read_text())
    assert resolved["param_set"] == "quick"
    assert resolved["resolved"] == default["resolved"] | {"W_b": 120}
    physics = lake / "lake/silver/datasets/physics"
    assert {p.name for p in physics.glob("params=*")} == {
        f"params={r['params_digest'][:8]}" for r in (resolved, default)
    }
    # Both together: neither computes anything.
    out = other.dbt(lake, "run", "--select", "+touch_features.v1_0", "+touch_features.v1_2")
    assert not re.search(r"\[[1-9]\d* of \d+ dates", out)
    assert files(lake) == before
    shown = json.loads(other.tickhouse(lake, "versions", "compare", VERSION, "v1.2_quick_barrier", "--json"))
    assert {"what": "parameters_diff", "name": "W_b", "a": 240, "b": 120} in shown
