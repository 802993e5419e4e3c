"""The request ledger: one ``raw/_metadata/request-<id>.json`` for each order, so that nothing is paid twice.

An order is one batch job (a run of days of one schema), or one streamed day. Its record is written before
the vendor is asked, so that a killed run finds what it may have ordered. It holds no key and no URL.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from databento_dbn import DBNError

from ingest.databento.request import Query, Window
from ingest.dbn_format import open_dbn
from ingest.errors import RefusedFile
from ingest.landing import hash_source, read_receipt
from lake import atomic
from lake.bronze import VISIBLE_STATUS
from lake.paths import receipts_dir, stage_dir

BATCH, STREAM = "batch", "stream"


@dataclass
class Order:
    """One order and how far it came.

    ``state``: ``ordering`` (the vendor is being asked; a job may exist), ``ordered``, ``landed`` (every
    window is), ``expired`` (its files are gone at the vendor's; paying again is for people to decide).
    """

    request_id: str
    kind: str
    dataset: str
    schema: str
    symbols: list[str]
    stype_in: str
    start: str
    end: str
    state: str
    windows: list[Window]
    ordered_at: str | None = None
    job_id: str | None = None
    previous_job_ids: list[str] = field(default_factory=list)

    @property
    def query(self) -> Query:
        """What was ordered, to be asked for with."""
        return Query(
            self.dataset,
            (self.schema,),
            tuple(self.symbols),
            datetime.date.fromisoformat(self.start),
            datetime.date.fromisoformat(self.end),
            self.stype_in,
        )

    @property
    def cost_usd(self) -> float:
        return sum(w.cost_usd for w in self.windows)

    @property
    def receipt_id(self) -> str:
        """``request_id`` of the receipts: the vendor's job, or our own order of a stream."""
        return self.job_id or self.request_id

    def folder(self, root: Path) -> Path:
        """Where its files wait for their landing; it outlives the run."""
        return stage_dir(root) / f"databento-{self.request_id}"

    def save(self, root: Path) -> None:
        """Write the record, by way of the order's own folder: what a kill leaves is found there."""
        record = {"request_version": 1, "provider": "databento"} | asdict(self)
        path, staged = _path(root, self.request_id), self.folder(root) / "request.json"
        for folder in (path.parent, staged.parent):
            atomic.make_dirs(folder)
        atomic.write_json(staged, record)
        atomic.replace(staged, path)

    def forget(self, root: Path) -> None:
        """Remove the record of an order that the vendor has not taken."""
        _path(root, self.request_id).unlink(missing_ok=True)
        shutil.rmtree(self.folder(root), ignore_errors=True)

    def is_paid(self, root: Path) -> bool:
        """Whether what isn't landed of it can be had without paying again."""
        if self.kind == BATCH:
            return self.state in ("ordering", "ordered", "landed")
        return all(self.has_file(root, w) for w in self.windows)

    def has_file(self, root: Path, window: Window) -> bool:
        """Whether the window's file waits in the stage, as it was when it was verified."""
        if window.state != "downloaded" or window.reason is not None:
            return False
        path = self.folder(root) / str(window.name)
        return path.is_file() and hash_source(path) == window.sha256


def new_order(query: Query, kind: str, schema: str, windows: list[Window], root: Path) -> Order:
    """An order for a run of windows. An expired one of the same content is carried on under its id."""
    start = windows[0].date
    end = (windows[-1].day + datetime.timedelta(days=1)).isoformat()
    content = [kind, query.dataset, schema, list(query.symbols), query.stype_in, start, end]
    request_id = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    order = Order(
        request_id=request_id,
        kind=kind,
        dataset=query.dataset,
        schema=schema,
        symbols=list(query.symbols),
        stype_in=query.stype_in,
        start=start,
        end=end,
        state="ordering" if kind == BATCH else "ordered",
        windows=windows,
    )
    if _path(root, request_id).is_file():
        old = _load(_path(root, request_id))
        order.previous_job_ids = [*old.previous_job_ids, *([old.job_id] if old.job_id else [])]
    return order


def load_orders(root: Path) -> list[Order]:
    return [_load(path) for path in sorted(receipts_dir(root).glob("request-*.json"))]


@dataclass(frozen=True)
class Had:
    """What of a query needn't be ordered. ``landed`` maps (schema, date) to where it stands; ``orders`` are
    paid for and not finished.
    """

    landed: dict[tuple[str, str], str]
    orders: list[Order]

    def pending(self) -> set[tuple[str, str]]:
        return {(o.schema, w.date) for o in self.orders for w in o.windows}


def look_up(root: Path, query: Query) -> Had:
    """What of ``query`` is landed already, and which open orders bring more of it.

    Landed is what a window of the ledger says with its receipt in place, or a landed raw file whose own head
    says that it answers such a request, whoever fetched it.
    """
    wanted = {(schema, day.isoformat()) for schema in query.schemas for day in query.days()}
    landed = _landed_files(root, query)
    orders = []
    for order in load_orders(root):
        if not query.covered_by(order.dataset, order.symbols, order.stype_in):
            continue
        for window in order.windows:
            key = (order.schema, window.date)
            if key in wanted and is_landed(root, window):
                landed.setdefault(key, f"request {order.receipt_id}")
        missing = {(order.schema, w.date) for w in order.windows} & wanted - landed.keys()
        if missing and order.is_paid(root):
            orders.append(order)
    return Had(landed, orders)


def tidy(root: Path) -> bool:
    """Bring the ledger to what the receipts say, and free the stage of what is landed; returns whether an
    order was open, so that a killed run may have left more. Call under the lock.
    """
    orders, was_open = load_orders(root), False
    for order in orders:
        if order.state == "landed":
            continue
        was_open, before = True, asdict(order)
        for window in order.windows:
            if window.state == "downloaded" and is_landed(root, replace(window, state="landed")):
                window.state, window.reason = "landed", None
        if all(is_landed(root, w) for w in order.windows):
            order.state = "landed"
        if asdict(order) != before:
            order.save(root)
    needed = {order.folder(root) for order in orders if order.state != "landed"}
    for folder in stage_dir(root).glob("databento-*"):
        if folder not in needed:
            shutil.rmtree(folder)
    return was_open


def is_landed(root: Path, window: Window) -> bool:
    if window.state != "landed" or window.sha256 is None:
        return False
    receipt = read_receipt(root, window.sha256[:16])
    return receipt is not None and receipt["sha256"] == window.sha256 and receipt["status"] in VISIBLE_STATUS


def _landed_files(root: Path, query: Query) -> dict[tuple[str, str], str]:
    """(schema, date) of every day of ``query`` that a landed raw file answers, and that file's path."""
    simulated = root / "raw" / "simulation.json"
    made_here = {f["sha256"] for f in atomic.read_json(simulated)["files"]} if simulated.is_file() else set()
    found = {}
    for path in sorted(receipts_dir(root).glob("receipt-*.json")):
        entry = atomic.read_json(path)
        if entry["provider"] != "databento" or entry["sha256"] in made_here:
            continue
        if entry["schema"] not in query.schemas or entry["status"] not in VISIBLE_STATUS:
            continue
        # Cheap first: only heads of files that may reach into our days are read. A file is cut by another
        # clock than its events, so a day on either side doesn't tell.
        first_ns = entry["ts_first_ns"] or _ns(datetime.date.fromisoformat(entry["date"]))
        last_ns = entry["ts_last_ns"] or first_ns
        if first_ns >= _ns(query.end, 1) or last_ns < _ns(query.start, -1):
            continue
        for day in _days_answered(root / entry["path"], query):
            found[entry["schema"], day] = entry["path"]
    return found


def _days_answered(path: Path, query: Query) -> list[str]:
    """Days of ``query`` that a raw file answers whole, by its head: symbols, kind of symbol, span, no
    limit.
    """
    try:
        with open_dbn(path) as stream:
            head = stream.header.metadata
    except (OSError, RefusedFile, DBNError):  # archived, or damaged since: not what proves anything
        return []
    if head.limit or not query.covered_by(head.dataset, sorted(head.symbols), str(head.stype_in)):
        return []
    return [
        day.isoformat() for day in query.days() if head.start <= _ns(day) and _ns(day, 1) <= (head.end or 0)
    ]


def _ns(day: datetime.date, more_days: int = 0) -> int:
    return (day.toordinal() + more_days - datetime.date(1970, 1, 1).toordinal()) * 86_400_000_000_000


def _path(root: Path, request_id: str) -> Path:
    return receipts_dir(root) / f"request-{request_id}.json"


def _load(path: Path) -> Order:
    record = atomic.read_json(path)
    if record.pop("request_version") != 1:
        raise ValueError(f"{path} was of another version of tickhouse, expected request_version 1; update")
    record.pop("provider")
    windows = [Window(**w) for w in record.pop("windows")]
    return Order(windows=windows, **record)
