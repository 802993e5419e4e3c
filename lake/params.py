"""Named parameter sets: what the features of the market domain mean (spec/market.md 10)."""

import functools
import hashlib
import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import yaml

from lake import yaml_files
from lake.paths import PROJECT_DIR

PARAMS_DIR = PROJECT_DIR / "params"
LEVEL_KINDS = {
    "PM",
    "OR",
    "SESSION",
    "SMA",
    "VWAP",
    "ROUND",
    "STRIKE",
    "CALL_WALL",
    "PUT_WALL",
    "GAMMA_FLIP",
    "USER",
}
USER_LEVEL_KEYS = ("price_points", "from_at", "until_at")
ENUMS = {"event_hours": {"rth", "all"}, "theta_mode": {"dollars", "atr"}}
FRACTIONS = ("WEAK_PERCENTILE", "BARRIER_MIN_VISIBLE", "THETA_1_FRACTION")
MAY_BE_ZERO_OR_LESS = ("RISK_FREE", "HYSTERESIS")
# Windows in seconds: each must be a whole number of grid cells, so that sums over cells are exact.
WINDOWS_S = ("W_b", "W_t", "W_g", "W_wall", "REARM_S", "WEAK_LOOKBACK", "GAP_S", "CONFIRMATION_WINDOWS")


class ParamError(ValueError):
    """A param set names an unknown key or holds a value that cannot be used."""


@dataclass(frozen=True)
class ParamSet:
    """``values`` holds every key of the default set; ``digest`` is sha256 over their canonical JSON."""

    name: str
    values: dict[str, object]
    digest: str

    @property
    def digest8(self) -> str:
        return self.digest[:8]

    def as_json(self) -> str:
        return canonical_json(self.values)


