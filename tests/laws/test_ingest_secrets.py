"""No key, password or signature gets out of the command that uses it: not when all is well, not when a server fails.

Each command runs with tracebacks and every log line on; then everything that it printed and wrote is searched.
"""

import base64
import contextlib
import functools
import gzip
import logging
import os
import random
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import zstandard

from cli import main as command_line
from tests.fixtures import binance_server, databento_server, polygon_server
from tests.fixtures.postgres import READER_PASSWORD, binaries, postgres_server
from tests.fixtures.processes import fork
from tests.fixtures.s3 import ACCESS_KEY, SECRET_KEY, rclone, s3_server
from tests.unit.ingest import databento_kit
from tests.unit.ingest_binance.kit import fill
from tests.unit.ingest_polygon.kit import DAY, OPTIONS, put
from tests.unit.ingest_polygon.test_rest import OPTION, TRADES
from tests.unit.ingest_postgres.kit import Database

Case = Callable[[Path], AbstractContextManager[tuple[list[str], dict[str, str], list[str]]]]
ECHO = "you sent {} and it was refused"


def forms(secret: str) -> set[bytes]:
    """The secret as it may stand in a text: plain, in a URL, as hex, and in Base64 at any of three places."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    found |= {
        quote(secret, safe=safe).encode()
        for quote in (urllib.parse.quote, urllib.parse.quote_plus)
        for safe in ("", "/")
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # without the ends, which what stands beside it has a part in
            found.add(encode(bytes(before) + raw)[4 if before else 0 : (before + len(raw)) // 3 * 4])
    return found


def printed_and_written(arguments: list[str], environment: dict[str, str], root: Path) -> tuple[int, bytes]:
    """The command in a fork, with every log line and traceback on; its code, and all it printed and wrote."""
    told = root.parent / "told"

    def work() -> bool:
        os.environ |= environment | {"LAKE_ROOT": str(root), "TICKHOUSE_DEBUG": "1"}
        for name in ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "POLYGON_API_KEY"):
            os.environ.pop(name, None)
        random.Random.uniform = lambda *_: 0.0  # no waits between tries
        with told.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            sys.stdout = sys.stderr = out
            for handler in list(logging.getLogger().handlers):
                logging.getLogger().removeHandler(handler)
            sys.argv = ["tickhouse", "ingest", *arguments]
            try:
                command_line.main()
            except SystemExit:
                out.write("ended\n")
            except Exception:
                traceback.print_exc(file=out)  # chained ones too
        return True

    code = fork(work).wait(180)
    return code, b"\n".join([told.read_bytes(), *_files(root)])


def _files(root: Path) -> Iterator[bytes]:
    for path in root.rglob("*"):
        yield path.name.encode()
        if path.is_file():
            data = path.read_bytes()
            yield data
            with contextlib.suppress(OSError, zstandard.ZstdError):
                if data[:2] == b"\x1f\x8b":
                    yield gzip.decompress(data)
                elif data[:4] == b"\x28\xb5\x2f\xfd":
                    yield zstandard.ZstdDecompressor().decompressobj().decompress(data)


# -- the commands --------------------------------------------------------------------------------------------------


def databento(*flags: str, **faults: list) -> Case:
    @contextmanager
    def case(folder: Path) -> Iterator:
        with databento_kit.server() as server:
            server.states = ["done"]
            for endpoint, queued in faults.items():
                server.queue(endpoint.replace("_", ".", 1), *queued)
            names = {"DATABENTO_API_KEY": databento_server.KEY, "TICKHOUSE_DATABENTO_URL": server.url}
            arguments = ["databento", "--dataset", "GLBX.MDP3", "--schema", "trades", "--symbols", "ES.FUT"]
            arguments += [
                "--stype-in",
                "parent",
                "--start",
                "2025-10-06",
                "--end",
                "2025-10-07",
                "--max-usd",
                "99",
                *flags,
            ]
            yield arguments, names, [databento_server.KEY, databento_server.TOKEN]

    return case


def polygon_rest(*faults: polygon_server.Fault) -> Case:
    @contextmanager
    def case(folder: Path) -> Iterator:
        with polygon_server.polygon_server({OPTION: TRADES}) as server:
            server.faults.extend(faults)
            names = {"MASSIVE_API_KEY": polygon_server.KEY, "MASSIVE_BASE_URL": server.url}
            yield (
                ["polygon", "--api", OPTION, "--start", DAY, "--end", "2025-12-25"],
                names,
                [polygon_server.KEY],
            )

    return case


def polygon_s3(secret: str = SECRET_KEY, *, is_there: bool = True) -> Case:
    @contextmanager
    def case(folder: Path) -> Iterator:
        if rclone() is None:
            pytest.skip(reason="rclone is not installed; it comes with requirements.lock")
        put(folder / "flatfiles" / f"{DAY}.csv.gz", OPTIONS)
        with s3_server(folder) as server:
            names = server.environment() | {"AWS_SECRET_ACCESS_KEY": secret}
            if not is_there:
                names["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
            yield ["polygon", "s3://flatfiles/", "--max-bad", "1"], names, [ACCESS_KEY, secret]

    return case


def binance(*faults: binance_server.Fault) -> Case:
    @contextmanager
    def case(folder: Path) -> Iterator:
        made = binance_server.Server(fills={"BTCUSDC": [fill(i) for i in range(5)]}, faults=list(faults))
        with binance_server.serve(made) as server:
            names = {
                "TICKHOUSE_BINANCE_URL": server.url,
                "BINANCE_API_KEY": binance_server.API_KEY,
                "BINANCE_API_SECRET": binance_server.API_SECRET,
            }
            arguments = ["binance", "trades", "--from", "api", "--client-id", "1", "--symbols", "BTCUSDC"]
            yield (
                arguments,
                names,
                [binance_server.API_KEY, binance_server.API_SECRET, binance_server.NEVER_SEEN],
            )

    return case


def postgres(change: Callable[[str], str] = str, *, password: str = READER_PASSWORD) -> Case:
    @contextmanager
    def case(folder: Path) -> Iterator:
        if binaries() is None:
            pytest.skip(reason="PostgreSQL is not installed; Debian's package postgresql brings the server")
        dsn = change(_database().dsn.replace(READER_PASSWORD, password))
        yield ["events", "--from", "postgres:CANARY_DSN"], {"CANARY_DSN": dsn}, [password]

    return case


_stack = contextlib.ExitStack()


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    _stack.close()


@functools.cache
def _database() -> Database:
    """One server for all of them; it ends with the module."""
    server = _stack.enter_context(postgres_server())
    with server.admin("postgres") as connection:
        connection.execute("create database lake")
    database = Database(server, "lake")
    _stack.callback(database.close)
    database.create_tables()
    return database


def _as_url(dsn: str) -> str:
    facts = dict(part.split("=", 1) for part in dsn.split(" "))
    password = urllib.parse.quote(facts["password"].strip("'"), safe="")
    return f"postgresql://{facts['user']}:{password}@{facts['host']}:{facts['port']}/{facts['dbname']}"


OTHER = "another-Secret/that+is=wrong"
ECHOED = databento_server.Fault(
    status=422,
    message=ECHO.format(f"{databento_server.KEY} https://x.example/f?token={databento_server.TOKEN}"),
)
CASES: dict[str, Case] = {
    "databento batch": databento(),
    "databento batch, refused and echoed": databento(batch_submit_job=[ECHOED]),
    "databento batch, broken": databento(batch_download=[databento_server.Fault(cut_after=50)] * 9),
    "databento stream": databento("--stream"),
    "databento stream, refused and echoed": databento("--stream", timeseries_get_range=[ECHOED]),
    "polygon rest": polygon_rest(),
    "polygon rest, refused and echoed": polygon_rest(
        polygon_server.Fault(status=403, body=ECHO.format(polygon_server.KEY).encode())
    ),
    "polygon rest, broken": polygon_rest(*[polygon_server.Fault(status=500, cut_after=3)] * 9),
    "polygon s3": polygon_s3(),
    "polygon s3, wrong secret": polygon_s3(OTHER),
    "polygon s3, not there": polygon_s3(is_there=False),
    "binance api": binance(),
    "binance api, refused and echoed": binance(
        *[binance_server.status(401, body=ECHO.format(f"{binance_server.API_KEY} {binance_server.API_SECRET}"))] * 9
    ),
    "binance api, broken": binance(*[binance_server.hang_up] * 9),
    "postgres": postgres(),
    "postgres by url": postgres(_as_url),
    "postgres, wrong password": postgres(password=OTHER),
    "postgres, no server": postgres(lambda dsn: _as_url(dsn).replace("127.0.0.1:", "127.0.0.1:9/x?port=")),
    "postgres, no such option": postgres(lambda dsn: f"{dsn} no_such_option=1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_no_secret_gets_out(name: str, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    with CASES[name](tmp_path / "server") as (arguments, environment, secrets):
        code, everything = printed_and_written(arguments, environment, root)
    assert code == 0
    assert len(everything) > 100
    for secret in secrets:
        assert [form for form in forms(secret) if form in everything] == []


def test_every_form_of_a_secret_would_be_found() -> None:
    secret = READER_PASSWORD
    texts = [base64.b64encode(f"{'x' * n}{secret}:".encode()) for n in range(3)]
    texts += [urllib.parse.quote(secret, safe="").encode(), secret.encode().hex().encode(), secret.encode()]
    assert all(any(form in text for form in forms(secret)) for text in texts)
