{%- set flat = [
    ('SPOT', '', 'USDC', 'spot_usdc', '0'),
    ('SPOT', '', 'BTC', 'spot_btc', '0'),
    ('ISOLATED_MARGIN', 'BTCUSDC', 'BTC', 'margin_btc_free', 'margin_btc_borrowed'),
    ('ISOLATED_MARGIN', 'BTCUSDC', 'USDC', 'margin_usdc_free', 'margin_usdc_borrowed'),
] -%}
{%- set listed_fields = ['account_type', 'symbol', 'asset', 'free', 'locked', 'borrowed', 'interest'] -%}

with

snapshots as (

    select * from {{ ref('int_portfolio__snapshots') }}

),

pairs as (

    select * from {{ ref('symbols') }}
    where quote_asset = {{ portfolio_quote() }}

),

bars as (

    select
        symbol as price_symbol,
        bar_end,
        close
    from {{ ref('market_bars_1m') }}

),

listed as (

    select
        date,
        client_id,
        snapshot_time,
        btc_price,
        {{ explode(json_objects('balances', listed_fields)) }} as held
    from snapshots
    where balances is not null

),

-- What isn't listed beside `free` is nothing, as in the flat form, but for a loan: margin accounts say theirs.
from_lists as (

    select
        date,
        client_id,
        snapshot_time,
        btc_price,
        held.account_type,
        case when held.account_type = 'ISOLATED_MARGIN' then coalesce(held.symbol, '') else '' end as symbol,
        held.asset,
        {{ decimal_text('held.free') }} as free,
        coalesce({{ decimal_text('held.locked') }}, 0) as locked,
        case
            when held.account_type not in ('ISOLATED_MARGIN', 'CROSS_MARGIN') and held.borrowed is null then 0
            else {{ decimal_text('held.borrowed') }}
        end as borrowed,
        coalesce({{ decimal_text('held.interest') }}, 0) as interest,
        held.locked is null
        or (held.interest is null and held.account_type in ('ISOLATED_MARGIN', 'CROSS_MARGIN')) as lacks_parts
    from listed

),

from_columns as (

    {% for account_type, symbol, asset, free, borrowed in flat %}
        select
            date,
            client_id,
            snapshot_time,
            btc_price,
            '{{ account_type }}' as account_type,
            '{{ symbol }}' as symbol,
            '{{ asset }}' as asset,
            {{ free }} as free,
            0 as locked,
            {{ borrowed }} as borrowed,
            0 as interest,
            true as lacks_parts
        from snapshots
        where balances is null and ({{ free }} is not null{{ ' or ' ~ borrowed ~ ' is not null' if borrowed != '0' }})
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

holdings as (

    select * from from_lists

    union all

    select * from from_columns

),

-- An asset listed twice in one account is held in both rows; where a part of one isn't known, its sum isn't.
held_once as (

    select
        date,
        client_id,
        snapshot_time,
        account_type,
        symbol,
        asset,
        max(btc_price) as btc_price,
        case when count(free) = count(*) then sum(free) end as free,
        sum(locked) as locked,
        case when count(borrowed) = count(*) then sum(borrowed) end as borrowed,
        sum(interest) as interest,
        bool_or(lacks_parts) as lacks_parts
    from holdings
    group by date, client_id, snapshot_time, account_type, symbol, asset

),

with_pair as (

    select
        held_once.*,
        held_once.free + held_once.locked - held_once.borrowed - held_once.interest as net,
        pairs.symbol as price_symbol
    from held_once
    left join pairs on held_once.asset = pairs.base_asset

),

with_bar as (

    select
        with_pair.*,
        bars.bar_end >= with_pair.snapshot_time - interval '60 minutes' as has_bar,
        bars.bar_end,
        bars.close
    {{ asof_left('with_pair', 'bars', on=['price_symbol'], left_time='snapshot_time', right_time='bar_end') }}

),

priced as (

    select
        *,
        case
            when asset = {{ portfolio_quote() }} then 'QUOTE'
            when has_bar then 'BAR'
            when asset = 'BTC' and btc_price is not null then 'SNAPSHOT'
        end as price_kind
    from with_bar

),

valued as (

    select
        *,
        case price_kind when 'QUOTE' then 1 when 'BAR' then close when 'SNAPSHOT' then btc_price end as price_quote,
        case when price_kind = 'BAR' then bar_end when price_kind is not null then snapshot_time end as price_time
    from priced

)

select
    -- keys
    date,
    client_id,
    snapshot_time,
    account_type,
    symbol,
    asset,

    -- measures
    cast(free as decimal(20, 8)) as free,
    cast(locked as decimal(20, 8)) as locked,
    cast(borrowed as decimal(20, 8)) as borrowed,
    cast(interest as decimal(20, 8)) as interest,
    cast(net as decimal(20, 8)) as net,
    cast(price_quote as decimal(20, 8)) as price_quote,
    price_time,
    {{ money('cast(net as decimal(20, 8)) * cast(price_quote as decimal(20, 8))') }} as value_quote,

    -- flags
    {{ flag_list({
        'BALANCE_UNKNOWN': 'net is null',
        'LOCKED_INTEREST_UNKNOWN': 'lacks_parts',
        'PRICE_OF_SNAPSHOT': "price_kind = 'SNAPSHOT'",
        'UNPRICED': 'price_kind is null',
    }) }} as quality_flags
from valued
