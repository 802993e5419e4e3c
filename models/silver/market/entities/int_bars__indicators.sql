with

minute_bars as (

    select
        bars.session_date,
        bars.bar_end_ns,
        bars.high_tick,
        bars.low_tick,
        bars.close_tick,
        row_number() over in_session as bar_number,
        lag(bars.close_tick) over in_session as previous_close_tick
    from {{ ref('ohlcv') }} as bars
    inner join {{ ref('dim_front_month') }} as front
        on bars.session_date = front.session_date
        and bars.contract = front.contract
    where bars.bar_s = 60
    window in_session as (partition by bars.session_date order by bars.bar_end_ns)

),

moves as (

    select
        *,
        cast(close_tick - previous_close_tick as bigint) as change_ticks,
        case
            when previous_close_tick is null then high_tick - low_tick
            else greatest(high_tick, previous_close_tick) - least(low_tick, previous_close_tick)
        end as true_range_ticks
    from minute_bars

),

windows as (

    select
        session_date,
        bar_end_ns,
        bar_number,
        close_tick,
        count(*) over last_14 as true_range_count,
        sum(true_range_ticks) over last_14 as true_range_sum,
        count(change_ticks) over last_20 as change_count,
        sum(change_ticks) over last_20 as change_sum,
        sum(change_ticks * change_ticks) over last_20 as change_square_sum,
        -- the last bar that ended a run: one that didn't move that way, or the first, which has no change
        max(case when coalesce(change_ticks, 0) <= 0 then bar_number end) over so_far as no_rise_number,
        max(case when coalesce(change_ticks, 0) >= 0 then bar_number end) over so_far as no_fall_number
    from moves
    window
        last_14 as (
            partition by session_date order by bar_end_ns rows between 13 preceding and current row
        ),
        last_20 as (
            partition by session_date order by bar_end_ns rows between 19 preceding and current row
        ),
        so_far as (
            partition by session_date order by bar_end_ns rows between unbounded preceding and current row
        )

)

select
    -- keys
    session_date,
    bar_end_ns,
    cast(bar_number as integer) as bar_number,

    -- measures
    close_tick,
    case
        when true_range_count = 14
            then true_range_sum / cast(14 as double) * cast(0.25 as double)
    end as atr,
    case
        -- 20 · Σx² − (Σx)² is a whole number: no cancellation, no order of summing. 380 = 20 · 19.
        when change_count = 20
            then sqrt(cast(20 * change_square_sum - change_sum * change_sum as double) / 380)
                * cast(0.25 as double)
    end as sigma_20,
    cast(bar_number - no_rise_number as integer) as rising_closes,
    cast(bar_number - no_fall_number as integer) as falling_closes
from windows
