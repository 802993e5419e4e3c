"""What must never be in the tree: secrets, paths of one machine, addresses of registries, data."""

import re
from pathlib import Path

import pytest

from tests.laws.repository import PROJECT_DIR, text_of, tracked_files

# Patterns are put together from pieces, so that this file doesn't hold what it forbids.
SECRETS = re.compile(
    "|".join(
        [
            r"\bdb-[A-Za-z0-9]{29}\b",
            r"\bAKIA[0-9A-Z]{16}\b",
            r"-----BEGIN [A-Z ]*PRIVATE" + r" KEY",
            r"\bgh[pousr]_[A-Za-z0-9]{36}",
            r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
            # a long literal given to a name that says what it is
            r"(?i:api_?key|secret|passw(?:or)?d|token)[\"']?\s*[=:]\s*[\"'][A-Za-z0-9+/_-]{20,}[\"']",
        ]
    )
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.$}])/(?:" + "|".join(["home", "Users", "root", "work"]) + r")/|[A-Z]:\\Users\\"
)
REGISTRIES = re.compile(
    "|".join(
        [
            r"\bpypi\." + r"org",
            r"\bpythonhosted\." + r"org",
            r"\bregistry\." + r"npmjs",
            r"https?:" + r"//[^\s\"']+/(?:simple|packages)/",
            r"--(?:extra-)?index" + r"-url\b",
            r"\"resolved\":\s*\"https?:",
        ]
    )
)
MAX_BYTES = 1 << 20


def findings(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{file}:{text.count(chr(10), 0, match.start()) + 1}: {match.group(0)[:8]}…"
        for file in tracked_files()
        if (text := text_of(file)) is not None
        for match in pattern.finditer(text)
    ]


def test_no_secret():
    assert findings(SECRETS) == []
    assert [file for file in tracked_files() if file.name == ".env"] == []


def test_no_path_of_a_machine():
    assert findings(MACHINE_PATHS) == []
    here = re.compile(re.escape(f"{PROJECT_DIR}/"))
    assert findings(here) == []


def test_no_address_of_a_registry():
    assert findings(REGISTRIES) == []


def test_no_data_and_nothing_large():
    large = [str(file) for file in tracked_files() if (PROJECT_DIR / file).stat().st_size > MAX_BYTES]
    assert large == []
    assert [file for file in tracked_files() if file.parts[0] == "data"] == [Path("data/README.md")]
    assert [
        str(file) for file in tracked_files() if file.suffix in {".parquet", ".duckdb", ".zst", ".dbn"}
    ] == []


@pytest.mark.parametrize(
    ("pattern", "forbidden", "fine"),
    [
        (SECRETS, "db-" + "a1" * 14 + "b", "db-${DATABENTO_KEY}"),
        (SECRETS, "AKIA" + "ABCD" * 4, "AKIA"),
        (SECRETS, "API_KEY = '" + "abcd" * 6 + "'", "API_KEY = os.environ['MASSIVE_API_KEY']"),
        (MACHINE_PATHS, "open('/" + "home/ann/x')", "src/home/x"),
        (MACHINE_PATHS, '"/' + 'root/.cache"', "$LAKE_ROOT/" + "root/x"),
        (REGISTRIES, "https:" + "//mirror.example/simple/", "https:" + "//example.com/simple"),
        (REGISTRIES, "pip install --index" + "-url x", "an index of urls"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, forbidden, fine):
    assert pattern.search(forbidden)
    assert not pattern.search(fine)
