"""Which features of a version an ablation leaves: by group, not by prefix (spec/market.md 14.1)."""

from pathlib import Path

from ml import datasets
from ml.datasets import Contract, DatasetError

FULL, MECHANICS, TA, LEVEL_ONLY = "full", "mechanics", "ta", "level_only"
# What a version's own features are called.
OF_VERSION = {"v1.0_mechanics_only": MECHANICS, "v1.1_ta_only": TA, "v2.0_full_ensemble": FULL}
# Of the newest version, beside the features of v1.1; the context group is called after what it is the context of.
TA_GROUPS = ("geometry", "mean_reversion", "confluence", "approach_context")
VERSIONS = {ablation: version for version, ablation in OF_VERSION.items()}


def of_version(version: str) -> str:
    """What all features of ``version`` are called; of a version that the specification doesn't name, its own name."""
    return OF_VERSION.get(version, version.partition("_")[2] or version)


def features(contract: Contract, ablation: str, path: Path | None = None) -> list[str] | None:
    """Names of the features of ``contract`` that stay, None when all do.

    Raises DatasetError for an unknown ablation, and for one that the version has no features of beside the level.
    """
    if ablation == of_version(contract.version) or ablation == FULL:
        return None
    level = {c.name for c in datasets.level_columns(contract)}
    if ablation == LEVEL_ONLY:
        return sorted(level)
    if ablation not in VERSIONS:
        raise DatasetError(
            f"ablation was {ablation!r}, expected one of {', '.join((*VERSIONS, LEVEL_ONLY))}; name one of them"
        )
    other = datasets.load_contract(VERSIONS[ablation], path or datasets.CONTRACTS)
    wanted = level | {c.name for c in datasets.feature_columns(other)}
    kept = [
        c.name
        for c in datasets.feature_columns(contract)
        if c.name in wanted or (ablation == TA and c.group in TA_GROUPS)
    ]
    if set(kept) <= level:
        raise DatasetError(
            f"ablation was {ablation}, of which {contract.version} has no feature beside the level; "
            f"train it on {VERSIONS[FULL]}"
        )
    return kept
