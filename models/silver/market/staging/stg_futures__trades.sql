with

session as (

    select * from {{ ref('dim_session') }}

),

-- Read twice, not shared: a step that is read twice is materialized.
single_delivery as (

    select * from {{ source('bronze', 'futures_trades') }}
    where symbol = 'ES' and not is_shared_hour

),

shared_hours as (

    select * from {{ source('bronze', 'futures_trades') }}
    where symbol = 'ES' and is_shared_hour

),

-- Delivery is at least once. Between deliveries of one hour equal value tuples are copies: the largest multiplicity
-- found in any single delivery is the truth, as genuine identical prints stand within one delivery.
deliveries as (

    select
        date,
        hour_utc,
        delivery_id,
        row_number() over (partition by date, hour_utc order by count(*) desc, delivery_id)
        - 1 as delivery_rank
    from shared_hours
    group by date, hour_utc, delivery_id

),

copies as (

    select
        shared_hours.*,
        deliveries.delivery_rank,
        row_number() over (
            partition by
                shared_hours.date,
                shared_hours.hour_utc,
                shared_hours.delivery_id,
                shared_hours.contract,
                shared_hours.ts_event_ns,
                shared_hours.sequence,
                shared_hours.instrument_id,
                shared_hours.publisher_id,
                shared_hours.price,
                shared_hours.size,
                shared_hours.side,
                shared_hours.flags,
                shared_hours.depth,
                shared_hours.ts_in_delta
            order by shared_hours.ordinal
        ) as copy_number
    from shared_hours
    inner join deliveries
        on shared_hours.date = deliveries.date
        and shared_hours.hour_utc = deliveries.hour_utc
        and shared_hours.delivery_id = deliveries.delivery_id

),

first_copies as (

    -- The n-th copy is kept from the best-ranked delivery that has one.
    select
        copies.*,
        row_number() over (
            partition by
                date, hour_utc, contract, ts_event_ns, sequence, instrument_id, publisher_id,
                price, size, side, flags, depth, ts_in_delta, copy_number
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
