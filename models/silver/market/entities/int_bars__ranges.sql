with

session as (

    select
        *,
        case when {{ param('event_hours') }} = 'all' then globex_close_ns else rth_close_ns end
            as session_end_ns
    from {{ ref('dim_session') }}

),

minute_bars as (

    select bars.*
    from {{ ref('ohlcv') }} as bars
    inner join {{ ref('dim_front_month') }} as front
        on bars.session_date = front.session_date
        and bars.contract = front.contract
    where bars.bar_s = 60

),

spans as (

    select
        session_date,
        'PM' as level_kind_family,
        premarket_open_ns as range_start_ns,
        rth_open_ns as range_end_ns,
        session_end_ns
    from session

    union all

    select
        session_date,
        'OR' as level_kind_family,
        rth_open_ns as range_start_ns,
        rth_open_ns + 900000000000 as range_end_ns,
        session_end_ns
    from session

)

select
    -- keys
    spans.session_date,
    spans.level_kind_family,

    -- measures
    max(minute_bars.high_tick) as high_tick,
    min(minute_bars.low_tick) as low_tick,

    -- time
    spans.range_end_ns as valid_from_ns,
    spans.session_end_ns as valid_to_ns
from spans
-- spans are whole minutes, so a bar lies inside or outside. A span without trades gives no range.
inner join minute_bars
    on spans.session_date = minute_bars.session_date
    and spans.range_start_ns <= minute_bars.bar_start_ns
    and spans.range_end_ns >= minute_bars.bar_end_ns
where spans.range_end_ns < spans.session_end_ns
group by spans.session_date, spans.level_kind_family, spans.range_end_ns, spans.session_end_ns
