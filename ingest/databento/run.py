"""`tickhouse ingest databento` as a whole: look, estimate, order, fetch, verify, land; each step goes on where
a killed run stopped.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

from filelock import FileLock, Timeout

from ingest import dbn
from ingest.databento.download import Deadline, WrongFile, fetch_batch_file, fetch_stream
from ingest.databento.ledger import BATCH, STREAM, Order, is_landed, look_up, new_order, tidy
from ingest.databento.report import Report, Row
from ingest.databento.request import Query, Window, check_name, next_day
from ingest.databento.vendor import Vendor, VendorFile, VendorRefusal
from ingest.errors import FailedFile
from ingest.expected import Expected
from ingest.file_report import told
from ingest.landing import hash_source
from lake.commits import now_utc
from lake.paths import stage_dir
from lake.runs import new_run_id, write_run

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 3600.0
# The vendor's list of jobs is searched from a little before our own clock's time of the order.
_CLOCK_SKEW = datetime.timedelta(minutes=10)
_POLL_FIRST_S, _POLL_LAST_S = 1.0, 30.0

Progress = Callable[[str, int, int], None]  # file, bytes so far, bytes in all (0: not known)


def fetch_and_land(
    root: Path,
    query: Query,
    vendor: Vendor,
    *,
    max_usd: float,
    kind: str = BATCH,
    dry_run: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    show: Callable[[Report], None] = lambda report: None,
    progress: Progress = lambda file, done, total: None,
) -> Report:
    """Order what ``query`` asks for and the lake lacks, and land it; returns what became of each window.

    Nothing is ordered when the estimate is above ``max_usd``: ValueError. ``show`` gets the estimate before
    anything is ordered. What an earlier call paid for is gone on with, free of charge: the same job is
    polled again, whole files aren't fetched again. Windows that fail are in the report and the others land;
    FailedFile is raised when the vendor can't be asked at all. ``dry_run`` writes nothing.

    Source: spec/market.md 3.1, 3.3.
    """
    root = root.resolve()
    started_at, run_id = now_utc(), new_run_id("ingest")
    if dry_run:
        return _Call(root, query, vendor, kind, max_usd, Deadline(timeout_s, clock), progress).estimate()[0]
    report = Report()
    with _lock(root):
        if tidy(root):
            dbn.ingest(root, [])  # what a killed landing left; also where nothing is left to land
        call = _Call(root, query, vendor, kind, max_usd, Deadline(timeout_s, clock), progress)
        try:
            report, orders = call.estimate()
            show(report)
            call.refuse_above_limit()
            for order in orders:
                call.order(order)
            report = Report(call.in_order([*call.had_rows(), *call.finish(orders)]), report.cost_usd)
        finally:
            write_run(
                root,
                run_id,
                config=_config(query, kind, max_usd),
                counts={
                    s: sum(r.status == s for r in report.rows)
                    for s in ("landed", "already_landed", "quarantined", "failed", "to_order", "paid")
                },
                status="ok" if report.ok and call.finished else "failed",
                started_at=started_at,
            )
    return report


class _Call:
    """One call: what it found, and the money it may still spend."""

    def __init__(
        self,
        root: Path,
        query: Query,
        vendor: Vendor,
        kind: str,
        max_usd: float,
        deadline: Deadline,
        progress: Progress,
    ) -> None:
        if not 0 <= max_usd < float("inf"):
            raise ValueError(f"max_usd was {max_usd}, expected 0 or more")
        self.root, self.query, self.vendor, self.kind = root, query, vendor, kind
        self.limit, self.deadline, self.progress = Decimal(repr(max_usd)), deadline, progress
        self.spent = Decimal(0)
        self.finished = False
        self.had = look_up(root, query)

    # -- before anything is ordered ----------------------------------------------------------------------

    def estimate(self) -> tuple[Report, list[Order]]:
        """The estimate as a report, and the orders that finish the query: open ones, then new ones."""
        pending, rows, orders = self.had.pending(), [*self.had_rows()], [*self.had.orders]
        for order in self.had.orders:
            lost = order.state == "ordering" and self._find_job(order) is None  # killed before it was asked
            if lost:
                self.spent += _usd(order.cost_usd)
            rows += [
                Row(
                    order.schema,
                    w.date,
                    "to_order" if lost else "paid",
                    w.record_count,
                    w.billable_bytes,
                    w.cost_usd if lost else 0.0,
                    order.receipt_id,
                )
                for w in order.windows
                if not is_landed(self.root, w)
            ]
        missing = {
            schema: [
                day
                for day in self.query.days()
                if (schema, day.isoformat()) not in self.had.landed.keys() | pending
            ]
            for schema in self.query.schemas
        }
        if any(missing.values()):
            self._check_names()
        for schema, days in missing.items():
            windows = []
            for day in days:
                self.progress(f"cost of {schema} {day}", 0, 0)
                windows.append(Window(day.isoformat(), *self.vendor.declared(self.query, schema, day)))
            rows += [
                Row(schema, w.date, "to_order", w.record_count, w.billable_bytes, w.cost_usd) for w in windows
            ]
            orders += [
                new_order(self.query, kind, schema, run, self.root) for kind, run in self._runs(windows)
            ]
            self.spent += sum((_usd(w.cost_usd) for w in windows), Decimal(0))
        return Report(self.in_order(rows), float(self.spent)), orders

    def in_order(self, rows: list[Row]) -> list[Row]:
        """By schema as they were named, then by day."""
        return sorted(rows, key=lambda r: (self.query.schemas.index(r.schema), r.date))

    def refuse_above_limit(self) -> None:
        if self.spent > self.limit:
            raise ValueError(
                f"estimate was {self.spent:.2f} USD, expected at most {self.limit:.2f} (--max-usd); nothing was "
                "ordered; ask for less, or raise the limit"
            )

    def had_rows(self) -> Iterator[Row]:
        for (schema, date), where in sorted(self.had.landed.items()):
            yield Row(schema, date, "already_landed", path=where)

    def _check_names(self) -> None:
        """One line for a dataset, schema or symbol that the vendor doesn't have."""
        query = self.query
        check_name("dataset", query.dataset, self.vendor.datasets())
        offered = self.vendor.schemas(query.dataset)
        for schema in query.schemas:
            check_name("schema", schema, offered)
        unknown, partly = self.vendor.unknown_symbols(query)
        if unknown:
            raise ValueError(
                f"symbols {', '.join(unknown[:10])} were not known as {query.stype_in} in {query.dataset} from "
                f"{query.start} to {query.end}, expected names of that kind; check --symbols and --stype-in"
            )
        if partly:
            log.warning("symbols %s are known on some of the days only", ", ".join(partly[:10]))

    def _runs(self, windows: list[Window]) -> Iterator[tuple[str, list[Window]]]:
        """Windows that make one order each: a run of days for a job, a single day for a stream.

        A day without records is part of the job around it, and costs nothing; without one it is streamed,
        which is free and gives a file that says so.
        """
        if self.kind == STREAM:
            yield from ((STREAM, [w]) for w in windows)
            return
        run: list[Window] = []
        for window in windows:
            if run and next_day(run[-1].day) != window.day:
                yield from _trimmed(run)
                run = []
            run.append(window)
        yield from _trimmed(run)

    # -- ordering ----------------------------------------------------------------------------------------

    def order(self, order: Order) -> None:
        """Have the vendor work on ``order``, exactly once however often this is tried."""
        if order.kind == STREAM or order.state != "ordering":
            order.save(self.root)
            return
        query = order.query
        asked_before = order.ordered_at is not None
        if not asked_before:
            order.ordered_at = now_utc()
            order.save(self.root)

        def once() -> dict:
            nonlocal asked_before
            if asked_before and (job := self._find_job(order)) is not None:
                return job
            asked_before = True
            return self.vendor.submit_once(query)

        try:
            job = self.vendor.policy.call(once, what=f"order of {order.schema} from {order.start}")
        except VendorRefusal:
            order.forget(self.root)
            raise
        order.job_id, order.state = job["id"], "ordered"
        order.save(self.root)
        log.info("ordered job=%s request=%s cost_usd=%.2f", order.job_id, order.request_id, order.cost_usd)

    def _find_job(self, order: Order) -> dict | None:
        """The job of an order whose answer was lost: one of the same content that no other order has."""
        since = datetime.datetime.fromisoformat(order.ordered_at) - _CLOCK_SKEW
        content = {
            "dataset": order.dataset,
            "schema": order.schema,
            "symbols": sorted(order.symbols),
            "stype_in": order.stype_in,
            "start": order.start,
            "end": order.end,
            "encoding": "dbn",
            "split_duration": "day",
        }
        for job in self.vendor.jobs(since):
            if job["state"] == "expired" or job["id"] in order.previous_job_ids:
                continue
            if all(job[key] == value for key, value in content.items()):
                return job
        return None

    # -- fetching and landing ----------------------------------------------------------------------------

    def finish(self, orders: list[Order]) -> list[Row]:
        """Wait for, fetch, verify and land each order; one that fails doesn't stop the next."""
        rows = []
        # Definitions name the instruments of other files, so they land first.
        for order in sorted(orders, key=lambda o: o.schema != "definition"):
            try:
                self._finish(order)
            except FailedFile as error:
                rows += self._rows(order, str(error))
            except OSError as error:
                rows += self._rows(order, told(error, "write the files of the order"))
            else:
                rows += self._rows(order, None)
        self.finished = True
        return rows

    def _finish(self, order: Order) -> None:
        # Files that are here already need nothing of the vendor, whose own ones may have expired.
        missing = [
            w for w in order.windows if not is_landed(self.root, w) and not order.has_file(self.root, w)
        ]
        files = self._wait_for_files(order) if missing and order.kind == BATCH else {}
        problem: FailedFile | None = None
        for window in order.windows:
            if is_landed(self.root, window):
                continue
            try:
                self._land(order, window, *self._fetch(order, window, files.get(window.date)))
            except FailedFile as error:  # the other days of the order are whole and paid for
                problem = problem or error
                window.reason = str(error)
        if all(is_landed(self.root, w) for w in order.windows):
            order.state = "landed"
            order.save(self.root)
            shutil.rmtree(order.folder(self.root), ignore_errors=True)
        if problem is not None:
            raise problem

    def _wait_for_files(self, order: Order) -> dict[str, VendorFile]:
        """The job's data files by date, when it is done."""
        wait_s, what = _POLL_FIRST_S, f"job {order.job_id}"
        while (state := self.vendor.job(order.job_id)["state"]) != "done":
            if state == "expired":
                order.state = "expired"
                order.save(self.root)
                raise FailedFile(
                    f"{what} was expired, expected its files; run the same command to order again (and pay again)"
                )
            if state not in ("received", "queued", "processing"):
                raise FailedFile(f"{what} was in state {state[:40]!r}, expected done; ask the vendor")
            self.deadline.check(f"{what} ({state})")
            self.progress(f"{what} {state}", 0, 0)
            self.vendor.policy.sleep(wait_s)
            wait_s = min(2 * wait_s, _POLL_LAST_S)
        return _by_date(order, self.vendor.files(order.job_id))

    def _fetch(self, order: Order, window: Window, file: VendorFile | None) -> tuple[Path, Expected]:
        """The window's file in the stage, and what was said of it. A wrong file is there too: landing refuses
        it.
        """
        if order.has_file(self.root, window):
            said = Expected(order.receipt_id, now_utc(), window.bytes, window.sha256)
            return order.folder(self.root) / str(window.name), said
        name = file.name if file else _file_name(order, window)
        path, wrong = order.folder(self.root) / name, None
        if file is None and order.kind == BATCH and window.record_count:
            raise FailedFile(
                f"job {order.job_id} had no file of {order.schema} {window.date}, expected one with "
                f"{window.record_count:,} records; ask the vendor"
            )
        self.deadline.check(f"{order.schema} {window.date}")
        try:
            if file is not None:
                fetch_batch_file(
                    self.vendor,
                    file,
                    path,
                    deadline=self.deadline,
                    tell=lambda done: self.progress(name, done, file.bytes),
                )
            else:
                path.unlink(missing_ok=True)
                fetch_stream(
                    self.vendor,
                    order.query,
                    order.schema,
                    window,
                    path,
                    deadline=self.deadline,
                    tell=lambda done: self.progress(name, done, 0),
                    pay_again=lambda: self._pay_again(order, window),
                )
        except WrongFile as error:
            wrong = str(error)
        window.name, window.state, window.reason = name, "downloaded", wrong
        window.bytes = path.stat().st_size
        window.sha256 = file.sha256 if file and wrong is None else hash_source(path)
        order.save(self.root)
        said = Expected(
            order.receipt_id,
            now_utc(),
            bytes=file and file.bytes,
            sha256=file and file.sha256,
            record_count=None if file else window.record_count,
        )
        return path, said

    def _pay_again(self, order: Order, window: Window) -> None:
        cost = _usd(window.cost_usd)
        if self.spent + cost > self.limit:
            raise FailedFile(
                f"stream of {order.schema} {window.date} came broken, and asking again would bring the cost to "
                f"{self.spent + cost:.2f} USD, expected at most {self.limit:.2f} (--max-usd); order it with "
                "--batch, whose files can be fetched again, or raise the limit"
            )
        self.spent += cost

    def _land(self, order: Order, window: Window, path: Path, said: Expected) -> None:
        """Land the staged file, or have it put into quarantine; the stage is freed after it."""
        (outcome,) = dbn.ingest(self.root, [path], expected={path: said}).files
        if outcome.status == "failed":
            raise FailedFile(outcome.reason)
        window.state = "landed" if outcome.ok else "quarantined"
        window.reason = outcome.reason
        order.save(self.root)
        path.unlink()

    def _rows(self, order: Order, problem: str | None) -> Iterator[Row]:
        for window in order.windows:
            if (order.schema, window.date) in self.had.landed:
                continue
            landed = is_landed(self.root, window)
            status = "landed" if landed else "quarantined" if window.state == "quarantined" else "failed"
            reason = None if landed else window.reason or problem
            yield Row(
                order.schema,
                window.date,
                status,
                window.record_count,
                window.billable_bytes,
                window.cost_usd,
                order.receipt_id,
                window.name,
                reason,
            )


