"""Each lock names no registry, holds a hash for everything, and is the one that its requirements ask for."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.laws.repository import PROJECT_DIR

LOCKS = ("requirements", "requirements-bench")
LEAST_PINS = {"requirements": 50, "requirements-bench": 5}


def lock(name: str) -> str:
    return (PROJECT_DIR / f"{name}.lock").read_text(encoding="utf-8")


def entries(text: str) -> list[tuple[Requirement, list[str]]]:
    """Each pin of a lock with its hashes."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in joined.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            found.append((Requirement(requirement.strip()), [text.strip() for text in hashes]))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_no_registry_is_named(name: str):
    assert ":" + "//" not in lock(name)
    assert re.findall(r"^\s*(?!--hash=)-\S*", lock(name), re.MULTILINE) == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_is_exact_and_hashed(name: str):
    pins = entries(lock(name))
    assert len(pins) > LEAST_PINS[name]
    loose = [str(pin) for pin, _ in pins if not re.fullmatch(r"==[^,*]+", str(pin.specifier))]
    bare = [
        str(pin)
        for pin, hashes in pins
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes)
    ]
    assert (loose, bare) == ([], [])


def test_a_pin_with_extras_has_a_plain_twin():
    """Without it pip takes any version where another package asks for the plain name, and then refuses the lock."""
    pins = [pin for pin, _ in entries(lock("requirements"))]
    plain = {(pin.name, str(pin.specifier)) for pin in pins if not pin.extras}
    assert [str(pin) for pin in pins if pin.extras and (pin.name, str(pin.specifier)) not in plain] == []


def test_what_is_compared_with_has_the_pins_of_everything_else():
    """Both locks are installed into one environment."""
    pins, benched = (
        {(canonicalize_name(p.name), str(p.marker)): str(p.specifier) for p, _ in entries(lock(name))}
        for name in LOCKS
    )
    differ = {key for key in pins.keys() & benched.keys() if pins[key] != benched[key]}
    assert differ == set()


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_answers_its_requirements(name: str):
    locked: dict[str, set[str]] = {}
    for pin, _ in entries(lock(name)):
        locked.setdefault(canonicalize_name(pin.name), set()).add(str(pin.specifier).removeprefix("=="))
    wanted = [
        Requirement(line.partition("#")[0].strip())
        for line in (PROJECT_DIR / f"{name}.in").read_text(encoding="utf-8").splitlines()
        if line.partition("#")[0].strip()
    ]
    unanswered = [
        str(requirement)
        for requirement in wanted
        if not any(
            requirement.specifier.contains(v) for v in locked.get(canonicalize_name(requirement.name), ())
        )
    ]
    assert unanswered == [], "run `make lock`"