def canonical_json(values: object) -> str:
    """Sorted keys, no spaces, numbers in shortest round-trip form."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def load(name: str, params_dir: Path | None = None) -> ParamSet:
    """The resolved set ``name`` from ``params/<name>.yaml``. Raises ParamError with the key and the file.

    ``TICKHOUSE_PARAMS_DIR`` names another folder: `tickhouse verify` builds with the values that are on record.
    """
    return _load(name, params_dir or Path(os.environ.get("TICKHOUSE_PARAMS_DIR") or PARAMS_DIR))


@functools.cache
def _load(name: str, params_dir: Path) -> ParamSet:
    values = _resolve(name, params_dir, ())
    return ParamSet(name, values, hashlib.sha256(canonical_json(values).encode()).hexdigest())


def names(params_dir: Path | None = None) -> list[str]:
    params_dir = params_dir or Path(os.environ.get("TICKHOUSE_PARAMS_DIR") or PARAMS_DIR)
    return sorted(p.stem for p in params_dir.glob("*.yaml"))


def _resolve(name: str, params_dir: Path, seen: tuple[str, ...]) -> dict[str, object]:
    path = params_dir / f"{name}.yaml"
    if name in seen:
        raise ParamError(f"param set {name} extends itself through {' → '.join(seen)}; break the circle")
    if not path.is_file():
        raise ParamError(
            f"param set was {name!r}, expected one of {', '.join(names(params_dir))}; add params/{name}.yaml"
        )
    try:
        own = yaml_files.read(path) or {}
    except yaml.YAMLError as error:
        raise ParamError(f"params/{name}.yaml is no YAML: {' '.join(str(error).split())}; mend it") from error
    if not isinstance(own, dict):
        raise ParamError(
            f"params/{name}.yaml was a {type(own).__name__}, expected `key: value` lines; mend it"
        )
    parent = own.pop("extends", None)
    if parent is None:
        if name != "default":
            raise ParamError(f"params/{name}.yaml extends nothing; start it with `extends: default`")
        base: dict[str, object] = {}
        unknown: list[str] = []
    else:
        base = _resolve(parent, params_dir, (*seen, name))
        unknown = sorted(set(own) - set(base))
    if unknown:
        raise ParamError(
            f"params/{name}.yaml has unknown keys {', '.join(unknown)}; the keys are those of params/default.yaml"
        )
    if "USER_LEVELS" in own:
        own["USER_LEVELS"] = _user_levels(own["USER_LEVELS"], f"params/{name}.yaml: USER_LEVELS")
    resolved = {
        **base,
        **{k: _like(base[k], v, f"params/{name}.yaml: {k}") if base else v for k, v in own.items()},
    }
    _check(resolved, name)
    return resolved


def _like(default: object, value: object, where: str) -> object:
    """``value`` in the type of the default, so that 2 and 2.0 are one set with one digest."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not type(default):
        raise ParamError(f"{where} was {value!r}, expected a value of type {type(default).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ParamError(f"{where} was {value!r}, expected a finite number")
    if isinstance(value, list) and default:
        return [_like(default[0], item, where) for item in value]
    return value


def _user_levels(given: object, where: str) -> list[dict[str, object]]:
    """Lines drawn by a user, in one form and order, so that equal ones have one digest: instants in UTC."""
    if not isinstance(given, list):
        raise ParamError(f"{where} was {given!r}, expected a list of {{{', '.join(USER_LEVEL_KEYS)}}}")
    levels = []
    for number, item in enumerate(given, 1):
        at = f"{where}, item {number}"
        if not isinstance(item, dict) or set(item) != set(USER_LEVEL_KEYS):
            keys = ", ".join(map(str, item)) if isinstance(item, dict) else repr(item)
            raise ParamError(f"{at} was {keys}, expected the keys {', '.join(USER_LEVEL_KEYS)}")
        price = item["price_points"]
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < math.inf:
            raise ParamError(f"{at}: price_points was {price!r}, expected a positive number of index points")
        start, end = (_instant(item[key], f"{at}: {key}") for key in USER_LEVEL_KEYS[1:])
        if start >= end:
            raise ParamError(f"{at}: until_at was {end}, expected an instant after from_at = {start}")
        levels.append({"price_points": float(price), "from_at": start, "until_at": end})

    def tick(level: dict) -> int:
        return math.floor(level["price_points"] / 0.25 + 0.5)

    for one, next_one in pairwise(sorted(levels, key=lambda level: (tick(level), level["from_at"]))):
        if tick(one) == tick(next_one) and next_one["from_at"] < one["until_at"]:
            raise ParamError(
                f"{where} has {one['price_points']} and {next_one['price_points']} on one tick at once, from "
                f"{next_one['from_at']}; keep one of them, or end the first before the second starts"
            )
    return sorted(levels, key=lambda level: (level["from_at"], level["price_points"]))


def _instant(given: object, where: str) -> str:
    """An ISO instant, of YAML or as text, in UTC and to the second: texts then compare as the instants do."""
    try:
        instant = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        instant = None
    if not isinstance(instant, datetime) or instant.tzinfo is None or instant.microsecond:
        shown = given.isoformat() if isinstance(given, datetime) else repr(given)
        raise ParamError(
            f"{where} was {shown}, expected whole seconds with their UTC offset, such as 2025-12-16T10:00:00-05:00"
        )
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check(values: dict[str, object], name: str) -> None:
    for key, allowed in ENUMS.items():
        if values[key] not in allowed:
            raise ParamError(
                f"params/{name}.yaml: {key} was {values[key]!r}, expected one of {', '.join(sorted(allowed))}"
            )
    if unknown := sorted(set(values["level_kinds"]) - LEVEL_KINDS):
        raise ParamError(
            f"params/{name}.yaml: level_kinds has unknown {', '.join(unknown)}; "
            f"known are {', '.join(sorted(LEVEL_KINDS))}"
        )
    if values["USER_LEVELS"] and "USER" not in values["level_kinds"]:
        raise ParamError(
            f"params/{name}.yaml: USER_LEVELS has lines, but level_kinds has no USER; add it, or empty USER_LEVELS"
        )
    judged_apart = {*MAY_BE_ZERO_OR_LESS, *WINDOWS_S, "grid_ms"}
    for key, value in values.items():
        if isinstance(value, int | float) and value <= 0 and key not in judged_apart:
            raise ParamError(f"params/{name}.yaml: {key} was {value}, expected a positive number")
    for key in FRACTIONS:
        if values[key] > 1:
            raise ParamError(f"params/{name}.yaml: {key} was {values[key]}, expected a fraction, at most 1")
    if values["HYSTERESIS"] < 0:
        raise ParamError(f"params/{name}.yaml: HYSTERESIS was {values['HYSTERESIS']}, expected 0 or more")
    if values["TOUCH_BAND"] > values["MONITOR_BAND"]:
        raise ParamError(
            f"params/{name}.yaml: TOUCH_BAND was {values['TOUCH_BAND']}, "
            f"expected at most MONITOR_BAND = {values['MONITOR_BAND']}"
        )
    if not values["CONFIRMATION_WINDOWS"]:
        raise ParamError(
            f"params/{name}.yaml: CONFIRMATION_WINDOWS was empty, expected at least one window in s"
        )
    grid_ms = values["grid_ms"]
    if grid_ms <= 0 or 1000 % grid_ms:
        raise ParamError(f"params/{name}.yaml: grid_ms was {grid_ms}, expected a divisor of 1000")
    for key in WINDOWS_S:
        for window in values[key] if isinstance(values[key], list) else [values[key]]:
            if window <= 0 or (window * 1000) % grid_ms:
                raise ParamError(
                    f"params/{name}.yaml: {key} was {window} s, "
                    f"expected a positive multiple of grid_ms = {grid_ms} ms"
                )
