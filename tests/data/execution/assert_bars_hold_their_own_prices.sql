-- Prices of a bar lie between its lowest and its highest; a bar without trades is flat and has no volume
-- (spec/execution.md 4.7).
select
    symbol,
    open_time,
    bar_source
from {{ ref('market_bars_1m') }}
where
    low > least(open, close)
    or high < greatest(open, close)
    or low <= 0
    or volume < 0
    or quote_volume < 0
    or (bar_source = 'agg_trades' and trade_count = 0 and (low != high or volume != 0 or quote_volume != 0))
    or date_trunc('minute', open_time) != open_time
