"""Which bronze files exist for a reader: those that a commit record lists and whose delivery has a receipt.

A delivery (one source file) may fill many hours over two UTC dates. Its receipt is written last, so it appears whole
or not at all (spec/market.md 4.2).
"""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lake import atomic, replaced
from lake.paths import bronze_dir, receipts_dir

HOUR_NS = 3_600_000_000_000
VISIBLE_STATUS = {"landed", "archived"}
SOURCES = ("databento_dbn", "polygon_flatfile", "massive_rest", "massive_ws", "polygon_ws", "replay", "sim")
"""Best first: of several that hold an hour one is read. Source: spec/market.md 4.3 (a)."""
SEEN_IN_THE_ROWS = {"silence", "maybe_bad_book"}
"""Reasons of gaps that say what the records themselves say, between copies as well: readers judge it by these."""


@dataclass(frozen=True)
class BronzeFile:
    """One visible Parquet file: one delivery's rows of one UTC hour, in event order.

    ``path`` is where these rows stand now: after a compaction or in the archive a file that other entries share.
    ``name`` is that of the file as it was landed: it and the content digest are what build keys see.
    ``gaps`` are (contract, from_ns, to_ns) that its delivery says are missing, inside the hour; no contract means all.
    ``is_superseded``: a better source holds the hour, so that silver reads that one and not this.
    """

    schema: str
    path: Path
    key: dict[str, str]
    date: str
    hour: int
    rows: int
    ts_min_ns: int
    ts_max_ns: int
    delivery_id: str
    content_digest: str
    state: str
    name: str
    source: str
    is_open: bool
    gaps: tuple[tuple[str | None, int, int], ...]
    f_last_absent: bool
    is_archived: bool = False
    is_superseded: bool = False

    @property
    def source_name(self) -> str:
        """``futures.trades.v1`` → ``futures_trades``: the name of the dbt source."""
        return "_".join(self.schema.split(".")[:-1])

    @functools.cached_property
    def hour_key(self) -> tuple[str, str, str, int]:
        return (self.schema, "/".join(f"{k}={v}" for k, v in sorted(self.key.items())), self.date, self.hour)


def visible_files(root: Path) -> list[BronzeFile]:
    """Every visible file of every schema, in order of (schema, key, date, hour, delivery)."""
    bronze = bronze_dir(root)
    receipts: dict[str, bool] = {}
    files = []
    for record_path in bronze.glob("*/*/_metadata/date=*/commit-*.json"):
        record = atomic.read_json(record_path)
        delivery = record["delivery_id"]
        if delivery not in receipts:
            receipts[delivery] = _has_receipt(root, delivery)
        if not receipts[delivery]:
            continue
        # Status and known gaps enter the rows (a gap breaks a book segment), so they are part of what was read.
        said = [record["status"], record.get("gaps", [])]
        unmarked = _keys_without_f_last(record)
        state = json.dumps([*said, {"f_last_absent": unmarked}] if unmarked else said, sort_keys=True)
        files += [
            BronzeFile(
                schema=record["schema"], path=bronze / f["path"], key=f["key"], date=record["date"], hour=f["hour"],
                rows=f["rows"], ts_min_ns=f["ts_min_ns"], ts_max_ns=f["ts_max_ns"], delivery_id=delivery,
                content_digest=f["content_digest"], state=state, name=Path(f["path"]).name,
                source=record["source"], is_open=record["status"] == "open",
                gaps=_gaps_of_the_hour(record, f), f_last_absent=f["key"] in unmarked,
            )
            for f in record["files"]
        ]  # fmt: skip
    found = sorted(_where_they_stand(root, files), key=lambda f: (*f.hour_key, f.delivery_id, f.name))
    best = _best_sources(found)
    return [replace(f, is_superseded=True) if f.source != best[f.hour_key] else f for f in found]


def paths(files: Iterable[BronzeFile]) -> list[Path]:
    """Where the rows of some visible files stand, each file once, in their order."""
    return [*dict.fromkeys(f.path for f in files)]


