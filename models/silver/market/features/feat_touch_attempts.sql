with

points as (

    select
        observation_id,
        event_id,
        session_date,
        stage,
        anchor_ns,
        asof_ns,
        level_kind_name,
        level_tick,
        direction,
        attempt_cluster_id,
        {{ ticks(param('TOUCH_BAND'), 'es_spy_ratio') }} as touch_band_ticks
    from {{ ref('observation_points') }}

),

touches as (

    select * from {{ ref('touches') }}

),

barrier as (

    select * from {{ ref('feat_touch_barrier') }}

),

tape as (

    select * from {{ ref('feat_touch_tape') }}

),

-- Touches of the same kind that are known by then (t0 before the anchor and before asof_ns), near or of the cluster.
earlier as (

    select
        points.observation_id,
        touches.ts_ns,
        abs(touches.level_tick - points.level_tick) <= points.touch_band_ticks as is_near,
        touches.direction = points.direction and touches.attempt_cluster_id = points.attempt_cluster_id
            as is_in_cluster
    from points
    inner join touches
        on points.session_date = touches.session_date
        and points.level_kind_name = touches.level_kind_name
        and points.anchor_ns > touches.ts_ns
        and points.asof_ns > touches.ts_ns

),

counted as (

    select
        observation_id,
        sum(case when is_near then 1 else 0 end) as near_count,
        sum(case when is_in_cluster then 1 else 0 end) as cluster_count,
        max(ts_ns) as last_counted_ts_ns
    from earlier
    where is_near or is_in_cluster
    group by observation_id

),

-- The first attempt is the point itself where no other is known.
with_first as (

    select
        points.observation_id,
        points.stage,
        points.event_id,
        coalesce(first_touches.event_id, points.event_id) as first_event_id,
        coalesce(counted.near_count, 0) as near_count,
        coalesce(counted.cluster_count, 0) as cluster_count,
        counted.last_counted_ts_ns
    from points
    left join counted on points.observation_id = counted.observation_id
    left join touches as first_touches
        on points.session_date = first_touches.session_date
        and points.level_kind_name = first_touches.level_kind_name
        and points.direction = first_touches.direction
        and points.attempt_cluster_id = first_touches.attempt_cluster_id
        and first_touches.attempt_index = 1
        and points.anchor_ns > first_touches.ts_ns
        and points.asof_ns > first_touches.ts_ns

),

measured as (

    select
        points.event_id,
        points.stage,
        barrier.barrier_replenishment_ratio,
        barrier.barrier_delta_liq,
        tape.tape_velocity,
        tape.tape_imbalance,
        greatest(barrier.barrier_max_input_ts_ns, tape.tape_max_input_ts_ns) as measured_ts_ns
    from points
    inner join barrier on points.observation_id = barrier.observation_id
    inner join tape on points.observation_id = tape.observation_id

)

select
    -- keys
    with_first.observation_id,

    -- counts
    cast(with_first.near_count as integer) as prior_touches,
    cast(1 + with_first.cluster_count as integer) as attempt_index,

    -- measures: 0 on the first attempt, which is compared with itself
    own.barrier_replenishment_ratio - first_attempt.barrier_replenishment_ratio as barrier_replenishment_trend,
    cast(own.barrier_delta_liq - first_attempt.barrier_delta_liq as double) as barrier_delta_liq_trend,
    own.tape_velocity - first_attempt.tape_velocity as tape_velocity_trend,
    own.tape_imbalance - first_attempt.tape_imbalance as tape_imbalance_trend,

    -- time
    greatest(with_first.last_counted_ts_ns, own.measured_ts_ns, first_attempt.measured_ts_ns)
        as attempts_max_input_ts_ns
from with_first
inner join measured as own
    on with_first.event_id = own.event_id
    and with_first.stage = own.stage
-- left: an attempt before which nothing had traded is no observation, and a trend against it is NULL
left join measured as first_attempt
    on with_first.first_event_id = first_attempt.event_id
    and with_first.stage = first_attempt.stage
