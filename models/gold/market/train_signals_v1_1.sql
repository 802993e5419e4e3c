with

features as (

    select * from {{ ref('touch_features', v='1_1') }}

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
    features.approach_velocity,
    features.approach_distance,
    features.approach_distance_atr,
    features.distance_signed,
    features.distance_signed_atr,
    features.distance_pct,
    features.sma_200,
    features.sma_400,
    features.sma_200_slope,
    features.sma_400_slope,
    features.dist_to_sma_200,
    features.dist_to_sma_400,
    features.confluence_count,
    features.confluence_pressure,
    features.confluence_alignment,
    features.confluence_level,

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
