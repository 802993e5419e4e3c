{%- set staged = {
    'events': ('stg_execution__stop_events', "cast(event_id as varchar)"),
    'orders': ('stg_execution__ledger', "transaction_id"),
    'operations': (
        'stg_execution__operations', "cast(operation_id as varchar) || '|' || cast(updated_at as varchar)",
    ),
    'balance_snapshots': ('stg_execution__balance_snapshots', "cast(snapshot_time as varchar)"),
    'trades': ('stg_binance__fills', "account_type || '|' || symbol || '|' || cast(trade_id as varchar)"),
} -%}
with

staged as (
    {%- for dataset, (model, key_text) in staged.items() %}

        select
            '{{ dataset }}' as dataset,
            client_id,
            {{ key_text }} as key_text,
            date,
            landed_rows,
            has_conflict
        from {{ ref(model) }}
        {%- if not loop.last %}

            union all
        {%- endif %}
    {%- endfor %}

)

select
    -- keys
    dataset,
    client_id,
    key_text,

    -- measures
    cast(sum(landed_rows) as bigint) as copies,
    cast(count(*) as integer) as dates,

    -- flags
    bool_or(has_conflict) as has_conflict,

    -- time
    min(date) as first_date,
    max(date) as last_date
from staged
group by dataset, client_id, key_text
having sum(landed_rows) > 1
