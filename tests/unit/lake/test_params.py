"""Param sets: one meaning, one digest; a typo is an error."""

from pathlib import Path

import pytest

from lake import params

DEFAULT = (params.PARAMS_DIR / "default.yaml").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "default.yaml").write_text(DEFAULT)
    return tmp_path


def loaded(folder: Path, name: str, text: str) -> params.ParamSet:
    (folder / f"{name}.yaml").write_text(text)
    return params.load(name, folder)


def test_the_three_sets_that_ship_are_distinct_and_complete():
    sets = {name: params.load(name) for name in params.names()}
    assert {"default", "atr", "overnight"} <= set(sets)
    assert len({s.digest for s in sets.values()}) == len(sets)
    assert len({tuple(sorted(s.values)) for s in sets.values()}) == 1
    assert sets["overnight"].values["theta_mode"] == "atr"
    assert sets["overnight"].values["level_kinds"] == ["ROUND", "VWAP", "SESSION"]


def test_the_digest_is_of_the_values_not_of_the_file(folder):
    default = params.load("default", folder)
    for name, text in (
        ("bare", "extends: default\n"),
        ("again", "extends: default\nW_b: 240  # as it was\n"),
        ("as_float", "extends: default\nW_b: 240.0\n"),
        ("in_a_list", "extends: default\nCONFIRMATION_WINDOWS: [120.0, 240, 480]\n"),
        ("as_int", "extends: default\nSTRENGTH_THRESHOLD_2: 2\n"),
    ):
        same = loaded(folder, name, text)
        assert (same.digest, same.as_json()) == (default.digest, default.as_json())
    assert loaded(folder, "other", "extends: default\nW_b: 120\n").digest != default.digest


def test_a_set_may_extend_one_that_extends(folder):
    loaded(folder, "middle", "extends: default\nW_b: 120\nW_t: 30\n")
    values = loaded(folder, "top", "extends: middle\nW_t: 90\n").values
    assert (values["W_b"], values["W_t"], values["W_g"]) == (120, 90, 60)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: default\nW_bb: 240\n", "unknown keys W_bb"),
        ("W_b: 240\n", "extends nothing"),
        ("extends: nowhere\n", "param set was 'nowhere'"),
        ("extends: bad\n", "extends itself"),
        ("extends: default\nW_b: 0.25\n", "W_b was 0.25, expected a value of type int"),
        ("extends: default\nW_b: -1\n", "W_b was -1 s, expected a positive multiple of grid_ms = 100 ms"),
        ("extends: default\nW_b: '240'\n", "W_b was '240', expected a value of type int"),
        ("extends: default\nW_b: true\n", "W_b was True, expected a value of type int"),
        ("extends: default\nW_b: null\n", "W_b was None, expected a value of type int"),
        ("extends: default\ngrid_ms: 300\n", "grid_ms was 300, expected a divisor of 1000"),
        ("extends: default\nCONFIRMATION_WINDOWS: [120, 0]\n", "CONFIRMATION_WINDOWS was 0 s"),
        ("extends: default\nCONFIRMATION_WINDOWS: [120, 1.5]\n", "CONFIRMATION_WINDOWS was 1.5"),
        ("extends: default\nevent_hours: eth\n", "event_hours was 'eth', expected one of all, rth"),
        ("extends: default\nlevel_kinds: [ROUND, RUOND]\n", "level_kinds has unknown RUOND"),
        ("extends: default\nMONITOR_BAND: .nan\n", "MONITOR_BAND was nan, expected a finite number"),
    ],
)
def test_a_bad_set_is_refused_with_file_and_key(folder, text, message):
    with pytest.raises(params.ParamError, match="bad") as refused:
        loaded(folder, "bad", text)
    assert message in str(refused.value)


def test_an_unknown_name_lists_the_known(folder):
    with pytest.raises(params.ParamError, match="expected one of default"):
        params.load("defualt", folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: default\nDELTA_LIQ_NORM: 0\n", "DELTA_LIQ_NORM was 0, expected a positive number"),
        (
            "extends: default\nLOOKFORWARD_MINUTES: -8\n",
            "LOOKFORWARD_MINUTES was -8, expected a positive number",
        ),
        ("extends: default\nTOUCH_BAND: 0.5\n", "TOUCH_BAND was 0.5, expected at most MONITOR_BAND"),
        ("extends: default\nWEAK_PERCENTILE: 1.5\n", "WEAK_PERCENTILE was 1.5, expected a fraction"),
        ("extends: default\nCONFIRMATION_WINDOWS: []\n", "CONFIRMATION_WINDOWS was empty"),
        ("extends: default\nW_b: [1\n", "params/odd.yaml is no YAML"),
        ("- extends\n- default\n", "params/odd.yaml was a list, expected `key: value` lines"),
    ],
)
def test_a_value_that_means_nothing_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "default.yaml").write_text((params.PARAMS_DIR / "default.yaml").read_text())
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(params.ParamError) as refused:
        params.load("odd", tmp_path)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
