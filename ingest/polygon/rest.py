"""Trades of one ticker on one day out of the vendor's REST interface, through the vendor's own client.

The client makes the requests; paging, asking again and giving up are ours. The key comes from
``MASSIVE_API_KEY``, else ``POLYGON_API_KEY``, and stands in no file, message or log; ``MASSIVE_BASE_URL``, else
``POLYGON_BASE_URL``, moves the server.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import urllib3

from ingest.errors import FailedFile
from ingest.file_report import FileReport, IngestReport, told
from ingest.http_retry import RETRYABLE_STATUS, RetryableError, RetryPolicy, retry_after_s
from ingest.landing import recover_interrupted
from ingest.polygon import api_file, occ_ticker
from ingest.polygon.landing import API_STAGE, Call, Settings
from ingest.polygon.layout import OPTIONS, STOCKS, Kind
from lake import atomic
from lake.locks import NameLock
from lake.paths import stage_dir

try:
    from massive import RESTClient
except ImportError:
    from polygon import RESTClient

log = logging.getLogger(__name__)

PAGE_ROWS = 50_000  # the vendor's most
MAX_PAGES = 10_000  # of a day: 500 million trades
MAX_BODY_BYTES = 256 << 20
_NEW_YORK = ZoneInfo("America/New_York")
_STOCK = re.compile(r"[A-Za-z0-9.\-]{1,16}", re.ASCII)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class _Answer:
    status: int
    data: bytes


class _Transport:
    """Stands in for the client's connection pool: one try a request, and an error for whatever isn't an answer."""

    def __init__(self, pool: urllib3.PoolManager) -> None:
        self._pool = pool

    def request(self, method: str, url: str, **arguments: object) -> _Answer:
        """Raises RetryableError or FailedFile; both name path and status, never address or headers."""
        path = urlsplit(url).path
        try:
            answer = self._pool.request(
                method, url, **arguments, retries=False, redirect=False, preload_content=False
            )
            body = bytearray()
            for data in answer.stream(1 << 16, decode_content=True):
                body += data
                if len(body) > MAX_BODY_BYTES:
                    answer.close()
                    raise FailedFile(
                        f"answer to {path} was above {MAX_BODY_BYTES:,} bytes, expected one page"
                    )
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise RetryableError(f"connection failed ({type(error).__name__})") from None
        if answer.status in RETRYABLE_STATUS:
            raise RetryableError(f"server answered {answer.status}", retry_after_s(answer.headers))
        if answer.status in (401, 403):
            raise FailedFile(
                f"server answered {answer.status} to {path}, expected access; check MASSIVE_API_KEY or "
                "POLYGON_API_KEY and what the plan includes"
            )
        if answer.status != 200:
            raise FailedFile(
                f"server answered {answer.status} to {path}, expected 200; check the ticker and the day"
            )
        kind = answer.headers.get("Content-Type", "")
        if "json" not in kind.lower():
            raise RetryableError(f"answer was {kind or 'of no type'}, expected JSON")
        return _Answer(answer.status, bytes(body))


def connect() -> RESTClient:
    """The official client with the environment's key. Raises FailedFile when there is none."""
    key = os.environ.get("MASSIVE_API_KEY") or os.environ.get("POLYGON_API_KEY")
    if not key:
        raise FailedFile(
            "MASSIVE_API_KEY was not set, nor POLYGON_API_KEY; expected the key in the environment"
        )
    base = os.environ.get("MASSIVE_BASE_URL") or os.environ.get("POLYGON_BASE_URL")
    if base:
        parts = urlsplit(base)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise FailedFile("MASSIVE_BASE_URL was no https address, expected one: the key goes to it")
    client = RESTClient(key, **({"base": base.rstrip("/")} if base else {}), retries=0)
    client.client = _Transport(client.client)
    return client


def parse_ticker(text: str) -> tuple[Kind, str]:
    """Kind and canonical ticker of an option (either form) or a stock. Raises ValueError."""
    if text.startswith("O:") or " " in text:
        return OPTIONS, str(occ_ticker.parse(text))
    if not _STOCK.fullmatch(text):
        raise ValueError(f"ticker was {text!r}, expected an option such as O:SPY251224C00690000 or a stock")
    return STOCKS, text


def day_bounds_ns(day: date) -> tuple[int, int]:
    """[midnight, next midnight) in New York, ns UTC: the day of a flat file."""

    def midnight(d: date) -> int:
        moment = datetime(d.year, d.month, d.day, tzinfo=_NEW_YORK)
        return int(moment.astimezone(UTC).timestamp()) * 1_000_000_000

    return midnight(day), midnight(day + timedelta(days=1))


def ingest(
    root: Path,
    tickers: list[str],
    start: date,
    end: date,
    settings: Settings | None = None,
    *,
    policy: RetryPolicy | None = None,
) -> IngestReport:
    """Fetch and land the trades of each ticker on each New York day of [start, end).

    What becomes of each day is in the report. Raises ValueError for what is no ticker, FailedFile without a key.
    """
    names = [parse_ticker(ticker) for ticker in tickers]
    client = connect()
    call = Call(root, settings)
    recovered = recover_interrupted(call.root)
    reports = list(ingest_days(call, client, names, start, end, policy or RetryPolicy()))
    return call.close(reports, recovered=recovered)


