with

session as (

    select * from {{ ref('dim_session') }}

),

-- Two readings of the source and not one shared step: a step that is read twice is materialized.
single_delivery as (

    select * from {{ source('bronze', 'stocks_trades') }}
    where symbol = 'SPY' and not is_shared_hour and not is_superseded

),

-- Delivery is at least once. Between deliveries of one hour equal value tuples are copies: the largest multiplicity
-- found in any single delivery is the truth.
counted as (

    select
        *,
        count(*) over (partition by date, hour_utc, delivery_id) as delivery_rows
    from {{ source('bronze', 'stocks_trades') }}
    where symbol = 'SPY' and is_shared_hour and not is_superseded

),

copies as (

    select
        *,
        dense_rank() over (partition by date, hour_utc order by delivery_rows desc, delivery_id asc) - 1
            as delivery_rank,
        row_number() over (
            partition by
                date, hour_utc, delivery_id,
                ts_event_ns, sequence, price, size, exchange, conditions, trade_id, correction, _extra
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
                ts_event_ns, sequence, price, size, exchange, conditions, trade_id, correction, _extra
            order by delivery_rank
        ) as delivery_order
    from copies

),

deduplicated as (

    select
        symbol,
        ts_event_ns,
        ordinal,
        price,
        size,
        exchange,
        trade_id,
        conditions,
        correction
    from single_delivery

    union all

    select
        symbol,
        ts_event_ns,
        -- raised by the rank, so that rows which a later delivery adds keep their own file order
        ordinal + delivery_rank * 1099511627776 as ordinal,
        price,
        size,
        exchange,
        trade_id,
        conditions,
        correction
    from first_copies
    where delivery_order = 1

)

select
    -- keys
    session.session_date,
    deduplicated.symbol,
    deduplicated.ts_event_ns,
    deduplicated.ordinal,

    -- dimensions
    deduplicated.exchange,
    deduplicated.trade_id,

    -- measures
    deduplicated.price,
    deduplicated.size,

    -- flags
    coalesce(deduplicated.correction, 0) as correction,
    coalesce(array_contains(deduplicated.conditions, 37), false) as is_odd_lot
from deduplicated
inner join session
    on deduplicated.ts_event_ns >= session.globex_open_ns
    and deduplicated.ts_event_ns < session.globex_close_ns
-- A cancelled print never was; one that was corrected stands with its code.
where coalesce(deduplicated.correction, 0) not in (7, 8, 10, 11)
