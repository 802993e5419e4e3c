with

walls as (

    select * from {{ ref('option_walls') }}

),

-- Of every print, also one that nobody is known to have started.
first_prints as (

    select
        session_date,
        strike_milli,
        min(ts_event_ns) as first_print_ns
    from {{ ref('option_greeks') }}
    group by session_date, strike_milli

),

-- Strikes within ±$5 of the spot.
traded_strikes as (

    select
        walls.session_date,
        walls.minute_ns,
        'STRIKE' as level_kind_name,
        first_prints.strike_milli / cast(1000 as double) as strike,
        walls.es_spy_ratio
    from walls
    inner join first_prints
        on walls.session_date = first_prints.session_date
        and walls.minute_ns > first_prints.first_print_ns
    where abs(first_prints.strike_milli - walls.spot_spy_milli) <= 5000

),

strikes as (

    select * from traded_strikes

    union all

    select
        session_date,
        minute_ns,
        'CALL_WALL' as level_kind_name,
        wall_short_call as strike,
        es_spy_ratio
    from walls

    union all

    select
        session_date,
        minute_ns,
        'PUT_WALL' as level_kind_name,
        wall_short_put as strike,
        es_spy_ratio
    from walls

    union all

    select
        session_date,
        minute_ns,
        'GAMMA_FLIP' as level_kind_name,
        hvl as strike,
        es_spy_ratio
    from walls

)

select
    session_date,
    minute_ns,
    minute_ns as source_asof_ns,
    level_kind_name,
    strike * es_spy_ratio as level_price_raw
from strikes
where strike is not null
