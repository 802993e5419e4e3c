"""Which dates a data test still has to read (architecture D5): those that it has not passed on as it stands now.

A date that every test of its dataset passed carries, in the record of its verdict, one digest of these tests: of their
code and of all that they read beside the datasets. A rebuilt date has a new commit without a verdict, and an edited
test another digest; a date that failed, or was warned about, has none.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from lake import code, commits, params, plan

# dbt's own `unique` has no meta of ours. Ours say it by `across_dates`: they compare rows of different dates.
ACROSS_DATES = {"unique"}


def of_dataset(node: dict, graph: dict) -> list[dict]:
    """The data tests that read a dataset, in order of id."""
    tests = (n for n in graph["nodes"].values() if n["resource_type"] == "test")
    mine = (t for t in tests if node["unique_id"] in t["depends_on"]["nodes"])
    return sorted(mine, key=lambda t: t["unique_id"])


def digest(tests: Iterable[dict], graph: dict, macros: dict) -> str:
    """sha256 of what the tests claim: their code, arguments and config, what the YAML of their models declares, their
    seeds and, where they ask for a parameter, every param set. None of it is content of a dataset."""
    files: dict[str, str] = {}
    for test in tests:
        mine = code.own_code(test, [], macros)
        arguments = (test.get("test_metadata") or {}).get("kwargs")
        files[test["unique_id"]] = _sha256([mine, arguments, test["config"]])
        if any(name.endswith("#param_values") for name in mine):
            files["params"] = _sha256(sorted(params.load(name).digest for name in params.names()))
        for uid in test["depends_on"]["nodes"]:
            node = graph["nodes"].get(uid, {"resource_type": "source"})
            if node["resource_type"] == "seed":
                files[uid] = node["checksum"]["checksum"]
            elif node["resource_type"] == "model" and uid not in files:
                files[uid] = _sha256(node["columns"])
    return code.digest(files)


def untested(root: Path, node: dict, tests_digest: str) -> set[str]:
    """ISO dates of a dataset that these tests have not all passed on."""
    partitions = commits.read_partitions(plan.dataset_dir(root, node)).values()
    verdicts = [(partition.commit.date, partition.status()) for partition in partitions]
    return {d for d, v in verdicts if v["status"] != "ok" or v.get("tests_digest") != tests_digest}


def due_dates(test: dict, graph: dict, untested_of: Callable[[dict], set[str]]) -> list[str] | None:
    """ISO dates that a test has to read of each of its datasets, in order; None for all.

    One date that is untested in any dataset is read of all. A test that compares rows of different dates reads every
    date or, with none untested, no date.
    """
    read = [graph["nodes"][uid] for uid in test["depends_on"]["nodes"] if uid in graph["nodes"]]
    if any(node["resource_type"] == "model" and not plan.is_dataset(node) for node in read):
        return None  # what stands under a view is not told by date
    due = set().union(*(untested_of(node) for node in read if plan.is_dataset(node)))
    name = (test.get("test_metadata") or {}).get("name")
    return None if due and (name in ACROSS_DATES or plan.meta(test).get("across_dates")) else sorted(due)


def _sha256(value: object) -> str:
    return code.sha256_text(params.canonical_json(json.loads(json.dumps(value, default=str))))
