with

touches as (

    select * from {{ ref('touches') }}

),

ratios as (

    select * from {{ ref('dim_es_spy_ratio') }}

),

front_trades as (

    select
        trades.session_date,
        trades.ts_event_ns,
        trades.sequence,
        trades.ordinal,
        trades.tick
    from {{ ref('stg_futures__trades') }} as trades
    inner join {{ ref('dim_front_month') }} as front
        on trades.session_date = front.session_date
        and trades.contract = front.contract

),

numbered as (

    select
        session_date,
        ts_event_ns,
        tick,
        {{ file_order(['ts_event_ns', 'sequence', 'ordinal']) }} as event_position
    from front_trades

),

-- one row per instant, its last print: an as-of join must not meet ties
spots as (

    select
        session_date,
        ts_event_ns,
        max_by(tick, event_position) as spot_tick
    from numbered
    group by session_date, ts_event_ns

),

stages as (

    select 'touch' as stage, cast(0 as bigint) as horizon_ns

    union all

    select 'confirm_' || horizon_s as stage, horizon_s * 1000000000 as horizon_ns
    from ({{ unnest_param('CONFIRMATION_WINDOWS', 'horizon_s') }}) as horizons

),

points as (

    select
        touches.event_id,
        touches.session_date,
        touches.contract,
        touches.level_id,
        touches.level_kind,
        touches.level_kind_name,
        touches.level_tick,
        touches.level_price,
        touches.direction,
        touches.direction_sign,
        touches.attempt_cluster_id,
        touches.universe_version,
        touches.params_digest,
        touches.ts_ns,
        stages.stage,
        touches.ts_ns + stages.horizon_ns as label_start_ns,
        {{ idiv('touches.ts_ns + stages.horizon_ns', param('grid_ms') ~ ' * 1000000') }}
        * {{ param('grid_ms') }} * 1000000 as asof_ns
    from touches
    cross join stages

),

with_spot as (

    select
        points.*,
        spots.spot_tick,
        spots.ts_event_ns as spot_ts_ns
    {{ asof_left(
        'points', 'spots', on=['session_date'], left_time='asof_ns', right_time='ts_event_ns', strict=true
    ) }}

),

with_ratio as (

    select
        with_spot.*,
        ratios.es_spy_ratio,
        ratios.ratio_source,
        ratios.max_input_ts_ns as ratio_ts_ns
    {{ asof_left(
        'with_spot', 'ratios', on=['session_date'], left_time='asof_ns', right_time='asof_ns'
    ) }}

)

select
    -- keys
    substr({{ sha256_hex("event_id || '|' || stage") }}, 1, 32) as observation_id,
    event_id,
    session_date,
    stage,

    -- time
    ts_ns,
    ts_ns as anchor_ns,
    asof_ns,
    label_start_ns,

    -- what is observed
    contract,
    level_id,
    level_kind,
    level_kind_name,
    level_tick,
    level_price,
    direction,
    direction_sign,
    attempt_cluster_id,

    -- the market as of then
    spot_tick,
    spot_ts_ns,
    es_spy_ratio,
    ratio_source,
    ratio_ts_ns,

    -- lineage of the definition
    universe_version,
    params_digest
from with_ratio
-- without a trade of the session before it, an instant has nothing to observe
where spot_tick is not null
