"""`tickhouse ingest polygon` as a person or a script meets it."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.ingest import app
from lake.bronze import visible_files
from tests.fixtures.polygon_server import KEY, polygon_server
from tests.fixtures.s3 import SECRET_KEY, rclone, s3_server
from tests.unit.ingest_polygon.kit import DAY, OPEN_NS, OPTIONS, OPTIONS_HEADER, STOCKS, put, receipts

runner = CliRunner()


@pytest.fixture(autouse=True)
def loggers_as_they_were():
    names = ("botocore", "boto3", "urllib3")
    levels = [logging.getLogger(n).level for n in names]
    yield
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


def call(*arguments: object):
    return runner.invoke(app, ["polygon", *map(str, arguments)])


def test_help_shows_examples() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert "tickhouse ingest polygon" in result.stdout
    assert "--api" in result.stdout


def test_a_folder_prints_a_line_a_file_and_nothing_else(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "in" / "options" / f"{DAY}.csv.gz", OPTIONS)
    put(tmp_path / "in" / "stocks" / f"{DAY}.csv.gz", STOCKS)
    result = call(tmp_path / "in")
    assert result.exit_code == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.endswith(f"options/{DAY}.csv.gz: landed, 5 trades rows of {DAY}")
    assert second.endswith(f"stocks/{DAY}.csv.gz: landed, 3 trades rows of {DAY}")
    assert result.stderr == ""


def test_json_is_an_array_of_flat_objects_with_the_same_keys(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.csv.gz", OPTIONS)
    (tmp_path / "in" / "b.csv.gz").write_bytes(b"nothing")
    result = call("--json", tmp_path / "in")
    assert result.exit_code == 1
    objects = json.loads(result.stdout)
    assert [o["status"] for o in objects] == ["landed", "quarantined"]
    assert len({tuple(o) for o in objects}) == 1
    assert not any(isinstance(v, dict | list) for o in objects for v in o.values())
    assert (root / objects[0]["raw_path"]).is_file()
    (line,) = result.stderr.splitlines()
    assert line == f"tickhouse: {tmp_path / 'in' / 'b.csv.gz'}: quarantined: {objects[1]['reason']}"


def test_underlying_schema_and_share_are_options(root: Path, tmp_path: Path) -> None:
    bad = f"O:AAPL251224C00270000,,0,300,-1,{OPEN_NS},1\n"
    path = put(tmp_path / f"{DAY}.csv.gz", OPTIONS + bad)
    refused = call(path, "--underlying", "AAPL")
    assert (refused.exit_code, "expected at most 1.00%" in refused.stderr) == (1, True)
    result = call(path, "--underlying", "AAPL", "--max-bad", "0.5", "--schema", "options")
    assert result.stdout.endswith(f": landed, 1 trades rows of {DAY}, 1 bad rows kept aside\n")
    assert {f.key["underlying"] for f in visible_files(root)} == {"AAPL"}
    wrong = call(put(tmp_path / "x.csv.gz", OPTIONS), "--schema", "stocks")
    assert "missing: id, participant_timestamp" in wrong.stderr


def test_recover_alone_lands_what_stands_in_raw(root: Path) -> None:
    put(root / "raw" / "polygon" / "options" / f"{DAY}.csv.gz", OPTIONS)
    result = call("--recover")
    assert result.exit_code == 0
    assert "landed, 5 trades rows" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing was named"),
        (["x.csv.gz", "s3://bucket/x"], "were mixed"),
        (["--api"], "nothing was named"),
        (["--api", "SPY"], "--start before --end"),
        (["--api", "SPY", "--start", "2025-12-25", "--end", "2025-12-25"], "--start before --end"),
        (["--dataset", "options", "x.csv.gz"], "were mixed"),
        (["--dataset", "bonds", "--start", "2025-12-24", "--end", "2025-12-25"], "was bonds"),
        (["x.csv.gz", "--start", "2025-12-24"], "go with --dataset or --api"),
        (["s3://b/x", "--recover"], "goes with files"),
        (["x.csv.gz", "--max-bad", "1.5"], "1.5 is not in the range 0<=x<=1"),
    ],
)
def test_what_does_not_go_together_is_a_wrong_call(root: Path, arguments: list[str], told: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert not receipts(root)


@pytest.mark.skipif(rclone() is None, reason="rclone is not installed; it comes with requirements.lock")
def test_s3_addresses_and_data_sets_land(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    key = f"us_options_opra/trades_v1/2025/12/{DAY}.csv.gz"
    put(tmp_path / "s3" / "flatfiles" / key, OPTIONS)
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        result = call("s3://flatfiles/us_options_opra/")
        assert result.stdout == f"flatfiles/{key}: landed, 5 trades rows of {DAY}\n"
        result = call("--dataset", "options", "--start", DAY, "--end", "2025-12-25")
        assert result.stdout == f"flatfiles/{key}: already landed, 5 trades rows of {DAY}\n"


def test_the_api_lands_days_of_a_ticker(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trade = f'{{"exchange":300,"price":1.5,"sip_timestamp":{OPEN_NS},"size":1}}'
    with polygon_server({"O:SPY251224C00690000": [trade]}) as server:
        monkeypatch.setenv("MASSIVE_API_KEY", KEY)
        monkeypatch.setenv("MASSIVE_BASE_URL", server.url)
        result = call("--api", "SPY   251224C00690000", "--start", DAY, "--end", "2025-12-26", "--json")
    assert result.exit_code == 0, result.stderr
    assert [(o["date"], o["rows"]) for o in json.loads(result.stdout)] == [(DAY, 1), ("2025-12-25", 0)]


def test_no_traceback_holds_a_key(root: Path, tmp_path: Path) -> None:
    """With tracebacks on, in a process of its own: a server that is not there."""
    environment = os.environ | {
        "LAKE_ROOT": str(root), "TICKHOUSE_DEBUG": "1", "MASSIVE_API_KEY": KEY, "MASSIVE_BASE_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "ACCESSKEYFORTEST", "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9/not-an-endpoint", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    # One attempt each, so that nothing waits.
    program = (
        "import sys, ingest.http_retry as r; r.RetryPolicy.__init__.__defaults__ = (1, *r.RetryPolicy.__init__."
        "__defaults__[1:]); from cli.main import main; main()"
    )
    told = ""
    for arguments in (
        ["s3://flatfiles/x"],
        ["--api", "SPY", "--start", DAY, "--end", "2025-12-25"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, "ingest", "polygon", *arguments],
            capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        told += done.stdout + done.stderr
    assert "Traceback" in told
    assert "failed 1 times" in told
    for secret in (KEY, SECRET_KEY, "ACCESSKEYFORTEST"):
        assert secret not in told
    assert OPTIONS_HEADER not in told
