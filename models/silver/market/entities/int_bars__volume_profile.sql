with

-- a holiday has no regular session
session as (

    select * from {{ ref('dim_session') }}
    where not is_holiday

),

minute_bars as (

    select
        bars.session_date,
        bars.bar_start_ns,
        bars.volume
    from {{ ref('ohlcv') }} as bars
    inner join {{ ref('dim_front_month') }} as front
        on bars.session_date = front.session_date
        and bars.contract = front.contract
    where bars.bar_s = 60

),

minutes as (

    select
        session.session_date,
        session.rth_open_ns + grid.minute_number * 60000000000 as minute_ns,
        grid.minute_number as minutes_since_open,
        session.is_early_close
    from session
    cross join range(390) as grid (minute_number)
    where session.rth_open_ns + grid.minute_number * 60000000000 < session.rth_close_ns

),

with_volume as (

    select
        minutes.*,
        coalesce(minute_bars.volume, 0) as volume_in_minute
    from minutes
    left join minute_bars
        on minutes.session_date = minute_bars.session_date
        and minutes.minute_ns = minute_bars.bar_start_ns

)

select
    -- keys
    session_date,
    minute_ns,
    cast(minutes_since_open as integer) as minutes_since_open,

    -- measures: what traded before this minute, itself left out
    cast(sum(volume_in_minute) over so_far - volume_in_minute as bigint) as volume_since_open,

    -- flags
    not is_early_close and sum(volume_in_minute) over (partition by session_date) > 0 as is_full_session
from with_volume
window
    so_far as (
        partition by session_date
        order by minute_ns rows between unbounded preceding and current row
    )
