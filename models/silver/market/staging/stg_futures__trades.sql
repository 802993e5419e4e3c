with

session as (

    select * from {{ ref('dim_session') }}

),

-- Two readings of the source and not one shared step: a step that is read twice is materialized.
single_delivery as (

    select * from {{ source('bronze', 'futures_trades') }}
    where symbol = 'ES' and not is_shared_hour and not is_superseded

),

-- Delivery is at least once. Between deliveries of one hour equal value tuples are copies: the largest multiplicity
-- found in any single delivery is the truth, as genuine identical prints stand within one delivery.
counted as (

    select
        *,
        count(*) over (partition by date, hour_utc, delivery_id) as delivery_rows
    from {{ source('bronze', 'futures_trades') }}
    where symbol = 'ES' and is_shared_hour and not is_superseded

),

copies as (

    select
        *,
        dense_rank() over (partition by date, hour_utc order by delivery_rows desc, delivery_id asc) - 1
            as delivery_rank,
        row_number() over (
            partition by
                date, hour_utc, delivery_id,
                contract, ts_event_ns, sequence, instrument_id, publisher_id,
                price, size, side, flags, depth, ts_in_delta
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
                contract, ts_event_ns, sequence, instrument_id, publisher_id,
                price, size, side, flags, depth, ts_in_delta
            order by delivery_rank
        ) as delivery_order
    from copies

),

deduplicated as (

    select contract, ts_event_ns, sequence, ordinal, price, size, aggressor, flags
    from single_delivery

    union all

    select
        contract,
        ts_event_ns,
        sequence,
        -- raised by the rank, so that rows which a later delivery adds keep their own file order
        ordinal + delivery_rank * 1099511627776 as ordinal,
        price,
        size,
        aggressor,
        flags
    from first_copies
    where delivery_order = 1

)

select
    -- keys
    session.session_date,
    deduplicated.contract,
    deduplicated.ts_event_ns,
    deduplicated.sequence,
    deduplicated.ordinal,

    -- measures
    -- exact DECIMAL points; a data test holds price % 0.25 = 0
    cast(deduplicated.price * 4 as integer) as tick,
    deduplicated.size,
    deduplicated.aggressor,

    -- flags
    deduplicated.flags
from deduplicated
inner join session
    on deduplicated.ts_event_ns >= session.globex_open_ns
    and deduplicated.ts_event_ns < session.globex_close_ns
where {{ is_outright('deduplicated.contract') }}
