"""The tests notice: a comparison or a window bound that is off by one in a kernel or a model fails one of them.

Kernels are changed in a copy of the checkout, where their own tests run without compiling. Models are changed as
compiled SQL: the laws about them are tried on it, and then whole days are compared with the oracle. A mutant that lives
stands in ``surviving_mutants.yml`` with the reason; one that nothing can tell from the original is not drawn. At least
nine tenths are killed.
"""

import contextlib
import functools
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT_DIR
from tests.e2e.oracle_days import Days
from tests.fixtures import mutants
from tests.fixtures.mutants import Mutant

SEED = 20251126
KERNELS, MODELS = 40, 32
SAMPLE_KERNELS, SAMPLE_MODELS = 4, 3
CPU_S = 40  # of one file of tests; those of a healthy kernel take 10 s at most: an endless loop is a failure
LIMITED = ["sh", "-c", f'ulimit -t {CPU_S}; exec "$@"', "sh"]
SURVIVORS = Path(__file__).with_name("surviving_mutants.yml")
NO_KERNELS = {"__init__", "columns", "units"}  # arrays and constants
QUICKLY = ["-x", "-q", "-m", "not long and not realdata", "-p", "no:cacheprovider"]
UNIT, LAWS = "tests/unit/physics/test_", "tests/laws/test_"
STOPS = "tests/laws/test_stop_features_kernels.py::test_"
KILLERS = {  # where a kernel has no unit tests of its own name, or not these alone
    "asof": [f"{UNIT}barrier.py", f"{UNIT}ofi.py"],
    "bar_windows": [
        f"{STOPS}a_date_hangs_on_its_own_day_and_the_one_before",
        f"{STOPS}bars_come_in_any_order",
        f"{STOPS}minutes_that_are_asked_for_have_the_rows_of_every_minute",
        f"{STOPS}the_golden_row_of_the_specification",
    ],
    "barrier": [f"{UNIT}barrier.py", f"{LAWS}kernels_equal_oracle.py::test_barrier"],
    "black_scholes": [f"{UNIT}black_scholes.py", f"{LAWS}options_equal_oracle.py"],
    "book_kernel": [f"{UNIT}book.py"],
    "decimals": [f"{STOPS}decimals_survive_their_halves", f"{UNIT}position_cost.py"],
    "failure_runs": [
        f"{UNIT}failure_runs.py",
        f"{STOPS}runs_hold_between_their_rows",
        f"{STOPS}terminals_out_of_order_are_refused",
    ],
    "option_greeks": [f"{LAWS}options_equal_oracle.py"],
    "outcomes": [f"{UNIT}outcomes.py", f"{LAWS}kernels_equal_oracle.py::test_outcomes"],
    "ratio": [f"{LAWS}ratio_equals_oracle.py"],
    "slices": [f"{UNIT}slices.py"],
    "sums": [f"{UNIT}fuel.py", f"{UNIT}exposure.py"],
    "tape_flow": [f"{STOPS}tape_flow_equals_the_oracle"],
    "touches": [f"{UNIT}touches.py", f"{LAWS}kernels_equal_oracle.py::test_touches"],
    "zone": [f"{UNIT}barrier.py", f"{UNIT}ofi.py"],
}

BOUNDS = "bounds_by_hand"
CONTEXT = ("context_features_by_hand", "context_features_equal_oracle")
CONFLUENCE = ("confluence_cases", "confluence_equals_oracle")
GAMMA = ("walls_by_hand", "gamma_equals_oracle")
LAWS_OF_MODELS = {  # what knows most of a model in the least time; of any model, the days are tried after these
    "dim_es_spy_ratio": ("ratio_reaches_the_pipeline",),
    "dim_front_month": (BOUNDS,),
    "feat_touch_approach": CONTEXT,
    "feat_touch_attempts": CONTEXT,
    "feat_touch_confluence": CONFLUENCE,
    "feat_touch_context": CONTEXT,
    "feat_touch_dealer_velocity": GAMMA,
    "feat_touch_fuel": GAMMA,
    "feat_touch_geometry": CONTEXT,
    "feat_touch_mean_reversion": CONTEXT,
    "feat_touch_pressures": CONTEXT[1:],
    "feat_touch_walls": GAMMA,
    "int_bars__averages": CONTEXT,
    "int_bars__indicators": CONTEXT,
    "int_bars__ranges": (*CONTEXT, "calendar_in_the_pipeline"),
    "int_bars__volume_profile": CONFLUENCE,
    "int_labels__windows": (BOUNDS,),
    "int_levels__options": GAMMA,
    "int_levels__running": (BOUNDS,),
    "levels": (BOUNDS, *GAMMA),
    "observation_points": (BOUNDS,),
    "option_walls": GAMMA,
    "stg_futures__trades": ("calendar_in_the_pipeline",),
    "stg_stocks__trades": (BOUNDS,),
    "stg_options__trades": (BOUNDS, "option_prints_equal_oracle"),
    "touches": (BOUNDS, "calendar_in_the_pipeline"),
}


def listed(why: str) -> dict[str, str]:
    """Reasons by name, ``why`` a mutant lives: it is `equivalent`, or `alive` as no test meets it."""
    return yaml.safe_load(SURVIVORS.read_text(encoding="utf-8"))[why]


def sample(groups: list[list[Mutant]], count: int) -> list[Mutant]:
    equivalent = listed("equivalent")
    found = mutants.spread([[m for m in group if m.name not in equivalent] for group in groups], count, SEED)
    assert len({m.name for m in found}) == count
    names = {m.name for group in groups for m in group}
    of_these = {
        n
        for n in (*equivalent, *listed("alive"))
        if n.startswith("physics/") == ("physics/" in found[0].where)
    }
    assert not of_these - names, f"these are listed and are no mutants any more: {of_these - names}"
    return found


