with

points as (

    select * from {{ ref('observation_points') }}

),

barrier as (

    select * from {{ ref('feat_touch_barrier') }}

),

tape as (

    select * from {{ ref('feat_touch_tape') }}

)

select
    -- identity
    points.observation_id,
    points.event_id,
    points.session_date,
    points.stage,
    points.ts_ns,
    points.anchor_ns,
    points.asof_ns,
    greatest(points.spot_ts_ns, barrier.barrier_max_input_ts_ns, tape.tape_max_input_ts_ns)
        as max_input_ts_ns,
    points.contract,
    points.level_id,
    points.attempt_cluster_id,
    points.universe_version,
    points.params_digest,

    -- level
    points.level_kind_name,
    points.direction,
    points.direction_sign,
    abs(points.level_tick - points.spot_tick) * cast(0.25 as double) as distance,

    -- reference: stored, never a model input
    points.level_kind,
    points.level_tick,
    points.level_price,
    points.spot_tick * cast(0.25 as double) as spot,
    points.es_spy_ratio,
    points.ratio_source,

    -- barrier
    barrier.barrier_state,
    barrier.barrier_delta_liq,
    barrier.barrier_added,
    barrier.barrier_canceled,
    barrier.barrier_filled,
    barrier.barrier_churn,
    barrier.barrier_depth_in_zone,
    barrier.barrier_delta_liq_log,
    barrier.barrier_replenishment_ratio,
    barrier.wall_ratio,
    barrier.wall_ratio_log,
    barrier.barrier_zone_visible_frac,
    barrier.barrier_observable,

    -- barrier evolution
    barrier.barrier_delta_1min,
    barrier.barrier_delta_3min,
    barrier.barrier_delta_5min,
    barrier.barrier_pct_change_1min,
    barrier.barrier_pct_change_3min,
    barrier.barrier_pct_change_5min,

    -- tape
    tape.tape_imbalance,
    tape.tape_velocity,
    tape.tape_price_slope_3s,
    tape.tape_price_slope_15s,
    tape.tape_price_slope_60s,
    tape.tape_trade_rate_3s,
    tape.tape_trade_rate_15s,
    tape.tape_trade_rate_60s,
    tape.tape_buy_vol,
    tape.tape_sell_vol,
    tape.sweep_detected,
    tape.sweep_direction,
    tape.sweep_contracts,
    tape.sweep_notional,

    -- fuel: no option trade is landed, so each column is NULL or UNKNOWN by its own rule
    cast(null as double) as gamma_exposure,
    cast(null as double) as gamma_exposure_wg,
    cast(null as double) as gamma_exposure_5m,
    cast(null as double) as gamma_exposure_20m,
    'UNKNOWN' as fuel_effect,
    'UNKNOWN' as gamma_bucket,
    cast(null as double) as dealer_pressure,

    -- dealer velocity
    cast(null as double) as gamma_flow_velocity,
    cast(null as double) as gamma_flow_impulse,
    cast(null as double) as gamma_flow_accel_1m,
    cast(null as double) as gamma_flow_accel_3m,
    cast(null as double) as dealer_pressure_accel,

    -- pressures
    (
        tanh(-barrier.barrier_delta_liq / cast({{ param('DELTA_LIQ_NORM') }} as double))
        + {{ clip('1 - barrier.wall_ratio / ' ~ param('WALL_RATIO_NORM')) }}
    ) / 2 as liquidity_pressure,
    points.direction_sign
    * (tape.tape_imbalance + {{ clip('tape.tape_velocity / ' ~ param('VELOCITY_NORM')) }})
    / 2 as tape_pressure,
    cast(null as double) as gamma_pressure,
    cast(null as double) as gamma_pressure_accel
from points
inner join barrier on points.observation_id = barrier.observation_id
inner join tape on points.observation_id = tape.observation_id
