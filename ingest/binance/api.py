"""The vendor's REST endpoints: one method per endpoint, one answer each, with the moment it was asked for.

Keys come from ``BINANCE_API_KEY`` and ``BINANCE_API_SECRET`` and go into a header and a signature. Neither they nor
a signed address ever reach a log, an error or a file: errors name the endpoint only, redirects aren't followed, and
the HTTP library's own lines about requests lose everything behind the question mark.
Source: spec/execution.md 3.4, 9.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import requests

from ingest.binance.strict_json import NotJson, Number, decode
from ingest.errors import FailedFile
from ingest.http_retry import RETRYABLE_STATUS, RetryableError, RetryPolicy, retry_after_s

log = logging.getLogger(__name__)

LIMIT = 1000  # rows of an answer, the most that the vendor gives
LARGEST_ANSWER = 32 << 20
_TIMEOUT_S = (10, 30)  # to connect, between two bytes
_BANNED = 418  # after too many 429 that weren't heeded
_CLOCK_CODE = "-1021"  # the request's time is too far from the server's
_HOSTS = {
    ("spot", "prod"): "https://api.binance.com",
    ("spot", "testnet"): "https://testnet.binance.vision",
    ("usdm", "prod"): "https://fapi.binance.com",
    ("usdm", "testnet"): "https://testnet.binancefuture.com",
}
_SETTINGS = {"spot": "TICKHOUSE_BINANCE_URL", "usdm": "TICKHOUSE_BINANCE_USDM_URL"}
_PREFIXES = {"spot": "/api/v3", "usdm": "/fapi/v1"}
_ISOLATED = {"ISOLATED_MARGIN": "TRUE", "CROSS_MARGIN": "FALSE"}


class SourceUnreachable(FailedFile):
    """The vendor gave no answer that could be used: a failed sync is no sync without news."""


class Answer(NamedTuple):
    """The body as it came, its rows decoded, and when it was asked for: before the request was sent, by the earlier
    of our clock and the server's.
    """

    body: str
    rows: list
    asked_ns: int


class _NoQuery(logging.Filter):
    """Takes queries out of the lines that urllib3 writes about each request: signatures stand there."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = re.sub(r"\?\S*", "?…", record.getMessage())
        record.args = ()
        return True


def _quiet() -> None:
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logger = logging.getLogger(name)
        if not any(isinstance(f, _NoQuery) for f in logger.filters):
            logger.addFilter(_NoQuery())


