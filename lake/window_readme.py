"""The `README.md` beside the markers of a date: what stands there, for a person. Follows from the markers alone."""

from __future__ import annotations

from pathlib import Path

from lake import atomic
from lake.windows import README, Marker, metadata_dir, read_date

SCHEMA_LINK = "contracts/schemas/window_commit.schema.json"


def write_readme(root: Path, dataset: str, date: str) -> None:
    """Write the page of a date anew where it isn't what the markers say; a date without markers gets none."""
    markers = read_date(root, dataset, date)
    if not markers:
        return
    path = metadata_dir(root, dataset, date) / README
    text = readme(dataset, date, markers)
    if not path.is_file() or path.read_text() != text:
        atomic.write_text(path, text)


def readme(dataset: str, date: str, markers: list[Marker]) -> str:
    """The page; ``markers`` are those of the date, in order."""
    states = sorted({marker.state for marker in markers})
    lines = [
        f"# bronze/{dataset}, {date} (UTC)",
        "",
        f"Environment {markers[0].environment}, schema version {markers[0].schema_version}, "
        f"{sum(marker.rows for marker in markers):,} rows in {len(markers)} records, state {', '.join(states)}. "
        f"Read only the parts that a record `commit-*.json` names ({SCHEMA_LINK}).",
        "",
        "| record | window start | state | rows | rejected lines | parts |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {m.file_name} | {m.window_start} | {m.state} | {m.rows:,} | {m.reject_rows:,} | {len(m.parts)} |"
        for m in markers
    ]
    return "\n".join(lines) + "\n"
