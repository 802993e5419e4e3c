"""Taking the future away from a built date: its rows up to an instant must come out the same.

A scratch root has bronze as it stood at that instant: everything at or after it is cut off. The version's date is
built from it, on the silver of earlier dates, and compared row by row with the committed one. What differs saw its own
future. Source: spec/market.md 13.1 (gate 8), 19.
"""

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import atomic, bronze, commits, contracts, dbt, plan, project, release, released, verify
from lake.commits import now_utc
from lake.paths import PROJECT_DIR, bronze_dir
from lake.released import equal_values
from lake.verify import NotVerifiable

KEY = "observation_id"
TIME = "ts_event_ns"
TOUCHED = "ts_ns"


def audit_path(root: Path, version: str, build_digest: str) -> Path:
    """Where the verdict on a version stands, as it was at ``build_digest``."""
    return released.version_dir(root, version) / "_metadata" / f"audit-{build_digest[:8]}.json"


def audit(
    root: Path,
    version: str,
    *,
    session_date: str | None = None,
    asof_ns: int | None = None,
    scratch: Path | None = None,
    project_dir: Path = PROJECT_DIR,
    on_node: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Audit one date of ``version`` and record the verdict beside it; returns the record.

    ``session_date`` defaults to the last date that has rows, ``asof_ns`` to the median instant of its rows. Raises
    NotVerifiable when the date isn't built, or the checkout makes another version than the one on record.
    """
    folder = released.version_dir(root, version)
    recorded, resolved = (
        verify.read_record(folder / name, version) for name in ("manifest.yaml", "params.yaml")
    )
    partitions = {p.commit.date: p for p in commits.read_partitions(folder).values()}
    # After the last session there may be a date without rows: prints of SPY alone.
    having_rows = [date for date, p in partitions.items() if p.commit.rows]
    date = session_date or max(having_rows or partitions, default="")
    if date not in partitions:
        raise NotVerifiable(
            f"{version} has no date {date or 'at all'}, expected a built one; run `dbt build`"
        )
    before = pq.ParquetFile(partitions[date].file).read()
    if before.num_rows == 0:
        raise NotVerifiable(f"{version} has no row on {date}, expected some to audit; build more sessions")
    instant = asof_ns or sorted(before["asof_ns"].to_pylist())[before.num_rows // 2]
    before = _up_to(before, instant)
    with contextlib.ExitStack() as stack:
        if scratch is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="tickhouse-audit-"))
            scratch = Path(made).resolve()
        _prepare(root, scratch, date, instant)
        stack.enter_context(verify.environment(verify.write_params(scratch, resolved), None))
        after_date = datetime.date.fromisoformat(date) + datetime.timedelta(days=1)
        options = {
            "root": scratch,
            "project_dir": project_dir,
            "target_path": scratch / "target",
            "variables": {"start_date": date, "end_date": after_date.isoformat()},
        }
        graph, _ = project.load(**options)
        node = release.version_nodes(graph, version)[0]
        args = ["run", "--select", f"+{release.selector(node)}"]
        dbt.invoke(args, **options, on_event=verify.told_of(on_node))
        built = {
            p.commit.date: p
            for p in commits.read_partitions(scratch / "lake" / plan.dataset_folder(node)).values()
        }[date]
        if built.commit.build_digest != recorded["digests"]["build"]:
            raise NotVerifiable(
                f"{version} on record has build digest {recorded['digests']['build'][:12]}, this checkout makes "
                f"{(built.commit.build_digest or '')[:12]}; check out the commit that made it"
            )
        after = pq.ParquetFile(built.file).read()
        after = _up_to(after, instant)
    faults = differences(before, after)
    record = {
        "version": version,
        "build_digest": recorded["digests"]["build"],
        "passed": not faults,
        "told": faults[0] if faults else f"no row of {before.num_rows} up to the instant changed",
        "session_date": date,
        "asof_ns": instant,
        "rows": before.num_rows,
        "audited_at": now_utc(),
    }
    contracts.check(record, "audit", "audit")
    atomic.write_json(audit_path(root, version, recorded["digests"]["build"]), record)
    return record


def _up_to(rows: pa.Table, instant_ns: int) -> pa.Table:
    """Rows as of the instant or before, of touches before it: the print that touches is cut off with all others."""
    known = pc.less_equal(rows["asof_ns"], instant_ns)
    if TOUCHED in rows.column_names:
        known = pc.and_(known, pc.less(rows[TOUCHED], instant_ns))
    return rows.filter(known)


def differences(before: pa.Table, after: pa.Table) -> list[str]:
    """What isn't the same in two builds of the same rows, one line each; keys decide which rows belong together."""
    one, two = (t.sort_by(KEY).combine_chunks() for t in (before, after))
    if one[KEY].to_pylist() != two[KEY].to_pylist():
        gone = len(set(one[KEY].to_pylist()) - set(two[KEY].to_pylist()))
        return [f"{gone} of {one.num_rows} rows were not there without the future, {two.num_rows} were"]
    faults = []
    for name in one.column_names:
        a, b = one[name].combine_chunks(), two[name].combine_chunks()
        if not equal_values(a, b):
            changed = sum(x != y for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True))
            faults.append(f"{name} changed in {changed} of {one.num_rows} rows")
    return faults


def _prepare(root: Path, scratch: Path, date: str, instant_ns: int) -> None:
    """Bronze up to the instant, silver of earlier dates; links where nothing is cut."""
    if (scratch / "lake").exists():
        raise NotVerifiable(f"{scratch} holds a lake already, expected an empty folder; name another")
    (scratch / "lake").mkdir(parents=True)
    for name in ("raw", "lake/archive"):
        if (root / name).is_dir():
            (scratch / name).symlink_to(root / name, target_is_directory=True)
    _link_files(bronze_dir(root), bronze_dir(scratch))
    for file in bronze.visible_files(scratch):
        if file.ts_max_ns >= instant_ns and not file.is_archived:
            rows = pq.ParquetFile(file.path).read()
            kept = rows.filter(pc.less(rows[TIME], instant_ns))
            file.path.unlink()
            pq.write_table(kept, file.path)
    for dated in (root / "lake" / "silver").glob("**/date=*"):
        if dated.is_dir() and "_metadata" not in dated.parts and dated.name < f"date={date}":
            place = scratch / dated.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(dated, target_is_directory=True)


def _link_files(source: Path, place: Path) -> None:
    for folder, _, names in os.walk(source):
        here = place / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            (here / name).symlink_to(Path(folder) / name)