def verdict(tried: list[Mutant], is_killed: Callable[[Mutant], bool]) -> None:
    alive = {m.name for m in tried if not is_killed(m)}
    reasons = listed("alive")
    assert not alive - reasons.keys(), (
        f"of {len(tried)} these live without a reason: {alive - reasons.keys()}"
    )
    killed = reasons.keys() & {m.name for m in tried} - alive
    assert not killed, f"these are listed as alive and are killed; take them out: {killed}"
    assert len(alive) <= max(1, len(tried) // 10), f"{len(alive)} of {len(tried)} live"


# -- kernels -----------------------------------------------------------------------------------------------------


def kernel_mutants() -> list[list[Mutant]]:
    paths = [p for p in sorted((PROJECT_DIR / "physics").glob("*.py")) if p.stem not in NO_KERNELS]
    return [list(mutants.of_python(f"physics/{p.name}", p.read_text(encoding="utf-8"))) for p in paths]


class Copy:
    """A copy of the checkout whose kernels may be changed; one at a time is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.healthy: set[str] = set()
        for name in ("physics", "tests", "lake", "cli", "ingest", "ml", "params", "seeds"):
            shutil.copytree(
                PROJECT_DIR / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )
        shutil.copy(PROJECT_DIR / "pyproject.toml", folder)

    def is_killed(self, mutant: Mutant) -> bool:
        """True when a test fails, or goes on and on, that passes without the change."""
        path = self.folder / mutant.where
        text = path.read_text(encoding="utf-8")
        for test in KILLERS.get(path.stem, [f"{UNIT}{path.stem}.py"]):
            path.write_text(mutant.apply(text), encoding="utf-8")
            try:
                fails = self._fails(test)
            finally:
                path.write_text(text, encoding="utf-8")
            if fails:
                assert self._is_healthy(test), f"{test} fails without any change"
                return True
        return False

    def _is_healthy(self, test: str) -> bool:
        if test not in self.healthy and not self._fails(test):
            self.healthy.add(test)
        return test in self.healthy

    def _fails(self, test: str) -> bool:
        environment = {
            **os.environ, "PYTHONPATH": str(self.folder), "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        done = subprocess.run(
            [*LIMITED, sys.executable, "-m", "pytest", *QUICKLY, "--hypothesis-profile=fails", test],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, 1, 2) or done.returncode < 0, done.stdout.decode()[-2000:]
        return done.returncode != 0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("mutated") / "checkout")


@pytest.mark.parametrize(
    "count", [SAMPLE_KERNELS, pytest.param(KERNELS, marks=pytest.mark.long)], ids=["sample", "full"]
)
def test_a_changed_kernel_fails_its_tests(checkout: Copy, count: int) -> None:
    tried = sample(kernel_mutants(), count)
    verdict(tried, checkout.is_killed)


# -- models ------------------------------------------------------------------------------------------------------


def model_mutants(manifest: dict[str, Any]) -> list[list[Mutant]]:
    """Of every SQL model of the market domain, by the id of its node."""
    nodes = [
        n for n in manifest["nodes"].values()
        if n["resource_type"] == "model" and n["language"] == "sql" and "/market/" in n["original_file_path"]
    ]  # fmt: skip
    return [
        list(mutants.of_sql(n["unique_id"], n["compiled_code"]))
        for n in sorted(nodes, key=lambda n: n["unique_id"])
    ]


class Given:
    """Gives the laws another manifest than their own."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest

    def pytest_configure(self, config: pytest.Config) -> None:
        config.given_manifest = self.manifest


class Models:
    """The laws of each model, and then whole days, tried on a manifest."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.healthy: set[str] = set()

    @functools.cached_property
    def days(self) -> Days:
        days = Days()
        assert days.fault(self.manifest) is None, "the days differ without any change"
        return days

    def is_killed(self, mutant: Mutant) -> bool:
        node = self.manifest["nodes"][mutant.where]
        changed = {**node, "compiled_code": mutant.apply(node["compiled_code"])}
        manifest = {**self.manifest, "nodes": {**self.manifest["nodes"], mutant.where: changed}}
        for law in LAWS_OF_MODELS.get(node["alias"], ()):
            if _fails(law, manifest):
                assert self._is_healthy(law), f"{law} fails without any change"
                return True
        return self.days.fault(manifest) is not None

    def _is_healthy(self, law: str) -> bool:
        if law not in self.healthy and not _fails(law, self.manifest):
            self.healthy.add(law)
        return law in self.healthy


def _fails(law: str, manifest: dict[str, Any]) -> bool:
    """A law in this process, which has what it imports."""
    options = [*QUICKLY, "-p", "no:xdist", "-p", "no:faulthandler", "--rootdir", str(PROJECT_DIR)]
    path = PROJECT_DIR / f"{LAWS}{law}.py"
    with contextlib.redirect_stdout(io.StringIO()) as told:
        code = pytest.main([*options, str(path)], [Given(manifest)])
    assert code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), told.getvalue()[-2000:]
    return code == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    "count", [SAMPLE_MODELS, pytest.param(MODELS, marks=pytest.mark.long)], ids=["sample", "full"]
)
def test_a_changed_model_differs_from_the_oracle(manifest: dict[str, Any], count: int) -> None:
    tried = sample(model_mutants(manifest), count)
    verdict(tried, Models(manifest).is_killed)
