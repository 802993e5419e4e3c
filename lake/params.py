"""Named parameter sets: what the features of the market domain mean (spec/market.md 10)."""

import functools
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import yaml

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


@functools.cache
def load(name: str, params_dir: Path = PARAMS_DIR) -> ParamSet:
    """The resolved set ``name`` from ``params/<name>.yaml``. Raises ParamError with the key and the file."""
    values = _resolve(name, params_dir, ())
    return ParamSet(name, values, hashlib.sha256(canonical_json(values).encode()).hexdigest())


def names(params_dir: Path = PARAMS_DIR) -> list[str]:
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
        own = yaml.safe_load(path.read_text()) or {}
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
