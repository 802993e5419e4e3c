"""Which partitions are due, and why: on a lake that was built once, with one thing changed."""

import copy
import dataclasses
import shutil
from pathlib import Path

import pytest

from lake import calendar, code, commits, params, plan
from tests.fixtures.bronze import Delivery, at_ns, make_bronze, market_day, print_at, write_receipt
from tests.fixtures.dbt import fixture_project

DATES = ["2025-12-11", "2025-12-12", "2025-12-15", "2025-12-16"]  # a weekend in the middle


def deliveries() -> list[Delivery]:
    return [
        Delivery(d, {"trades": market_day(d, 1, hours=(14,), events_per_hour=20)["trades"]}) for d in DATES
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A lake of four sessions, everything built; tests change copies of it."""
    root = tmp_path_factory.mktemp("built")
    make_bronze(root, deliveries())
    outcome = fixture_project().run(root, "run", "--exclude", "refused_*")
    assert outcome.ok, outcome
    return root


@pytest.fixture
def lake(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "lake"))


class Planner:
    """Plans every dataset of the small project on a lake, with a graph and macros that a test may change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.graph = fixture_project().graph()
        self.macros = fixture_project().macros()

    def node(self, name: str) -> dict:
        return next(
            n for n in self.graph["nodes"].values() if n["name"] == name and n["resource_type"] != "test"
        )

    def plan(self, name: str, **options: object) -> plan.Plan:
        return plan.plan(self.root, self.node(name), self.graph, self.macros, **options)

    def due(self, **options: object) -> dict[str, list[str]]:
        """Dates to build, by dataset, each planned on what is committed now."""
        names = [n["name"] for n in self.graph["nodes"].values() if plan.is_dataset(n)]
        steps = {
            n: [s.date for s in self.plan(n, **options).steps] for n in names if not n.startswith("refused_")
        }
        return {name: dates for name, dates in steps.items() if dates}

    def change_macro(self, name: str) -> None:
        uid = f"macro.tickhouse.{name}"
        self.macros[uid] = dataclasses.replace(self.macros[uid], macro_sql=self.macros[uid].macro_sql + " ")


@pytest.fixture
def planner(lake) -> Planner:
    return Planner(lake)


def test_nothing_is_due_after_a_build(planner):
    assert planner.due() == {}
    assert planner.plan("ticks").total == len(DATES)
    assert planner.plan("banded").total == 2 * len(DATES)


def test_full_refresh_and_dates_narrow_what_is_built(planner):
    whole = planner.due(full_refresh=True)
    assert whole["ticks"] == DATES
    assert whole["banded"] == DATES * 2
    narrowed = planner.due(full_refresh=True, start_date=DATES[1], end_date=DATES[3])
    assert narrowed["ticks"] == DATES[1:3]  # the end is exclusive
    assert planner.due(start_date=DATES[1]) == {}


# -- what a late delivery makes due ------------------------------------------------------------------------------------


def test_a_late_delivery_makes_its_dates_due_and_no_other(planner):
    make_bronze(
        planner.root, [Delivery("late", {"trades": [print_at(at_ns("2025-12-12T15:00:00"), 27_200)]})]
    )
    # Only bronze has changed so far: the rest follows when ticks has another digest.
    assert planner.due() == {"ticks": ["2025-12-12"], "through_a_view": ["2025-12-12"]}


def test_evening_prints_belong_to_the_next_session(planner):
    make_bronze(
        planner.root, [Delivery("late", {"trades": [print_at(at_ns("2025-12-15T23:30:00"), 27_200)]})]
    )
    assert planner.due()["ticks"] == ["2025-12-16"]


def test_prints_of_no_session_make_nothing_due(planner):
    times = (at_ns("2025-12-13T15:00:00"), at_ns("2025-12-15T22:30:00"))  # a Saturday; the daily break
    make_bronze(planner.root, [Delivery("late", {"trades": [print_at(t, 27_200) for t in times]})])
    assert planner.due() == {}


def test_another_symbol_makes_nothing_due(planner):
    rows = {"trades": [print_at(at_ns("2025-12-12T15:00:00"), 27_200, contract="NQZ5")]}
    make_bronze(planner.root, [Delivery("other", rows, symbol="NQ")])
    assert planner.due() == {}


def test_a_delivery_without_receipt_makes_nothing_due_and_a_withdrawn_one_does(planner):
    rows = {"trades": [print_at(at_ns("2025-12-12T15:00:00"), 27_200)]}
    make_bronze(planner.root, [Delivery("waiting", rows, receipt=None)])
    assert planner.due() == {}
    write_receipt(planner.root, deliveries()[1], "quarantined")
    # The inputs of 12-12 are gone; its rows must go, so it is due.
    assert planner.due()["ticks"] == ["2025-12-12"]
    step = planner.plan("ticks").steps[0]
    assert [k for k in step.inputs if k.startswith("bronze/")] == []


def change_digest(root: Path, folder: str, date: str) -> None:
    """As if the partition had been built anew with other rows."""
    partition = commits.read_partitions(root / "lake" / folder)[None, date]
    other = dataclasses.replace(partition.commit, content_digest="f" * 64)
    staged = root / "copy.parquet"
    staged.write_bytes(partition.file.read_bytes())
    commits.publish(staged, partition.folder, other)


def test_a_changed_parent_makes_the_dates_due_whose_map_names_it(planner):
    change_digest(planner.root, "silver/datasets/minutes", "2025-12-12")
    due = planner.due()
    assert due["nothing"] == ["2025-12-12"]
    assert due["trail"] == ["2025-12-12", "2025-12-15", "2025-12-16"]  # itself and two sessions before
    assert due["earlier"] == ["2025-12-15"]  # the session before, not its own
    assert due["banded"] == ["2025-12-12", "2025-12-12"]
    assert set(due) == {"nothing", "nothing_py", "after_nothing", "trail", "earlier", "banded"}


def test_a_date_map_reads_sessions_not_calendar_days(planner):
    step = planner.plan("trail", full_refresh=True).steps[2]
    assert (step.date, step.dates["minutes"]) == ("2025-12-15", ["2025-12-11", "2025-12-12", "2025-12-15"])
    step = planner.plan("earlier", full_refresh=True).steps[2]
    assert step.dates == {"minutes": ["2025-12-12"], "ticks": ["2025-12-15"]}


def test_an_uncommitted_date_is_due(planner):
    folder = planner.root / "lake/silver/datasets/minutes/date=2025-12-15"
    next(folder.glob("_metadata/commit-*.json")).unlink()
    assert planner.due()["minutes"] == ["2025-12-15"]


# -- what a change of code makes due -----------------------------------------------------------------------------------


def test_a_changed_model_makes_itself_due_and_nothing_else(planner):
    planner.node("minutes")["raw_code"] += "\n-- a comment is code: whoever reads it may not"
    assert planner.due() == {"minutes": DATES}


@pytest.mark.parametrize(
    ("macro", "models"),
    [
        ("minute_of", {"minutes"}),
        ("minutes_since_epoch", {"minutes"}),  # called by the macro that the model calls
        ("idiv", {"minutes"}),
        ("duckdb__idiv", {"minutes"}),  # reached by dispatch
        ("is_built_date", {"trail"}),
        ("param", {"banded"}),
        ("duckdb__param", {"banded"}),
        ("file_order", set()),  # nobody here uses it
        ("rows_in_order", set()),  # machinery
        ("ref", set()),
    ],
)
def test_a_changed_macro_makes_due_what_uses_it(planner, macro, models):
    planner.change_macro(macro)
    assert set(planner.due()) == models


def test_a_changed_view_makes_its_readers_due(planner):
    planner.node("all_trades")["raw_code"] += " "
    assert planner.due() == {"through_a_view": DATES}


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("minutes", lambda n: n["columns"]["volume"].update(data_type="hugeint")),
        ("minutes", lambda n: n["columns"].update(more={"name": "more", "data_type": "integer"})),
        ("minutes", lambda n: n["columns"]["volume"].update(meta={"role": "lineage"})),
        ("minutes", lambda n: n["config"]["meta"].update(key=["minute_ns", "volume"])),
        ("trail", lambda n: n["config"]["meta"]["reads"]["minutes"].update(sessions_before=1)),
        ("flow", lambda n: n["config"]["meta"].update(presorted=False)),
    ],
)
def test_a_changed_declaration_makes_its_model_due(planner, model, change):
    change(planner.node(model))
    assert set(planner.due()) == {model}


