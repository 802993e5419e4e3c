"""The vendor's server, through the official client: settings, retries, and errors that hold no secret.

Bytes of files are taken by us. The client's own download of a batch file asks again without an end on 429,
has no timeout, appends a whole body to a partial file when the server ignores Range, and only warns of a
wrong checksum; its stream to a file tells no progress and can't be given up (databento 0.87.0).
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import databento
import requests
from databento.common.error import BentoError, BentoHttpError, BentoWarning
from databento.common.http import check_backend_warnings, check_http_error
from databento.historical.api.timeseries import TimeseriesHttpAPI
from requests.auth import HTTPBasicAuth

from ingest.databento.request import ALL_SYMBOLS, Query, next_day
from ingest.errors import FailedFile
from ingest.http_retry import RETRYABLE_STATUS, RetryableError, RetryPolicy, retry_after_s

log = logging.getLogger(__name__)

KEY_VARIABLE = "DATABENTO_API_KEY"
URL_VARIABLE = "TICKHOUSE_DATABENTO_URL"
DEFAULT_URL = "https://hist.databento.com"
READ_TIMEOUT_S = 100.0
CHUNK_BYTES = 1 << 16

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class VendorFile:
    """One entry of a batch job's file list. ``url`` may hold a token: it is never shown or kept."""

    name: str
    bytes: int
    sha256: str
    url: str


class _Timeseries(TimeseriesHttpAPI):
    """The client's requests, with its writing to a file replaced."""

    tell: Callable[[int], None]

    def _stream(self, url: str, data: dict, basic_auth: bool, path: Path | None = None) -> None:
        with requests.post(
            url,
            data=data,
            headers=self._headers,
            auth=HTTPBasicAuth(self._key, ""),
            timeout=(self.TIMEOUT, self.TIMEOUT),
            stream=True,
        ) as response:
            check_backend_warnings(response)
            check_http_error(response)
            done = 0
            with open(path, "xb") as out:
                for chunk in response.iter_content(CHUNK_BYTES):
                    out.write(chunk)
                    done += len(chunk)
                    self.tell(done)


class VendorRefusal(FailedFile):
    """The server understood and said no: nothing was taken, and asking again brings the same."""


