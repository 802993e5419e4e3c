"""The silver catalogue: feature versions as people ask for them, over dbt runs, manifests and ``experiments.json``.

Thin: what a version is, when it may be released and what makes two equal is said in ``lake``. ``SilverFeatureBuilder``
gives the same functions on one root. Source: spec/market.md 11.3 (4).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import yaml

from lake import commits, datasets, dbt, plan, project, release, released, version_archive, versions
from lake.paths import PROJECT_DIR, lake_root
from ml import experiments


class NoSuchVersion(LookupError):
    """Nothing is built under the name of the version."""


@dataclass(frozen=True)
class BuildResult:
    """What a build of a version came to: ``success`` when every date asked for is ok, ``failed`` when none is,
    ``partial`` else. ``errors`` are by date; that of the whole build stands under ``build``."""

    version: str
    status: Literal["success", "partial", "failed"]
    dates: dict[str, str]
    errors: dict[str, str]


def list_versions(root: Path) -> list[dict[str, Any]]:
    """One flat dict for each version that was ever built, in order of name; archived ones too."""
    found = []
    for path in sorted((root / "lake" / "silver" / "features").glob("v*/manifest.yaml")):
        manifest = get_manifest(root, path.parent.name)
        span, digests = manifest["validation"]["date_range"], manifest["digests"]
        found.append(
            {
                "version": path.parent.name,
                "status": manifest["status"],
                "dates": len(manifest["dates"]),
                "not_ok": sum(d["status"] != "ok" for d in manifest["dates"]),
                "first_date": span["start"],
                "last_date": span["end"],
                "rows": manifest["validation"]["row_count"],
                "signals": manifest["validation"]["signal_count"],
                "features": manifest["validation"]["feature_count"],
                "param_set": manifest["param_set"],
                "params_digest": digests["params"],
                "code_digest": digests["code"],
                "build_digest": digests["build"],
            }
        )
    return found


def get_manifest(root: Path, version: str) -> dict[str, Any]:
    """``manifest.yaml`` of a version. Raises NoSuchVersion, or BrokenContract (a ValueError) when a key is unknown."""
    return versions.read_manifest(_file(root, version, "manifest.yaml"))


def get_params(root: Path, version: str) -> dict[str, Any]:
    """``params.yaml`` of a version: every resolved parameter, its code, engines and inputs. Raises NoSuchVersion."""
    return yaml.safe_load(_file(root, version, "params.yaml").read_text())


def load_features(
    root: Path, version: str, dates: Collection[str] | None = None, columns: Collection[str] | None = None
) -> pa.Table:
    """Rows of a version by date and key, ``session_date`` first; ``dates`` are ISO dates, default all.

    Raises NoSuchVersion when none of them is built.
    """
    try:
        return datasets.read(root, f"silver/features/{version}", columns, dates)
    except datasets.NoSuchDataset as error:
        raise NoSuchVersion(str(error)) from None


def columns_of(manifest: Mapping[str, Any]) -> list[str]:
    """Features of a manifest in the order of its groups, those of the group ``level`` included."""
    return [
        c for entry in manifest["features"]["groups"] for group in entry.values() for c in group["columns"]
    ]


def compare_versions(root: Path, a: str, b: str) -> dict[str, Any]:
    """What ``b`` has that ``a`` has not, and how they differ.

    Keys: ``features_added``, ``features_removed``, ``features_common`` (in stored order); ``feature_count_a``,
    ``feature_count_b``; ``parameters_diff`` and ``null_rate_diff`` as ``{name: {"a": …, "b": …}}`` where they differ;
    ``metric_diff`` likewise with ``difference`` b − a, of the newest completed experiment of each.
    """
    one, two = get_manifest(root, a), get_manifest(root, b)
    features_a, features_b = columns_of(one), columns_of(two)
    rates_a, rates_b = (m["validation"]["null_rates"] for m in (one, two))
    return {
        "features_added": [f for f in features_b if f not in features_a],
        "features_removed": [f for f in features_a if f not in features_b],
        "features_common": [f for f in features_a if f in features_b],
        "feature_count_a": len(features_a),
        "feature_count_b": len(features_b),
        "parameters_diff": differing(get_params(root, a)["resolved"], get_params(root, b)["resolved"]),
        "null_rate_diff": differing({f: rates_a[f] for f in rates_a if f in rates_b}, rates_b, common=True),
        "metric_diff": metric_diff(newest_metrics(root, a), newest_metrics(root, b)),
    }


def differing(
    a: Mapping[str, Any], b: Mapping[str, Any], *, common: bool = False
) -> dict[str, dict[str, Any]]:
    """``{name: {"a": …, "b": …}}`` where two mappings differ; None stands for a name that one lacks, and with
    ``common`` such names are left out."""
    names = [n for n in a if n in b] if common else [*a, *(n for n in b if n not in a)]
    return {n: {"a": a.get(n), "b": b.get(n)} for n in names if a.get(n) != b.get(n) or (n in a) != (n in b)}


def metric_diff(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """Each metric of either side with both values and b − a, None where one has none."""
    return {
        name: {
            "a": (x := a.get(name)),
            "b": (y := b.get(name)),
            "difference": None if None in (x, y) else y - x,
        }
        for name in [*a, *(n for n in b if n not in a)]
    }


def newest_metrics(root: Path, version: str) -> dict[str, float | None]:
    """Metrics of the version's completed experiment with the highest id; empty when there is none."""
    done = [e for e in experiments.read_index(root) if e["version"] == version and e["status"] == "completed"]
    return done[-1]["metrics"] if done else {}


