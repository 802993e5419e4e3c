-- What was paid to the exchange, by client, symbol and asset of the fee: in that asset, in the quote asset, and as a
-- share of what was traded. `--vars '{start: 2024-01-01, end: 2024-12-27}'`, both inclusive, by default all dates.
select
    client_id,
    symbol,
    commission_asset,
    count(*) as fills,
    sum(commission) as commission,
    sum(fee_quote) as fee_quote,
    count(*) - count(fee_quote) as unpriced_fills,
    sum(quote_quantity) as traded_quote,
    10000.0 * sum(fee_quote) / nullif(sum(quote_quantity) filter (fee_quote is not null), 0) as fee_bps
from {{ ref('fills') }}
where
    date between cast('{{ var("start", none) or "0001-01-01" }}' as date)
    and cast('{{ var("end", none) or "9999-12-31" }}' as date)
group by client_id, symbol, commission_asset
order by client_id asc, fee_quote desc, symbol asc, commission_asset asc
