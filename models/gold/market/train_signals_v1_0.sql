with

features as (

    select * from {{ ref('touch_features', v='1_0') }}

),

labels as (

    select * from {{ ref('labels') }}

),

front as (

    select * from {{ ref('dim_front_month') }}

)

select
    -- identity
    features.observation_id,
    features.event_id,
    features.session_date,
    features.stage,
    features.ts_ns,
    features.anchor_ns,
    features.asof_ns,
    features.max_input_ts_ns,
    features.contract,
    features.level_id,
    features.attempt_cluster_id,
    features.universe_version,
    features.params_digest,

    -- level
    features.level_kind_name,
    features.direction,
    features.direction_sign,
    features.distance,

    -- the features of the version, in its order
    features.barrier_state,
    features.barrier_delta_liq,
    features.barrier_replenishment_ratio,
    features.wall_ratio,
    features.tape_imbalance,
    features.tape_velocity,
    features.sweep_detected,
    features.gamma_exposure,
    features.fuel_effect,
    features.dealer_pressure,
    features.barrier_delta_liq_log,
    features.wall_ratio_log,
    features.barrier_added,
    features.barrier_canceled,
    features.barrier_filled,
    features.barrier_churn,
    features.barrier_depth_in_zone,
    features.barrier_zone_visible_frac,
    features.barrier_observable,
    features.tape_buy_vol,
    features.tape_sell_vol,
    features.tape_price_slope_3s,
    features.tape_price_slope_15s,
    features.tape_trade_rate_3s,
    features.tape_trade_rate_15s,
    features.tape_trade_rate_60s,
    features.sweep_direction,
    features.sweep_contracts,
    features.gamma_exposure_wg,
    features.gamma_exposure_20m,
    features.gamma_bucket,
    features.gamma_flow_velocity,
    features.gamma_flow_impulse,
    features.gamma_flow_accel_1m,
    features.gamma_flow_accel_3m,
    features.dealer_pressure_accel,
    features.liquidity_pressure,
    features.tape_pressure,
    features.gamma_pressure,
    features.gamma_pressure_accel,

    -- outcome: never a model input
    labels.label_status,
    labels.label_start_ns,
    labels.label_end_ns,
    labels.theta_1,
    labels.theta_2,
    labels.outcome,
    labels.time_to_break_1,
    labels.time_to_break_2,
    labels.time_to_bounce_1,
    labels.time_to_bounce_2,
    labels.time_to_threshold_1,
    labels.time_to_threshold_2,
    labels.tradeable_1,
    labels.tradeable_2,
    labels.excursion_max,
    labels.excursion_min,
    labels.strength_signed,
    labels.strength_abs,
    labels.anchor_spot,
    labels.future_price,
    labels.cluster_size,
    labels.sample_weight
from features
inner join labels on features.observation_id = labels.observation_id
inner join front on features.session_date = front.session_date
where
    labels.label_status = 'ok'
    -- after the fact, and so only here: on a roll day the chosen contract was not the one that traded
    and not front.roll_contaminated