def _trimmed(run: list[Window]) -> Iterator[tuple[str, list[Window]]]:
    """A run as one job from its first to its last day with records; empty days outside of it as streams."""
    full = [i for i, w in enumerate(run) if w.record_count]
    first, last = (full[0], full[-1] + 1) if full else (0, 0)
    yield from ((STREAM, [w]) for w in [*run[:first], *run[last:]])
    if full:
        yield BATCH, run[first:last]


def _by_date(order: Order, files: list[VendorFile]) -> dict[str, VendorFile]:
    """Data files by their day, which stands in their names (``glbx-mdp3-20251006.trades.dbn.zst``)."""
    found: dict[str, VendorFile] = {}
    dates = {w.date.replace("-", ""): w.date for w in order.windows}
    for file in files:
        if not file.name.endswith((".dbn", ".dbn.zst")):
            continue  # metadata.json, condition.json, symbology.json, manifest.json
        days = [date for digits, date in dates.items() if f"-{digits}." in file.name]
        if len(days) != 1 or days[0] in found:
            raise FailedFile(
                f"job {order.job_id} listed {file.name}, expected one file for each day from {order.start} to "
                f"{order.end} (exclusive); ask the vendor"
            )
        found[days[0]] = file
    return found


def _file_name(order: Order, window: Window) -> str:
    """The name that the vendor's own batch files have."""
    dataset = order.dataset.lower().replace(".", "-")
    return f"{dataset}-{window.date.replace('-', '')}.{order.schema}.dbn.zst"


def _usd(cost: float) -> Decimal:
    return Decimal(repr(cost))


def _config(query: Query, kind: str, max_usd: float) -> dict:
    return {
        "command": "ingest databento",
        "dataset": query.dataset,
        "schemas": list(query.schemas),
        "symbols": list(query.symbols),
        "stype_in": query.stype_in,
        "start": query.start.isoformat(),
        "end": query.end.isoformat(),
        "kind": kind,
        "max_usd": max_usd,
    }


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One ordering run at a time on a lake: two of them would pay twice. A killed holder frees it."""
    stage_dir(root).mkdir(parents=True, exist_ok=True)
    lock = FileLock(stage_dir(root) / "databento.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FailedFile(
            f"another `ingest databento` was at work on {root}, expected one at a time; run again when it ends"
        ) from None
    try:
        yield
    finally:
        lock.release()
