"""A build key holds code, params and inputs: no model may read anything else, or a change of it would go unseen."""

import re

import pytest

from tests.laws.repository import PROJECT_DIR, tracked_files

# What is read at compile time or at run time past the key: dbt's vars, environment and target, clocks, chance.
OUTSIDE = re.compile(
    r"\b(var|env_var|param_values|run_query|current_timestamp|now|today|random|uuid|gen_random_uuid|setseed)\s*\("
    r"|\b(target|flags)\.|\b(run_started_at|invocation_id|current_date|current_timestamp)\b"
    r"|dbt\.config\.get|\bos\.environ|\bdatetime\.|\btime\.time"
)


def code_of(text: str) -> str:
    """Without comments and docstrings, which may speak of anything."""
    return re.sub(r'\{#.*?#\}|""".*?"""|--[^\n]*|(?<!\w)#[^\n]*', "", text, flags=re.DOTALL)


def keyed_files() -> list:
    """Models, and the macros they call; those in macros/lake are the machinery that hands a key's parts in."""
    return [
        f
        for f in tracked_files()
        if f.suffix in (".sql", ".py")
        and f.parts[0] in ("models", "macros")
        and f.parts[:2] != ("macros", "lake")
    ]


def test_there_are_models_to_look_at():
    assert len(keyed_files()) > 10


@pytest.mark.parametrize("file", keyed_files(), ids=str)
def test_a_model_reads_nothing_that_its_build_key_does_not_hold(file):
    assert [m.group() for m in OUTSIDE.finditer(code_of((PROJECT_DIR / file).read_text()))] == []


@pytest.mark.parametrize(
    "text",
    [
        "{{ var('x') }}",
        "{{ env_var('X') }}",
        "select now()",
        "x = dbt.config.get('k')",
        "{{ target.name }}",
        "random ()",
    ],
)
def test_a_trespass_is_seen(text):
    assert OUTSIDE.search(code_of(text))
    assert not OUTSIDE.search(code_of(f"select 1 -- {text}"))
