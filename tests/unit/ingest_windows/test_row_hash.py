"""Row hashes and redaction against their words in the specification."""

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.json_text import BadJson, canonical, parse
from ingest.redaction import redaction
from ingest.row_hash import canonical_rows, row_hashes
from ingest.window_schema import EVENTS, ORDERS, WINDOW_SCHEMAS

ALNUM64 = "Ab1" * 21 + "x"


def slow_text(row: dict, schema) -> str:
    """The canonical array as the specification words it, one value at a time."""
    made = []
    for field in schema.columns:
        value = row[field.name]
        if value is None:
            made.append("null")
        elif schema.is_json(field.name):
            made.append(
                json.dumps(json.loads(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            )
        elif isinstance(value, Decimal):
            made.append(f'"{value:.{field.type.scale}f}"')
        elif isinstance(value, datetime):
            made.append(f'"{value:%Y-%m-%dT%H:%M:%S.%fZ}"')
        elif isinstance(value, bool):
            made.append("true" if value else "false")
        else:
            made.append(json.dumps(value, ensure_ascii=False))
    return "[" + ",".join(made) + "]"


def values(field: pa.Field, schema) -> st.SearchStrategy:
    kind = field.type
    if schema.is_json(field.name):
        inner = st.dictionaries(
            st.text(max_size=4), st.text(max_size=4) | st.integers() | st.none(), max_size=3
        )
        made = inner.map(lambda v: json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    elif pa.types.is_decimal(kind):
        bound = 10**kind.precision - 1
        made = st.integers(-bound, bound).map(lambda n: Decimal(n).scaleb(-kind.scale))
    elif pa.types.is_timestamp(kind):
        made = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))
    elif pa.types.is_boolean(kind):
        made = st.booleans()
    elif pa.types.is_integer(kind):
        made = st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    else:
        made = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
    return made | st.none() if field.nullable else made


@pytest.mark.parametrize("name", WINDOW_SCHEMAS)
def test_the_text_that_is_hashed_is_the_canonical_array(name: str):
    schema = WINDOW_SCHEMAS[name]
    row = st.fixed_dictionaries({f.name: values(f, schema) for f in schema.columns})

    with duckdb.connect(config={"threads": 1}) as connection:

        @given(st.lists(row, min_size=1, max_size=5))
        def holds(rows: list[dict]) -> None:
            table = pa.Table.from_pylist(rows, schema.columns)
            want = [slow_text(r, schema) for r in rows]
            assert canonical_rows(table, schema, connection).to_pylist() == want
            hashes = row_hashes(table, schema, connection).to_pylist()
            assert hashes == [hashlib.sha256(text.encode()).hexdigest() for text in want]

        holds()


def test_a_golden_row():
    row = {f.name: None for f in ORDERS.columns} | {
        "id": 7, "transaction_id": 'tx-"7"', "client_id": 1, "transaction_type": "SPOT_BUY", "status": "FILLED",
        "symbol": "BTCUSDC", "asset": "BTC", "quantity": Decimal("0.00100000"), "fee": Decimal("0E-8"),
        "is_isolated_margin": False, "account_type": "SPOT", "category": "TRADING", "description": "é\n",
        "source": "bot", "raw_response": '{"a":1}', "risk_percent": Decimal("1.50"),
        "created_at": datetime(2024, 12, 1, 0, 0, 0, 5, UTC),
    }  # fmt: skip
    text = (
        '[7,"tx-\\"7\\"",null,1,"SPOT_BUY","FILLED","BTCUSDC","BTC","0.00100000",null,null,null,null,"0.00000000",'
        'null,null,null,false,"SPOT","TRADING",null,null,null,"1.50","é\\n","bot",{"a":1},'
        '"2024-12-01T00:00:00.000005Z",null,null]'
    )
    table = pa.Table.from_pylist([row], ORDERS.columns)
    with duckdb.connect() as connection:
        assert canonical_rows(table, ORDERS, connection).to_pylist() == [text]
        assert row_hashes(table, ORDERS, connection).to_pylist() == [
            hashlib.sha256(text.encode()).hexdigest()
        ]


# -- canonical JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('{ "b" : 1.50, "a" : [1e2, -0.0, 1E-3] }', '{"a":[100,0.0,0.001],"b":1.50}'),
        ('{"\\u00e9":"\\u2028\\/"}', '{"é":"\u2028/"}'),
        ('{"a":-0,"b":12345678901234567890123}', '{"a":0,"b":12345678901234567890123}'),
    ],
)
def test_json_has_one_form(text: str, made: str):
    assert canonical(parse(text)) == made
    assert canonical(parse(made)) == made


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', "NaN", "[1,]", "01", "[" * 33 + "]" * 33, "1e101", '"\\u0000"', ""]
)
def test_what_is_no_json_of_ours_is_told(text: str):
    with pytest.raises(BadJson):
        parse(text)