class Vendor:
    """One account at one server. All methods raise FailedFile when the server gives no answer that can be
    used; ``submit_once``, ``stream_once`` and ``open_once`` make a single attempt and may raise
    RetryableError.
    """

    def __init__(
        self,
        key: str,
        url: str = DEFAULT_URL,
        *,
        policy: RetryPolicy | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._key = _checked_key(key)
        self._url = _checked_url(url)
        self.policy = policy or RetryPolicy()
        self._timeout_s = read_timeout_s
        self._client = databento.Historical(self._key, gateway=self._url)
        self._timeseries = _Timeseries(self._key, self._client.gateway)
        apis = (self._client.batch, self._client.metadata, self._client.symbology, self._timeseries)
        for api in apis:
            # The client turns any gateway into https, which a server on this machine doesn't speak.
            api._base_url = self._url + api._base_url.removeprefix(self._client.gateway)
            api.TIMEOUT = read_timeout_s

    @classmethod
    def from_environment(cls, **more: Any) -> Vendor:
        """Key from DATABENTO_API_KEY, server from TICKHOUSE_DATABENTO_URL."""
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            raise ValueError(f"{KEY_VARIABLE} was not set, expected the key of your account; export it")
        return cls(key, os.environ.get(URL_VARIABLE) or DEFAULT_URL, **more)

    def __repr__(self) -> str:
        return f"Vendor({self._url})"

    # -- free of charge ----------------------------------------------------------------------------------

    def datasets(self) -> list[str]:
        return self._ask("list of datasets", self._client.metadata.list_datasets, _texts)

    def schemas(self, dataset: str) -> list[str]:
        return self._ask("list of schemas", lambda: self._client.metadata.list_schemas(dataset), _texts)

    def unknown_symbols(self, query: Query) -> tuple[list[str], list[str]]:
        """Symbols that resolve on none of the days, and on some of them only."""
        if query.symbols == (ALL_SYMBOLS,):
            return [], []

        def read(answer: Any) -> tuple[list[str], list[str]]:
            return _texts(answer["not_found"]), _texts(answer["partial"])

        return self._ask(
            "resolution of the symbols",
            lambda: self._client.symbology.resolve(
                query.dataset, list(query.symbols), query.stype_in, "instrument_id", query.start, query.end
            ),
            read,
        )

    def declared(self, query: Query, schema: str, day: datetime.date) -> tuple[int, int, float]:
        """Records, billable bytes and cost in USD of one day. A day without records is asked no further."""
        asked = {
            "dataset": query.dataset,
            "start": day,
            "end": next_day(day),
            "symbols": list(query.symbols),
            "schema": schema,
            "stype_in": query.stype_in,
        }
        metadata, of = self._client.metadata, f"of {schema} {day}"
        count = self._ask(f"record count {of}", lambda: metadata.get_record_count(**asked), _count)
        if count == 0:
            return 0, 0, 0.0
        size = self._ask(f"billable size {of}", lambda: metadata.get_billable_size(**asked), _count)
        return count, size, self._ask(f"cost {of}", lambda: metadata.get_cost(**asked), _usd)

    def jobs(self, since: datetime.datetime) -> list[dict]:
        """Batch jobs of the account, in any state, received at ``since`` or later."""
        return self._ask(
            "list of batch jobs",
            lambda: self._client.batch.list_jobs(states="queued,processing,done,expired", since=since),
            lambda answer: [_job(entry) for entry in answer],
        )

    def job(self, job_id: str) -> dict:
        return self._ask(f"state of job {job_id}", lambda: self._client.batch.get_job_details(job_id), _job)

    def files(self, job_id: str) -> list[VendorFile]:
        """What a finished job holds, support files too. Raises FailedFile on a list that can't be trusted."""
        return self._ask(
            f"file list of job {job_id}",
            lambda: self._client.batch.list_files(job_id),
            lambda answer: [self._file(entry) for entry in answer],
        )

    # -- paid for ----------------------------------------------------------------------------------------

    def submit_once(self, query: Query) -> dict:
        """Order one batch job of the query's only schema. After a RetryableError it may have been taken or
        not: look before asking again.
        """
        (schema,) = query.schemas
        with self.told("order of the batch job"):
            answer = self._client.batch.submit_job(
                dataset=query.dataset,
                symbols=list(query.symbols),
                schema=schema,
                start=query.start,
                end=query.end,
                encoding="dbn",
                compression="zstd",
                split_duration="day",
                delivery="download",
                stype_in=query.stype_in,
                stype_out="instrument_id",
            )
        return _read("order of the batch job", _job, answer)

    def stream_once(
        self, query: Query, schema: str, day: datetime.date, path: Path, tell: Callable[[int], None]
    ) -> None:
        """Write one day to ``path``, which must not exist. Every call that brings bytes is paid for.

        ``tell`` gets the bytes so far after each chunk, and may raise to give up.
        """
        with self.told(f"stream of {schema} {day}"):
            self._timeseries.tell = tell
            self._timeseries.get_range(
                dataset=query.dataset,
                start=day,
                end=next_day(day),
                symbols=list(query.symbols),
                schema=schema,
                stype_in=query.stype_in,
                stype_out="instrument_id",
                path=path,
            )

    @contextlib.contextmanager
    def open_once(self, file: VendorFile, start_byte: int) -> Iterator[requests.Response]:
        """A batch file's bytes from ``start_byte`` on, as a response to be read; it may answer from 0."""
        headers = {"accept-encoding": "identity"}  # sizes and ranges are of the file, not of a recoded body
        if start_byte:
            headers["range"] = f"bytes={start_byte}-{file.bytes - 1}"
        with (
            self.told(f"download of {file.name}"),
            requests.get(
                file.url,
                headers=headers,
                auth=HTTPBasicAuth(self._key, ""),
                stream=True,
                timeout=(self._timeout_s, self._timeout_s),
            ) as response,
        ):
            if response.status_code != 416:  # the caller knows what to do with its partial file
                check_http_error(response)
            yield response

    # -- errors ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Turn what the client raises into RetryableError or FailedFile, in our words.

        Theirs name the whole URL, query and tokens included, and may repeat what was sent.
        """
        with _no_urls_logged(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", BentoWarning)
            try:
                yield
            except BentoHttpError as error:
                raise self._of_status(what, error) from None
            except requests.Timeout:
                raise RetryableError("no answer came in time") from None
            except requests.JSONDecodeError:
                raise RetryableError("answer was no JSON") from None
            except requests.RequestException:
                raise RetryableError("connection was refused or cut") from None
            except BentoError:
                raise RetryableError("answer was cut off") from None
            except AttributeError:  # the client expects an object in the body of an error
                raise RetryableError("answer could not be read") from None
        for warning in caught:
            log.warning("vendor warns what=%s: %s", what, self._scrubbed(str(warning.message)))

    def _ask(self, what: str, ask: Callable[[], Any], read: Callable[[Any], Answer]) -> Answer:
        def once() -> Any:
            with self.told(what):
                return ask()

        return _read(what, read, self.policy.call(once, what=what))

    def _of_status(self, what: str, error: BentoHttpError) -> RetryableError | FailedFile:
        status = error.http_status
        if status in RETRYABLE_STATUS:
            return RetryableError(f"answer was {status}", retry_after_s(error.headers))
        said = f"{status}: {self._scrubbed(str(error.message or 'no reason given'))}"
        match status:
            case 401:
                return VendorRefusal(
                    f"key was refused ({said}), expected a valid one in {KEY_VARIABLE}; check it"
                )
            case 402 | 403:
                return VendorRefusal(
                    f"{what} was refused ({said}), expected an account that may order it; settle that with the "
                    "vendor"
                )
            case _:
                return VendorRefusal(
                    f"{what} was refused ({said}); check dataset, schema, symbols and days against the "
                    "vendor's catalogue"
                )

    def _scrubbed(self, text: str) -> str:
        """One line of at most 300 characters without the key, plain or as it is sent."""
        sent = base64.b64encode(f"{self._key}:".encode()).decode()
        for secret in (sent, self._key):
            text = text.replace(secret, "…")
        text = re.sub(r"\?\S*", "?…", " ".join(text.split()))
        return text if len(text) <= 300 else text[:299] + "…"

    def _file(self, entry: Mapping[str, Any]) -> VendorFile:
        name, hash_text = str(entry["filename"]), str(entry["hash"])
        if not _FILE_NAME.fullmatch(name):
            raise FailedFile(f"a file was listed as {name[:80]!r}, expected a plain name; tell the vendor")
        known = _SHA256.fullmatch(hash_text)
        if known is None:
            raise FailedFile(f"checksum of {name} was {hash_text[:16]!r}…, expected sha256; tell the vendor")
        url = str(entry["urls"]["https"])
        theirs, ours = urlsplit(url), urlsplit(self._url)
        same = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
        if not same and not (theirs.scheme == "https" and (theirs.hostname or "").endswith(".databento.com")):
            raise FailedFile(
                f"{name} was listed on host {theirs.hostname!r}, expected the vendor's own; the key isn't sent "
                "there"
            )
        return VendorFile(name, _count(entry["size"]), known[1], url)


class _NoUrls(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


@contextlib.contextmanager
def _no_urls_logged() -> Iterator[None]:
    """urllib3 logs each path with its query, tokens included, on DEBUG."""
    logger, silence = logging.getLogger("urllib3.connectionpool"), _NoUrls()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)


def _checked_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"{KEY_VARIABLE} was no key (blanks or other signs in it), expected db-…; export it")
    return key


def _checked_url(url: str) -> str:
    parts = urlsplit(url.rstrip("/"))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{URL_VARIABLE} held more than scheme, host and path, expected no secret in it")
    local = parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ValueError(
            f"{URL_VARIABLE} was {url!r}, expected https://…, or http:// on this machine: the key goes there"
        )
    return parts.geturl()


def _read(what: str, read: Callable[[Any], Answer], answer: Any) -> Answer:
    try:
        return read(answer)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FailedFile(
            f"answer to the {what} was of a shape not known here, expected that of databento "
            f"{databento.__version__}; compare versions"
        ) from None


def _texts(answer: Any) -> list[str]:
    if not isinstance(answer, list):
        raise TypeError(answer)
    return [str(entry) for entry in answer]


def _count(answer: Any) -> int:
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise TypeError(answer)
    return answer


def _usd(answer: Any) -> float:
    if isinstance(answer, bool) or not isinstance(answer, int | float) or not 0 <= answer < 1e12:
        raise TypeError(answer)  # a cost that isn't a number must not pass for a cheap one
    return float(answer)


def _job(answer: Any) -> dict:
    """The parts of a job that are used; the rest names the account. ``symbols`` as a sorted list."""
    symbols = answer.get("symbols") or ""
    if isinstance(symbols, str):
        symbols = symbols.split(",")
    if not _FILE_NAME.fullmatch(str(answer["id"])):
        raise ValueError(answer["id"])
    return {
        "id": str(answer["id"]),
        "state": str(answer["state"]),
        "symbols": sorted(str(s) for s in symbols),
        **{key: str(answer.get(key)) for key in ("dataset", "schema", "stype_in", "encoding", "compression")},
        **{key: str(answer.get(key))[:10] for key in ("start", "end")},
        "split_duration": str(answer.get("split_duration")),
    }
