"""Every change of displayed size of the front contract's book.

Grain: ts_event_ns, sequence, ordinal, side, tick. Maths: physics.book.
"""

import json

import pyarrow as pa

from physics.book import BOOK_COLUMNS, TAPE_SCHEMA, book_tape
from physics.order import interleave, unfilled


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    known = json.loads(session.sql("select getvariable('known_futures_mbp10')").fetchone()[0])
    day = dbt.ref("dim_session").to_arrow_table().to_pylist()[0]
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    book = dbt.ref("stg_futures__mbp10").filter(
        f"contract = '{front[0] if front else ''}' "
        f"and ts_event_ns >= {day['globex_open_ns']} and ts_event_ns < {day['globex_close_ns']}"
    )
    columns = ", ".join(BOOK_COLUMNS)
    # Hours of several deliveries were merged apart and stand outside the stream's order: few rows, sorted here.
    shared = (
        book.filter("is_shared_hour")
        .project(columns)
        .order("ts_event_ns, sequence, ordinal")
        .to_arrow_table()
    )
    stream = book.filter("not is_shared_hour").project(columns).to_arrow_reader(65_536)
    records = interleave(stream, shared)
    gaps = unfilled(known["gaps"], front[0] if front else None, shared)
    missing = {"gaps": gaps, "f_last_absent": known["f_last_absent"]}
    return pa.RecordBatchReader.from_batches(
        TAPE_SCHEMA, book_tape(records, gap_s=params["GAP_S"], **missing)
    )
