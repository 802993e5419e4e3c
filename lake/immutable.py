"""What is published for good: below a ``features.json`` of a training set nothing is written, replaced or deleted.

Source: spec/execution.md 5.6.
"""

from pathlib import Path

FEATURES_FILE = "features.json"
_SETS = ("lake", "gold", "training_sets")


class PublishedForGood(ValueError):
    """Something would be changed below a published version; nothing was."""


def refuse(path: Path) -> None:
    """Raise PublishedForGood when ``path`` is, or stands in, a version of a training set that is published."""
    if "training_sets" not in path.parts:
        return
    for folder in (path, *path.parents):
        if folder.parts[-5:-2] == _SETS and (folder / FEATURES_FILE).is_file():
            raise PublishedForGood(
                f"{folder.parts[-2]} {folder.name} is published and {path.relative_to(folder.parent)} would be "
                "changed, expected it to stay as it is; publish a new version with `tickhouse training-sets publish`"
            )
