"""The execution domain's models in memory: rows land with plain defaults, and staging gives them per bronze date."""

import datetime

import pytest

from tests.e2e.execution import ExecutionPipeline


@pytest.fixture(scope="module")
def pipeline(manifest):
    return ExecutionPipeline(manifest)


def movement(**other) -> dict:
    return {
        "id": 1, "transaction_id": "T1", "client_id": 1, "transaction_type": "SPOT_BUY", "status": "FILLED",
        "symbol": "BTCUSDC", "asset": "BTC", "quantity": "0.001", "account_type": "SPOT", "category": "TRADING",
        "description": "", "source": "sync", "created_at": "2024-12-01T10:00:00Z",
    } | other  # fmt: skip


def test_rows_are_landed_and_staged_on_their_own_dates(pipeline):
    pipeline.land(orders=[movement(), movement(ingested_at="2024-12-02T00:00:00Z"), movement()])
    pipeline.build("stg_execution__ledger")
    first, second = pipeline.query(
        "select date, landed_rows, quantity from silver.stg_execution__ledger order by date"
    )
    assert (first["date"], first["landed_rows"]) == (datetime.date(2024, 12, 1), 2)
    assert (second["date"], second["landed_rows"]) == (datetime.date(2024, 12, 2), 1)


def test_nothing_landed_builds_empty(pipeline):
    pipeline.land()
    pipeline.build()
    assert not any(pipeline.rows(name) for name in pipeline.models if name.startswith("stg_"))


def test_a_column_that_no_source_has_is_refused(pipeline):
    with pytest.raises(AssertionError, match="no column colour"):
        pipeline.land(orders=[movement(colour="red")])
