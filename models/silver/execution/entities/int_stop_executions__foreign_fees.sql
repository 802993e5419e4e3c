with

paid as (

    select
        date,
        client_id,
        execution_token,
        symbol,
        (exit_fee).asset as fee_asset,
        (exit_fee).amount as fee,
        (exit_fee).paid_at as paid_at
    from {{ each_of(ref('int_stop_executions__folded'), 'exit_fees', 'exit_fee') }}

),

symbols as (

    select * from {{ ref('symbols') }}

)

select
    -- keys
    paid.date,
    paid.client_id,
    paid.execution_token,
    paid.fee_asset || symbols.quote_asset as price_symbol,
    paid.paid_at,

    -- measures
    cast(sum(paid.fee) as decimal(20, 8)) as fee,

    -- dates of the bars that may price it
    cast(paid.paid_at as date) as bars_date,
    cast(paid.paid_at - interval '60 minutes' as date) as earlier_bars_date
from paid
inner join symbols on paid.symbol = symbols.symbol
where paid.fee_asset not in (symbols.base_asset, symbols.quote_asset)
group by paid.date, paid.client_id, paid.execution_token, paid.fee_asset, symbols.quote_asset, paid.paid_at
