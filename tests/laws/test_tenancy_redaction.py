"""Every text that lands is an id, a word of a list, or redacted: a new column is one of them before it lands anything.

Golden vectors of the rules: `tests/unit/ingest_windows/test_row_hash.py`. Source: spec/execution.md 8.4.
"""

import json

import pyarrow as pa
import pytest

from ingest.redaction import JSON_COLUMNS, TEXT_COLUMNS, redaction
from ingest.window_schema import LINEAGE, WINDOW_SCHEMAS

# Ids, tokens and hashes in their own columns are exempt; the rest are words of a list or of the loader itself.
IDS = {
    "event_id", "execution_token", "exchange_order_id", "transaction_id", "binance_order_id", "order_id",
    "ingest_batch_id", "row_hash",
}  # fmt: skip
WORDS = {
    "symbol", "event_type", "trigger_type", "side", "source", "transaction_type", "status", "asset", "fee_asset",
    "account_type", "category", "commission_asset", "market", "bar_interval", "environment", "source_file",
}  # fmt: skip
KEY = "Zx9" * 21 + "Q"
SECRETS = {
    "key": (f"code=-2015 key={KEY} sig", "code=-2015 key=[REDACTED] sig"),
    "query": ("GET /x?symbol=A&signature=ab12&y=1", "GET /x?symbol=A&[REDACTED]&y=1"),
    "e-mail": ("to ann.b+c@mail.example.org now", "to [REDACTED] now"),
    "address": ("from 203.0.113.77 refused", "from [REDACTED] refused"),
}
KEYS = ("apiKey", "secretKey", "signature", "listenKey", "email", "address", "addressTag", "ip", "name")


def texts() -> dict[str, set[str]]:
    """Text columns by dataset, those of lineage too."""
    return {
        name: {f.name for f in (*schema.columns, *LINEAGE) if pa.types.is_string(f.type)}
        for name, schema in WINDOW_SCHEMAS.items()
    }


@pytest.mark.parametrize("dataset", WINDOW_SCHEMAS)
def test_every_text_column_is_an_id_a_word_or_redacted(dataset):
    unknown = texts()[dataset] - IDS - WORDS - set(TEXT_COLUMNS) - set(JSON_COLUMNS)
    assert unknown == set(), "say in ingest/redaction.py that it is free text, or here that it is none"


def test_every_redacted_column_is_landed_by_somebody():
    landed = set().union(*texts().values())
    assert set(TEXT_COLUMNS) | set(JSON_COLUMNS) <= landed
    assert landed >= IDS | WORDS


@pytest.mark.parametrize("name", SECRETS)
def test_no_column_keeps_a_secret_and_a_second_pass_changes_nothing(name):
    given, wanted = SECRETS[name]
    for column in (*TEXT_COLUMNS, *JSON_COLUMNS):
        is_json = column in JSON_COLUMNS
        value = json.dumps({"a": [{"note": given}], "n": 1}, separators=(",", ":")) if is_json else given
        once = redaction().table(pa.table({column: [value, None]}))
        told = once[column][0].as_py()
        assert (json.loads(told)["a"][0]["note"] if is_json else told) == wanted
        assert redaction().table(once).equals(once)
        assert once[column][1].as_py() is None


@pytest.mark.parametrize("key", KEYS)
def test_the_value_of_a_listed_key_goes_whatever_it_is(key):
    for inner in ("x", 17, {"deep": ["x"]}, ["x", "y"], True):
        given = json.dumps({"outer": {key: inner, "kept": "yes"}})
        (told,) = redaction().table(pa.table({"raw_response": [given]}))["raw_response"].to_pylist()
        assert json.loads(told) == {"outer": {key: "[REDACTED]", "kept": "yes"}}


def test_ids_and_hashes_in_their_own_columns_stay():
    ids = pa.table({name: [KEY] for name in sorted(IDS)})
    assert redaction().table(ids).equals(ids)
