with

tape as (

    select * from {{ ref('book_tape') }}

),

front_trades as (

    select trades.*
    from {{ ref('stg_futures__trades') }} as trades
    inner join {{ ref('dim_front_month') }} as front
        on trades.session_date = front.session_date
        and trades.contract = front.contract

),

flows as (

    select
        session_date,
        {{ idiv('ts_event_ns', param('grid_ms') ~ ' * 1000000') }} as bucket,
        side,
        tick,
        greatest(delta, 0) as added,
        greatest(-delta, 0) as lost,
        0 as filled
    from tape

    union all

    -- a seller hits the bid, a buyer lifts the ask; of an unknown aggressor nobody knows the side
    select
        session_date,
        {{ idiv('ts_event_ns', param('grid_ms') ~ ' * 1000000') }} as bucket,
        case when aggressor = 1 then 1 else 0 end as side,
        tick,
        0 as added,
        0 as lost,
        size as filled
    from front_trades
    where aggressor <> 0

)

select
    -- keys; a bucket lies in one session, so its date needs no place in the group
    min(session_date) as session_date,
    bucket * {{ param('grid_ms') }} * 1000000 as bucket_ns,
    cast(side as tinyint) as side,
    tick,

    -- measures
    cast(sum(added) as bigint) as added,
    cast(sum(lost) as bigint) as lost,
    cast(sum(filled) as bigint) as filled
from flows
group by bucket, side, tick
