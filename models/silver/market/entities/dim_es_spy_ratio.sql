with

session as (

    select * from {{ ref('dim_session') }}

),

front as (

    select * from {{ ref('dim_front_month') }}

),

-- Every whole second of the session, whether or not SPY trades then.
seconds as (

    select
        session.session_date,
        session.globex_open_ns + steps.second_number * 1000000000 as asof_ns
    from session
    inner join front on session.session_date = front.session_date
    cross join range(90000) as steps (second_number)
    where session.globex_open_ns + steps.second_number * 1000000000 < session.globex_close_ns

),

-- Of this session and of the one before it: what its last pairs said holds until this one has pairs of its own.
live as (

    select
        asof_ns as live_asof_ns,
        es_spy_ratio as live_ratio,
        max_input_ts_ns
    from {{ ref('int_es_spy_ratio__live') }}

),

with_live as (

    select
        seconds.*,
        live.live_asof_ns,
        live.live_ratio,
        live.max_input_ts_ns
    {{ asof_left('seconds', 'live', on=[], left_time='asof_ns', right_time='live_asof_ns') }}

)

select
    -- keys
    session_date,
    asof_ns,

    -- measures
    coalesce(live_ratio, cast(10 as double)) as es_spy_ratio,
    case
        when live_asof_ns = asof_ns then 'live'
        when live_asof_ns is not null then 'carried'
        else 'default'
    end as ratio_source,

    -- time
    max_input_ts_ns
from with_live
