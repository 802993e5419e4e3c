"""JSON Schemas (draft 2020-12) of every manifest that the project writes, as `lake.contracts` checks them in.

A schema says which files it describes: ``x-path`` is a pattern of the whole path below the data root, so that a lake
can be walked and each manifest meets exactly one of them. Objects are closed: an unknown key is an error, and every
key is there, with null where a value may be unknown.

Source of the key lists: spec/market.md 3.3, 4.2, 11, 14.8, 17 and 20.
"""

from dataclasses import dataclass

from lake.params import ENUMS, LEVEL_KINDS
from lake.windows import PARTITION_KEYS

Schema = dict[str, object]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_DAY, _HEX8, _VERSION = r"\d{4}-\d{2}-\d{2}", "[0-9a-f]{8}", r"v\d+\.\d+_[a-z][a-z0-9_]*"
_RUN = r"\d{8}T\d{6}Z_[a-z]+_[0-9a-f]{6}"


@dataclass(frozen=True)
class Vocabulary:
    """What the schemas take from the model YAML and the param sets, everything in stored order.

    ``columns`` and ``groups`` are those that a feature version may list, ``params`` the values of the default set,
    ``front_month`` the (name, SQL type) of ``dim_front_month``.
    """

    columns: tuple[str, ...]
    groups: tuple[str, ...]
    stages: tuple[str, ...]
    params: dict[str, object]
    front_month: tuple[tuple[str, str], ...]


def schemas(words: Vocabulary) -> dict[str, Schema]:
    """Every schema by the name of its file, ``<name>.schema.json``."""
    made = {
        "receipt": _receipt(),
        "raw_manifest": _raw_manifest(),
        "simulation": _simulation(),
        "execution_truth": _execution_truth(),
        "request": _request(),
        "binance_load": _binance_load(),
        "binance_cursor": _binance_cursor(),
        "bronze_commit": _bronze_commit(),
        "bronze_replacement": _bronze_replacement(),
        "archive": _archive(),
        "bronze_manifest": _bronze_manifest(words),
        "window_commit": _window_commit(),
        "window_checkpoint": _window_checkpoint(),
        "window_day": _window_day(),
        "environment": _environment(),
        "event_receipt": _event_receipt(),
        "dataset_commit": _dataset_commit(),
        "dataset_status": _dataset_status(),
        "dataset_ancestry": _dataset_ancestry(),
        "dataset_rebuild": _dataset_rebuild(),
        "dataset_active": _dataset_active(),
        "backfill": _backfill(),
        "backfill_diff": _backfill_diff(),
        "version_release": _version_release(),
        "version_archive": _version_archive(),
        "version_manifest": _version_manifest(words),
        "version_params": _version_params(words),
        "experiments": _experiments(words),
        "experiment_config": _experiment_config(words),
        "experiment_metrics": _experiment_metrics(words),
        "training_set": _training_set(),
        "training_set_metrics": _training_set_metrics(),
        "training_set_model": _training_set_model(),
        "feature_table": _feature_table(),
        "registry": _registry(words),
        "signals_production": _signals_production(words),
        "pointer": _pointer(),
        "audit": _audit(),
        "run": _run(),
        "job_run": _job_run(),
        "dataset_contract": _dataset_contract(),
        "features": _features(words),
    }
    return {name: {"$schema": DRAFT, **schema} for name, schema in made.items()}


# -- building blocks -------------------------------------------------------------------------------------------------


def _record(**fields: Schema) -> Schema:
    """A closed object: each of its keys must be there, and no other may."""
    return {
        "type": "object",
        "properties": fields,
        "required": [*fields],
        "additionalProperties": False,
    }


def _file(title: str, path: str, schema: Schema) -> Schema:
    return {"title": title, "x-path": f"^{path}$", **schema}


