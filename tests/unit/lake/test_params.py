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


LINES = """extends: default
level_kinds: [ROUND, USER]
USER_LEVELS:
  - {price_points: 6000, from_at: 2025-12-16T09:30:00-05:00, until_at: "2025-12-17T21:00:00Z"}
  - {price_points: 5990.5, from_at: 2025-12-15T00:00:00Z, until_at: 2025-12-16T00:00:00Z}
"""


def test_lines_of_a_user_have_one_form_and_one_order(folder):
    drawn = loaded(folder, "drawn", LINES)
    assert drawn.values["USER_LEVELS"] == [
        {"price_points": 5990.5, "from_at": "2025-12-15T00:00:00Z", "until_at": "2025-12-16T00:00:00Z"},
        {"price_points": 6000.0, "from_at": "2025-12-16T14:30:00Z", "until_at": "2025-12-17T21:00:00Z"},
    ]
    again = (
        LINES.replace("09:30:00-05:00", "15:30:00+01:00").replace("6000", "6000.0").splitlines(keepends=True)
    )
    assert loaded(folder, "again", "".join([*again[:3], again[4], again[3]])).digest == drawn.digest
    assert (
        loaded(folder, "nearer", "extends: drawn\nMONITOR_BAND: 0.2\n").values["USER_LEVELS"]
        == (drawn.values["USER_LEVELS"])
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("[ROUND, USER]", "[ROUND]"), "USER_LEVELS has lines, but level_kinds has no USER"),
        (
            ("price_points: 6000", "price: 6000"),
            "item 1 was price, from_at, until_at, expected the keys price_points",
        ),
        (
            ("price_points: 6000", "price_points: -1"),
            "item 1: price_points was -1, expected a positive number",
        ),
        (
            ("price_points: 6000", "price_points: .inf"),
            "item 1: price_points was inf, expected a positive number",
        ),
        (
            ("price_points: 6000", "price_points: yes"),
            "item 1: price_points was True, expected a positive number",
        ),
        (
            ("09:30:00-05:00", "09:30:00"),
            "item 1: from_at was 2025-12-16T09:30:00, expected whole seconds with",
        ),
        (("09:30:00-05:00", "09:30:00.5-05:00"), "expected whole seconds with their UTC offset"),
        (('"2025-12-17T21:00:00Z"', "tomorrow"), "item 1: until_at was 'tomorrow', expected whole seconds"),
        (
            ('"2025-12-17T21:00:00Z"', "2025-12-17"),
            "item 1: until_at was datetime.date(2025, 12, 17), expected",
        ),
        (
            ('"2025-12-17T21:00:00Z"', "2025-12-16T14:30:00Z"),
            "expected an instant after from_at = 2025-12-16T14:30",
        ),
        (("price_points: 5990.5", "price_points: 6000.1"), ""),
    ],
)
def test_a_line_that_cannot_be_drawn_is_refused(folder, changed, told):
    text = LINES.replace(*changed)
    assert text != LINES
    if not told:  # one tick, but one after the other
        loaded(folder, "good", text)
        text = text.replace("2025-12-16T00:00:00Z}", "2025-12-16T14:30:01Z}")
        told = "has 6000.1 and 6000.0 on one tick at once, from 2025-12-16T14:30:00Z"
    with pytest.raises(params.ParamError) as refused:
        loaded(folder, "bad", text)
    assert told in str(refused.value)
    assert "params/bad.yaml: USER_LEVELS" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_lines_are_a_list(folder):
    with pytest.raises(params.ParamError, match="USER_LEVELS was 6000, expected a list of"):
        loaded(folder, "bad", "extends: default\nUSER_LEVELS: 6000\n")
