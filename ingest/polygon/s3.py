"""Flat files out of S3: listed, streamed to disk, checked, landed.

Keys and endpoint have the standard names: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` (and
``AWS_SESSION_TOKEN``), ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, ``AWS_REGION``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import boto3
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ResponseStreamingError
from botocore.exceptions import ConnectionError as NotConnectedError

from ingest.errors import FailedFile
from ingest.file_report import FileReport, IngestReport, told
from ingest.http_retry import RETRYABLE_STATUS, RetryableError, RetryPolicy, retry_after_s
from ingest.landing import recover_interrupted
from ingest.polygon.landing import FLAT_SUFFIX, S3_STAGE, Call, Settings
from ingest.polygon.layout import KINDS, Kind
from lake import atomic
from lake.locks import NameLock
from lake.paths import stage_dir

log = logging.getLogger(__name__)

VENDOR_ENDPOINT = "https://files.massive.com"
VENDOR_BUCKET = "flatfiles"
CHUNK_BYTES = 1 << 20
PROGRESS_BYTES = 8 << 20  # so much of a file counts as progress: a long download may be cut many times
_BUSY = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "RequestTimeTooSkewed"}
)
_CUT = (
    NotConnectedError, HTTPClientError, ResponseStreamingError, urllib3.exceptions.HTTPError,
    ConnectionError, TimeoutError,
)  # fmt: skip
_MD5 = re.compile(r"[0-9a-f]{32}")
_DAY = re.compile(r"/(\d{4})-(\d{2})-(\d{2})\.csv\.gz$")


@dataclass(frozen=True)
class Item:
    """One object as the listing says it is; ``etag`` without quotes."""

    bucket: str
    key: str
    bytes: int
    etag: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        return self.key.rsplit("/", 1)[-1]

    @property
    def kind(self) -> Kind | None:
        """What the vendor's folder says."""
        folders = self.key.split("/")[:-1]
        return next((k for k in KINDS.values() if k.dataset.split("/")[0] in folders), None)


def connect(*, vendor: bool = False) -> object:
    """A client with the keys of the environment; ``vendor`` takes the vendor's endpoint where none is set.

    Raises FailedFile when a key is missing.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not os.environ.get(name):
            raise FailedFile(f"{name} was not set, expected the key of the S3 server in the environment")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or (VENDOR_ENDPOINT if vendor else None)
    return boto3.session.Session(
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=os.environ.get("AWS_SESSION_TOKEN") or None,
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
    ).client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            retries={"total_max_attempts": 1},  # ours are counted, jittered and end
            connect_timeout=10,
            read_timeout=60,
            s3={"addressing_style": "path" if endpoint else "auto"},
            # Not every server knows the newer checksums; ours are size and ETag.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def parse_url(url: str) -> tuple[str, str]:
    """``s3://BUCKET/PREFIX`` → both. Raises ValueError."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise ValueError(f"address was {url!r}, expected s3://BUCKET/PREFIX")
    return bucket, prefix


def list_files(client: object, bucket: str, prefix: str, policy: RetryPolicy) -> list[Item]:
    """The flat files whose key begins with ``prefix``, by key. Raises FailedFile."""
    found: list[Item] = []
    token: dict[str, str] = {}
    seen = set()
    while True:
        page = policy.call(
            lambda token=token: _asked(client.list_objects_v2, Bucket=bucket, Prefix=prefix, **token),
            what=f"listing s3://{bucket}/{prefix}",
        )
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(FLAT_SUFFIX):
                found.append(Item(bucket, entry["Key"], entry["Size"], entry["ETag"].strip('"')))
        following = page.get("NextContinuationToken")
        if not page.get("IsTruncated"):
            return sorted(found, key=lambda i: i.key)
        if not following or following in seen:
            raise FailedFile(
                f"listing s3://{bucket}/{prefix} came to no end, expected new pages; ask the vendor"
            )
        seen.add(following)
        token = {"ContinuationToken": following}


def list_days(client: object, kind: Kind, start: date, end: date, policy: RetryPolicy) -> list[Item]:
    """The vendor's files of ``kind`` for the days [start, end). Raises FailedFile."""
    found = []
    for month in range(start.year * 12 + start.month - 1, end.year * 12 + end.month):
        prefix = f"{kind.dataset}/{month // 12:04d}/{month % 12 + 1:02d}/"
        for item in list_files(client, VENDOR_BUCKET, prefix, policy):
            day = _DAY.search(item.key)
            if day and start.isoformat() <= "-".join(day.groups()) < end.isoformat():
                found.append(item)
    return found


def ingest(
    root: Path,
    settings: Settings | None = None,
    *,
    urls: list[str] | None = None,
    days: tuple[Kind, date, date] | None = None,
    policy: RetryPolicy | None = None,
    progress: Callable[[Item, int], None] | None = None,
) -> IngestReport:
    """Fetch and land what ``urls`` (``s3://BUCKET/PREFIX``) name, or the vendor's ``days`` of (kind, start, end).

    ``end`` is exclusive. ``progress`` is called with (object, bytes of it that are here). Raises FailedFile
    when the server can't be asked what there is; what becomes of each file is in the report.
    """
    policy = policy or RetryPolicy()
    places = [parse_url(url) for url in urls or []]
    client = connect(vendor=days is not None)
    call = Call(root, settings)
    recovered = recover_interrupted(call.root)
    items = [item for place in places for item in list_files(client, *place, policy)]
    if days is not None:
        items += list_days(client, *days, policy)
    if not items:
        raise FailedFile(f"no {FLAT_SUFFIX} object was there, expected one; check bucket, prefix and days")
    reports = list(ingest_items(call, client, items, policy, progress))
    return call.close(reports, recovered=recovered)


