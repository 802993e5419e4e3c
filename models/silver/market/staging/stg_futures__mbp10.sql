{{ config(materialized='view') }}
{% set values = [
    'ts_event_ns', 'sequence', 'publisher_id', 'instrument_id', 'contract', 'price', 'size', 'side', 'flags', 'depth',
    'ts_in_delta', 'action',
] %}
{% set levels = [] %}
{% for what in ['bid_px', 'ask_px', 'bid_sz', 'ask_sz', 'bid_ct', 'ask_ct'] %}
    {% for k in range(10) %}{% do levels.append(what ~ '_0' ~ k) %}{% endfor %}
{% endfor %}
with

-- Two readings of the source and not one shared step: a step that is read twice is materialized, and a day of these
-- rows would lose its file order and fill the memory.
single_delivery as (

    select * from {{ source('bronze', 'futures_mbp10') }}
    where symbol = 'ES' and not is_shared_hour

),

-- Only an hour held by several deliveries is merged; every other passes through as it is, in file order.
records as (

    select * from {{ source('bronze', 'futures_mbp10') }}
    where symbol = 'ES' and is_shared_hour

),

deliveries as (

    select
        date,
        hour_utc,
        delivery_id,
        row_number() over (partition by date, hour_utc order by count(*) desc, delivery_id)
        - 1 as delivery_rank
    from records
    group by date, hour_utc, delivery_id

),

copies as (

    select
        records.*,
        deliveries.delivery_rank,
        row_number() over (
            partition by
                records.date, records.hour_utc, records.delivery_id,
                {{ 'records.' ~ (values + levels) | join(', records.') }}
            order by records.ordinal
        ) as copy_number
    from records
    inner join deliveries
        on records.date = deliveries.date
        and records.hour_utc = deliveries.hour_utc
        and records.delivery_id = deliveries.delivery_id

),

first_copies as (

    select
        *,
        row_number() over (
            partition by
                date, hour_utc, copy_number,
                {{ (values + levels) | join(', ') }}
            order by delivery_rank
        ) as delivery_order
    from copies

)

{% for relation, ordinal, condition in [
    ('single_delivery', 'ordinal', 'true'),
    ('first_copies', 'ordinal + delivery_rank * 1099511627776 as ordinal', 'delivery_order = 1'),
] %}
    select
        date,
        is_shared_hour,
        {{ ordinal }},
        ts_recv_ns,
        aggressor,
        {{ (values + levels) | join(',\n    ') }}
    from {{ relation }}
    where {{ condition }}
    {{ 'union all' if not loop.last }}
{% endfor %}
