"""Either domain builds alone: by its selector, over a lake in which nothing of the other was ever landed."""

from datetime import date

import pytest
import yaml

from ingest.dbn import ingest
from ingest.simulator import market
from ingest.simulator.execution.landing import land_simulated
from ingest.simulator.execution.simulation import simulate_execution
from lake.paths import PROJECT_DIR
from tests.fixtures.dbt import Outcome, repository_project, unsynced

OTHER = {"market": "execution", "execution": "market"}
BAD = {"error", "fail", "skipped", "runtime error"}


def bad(outcome: Outcome) -> dict[str, str]:
    return {name: outcome.messages[name] for name, status in outcome.statuses.items() if status in BAD}


@pytest.fixture(scope="module")
def domains(manifest: dict) -> dict[str, set[str]]:
    """Models by the selector that names them: those of a group, and monitoring without one."""
    found: dict[str, set[str]] = {"market": set(), "execution": set()}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model":
            group = node["config"].get("group")
            is_monitoring = node["original_file_path"].startswith("models/monitoring")
            found[group or ("market" if is_monitoring else "")].add(node["name"])
    return found


def test_there_is_a_selector_for_each_domain_and_no_model_between_them(domains: dict[str, set[str]]):
    selectors = yaml.safe_load((PROJECT_DIR / "selectors.yml").read_text())["selectors"]
    assert {selector["name"] for selector in selectors} == set(OTHER)
    assert all(domains.values())
    assert not domains["market"] & domains["execution"]


def test_no_model_of_a_domain_is_made_of_the_others(manifest: dict):
    """The bridge that the architecture allows, execution over public market entities, is not crossed yet."""
    group = {
        unique_id: node["config"].get("group")
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
    }
    crossed = [
        (unique_id, parent)
        for unique_id, name in group.items()
        for parent in manifest["nodes"][unique_id]["depends_on"]["nodes"]
        if name in OTHER and group.get(parent) == OTHER[name]
    ]
    assert crossed == []


def test_the_execution_domain_builds_alone(tmp_path, domains: dict[str, set[str]]):
    out = tmp_path / "bot"
    simulate_execution(out, seed=3, clients=1, days=1, ops_per_day=12, symbols=["BTCUSDC"], faults=["none"])
    root = tmp_path / "lake_root"
    with unsynced():
        land_simulated(root, out)
    outcome = repository_project().run(root, "build", "--selector", "execution")
    assert bad(outcome) == {}
    assert outcome.dates()
    assert not outcome.statuses.keys() & domains["market"]


@pytest.mark.long
def test_the_market_builds_alone(tmp_path, domains: dict[str, set[str]]):
    """By default `test_contracts` does so by the way: its lake has a market and nothing of a bot when it is built."""
    market.simulate(tmp_path, [date(2025, 10, 14)], scale=0.0005, seed=1, profile="planted")
    ingest(tmp_path, [tmp_path / "raw" / "dbn"])
    outcome = repository_project().run(tmp_path, "build", "--selector", "market")
    assert bad(outcome) == {}
    assert outcome.dates()
    assert not outcome.statuses.keys() & domains["execution"]
