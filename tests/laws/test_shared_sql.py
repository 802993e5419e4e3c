"""Models stay in the SQL that DuckDB and Spark share; the rest is behind macros/engine/ and macros/lake/."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.laws.repository import PROJECT_DIR, tracked_files

ENGINE_FOLDERS = (Path("macros/engine"), Path("macros/lake"))
LIST_FILE = PROJECT_DIR / "tests" / "laws" / "shared_sql_functions.txt"
SHARED = {
    line for line in LIST_FILE.read_text(encoding="utf-8").splitlines() if line and line[:2] != "# "
} - {"#"}

# Spellings that no function name gives away, in the SQL as it was written.
UNSHARED_SYNTAX = {
    r"::": "write cast(… as …)",
    r"\basof\b": "an as-of join is written by the macro asof_left only",
    r"\bdistinct\s+on\b": "number the rows and keep the first",
    r"\bexclude\s*\(": "name the columns",
    r"\breplace\s*\([^()]*\bas\b": "name the columns",
    r"\b(?:u?hugeint|u(?:tiny|small|big)?int(?:eger)?)\b": "Spark has no unsigned or 128-bit integers",
    r"\btry_cast\b": "a cast that may fail belongs to the loader",
    r"->": "no lambdas",
    r"\[": "no list literals or subscripts",
    r"\b(?:un)?pivot\b": "spell the columns out",
    r"\busing\s+sample\b": "a sample isn't reproducible",
    r"\bpositional\s+join\b": "join on a key",
}


def functions(sql: str) -> set[str]:
    """Names of all functions, aggregates and operators in ``sql``, as DuckDB's own parser sees them."""
    tree = json.loads(duckdb.execute("select json_serialize_sql(?)", [sql]).fetchone()[0])
    if tree["error"]:
        raise ValueError(f"compiled SQL was not parsed: {tree['error_message']}")
    return set(_names(tree["statements"]))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "function_name" in node:
            yield node["function_name"]
        for value in node.values():
            yield from _names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _names(value)


def written(source: str) -> str:
    """``source`` without comments, text literals and Jinja: the SQL that its author wrote."""
    for pattern in (r"\{#.*?#\}", r"\{\{.*?\}\}", r"\{%.*?%\}", r"/\*.*?\*/", r"--[^\n]*", r"'[^']*'"):
        source = re.sub(pattern, " ", source, flags=re.DOTALL)
    return source.lower()


def uses(source: str, name: str) -> bool:
    """Whether the SQL written in ``source`` calls the function or operator ``name``."""
    if re.fullmatch(r"\w+", name):
        return re.search(rf"\b{re.escape(name)}\s*\(", source) is not None
    return name in source


def sources(below: str) -> dict[Path, str]:
    return {
        file: written((PROJECT_DIR / file).read_text(encoding="utf-8"))
        for file in tracked_files()
        if file.suffix == ".sql" and file.parts[0] == below
    }


@pytest.fixture(scope="module")
def engine_sql() -> str:
    # whole texts: a macro may put its SQL together in Jinja
    files = [file for file in sources("macros") if any(file.is_relative_to(f) for f in ENGINE_FOLDERS)]
    return "\n".join((PROJECT_DIR / file).read_text(encoding="utf-8").lower() for file in files)


@pytest.fixture(scope="module")
def plain_sql() -> dict[Path, str]:
    """What models and macros outside of the engine folders write."""
    plain_macros = {
        file: text
        for file, text in sources("macros").items()
        if not any(file.is_relative_to(folder) for folder in ENGINE_FOLDERS)
    }
    return {**sources("models"), **plain_macros}


def test_compiled_models_use_shared_functions_only(models, engine_sql, plain_sql):
    found = set()
    for node in models.values():
        if node["language"] != "sql":
            continue
        for name in functions(node["compiled_code"]) - SHARED:
            writers = [str(file) for file, text in plain_sql.items() if uses(text, name)]
            if not uses(engine_sql, name):
                writers.append(node["original_file_path"])
            found |= {(name, writer) for writer in writers}
    assert sorted(found) == [], f"not in {LIST_FILE.name}: use another function or a macro in macros/engine/"


def test_models_use_shared_syntax_only(plain_sql):
    found = [
        (str(file), match.group(0), advice)
        for file, text in plain_sql.items()
        for pattern, advice in UNSHARED_SYNTAX.items()
        if (match := re.search(pattern, text))
    ]
    assert found == []


def test_the_list_is_sorted_out():
    names = [line for line in LIST_FILE.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert len(names) == len(set(names)) == len(SHARED)
    known = {
        row[0] for row in duckdb.execute("select distinct function_name from duckdb_functions()").fetchall()
    }
    windows = {
        "dense_rank",
        "first_value",
        "lag",
        "last_value",
        "lead",
        "nth_value",
        "ntile",
        "rank",
        "row_number",
    }
    assert SHARED - known - windows == set()


def test_functions_are_found_wherever_they_stand():
    sql = """
        with a as (select median(x) as m from t group by all having bool_and(x > 0))
        select lag(m) over (order by m), m // 2, sum(m) filter (where exp(m) > 1), count(*)
        from a asof left join read_parquet('f') b on a.m >= b.m and hash(a.m) = hash(b.m)
        where m in (select unnest(range(3))) qualify rank() over (order by md5(m)) = 1
    """
    assert functions(sql) >= {
        "median", "bool_and", "lag", "//", "sum", "exp", "count_star",
        "read_parquet", "hash", "unnest", "range", "rank", "md5",
    }  # fmt: skip


def test_only_written_sql_counts():
    source = (
        "select {{ idiv('a', 7) }} /* x // 2 */, 'hash(1)' from t -- md5(x)\nwhere abs (x) > {# a::b #} 1"
    )
    assert not any(uses(written(source), name) for name in ("//", "hash", "md5", "idiv"))
    assert uses(written(source), "abs")
    seen = [
        p for p in UNSHARED_SYNTAX if re.search(p, written("select a::HUGEINT, x -> x[1] from b ASOF join c"))
    ]
    assert len(seen) == 5
