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
    approach_velocity,
    approach_distance,
    approach_distance_atr,
    distance_signed,
    distance_signed_atr,
    distance_pct,
    sma_200,
    sma_400,
    sma_200_slope,
    sma_400_slope,
    dist_to_sma_200,
    dist_to_sma_400,
    confluence_count,
    confluence_pressure,
    confluence_alignment,
    confluence_level
from features