def register_experiment(root: Path, version: str, **entry: Any) -> dict[str, Any]:
    """Insert or update an experiment of ``version`` and return its entry; see `ml.experiments.register`."""
    return experiments.register(root, version, **entry)


def build_features(
    root: Path,
    version: str,
    dates: Sequence[str] | None = None,
    *,
    full_refresh: bool = False,
    project_dir: Path = PROJECT_DIR,
) -> BuildResult:
    """`dbt build` of a version with its parents, and what came of the ``dates`` asked for (ISO, default all).

    Dates before the last of them are brought up to date as well: their partitions are what warm-up reads.
    """
    variables = {}
    if dates:
        variables["end_date"] = (date.fromisoformat(max(dates)) + timedelta(days=1)).isoformat()
    graph, _ = project.load(root, project_dir=project_dir, variables=variables)
    node = release.version_nodes(graph, version)[0]
    errors: dict[str, str] = {}
    args = ["build", "--select", f"+{release.selector(node)}", *(["--full-refresh"] if full_refresh else [])]
    try:
        dbt.invoke(args, root=root, project_dir=project_dir, variables=variables)
    except RuntimeError as error:
        errors["build"] = str(error)
    found = {
        p.commit.date: p.status()
        for p in commits.read_partitions(root / "lake" / plan.dataset_folder(node)).values()
    }
    lacking = {"status": "failed", "error": "not built: no input has it"}
    asked = {d: found.get(d, lacking) for d in dates or sorted(found)}
    errors |= {d: s["error"] for d, s in asked.items() if s["status"] != "ok"}
    good = sum(s["status"] == "ok" for s in asked.values())
    status = "success" if good and not errors else "partial" if good else "failed"
    return BuildResult(version, status, {d: s["status"] for d, s in asked.items()}, errors)


def release_version(root: Path, version: str, *, project_dir: Path = PROJECT_DIR) -> dict[str, Any]:
    """Release ``version`` as this checkout makes it and return its manifest; see `lake.release.release`."""
    graph, macros = project.load(root, project_dir=project_dir)
    release.release(root, version, graph, macros)
    return get_manifest(root, version)


def archive_version(root: Path, version: str) -> dict[str, Any]:
    """Move a version's dates into the archive and return its manifest; see `lake.version_archive.archive`."""
    version_archive.archive(root, version)
    return get_manifest(root, version)


class SilverFeatureBuilder:
    """The catalogue of one root; ``root`` defaults to ``LAKE_ROOT``. Each method is the function of its name."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or lake_root()

    def list_versions(self) -> list[dict[str, Any]]:
        return list_versions(self.root)

    def get_manifest(self, version: str) -> dict[str, Any]:
        return get_manifest(self.root, version)

    def load_features(
        self, version: str, dates: Collection[str] | None = None, columns: Collection[str] | None = None
    ) -> pa.Table:
        return load_features(self.root, version, dates, columns)

    def compare_versions(self, a: str, b: str) -> dict[str, Any]:
        return compare_versions(self.root, a, b)

    def register_experiment(self, version: str, **entry: Any) -> dict[str, Any]:
        return register_experiment(self.root, version, **entry)

    def build_features(
        self, version: str, dates: Sequence[str] | None = None, *, full_refresh: bool = False
    ) -> BuildResult:
        return build_features(self.root, version, dates, full_refresh=full_refresh)

    def release(self, version: str) -> dict[str, Any]:
        return release_version(self.root, version)

    def archive(self, version: str) -> dict[str, Any]:
        return archive_version(self.root, version)


def _file(root: Path, version: str, name: str) -> Path:
    path = released.version_dir(root, version) / name
    if not path.is_file():
        built = sorted(
            p.parent.name for p in (root / "lake" / "silver" / "features").glob("v*/manifest.yaml")
        )
        raise NoSuchVersion(
            f"version was {version!r}, expected one that is built: {', '.join(built) or 'none is'}; run `dbt build`"
        )
    return path
