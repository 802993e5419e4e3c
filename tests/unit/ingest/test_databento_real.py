"""The vendor's own files, ordered through its client: bronze equals that of the same files landed by hand."""

import datetime
import shutil
from pathlib import Path

import databento
import pytest

from ingest.dbn import ingest as ingest_dbn
from tests.fixtures.databento_server import DatabentoServer
from tests.unit.ingest import databento_kit as kit
from tests.unit.ingest.dbn_kit import snapshot

pytestmark = pytest.mark.realdata

DAY = datetime.date(2020, 12, 28)
SCHEMAS = ("trades", "mbp-10", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition")


@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_each_schema_lands_as_by_hand(tmp_path: Path, realdata: Path, kind: str) -> None:
    by_hand, days = tmp_path / "by_hand", {}
    by_hand.mkdir()
    for schema in SCHEMAS:
        source = realdata / "databento" / "datasets" / "GLBX.MDP3" / f"test_data.{schema}.dbn.zst"
        shutil.copy(source, by_hand / f"glbx-mdp3-{DAY:%Y%m%d}.{schema}.dbn.zst")
        rows = len(databento.DBNStore.from_file(source).to_ndarray())
        days[schema, DAY.isoformat()] = source.read_bytes(), rows
    assert ingest_dbn(tmp_path / "expected", [by_hand]).ok
    asked = kit.query(
        schemas=SCHEMAS,
        symbols=("ESH1",),
        stype_in="raw_symbol",
        start=DAY,
        end=DAY + datetime.timedelta(days=1),
    )
    with DatabentoServer(days, symbols=("ESH1",)).running() as server:
        report = kit.call(tmp_path / "lake", server.url, asked, kind=kind)
    assert [r.status for r in report.rows] == ["landed"] * len(SCHEMAS)
    first = {
        "batch": lambda: server.jobs[server.asked("batch.get_job_details")[0].params["job_id"]],
        "stream": lambda: server.asked("timeseries.get_range")[0].params,
    }
    assert first[kind]()["schema"] == "definition"
    assert snapshot(tmp_path / "lake")["commits"] == snapshot(tmp_path / "expected")["commits"]