def ingest_days(
    call: Call,
    client: RESTClient,
    tickers: list[tuple[Kind, str]],
    start: date,
    end: date,
    policy: RetryPolicy,
) -> Iterator[FileReport]:
    """Fetch and land each ticker for each of the days [start, end); one delivery for each pair.

    A day without trades lands as an empty delivery; a day that could not be read to its end is a failure and
    leaves nothing. Days that have landed with the same answers are no-ops.
    """
    for kind, name in tickers:
        for number in range((end - start).days):
            day = start + timedelta(days=number)
            path = Path(f"{name.replace(':', '_')}_{day}{api_file.API_SUFFIX}")
            try:
                yield replace(_ingest_day(call, client, kind, name, day, path, policy), path=path)
            except FailedFile as error:
                yield FileReport(path, "failed", str(error))
            except OSError as error:
                yield FileReport(path, "failed", told(error, "keep the answers"))


def _ingest_day(
    call: Call, client: RESTClient, kind: Kind, ticker: str, day: date, name: Path, policy: RetryPolicy
) -> FileReport:
    begin, end = day_bounds_ns(day)
    if end > time.time_ns():
        raise FailedFile(f"{day} was not over in New York, expected a day that is; run again after it")
    folder = stage_dir(call.root) / f"{API_STAGE}{name.stem}"
    atomic.make_dirs(folder.parent)
    lock = NameLock(folder.with_suffix(".lock"))
    lock.take(what=f"the answers about {ticker} on {day}")
    path = folder / name.name
    try:
        folder.mkdir(exist_ok=True)
        pages = _Pages(client, ticker, begin, end, policy)
        request = {
            "provider": "polygon", "kind": kind.name, "ticker": ticker, "date": day.isoformat(),
            "from_ns": begin, "to_ns": end,
        }  # fmt: skip
        api_file.write(path, request, pages.results())
        return call.ingest_file(path, kind, request_id=pages.request_id)
    finally:
        path.unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()
        lock.release()


class _Pages:
    """All pages of one request. ``request_id`` is the vendor's of the first, once it is read."""

    def __init__(self, client: RESTClient, ticker: str, begin: int, end: int, policy: RetryPolicy) -> None:
        self._client, self._ticker, self._policy = client, ticker, policy
        self._begin, self._end = begin, end
        self.request_id: str | None = None

    def results(self) -> Iterator[dict]:
        """Every result in the vendor's order. Raises FailedFile when the pages don't come to their end."""
        cursor: str | None = None
        seen: set[str] = set()
        for number in range(MAX_PAGES):
            page = self._policy.call(
                lambda cursor=cursor: self._page(cursor), what=f"page {number + 1} of {self._ticker}"
            )
            if number == 0 and isinstance(page.get("request_id"), str):
                self.request_id = page["request_id"][:100] or None
            for result in page["results"]:
                self._require_inside(result)
                yield result
            following = page.get("next_url")
            if not following:
                return
            cursor = self._cursor(following)
            if cursor in seen:
                break
            seen.add(cursor)
        raise FailedFile(
            f"pages of {self._ticker} came to no end after {number + 1}, expected a last one; run again"
        )

    def _page(self, cursor: str | None) -> dict:
        if cursor is None:
            answer = self._client.list_trades(
                self._ticker, timestamp_gte=self._begin, timestamp_lt=self._end, order="asc", sort="timestamp",
                limit=PAGE_ROWS, raw=True,
            )  # fmt: skip
        else:
            answer = self._client.list_trades(self._ticker, params={"cursor": cursor}, raw=True)
        try:
            page = api_file.loads(answer.data)
        except (ValueError, RecursionError):
            raise RetryableError("answer was no JSON, expected a page") from None
        if not isinstance(page, dict) or page.get("status") not in ("OK", "DELAYED"):
            status = page.get("status") if isinstance(page, dict) else None
            raise RetryableError(f"answer had status {str(status)[:40]!r}, expected OK")
        results = page.get("results")
        if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
            raise RetryableError("answer had no list of results, expected one, be it empty")
        return page

    def _cursor(self, next_url: object) -> str:
        """Only the cursor is taken over: where to ask, and with which key, is not the answer's to say."""
        parts = urlsplit(next_url) if isinstance(next_url, str) else None
        cursors = parse_qs(parts.query).get("cursor", []) if parts else []
        if len(cursors) != 1:
            raise FailedFile(f"next page of {self._ticker} had no cursor, expected one; ask the vendor")
        return cursors[0]

    def _require_inside(self, result: dict) -> None:
        at = result.get("sip_timestamp")
        if isinstance(at, api_file.Number) and at.isdigit() and not self._begin <= int(at[:20]) < self._end:
            raise FailedFile(
                f"answer about {self._ticker} held a trade at {at[:20]} ns, expected {self._begin} up to {self._end}; "
                "run again, or ask the vendor"
            )
