"""What every test may ask for: a lake of its own, and the real files where they stand."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

PROJECT_DIR = Path(__file__).resolve().parents[1]

# Compiled kernels are shared between runs, also when pytest is called without make.
os.environ.setdefault("NUMBA_CACHE_DIR", str(PROJECT_DIR / ".numba_cache"))

# No deadline: a shared machine is slow at times, and that is no property of the code. In CI the examples are
# the same in every run, so that a failure belongs to the change that shows it.
settings.register_profile("tickhouse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("tickhouse"), derandomize=True, print_blob=True)
# Whether there is a failure at all, the same in every run (`test_mutants`).
settings.register_profile(
    "fails", settings.get_profile("tickhouse"), derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ci" if os.environ.get("CI") else "tickhouse")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: packed ones hold the second in which they were packed, so that two processes that share the
    tests would collect different ones."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root; ``LAKE_ROOT`` names it for the length of the test."""
    root = tmp_path / "lake_root"
    root.mkdir()
    monkeypatch.setenv("LAKE_ROOT", str(root))
    return root


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real market files: ``REALDATA_ROOT``, or ``shared/realdata`` beside the checkout.

    A test that asks for it is marked ``realdata``, and is skipped where the files are missing.
    """
    folder = Path(os.environ.get("REALDATA_ROOT") or PROJECT_DIR.parent / "shared" / "realdata")
    if not folder.is_dir():
        pytest.skip(reason="the real market files are not on this machine; REALDATA_ROOT names their folder")
    return folder
