with

detected as (

    select * from {{ ref('int_touches__detected') }}

),

kinds as (

    select * from {{ ref('level_kinds') }}

),

front as (

    select * from {{ ref('dim_front_month') }}

),

ratios as (

    select * from {{ ref('dim_es_spy_ratio') }}

),

named as (

    select
        detected.session_date,
        front.contract,
        detected.level_id,
        detected.level_kind,
        kinds.level_kind_name,
        detected.level_tick,
        case when detected.direction_sign = 1 then 'UP' else 'DOWN' end as direction,
        detected.direction_sign,
        detected.ts_ns,
        detected.touch_tick
    from detected
    inner join front on detected.session_date = front.session_date
    inner join kinds on detected.level_kind = kinds.level_kind

),

with_ratio as (

    select
        named.*,
        ratios.es_spy_ratio,
        ratios.ratio_source
    {{ asof_left('named', 'ratios', on=['session_date'], left_time='ts_ns', right_time='asof_ns') }}

),

-- A cluster is a run of attempts at one kind from one side, close in time and price to the attempt before.
with_previous as (

    select
        *,
        lag(ts_ns) over attempts as previous_ts_ns,
        lag(level_tick) over attempts as previous_level_tick
    from with_ratio
    window attempts as (
        partition by session_date, level_kind_name, direction order by ts_ns, level_kind, level_tick
    )

),

with_breaks as (

    select
        *,
        case
            when previous_ts_ns is null then 1
            when
                ts_ns - previous_ts_ns > {{ param('TOUCH_CLUSTER_TIME_MINUTES') }} * 60000000000
                then 1
            when abs(level_tick - previous_level_tick)
                > {{ ticks(param('TOUCH_CLUSTER_PRICE_BAND'), 'es_spy_ratio') }} then 1
            else 0
        end as is_new_cluster
    from with_previous

),

with_clusters as (

    select
        *,
        cast(sum(is_new_cluster) over (
            partition by session_date, level_kind_name, direction
            order by ts_ns, level_kind, level_tick
            rows between unbounded preceding and current row
        ) as integer) as attempt_cluster_id
    from with_breaks

),

identified as (

    select
        *,
        session_date || '|' || level_kind_name || '|' || level_tick || '|' || ts_ns || '|' || direction
        || '|' || {{ param('universe_version') }} as event_name
    from with_clusters

)

select
    -- keys
    substr({{ sha256_hex('event_name') }}, 1, 32) as event_id,
    session_date,
    contract,
    level_id,
    level_kind,
    level_kind_name,
    level_tick,
    level_tick * cast(0.25 as double) as level_price,
    direction,
    direction_sign,

    -- measures
    ts_ns,
    touch_tick,
    es_spy_ratio,
    ratio_source,

    -- lineage of the definition
    {{ param('universe_version') }} as universe_version,
    {{ param('params_digest') }} as params_digest,

    -- attempts
    attempt_cluster_id,
    cast(row_number() over (
        partition by session_date, level_kind_name, direction, attempt_cluster_id
        order by ts_ns, level_kind, level_tick
    ) as integer) as attempt_index
from identified