def ingest_items(
    call: Call,
    client: object,
    items: list[Item],
    policy: RetryPolicy,
    progress: Callable[[Item, int], None] | None = None,
) -> Iterator[FileReport]:
    """Bring each file here and land it; a file that is here already isn't fetched again."""
    for item in items:
        try:
            yield _ingest_item(call, client, item, policy, progress)
        except FailedFile as error:
            yield FileReport(Path(f"{item.bucket}/{item.key}"), "failed", str(error))
        except OSError as error:
            yield FileReport(Path(f"{item.bucket}/{item.key}"), "failed", told(error, "keep the download"))


def _ingest_item(
    call: Call,
    client: object,
    item: Item,
    policy: RetryPolicy,
    progress: Callable[[Item, int], None] | None,
) -> FileReport:
    kind = item.kind or call.settings.kind
    here = kind and call.root / "raw" / "polygon" / kind.name / item.name
    if here and here.is_file() and here.stat().st_size == item.bytes and _matches(here, item):
        return replace(call.ingest_file(here, kind), path=Path(f"{item.bucket}/{item.key}"))
    name = hashlib.sha256(f"{item.bucket}/{item.key}/{item.etag}".encode()).hexdigest()[:16]
    folder = stage_dir(call.root) / f"{S3_STAGE}{name}"
    atomic.make_dirs(folder.parent)
    lock = NameLock(folder.with_suffix(".lock"))
    lock.take(what=f"the download of {item.url}")
    try:
        folder.mkdir(exist_ok=True)
        path = folder / item.name
        download(client, item, path, policy, progress)
        report = call.ingest_file(path, kind)
        if report.status != "failed":  # a failed one goes on from what is here
            path.unlink()
            folder.rmdir()
    finally:
        lock.release()
    return replace(report, path=Path(f"{item.bucket}/{item.key}"))


def download(
    client: object,
    item: Item,
    path: Path,
    policy: RetryPolicy,
    progress: Callable[[Item, int], None] | None = None,
) -> None:
    """Stream an object to ``path``, which appears whole, synced and checked by size and ETag, or not at all.

    What an earlier, killed or cut download left in ``path`` + ``.part`` is gone on from, as long as the object
    has not changed. Raises FailedFile.
    """
    if path.is_file():
        return
    part = path.with_name(path.name + ".part")

    def attempt() -> None:
        _fetch(client, item, part, progress)
        if not _matches(part, item):
            part.unlink()
            raise RetryableError("its checksum was another one than the listing's")

    policy.call(attempt, what=f"download of {item.url}")
    atomic.fsync_file(part)
    os.replace(part, path)
    atomic.fsync_dir(path.parent)


def _fetch(client: object, item: Item, part: Path, progress: Callable[[Item, int], None] | None) -> None:
    """Add to ``part`` what it lacks. Raises RetryableError when it is cut."""
    have = part.stat().st_size if part.is_file() else 0
    if have > item.bytes:
        part.unlink()
        have = 0
    if have == item.bytes:
        part.touch()
        return
    wanted = {"Range": f"bytes={have}-"} if have else {}
    answer = _asked(client.get_object, Bucket=item.bucket, Key=item.key, **wanted)
    if answer.get("ETag", "").strip('"') != item.etag:
        part.unlink(missing_ok=True)
        raise FailedFile(f"{item.url} changed since it was listed, expected it to stay; run again")
    if have and not answer.get("ContentRange", "").startswith(f"bytes {have}-"):
        have = 0  # the server sends it whole
    at = have
    with answer["Body"] as body, open(part, "r+b" if have else "wb") as out:
        out.seek(have)
        while True:
            try:
                data = body.read(CHUNK_BYTES)
            except _CUT as error:
                raise RetryableError(
                    f"connection was cut after {at:,} of {item.bytes:,} bytes ({type(error).__name__})",
                    progressed=at - have >= PROGRESS_BYTES,
                ) from None
            if not data:
                break
            at += len(data)
            if at > item.bytes:
                raise FailedFile(f"{item.url} had more than the {item.bytes:,} bytes listed; run again")
            out.write(data)
            if progress is not None:
                progress(item, at)
    if at < item.bytes:
        raise RetryableError(f"connection ended after {at:,} of {item.bytes:,} bytes")


def _matches(path: Path, item: Item) -> bool:
    """Size, and the MD5 that the ETag of an object put in one piece is."""
    if path.stat().st_size != item.bytes:
        return False
    if not _MD5.fullmatch(item.etag):
        return True
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest() == item.etag


def _asked(operation: Callable[..., dict], **arguments: object) -> dict:
    """One request. Raises RetryableError when another may do better, else FailedFile; neither holds a key."""
    where = f"s3://{arguments['Bucket']}/{arguments.get('Key') or arguments.get('Prefix')}"
    try:
        return operation(**arguments)
    except ClientError as error:
        answer = error.response.get("ResponseMetadata", {})
        status, code = answer.get("HTTPStatusCode"), error.response.get("Error", {}).get("Code", "")
        reason = f"S3 answered {status} {code} for {where}"
        if status in RETRYABLE_STATUS or code in _BUSY:
            raise RetryableError(reason, retry_after_s(answer.get("HTTPHeaders", {}))) from None
        raise FailedFile(
            f"{reason}, expected the object; check bucket, name, AWS_ENDPOINT_URL_S3 and the keys"
        ) from None
    except _CUT as error:
        raise RetryableError(f"connection for {where} failed ({type(error).__name__})") from None
    except BotoCoreError as error:
        raise FailedFile(
            f"S3 could not be asked for {where} ({type(error).__name__}); check the settings"
        ) from None