def reject_files(root: Path) -> list[Path]:
    """Every file of rows that couldn't be landed. They are no input of anything, so no record has to name them."""
    return sorted(bronze_dir(root).glob("_rejects/dataset=*/date=*/part-*.parquet"))


def shared_hours(files: list[BronzeFile]) -> set[tuple[str, str, str, int]]:
    """The hours held by several deliveries of their best source: only these need the multiset rule
    (spec/market.md 4.3).
    """
    first: dict[tuple[str, str, str, int], str] = {}
    read = (f for f in files if not f.is_superseded)
    return {f.hour_key for f in read if first.setdefault(f.hour_key, f.delivery_id) != f.delivery_id}


def known(files: Sequence[BronzeFile]) -> dict:
    """What the commit records say of some files of one source that their rows don't show.

    ``gaps``: [contract or None, from_ns, to_ns], sorted. ``f_last_absent``: no record of theirs marks the end of an
    event, so that every one counts as one (spec/market.md 4.5).
    """
    gaps = sorted({gap for f in files for gap in f.gaps}, key=lambda gap: (gap[1], gap[2], gap[0] or ""))
    return {"gaps": gaps, "f_last_absent": bool(files) and all(f.f_last_absent for f in files)}


def empty_file(root: Path, name: str, keys: list[str]) -> Path:
    """Where the zero-row file of a source stands: what a scan reads when no file is visible."""
    folder = root / "lake" / "_stage" / "empty" / name
    for key in keys:
        folder = folder / f"{key}=0"
    return folder / "date=1970-01-01" / "hour=00" / "empty.parquet"


def _where_they_stand(root: Path, files: list[BronzeFile]) -> Iterator[BronzeFile]:
    """The same files, each with the path of the merged file or archive copy that stands for it, where one does."""
    landed_as = [str(f.path.relative_to(bronze_dir(root))) for f in files]
    standing = replaced.standing(root, {*landed_as})
    for path, file in zip(landed_as, files, strict=True):
        now = standing.get(path)
        yield replace(file, path=now.file(root), is_archived=now.kind == replaced.ARCHIVED) if now else file


def _best_sources(files: Iterable[BronzeFile]) -> dict[tuple[str, str, str, int], str]:
    """The source that is read of each hour: the best of which a delivery is complete, else the best."""
    order = {name: rank for rank, name in enumerate(SOURCES)}
    best: dict[tuple[str, str, str, int], tuple[bool, int, str]] = {}
    for f in files:
        mine = (f.is_open, order.get(f.source, len(order)), f.source)
        best[f.hour_key] = min(best.get(f.hour_key, mine), mine)
    return {hour: source for hour, (_, _, source) in best.items()}


def _gaps_of_the_hour(record: dict, file: dict) -> tuple[tuple[str | None, int, int], ...]:
    """Gaps of a commit record as far as they lie in a file's hour; of several, not their mere ends."""
    start_ns = file["ts_min_ns"] // HOUR_NS * HOUR_NS
    found = []
    for gap in record.get("gaps", []):
        if gap.get("reason") in SEEN_IN_THE_ROWS or gap.get("key", file["key"]) != file["key"]:
            continue
        first, last = max(gap["from_ns"], start_ns), min(gap["to_ns"], start_ns + HOUR_NS)
        if first < last or start_ns <= gap["from_ns"] == gap["to_ns"] < start_ns + HOUR_NS:
            found.append((gap.get("contract"), first, last))
    return tuple(found)


def _keys_without_f_last(record: dict) -> list[dict]:
    checks = record.get("quality", [])
    return [v["key"] for v in checks if v["check"] == "f_last_share" and v["value"] == 0]


def _has_receipt(root: Path, delivery_id: str) -> bool:
    path = receipts_dir(root) / f"receipt-{delivery_id}.json"
    return path.is_file() and atomic.read_json(path)["status"] in VISIBLE_STATUS
