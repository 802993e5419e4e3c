with

session as (

    select
        *,
        case when {{ param('event_hours') }} = 'all' then globex_open_ns else rth_open_ns end
            as session_start_ns,
        case when {{ param('event_hours') }} = 'all' then globex_close_ns else rth_close_ns end
            as session_end_ns
    from {{ ref('dim_session') }}

),

kinds as (

    select * from {{ ref('level_kinds') }}
    where {{ param_list_contains('level_kinds', 'level_kind_family') }}

),

ratios as (

    select * from {{ ref('dim_es_spy_ratio') }}

),

front_bars as (

    select
        bars.session_date,
        bars.bar_s,
        bars.bar_start_ns,
        bars.bar_end_ns,
        bars.high_tick,
        bars.low_tick,
        bars.close_tick,
        bars.volume,
        bars.notional_ticks
    from {{ ref('ohlcv') }} as bars
    -- the front contract of the date under construction, on earlier dates too: never another contract's history
    inner join {{ ref('dim_front_month') }} as front on bars.contract = front.contract
    where bars.bar_s in (60, 120)

),

minute_bars as (

    select
        front_bars.*,
        session.globex_open_ns,
        session.session_start_ns,
        session.rth_open_ns,
        session.premarket_open_ns
    from front_bars
    inner join session on front_bars.session_date = session.session_date
    where front_bars.bar_s = 60

),

-- Whole minutes at which dynamic levels are evaluated; each value holds for [m, m + 60 s).
minutes as (

    select
        session.session_date,
        session.globex_open_ns + grid.minute_number * 60000000000 as minute_ns
    from session
    cross join range(1380) as grid (minute_number)
    where session.globex_open_ns + grid.minute_number * 60000000000 < session.session_end_ns

),

-- Ranges, complete when they become levels.
ranges as (

    select
        minute_bars.session_date,
        session.rth_open_ns as valid_from_ns,
        max(minute_bars.high_tick) as high_tick,
        min(minute_bars.low_tick) as low_tick,
        'PM' as level_kind_family
    from minute_bars
    inner join session on minute_bars.session_date = session.session_date
    where minute_bars.bar_start_ns >= session.premarket_open_ns
        and minute_bars.bar_end_ns <= session.rth_open_ns
    group by minute_bars.session_date, session.rth_open_ns

    union all

    select
        minute_bars.session_date,
        session.rth_open_ns + 900000000000 as valid_from_ns,
        max(minute_bars.high_tick) as high_tick,
        min(minute_bars.low_tick) as low_tick,
        'OR' as level_kind_family
    from minute_bars
    inner join session on minute_bars.session_date = session.session_date
    where
        minute_bars.bar_start_ns >= session.rth_open_ns
        and minute_bars.bar_end_ns <= session.rth_open_ns + 900000000000
    group by minute_bars.session_date, session.rth_open_ns

),

range_levels as (

    select
        ranges.session_date,
        ranges.level_kind_family || '_' || sides.side as level_kind_name,
        0.25 * case when sides.side = 'HIGH' then ranges.high_tick else ranges.low_tick end
            as level_price_raw,
        ranges.valid_from_ns,
        session.session_end_ns as valid_to_ns,
        false as is_dynamic,
        ranges.valid_from_ns as source_asof_ns
    from ranges
    inner join session on ranges.session_date = session.session_date
    cross join (values ('HIGH'), ('LOW')) as sides (side)

),

-- Running values of the session, as of the end of each minute bar.
running as (

    select
        session_date,
        bar_end_ns,
        close_tick as spot_tick,
        max(case when bar_start_ns >= session_start_ns then high_tick end)
            over so_far
            as session_high_tick,
        min(case when bar_start_ns >= session_start_ns then low_tick end)
            over so_far
            as session_low_tick,
        sum(case when bar_start_ns >= session_start_ns then notional_ticks end)
            over so_far
            as session_notional_ticks,
        sum(case when bar_start_ns >= session_start_ns then volume end)
            over so_far
            as session_volume
    from minute_bars
    window
        so_far as (
            partition by session_date
            order by bar_end_ns rows between unbounded preceding and current row
        )

),

at_minute as (

    select
        minutes.session_date,
        minutes.minute_ns,
        running.spot_tick,
        running.session_notional_ticks,
        running.session_volume
    {{ asof_left(
        'minutes', 'running', on=['session_date'], left_time='minute_ns', right_time='bar_end_ns'
    ) }}

),

minutes_delayed as (

    select
        session_date,
        minute_ns,
        minute_ns - 60000000000 as delayed_ns
    from minutes

),

