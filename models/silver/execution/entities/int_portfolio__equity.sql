with

snapshots as (

    select * from {{ ref('int_portfolio__snapshots') }}

),

holdings as (

    select
        *,
        account_type in ('ISOLATED_MARGIN', 'CROSS_MARGIN') as is_margin,
        free + locked as at_hand,
        borrowed + interest as owed
    from {{ ref('balance_snapshots') }}

),

bitcoin as (

    select symbol as btc_symbol from {{ ref('symbols') }}
    where base_asset = 'BTC' and quote_asset = {{ portfolio_quote() }}

),

bars as (

    select
        symbol as btc_symbol,
        bar_end,
        close
    from {{ ref('market_bars_1m') }}

),

-- Values. What is held to nothing needs no price.
totals as (

    select
        client_id,
        snapshot_time,
        count(distinct case when net is null or (net != 0 and value_quote is null) then asset end) as unpriced_assets,
        sum(value_quote) as total_value,
        bool_or(account_type = 'SPOT' and (net is null or (net != 0 and value_quote is null))) as lacks_spot,
        sum(case when account_type = 'SPOT' then value_quote end) as spot_value,
        bool_or(is_margin and (net is null or (net != 0 and value_quote is null))) as lacks_margin,
        sum(case when is_margin then value_quote end) as margin_value,
        bool_or(owed is null or (owed != 0 and price_quote is null)) as lacks_debt,
        sum(owed * price_quote) as debt
    from holdings
    group by client_id, snapshot_time

),

-- Margin levels. An account whose debt or assets can't be valued has none, and then the least of all isn't known.
accounts as (

    select
        client_id,
        snapshot_time,
        bool_or(
            at_hand is null or owed is null or (price_quote is null and (at_hand != 0 or owed != 0))
        ) as is_unknown,
        sum(at_hand * price_quote) as assets,
        sum(owed * price_quote) as debt
    from holdings
    where is_margin
    group by client_id, snapshot_time, account_type, symbol
    having bool_or(owed is null or owed != 0)

),

banded as (

    select
        client_id,
        snapshot_time,
        is_unknown,
        cast(assets as double) / cast(debt as double) as margin_level,
        -- exact decimals: an account stands at a bound, not a hair below it
        case
            when assets >= 2 * debt then 0
            when assets >= 1.5 * debt then 1
            when assets >= 1.3 * debt then 2
            when assets >= 1.1 * debt then 3
            else 4
        end as band
    from accounts

),

levels as (

    select
        client_id,
        snapshot_time,
        bool_or(is_unknown) as is_unknown,
        min(margin_level) as margin_level_min,
        max(band) as band
    from banded
    group by client_id, snapshot_time

),

to_price as (

    select
        snapshots.date,
        snapshots.client_id,
        snapshots.snapshot_time,
        snapshots.btc_price,
        bitcoin.btc_symbol
    from snapshots
    left join bitcoin on true

),

with_bitcoin as (

    select
        to_price.*,
        case
            when {{ portfolio_quote() }} = 'BTC' then 1
            when bars.bar_end >= to_price.snapshot_time - interval '60 minutes' then bars.close
            else to_price.btc_price
        end as btc_price_quote
    {{ asof_left('to_price', 'bars', on=['btc_symbol'], left_time='snapshot_time', right_time='bar_end') }}

),

joined as (

    select
        with_bitcoin.date,
        with_bitcoin.client_id,
        with_bitcoin.snapshot_time,
        with_bitcoin.btc_price_quote,
        coalesce(totals.unpriced_assets, 0) as unpriced_assets,
        coalesce(totals.total_value, 0) as total_value,
        case when coalesce(totals.lacks_spot, false) then null else coalesce(totals.spot_value, 0) end as spot_value,
        case when coalesce(totals.lacks_margin, false) then null else coalesce(totals.margin_value, 0) end
            as margin_net_value,
        case when coalesce(totals.lacks_debt, false) then null else coalesce(totals.debt, 0) end as margin_debt,
        levels.is_unknown,
        -- of a debt of nearly nothing the end of the type
        case when not levels.is_unknown then least(levels.margin_level_min, 999999.9999) end as margin_level_min,
        case when not levels.is_unknown then levels.band end as band
    from with_bitcoin
    left join totals
        on with_bitcoin.client_id = totals.client_id
        and with_bitcoin.snapshot_time = totals.snapshot_time
    left join levels
        on with_bitcoin.client_id = levels.client_id
        and with_bitcoin.snapshot_time = levels.snapshot_time

),

complete as (

    select
        *,
        unpriced_assets = 0 as is_complete,
        case when unpriced_assets = 0 then {{ money('total_value') }} end as total_equity_quote
    from joined

)

select
    -- keys
    date,
    client_id,
    snapshot_time,

    -- values
    total_equity_quote,
    {{ money('cast(total_equity_quote as double) / nullif(cast(btc_price_quote as double), 0)') }} as total_equity_btc,
    {{ money('spot_value') }} as spot_value,
    {{ money('margin_net_value') }} as margin_net_value,

    -- margin
    {{ money('margin_debt') }} as margin_debt,
    cast(margin_level_min as decimal(10, 4)) as margin_level_min,
    case band
        when 0 then 'SAFE' when 1 then 'CAUTION' when 2 then 'WARNING' when 3 then 'CRITICAL' when 4 then 'DANGER'
    end as margin_band,

    -- flags
    cast(unpriced_assets as integer) as unpriced_assets,
    is_complete,
    coalesce(is_unknown, false) as is_margin_level_unknown
from complete
