with

levels as (

    select * from {{ ref('int_operations__levels') }}

),

bar_windows as (

    select * from {{ ref('int_market_bars__windows') }}

),

states as (

    select
        *,
        lead(known_at) over (
            partition by client_id, operation_id
            order by known_at
        ) as until_at
    from levels

),

-- Dates on which anybody could ask: those with bars, and those on which something was learned.
dates as (

    select date from bar_windows
    where {{ is_built_date('date') }}

    union distinct

    select date from levels
    where {{ is_built_date('date') }}

)

select
    -- keys
    dates.date,
    states.client_id,
    states.symbol,
    states.operation_id,
    states.known_at as since_at,

    -- what orders them
    states.opened_at,

    -- time; what changes after the date doesn't matter on it
    case
        when states.until_at < cast(dates.date as timestamp with time zone) + interval '1 day' then states.until_at
    end as until_at
from dates
inner join states
    on states.known_at < cast(dates.date as timestamp with time zone) + interval '1 day'
    and coalesce(states.until_at >= cast(dates.date as timestamp with time zone), true)
where states.is_active
