with

session as (

    select * from {{ ref('dim_session') }}

),

front as (

    select * from {{ ref('dim_front_month') }}

)

select
    -- keys
    session.session_date,
    session.globex_open_ns as asof_ns,

    -- measures
    cast(10 as double) as es_spy_ratio,
    -- No SPY trades are landed, and without a pair of prices the specification's own default holds all session.
    'default' as ratio_source
from session
inner join front on session.session_date = front.session_date