@dataclass
class Api:
    """One market of one environment. Base addresses: ``TICKHOUSE_BINANCE_URL`` (spot and margin),
    ``TICKHOUSE_BINANCE_USDM_URL``. Every method raises SourceUnreachable when no attempt brought an answer.
    """

    market: str = "spot"
    environment: str = "prod"
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    clock_ns: Callable[[], int] = time.time_ns

    def __post_init__(self) -> None:
        _quiet()
        base = os.environ.get(_SETTINGS[self.market]) or _HOSTS[self.market, self.environment]
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.username:
            raise FailedFile(f"{_SETTINGS[self.market]} was no address, expected https://host; correct it")
        self._base = base.rstrip("/")
        self._session = requests.Session()
        self._ahead_ms = 0  # of the server's clock before ours

    def agg_trades(
        self,
        symbol: str,
        *,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> Answer:
        """Aggregate trades in order of id, from ``from_id`` on or of [start_ms, end_ms], both inclusive."""
        query = _query(symbol=symbol, fromId=from_id, startTime=start_ms, endTime=end_ms, limit=LIMIT)
        return self._ask(f"{_PREFIXES[self.market]}/aggTrades", query)

    def klines(self, symbol: str, interval: str, *, start_ms: int, end_ms: int) -> Answer:
        """Bars that open in [start_ms, end_ms]; the last may be open."""
        query = _query(symbol=symbol, interval=interval, startTime=start_ms, endTime=end_ms, limit=LIMIT)
        return self._ask(f"{_PREFIXES[self.market]}/klines", query)

    def own_fills(
        self,
        symbol: str,
        account_type: str,
        *,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> Answer:
        """Own fills in order of id, from ``from_id`` on or of a span of at most 24 h. Signed."""
        query = _query(symbol=symbol, fromId=from_id, startTime=start_ms, endTime=end_ms, limit=LIMIT)
        if account_type == "SPOT":
            return self._ask("/api/v3/myTrades", query, signed=True)
        if account_type not in _ISOLATED:
            raise FailedFile(
                f"account type was {account_type}, expected SPOT, ISOLATED_MARGIN or CROSS_MARGIN"
            )
        return self._ask(
            "/sapi/v1/margin/myTrades", {**query, "isIsolated": _ISOLATED[account_type]}, signed=True
        )

    def _ask(self, path: str, query: dict[str, str], *, signed: bool = False) -> Answer:
        what = f"{path} of {query['symbol']}"
        if signed:
            _keys()  # told before the first attempt
        try:
            return self.policy.call(lambda: self._once(path, query, signed), what=what)
        except SourceUnreachable:
            raise
        except FailedFile as error:
            raise SourceUnreachable(str(error)) from None

    def _once(self, path: str, query: dict[str, str], signed: bool) -> Answer:
        asked_ns = self.clock_ns()
        status, headers, body = self._get(path, query, signed)
        if status in RETRYABLE_STATUS or status == _BANNED:
            raise RetryableError(f"status was {status}", retry_after_s(headers))
        try:
            value = decode(body)
        except NotJson as error:
            raise RetryableError(f"answer with status {status} was no JSON ({error})") from None
        if status == requests.codes.ok and isinstance(value, list):
            return Answer(body, value, min(asked_ns, _answered_ns(headers, asked_ns)))
        code = value.get("code") if isinstance(value, dict) else None
        message = value.get("msg") if isinstance(value, dict) else None
        if code == _CLOCK_CODE:
            self._ahead_ms = self._server_ms() - self.clock_ns() // 1_000_000
            raise RetryableError("our clock was too far from the server's")
        told = f", error {_short(code)}: {_short(message)}" if isinstance(code, Number) else ""
        raise SourceUnreachable(
            f"{path} of {query['symbol']} answered with status {status}{told}; expected rows; check symbols and keys"
        )

    def _server_ms(self) -> int:
        _, _, body = self._get("/api/v3/time", {}, signed=False)
        try:
            return int(decode(body)["serverTime"])
        except (NotJson, KeyError, TypeError, ValueError):
            raise RetryableError("the server's clock could not be read") from None

    def _get(self, path: str, query: dict[str, str], signed: bool) -> tuple[int, dict[str, str], str]:
        """Status, headers and text. Whatever the client raises holds the address: it is told by its class alone."""
        headers = {"Accept": "application/json"}
        text = urlencode(query)
        if signed:
            key, secret = _keys()
            stamp = self.clock_ns() // 1_000_000 + self._ahead_ms
            text = urlencode({**query, "recvWindow": "5000", "timestamp": str(stamp)})
            text += "&signature=" + hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
            headers["X-MBX-APIKEY"] = key
        try:
            with self._session.get(
                f"{self._base}{path}?{text}" if text else f"{self._base}{path}",
                headers=headers,
                timeout=_TIMEOUT_S,
                stream=True,
                allow_redirects=False,  # keys go to nobody else
            ) as answer:
                data = bytearray()
                for part in answer.iter_content(1 << 16):
                    data += part
                    if len(data) > LARGEST_ANSWER:
                        raise SourceUnreachable(
                            f"answer was longer than {LARGEST_ANSWER >> 20} MiB, expected 1,000 rows"
                        )
                return answer.status_code, dict(answer.headers), data.decode()
        except requests.RequestException as error:
            raise RetryableError(f"connection failed ({type(error).__name__})") from None
        except UnicodeDecodeError:
            raise RetryableError("answer was no UTF-8") from None


def _answered_ns(headers: dict[str, str], default: int) -> int:
    """The server's time of its answer: a clock of ours that runs ahead must not close bars that are open."""
    try:
        return int(parsedate_to_datetime(headers.get("Date", "")).timestamp()) * 1_000_000_000
    except (ValueError, TypeError):
        return default


def _query(**values: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _keys() -> tuple[str, str]:
    key, secret = os.environ.get("BINANCE_API_KEY"), os.environ.get("BINANCE_API_SECRET")
    if not key or not secret:
        raise FailedFile(
            "BINANCE_API_KEY or BINANCE_API_SECRET was not set, expected both to ask for own fills; set them"
        )
    return key, secret


def _short(value: object) -> str:
    """A message of the vendor in one line; what looks like a key is left out of it."""
    return re.sub(r"[A-Za-z0-9]{40,}", "[REDACTED]", " ".join(str(value).split()))[:120]
