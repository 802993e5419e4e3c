"""Contract files over time: drafts follow the YAML, published ones stand, a change is a new version with its news."""

import json
from pathlib import Path

import pytest
import yaml

from lake import contract_versions
from lake.contract_versions import ContractRefused, check, publish, versions, write

NAME = "silver/fills"
CHANGELOG = "# Changelog\n\n## Unreleased\n### Added\n- Much.\n\n### Data contracts\n{}\n"
MODEL = {
    "name": "fills",
    "description": "One row per fill.",
    "config": {
        "meta": {"grain": ["fill_id"], "key": ["fill_id"], "partition": "date", "path_keys": ["client_id"]}
    },
    "columns": [
        {"name": "client_id", "data_type": "bigint", "description": "Tenant."},
        {"name": "fill_id", "data_type": "bigint", "description": "Key."},
        {"name": "price", "data_type": "decimal(20, 8)", "description": "Mean price, quote asset."},
    ],
}
BEFORE = ["v1.json"]


class Project:
    """A project of one silver dataset on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contracts = folder / "contracts"
        (folder / "models" / "silver" / "execution").mkdir(parents=True)
        meta = {"owner": "models", "sla": {"availability_pct": 99.5, "freshness_hours": 24}}
        tree = {"models": {"tickhouse": {"silver": {"+schema": "silver", "+meta": meta}}}}
        (folder / "dbt_project.yml").write_text(yaml.safe_dump(tree))
        self.news("")
        self.model()

    def model(self, **changes: object) -> None:
        text = yaml.safe_dump({"models": [MODEL | changes]})
        (self.folder / "models" / "silver" / "execution" / "fills.yml").write_text(text)

    def columns(self, *columns: dict) -> None:
        self.model(columns=[*columns])

    def news(self, *lines: str) -> None:
        (self.folder / "CHANGELOG.md").write_text(CHANGELOG.format("\n".join(lines)))

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.contracts / NAME).glob("*"))

    def write(self) -> list[str]:
        return [path.name for path in write(self.folder, self.contracts)]

    def publish(self, *names: str) -> list[str]:
        return publish(names, self.folder, self.contracts)

    def faults(self) -> list[str]:
        return [fault.told for fault in check(self.folder, self.contracts)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def published(project: Project) -> Project:
    project.write()
    assert project.publish() == [f"{NAME}/v1.json"]
    assert project.faults() == []
    return project


EXTRA = {"name": "fee", "data_type": "decimal(20,8)", "description": "Fee, quote asset."}
WIDER = [*MODEL["columns"], EXTRA]
NARROWER = MODEL["columns"][:2]


def test_a_contract_says_what_the_yaml_says(project: Project):
    project.write()
    (path,) = versions(NAME, project.contracts).values()
    document = json.loads(path.read_text())
    assert {k: v for k, v in document.items() if k != "columns"} == {
        "name": "silver.fills",
        "version": "1.0",
        "owner": "models",
        "description": "One row per fill.",
        "path": "lake/silver/datasets/fills",
        "grain": ["fill_id"],
        "key": ["fill_id"],
        "partition": ["client_id", "date"],
        "tests": [],
        "sla": {"availability_pct": 99.5, "freshness_hours": 24.0},
    }
    told = [(c["name"], c["type"], c["nullable"], c["unit"]) for c in document["columns"]]
    assert told == [
        ("client_id", "bigint", False, None),
        ("fill_id", "bigint", False, None),
        ("price", "decimal(20,8)", True, "quote asset"),
        ("date", "date", False, None),
    ]


def test_a_draft_follows_the_yaml(project: Project):
    assert project.faults() == [
        "v1.json was missing (it has no contract yet); run `tickhouse contract write`"
    ]
    assert project.write() == BEFORE
    assert project.write() == []
    project.columns(*WIDER)
    assert project.faults() == ["v1.json is not what the YAML says; run `tickhouse contract write`"]
    project.columns(*NARROWER)
    assert project.write() == BEFORE  # nobody was promised the column that is gone
    assert project.faults() == []


@pytest.mark.parametrize(
    ("columns", "file", "told"),
    [(WIDER, "v1.1.json", "column added"), (NARROWER, "v2.json", "column removed")],
)
def test_a_change_of_what_is_published_is_a_new_file(published: Project, columns: list, file: str, told: str):
    published.columns(*columns)
    (fault,) = published.faults()
    assert fault.startswith(f"{file} was missing (")
    assert told in fault
    first = (published.contracts / NAME / "v1.json").read_bytes()
    assert published.write() == [file]
    assert published.files == sorted(["v1.json", file])
    assert (published.contracts / NAME / "v1.json").read_bytes() == first
    version = file.removesuffix(".json")
    assert published.faults() == [
        f"{file} has no news; add a line with `silver.fills` {version} to CHANGELOG, Data contracts"
    ]
    published.news(f"- `silver.fills` {version}: another set of columns.")
    assert published.faults() == []
    assert published.publish(NAME) == [f"{NAME}/{file}"]
    assert published.publish(NAME) == []


def test_a_change_taken_back_drops_its_draft(published: Project):
    published.columns(*WIDER)
    published.write()
    published.model()
    assert published.write() == ["v1.1.json"]
    assert published.files == BEFORE
    assert published.faults() == []


def test_a_published_file_that_is_edited_is_refused(published: Project):
    path = published.contracts / NAME / "v1.json"
    path.write_text(path.read_text().replace("Mean price", "Best price"))
    assert "v1.json was published and edited since" in published.faults()[0]
    with pytest.raises(ContractRefused, match="edited since"):
        published.publish()


def test_a_published_file_that_is_edited_with_its_yaml_is_refused(published: Project):
    """The way of least resistance: change the YAML, and the contract with it."""
    published.columns(*WIDER)
    dataset = contract_versions.contract_documents.datasets(published.folder)[NAME]
    (published.contracts / NAME / "v1.json").write_text(contract_versions.text_of(dataset.promise, "1.0"))
    assert "v1.json was published and edited since" in published.faults()[0]


def test_a_published_file_that_is_gone_is_missed(published: Project):
    (published.contracts / NAME / "v1.json").unlink()
    assert "v1.json was published and is gone" in published.faults()[0]


def test_a_breaking_change_under_a_minor_number_is_refused(published: Project):
    published.columns(*NARROWER)
    published.write()
    (published.contracts / NAME / "v2.json").rename(published.contracts / NAME / "v1.1.json")
    faults = published.faults()
    assert any("v1.1.json breaks v1.json (breaking: price: column removed" in fault for fault in faults)
    assert any("number it v2.json" in fault for fault in faults)
    assert any("said version 2.0, expected 1.1" in fault for fault in faults)


def test_news_of_another_heading_or_version_is_none(published: Project):
    published.columns(*WIDER)
    published.write()
    published.news("- `silver.fills` v1.2: one column more.")
    text = (published.folder / "CHANGELOG.md").read_text()
    (published.folder / "CHANGELOG.md").write_text(text.replace("- Much.", "- `silver.fills` v1.1"))
    assert "v1.1.json has no news" in published.faults()[0]


def test_a_dataset_that_goes_leaves_its_promise_behind(published: Project):
    (published.folder / "models" / "silver" / "execution" / "fills.yml").write_text("models: []\n")
    assert published.faults() == [
        "its dataset is gone and its contract published; keep the dataset until readers moved"
    ]


def test_a_draft_of_a_dataset_that_goes_is_dropped(project: Project):
    project.write()
    (project.folder / "models" / "silver" / "execution" / "fills.yml").write_text("models: []\n")
    assert project.faults() == ["its dataset is gone; run `tickhouse contract write`, which drops the draft"]
    assert project.write() == BEFORE
    assert project.faults() == []


def test_what_is_private_promises_nothing(project: Project):
    for name, config in (("int_fills__ranked", {}), ("stg_x__fills", {}), ("hidden", {"access": "private"})):
        project.model(name=name, config=MODEL["config"] | config)
        assert contract_versions.contract_documents.datasets(project.folder) == {}, name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"columns": [{"name": "price", "description": "Price."}]}, "silver/fills.price has no data_type"),
        ({"columns": [{"name": "price", "data_type": "date"}]}, "silver/fills.price has no description"),
        ({"columns": MODEL["columns"][1:]}, "path key client_id is no declared column"),
        ({"config": {"meta": MODEL["config"]["meta"] | {"owner": None}}}, "silver/fills has no owner"),
        ({"config": {"meta": MODEL["config"]["meta"] | {"sla": {}}}}, "silver/fills has no sla"),
    ],
)
def test_yaml_that_says_too_little_is_refused_in_one_line(project: Project, changes: dict, told: str):
    project.model(**changes)
    with pytest.raises(contract_versions.contract_documents.ContractGap, match=told) as refused:
        project.write()
    assert "\n" not in str(refused.value)
    assert not project.contracts.exists()


def test_a_list_that_is_no_list_is_refused(published: Project):
    path = published.contracts / contract_versions.PUBLISHED
    for text in ("v1.json\n", path.read_text() * 2):
        path.write_text(text)
        with pytest.raises(ContractRefused, match="restore the list"):
            published.faults()
