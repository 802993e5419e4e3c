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

minute_bars as (

    select
        bars.session_date,
        bars.bar_start_ns,
        bars.bar_end_ns,
        bars.high_tick,
        bars.low_tick,
        bars.close_tick,
        bars.volume,
        bars.notional_ticks,
        bars.bar_start_ns >= session.session_start_ns as is_in_hours
    from {{ ref('ohlcv') }} as bars
    inner join {{ ref('dim_front_month') }} as front
        on bars.session_date = front.session_date
        and bars.contract = front.contract
    inner join session on bars.session_date = session.session_date
    where bars.bar_s = 60

),

-- Values as of the end of each minute bar.
running as (

    select
        session_date,
        bar_end_ns,
        close_tick as spot_tick,
        max(case when is_in_hours then high_tick end) over so_far as session_high_tick,
        min(case when is_in_hours then low_tick end) over so_far as session_low_tick,
        sum(case when is_in_hours then notional_ticks end) over so_far as session_notional_ticks,
        sum(case when is_in_hours then volume end) over so_far as session_volume
    from minute_bars
    window
        so_far as (
            partition by session_date
            order by bar_end_ns rows between unbounded preceding and current row
        )

),

minutes as (

    select
        session.session_date,
        session.globex_open_ns + grid.minute_number * 60000000000 as minute_ns,
        session.globex_open_ns + (grid.minute_number - 1) * 60000000000 as delayed_ns
    from session
    cross join range(1380) as grid (minute_number)
    where session.globex_open_ns + grid.minute_number * 60000000000 < session.session_end_ns

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

-- A forming extreme is its own touch: the last minute stays out of it.
extremes as (

    select
        minutes.session_date,
        minutes.minute_ns,
        minutes.delayed_ns,
        running.session_high_tick,
        running.session_low_tick
    {{ asof_left(
        'minutes', 'running', on=['session_date'], left_time='delayed_ns', right_time='bar_end_ns'
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

found as (

    select
        session_date,
        minute_ns,
        delayed_ns as source_asof_ns,
        'SESSION_HIGH' as level_kind_name,
        session_high_tick * cast(0.25 as double) as level_price_raw
    from extremes

    union all

    select
        session_date,
        minute_ns,
        delayed_ns as source_asof_ns,
        'SESSION_LOW' as level_kind_name,
        session_low_tick * cast(0.25 as double) as level_price_raw
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
        'ROUND' as level_kind_name,
        round_tick * cast(0.25 as double) as level_price_raw
    from rounds
    where round_tick <= spot_tick + 200

)

select * from found
where level_price_raw is not null