def test_prose_makes_nothing_due(planner):
    node = planner.node("minutes")
    node["description"] = "Other words."
    node["columns"]["volume"]["description"] = "Other words."
    node["config"]["meta"].update(
        grain=["minute_ns"], semantics="stateless", lesson="x", invariants=[{"id": "a"}]
    )
    assert planner.due() == {}


def test_a_changed_seed_makes_its_readers_due_but_a_longer_calendar_does_not(planner, tmp_path, monkeypatch):
    planner.node("dim_session")["checksum"]["checksum"] = "0" * 64
    assert planner.due() == {}  # a dated seed is read row by row

    lines = calendar.CALENDAR_FILE.read_text().splitlines(keepends=True)
    i = next(i for i, line in enumerate(lines) if line.startswith("2025-12-12"))
    changed = tmp_path / "dim_session.csv"
    changed.write_text("".join([*lines[:i], lines[i].replace("false", "true"), *lines[i + 1 : -5]]))
    other = calendar.load(changed)
    monkeypatch.setattr(calendar, "load", lambda: other)
    assert planner.due() == {name: ["2025-12-12"] for name in ("ticks", "through_a_view", "earlier")}


def test_another_param_set_is_another_partition(planner):
    active = plan.active_params(planner.graph, (), None)
    assert [p.name for p in sorted(active, key=lambda p: p.name)] == ["atr", "default"]
    only = plan.active_params(planner.graph, [planner.node("version_b")["unique_id"]], None)
    assert [p.name for p in only] == ["atr"]
    assert planner.due(param_set="overnight") == {
        "banded": DATES,
        "version_a": DATES,
        "version_b": DATES,
    }
    folder = planner.plan("banded", param_set="overnight").steps[0].folder
    assert folder.parent.name == f"params={params.load('overnight').digest8}"


