"""What landing left on record, as relations for monitoring: the markers of hour windows, and how fresh each source is.

Read through the macro ``records``. A marker is read where it stands, when the view is asked; how far back is settled
when the view is made, at the start of every run of dbt. Source: spec/execution.md 3.1, 7.2.
"""

import functools
from datetime import date, timedelta
from pathlib import Path

from lake import sources, windows
from lake.views import literal, quote

# Two months: `completeness` is promised by the month, and the 28 days of `volume_anomaly` lie within.
DAYS = 62
WINDOW_TYPES = {
    "dataset": "varchar",
    "window_start": "timestamptz",
    "window_end": "timestamptz",
    "state": "varchar",
    "rows": "bigint",
    "min_occurred_at": "timestamptz",
    "max_occurred_at": "timestamptz",
    "incomplete": "boolean",
    "reject_rows": "bigint",
}
_WINDOW_COLUMNS = {
    **{name: (kind, quote(name)) for name, kind in WINDOW_TYPES.items()},
    "is_supplement": ("boolean", "filename like '%/commit-__-s__.json'"),
}


def bronze_windows(root: Path) -> str:
    """SELECT of one row per marker of an hour window or of a supplement to one, of each dataset's last `DAYS` days."""
    scans = [scan for name in windows.PARTITION_KEYS if (scan := _scan(root, name))]
    shown = ", ".join(
        f"cast({expression} as {kind}) as {quote(n)}" for n, (kind, expression) in _WINDOW_COLUMNS.items()
    )
    if not scans:
        nothing = ", ".join(f"cast(null as {kind}) as {quote(n)}" for n, (kind, _) in _WINDOW_COLUMNS.items())
        return f"(select {nothing} where false)"
    return f"(select {shown} from ({' union all '.join(scans)}))"


def _scan(root: Path, name: str) -> str | None:
    dates = windows.landed_dates(root, name)
    if not dates:
        return None
    # Both the markers of a window and of supplements; not commit-day.json, which says where rows stand.
    folder = windows.metadata_dir(root, name, "*").as_posix()
    since = date.fromisoformat(dates[-1]) - timedelta(days=DAYS - 1)
    columns = ", ".join(f"{quote(n)}: 'varchar'" for n in WINDOW_TYPES)
    return (
        f"select * from read_json({literal(f'{folder}/commit-[0-9]*.json')}, columns = {{{columns}}}, filename = true, "
        f"hive_partitioning = true, hive_types = {{'date': date}}) where date >= date '{since}'"
    )


def bronze_sources(root: Path) -> str:
    """SELECT of one row per source of hour windows: its limits of freshness in seconds, and the newest value of its
    window column; NULL where nothing is landed. `dbt source freshness` judges by the same table, `bronze.landed`."""
    values = ", ".join(f"({', '.join(literal(value) for value in limits)})" for limits in _limits())
    return (
        "(select dataset, warn_after_s, error_after_s, nullif(last_at, timestamptz 'epoch') as last_ingested_at "
        f"from (values {values}) as declared (dataset, warn_after_s, error_after_s) "
        "left join bronze.landed on source_name = dataset)"
    )


@functools.cache
def _limits() -> tuple[tuple[str, int | None, int | None], ...]:
    """(name, warning, error) of every source of hour windows; read once, as every run of dbt asks several times."""
    declared = [source for source in sources.declared() if source.windows_of]
    return tuple((source.name, source.warn_after_s, source.error_after_s) for source in declared)


RELATIONS = {"bronze_windows": bronze_windows, "bronze_sources": bronze_sources}
