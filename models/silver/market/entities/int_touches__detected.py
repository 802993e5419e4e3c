"""Touches of levels by front trades, in event hours. Grain: ts_ns, level_kind, level_id. Maths: physics.touches."""

import json

from physics.touches import detect

SECOND_NS = 1_000_000_000
LAST_CONFIRMATION_S = 480  # of the definition of a touch, whatever windows a param set has (spec, 5.5)
BANDS = ("MONITOR_BAND", "TOUCH_BAND", "HYSTERESIS", "REARM_S")


def model(dbt, session):
    dbt.config(materialized="dataset")
    params = json.loads(session.sql("select getvariable('p_params')").fetchone()[0])
    day = dbt.ref("dim_session").to_arrow_table().to_pylist()[0]
    front = dbt.ref("dim_front_month").project("contract").fetchone()
    ratios = dbt.ref("dim_es_spy_ratio").order("asof_ns").to_arrow_table()

    # A touch is emitted where the longest confirmation and its outcome window still fit into event hours.
    whole = params["event_hours"] == "all"
    emit_from_ns, end_ns = (
        (day["globex_open_ns"], day["globex_close_ns"])
        if whole
        else (day["rth_open_ns"], day["rth_close_ns"])
    )
    emit_until_ns = end_ns - (LAST_CONFIRMATION_S + params["LOOKFORWARD_MINUTES"] * 60) * SECOND_NS
    if day["is_holiday"] and not whole:
        emit_until_ns = emit_from_ns

    return detect(
        dbt.ref("levels").to_arrow_table(),
        dbt.ref("stg_futures__trades").filter(f"contract = '{front[0] if front else ''}'").to_arrow_table(),
        **{name: params[name] for name in BANDS},
        emit_from_ns=emit_from_ns,
        emit_until_ns=emit_until_ns,
        es_spy_ratio=ratios["es_spy_ratio"].to_numpy(),
        ratio_from_ns=ratios["asof_ns"].to_numpy(),
    )
