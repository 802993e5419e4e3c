with

session as (

    select * from {{ ref('dim_session') }}

),

trades as (

    select * from {{ source('bronze', 'futures_trades') }}

),

in_session as (

    select
        session.session_date,
        trades.*
    from trades
    inner join session
        on trades.ts_event_ns >= session.globex_open_ns
        and trades.ts_event_ns < session.globex_close_ns
    where trades.symbol = 'ES'

),

-- Delivery is at least once. Between deliveries of one hour equal value tuples are copies: the largest multiplicity
-- found in any single delivery is the truth, as genuine identical prints stand within one delivery.
deliveries as (

    select
        date,
        hour_utc,
        delivery_id,
        row_number() over (partition by date, hour_utc order by count(*) desc, delivery_id) - 1 as delivery_rank
    from in_session
    where is_shared_hour
    group by date, hour_utc, delivery_id

),

copies as (

    select
        in_session.*,
        deliveries.delivery_rank,
        row_number() over (
            partition by
                in_session.date, in_session.hour_utc, in_session.delivery_id, in_session.contract,
                in_session.ts_event_ns, in_session.sequence, in_session.instrument_id, in_session.publisher_id,
                in_session.price, in_session.size, in_session.side, in_session.flags, in_session.depth,
                in_session.ts_in_delta
            order by in_session.ordinal
        ) as copy_number
    from in_session
    inner join deliveries
        on in_session.date = deliveries.date
        and in_session.hour_utc = deliveries.hour_utc
        and in_session.delivery_id = deliveries.delivery_id

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

    select
        session_date, contract, ts_event_ns, sequence, ordinal, price, size, aggressor, flags
    from in_session
    where not is_shared_hour

    union all

    select
        session_date, contract, ts_event_ns, sequence,
        -- raised by the rank, so that rows which a later delivery adds keep their own file order
        ordinal + delivery_rank * 1099511627776 as ordinal,
        price, size, aggressor, flags
    from first_copies
    where delivery_order = 1

)

select
    -- keys
    session_date,
    contract,
    ts_event_ns,
    sequence,
    ordinal,

    -- measures
    cast(price * 4 as integer) as tick,  -- exact: a DECIMAL times 4; a data test holds price % 0.25 = 0
    size,
    aggressor,

    -- flags
    flags
from deduplicated
where {{ is_outright('contract') }}
