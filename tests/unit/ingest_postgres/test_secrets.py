"""The connection string is in no output, log, traceback or file, whatever goes wrong."""

import os
import subprocess
import sysconfig
from pathlib import Path
from urllib.parse import quote

import pytest

from ingest.errors import SourceUnreachable
from ingest.postgres.connection import connect, read_source
from tests.fixtures.postgres import READER, READER_PASSWORD
from tests.fixtures.s3 import free_port
from tests.unit.ingest_postgres import kit
from tests.unit.ingest_postgres.kit import Database
from tests.unit.ingest_windows import kit as rows_kit

WRONG = "wr0ng-pw-5512-Q"
TICKHOUSE = Path(sysconfig.get_path("scripts")) / "tickhouse"


def run(root: Path, dsn: str | None, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as people call it, as talkative as it gets."""
    known = {"PATH": os.environ["PATH"], "LAKE_ROOT": str(root), "TICKHOUSE_DEBUG": "1", "HOME": str(root)}
    known |= {"TICKHOUSE_DSN": dsn} if dsn is not None else {}
    command = [str(TICKHOUSE), "ingest", *(arguments or ("events", "--from", "postgres:TICKHOUSE_DSN"))]
    return subprocess.run(
        command, env=known | environment, capture_output=True, text=True, timeout=120, check=False
    )


def leaks(done: subprocess.CompletedProcess[str], root: Path, *secrets: str) -> list[str]:
    texts = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    texts |= {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return [
        f"{secret} in {name}" for name, text in texts.items() for secret in secrets if secret.encode() in text
    ]


def test_a_good_call_and_refused_ones_tell_no_secret(database: Database, root: Path):
    rows = kit.stamped(rows_kit.events(200, hours=2), seconds=0)
    rows[7]["symbol"] = "no symbol"
    database.insert("events", rows)
    url = f"postgresql://{READER}:{quote(READER_PASSWORD, safe='')}@127.0.0.1:{database.server.port}/{database.name}"
    secrets = (READER_PASSWORD, quote(READER_PASSWORD, safe=""), READER, WRONG, url)

    done = run(root, url)
    assert done.returncode == 2, done.stderr
    assert "1 windows are incomplete" in done.stderr
    assert not leaks(done, root, *secrets)

    bad = root / "bad"
    cases = {
        database.server.dsn(database.name, password=WRONG): (4, "refused the role or its password"),
        database.server.dsn("no_such_database"): (4, "no such database"),
        f"host=127.0.0.1 port=nonsense-{WRONG} password={WRONG}": (4, "could not be reached"),
        f"postgresql://u:{WRONG}@[::1/x?{WRONG}=1": (4, "no connection string that libpq understands"),
    }
    for dsn, (code, told) in cases.items():
        done = run(bad, dsn)
        assert (done.returncode, told in done.stderr) == (code, True), (dsn, done.stderr)
        assert "Traceback" not in done.stderr
        assert not leaks(done, bad, *secrets)
    assert not kit.marker_files(bad)


def test_a_string_on_the_command_line_is_refused_and_not_repeated(root: Path):
    for text in (
        f"postgres:postgresql://u:{WRONG}@h/d",
        f"postgres://u:{WRONG}@h/d",
        f"postgresql://u:{WRONG}@h/d",
    ):
        done = run(root, None, "events", "--from", text)
        assert done.returncode not in (0, 4)
        assert "environment variable" in done.stderr or "postgres:DSN_NAME" in done.stderr
        assert not leaks(done, root, WRONG)


@pytest.mark.usefixtures("root")
def test_a_string_may_stand_in_a_file_or_in_the_variables_of_libpq(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DSN")
    with pytest.raises(SourceUnreachable, match="DSN was not set"):
        read_source("DSN")
    (tmp_path / "dsn").write_text(database.dsn + "\n")
    monkeypatch.setenv("DSN_FILE", str(tmp_path / "dsn"))
    source = read_source("DSN")
    assert READER_PASSWORD not in repr(source)
    connect(source).close()
    for name, value in (
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", str(database.server.port)),
        ("PGDATABASE", database.name),
        ("PGUSER", READER),
        ("PGPASSWORD", READER_PASSWORD),
    ):
        monkeypatch.setenv(name, value)
    connect(read_source("libpq")).close()


def test_columns_of_credentials_are_never_read(database: Database, root: Path):
    database.execute(
        "alter table stop_events add api_key text default 'AKIA-never', "
        "add user_password text default 'hunter2-never', "
        "add refresh_token text default 'tok-never', add session_note text default 'note-never', "
        "add colour text default 'green', add attempt numeric default 1.50"
    )
    database.insert("events", kit.stamped(rows_kit.events(10, hours=1), seconds=0))
    done = run(root, database.dsn)
    assert done.returncode == 0, done.stderr
    assert not leaks(done, root, "AKIA-never", "hunter2-never", "tok-never", "note-never")
    assert {row["_extra"] for row in kit.landed(root)} == {'{"attempt":1.50,"colour":"green"}'}
    for name in ("api_key", "user_password", "refresh_token", "colour", "attempt"):
        assert name in done.stderr


def test_a_port_where_nothing_listens_ends_in_one_line_and_leaves_no_marker(root: Path):
    dsn = f"host=127.0.0.1 port={free_port()} user=u password={WRONG}"
    done = run(root, dsn, "orders", "--from", "postgres:TICKHOUSE_DSN", TICKHOUSE_DEBUG="0")
    assert done.returncode == 4
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nothing listens there" in done.stderr
    assert not leaks(done, root, WRONG)
    assert not kit.marker_files(root, "orders")
    [record] = (root / "_meta" / "runs").glob("*.json")
    assert '"status": "failed"' in record.read_text()


def test_a_role_without_rights_is_told_so(database: Database, root: Path):
    database.execute(f"revoke select on stop_events from {READER}")
    done = run(root, database.dsn, TICKHOUSE_DEBUG="0")
    assert done.returncode == 4
    assert "may not read" in done.stderr
    database.execute(f"grant select (event_id, occurred_at) on stop_events to {READER}")
    done = run(root, database.dsn, TICKHOUSE_DEBUG="0")
    assert done.returncode == 4
    assert "symbol" in done.stderr
