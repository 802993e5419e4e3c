with

outcomes as (

    select * from {{ ref('int_labels__first_passage') }}

),

windows as (

    select * from {{ ref('int_labels__windows') }}

),

joined as (

    select
        windows.session_date,
        windows.event_id,
        windows.stage,
        windows.level_kind_name,
        windows.direction,
        windows.attempt_cluster_id,
        outcomes.observation_id,
        outcomes.label_status,
        outcomes.label_start_ns,
        outcomes.label_end_ns,
        outcomes.theta_1,
        outcomes.theta_2,
        outcomes.outcome,
        outcomes.time_to_break_1,
        outcomes.time_to_break_2,
        outcomes.time_to_bounce_1,
        outcomes.time_to_bounce_2,
        outcomes.time_to_threshold_1,
        outcomes.time_to_threshold_2,
        outcomes.tradeable_1,
        outcomes.tradeable_2,
        outcomes.excursion_max,
        outcomes.excursion_min,
        outcomes.strength_signed,
        outcomes.strength_abs,
        outcomes.anchor_spot,
        outcomes.future_price
    from windows
    inner join outcomes on windows.observation_id = outcomes.observation_id

),

cluster_sizes as (

    select
        session_date,
        level_kind_name,
        direction,
        attempt_cluster_id,
        stage,
        cast(count(*) as integer) as cluster_size
    from joined
    where label_status = 'ok'
    group by session_date, level_kind_name, direction, attempt_cluster_id, stage

)

select
    -- keys
    joined.observation_id,
    joined.event_id,
    joined.session_date,
    joined.stage,

    -- the window
    joined.label_status,
    joined.label_start_ns,
    joined.label_end_ns,
    joined.theta_1,
    joined.theta_2,

    -- outcome
    joined.outcome,
    joined.time_to_break_1,
    joined.time_to_break_2,
    joined.time_to_bounce_1,
    joined.time_to_bounce_2,
    joined.time_to_threshold_1,
    joined.time_to_threshold_2,
    joined.tradeable_1,
    joined.tradeable_2,
    joined.excursion_max,
    joined.excursion_min,
    joined.strength_signed,
    joined.strength_abs,
    joined.anchor_spot,
    joined.future_price,

    -- weights
    case when joined.label_status = 'ok' then cluster_sizes.cluster_size end as cluster_size,
    case
        when joined.label_status = 'ok' then 1 / cast(cluster_sizes.cluster_size as double)
    end as sample_weight
from joined
left join cluster_sizes
    on joined.session_date = cluster_sizes.session_date
    and joined.level_kind_name = cluster_sizes.level_kind_name
    and joined.direction = cluster_sizes.direction
    and joined.attempt_cluster_id = cluster_sizes.attempt_cluster_id
    and joined.stage = cluster_sizes.stage
