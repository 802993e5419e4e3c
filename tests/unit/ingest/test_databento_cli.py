"""`tickhouse ingest databento` as a person or a script meets it, and what it never lets out."""

import base64
import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.ingest import app
from ingest.databento import Vendor
from ingest.http_retry import RetryPolicy
from tests.fixtures.databento_server import KEY, TOKEN, DatabentoServer, Fault, flip_last
from tests.unit.ingest import databento_kit as kit

SENT = base64.b64encode(f"{KEY}:".encode()).decode()
ORDER = [
    "databento", "--dataset", "GLBX.MDP3", "--schema", "trades", "--symbols", "ES.FUT", "--stype-in", "parent",
    "--start", "2025-10-06", "--end", "2025-10-08",
]  # fmt: skip
runner = CliRunner()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with kit.server() as running:
        running.states = ["done"]
        monkeypatch.setenv("DATABENTO_API_KEY", KEY)
        monkeypatch.setenv("TICKHOUSE_DATABENTO_URL", running.url)
        yield running


def test_help_shows_an_example() -> None:
    result = runner.invoke(app, ["databento", "--help"])
    assert result.exit_code == 0
    assert "Example: tickhouse ingest databento" in result.stdout


def test_the_cost_goes_to_stderr_and_what_landed_to_stdout(root: Path, server: DatabentoServer) -> None:
    result = runner.invoke(app, [*ORDER, "--max-usd", "25"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "trades 2025-10-06: landed, 400 records",
        "trades 2025-10-07: landed, 400 records",
    ]
    assert result.stderr.splitlines() == [
        "trades 2025-10-06: 400 records, 19,200 bytes, 4.00 USD",
        "trades 2025-10-07: 400 records, 19,200 bytes, 4.00 USD",
        "to order: 8.00 USD, limit 25.00 USD",
    ]
    again = runner.invoke(app, [*ORDER, "--max-usd", "0"])
    assert again.exit_code == 0
    assert again.stdout.splitlines() == [
        "trades 2025-10-06: already landed",
        "trades 2025-10-07: already landed",
    ]


def test_a_limit_must_be_named(root: Path, server: DatabentoServer) -> None:
    result = runner.invoke(app, ORDER)
    assert result.exit_code == 2
    assert "--max-usd" in result.stderr
    assert server.seen == []


def test_above_the_limit_nothing_is_ordered(root: Path, server: DatabentoServer) -> None:
    result = runner.invoke(app, [*ORDER, "--max-usd", "1"])
    assert isinstance(result.exception, ValueError)
    assert server.asked("batch.submit_job") == []


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_json_is_an_array_of_flat_objects_with_the_same_keys(
    root: Path, server: DatabentoServer, flags: list[str]
) -> None:
    result = runner.invoke(app, [*ORDER, "--schema", "mbp-10", "--max-usd", "50", "--json", *flags])
    assert result.exit_code == 0, result.stderr
    objects = json.loads(result.stdout)
    assert [(o["schema"], o["date"], o["status"]) for o in objects] == [
        ("trades", "2025-10-06", "landed"),
        ("trades", "2025-10-07", "landed"),
        ("mbp-10", "2025-10-06", "landed"),
        ("mbp-10", "2025-10-07", "landed"),
    ]
    assert len({tuple(o) for o in objects}) == 1
    assert not any(isinstance(v, dict | list) for o in objects for v in o.values())


def test_a_dry_run_prints_the_estimate(root: Path, server: DatabentoServer) -> None:
    result = runner.invoke(app, [*ORDER, "--max-usd", "1", "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0] == {
        "schema": "trades", "date": "2025-10-06", "status": "to_order",
        "record_count": 400, "billable_bytes": 19200, "cost_usd": 4.0,
    }  # fmt: skip
    assert list(root.iterdir()) == []


def test_what_failed_is_a_line_on_stderr_and_exit_code_1(root: Path, server: DatabentoServer) -> None:
    server.queue("batch.download", Fault(change=flip_last), Fault(change=flip_last))
    result = runner.invoke(app, [*ORDER, "--max-usd", "25"])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["trades 2025-10-07: landed, 400 records"]
    assert result.stderr.splitlines()[-1].startswith("tickhouse: trades 2025-10-06: quarantined: sha256 was ")


def test_no_key_no_request(root: Path, server: DatabentoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY")
    result = runner.invoke(app, [*ORDER, "--max-usd", "25"])
    assert "DATABENTO_API_KEY was not set" in str(result.exception)
    assert server.seen == []


# -- secrets -------------------------------------------------------------------------------------------------


def spilled(text: str) -> list[str]:
    return [name for name, secret in (("key", KEY), ("sent key", SENT), ("token", TOKEN)) if secret in text]


def spilled_below(folder: Path) -> list[str]:
    return [
        f"{path}: {spilled(text)}"
        for path in folder.rglob("*")
        if path.is_file() and spilled(text := path.read_bytes().decode("latin-1"))
    ]


ECHO = Fault(status=422, message=f"you sent {KEY} as Basic {SENT} to https://x.example/f?token={TOKEN}")
TROUBLES: dict[str, dict[str, list[Fault]]] = {
    "none": {},
    "cost refused": {"metadata.get_cost": [ECHO]},
    "order refused": {"batch.submit_job": [ECHO]},
    "download refused": {"batch.download": [ECHO] * 9},
    "download cut": {"batch.download": [Fault(cut_after=100)] * 9},
    "download wrong": {"batch.download": [Fault(change=flip_last)] * 2},
    "list not readable": {"batch.list_files": [Fault(change=lambda body: body.replace(b"sha256", b"md5"))]},
    "list of another host": {
        "batch.list_files": [Fault(change=lambda body: body.replace(b"http://127", b"http://128"))]
    },
    "stream refused": {"timeseries.get_range": [ECHO]},
    "stream cut": {"timeseries.get_range": [Fault(cut_after=100)] * 9},
    "no such key": {},
}


@pytest.mark.parametrize("name", TROUBLES)
def test_no_secret_in_logs_errors_or_files(
    tmp_path: Path, server: DatabentoServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong, with every logger on DEBUG and whole tracebacks, chained ones too."""
    for endpoint, faults in TROUBLES[name].items():
        server.queue(endpoint, *faults)
    warned = Fault(
        headers={"x-warning": json.dumps([f"BentoWarning: {KEY} at https://x.example/?token={TOKEN}"])}
    )
    server.queue("metadata.get_record_count", warned)
    key = KEY + "x" if name == "no such key" else KEY
    seen = []
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):  # the second call also reads what the first one left
            try:
                kind = "stream" if "stream" in name else "batch"
                seen.append(repr(kit.call(tmp_path, server.url, key=key, kind=kind)))
            except Exception:
                seen.append(traceback.format_exc())
    assert len(seen) == 2
    assert spilled("".join(seen)) == []
    assert spilled(caplog.text) == []
    assert spilled_below(tmp_path) == []
    assert not any("token" in str(r.args) for r in caplog.records)


def test_the_secrets_were_there_to_be_spilled(tmp_path: Path, server: DatabentoServer) -> None:
    kit.call(tmp_path, server.url)
    assert all(s.authorized for s in server.seen)
    assert {s.params.get("token") for s in server.asked("batch.download")} == {TOKEN}


@pytest.mark.parametrize("trouble", ["none", "order refused", "download refused"])
def test_no_secret_out_of_the_process(tmp_path: Path, server: DatabentoServer, trouble: str) -> None:
    for endpoint, faults in TROUBLES[trouble].items():
        server.queue(endpoint, *faults)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "ingest", *ORDER, "--max-usd", "25"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
        env=os.environ | {"LAKE_ROOT": str(tmp_path), "TICKHOUSE_DEBUG": "1"},
    )  # fmt: skip
    assert done.returncode == (0 if trouble == "none" else 1)
    assert "DEBUG" in done.stderr or "INFO" in done.stderr
    assert spilled(done.stdout + done.stderr) == []
    assert spilled_below(tmp_path) == []


def test_the_client_shows_no_key() -> None:
    vendor = Vendor(KEY, policy=RetryPolicy())
    assert spilled(repr(vendor) + str(vendor)) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hist.databento.com",
        "https://user:pass@hist.databento.com",
        "https://hist.databento.com?token=x",
        "ftp://127.0.0.1",
        "hist.databento.com",
        "",
    ],
)
def test_an_address_that_the_key_must_not_go_to(url: str) -> None:
    with pytest.raises(ValueError, match="TICKHOUSE_DATABENTO_URL"):
        Vendor(KEY, url)


@pytest.mark.parametrize("key", ["", " ", "db-with blank", "db-\n", "db-é"])
def test_what_is_no_key_is_told_without_it(key: str) -> None:
    with pytest.raises(ValueError, match="DATABENTO_API_KEY was no key") as told:
        Vendor(key, "http://127.0.0.1:1")
    assert not key.strip() or key not in str(told.value)
