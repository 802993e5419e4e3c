"""Champion and challenger on the page: who serves, who is watched beside it, and how the two compare."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

from ml import registry
from ml.registry import CHALLENGER, CHAMPION


@dataclass(frozen=True)
class Standing:
    """What one experiment does under one alias. ``compared`` is empty where nothing was; ``is_stale``: with a champion
    that serves no more."""

    alias: str
    experiment: str
    head_sets: tuple[str, ...]
    since: str
    components: str
    compared: str
    is_stale: bool


def gather(root: Path) -> list[Standing]:
    """Who has an alias in ``ml/registry.json``, champions first; empty before the first promotion."""
    now = registry.read(root)
    entries = {m["model_id"]: m for m in now["models"]}
    since = {h["alias"]: h["at"] for h in now["history"]}  # the last move of each
    serving = set(now["aliases"][CHAMPION].values())
    found = []
    for alias in (CHAMPION, CHALLENGER):
        models = now["aliases"][alias]
        for name in sorted({entries[m]["experiment_id"] for m in models.values()}):
            mine = {k: entries[m] for k, m in sorted(models.items()) if entries[m]["experiment_id"] == name}
            comparison = next(iter(mine.values()))["comparison"]  # one for all of its heads
            found.append(
                Standing(
                    alias=alias,
                    experiment=name,
                    head_sets=tuple(mine),
                    since=max(since.get(f"{alias}/{k}", "") for k in mine),
                    components="; ".join(
                        dict.fromkeys(
                            f"{_components(m['components'])} at {m['stage']}" for m in mine.values()
                        )
                    ),
                    compared="" if comparison is None else f"{comparison['against']}: {comparison['told']}",
                    is_stale=alias == CHALLENGER
                    and comparison is not None
                    and comparison["against"] not in serving,
                )
            )
    return found


def _components(used: dict | None) -> str:
    if used is None:
        return "trees alone"
    names = [name for name, on in (("neighbours", used["use_knn"]), ("gate", used["use_gate"])) if on]
    return f"trees with {' and '.join(names)}" if names else "trees alone"


def section(found: list[Standing]) -> str:
    """A table of all; empty where nothing serves."""
    if not found:
        return ""
    names = ("alias", "experiment", "heads", "since", "made of", "against the champion of then")
    head = "".join(f"<th class=text>{name}</th>" for name in names)
    rows = "".join(_row(s) for s in found)
    told = (
        "<p class=soft>The model less the champion of then, on the same out-of-fold rows, 95 %: Brier of "
        "p_tradeable_2, and log loss of break, bounce, chop; below 0 is better.</p>"
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>Champion and challenger</h2>{told}<div class="card scroll">{table}</div>'


def _row(s: Standing) -> str:
    compared = s.compared or "not compared"
    if s.is_stale:
        compared += "; that champion serves no more: promote it as challenger again"
    cells = (s.alias, s.experiment, ", ".join(s.head_sets), s.since[:10], s.components, compared)
    return f"<tr>{''.join(f'<td class=text>{escape(c)}</td>' for c in cells)}</tr>"
