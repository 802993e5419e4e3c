with

fills as (

    select * from {{ ref('fills') }}
    where operation_id is not null

),

records as (

    select * from {{ ref('stg_execution__operations') }}

),

triggers as (

    select * from {{ ref('stop_triggers') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

-- Whatever says something of an operation, when it could be known, and what it says.
news as (

    select
        client_id,
        operation_id,
        symbol,
        exchange_time as known_at,
        cast(null as varchar) as operation_side,
        side as fill_side,
        case when side = 'BUY' then quantity else 0 end as bought,
        case when side = 'BUY' then price * quantity else 0 end as bought_notional,
        case when side = 'SELL' then quantity else 0 end as sold,
        case when side = 'SELL' then price * quantity else 0 end as sold_notional,
        case when commission_asset = base_asset then commission else 0 end as base_commission,
        cast(null as decimal(20, 8)) as stop_price,
        cast(null as decimal(20, 8)) as named_entry_price,
        cast(null as timestamp with time zone) as entry_placed_at,
        cast(null as timestamp with time zone) as entry_time,
        cast(null as bigint) as event_seq
    from fills

    union all

    select
        client_id,
        operation_id,
        symbol,
        greatest(updated_at, ingested_at) as known_at,
        side as operation_side,
        null as fill_side,
        0 as bought,
        0 as bought_notional,
        0 as sold,
        0 as sold_notional,
        0 as base_commission,
        stop_price,
        null as named_entry_price,
        null as entry_placed_at,
        null as entry_time,
        null as event_seq
    from records

    union all

    select
        client_id,
        operation_id,
        symbol,
        level_known_at as known_at,
        case side when 'SELL' then 'BUY' when 'BUY' then 'SELL' end as operation_side,
        null as fill_side,
        0 as bought,
        0 as bought_notional,
        0 as sold,
        0 as sold_notional,
        0 as base_commission,
        stop_price,
        entry_price as named_entry_price,
        entry_placed_at,
        entry_time,
        level_event_seq as event_seq
    from triggers

),

instants as (

    select
        client_id,
        operation_id,
        known_at,
        max(symbol) as symbol,
        max(operation_side) as operation_side,
        max(fill_side) as fill_side,
        sum(bought) as bought,
        sum(bought_notional) as bought_notional,
        sum(sold) as sold,
        sum(sold_notional) as sold_notional,
        sum(base_commission) as base_commission,
        max(stop_price) as stop_price,
        max(named_entry_price) as named_entry_price,
        max(entry_placed_at) as entry_placed_at,
        max(entry_time) as entry_time,
        max(event_seq) as event_seq
    from news
    group by client_id, operation_id, known_at

),

-- Everything that was known then: sums of fills, and the last word on the rest.
known as (

    select
        client_id,
        operation_id,
        known_at,
        first_value(symbol ignore nulls) over so_far as symbol,
        coalesce(
            last_value(operation_side ignore nulls) over so_far,
            first_value(fill_side ignore nulls) over so_far
        ) as side,
        sum(bought) over so_far as bought,
        sum(bought_notional) over so_far as bought_notional,
        sum(sold) over so_far as sold,
        sum(sold_notional) over so_far as sold_notional,
        sum(base_commission) over so_far as base_commission,
        min(case when fill_side = 'BUY' then known_at end) over so_far as first_bought_at,
        min(case when fill_side = 'SELL' then known_at end) over so_far as first_sold_at,
        last_value(stop_price ignore nulls) over so_far as stop_price,
        last_value(named_entry_price ignore nulls) over so_far as named_entry_price,
        last_value(entry_placed_at ignore nulls) over so_far as entry_placed_at,
        last_value(entry_time ignore nulls) over so_far as entry_time,
        max(event_seq) over so_far as event_seq
    from instants
    window so_far as (
        partition by client_id, operation_id
        order by known_at
        rows between unbounded preceding and current row
    )

),

sided as (

    select
        *,
        case side when 'BUY' then bought when 'SELL' then sold end as entry_quantity,
        case side when 'BUY' then bought_notional when 'SELL' then sold_notional end as entry_notional,
        case side when 'BUY' then sold when 'SELL' then bought end as exit_quantity,
        case side when 'BUY' then first_bought_at when 'SELL' then first_sold_at end as opened_at
    from known

)

select
    -- keys
    cast(sided.known_at as date) as date,
    sided.client_id,
    sided.operation_id,
    sided.known_at,
    sided.symbol,

    -- the level
    sided.stop_price,
    coalesce(
        {{ money('cast(sided.entry_notional as double) / nullif(cast(sided.entry_quantity as double), 0)') }},
        sided.named_entry_price
    ) as entry_price,
    coalesce(sided.entry_placed_at, sided.opened_at) as entry_placed_at,
    coalesce(sided.entry_time, sided.opened_at) as entry_time,

    -- the position
    sided.opened_at,
    coalesce(
        sided.entry_quantity > 0 and not (
            sided.exit_quantity > 0
            and sided.entry_quantity - sided.exit_quantity
            <= coalesce(symbols.step_size, 0) + sided.base_commission
        ),
        false
    ) as is_active,

    -- lineage
    sided.event_seq as level_event_seq
from sided
left join symbols on sided.symbol = symbols.symbol
where {{ is_built_date('cast(sided.known_at as date)') }}