# -- what can't be planned ---------------------------------------------------------------------------------------------


def test_a_date_map_of_an_unknown_parent_is_refused(planner):
    planner.node("trail")["config"]["meta"]["reads"] = {"minuets": {"sessions_before": 2}}
    with pytest.raises(plan.PlanError, match=r"trail: meta\.reads names minuets, but it reads minutes"):
        planner.plan("trail")


def test_a_dataset_may_not_read_another_through_a_view(planner):
    view = planner.node("all_trades")
    for name in ("ticks", "dim_session"):
        changed = copy.deepcopy(view)
        changed["depends_on"]["nodes"].append(planner.node(name)["unique_id"])
        planner.graph["nodes"][view["unique_id"]] = changed
        with pytest.raises(plan.PlanError, match=f"reads {name} through the view all_trades"):
            planner.plan("through_a_view")


def test_a_dataset_per_param_set_needs_readers_that_name_theirs(planner):
    del planner.node("version_a")["config"]["meta"]["param_set"]
    with pytest.raises(plan.PlanError, match="version_a reads banded, which is built per param set"):
        planner.plan("version_a")


# -- fingerprints ------------------------------------------------------------------------------------------------------


def test_kernels_are_followed_through_every_kind_of_import(tmp_path):
    physics = tmp_path / "physics"
    (physics / "deep").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "from . import b\nfrom .c import thing\nimport numpy\n",
        "b.py": "import physics.deep.d\n",
        "c.py": "thing = 1\n",
        "deep/__init__.py": "from .e import other\n",
        "deep/d.py": "def f():\n    from ..f import g\n",
        "deep/e.py": "other = 1\n",
        "f.py": "g = 1\n",
        "unused.py": "",
    }
    for name, text in files.items():
        (physics / name).write_text(text)
    source = "import pyarrow\nfrom physics.a import f\n\ndef model(dbt, session):\n    pass\n"
    found = code.kernel_code(source, tmp_path)
    assert set(found) == {f"physics/{name}" for name in files if name != "unused.py"}
    before = code.digest(found)
    (physics / "f.py").write_text("g = 2\n")
    assert code.digest(code.kernel_code(source, tmp_path)) != before
    (physics / "f.py").write_text("g = 1\n")
    (physics / "unused.py").write_text("x = 1\n")
    assert code.digest(code.kernel_code(source, tmp_path)) == before


def test_a_python_model_holds_its_kernels(planner):
    assert "physics/units.py" in planner.plan("flow").code_files
    assert not any(name.startswith("physics/") for name in planner.plan("minutes").code_files)


def test_the_input_digest_is_of_what_was_read(planner):
    step = planner.plan("trail", full_refresh=True).steps[1]
    assert sorted(step.inputs) == [f"silver/datasets/minutes/{d}" for d in ("2025-12-11", "2025-12-12")]
    other = {**step.inputs, "silver/datasets/minutes/2025-12-11": "0" * 64}
    assert plan.input_digest(step.inputs) == plan.input_digest(dict(reversed(step.inputs.items())))
    assert plan.input_digest(other) != plan.input_digest(step.inputs)


@pytest.mark.parametrize("key", [None, [], ["minute_nss"]])
def test_a_dataset_without_a_key_is_refused(planner, key):
    planner.node("minutes")["config"]["meta"]["key"] = key
    with pytest.raises(plan.PlanError, match=r"minutes: meta\.key was .* expected a list of its columns"):
        planner.plan("minutes")


def test_a_date_map_counts_by_a_number_or_a_known_parameter(planner):
    reads = {"minutes": {"sessions_before": "SMA_WARMUP_DAYS"}}
    planner.node("banded")["config"]["meta"]["reads"] = reads
    step = planner.plan("banded", full_refresh=True).steps[3]
    assert step.dates["minutes"] == DATES  # three sessions before, and its own
    for name, count in (("banded", "SMA_WARMUP"), ("trail", "SMA_WARMUP_DAYS")):
        planner.node(name)["config"]["meta"]["reads"] = {"minutes": {"sessions_before": count}}
        with pytest.raises(plan.PlanError, match=f"{name}: sessions_before of minutes was '{count}'"):
            planner.plan(name, full_refresh=True)


def test_a_dataset_that_would_have_no_dates_is_refused(planner):
    node = planner.node("earlier")
    node["depends_on"]["nodes"] = [n for n in node["depends_on"]["nodes"] if not n.endswith(".ticks")]
    with pytest.raises(plan.PlanError, match="earlier reads no dataset or source on its own dates"):
        planner.plan("earlier")
