with

session as (

    select * from {{ ref('dim_session') }}

),

-- Two readings of the source and not one shared step: a step that is read twice is materialized.
single_delivery as (

    select * from {{ source('bronze', 'options_trades') }}
    where underlying = 'SPY' and not is_shared_hour and not is_superseded

),

-- Delivery is at least once. Between deliveries of one hour equal value tuples are copies: the largest multiplicity
-- found in any single delivery is the truth, as identical option prints within one delivery are genuine.
counted as (

    select
        *,
        count(*) over (partition by date, hour_utc, delivery_id) as delivery_rows
    from {{ source('bronze', 'options_trades') }}
    where underlying = 'SPY' and is_shared_hour and not is_superseded

),

copies as (

    select
        *,
        dense_rank() over (partition by date, hour_utc order by delivery_rows desc, delivery_id asc) - 1
            as delivery_rank,
        row_number() over (
            partition by
                date, hour_utc, delivery_id,
                option_symbol, ts_event_ns, sequence, price, size, opt_bid, opt_ask, aggressor, exchange, conditions,
                correction, _extra
            order by ordinal
        ) as copy_number
    from counted

),

-- The n-th copy is kept from the best-ranked delivery that has one.
first_copies as (

    select
        *,
        row_number() over (
            partition by
                date, hour_utc, copy_number,
                option_symbol, ts_event_ns, sequence, price, size, opt_bid, opt_ask, aggressor, exchange, conditions,
                correction, _extra
            order by delivery_rank
        ) as delivery_order
    from copies

),

deduplicated as (

    select
        option_symbol,
        ts_event_ns,
        ordinal,
        exp_date,
        strike,
        "right",
        price,
        size,
        opt_bid,
        opt_ask,
        aggressor,
        exchange,
        correction
    from single_delivery

    union all

    select
        option_symbol,
        ts_event_ns,
        -- raised by the rank, so that rows which a later delivery adds keep their own file order
        ordinal + delivery_rank * 1099511627776 as ordinal,
        exp_date,
        strike,
        "right",
        price,
        size,
        opt_bid,
        opt_ask,
        aggressor,
        exchange,
        correction
    from first_copies
    where delivery_order = 1

),

-- A cancelled print never was; one that was corrected stands with its code.
standing as (

    select
        session.session_date,
        deduplicated.*
    from deduplicated
    inner join session
        on deduplicated.ts_event_ns >= session.globex_open_ns
        and deduplicated.ts_event_ns < session.globex_close_ns
    where coalesce(deduplicated.correction, 0) not in (7, 8, 10, 11)

),

ticks as (

    select
        *,
        cast(sign(price - lag(price) over option_prints) as tinyint) as tick_sign
    from standing
    window option_prints as (partition by session_date, option_symbol order by ts_event_ns, ordinal)

),

-- The tick test: a print at the price of the one before it inherits the last change's sign (Lee and Ready 1991).
tested as (

    select
        *,
        last_value(nullif(tick_sign, 0) ignore nulls) over (
            partition by session_date, option_symbol
            order by ts_event_ns, ordinal
            rows between unbounded preceding and current row
        ) as tick_aggressor
    from ticks

)

select
    -- keys
    session_date,
    option_symbol,
    ts_event_ns,
    ordinal,

    -- dimensions
    exp_date,
    strike,
    "right",
    exchange,

    -- measures
    price,
    size,
    cast(
        case
            when aggressor != 0 then aggressor
            when price >= opt_ask then 1
            when price <= opt_bid then -1
            else coalesce(tick_aggressor, 0)
        end as tinyint
    ) as aggressor,
    case
        when aggressor != 0 then 'vendor'
        when price >= opt_ask or price <= opt_bid then 'quote'
        when tick_aggressor is not null then 'tick'
        else 'none'
    end as aggressor_method,

    -- flags
    coalesce(correction, 0) as correction
from tested