# -- redaction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (f"code=-2015 key={ALNUM64} sig", "code=-2015 key=[REDACTED] sig"),
        ("GET /x?listenKey=abc&y=1", "GET /x?[REDACTED]&y=1"),
        ("ask some.one+x@mail.example now", "ask [REDACTED] now"),
        ("from 10.0.0.255:80", "from [REDACTED]:80"),
        ("price 88200.00000000 at 2024-12-01", "price 88200.00000000 at 2024-12-01"),
    ],
)
def test_free_text(text: str, made: str):
    assert redaction().text(text) == made
    assert redaction().text(made) == made


def test_keys_and_leaves_of_json():
    text = canonical(
        {"apiKey": "k", "a": [{"email": {"x": 1}, "ip": None, "ok": "10.1.1.1\n"}], "name": 5, "surname": "x"}
    )
    made = (
        '{"a":[{"email":"[REDACTED]","ip":null,"ok":"[REDACTED]\\n"}],"apiKey":"[REDACTED]","name":"[REDACTED]",'
        '"surname":"x"}'
    )
    assert redaction().json(text) == made
    assert redaction().json(made) == made


def test_only_columns_of_free_text_are_touched():
    row = {f.name: None for f in EVENTS.columns} | {
        "event_id": "0" * 36, "operation_id": 1, "client_id": 1, "symbol": "BTCUSDC", "event_type": "FAILED",
        "occurred_at": datetime(2024, 12, 1, tzinfo=UTC), "source": "ws", "retry_count": 0,
        "execution_token": ALNUM64, "exchange_order_id": ALNUM64, "error_message": ALNUM64,
        "payload_json": canonical({"note": f"\n10.0.0.1 {ALNUM64}", "price": "1.5"}),
    }  # fmt: skip
    (made,) = redaction().table(pa.Table.from_pylist([row], EVENTS.columns)).to_pylist()
    assert made["execution_token"] == made["exchange_order_id"] == ALNUM64
    assert made["error_message"] == "[REDACTED]"
    assert made["payload_json"] == '{"note":"\\n[REDACTED] [REDACTED]","price":"1.5"}'


@given(st.text(st.sampled_from("aA1@.=&[]RED signatureapiKey\n"), max_size=150))
def test_a_second_pass_changes_nothing(text: str):
    once = redaction().text(text)
    assert redaction().text(once) == once
    raw = redaction().raw('{"name": "' + text)
    assert redaction().raw(raw) == raw


@given(
    st.text(max_size=80),
    st.sampled_from([ALNUM64, "a@b.example", "1.2.3.4", "apiKey=x"]),
    st.text(max_size=80),
)
def test_the_search_for_suspects_misses_nothing(before: str, secret: str, after: str):
    """What the vectorised search leaves alone, the patterns would have left alone."""
    leaf = f"{before}{secret}{after}".replace("\0", "").encode(errors="ignore").decode()
    text = canonical({"leaf": leaf})
    table = redaction().table(pa.table({"payload_json": pa.array([text])}))
    assert table["payload_json"].to_pylist() == [redaction().json(text)]