-- A forming extreme is its own touch: the last minute stays out of it.
extremes as (

    select
        minutes_delayed.session_date,
        minutes_delayed.minute_ns,
        running.session_high_tick,
        running.session_low_tick
    {{ asof_left(
        'minutes_delayed', 'running', on=['session_date'], left_time='delayed_ns', right_time='bar_end_ns'
    ) }}

),

averages as (

    select
        session.session_date,
        front_bars.bar_end_ns,
        sum(front_bars.close_tick) over last_200 as sum_200,
        count(*) over last_200 as count_200,
        sum(front_bars.close_tick) over last_400 as sum_400,
        count(*) over last_400 as count_400
    from front_bars
    inner join session on front_bars.session_date <= session.session_date
    where front_bars.bar_s = 120
    window
        last_200 as (
            partition by session.session_date
            order by front_bars.bar_end_ns rows between 199 preceding and current row
        ),
        last_400 as (
            partition by session.session_date
            order by front_bars.bar_end_ns rows between 399 preceding and current row
        )

),

averages_at_minute as (

    select
        minutes.session_date,
        minutes.minute_ns,
        averages.sum_200,
        averages.count_200,
        averages.sum_400,
        averages.count_400
    {{ asof_left(
        'minutes', 'averages', on=['session_date'], left_time='minute_ns', right_time='bar_end_ns'
    ) }}

),

-- Multiples of 10 points (40 ticks) within ±50 points (200 ticks) of the spot.
rounds as (

    select
        at_minute.session_date,
        at_minute.minute_ns,
        at_minute.spot_tick,
        cast(ceil((at_minute.spot_tick - 200) / 40.0) as integer) * 40 + steps.step_number * 40 as round_tick
    from at_minute
    cross join range(11) as steps (step_number)

),

dynamic_values as (

    select
        session_date,
        minute_ns,
        minute_ns - 60000000000 as source_asof_ns,
        'SESSION_HIGH' as level_kind_name,
        session_high_tick * 0.25 as level_price_raw
    from extremes

    union all

    select
        session_date,
        minute_ns,
        minute_ns - 60000000000 as source_asof_ns,
        'SESSION_LOW' as level_kind_name,
        session_low_tick * 0.25 as level_price_raw
    from extremes

    union all

    select
        session_date,
        minute_ns,
        minute_ns as source_asof_ns,
        'VWAP' as level_kind_name,
        session_notional_ticks / cast(session_volume as double) * 0.25 as level_price_raw
    from at_minute

    union all

    select
        session_date,
        minute_ns,
        minute_ns as source_asof_ns,
        'SMA_200' as level_kind_name,
        sum_200 / cast(200 as double) * 0.25 as level_price_raw
    from averages_at_minute
    where count_200 = 200

    union all

    select
        session_date,
        minute_ns,
        minute_ns as source_asof_ns,
        'SMA_400' as level_kind_name,
        sum_400 / cast(400 as double) * 0.25 as level_price_raw
    from averages_at_minute
    where count_400 = 400

    union all

    select
        session_date,
        minute_ns,
        minute_ns as source_asof_ns,
        'ROUND' as level_kind_name,
        round_tick * 0.25 as level_price_raw
    from rounds
    where round_tick <= spot_tick + 200

),

all_levels as (

    select * from range_levels

    union all

    select
        session_date,
        level_kind_name,
        level_price_raw,
        minute_ns as valid_from_ns,
        minute_ns + 60000000000 as valid_to_ns,
        true as is_dynamic,
        source_asof_ns
    from dynamic_values
    where level_price_raw is not null

),

named as (

    select
        all_levels.session_date,
        all_levels.level_kind_name,
        kinds.level_kind,
        cast(all_levels.level_price_raw as double) as level_price_raw,
        cast(floor(all_levels.level_price_raw / 0.25 + 0.5) as integer) as level_tick,
        all_levels.valid_from_ns,
        all_levels.valid_to_ns,
        all_levels.is_dynamic,
        all_levels.source_asof_ns
    from all_levels
    inner join kinds on all_levels.level_kind_name = kinds.level_kind_name

)

select
    -- keys
    named.session_date,
    case
        when named.level_kind_name = 'ROUND' then 'ROUND_' || named.level_tick
        else named.level_kind_name
    end as level_id,
    named.level_kind,
    named.level_kind_name,

    -- measures
    named.level_price_raw,
    named.level_tick,
    named.level_tick * cast(0.25 as double) as level_price,
    ratios.es_spy_ratio,

    -- time
    named.valid_from_ns,
    named.valid_to_ns,
    named.source_asof_ns,

    -- flags
    named.is_dynamic as dynamic
{{ asof_left(
        'named', 'ratios', on=['session_date'], left_time='valid_from_ns', right_time='asof_ns'
    ) }}
