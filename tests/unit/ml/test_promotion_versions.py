"""A champion of another feature version than its challenger's is fitted on what it was made of: its own features."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from ml import components, datasets, judging, promotion, registry, training
from tests.unit.ml import ml_worlds
from tests.unit.ml.promoted_worlds import ONE, QUICK, VERSION, contract, landed, promote, trained, world

OTHER = "v1.1_without_state"
BLIND = "exp002_blind"
PLANTED = "barrier_state"
"""The one column that knows the outcome in these worlds."""


def without_state() -> datasets.Contract:
    """A version to which the state of the barrier is a fact to look at, and no feature."""
    declared = contract()
    columns = (dataclasses.replace(c, role="reference") if c.name == PLANTED else c for c in declared.columns)
    return datasets.Contract(OTHER, tuple(columns))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The champion knows the state; its challenger is of a version whose models don't see it."""
    root = tmp_path_factory.mktemp("versions")
    table = world(touches=150)
    landed(root, table)
    landed(root, table, OTHER)
    trained(root, ONE, stages=("touch",))
    config = training.Config(**QUICK, version=OTHER, stages=("touch",))
    training.train(root, OTHER, BLIND, config=config, contract=without_state())
    promote(root, ONE)
    return root


@pytest.fixture
def trials(
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[datasets.TrainingTable, training.Config, components.Trial]]:
    """What was tried: the table, how, and what came out; the contract of the champion's version is that of its rows."""
    found = []

    def trial(
        table: datasets.TrainingTable, config: training.Config, *args: object, **kwargs: object
    ) -> object:
        found.append((table, config, fitted(table, config, *args, **kwargs)))
        return found[-1][-1]

    fitted = components.trial
    monkeypatch.setattr(components, "trial", trial)
    monkeypatch.setattr(datasets, "load_contract", {VERSION: contract(), OTHER: without_state()}.__getitem__)
    return found


def test_a_champion_of_another_version_is_fitted_on_its_own_features(
    built: Path, tmp_path: Path, trials: list
) -> None:
    root = shutil.copytree(built, tmp_path / "root")
    before = registry.read(root)
    champion = registry.champion(root, "tradeable_2_touch")
    assert (champion["silver_version"], PLANTED in champion["features"]) == (VERSION, True)
    with pytest.raises(
        promotion.PromotionRefused, match="worse than exp001_tradeable_2_touch on the same rows"
    ) as told:
        promotion.promote(root, BLIND, contract=without_state(), min_events=500)
    assert {g.name for g in told.value.gates if not g.passed} == {"not_worse_than_champion"}
    assert registry.read(root) == before
    (blind, as_blind, mine), (table, config, theirs) = trials
    assert (blind.contract.version, as_blind.features) == (OTHER, None)
    assert (table.contract.version, list(config.features)) == (VERSION, champion["features"])
    assert config.boosting == champion["params"]["boosting"]

    # It is what the champion's own training says of these rows, and no refit on the challenger's columns.
    own = datasets.load(root, VERSION, contract())
    (trained_alone,) = training.evaluate(own, training.Config.from_dict(champion["params"])).trials.values()
    for way, p in trained_alone.calibrated.items():
        assert (theirs.calibrated[way] == p).all()
    assert components.paired(theirs, mine).secondary.low > 0


def test_a_champion_whose_version_was_built_for_other_dates_can_not_be_compared(
    built: Path, tmp_path: Path, trials: list
) -> None:
    root = shutil.copytree(built, tmp_path / "root")
    days = ml_worlds.session_names(24)
    shutil.rmtree(root / "lake" / datasets.folder(VERSION) / f"date={days[-4]}")
    with pytest.raises(
        promotion.PromotionRefused, match=r"not_worse_than_champion: .* build both versions"
    ) as told:
        promotion.promote(root, BLIND, contract=without_state(), min_events=500)
    assert {g.name for g in told.value.gates if not g.passed} == {"not_worse_than_champion"}
    assert [table.contract.version for table, _, _ in trials] == [OTHER, VERSION]
    assert trials[1][0].table.num_rows < trials[0][0].table.num_rows


def test_a_champion_of_fewer_features_is_fitted_in_its_challengers_table(
    built: Path, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a version that was archived since needn't be built again."""
    monkeypatch.setattr(judging, "_table", lambda *_: pytest.fail("the champion's table was read"))
    fewer = [c.name for c in datasets.feature_columns(without_state())]
    champion = {**registry.champion(built, "tradeable_2_touch"), "features": fewer, "silver_version": OTHER}
    table = datasets.load(built, VERSION, contract())
    judging._champion_trial(built, champion, table)
    ((fitted_in, config, _),) = trials
    assert fitted_in is table
    assert list(config.features) == fewer
