"""Flat files out of a real S3 server: found, streamed, gone on with after a cut, checked, landed."""

import hashlib
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from ingest.errors import FailedFile
from ingest.http_retry import RetryPolicy
from ingest.polygon import s3
from ingest.polygon.layout import OPTIONS as OPTIONS_KIND
from tests.fixtures.s3 import ACCESS_KEY, SECRET_KEY, CuttingProxy, S3Server, rclone, s3_server
from tests.unit.ingest_polygon.kit import OPTIONS, STOCKS, bronze, everything_written, put, receipts

pytestmark = pytest.mark.skipif(
    rclone() is None, reason="rclone is not installed; it comes with requirements.lock"
)

OPTION_DAYS = ("2025-11-28", "2025-12-01", "2025-12-24")
NAMES = ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    flat = folder / "flatfiles"
    for day in OPTION_DAYS:
        text = OPTIONS.replace(",1\n", f",{day[-2:]}\n")
        put(flat / "us_options_opra" / "trades_v1" / day[:4] / day[5:7] / f"{day}.csv.gz", text)
    put(flat / "us_stocks_sip" / "trades_v1" / "2025" / "12" / "2025-12-24.csv.gz", STOCKS)
    (flat / "us_stocks_sip" / "notes.txt").write_text("no flat file")
    # Random bytes: nothing to land, but large enough to be cut.
    (folder / "big").mkdir()
    (folder / "big" / "2025-12-24.csv.gz").write_bytes(random.Random(7).randbytes(3 << 20))  # noqa: S311
    with s3_server(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def policy() -> RetryPolicy:
    return RetryPolicy(attempts=3, sleep=lambda s: None)


def item_of(server: S3Server, client: object, policy: RetryPolicy, bucket: str = "big") -> s3.Item:
    return s3.list_files(client, bucket, "", policy)[0]


def test_a_prefix_lands_with_all_below_it(root: Path, server: S3Server, policy: RetryPolicy) -> None:
    report = s3.ingest(root, urls=["s3://flatfiles/"], policy=policy)
    assert [f.status for f in report.files] == ["landed"] * 4
    assert report.ok
    paths = {r["path"] for r in receipts(root)}
    assert paths == {f"raw/polygon/options/{d}.csv.gz" for d in OPTION_DAYS} | {
        "raw/polygon/stocks/2025-12-24.csv.gz"
    }
    assert len(bronze(root, "options.trades.v1")) == 15
    assert len(bronze(root, "stocks.trades.v1")) == 3
    assert not list((root / "lake" / "_stage").iterdir())


def test_days_of_a_data_set_are_found_by_name(root: Path, server: S3Server, policy: RetryPolicy) -> None:
    days = (OPTIONS_KIND, date(2025, 11, 28), date(2025, 12, 24))
    report = s3.ingest(root, days=days, policy=policy)
    assert [f.path.name for f in report.files] == ["2025-11-28.csv.gz", "2025-12-01.csv.gz"]
    assert report.ok


def test_what_is_here_is_not_fetched_again(root: Path, server: S3Server, policy, monkeypatch) -> None:
    url = ["s3://flatfiles/us_options_opra/"]
    assert s3.ingest(root, urls=url, policy=policy).ok
    monkeypatch.setattr(s3, "download", lambda *_: pytest.fail("fetched a file that is here"))
    assert {f.status for f in s3.ingest(root, urls=url, policy=policy).files} == {"already_landed"}


def test_a_cut_download_goes_on_where_it_was(root: Path, server: S3Server, policy, monkeypatch) -> None:
    proxy = CuttingProxy(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    client = s3.connect()
    item = item_of(server, client, policy)
    asked: list[str] = []
    get_object = client.get_object
    client.get_object = lambda **a: asked.append(a.get("Range", "all")) or get_object(**a)
    proxy.cuts = [1_200_000, 1_500_000]
    path = root / "x.csv.gz"
    s3.download(client, item, path, policy)
    proxy.close()
    assert path.read_bytes() == (server.folder / "big" / item.name).read_bytes()
    assert asked[0] == "all"
    first, second = (int(a.removeprefix("bytes=").removesuffix("-")) for a in asked[1:])
    assert 0 < first < 1_210_000 < second < item.bytes
    assert not list(root.glob("*.part"))


def test_a_killed_download_goes_on_in_the_next_process(root: Path, server: S3Server, policy) -> None:
    client = s3.connect()
    item = item_of(server, client, policy)
    whole = (server.folder / "big" / item.name).read_bytes()
    (root / "x.part").write_bytes(whole[:1_000_001])
    s3.download(client, item, root / "x", policy)
    assert (root / "x").read_bytes() == whole


def test_a_connection_that_is_always_cut_fails_in_the_end(
    root: Path, server: S3Server, policy, monkeypatch
) -> None:
    proxy = CuttingProxy(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    client = s3.connect()
    item = item_of(server, client, policy)
    proxy.cuts = [100_000] * 9
    with pytest.raises(FailedFile, match="failed 3 times, last: connection"):
        s3.download(client, item, root / "x", policy)
    proxy.close()
    assert not (root / "x").exists()


def test_bytes_of_another_file_are_not_taken_for_this_one(root: Path, server: S3Server, policy) -> None:
    client = s3.connect()
    item = item_of(server, client, policy)
    (root / "x.part").write_bytes(bytes(1000))  # the rest will be right, the checksum won't
    s3.download(client, item, root / "x", policy)
    assert hashlib.md5((root / "x").read_bytes(), usedforsecurity=False).hexdigest() == item.etag
    # a listing that says something else than the file, in size the same
    client.get_object = _with_etag(client.get_object, "0" * 32)
    with pytest.raises(FailedFile, match="checksum was another one"):
        s3.download(client, replace(item, etag="0" * 32), root / "y", policy)
    assert not (root / "y").exists()


def _with_etag(get_object: object, etag: str) -> object:
    return lambda **arguments: get_object(**arguments) | {"ETag": f'"{etag}"'}


def test_an_object_that_changed_since_the_listing_fails(root: Path, server: S3Server, policy) -> None:
    client = s3.connect()
    item = item_of(server, client, policy)
    with pytest.raises(FailedFile, match="changed since it was listed"):
        s3.download(client, replace(item, etag="f" * 32), root / "x", policy)


def test_a_file_that_cannot_land_is_quarantined_and_told(root: Path, server: S3Server, policy) -> None:
    report = s3.ingest(root, urls=["s3://big"], policy=policy)
    assert [f.status for f in report.files] == ["quarantined"]
    assert not report.ok
    assert [p.name for p in (root / "raw" / "_quarantine").iterdir()] == ["2025-12-24.csv.gz"]
    assert not list((root / "lake" / "_stage").iterdir())


@pytest.mark.parametrize(
    ("url", "secret", "told"),
    [
        ("s3://no-such-bucket/", SECRET_KEY, "404 NoSuchBucket"),
        ("s3://flatfiles/", "anotherSecretThatIsWrong", "403 SignatureDoesNotMatch"),
        ("s3://flatfiles/no/such/prefix", SECRET_KEY, "no .csv.gz object was there"),
    ],
)
def test_what_cannot_be_listed_is_told(
    root: Path, server, policy, monkeypatch, url: str, secret: str, told: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(FailedFile, match=told):
        s3.ingest(root, urls=[url], policy=policy)


def test_without_keys_nothing_is_asked(root: Path, server, policy, monkeypatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(FailedFile, match="AWS_SECRET_ACCESS_KEY was not set"):
        s3.ingest(root, urls=["s3://flatfiles/"], policy=policy)


def test_a_server_that_is_not_there_is_asked_again_and_told(root: Path, policy, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FailedFile, match="failed 3 times, last: connection for s3://flatfiles/ failed"):
        s3.ingest(root, urls=["s3://flatfiles/"], policy=policy)


def test_no_key_is_written_or_told(
    root: Path, server, policy, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reports = [s3.ingest(root, urls=["s3://flatfiles/us_stocks_sip", "s3://big"], policy=policy)]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHERACCESSKEY01")
    with pytest.raises(FailedFile) as told:
        s3.ingest(root, urls=["s3://flatfiles/"], policy=policy)
    for secret in (ACCESS_KEY, SECRET_KEY, "ANOTHERACCESSKEY01"):
        assert secret not in caplog.text
        assert secret not in repr(reports) + str(told.value)
        assert secret.encode() not in everything_written(root)


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "http://bucket/x"])
def test_an_address_has_a_bucket(url: str) -> None:
    with pytest.raises(ValueError, match="expected s3://BUCKET/PREFIX"):
        s3.parse_url(url)
