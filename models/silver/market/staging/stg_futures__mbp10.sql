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

-- Two readings of the source, and below no step that is read twice: such a step is materialized, and even beside the
-- pass-through branch it costs the whole union its file order.
single_delivery as (

    select * from {{ source('bronze', 'futures_mbp10') }}
    where symbol = 'ES' and not is_shared_hour and not is_superseded

),

-- Only an hour held by several deliveries is merged; every other passes through as it is, in file order.
counted as (

    select
        *,
        count(*) over (partition by date, hour_utc, delivery_id) as delivery_rows
    from {{ source('bronze', 'futures_mbp10') }}
    where symbol = 'ES' and is_shared_hour and not is_superseded

),

copies as (

    select
        *,
        dense_rank() over (partition by date, hour_utc order by delivery_rows desc, delivery_id asc) - 1
            as delivery_rank,
        row_number() over (
            partition by date, hour_utc, delivery_id, {{ (values + levels) | join(', ') }}
            order by ordinal
        ) as copy_number
    from counted

),

-- The n-th copy is kept from the best-ranked delivery that has one.
first_copies as (

    select
        *,
        row_number() over (
            partition by date, hour_utc, copy_number, {{ (values + levels) | join(', ') }}
            order by delivery_rank
        ) as delivery_order
    from copies

)

-- The flag is a literal in each branch: a reader that filters on it plans one scan and no union, and a scan alone keeps
-- its file order.
{% for relation, ordinal, condition in [
    ('single_delivery', 'ordinal', 'not is_shared_hour'),
    ('first_copies', 'ordinal + delivery_rank * 1099511627776 as ordinal', 'delivery_order = 1'),
] %}
    select
        date,
        {{ relation == 'first_copies' }} as is_shared_hour,
        {{ ordinal }},
        ts_recv_ns,
        aggressor,
        {{ (values + levels) | join(',\n    ') }}
    from {{ relation }}
    where {{ condition }}
    {{ 'union all' if not loop.last }}
{% endfor %}
