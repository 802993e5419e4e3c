with

session as (

    select * from {{ ref('dim_session') }}

),

two_minute_bars as (

    select
        session.session_date,
        session.globex_open_ns,
        bars.bar_end_ns,
        bars.close_tick,
        lead(bars.bar_end_ns) over in_order as next_bar_end_ns
    from {{ ref('ohlcv') }} as bars
    -- the front contract of the date under construction, on earlier dates too: never another contract's history
    inner join {{ ref('dim_front_month') }} as front on bars.contract = front.contract
    inner join session on front.session_date = session.session_date and bars.session_date <= session.session_date
    where bars.bar_s = 120
    window in_order as (partition by session.session_date order by bars.bar_end_ns)

),

full_sums as (

    select
        *,
        case when count(*) over last_200 = 200 then sum(close_tick) over last_200 end as sum_200_ticks,
        case when count(*) over last_400 = 400 then sum(close_tick) over last_400 end as sum_400_ticks
    from two_minute_bars
    window
        last_200 as (
            partition by session_date order by bar_end_ns rows between 199 preceding and current row
        ),
        last_400 as (
            partition by session_date order by bar_end_ns rows between 399 preceding and current row
        )

),

with_earlier as (

    select
        *,
        lag(sum_200_ticks, 5) over in_order as sum_200_5_bars_ago_ticks,
        lag(sum_200_ticks, 10) over in_order as sum_200_10_bars_ago_ticks,
        lag(sum_400_ticks, 5) over in_order as sum_400_5_bars_ago_ticks,
        lag(sum_400_ticks, 10) over in_order as sum_400_10_bars_ago_ticks
    from full_sums
    window in_order as (partition by session_date order by bar_end_ns)

)

select
    -- keys
    session_date,
    bar_end_ns,

    -- measures
    cast(sum_200_ticks as bigint) as sum_200_ticks,
    cast(sum_400_ticks as bigint) as sum_400_ticks,
    cast(sum_200_5_bars_ago_ticks as bigint) as sum_200_5_bars_ago_ticks,
    cast(sum_200_10_bars_ago_ticks as bigint) as sum_200_10_bars_ago_ticks,
    cast(sum_400_5_bars_ago_ticks as bigint) as sum_400_5_bars_ago_ticks,
    cast(sum_400_10_bars_ago_ticks as bigint) as sum_400_10_bars_ago_ticks
from with_earlier
-- the last bar before the open is what the session's first minutes see; those before it are seen by nobody
where next_bar_end_ns is null or next_bar_end_ns > globex_open_ns
