"""`tickhouse ingest binance`: what it prints, its exit codes, and that no key gets out of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.ingest.binance import app
from tests.fixtures.binance_server import API_KEY, API_SECRET, NEVER_SEEN, Server, hang_up, serve, status
from tests.unit.ingest_binance.kit import DAY, agg_csv, fill, lines, put

NAME = f"BTCUSDC-aggTrades-{DAY}"


def call(*args: object) -> object:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_one_object_a_file(root, tmp_path):
    put(tmp_path, f"{NAME}.csv", agg_csv(20))
    result = call("agg_trades", "--from", tmp_path / "*.csv", "--json")
    assert result.exit_code == 0
    (file,) = json.loads(result.stdout)
    assert (file["status"], file["rows"], file["raw_path"]) == ("landed", 20, f"raw/binance/{NAME}.csv")


def test_exit_codes(root, tmp_path):
    good = put(tmp_path, "a.json", lines(fill(0)))
    half = put(tmp_path, "b.json", lines(fill(1), fill(2, price="x")))
    assert call("trades", "--from", good, "--client-id", 1).exit_code == 0
    assert call("trades", "--from", half, "--client-id", 1, "--max-bad", 0.5).exit_code == 2
    assert call("trades", "--from", half, "--client-id", 1).exit_code in (0, 2)  # landed before
    refused = call("trades", "--from", half, "--client-id", 3)
    assert refused.exit_code == 1
    assert "quarantined: 1 of 2 records were bad (CAST 1; the first: " in refused.stderr


def test_a_glob_without_a_file_is_a_source_that_is_not_there(root, tmp_path):
    """As of the other execution loaders: a failed sync must not look like one without news."""
    result = call("trades", "--from", tmp_path / "nothing*", "--client-id", 1)
    assert result.exit_code == 4
    assert "no file matched" in result.stderr


def test_a_wrong_call_is_told(root):
    assert call("trades", "--from", "x").exit_code == 2
    assert "stood beside files" in call("klines", "--from", "api", "--from", "x").stderr
    assert "was no time" in call("klines", "--from", "api", "--start", "yesterday").stderr


@pytest.mark.parametrize("faults", [[], [hang_up] * 9, [status(500)] * 9, [status(418, retry_after="9999")]])
def test_no_key_gets_out_at_all(root, tmp_path, faults):
    """Out of the real command, with tracebacks and every log line on."""
    with serve(Server(fills={"BTCUSDC": [fill(i) for i in range(5)]}, faults=list(faults))) as server:
        environment = os.environ | {
            "TICKHOUSE_BINANCE_URL": server.url,
            "BINANCE_API_KEY": API_KEY,
            "BINANCE_API_SECRET": API_SECRET,
            "TICKHOUSE_DEBUG": "1",
        }
        # As the command does it, but without its waits.
        code = "import random; random.Random.uniform = lambda *_: 0.0; import cli.main; cli.main.main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "ingest", "binance", "trades", "--from", "api", "--client-id", "1",
             "--symbols", "BTCUSDC"],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == (4 if faults else 0), done.stderr
    assert "urllib3" in done.stderr  # the lines are on
    texts = [done.stdout, done.stderr, *(read(path) for path in root.rglob("*") if path.is_file())]
    assert len(texts) > 2
    for text in texts:
        assert NEVER_SEEN not in text
        assert "signature" not in text


def read(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")
