"""From the REST interface to execution bronze: ask, save the answers as a raw file, land that file.

For each symbol a cursor says how far the last sync came. It is a cache: written after the rows and the receipt, and
found again from the landed rows when it is missing. A sync that gets no answer says so; it is no sync without news.
Source: spec/execution.md 3.4, 9.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from ingest.binance.api import Answer, Api, SourceUnreachable
from ingest.binance.kinds import ACCOUNT_TYPES, FIXED_INTERVALS_S
from ingest.binance.load import EPOCH, load_file, record_run
from ingest.binance.paging import agg_trade_pages, fill_pages, kline_pages
from ingest.binance.raw_files import raw_dir, sweep, write_staged
from ingest.binance.report import FileReport, Options, Report, require_options
from ingest.environment import require_environment
from ingest.errors import FailedFile, IngestError
from ingest.http_retry import RetryPolicy
from ingest.window_schema import WINDOW_SCHEMAS
from ingest.windows import WindowLoad
from lake import atomic
from lake.commits import now_utc
from lake.locks import NameLock
from lake.paths import stage_dir
from lake.runs import new_run_id
from lake.windows import landed_dates, visible_parts

log = logging.getLogger(__name__)

_MS = timedelta(milliseconds=1)
_WHAT = {"agg_trades": "aggTrades", "klines": "klines", "trades": "myTrades"}
_NUMBER = {"agg_trades": "agg_id", "klines": "open_time", "trades": "trade_id"}


@dataclass(frozen=True)
class Subject:
    """What one cursor is of."""

    dataset: str
    market: str
    symbol: str
    interval: str | None = None
    client_id: int | None = None
    account_type: str | None = None

    @property
    def folder(self) -> str:
        """Below ``raw/binance``: what the body doesn't say stands in the path and in the name."""
        if self.dataset == "trades":
            return f"api/client_id={self.client_id}/account_type={self.account_type}"
        return "api/spot" if self.market == "spot" else "api/futures/um"

    @property
    def stem(self) -> str:
        return "-".join(filter(None, [self.symbol, _WHAT[self.dataset], self.interval]))