def _pattern(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _enum(*values: str) -> Schema:
    return {"enum": [*values]}


def _list(items: Schema, **more: object) -> Schema:
    return {"type": "array", "items": items, **more}


def _map(values: Schema, keys: Schema | None = None, **more: object) -> Schema:
    """An object whose keys are data."""
    return {
        "type": "object",
        **({"propertyNames": keys} if keys else {}),
        "additionalProperties": values,
        **more,
    }


def _or_null(schema: Schema) -> Schema:
    """Patterns, formats and bounds say nothing of null, so that only type and enum have to let it in."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}


def _when(key: str, value: str, **then: Schema) -> Schema:
    """Further demands on keys of an object whose ``key`` is ``value``."""
    return {
        "if": {"properties": {key: {"const": value}}, "required": [key]},
        "then": {"properties": then},
    }


NULL: Schema = {"type": "null"}
TEXT: Schema = {"type": "string", "minLength": 1}
ANY_TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SOME: Schema = {"type": "integer", "minimum": 1}
RATE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
OBJECT: Schema = {"type": "object"}
DATE: Schema = {"type": "string", "format": "date", "pattern": f"^{_DAY}$"}
INSTANT = _pattern(rf"{_DAY}T\d{{2}}:\d{{2}}:\d{{2}}Z")
# Bounds of spec/market.md 4.1: the years 2000 to 2099.
TS_NS: Schema = {
    "type": "integer",
    "exclusiveMinimum": 946_684_800_000_000_000,
    "exclusiveMaximum": 4_102_444_800_000_000_000,
}
SHA256 = _pattern("[0-9a-f]{64}")
DELIVERY = _pattern("[0-9a-f]{16}")
GIT_COMMIT = _or_null(_pattern("[0-9a-f]{40}"))
SLUG = _pattern("[a-z][a-z0-9_]*")
SEMANTIC_VERSION = _pattern(r"\d+\.\d+\.\d+")
VERSION_FOLDER = _pattern(_VERSION)
RUN_ID = _pattern(_RUN)
BRONZE_SCHEMA = _pattern(r"[a-z]+\.[a-z0-9]+\.v\d+")
BRONZE_PATH = _pattern(rf"[a-z]+/[a-z0-9]+/.+/date={_DAY}/hour=\d{{2}}/part-{_HEX8}-\d{{3}}\.parquet")
REJECT_PATH = _pattern(rf"_rejects/dataset=[a-z0-9_]+/date={_DAY}/part-{_HEX8}-\d{{3}}\.parquet")
HIVE_KEY = _map(TEXT, SLUG, minProperties=1)
HOUR: Schema = {"type": "integer", "minimum": 0, "maximum": 23}
VENDOR_SCHEMA = _enum("trades", "mbp-10", "mbo", "definition", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d")
EXPERIMENT_ID = _pattern(r"exp\d{3,}")
EXPERIMENT = _pattern(r"exp\d{3,}_[a-z0-9]+(_[a-z0-9]+)*")
PARTITION = f"lake/(silver|gold)/.+/date={_DAY}"
# of a partition; with path keys, of a date of all of them
RECORDS = f"lake/(silver|gold)/.+/(date={_DAY}/_metadata|_metadata/date={_DAY})"

# -- raw and bronze --------------------------------------------------------------------------------------------------

_RAW_FILE: dict[str, Schema] = {
    "path": _pattern("raw/.+"),
    "provider": _enum("databento", "polygon"),
    "dataset": _or_null(TEXT),
    "schema": _or_null(VENDOR_SCHEMA),
    "date": _or_null(DATE),
    "bytes": COUNT,
    "sha256": SHA256,
    "record_count": _or_null(COUNT),
    "ts_first_ns": _or_null(TS_NS),
    "ts_last_ns": _or_null(TS_NS),
    "format_version": {"enum": [1, 2, 3, None]},
    "downloaded_at": INSTANT,
    "request_id": _or_null(TEXT),
    "status": _enum("landed", "quarantined", "archived"),
    "reason": _or_null(TEXT),
    "archived_uri": _or_null(TEXT),
    "symbols": _or_null(_map(_map(TEXT, _pattern(r"\d+")), DATE)),
}
# What only a file that couldn't be read may leave unknown.
_KNOWN = {"dataset": TEXT, "schema": VENDOR_SCHEMA, "date": DATE, "record_count": COUNT, "symbols": OBJECT}
_BY_STATUS: Schema = {
    "allOf": [
        _when("status", "landed", reason=NULL, archived_uri=NULL, **_KNOWN),
        _when("status", "archived", reason=NULL, archived_uri=TEXT, **_KNOWN),
        _when("status", "quarantined", reason=TEXT, path=_pattern("raw/_quarantine/.+")),
    ]
}


def _receipt() -> Schema:
    """``record_count`` = accepted + rejected + filtered, where filtered rows are none of ours."""
    reject = _record(path=REJECT_PATH, bytes=SOME, sha256=SHA256, rows=SOME, content_digest=SHA256)
    more = {
        "accepted_count": _or_null(COUNT),
        "rejected_count": _or_null(COUNT),
        "filtered_count": _or_null(COUNT),
        "rejects": _list(reject),
        "delivery_id": DELIVERY,
    }
    schema = {**_record(**_RAW_FILE, **more), **_BY_STATUS}
    return _file("Receipt of one raw file", r"raw/_metadata/receipt-[0-9a-f]{16}\.json", schema)


def _raw_manifest() -> Schema:
    files = _list({**_record(**_RAW_FILE), **_BY_STATUS})
    schema = _record(manifest_version={"const": 1}, generated_at=INSTANT, files=files)
    return _file("Roll-up of the receipts", r"raw/manifest\.json", schema)


def _request() -> Schema:
    window = _record(
        date=DATE,
        record_count=COUNT,
        billable_bytes=COUNT,
        cost_usd={"type": "number", "minimum": 0},
        state=_enum("wanted", "downloaded", "landed", "quarantined"),
        name=_or_null(TEXT),
        bytes=_or_null(COUNT),
        sha256=_or_null(SHA256),
        reason=_or_null(TEXT),
    )
    schema = _record(
        request_version={"const": 1},
        provider=_enum("databento"),
        request_id=_pattern("[0-9a-f]{16}"),
        kind=_enum("batch", "stream"),
        dataset=TEXT,
        schema=VENDOR_SCHEMA,
        symbols=_list(TEXT, minItems=1, uniqueItems=True),
        stype_in=TEXT,
        start=DATE,
        end=DATE,
        state=_enum("ordering", "ordered", "landed", "expired"),
        windows=_list(window, minItems=1),
        ordered_at=_or_null(INSTANT),
        job_id=_or_null(TEXT),
        previous_job_ids=_list(TEXT, uniqueItems=True),
    )
    return _file("One order from a vendor", r"raw/_metadata/request-[0-9a-f]{16}\.json", schema)


def _simulation() -> Schema:
    file = _record(
        path=_pattern("raw/.+"),
        schema=_enum("trades", "mbp-10", "options", "stocks"),
        date=DATE,
        sessions=_list(DATE, minItems=1, uniqueItems=True),
        record_count=COUNT,
        bytes=COUNT,
        sha256=SHA256,
        fault=_or_null(_pattern("[a-z][a-z0-9-]*")),
    )
    schema = _record(
        simulation_version={"const": 2},
        profile=_enum("default", "null", "planted"),
        seed=COUNT,
        scale={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        faults=_map(_or_null(DATE), _pattern("[a-z][a-z0-9-]*")),
        dates=_list(DATE, uniqueItems=True),
        files=_list(file),
    )
    return _file("What the simulator wrote", r"raw/simulation\.json", schema)


def _execution_truth() -> Schema:
    name = _pattern("[a-z0-9-]+")
    schema = _record(
        truth_version={"const": 1},
        settings=_record(
            seed=COUNT,
            clients=SOME,
            days=SOME,
            ops_per_day=SOME,
            symbols=_list(_pattern("[A-Z0-9]{5,20}"), minItems=1, uniqueItems=True),
            start=_pattern(rf"{_DAY}T00:00:00Z"),
            faults=_list(name, uniqueItems=True),
        ),
        counts=_record(
            planted=_map(COUNT, name),
            rows=_map(COUNT, _pattern("[a-z0-9_]+")),
            event_types=_map(SOME, _pattern("[A-Z_]+")),
            statuses=_map(SOME, _pattern("[A-Z]+")),
            anomalies=_map(SOME, _pattern("[A-Z_]+")),
            failed_rules=_map(SOME, _pattern("[A-Z_]+")),
            executions=_map(COUNT, _pattern("[a-z_]+")),
        ),
    )
    return _file("What the simulator of execution planted", r"raw/truth/truth\.json", schema)


_PART: dict[str, Schema] = {
    "path": BRONZE_PATH,
    "bytes": SOME,
    "sha256": SHA256,
    "rows": SOME,
    "content_digest": SHA256,
}


def _binance_load() -> Schema:
    """``record_count`` = accepted + rejected + filtered; counts are null where the file could not be read."""
    gap = _record(key=_map(TEXT, SLUG, minProperties=2), from_ns=TS_NS, to_ns=TS_NS, reason=TEXT)
    moment = _or_null(_pattern(rf"{_DAY}T\d{{2}}:\d{{2}}:\d{{2}}\.\d{{6}}Z"))
    counts = _map(SOME, TEXT)
    schema = _record(
        load_version={"const": 1},
        load_id=_pattern("[0-9a-f]{16}"),
        provider=_enum("binance"),
        dataset=_enum("agg_trades", "klines", "trades"),
        environment=_enum("prod", "testnet"),
        client_id=_or_null(SOME),
        account_type=_or_null(_enum("SPOT", "ISOLATED_MARGIN", "CROSS_MARGIN", "FUTURES")),
        path=_pattern("raw/(binance|_quarantine)/.+"),
        bytes=COUNT,
        sha256=SHA256,
        market=_or_null(_enum("spot", "usdm")),
        record_count=_or_null(COUNT),
        accepted_count=_or_null(COUNT),
        rejected_count=_or_null(COUNT),
        filtered_count=_or_null(COUNT),
        filtered=counts,
        by_rule=counts,
        first_at=moment,
        last_at=moment,
        gap_count=COUNT,
        missing_count=COUNT,
        gaps=_list(gap),
        status=_enum("landed", "quarantined"),
        reason=_or_null(TEXT),
        loaded_at=INSTANT,
        run_id=RUN_ID,
    )
    landed = dict.fromkeys(("record_count", "accepted_count", "rejected_count", "filtered_count"), COUNT)
    states = [_when("status", "landed", reason=NULL, **landed), _when("status", "quarantined", reason=TEXT)]
    path = r"raw/_metadata/load-[0-9a-f]{16}\.json"
    return _file("Receipt of one file of Binance data, as one dataset", path, {**schema, "allOf": states})


def _binance_cursor() -> Schema:
    schema = _record(cursor_version={"const": 1}, last=COUNT)
    return _file("How far the syncs of one symbol came", r"raw/binance/api/.+\.cursor\.json", schema)


# ``contract`` is null where everything of the key is missing.
_GAP: dict[str, Schema] = {
    "key": HIVE_KEY,
    "contract": _or_null(TEXT),
    "from_ns": TS_NS,
    "to_ns": TS_NS,
    "reason": TEXT,
}
_VERDICT: dict[str, Schema] = {
    "key": HIVE_KEY,
    "check": SLUG,
    "value": _or_null(NUMBER),
    "verdict": _enum("ok", "warn", "error"),
}
_BRONZE_STATUS = _enum("complete", "open")
_KNOWN_BEFORE_OPEN = {"session_date", "contract", "selection"}


def _bronze_commit() -> Schema:
    schema = _record(
        record_version={"const": 1},
        schema=BRONZE_SCHEMA,
        schema_version=SOME,
        schema_hash=SHA256,
        date=DATE,
        delivery_id=DELIVERY,
        source=_enum(
            "databento_dbn",
            "polygon_flatfile",
            "massive_ws",
            "polygon_ws",
            "massive_rest",
            "replay",
            "sim",
        ),
        run_id=RUN_ID,
        status=_BRONZE_STATUS,
        gaps=_list(_record(**_GAP)),
        quality=_list(_record(**_VERDICT)),
        # without a file: the date was read and holds nothing
        files=_list(_record(**_PART, key=HIVE_KEY, hour=HOUR, ts_min_ns=TS_NS, ts_max_ns=TS_NS)),
    )
    path = rf"lake/bronze/[a-z]+/[a-z0-9]+/_metadata/date={_DAY}/commit-{_HEX8}\.json"
    return _file("What one delivery added to one date of a bronze dataset", path, schema)


def _bronze_replacement() -> Schema:
    part = _record(path=BRONZE_PATH, delivery_id=DELIVERY, rows=SOME, content_digest=SHA256)
    schema = _record(
        record_version={"const": 1},
        kind=_enum("compacted", "archived"),
        schema=BRONZE_SCHEMA,
        date=DATE,
        key=HIVE_KEY,
        hour=HOUR,
        # below lake/
        path=_pattern(r"(bronze/.+-merged|archive/bronze/.+)\.parquet"),
        bytes=SOME,
        sha256=SHA256,
        rows=SOME,
        ts_min_ns=TS_NS,
        ts_max_ns=TS_NS,
        content_digest=SHA256,
        parts=_list(part, minItems=1),
        made_at=INSTANT,
        run_id=RUN_ID,
    )
    path = rf"lake/bronze/[a-z]+/[a-z0-9]+/_metadata/date={_DAY}/(compact|archive)-{_HEX8}\.json"
    return _file(
        "The file that stands for others of one bronze hour: merged, or in the archive", path, schema
    )


def _archive() -> Schema:
    # owner: the delivery of a bronze file, else empty
    source = _record(file=TEXT, owner=ANY_TEXT, rows=COUNT, content_digest=SHA256)
    partition = _record(
        partition=TEXT,
        date=DATE,
        path=TEXT,
        rows=COUNT,
        bytes=COUNT,
        sha256=SHA256,
        content_hash=SHA256,
        sources=_list(source, minItems=1),
        archived_at=INSTANT,
        run_id=RUN_ID,
    )
    schema = _record(
        archive_version={"const": 1},
        dataset=_pattern("(raw|bronze|silver|gold)/.+"),
        month=_pattern(r"\d{4}-\d{2}"),
        partitions=_list(partition, minItems=1),
    )
    return _file(
        "What one month of one dataset has in the archive",
        r"lake/archive/.+/month=\d{4}-\d{2}/archive\.json",
        schema,
    )


# -- execution bronze: hour windows ----------------------------------------------------------------------------------

WINDOW_DATASET = _enum(*PARTITION_KEYS)
ENVIRONMENT = _enum("prod", "testnet")
_WINDOW_TIME = _pattern(rf"{_DAY}T\d{{2}}:00:00Z")
_OCCURRED_AT = _or_null(_pattern(rf"{_DAY}T\d{{2}}:\d{{2}}:\d{{2}}\.\d{{6}}Z"))
_WINDOW_METADATA = rf"lake/bronze/[a-z_]+/(date={_DAY}/_metadata|_metadata/date={_DAY})"


def _window_part(above: str = "", file: str = r"\d{4,}") -> Schema:
    name = _pattern(rf"{above}([a-z_]+=[^/]+/)*date={_DAY}/part-{file}\.parquet")
    return _record(name=name, rows=SOME, bytes=SOME, sha256=SHA256, content_hash=SHA256)


def _window_commit() -> Schema:
    schema = _record(
        dataset=WINDOW_DATASET,
        environment=ENVIRONMENT,
        window_start=_WINDOW_TIME,
        window_end=_WINDOW_TIME,
        state=_enum("provisional", "sealed", "archived"),
        rows=COUNT,
        min_occurred_at=_OCCURRED_AT,
        max_occurred_at=_OCCURRED_AT,
        schema_version=SOME,
        incomplete=FLAG,
        reject_rows=COUNT,
        content_hash=SHA256,
        parts=_list(_window_part()),
    )
    return _file(
        "Marker of one hour window, or of late rows of one",
        rf"{_WINDOW_METADATA}/commit-\d\d(-s\d{{2,}})?\.json",
        schema,
    )


def _window_checkpoint() -> Schema:
    schema = _record(dates=_list(DATE, uniqueItems=True))
    return _file("Dates of a dataset that have no open window", r"lake/_stage/closed-[a-z_]+\.json", schema)


def _window_day() -> Schema:
    """A part is one of an hour, a merged one, or a copy in the archive, seen from the dataset's folder."""
    above = r"(\.\./\.\./archive/bronze/[a-z_]+/month=\d{4}-\d{2}/)?"
    schema = _record(
        dataset=WINDOW_DATASET,
        environment=ENVIRONMENT,
        date=DATE,
        rows=COUNT,
        schema_version=SOME,
        replaces=_map(SHA256, _pattern(r"commit-\d\d(-s\d{2,})?\.json"), minProperties=1),
        parts=_list(_window_part(above, rf"(\d{{4,}}|{_HEX8}(-merged)?)")),
    )
    return _file(
        "Merged parts of one date, and the markers they stand for",
        rf"{_WINDOW_METADATA}/commit-day\.json",
        schema,
    )


def _environment() -> Schema:
    schema = _record(environment=ENVIRONMENT)
    return _file("The one environment of a lake's execution domain", r"_meta/environment\.json", schema)


def _event_receipt() -> Schema:
    schema = _record(
        receipt_version={"const": 1},
        load_id=_pattern("[0-9a-f]{16}"),
        provider=_enum("ndjson"),
        path=_pattern("raw/.+"),
        bytes=COUNT,
        sha256=SHA256,
        dataset=WINDOW_DATASET,
        environment=ENVIRONMENT,
        start=_or_null(TEXT),
        end=_or_null(TEXT),
        status=_enum("landed", "quarantined"),
        reason=_or_null(TEXT),
        record_count=COUNT,
        accepted_count=COUNT,
        rejected_count=COUNT,
        filtered_count=COUNT,
        by_rule=_map(SOME, _pattern("[A-Z_]+")),
        unknown_columns=_map(SOME),
        loaded_at=INSTANT,
    )
    return _file(
        "Receipt of one file of the execution domain", r"raw/_metadata/events-[0-9a-f]{16}\.json", schema
    )


def _bronze_manifest(words: Vocabulary) -> Schema:
    # where the rows stand now: as landed, merged, or in the archive
    name = rf"part-{_HEX8}(-\d{{3}}|-merged)?\.parquet"
    standing = _pattern(rf"(\.\./archive/bronze/)?[a-z]+/[a-z0-9]+/.+/date={_DAY}/hour=\d{{2}}/{name}")
    partition = _record(
        schema=BRONZE_SCHEMA,
        key=HIVE_KEY,
        date=DATE,
        hour=HOUR,
        files=_list(_record(**{**_PART, "path": standing}, delivery_id=DELIVERY), minItems=1),
        rows=SOME,
        ts_min_ns=TS_NS,
        ts_max_ns=TS_NS,
        source_files=_list(_pattern("raw/.+"), minItems=1, uniqueItems=True),
        run_id=RUN_ID,
        status=_BRONZE_STATUS,
    )
    front_month = _record(
        **{n: _sql(t) if n in _KNOWN_BEFORE_OPEN else _or_null(_sql(t)) for n, t in words.front_month}
    )
    schema = _record(
        manifest_version={"const": 1},
        generated_at=INSTANT,
        schemas=_map(_record(version=SOME, schema_hash=SHA256), BRONZE_SCHEMA),
        partitions=_list(partition),
        contracts=_list(front_month),
        gaps=_list(_record(schema=BRONZE_SCHEMA, date=DATE, **_GAP)),
        quality=_list(_record(schema=BRONZE_SCHEMA, date=DATE, **_VERDICT)),
    )
    return _file("Roll-up of the bronze commit records", r"lake/bronze/manifest\.json", schema)


def _sql(data_type: str) -> Schema:
    return {
        "varchar": TEXT,
        "date": DATE,
        "boolean": FLAG,
        "double": NUMBER,
        "bigint": {"type": "integer"},
        "integer": {"type": "integer"},
    }[data_type]


# -- silver and gold -------------------------------------------------------------------------------------------------


_INPUT = _pattern("(bronze|gaps|silver|gold|seed)/.+")


def _dataset_commit() -> Schema:
    schema = _record(
        dataset=_pattern("(silver|gold)/.+"),
        date=DATE,
        params_digest=_or_null(SHA256),
        rows=COUNT,
        bytes=COUNT,  # 0 of a date without any path key
        content_digest=SHA256,
        build_key=SHA256,
        code_digest=SHA256,
        inputs=_map(SHA256, _INPUT),  # none of a date that no index names any more
        input_digest=SHA256,
        build_digest=_or_null(SHA256),
        built_at=INSTANT,
        run_id=RUN_ID,
        record_version={"const": 1},
        extra=OBJECT,
    )
    place = _record(path=_pattern(r"(\.\./)+archive/.+\.parquet"), sha256=SHA256, content_hash=SHA256)
    file = _record(
        path=_pattern(rf"([a-z_]+=[^/]+/)+date={_DAY}/data-{_HEX8}\.parquet"),
        rows=SOME,
        bytes=SOME,
        content_digest=SHA256,
    )
    file["properties"] = {**file["properties"], "archived": place}
    # The dates that each date of an index reads; and the columns of the path, with the files of a date.
    schema["properties"] |= {
        "indexes": _map(_map(_list(DATE, minItems=1), DATE), SLUG),
        "path_keys": _map(_enum("bigint", "integer", "smallint", "varchar"), SLUG, minProperties=1),
        "files": _list(file),
    }
    schema["dependentRequired"] = {"path_keys": ["files"], "files": ["path_keys"]}
    return _file(
        "What one partition of a dataset holds, and what it was built from",
        rf"{RECORDS}/commit-{_HEX8}\.json",
        schema,
    )


_OK_HAS_NO_ERROR: Schema = {
    "allOf": [_when("status", "ok", error=NULL), _when("status", "failed", error=TEXT)]
}


def _dataset_status() -> Schema:
    schema = {
        **_record(
            status=_enum("ok", "failed"),
            error=_or_null(TEXT),
            tests_digest=_or_null(SHA256),
            run_id=RUN_ID,
        ),
        **_OK_HAS_NO_ERROR,
    }
    return _file("Verdict of the data tests on one commit", rf"{RECORDS}/status-{_HEX8}\.json", schema)


def _dataset_ancestry() -> Schema:
    schema = _record(record_version={"const": 1}, inputs=_map(SHA256, _INPUT, minProperties=1))
    return _file(
        "All that a date of a released version was made from, down to bronze",
        rf"{PARTITION}/_metadata/ancestry\.json",
        schema,
    )


def _dataset_rebuild() -> Schema:
    schema = _record(
        record_version={"const": 1},
        dataset=_pattern("(silver|gold)/.+"),
        date=DATE,
        outcome=_enum("equal", "E_RELEASED_CHANGED", "E_INPUT_CHANGED"),
        message=TEXT,
        columns=_list(TEXT),
        inputs=_list(TEXT),
        recorded_digest=SHA256,
        rebuilt_digest=SHA256,
        build_key=SHA256,
        noticed_at=INSTANT,
        run_id=RUN_ID,
    )
    return _file(
        "What came of computing a released date again",
        rf"{PARTITION}/_metadata/rebuild-{_HEX8}\.json",
        schema,
    )


def _dataset_active() -> Schema:
    schema = _record(
        record_version={"const": 1},
        dataset=_pattern("silver/.+"),
        version=SOME,
        members=_list(_pattern("silver/.+"), minItems=1),
        published=_list(SOME, minItems=1),
        previous=SOME,
        previous_kept_until=DATE,
        swapped_at=INSTANT,
    )
    return _file(
        "Which version of a dataset is read and built on", r"lake/silver/.+/_metadata/active\.json", schema
    )


def _backfill() -> Schema:
    schema = {
        **_record(
            record_version={"const": 1},
            dataset=_pattern(r"silver/.+_v\d+"),
            version=SOME,
            from_version=SOME,
            start=DATE,
            end=DATE,
            state=_enum("building", "complete", "failed"),
            problem=_or_null(TEXT),
            members=_list(_pattern("silver/.+"), minItems=1),
            made_at=INSTANT,
        ),
        "allOf": [_when("state", "complete", problem=NULL), _when("state", "failed", problem=TEXT)],
    }
    return _file(
        "What a sibling version of a dataset was made of, and whether it is whole",
        r"lake/silver/.+_v\d+/_metadata/backfill\.json",
        schema,
    )


def _backfill_diff() -> Schema:
    before_and_after = _list(_or_null(ANY_TEXT), minItems=2, maxItems=2)
    row = _record(
        key=_map(ANY_TEXT, SLUG),
        change=_enum("added", "removed", "changed"),
        columns=_map(before_and_after, SLUG),
    )
    dataset = _record(
        dataset=_pattern("silver/.+"),
        dates_compared=_list(DATE),
        rows_before=COUNT,
        rows_after=COUNT,
        added=COUNT,
        removed=COUNT,
        changed=COUNT,
        columns=_map(SOME, SLUG),
        rows=_list(row),
    )
    whole = {"type": "integer"}
    change = {"before": COUNT, "after": COUNT, "difference": whole}
    money = _pattern(r"-?\d+(\.\d+)?")
    pnl = _record(before=money, after=money, difference=money, null_before=COUNT, null_after=COUNT)
    schema = _record(
        record_version={"const": 1},
        dataset=SLUG,
        from_version=SOME,
        to_version=SOME,
        start=DATE,
        end=DATE,
        made_at=INSTANT,
        datasets=_list(dataset),
        status_transitions=_list(_record(before=_or_null(TEXT), after=_or_null(TEXT), rows=SOME)),
        net_pnl=_or_null(pnl),
        quarantine=_list(_record(rule=TEXT, **change)),
        anomalies=_list(_record(code=TEXT, **change)),
    )
    return _file(
        "What differs between two versions of a dataset", r"lake/silver/.+_v\d+/_metadata/diff\.json", schema
    )


def _version_release() -> Schema:
    # of the params and columns of its own day, so that they are not those of the project now
    part = _record(
        intent=OBJECT,
        param_set=SLUG,
        params=OBJECT,
        params_digest=SHA256,
        code_digest=SHA256,
        build_digest=SHA256,
        files=_map(SHA256, minProperties=1),
    )
    schema = _record(
        record_version={"const": 1},
        version=VERSION_FOLDER,
        released_at=INSTANT,
        datasets=_map(part, _pattern("(silver|gold)/.+"), minProperties=1),
    )
    return _file(
        "What a feature version was when it was released",
        rf"lake/silver/features/{_VERSION}/_metadata/release\.json",
        schema,
    )


def _version_archive() -> Schema:
    schema = _record(
        record_version={"const": 1},
        version=VERSION_FOLDER,
        archived_at=INSTANT,
        path=_pattern(rf"archive/silver/features/{_VERSION}\.tar"),
        bytes=SOME,
        sha256=SHA256,
        files=_map(SHA256, minProperties=1),
        run_id=RUN_ID,
    )
    return _file(
        "Where the dates of an archived feature version stand",
        rf"lake/silver/features/{_VERSION}/_metadata/archive\.json",
        schema,
    )


def _version_manifest(words: Vocabulary) -> Schema:
    column = _enum(*words.columns)
    group = _map(
        _record(columns=_list(column, minItems=1, uniqueItems=True), dependencies=_list(TEXT)),
        _enum(*words.groups),
        minProperties=1,
        maxProperties=1,
    )
    date = _record(
        date=DATE,
        rows=COUNT,
        signals=COUNT,
        input_digest=SHA256,
        content_digest=SHA256,
        built_at=INSTANT,
        status=_enum("ok", "failed"),
        error=_or_null(TEXT),
    )
    schema = _record(
        version=SEMANTIC_VERSION,
        name=SLUG,
        description=TEXT,
        created_at=_or_null(INSTANT),
        created_by=TEXT,
        status=_enum("draft", "released", "archived"),
        parent_version=_or_null(VERSION_FOLDER),
        source=_record(layer={"const": "bronze"}, schemas=_list(_pattern("[a-z]+/[a-z0-9]+"))),
        param_set=SLUG,
        features=_record(groups=_list(group, minItems=1)),
        parameters={**_record(**_params(words)), "required": []},
        validation=_record(
            date_range=_record(start=_or_null(DATE), end=_or_null(DATE)),
            signal_count=COUNT,
            row_count=COUNT,
            feature_count=SOME,
            null_rates=_map(_or_null(RATE), column),
            schema_hash=SHA256,
        ),
        dates=_list({**date, **_OK_HAS_NO_ERROR}),
        digests=_record(params=SHA256, code=SHA256, build=SHA256),
        tags=_list(TEXT, uniqueItems=True),
        notes=ANY_TEXT,
    )
    return _file(
        "A feature version: its intent and the roll-up of its dates",
        rf"lake/silver/features/{_VERSION}/manifest\.yaml",
        schema,
    )


def _version_params(words: Vocabulary) -> Schema:
    engines = ("python", "duckdb", "dbt_core", "dbt_duckdb", "numba", "numpy", "pyarrow")
    schema = _record(
        param_set=SLUG,
        resolved=_record(**_params(words)),
        params_digest=SHA256,
        code=_record(
            git_commit=GIT_COMMIT,
            dirty=_or_null(FLAG),
            code_digest=SHA256,
            files=_map(SHA256, minProperties=1),
        ),
        engines=_record(**dict.fromkeys(engines, TEXT)),
        inputs=_map(SHA256, DATE),
    )
    return _file(
        "Everything that a feature version was resolved to",
        rf"lake/silver/features/{_VERSION}/params\.yaml",
        schema,
    )


def _params(words: Vocabulary) -> dict[str, Schema]:
    """One schema for each key of the default set, of the type that its value has."""
    return {key: _param(key, value) for key, value in words.params.items()}


def _param(key: str, value: object) -> Schema:
    if key in ENUMS:
        return _enum(*sorted(ENUMS[key]))
    if key == "USER_LEVELS":
        level = _record(price_points=NUMBER, from_at=INSTANT, until_at=INSTANT)
        return _list(level, uniqueItems=True)
    if isinstance(value, list):
        items = _enum(*sorted(LEVEL_KINDS)) if key == "level_kinds" else _param(key, value[0])
        return _list(items, minItems=1, uniqueItems=True)
    return {int: {"type": "integer"}, float: NUMBER, str: TEXT}[type(value)]


# -- ml --------------------------------------------------------------------------------------------------------------

_SCORE = _or_null(NUMBER)
_HEAD_METRICS: dict[str, Schema] = {
    "pr_auc": _SCORE,
    "roc_auc": _SCORE,
    "brier": _SCORE,
    "brier_skill": _SCORE,
    "ece": _SCORE,
    "precision_at_k": _SCORE,
    "n_folds": COUNT,
    "ci_low": _SCORE,
    "ci_high": _SCORE,
    "base_rate_brier": _SCORE,
    "base_rate_roc_auc": _SCORE,
}


def _experiments(words: Vocabulary) -> Schema:
    metrics = _record(
        signal_count=COUNT, feature_count=COUNT, date_coverage=COUNT, null_rate_avg=RATE, **_HEAD_METRICS
    )
    entry = _record(
        id=EXPERIMENT_ID,
        version=VERSION_FOLDER,
        created_at=INSTANT,
        status=_enum("running", "completed", "failed", "archived"),
        parent=_or_null(EXPERIMENT_ID),
        param_set=_or_null(SLUG),
        params_digest=_or_null(SHA256),
        build_digest=_or_null(SHA256),
        stage=_or_null(_stages(words)),
        # empty until the experiment is completed
        metrics={**metrics, "required": []},
        model_path=_or_null(_pattern(r"ml/experiments/.+/model\.joblib")),
        model_metrics=_or_null(_map(_record(**_HEAD_METRICS), SLUG)),
        tags=_list(TEXT, uniqueItems=True),
        notes=ANY_TEXT,
    )
    # of one that was compared with a champion
    entry["properties"]["comparison"] = _comparison()
    completed = _when(
        "status",
        "completed",
        param_set=SLUG,
        params_digest=SHA256,
        build_digest=SHA256,
        metrics=metrics,
        model_path=TEXT,
        model_metrics=OBJECT,
    )
    schema = _record(experiments=_list({**entry, **completed}))
    return _file("Every experiment, in order of id", r"lake/silver/features/experiments\.json", schema)


def _stages(words: Vocabulary) -> Schema:
    """One or several stages, with a comma between."""
    one = f"({'|'.join(words.stages)})"
    return _pattern(f"{one}(,{one})*")


def _experiment_config(words: Vocabulary) -> Schema:
    dates = _list(DATE)
    training = _record(
        version=VERSION_FOLDER,
        heads=_list(SLUG, minItems=1, uniqueItems=True),
        stages=_list(_enum(*words.stages), minItems=1, uniqueItems=True),
        features=_or_null(_list(TEXT)),
        seed=COUNT,
        bootstrap_draws=SOME,
        max_rounds=SOME,
        stopping_rounds=SOME,
        boosting=OBJECT,
        ablation=SLUG,
    )
    inputs = _record(
        experiment=EXPERIMENT,
        silver_version=VERSION_FOLDER,
        dataset=_pattern("gold/training/.+"),
        dataset_digest=SHA256,
        feature_schema_hash=SHA256,
        features=_list(TEXT, minItems=1, uniqueItems=True),
        categories=_map(_list({}, uniqueItems=True)),
        training=training,
        code_digest=SHA256,
        engines=_map(TEXT),
    )
    schema = _record(
        inputs=inputs,
        param_set=_or_null(SLUG),
        params_digest=SHA256,
        build_digest=_or_null(SHA256),
        folds=_list(_record(fold=SOME, train=dates, inner=dates, test=dates)),
        final=_record(train=dates, inner=dates, holdout=dates),
        notes=ANY_TEXT,
    )
    return _file("Everything needed to repeat an experiment", r"ml/experiments/exp[^/]+/config\.yaml", schema)


def _experiment_metrics(words: Vocabulary) -> Schema:
    stage, reason = _enum(*words.stages), _or_null(TEXT)
    result = _record(
        stage=stage,
        head=SLUG,
        rows=COUNT,
        positives=COUNT,
        folds=_list(OBJECT),
        skipped=reason,
        importance_gain=_list(_record(feature=TEXT, share=RATE)),
        contributions=_list(_record(feature=TEXT, share=RATE)),
        calibration=_or_null(_record(slope=NUMBER, intercept=NUMBER)),
        mean=_or_null(OBJECT),
        pooled=_or_null(OBJECT),
        holdout=_or_null(OBJECT),
        final_skipped=reason,
    )
    fold = {"anyOf": [SOME, {"const": "final"}]}
    use = {"use_knn": FLAG, "use_gate": FLAG, "sessions": COUNT}
    scaler = _record(slope=NUMBER, intercept=NUMBER)
    chosen = _record(
        stage=stage,
        **use,
        why=reason,
        against_trees=_map(_verdict(), _pattern("knn|gate|both")),
        folds=_list(_record(fold=SOME, **use)),
        calibration=_or_null(_record(tradeable_2=scaler, direction=scaler)),
    )
    schema = _record(
        experiment=EXPERIMENT,
        dataset_digest=SHA256,
        silver_version=VERSION_FOLDER,
        ablation=SLUG,
        sessions=SOME,
        first_session=DATE,
        last_session=DATE,
        n_folds=COUNT,
        insufficient_folds=FLAG,
        test_sessions=COUNT,
        holdout=_list(DATE),
        rows=SOME,
        signal_count=SOME,
        feature_count=SOME,
        null_rate_avg=RATE,
        skipped=_list(_record(stage=stage, head=SLUG, fold=fold, reason=TEXT)),
        results=_list(result, minItems=1),
        components=_list(chosen, minItems=1),
        artifact=_record(path=_pattern(r"ml/experiments/.+/model\.joblib"), sha256=SHA256, bytes=SOME),
    )
    return _file("Scores of an experiment", r"ml/experiments/exp[^/]+/metrics\.json", schema)


_SET_PATH = r"(stop_outcome|slippage_prediction)/v\d+\.\d+\.\d+"
_SET_VERSION = _pattern(r"v\d+\.\d+\.\d+")
_SET_TIME = _pattern(rf"{_DAY}T\d{{2}}:\d{{2}}:\d{{2}}\.\d{{6}}Z")


def _training_set() -> Schema:
    label = _record(name=SLUG, type=TEXT, definition=TEXT, threshold=_or_null(NUMBER))
    feature = _record(
        name=SLUG,
        dtype=TEXT,
        unit=_or_null(TEXT),
        nullable=FLAG,
        description=TEXT,
        formula_id=TEXT,
        lookback_sec=_or_null(COUNT),
        source_tables=_list(TEXT, minItems=1, uniqueItems=True),
        imputation=TEXT,
        valid_range=_or_null(_list(_or_null(NUMBER), minItems=2, maxItems=2)),
    )
    fold = _record(train_end=_SET_TIME, test_start=_SET_TIME, test_end=_SET_TIME)
    classes = _record(true=COUNT, false=COUNT, null=COUNT)
    distribution = ("mean", "std", "min", "p1", "p50", "p99", "max")
    stats = _record(count=COUNT, null_share=RATE, **dict.fromkeys(distribution, _or_null(NUMBER)))
    part = _record(
        path=_pattern(rf"(train|test)/date={_DAY}/data\.parquet"),
        rows=SOME,
        sha256=SHA256,
        content_hash=SHA256,
    )
    schema = _record(
        dataset=_enum("stop_outcome", "slippage_prediction"),
        version=_SET_VERSION,
        parent_version=_or_null(_SET_VERSION),
        change_note=TEXT,
        grain=TEXT,
        target=SLUG,
        labels=_list(label, minItems=1),
        features=_list(feature, minItems=1),
        entity_keys=_list(SLUG, minItems=1, uniqueItems=True),
        event_time_column=SLUG,
        split=_record(
            policy={"const": "temporal"},
            split_at=_SET_TIME,
            embargo_sec=COUNT,
            validation_from=_SET_TIME,
            folds=_list(fold),
        ),
        rows=_record(train=SOME, test=SOME, by_label=_record(train=classes, test=classes)),
        label_rate=_record(train=_or_null(RATE), test=_or_null(RATE)),
        train_stats=_map(stats, SLUG),
        excluded=_map(COUNT, _pattern("[A-Z_]+")),
        parameters=_record(breach_threshold_pct=NUMBER, label_horizon_sec=SOME, data_through=_WINDOW_TIME),
        inputs=_list(_record(relation=TEXT, content_hash=SHA256), minItems=1),
        code_commit=GIT_COMMIT,
        engine=_record(name=TEXT, version=TEXT),
        parts=_list(part, minItems=2),
        dataset_hash=SHA256,
        created_at=INSTANT,
    )
    return _file(
        "One published version of a training set",
        rf"lake/gold/training_sets/{_SET_PATH}/features\.json",
        schema,
    )


def _feature_table() -> Schema:
    feature = _record(
        name=SLUG,
        dtype=TEXT,
        unit=TEXT,
        ttl_sec=SOME,
        default_policy=_enum("none"),
        owner=TEXT,
        formula_id=TEXT,
    )
    version = _record(version=SEMANTIC_VERSION, schema_hash=SHA256, features=_list(feature, minItems=1))
    share = _record(version=SEMANTIC_VERSION, share=RATE)
    schema = _record(
        name=SLUG,
        active_version=SEMANTIC_VERSION,
        versions=_list(version, minItems=1),
        entity_keys=_list(SLUG, minItems=1, uniqueItems=True),
        offline_table=_pattern(r"gold\.features_[a-z_]+"),
        refresh_schedule=_list(_enum("bronze-ingest", "silver-transform"), minItems=1, uniqueItems=True),
        last_refresh=_or_null(INSTANT),
        row_count=COUNT,
        sha256=SHA256,
        experiment=_or_null(_record(name=TEXT, arms=_list(share, minItems=2))),
    )
    return _file(
        "What a table of online features says of itself", r"lake/gold/features/[a-z_]+/metadata\.json", schema
    )


def _verdict() -> Schema:
    """One paired comparison: of the Brier score of p_tradeable_2, and of the log loss of three classes."""
    difference = _record(loss=SLUG, mean=NUMBER, low=_or_null(NUMBER), high=_or_null(NUMBER))
    return _record(wins=FLAG, holds=FLAG, told=TEXT, primary=difference, secondary=difference)


def _comparison() -> Schema:
    """A verdict with whom it was against, and when."""
    verdict = _verdict()
    return _record(against=SLUG, at=INSTANT, **verdict["properties"])


# -- promotion -------------------------------------------------------------------------------------------------------


def _registry(words: Vocabulary) -> Schema:
    stage = _enum(*words.stages)
    file = _record(path=_pattern(r"ml/.+\.joblib"), sha256=SHA256, bytes=SOME)
    scaler = _record(slope=NUMBER, intercept=NUMBER)
    components = _record(
        use_knn=FLAG, use_gate=FLAG, calibration=_or_null(_record(tradeable_2=scaler, direction=scaler))
    )
    model = _record(
        model_id=SLUG,
        experiment_id=EXPERIMENT,
        head=SLUG,
        stage=stage,
        ablation=SLUG,
        horizon=_or_null(SOME),
        algo=SLUG,
        params=OBJECT,
        features=_list(TEXT, minItems=1, uniqueItems=True),
        feature_schema_hash=SHA256,
        silver_version=VERSION_FOLDER,
        build_digest=_or_null(SHA256),
        # of a challenger that never served there is no table yet, and the digest is that of the candidates
        dataset_version=_or_null(SOME),
        dataset_digest=SHA256,
        train_dates=_list(DATE),
        test_dates=_list(DATE),
        metrics_per_fold=_list(OBJECT),
        metrics_mean=_or_null(OBJECT),
        ci=_or_null(OBJECT),
        base_rates=_or_null(OBJECT),
        calibration=_or_null(OBJECT),
        components=_or_null(components),
        null_check=_or_null(OBJECT),
        artifact=file,
        production=file,
        git_commit=GIT_COMMIT,
        created_at=INSTANT,
        status=_enum("candidate", "production", "archived"),
        comparison=_or_null(_comparison()),
    )
    dataset = {"dataset_version": SOME, "content_digest": SHA256, "manifest_sha256": SHA256}
    served = _map(SLUG, SLUG)
    promotion = _record(
        **dataset,
        retrieval=file,
        stages=_list(stage, minItems=1),
        features=_list(TEXT, minItems=1),
        experiment=EXPERIMENT,
        artifact_sha256=SHA256,
        champions=served,
        at=INSTANT,
        notes=ANY_TEXT,
    )
    history = _record(
        at=INSTANT,
        alias=_pattern("(champion|challenger)/[a-z0-9_]+"),
        to=_or_null(SLUG),
        reason=TEXT,
        **{"from": _or_null(SLUG)},
    )
    schema = _record(
        registry_version={"const": 1},
        updated_at=_or_null(INSTANT),
        models=_list(model),
        aliases=_record(champion=served, challenger=served),
        dataset=_or_null(_record(**dataset)),
        promotions=_list(promotion),
        history=_list(history),
    )
    return _file("The models that serve and served: the switch of a promotion", r"ml/registry\.json", schema)


def _signals_production(words: Vocabulary) -> Schema:
    schema = _record(
        dataset_name={"const": "signals_production"},
        dataset_version=SOME,
        silver_version=VERSION_FOLDER,
        build_digest=_or_null(SHA256),
        params_digest=SHA256,
        content_digest=SHA256,
        created_at=INSTANT,
        experiment_id=EXPERIMENT,
        signal_count=SOME,
        row_count=SOME,
        feature_count=SOME,
        date_range=_list(DATE, minItems=2, maxItems=2),
        dates=_list(DATE, minItems=1, uniqueItems=True),
        label_distribution=_map(_map(COUNT, _enum("BREAK", "BOUNCE", "CHOP")), _enum(*words.stages)),
        null_rates=_map(RATE),
        gates=_list(_record(name=SLUG, value=TEXT, verdict={"const": "passed"}), minItems=1),
        previous_version=_or_null(SOME),
        notes=ANY_TEXT,
    )
    path = r"lake/gold/training/(versions/signals_production/v=\d+/)?manifest\.yaml"
    return _file("What a promoted training table holds, and the gates it passed", path, schema)


def _pointer() -> Schema:
    schema = _record(
        dataset_version=SOME,
        content_digest=SHA256,
        switched_at=INSTANT,
        switched_by=TEXT,
        previous=_or_null(SOME),
    )
    return _file("Which promoted training table serves", r"lake/gold/training/pointer\.json", schema)


def _audit() -> Schema:
    schema = _record(
        version=VERSION_FOLDER,
        build_digest=SHA256,
        passed=FLAG,
        told=TEXT,
        session_date=DATE,
        asof_ns=TS_NS,
        rows=COUNT,
        audited_at=INSTANT,
    )
    path = rf"lake/silver/features/[^/]+/_metadata/audit-{_HEX8}\.json"
    return _file("What became of a version's rows when all that came later was taken away", path, schema)


def _training_set_metrics() -> Schema:
    contribution = _record(feature=SLUG, mean_abs=NUMBER)
    schema = _record(
        name=_enum("stop_outcome", "slippage_prediction"),
        version=_SET_VERSION,
        dataset_hash=SHA256,
        config=OBJECT,
        engines=_map(TEXT),
        rows=_record(train=SOME, test=SOME, test_days=SOME),
        rounds=_map(COUNT),
        # by target: of a classifier scores by predictor, of numbers a list by loss
        scores=_map({"type": ["object", "array"]}, SLUG, minProperties=1),
        walk_forward=_map(_or_null(OBJECT), SLUG),
        calibration=_map(_or_null(OBJECT), SLUG),
        contributions=_map(_list(contribution), SLUG),
        remarks=_list(TEXT),
        model=_record(path=_pattern(rf"lake/gold/models/{_SET_PATH}/model\.json"), sha256=SHA256, bytes=SOME),
    )
    return _file(
        "Scores of a model of a training set", rf"lake/gold/models/{_SET_PATH}/metrics\.json", schema
    )


def _training_set_model() -> Schema:
    schema = _record(
        format_version={"const": 1},
        name=_enum("stop_outcome", "slippage_prediction"),
        version=_SET_VERSION,
        dataset_hash=SHA256,
        features=_list(SLUG, minItems=1, uniqueItems=True),
        categories=_map(_list(TEXT, uniqueItems=True), SLUG),
        boosters=_map(TEXT, minProperties=1),
        calibration=_map(_record(slope=NUMBER, intercept=NUMBER), SLUG),
    )
    return _file("A model of a training set", rf"lake/gold/models/{_SET_PATH}/model\.json", schema)


# -- runs and contracts ----------------------------------------------------------------------------------------------


def _run() -> Schema:
    schema = _record(
        run_id=RUN_ID,
        mode=SLUG,
        started_at=INSTANT,
        finished_at=INSTANT,
        tickhouse_version=SEMANTIC_VERSION,
        git_commit=GIT_COMMIT,
        config=OBJECT,
        config_digest=SHA256,
        counts=_map(COUNT, SLUG),
        status=_enum("ok", "failed"),
    )
    return _file("What one call did", rf"_meta/runs/(?!\w+_job_){_RUN}\.json", schema)


def _job_run() -> Schema:
    duration = {"type": "number", "minimum": 0}
    digests = _map(SHA256, _pattern(r"[a-z]+(/[A-Za-z0-9_.=]+)*"))
    step = _record(
        command=TEXT,
        attempts=SOME,
        exit_code=_or_null({"type": "integer"}),
        duration_s=duration,
        status=_enum("ok", "incomplete", "failed", "timed out"),
    )
    schema = _record(
        run_id=_pattern(r"\d{8}T\d{6}Z_job_[0-9a-f]{6}"),
        job=_pattern("[a-z][a-z0-9-]*"),
        status=_enum("running", "ok", "incomplete", "failed", "timed out"),
        started_at=INSTANT,
        finished_at=_or_null(INSTANT),
        duration_s=_or_null(duration),
        tickhouse_version=SEMANTIC_VERSION,
        git_commit=GIT_COMMIT,
        inputs=digests,
        outputs=digests,
        steps=_list(step),
    )
    return _file("What one run of a job did", r"_meta/runs/\d{8}T\d{6}Z_job_[0-9a-f]{6}\.json", schema)


def _dataset_contract() -> Schema:
    names = _list(TEXT, uniqueItems=True)
    column = _record(
        name=_pattern("[a-z_][a-z0-9_]*"),
        type=_pattern("[a-z].*"),
        nullable=FLAG,
        description=TEXT,
        unit=_or_null(TEXT),
        accepted_values=_or_null(_list({"type": ["string", "integer"]}, minItems=1, uniqueItems=True)),
    )
    test = _record(column=_or_null(TEXT), test=SLUG, arguments=OBJECT, severity=_enum("error", "warn"))
    schema = _record(
        name=_pattern(r"(bronze|silver|gold)\.[a-z][a-z0-9_]*"),
        version=_pattern(r"[1-9]\d*\.\d+"),
        owner=SLUG,
        description=TEXT,
        path=_or_null(_pattern("lake/(bronze|silver|gold)/.+")),
        grain={**names, "minItems": 1},
        key={**names, "minItems": 1},
        partition=names,
        columns=_list(column, minItems=1),
        tests=_list(test),
        sla=_map({"type": "number", "minimum": 0}, SLUG, minProperties=1),
    )
    # Below the project, not below the data root.
    path = r"contracts/(bronze|silver|gold)/[a-z][a-z0-9_]*/v\d+(\.\d+)?\.json"
    return _file("What a dataset promises its readers", path, schema)


def _features(words: Vocabulary) -> Schema:
    column = _record(
        name=SLUG,
        dtype=_pattern(r"[a-z]+(\(\d+(,\d+)?\))?"),
        unit=_or_null(TEXT),
        nullable=FLAG,
        domain=_or_null(_list({"type": ["string", "integer"]}, minItems=1, uniqueItems=True)),
        role=_enum("id", "feature", "reference", "label"),
        group=_enum("identity", *words.groups, "labels"),
    )
    schema = _map(_record(version=SEMANTIC_VERSION, columns=_list(column, minItems=1)), VERSION_FOLDER)
    # Below the project, not below the data root.
    return _file("The columns of every feature version", r"contracts/features\.json", schema)
