"""The lock names no registry, holds a hash for everything, and is the one that requirements.in asks for."""

import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.laws.repository import PROJECT_DIR

LOCK = (PROJECT_DIR / "requirements.lock").read_text(encoding="utf-8")


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Each pin of ``lock`` with its hashes."""
    joined = re.sub(r"\\\n\s*", " ", lock)
    found = []
    for line in joined.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            found.append((Requirement(requirement.strip()), [text.strip() for text in hashes]))
    return found


def test_no_registry_is_named():
    assert ":" + "//" not in LOCK
    assert re.findall(r"^\s*(?!--hash=)-\S*", LOCK, re.MULTILINE) == []


def test_every_pin_is_exact_and_hashed():
    pins = entries(LOCK)
    assert len(pins) > 50
    loose = [str(pin) for pin, _ in pins if not re.fullmatch(r"==[^,*]+", str(pin.specifier))]
    bare = [
        str(pin)
        for pin, hashes in pins
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes)
    ]
    assert (loose, bare) == ([], [])


def test_the_lock_answers_requirements_in():
    locked: dict[str, set[str]] = {}
    for pin, _ in entries(LOCK):
        locked.setdefault(canonicalize_name(pin.name), set()).add(str(pin.specifier).removeprefix("=="))
    wanted = [
        Requirement(line.partition("#")[0].strip())
        for line in (PROJECT_DIR / "requirements.in").read_text(encoding="utf-8").splitlines()
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