def ingest_api(
    root: Path,
    dataset: str,
    options: Options,
    *,
    interval: str = "1m",
    policy: RetryPolicy | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> Report:
    """Bring ``dataset`` of each of ``options.symbols`` up to date, or [start, end) of it, from the REST interface.

    Without ``start`` it goes on behind the cursor; own fills without one start with the first, public data needs
    ``start`` once. One entry of the report a symbol. Raises FailedFile for missing keys, RefusedFile when the lake
    holds another environment, ValueError for options that don't fit.
    """
    require_options(dataset, options)
    if not options.symbols:
        raise ValueError("no symbol was named, expected those to ask for; name them by --symbols A,B")
    if dataset == "klines" and interval not in FIXED_INTERVALS_S:
        raise ValueError(
            f"interval was {interval}, expected one of {', '.join(FIXED_INTERVALS_S)}; correct --interval"
        )
    account_type = (options.account_type or "SPOT") if dataset == "trades" else None
    if account_type == "FUTURES" or account_type not in (None, *ACCOUNT_TYPES):
        raise ValueError(f"account type was {account_type}, expected SPOT, ISOLATED_MARGIN or CROSS_MARGIN")
    root = root.resolve()
    require_environment(root, options.environment)
    sweep(root)
    market = options.market or "spot"
    api = Api(
        market, options.environment, clock_ns=clock_ns, **({} if policy is None else {"policy": policy})
    )
    run_id, started_at = new_run_id("ingest"), now_utc()
    reports = []
    for symbol in options.symbols:
        subject = Subject(
            dataset,
            market,
            symbol,
            interval if dataset == "klines" else None,
            options.client_id if dataset == "trades" else None,
            account_type,
        )
        reports.append(_Sync(root, api, subject, options, run_id).run())
    report = Report(run_id, reports)
    record_run(root, report, dataset, options, started_at, source="api")
    return report


@dataclass
class _Sync:
    root: Path
    api: Api
    subject: Subject
    options: Options
    run_id: str
    last: int | None = None
    answers: int = 0
    _digits: str = ""

    def run(self) -> FileReport:
        subject = self.subject
        told = f"api:{subject.folder.removeprefix('api/')}/{subject.stem}"
        self._digits = _digits(told)
        lock = NameLock(stage_dir(self.root) / f"binance-{self._digits}.lock")
        atomic.make_dirs(stage_dir(self.root))
        lock.take(what=f"the sync of {told}")
        staged = stage_dir(self.root) / f"binance-{self._digits}"
        try:
            self._finish()
            self._save(staged)
            if not self.answers:
                self._close_empty_range()
                return FileReport(told, subject.dataset, "landed")
            report = replace(self._land(self._keep(staged)), path=told)
            if report.ok:
                self._advance()
            return report
        except SourceUnreachable as error:
            return FileReport(told, subject.dataset, "unreachable", str(error))
        except IngestError as error:
            return FileReport(told, subject.dataset, "failed", str(error))
        except OSError as error:
            return FileReport(told, subject.dataset, "failed", str(error))
        finally:
            staged.unlink(missing_ok=True)
            lock.release()

    def _land(self, path: Path) -> FileReport:
        subject = self.subject
        options = replace(
            self.options, market=subject.market, account_type=subject.account_type, client_id=subject.client_id,
            symbols=(subject.symbol,), as_of=None,
        )  # fmt: skip
        return load_file(self.root, subject.dataset, path, options, run_id=self.run_id)

    def _finish(self) -> None:
        """Give the answers of a first sync that was killed their receipt: its rows may be in, so that nobody would ask
        for them again. Does nothing once there is a cursor.
        """
        if self.options.start is not None or self._cursor_path.is_file():
            return
        landed = [
            self._land(path).ok
            for path in sorted(self._cursor_path.parent.glob(f"{self.subject.stem}-*.json.gz"))
        ]
        if any(landed):
            self._advance()

    # -- asking --------------------------------------------------------------------------------------------------

    def _save(self, staged: Path) -> None:
        """All answers with rows, one a line behind the time they were asked for, packed."""
        with open(staged, "wb") as file:
            # No name and no time in the header: equal answers are equal bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                for answer in self._pages():
                    packed.write(
                        f"{answer.asked_ns} ".encode() + " ".join(answer.body.splitlines()).encode() + b"\n"
                    )
                    self.answers += 1
            file.flush()
            os.fsync(file.fileno())

    def _pages(self) -> Iterator[Answer]:
        subject, options = self.subject, self.options
        now = EPOCH + timedelta(microseconds=self.api.clock_ns() // 1000)
        end_ms = _millis(options.end or now + timedelta(minutes=1))
        start_ms = None if options.start is None else _millis(options.start)
        self.last = self._cursor()
        from_number = None if start_ms is not None or self.last is None else self.last + 1
        if subject.dataset != "trades" and start_ms is None and from_number is None:
            raise FailedFile(
                f"nothing of {subject.stem} was landed yet, expected a date to begin with; name it by --start"
            )
        match subject.dataset:
            case "agg_trades":
                pages = agg_trade_pages(
                    self.api, subject.symbol, from_id=from_number, start_ms=start_ms, end_ms=end_ms
                )
            case "klines":
                begin = start_ms if start_ms is not None else from_number // 1000 + 1
                pages = kline_pages(
                    self.api, subject.symbol, subject.interval or "1m", start_ms=begin, end_ms=end_ms
                )
            case _:
                pages = fill_pages(
                    self.api, subject.symbol, subject.account_type or "SPOT", from_id=from_number, start_ms=start_ms,
                    end_ms=end_ms,
                )  # fmt: skip
        yield from pages

    def _keep(self, staged: Path) -> Path:
        digits = _digits(staged.read_bytes())
        path = raw_dir(self.root) / self.subject.folder / f"{self.subject.stem}-{digits}.json.gz"
        atomic.make_dirs(path.parent)
        atomic.replace(staged, path)
        return path

    def _close_empty_range(self) -> None:
        """A range that was asked for and holds nothing has its windows, with no rows."""
        if self.options.start is None or self.options.end is None:
            return
        schema = WINDOW_SCHEMAS[self.subject.dataset]
        with WindowLoad(self.root, schema, self.options.environment, source_kind="binance") as load:
            load.publish(start=self.options.start, end=self.options.end)

    # -- the cursor ----------------------------------------------------------------------------------------------

    @property
    def _cursor_path(self) -> Path:
        return raw_dir(self.root) / self.subject.folder / f"{self.subject.stem}.cursor.json"

    def _cursor(self) -> int | None:
        """The greatest number landed: an id, or the opening of a bar in µs."""
        if self._cursor_path.is_file():
            return atomic.read_json(self._cursor_path)["last"]
        return self._landed_last()

    def _landed_last(self) -> int | None:
        """The same out of bronze, newest date first: numbers grow with time."""
        subject, dataset = self.subject, self.subject.dataset
        column = _NUMBER[dataset]
        value = f"epoch_us({column})" if dataset == "klines" else column
        wanted = {
            "client_id": subject.client_id,
            "account_type": subject.account_type,
            "symbol": subject.symbol,
        }
        keys = {"symbol": subject.symbol, "bar_interval": subject.interval}
        for date in reversed(landed_dates(self.root, dataset)):
            parts = visible_parts(self.root, dataset, [date])
            paths = [str(p.path) for p in parts if all(keys[k] == v for k, v in p.part.key.items())]
            if not paths:
                continue
            if dataset == "trades":
                where = " and ".join(f"{name} = ${name}" for name in wanted)
                parameters = wanted
            else:
                where, parameters = "market = $market", {"market": subject.market}
            with duckdb.connect() as connection:
                found = connection.execute(
                    f"select max({value}) from read_parquet($paths, hive_partitioning = false) where {where}",
                    parameters | {"paths": paths},
                ).fetchone()
            if found is not None and found[0] is not None:
                return int(found[0])
        return None

    def _advance(self) -> None:
        """Raise the cursor to what is landed now. A range of its own (``start``) doesn't move one that there is, or
        rows between the two would never be asked for.
        """
        last = self.last
        if last is None or self.options.start is None:
            last = max(filter(lambda n: n is not None, [last, self._landed_last()]), default=None)
        if last is not None:
            write_staged(self.root, self._digits, self._cursor_path, {"cursor_version": 1, "last": last})


def _millis(at: datetime) -> int:
    return (at - EPOCH) // _MS


def _digits(what: str | bytes) -> str:
    return hashlib.sha256(what.encode() if isinstance(what, str) else what).hexdigest()[:16]
