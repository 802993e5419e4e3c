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


VIEWS = ("models/monitoring/", "models/gold/execution/portfolio_performance.sql")
"""Views hold no rows, so that no key stands for them: they may ask the clock, and a range of the invocation."""
LINEAGE = "macros/engine/build_time.sql"  # when a row was built: outside of every digest


def keyed_files() -> list:
    """Models, and the macros they call; those in macros/lake are the machinery that hands a key's parts in."""
    return [
        f
        for f in tracked_files()
        if f.suffix in (".sql", ".py")
        and f.parts[0] in ("models", "macros")
        and f.parts[:2] != ("macros", "lake")
        and not f.as_posix().startswith((*VIEWS, LINEAGE))
    ]


def test_what_has_no_key_holds_no_rows(manifest):
    models = [n for n in manifest["nodes"].values() if n["resource_type"] == "model"]
    materialized = {n["original_file_path"]: n["config"]["materialized"] for n in models}
    assert {m for path, m in materialized.items() if path.startswith(VIEWS)} == {"view"}


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
