"""What `models/bronze/` declares: the tables that loaders land, and how fresh each has to be.

The YAML is the one place of it: dbt reads it as sources, `tickhouse status` reads it here, and both judge freshness by
the instant that `loaded_at_sql` puts into ``bronze.landed``.
"""

import datetime
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from lake import windows, yaml_files
from lake.bronze import BronzeFile
from lake.paths import PROJECT_DIR

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}


@dataclass(frozen=True)
class Source:
    """One declared table of bronze. ``folder`` is below ``lake/bronze``; limits are in seconds, None where there is
    none; ``windows_of`` is the column that hour windows are of.
    """

    name: str
    folder: str
    keys: tuple[str, ...]
    windows_of: str | None
    warn_after_s: int | None
    error_after_s: int | None

    def freshness(self, last_at: datetime.datetime | None, now: datetime.datetime) -> str | None:
        """``fresh``, ``late`` (over the warning limit), ``stale`` (over the error limit), or ``never landed``.

        None for a source without limits.
        """
        if self.warn_after_s is None and self.error_after_s is None:
            return None
        if last_at is None:
            return "never landed"
        age_s = (now - last_at).total_seconds()
        if self.error_after_s is not None and age_s > self.error_after_s:
            return "stale"
        return "late" if self.warn_after_s is not None and age_s > self.warn_after_s else "fresh"


def declared(project_dir: Path = PROJECT_DIR) -> list[Source]:
    """Every table of bronze that is declared, in order of name."""
    found = []
    for path in (project_dir / "models" / "bronze").glob("*.yml"):
        for source in yaml_files.read(path).get("sources", []):
            for table in source["tables"]:
                meta = table.get("meta") or table.get("config", {}).get("meta", {})
                if meta.get("holds") == "rejects" or meta.get("over"):  # nothing has to come there
                    continue
                # A table's own limits, null for none, stand in place of the source's.
                limits = (source.get("config") or {}) | (table.get("config") or {})
                limits = limits.get("freshness") or {}
                found.append(
                    Source(
                        table["name"],
                        meta["dataset"],
                        tuple(meta["keys"]),
                        meta.get("windows"),
                        _seconds(limits.get("warn_after")),
                        _seconds(limits.get("error_after")),
                    )
                )
    return sorted(found, key=lambda s: s.name)


def in_order(graph: dict) -> list[dict]:
    """The sources of dbt's graph, those that are landed first, a view over another one after it."""

    def depth(source: dict) -> int:
        base = source["meta"].get("over")
        return 1 + depth(by_name(graph, base)) if base else 0

    return sorted(graph["sources"].values(), key=depth)


def by_name(graph: dict, name: str) -> dict:
    """The source of this name."""
    return next(s for s in graph["sources"].values() if s["name"] == name)


def _seconds(limit: dict | None) -> int | None:
    return None if limit is None else limit["count"] * _SECONDS[limit["period"]]


def last_at(
    root: Path, windowed: dict[str, str | None], files: list[BronzeFile]
) -> dict[str, datetime.datetime]:
    """The newest instant that each source holds, by its name; `EPOCH` where nothing is landed.

    ``windowed`` gives each source the column that its hour windows are of, None where it has none: there the newest
    ``ts_event_ns`` counts, cut to microseconds.
    """
    newest = dict.fromkeys(windowed, EPOCH)
    for file in files:
        at = EPOCH + datetime.timedelta(microseconds=file.ts_max_ns // 1000)
        if file.source_name in newest and at > newest[file.source_name]:
            newest[file.source_name] = at
    for name, column in windowed.items():
        if column is not None:
            newest[name] = _newest_row(root, name, column)
    return newest


def _newest_row(root: Path, name: str, column: str) -> datetime.datetime:
    """Greatest value of the windows' own column, from the footers of the newest date that has rows."""
    for date in reversed(windows.landed_dates(root, name)):
        found = [
            at for part in windows.visible_parts(root, name, [date]) if (at := _greatest(part.path, column))
        ]
        if found:
            return max(found)
    return EPOCH


def _greatest(path: Path, column: str) -> datetime.datetime | None:
    metadata = pq.read_metadata(path)
    index = metadata.schema.to_arrow_schema().get_field_index(column)
    groups = [metadata.row_group(i).column(index).statistics for i in range(metadata.num_row_groups)]
    # Microseconds; `s.max` would make a datetime of them by way of pandas, and its import is a tenth of a second.
    found = [s.max_raw for s in groups if s is not None and s.has_min_max]
    return EPOCH + datetime.timedelta(microseconds=max(found)) if found else None
