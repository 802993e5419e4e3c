"""From raw files to what serves, by the commands that a user calls, on a lake that was really built.

The long variant runs each command as a process of its own over as many sessions as a claim of skill takes; by default
six sessions go the same way within this process, with splits that fit them.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from cli import dbt
from cli import main as command_line
from lake.paths import PROJECT_DIR
from ml import placing, registry, splits
from ml.prediction import Predictor

VERSION = "v1.0_mechanics_only"
FIRST, SCALE = "2025-10-06", "0.004"
SHORT, ENOUGH = 6, 24  # 24: five folds of two test sessions, ten as a claim needs, and the holdout


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def failed_gates(self) -> set[str]:
        return {row["gate"] for row in json.loads(self.out) if row["verdict"] == "failed"}


User = Callable[..., Done]


def in_this_process(root: Path) -> User:
    def run(*args: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv
        sys.argv = ["tickhouse", *args]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                command_line.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            sys.argv = before
        return Done(code, out.getvalue(), err.getvalue())

    return run


def as_processes(root: Path) -> User:
    def run(*args: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *args],
            env={**os.environ, "LAKE_ROOT": str(root)},
            cwd=PROJECT_DIR,
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(
    params=[pytest.param(SHORT, id="short"), pytest.param(ENOUGH, id="whole", marks=pytest.mark.long)]
)
def sessions(request) -> int:
    return request.param


@pytest.fixture
def user(sessions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setenv("LAKE_ROOT", str(tmp_path))
    if sessions == ENOUGH:
        return as_processes(tmp_path)
    for name, value in (("MIN_TRAIN_SESSIONS", 2), ("MIN_SESSIONS", SHORT), ("MIN_FOLDS", 1)):
        monkeypatch.setattr(splits, name, value)
    return in_this_process(tmp_path)


def serving(root: Path) -> dict[str, bytes]:
    """Everything that serves, byte for byte; the pointer tells when it moved and is left out."""
    places = [*(root / "ml" / "production").rglob("*.joblib"), *(root / placing.GOLD).glob("*.*")]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in places if p.name != "pointer.json"}


def test_from_files_to_what_serves_and_back(tmp_path: Path, user: User, sessions: int) -> None:
    root = tmp_path

    def call(*args: str) -> Done:
        done = user(*args)
        assert done.code == 0, (args, done.err)
        return done

    def refused(*args: str) -> set[str]:
        """The failed gates; nothing that serves has changed."""
        before = serving(root)
        done = user("promote", *args, "--json")
        assert done.code == 1, done.out
        assert done.err.startswith(f"tickhouse: {args[0]} was not promoted: ")
        assert len(done.err.splitlines()) == 1
        assert serving(root) == before
        return done.failed_gates()

    def build() -> None:
        selected = ("--select", "+touch_features.v1_0", "+train_signals.v1_0")
        dbt.invoke(["build", *selected, "--exclude-resource-type", "unit_test"], root=root)

    def land(first: str, count: int) -> None:
        world = ("--scale", SCALE, "--profile", "planted", "--fault", "none")
        call("simulate", "market", "--dates", first, "--sessions", str(count), *world)
        call("ingest", "dbn", str(root / "raw" / "dbn"))
        call("ingest", "polygon", str(root / "raw" / "polygon"))

    land(FIRST, sessions)
    build()
    trained = call("train", "--version", VERSION, "--experiment", "exp001_first")
    assert "exp001_first was trained" in trained.err
    enough = () if sessions == ENOUGH else ("--min-events", "500")

    # A draft that nobody audited.
    assert refused("exp001", *enough) >= {"released", "perturb_the_future"}
    assert not registry.path(root).is_file()
    call("versions", "release", VERSION)
    assert "perturb_the_future" in refused("exp001", *enough)
    assert "no row of" in call("verify", VERSION, "--perturb").out
    if sessions == SHORT:
        assert refused("exp001", *enough) == {"skill"}
    call("promote", "exp001", *enough, "--accept-no-skill", "--notes", "to try the path")

    # What serves is the table that was trained on, and models that answer.
    first = serving(root)
    gold = root / placing.GOLD
    manifest = yaml.safe_load((gold / "manifest.yaml").read_text())
    pointer = json.loads((gold / "pointer.json").read_text())
    table = pq.read_table(gold / "signals_production.parquet")
    assert (manifest["dataset_version"], manifest["content_digest"]) == (1, pointer["content_digest"])
    assert manifest["row_count"] == table.num_rows > 500
    assert {g["verdict"] for g in manifest["gates"]} == {"passed"}
    touches = table.filter(pc.equal(table["stage"], "touch"))
    assert 0 < Predictor.load(root, "tradeable_2_touch").predict(touches).mean() < 1
    assert sorted(registry.load_retrieval(root)) == ["confirm_240", "touch"]
    assert len(list((root / "ml" / "production" / "boosted_trees").iterdir())) == 4

    # A second one is watched beside it, takes its place, and goes again.
    heads = ("--heads", "tradeable_2,direction,strength")
    call("train", "--version", VERSION, "--experiment", "exp002_strength", *heads)
    call("promote", "exp002", *enough, "--as", "challenger")
    assert serving(root) == first
    watched = registry.challenger(root, "tradeable_2_touch")
    assert watched["comparison"]["against"] == "exp001_tradeable_2_touch"
    # The same way of training: another head changes nothing.
    assert watched["comparison"]["primary"]["mean"] == 0
    call("evaluate", "--report-only")
    report = (root / "ml" / "report.html").read_text()
    assert "Champion and challenger" in report
    assert "exp001_tradeable_2_touch: brier +0.00000" in report
    call("promote", "exp002", *enough)
    second = serving(root)
    assert registry.champion(root, "strength_touch")["experiment_id"] == "exp002_strength"
    assert registry.read(root)["aliases"]["challenger"] == {}
    assert digest(second) != digest(first)
    assert "rolled_back" in call("rollback", "--reason", "odd signals").out
    assert serving(root) == first
    assert "rolled_back" in call("rollback", "--to", "2").out
    assert serving(root) == second

    # The table has changed: what was trained before knows nothing of it.
    candidates = root / "lake" / "gold" / "training" / "candidates" / VERSION
    shutil.rmtree(candidates / "date=2025-10-07")
    assert "same_data" in refused("exp001", *enough)


def digest(files: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()
