with

features as (

    select * from {{ ref('observation_features') }}

)

select
    -- identity
    observation_id,
    event_id,
    session_date,
    stage,
    ts_ns,
    anchor_ns,
    asof_ns,
    max_input_ts_ns,
    contract,
    level_id,
    attempt_cluster_id,
    universe_version,
    params_digest,

    -- level
    level_kind_name,
    direction,
    direction_sign,
    distance,

    -- the features of the version, in its order
    barrier_state,
    barrier_delta_liq,
    barrier_replenishment_ratio,
    wall_ratio,
    tape_imbalance,
    tape_velocity,
    sweep_detected,
    gamma_exposure,
    fuel_effect,
    dealer_pressure,
    barrier_delta_liq_log,
    wall_ratio_log,
    barrier_added,
    barrier_canceled,
    barrier_filled,
    barrier_churn,
    barrier_depth_in_zone,
    barrier_zone_visible_frac,
    barrier_observable,
    tape_buy_vol,
    tape_sell_vol,
    tape_price_slope_3s,
    tape_price_slope_15s,
    tape_trade_rate_3s,
    tape_trade_rate_15s,
    tape_trade_rate_60s,
    sweep_direction,
    sweep_contracts,
    gamma_exposure_wg,
    gamma_exposure_20m,
    gamma_bucket,
    gamma_flow_velocity,
    gamma_flow_impulse,
    gamma_flow_accel_1m,
    gamma_flow_accel_3m,
    dealer_pressure_accel,
    liquidity_pressure,
    tape_pressure,
    gamma_pressure,
    gamma_pressure_accel
from features
