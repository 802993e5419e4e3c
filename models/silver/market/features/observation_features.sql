with

points as (

    select * from {{ ref('observation_points') }}

),

geometry as (

    select * from {{ ref('feat_touch_geometry') }}

),

barrier as (

    select * from {{ ref('feat_touch_barrier') }}

),

tape as (

    select * from {{ ref('feat_touch_tape') }}

),

fuel as (

    select * from {{ ref('feat_touch_fuel') }}

),

dealer_velocity as (

    select * from {{ ref('feat_touch_dealer_velocity') }}

),

walls as (

    select * from {{ ref('feat_touch_walls') }}

),

ofi as (

    select * from {{ ref('feat_touch_ofi') }}

),

kinematics as (

    select * from {{ ref('feat_touch_kinematics') }}

),

mean_reversion as (

    select * from {{ ref('feat_touch_mean_reversion') }}

),

confluence as (

    select * from {{ ref('feat_touch_confluence') }}

),

approach as (

    select * from {{ ref('feat_touch_approach') }}

),

attempts as (

    select * from {{ ref('feat_touch_attempts') }}

),

context as (

    select * from {{ ref('feat_touch_context') }}

),

pressures as (

    select * from {{ ref('feat_touch_pressures') }}

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
    -- what used nothing says NULL, which greatest() skips; the spot is always there
    greatest(
        points.spot_ts_ns,
        points.ratio_ts_ns,
        geometry.geometry_max_input_ts_ns,
        barrier.barrier_max_input_ts_ns,
        tape.tape_max_input_ts_ns,
        fuel.fuel_max_input_ts_ns,
        dealer_velocity.dealer_velocity_max_input_ts_ns,
        walls.walls_max_input_ts_ns,
        ofi.ofi_max_input_ts_ns,
        kinematics.kinematics_max_input_ts_ns,
        mean_reversion.mean_reversion_max_input_ts_ns,
        confluence.confluence_max_input_ts_ns,
        approach.approach_max_input_ts_ns,
        attempts.attempts_max_input_ts_ns,
        context.context_max_input_ts_ns,
        pressures.pressures_max_input_ts_ns
    ) as max_input_ts_ns,
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

    -- level ref: stored, never a model input
    points.level_kind,
    points.level_tick,
    points.level_price,
    points.spot_tick * cast(0.25 as double) as spot,
    points.es_spy_ratio,
    points.ratio_source,

    -- geometry
    geometry.distance_signed,
    geometry.distance_pct,
    geometry.distance_atr,
    geometry.distance_signed_atr,
    geometry.atr,

    -- barrier physics
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

    -- tape physics
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

    -- fuel physics
    fuel.gamma_exposure,
    fuel.gamma_exposure_wg,
    fuel.gamma_exposure_5m,
    fuel.gamma_exposure_20m,
    fuel.fuel_effect,
    fuel.gamma_bucket,
    fuel.dealer_pressure,

    -- dealer velocity
    dealer_velocity.gamma_flow_velocity,
    dealer_velocity.gamma_flow_accel_1m,
    dealer_velocity.gamma_flow_accel_3m,
    dealer_velocity.gamma_flow_impulse,
    dealer_velocity.dealer_pressure_accel,

    -- walls: stored, never a model input
    walls.wall_short_call,
    walls.wall_short_put,
    walls.wall_long_call,
    walls.wall_long_put,
    walls.hvl,

    -- ofi
    ofi.ofi_30s,
    ofi.ofi_60s,
    ofi.ofi_120s,
    ofi.ofi_300s,
    ofi.ofi_l1_30s,
    ofi.ofi_l1_60s,
    ofi.ofi_l1_120s,
    ofi.ofi_l1_300s,
    ofi.ofi_near_level_30s,
    ofi.ofi_near_level_60s,
    ofi.ofi_near_level_120s,
    ofi.ofi_near_level_300s,
    ofi.ofi_acceleration,

    -- kinematics
    kinematics.velocity_1min,
    kinematics.velocity_3min,
    kinematics.velocity_5min,
    kinematics.velocity_10min,
    kinematics.velocity_20min,
    kinematics.acceleration_1min,
    kinematics.acceleration_3min,
    kinematics.acceleration_5min,
    kinematics.acceleration_10min,
    kinematics.acceleration_20min,
    kinematics.jerk_1min,
    kinematics.jerk_3min,
    kinematics.jerk_5min,
    kinematics.jerk_10min,
    kinematics.jerk_20min,
    kinematics.momentum_trend_3min,
    kinematics.momentum_trend_5min,
    kinematics.momentum_trend_10min,
    kinematics.momentum_trend_20min,

    -- mean reversion
    mean_reversion.sma_200,
    mean_reversion.sma_400,
    mean_reversion.dist_to_sma_200,
    mean_reversion.dist_to_sma_400,
    mean_reversion.dist_to_sma_200_atr,
    mean_reversion.dist_to_sma_400_atr,
    mean_reversion.sma_200_slope,
    mean_reversion.sma_400_slope,
    mean_reversion.sma_200_slope_5bar,
    mean_reversion.sma_400_slope_5bar,
    mean_reversion.sma_spread,
    mean_reversion.mean_reversion_pressure_200,
    mean_reversion.mean_reversion_pressure_400,
    mean_reversion.mean_reversion_velocity_200,
    mean_reversion.mean_reversion_velocity_400,

    -- confluence
    confluence.confluence_count,
    confluence.confluence_weighted_score,
    confluence.confluence_pressure,
    confluence.confluence_min_distance,
    confluence.confluence_min_distance_atr,
    confluence.confluence_alignment,
    confluence.confluence_level,
    confluence.breakout_state,
    confluence.gex_alignment,
    confluence.rel_vol_ratio,
    confluence.level_stacking_2pt,
    confluence.level_stacking_5pt,
    confluence.level_stacking_10pt,

    -- approach context
    approach.approach_velocity,
    approach.approach_bars,
    approach.approach_distance,
    approach.approach_distance_atr,
    attempts.prior_touches,
    attempts.attempt_index,
    attempts.barrier_replenishment_trend,
    attempts.barrier_delta_liq_trend,
    attempts.tape_velocity_trend,
    attempts.tape_imbalance_trend,
    context.minutes_since_open,
    context.is_first_15m,
    context.dist_to_pm_high,
    context.dist_to_pm_low,
    context.dist_to_or_high,
    context.dist_to_or_low,
    context.dist_to_pm_high_atr,
    context.dist_to_pm_low_atr,

    -- pressure indicators
    pressures.liquidity_pressure,
    pressures.tape_pressure,
    pressures.gamma_pressure,
    pressures.gamma_pressure_accel,
    pressures.reversion_pressure,
    pressures.net_break_pressure
from points
inner join geometry on points.observation_id = geometry.observation_id
inner join barrier on points.observation_id = barrier.observation_id
inner join tape on points.observation_id = tape.observation_id
inner join fuel on points.observation_id = fuel.observation_id
inner join dealer_velocity on points.observation_id = dealer_velocity.observation_id
inner join walls on points.observation_id = walls.observation_id
inner join ofi on points.observation_id = ofi.observation_id
inner join kinematics on points.observation_id = kinematics.observation_id
inner join mean_reversion on points.observation_id = mean_reversion.observation_id
inner join confluence on points.observation_id = confluence.observation_id
inner join approach on points.observation_id = approach.observation_id
inner join attempts on points.observation_id = attempts.observation_id
inner join context on points.observation_id = context.observation_id
inner join pressures on points.observation_id = pressures.observation_id
