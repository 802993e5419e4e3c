with

equity as (

    select * from {{ ref('int_portfolio__equity') }}

),

flows as (

    select * from {{ ref('int_portfolio__flows') }}

),

unrealized as (

    select * from {{ ref('int_portfolio__unrealized') }}

),

-- Flows summed up to each snapshot; one at its very instant is in it.
timeline as (

    select
        client_id,
        event_time as happened_at,
        0 as is_snapshot,
        coalesce(value_quote, 0) as flow,
        case when value_quote is null then 1 else 0 end as unpriced_flow
    from flows

    union all

    select
        client_id,
        snapshot_time as happened_at,
        1 as is_snapshot,
        0 as flow,
        0 as unpriced_flow
    from equity

),

running_flows as (

    select
        client_id,
        happened_at,
        is_snapshot,
        sum(flow) over so_far as flows_so_far,
        sum(unpriced_flow) over so_far as unpriced_so_far
    from timeline
    window so_far as (
        partition by client_id order by happened_at, is_snapshot rows between unbounded preceding and current row
    )

),

with_flows as (

    select
        equity.*,
        running_flows.flows_so_far,
        running_flows.unpriced_so_far
    from equity
    inner join running_flows
        on equity.client_id = running_flows.client_id
        and equity.snapshot_time = running_flows.happened_at
        and running_flows.is_snapshot = 1

),

-- Each snapshot beside the complete one before it.
chained as (

    select
        *,
        last_value(total_equity_quote ignore nulls) over before as previous_equity,
        last_value(case when is_complete then flows_so_far end ignore nulls) over before as previous_flows,
        last_value(case when is_complete then unpriced_so_far end ignore nulls) over before as previous_unpriced
    from with_flows
    window before as (
        partition by client_id order by snapshot_time rows between unbounded preceding and 1 preceding
    )

),

with_flow as (

    select
        *,
        unpriced_so_far > previous_unpriced as has_unpriced_flow,
        case when unpriced_so_far = previous_unpriced then flows_so_far - previous_flows end as flow
    from chained

),

ratios as (

    select
        *,
        case
            when previous_equity > 0
                then cast(total_equity_quote - flow as double) / cast(previous_equity as double)
        end as ratio
    from with_flow

),

-- What the type of a return can't hold, as after an equity of next to nothing, is no return.
factors as (

    select
        *,
        case when abs(ratio) < 99999999 then ratio end as factor
    from ratios

),

-- A period whose return isn't known leaves the index where it is.
indexed as (

    select
        *,
        {{ running_product('coalesce(factor, cast(1 as double))', 'so_far') }} as twr_index
    from factors
    window so_far as (
        partition by client_id order by snapshot_time rows between unbounded preceding and current row
    )

),

with_peak as (

    select
        *,
        max(case when is_complete then twr_index end) over so_far as twr_peak
    from indexed
    window so_far as (
        partition by client_id order by snapshot_time rows between unbounded preceding and current row
    )

)

select
    -- keys
    with_peak.date,
    with_peak.client_id,
    with_peak.snapshot_time,

    -- values
    with_peak.total_equity_quote,
    with_peak.total_equity_btc,
    with_peak.spot_value,
    with_peak.margin_net_value,
    unrealized.unrealized_pnl,

    -- margin
    with_peak.margin_debt,
    with_peak.margin_level_min,
    with_peak.margin_band,

    -- returns
    {{ money('with_peak.flow') }} as net_external_flow_since_prev,
    cast(with_peak.factor - 1 as decimal(18, 10)) as twr_period_return,
    case when with_peak.is_complete then with_peak.twr_index end as twr_index,
    case
        when with_peak.is_complete then {{ percent_points('(with_peak.twr_index / with_peak.twr_peak - 1) * 100') }}
    end as drawdown_pct,

    -- flags
    with_peak.unpriced_assets,
    with_peak.is_complete,
    {{ flag_list({
        'FLOW_UNPRICED': 'with_peak.has_unpriced_flow',
        'INCOMPLETE': 'not with_peak.is_complete',
        'MARGIN_LEVEL_UNKNOWN': 'with_peak.is_margin_level_unknown',
        'NO_EQUITY_BEFORE': 'with_peak.previous_equity <= 0',
        'RETURN_RANGE': 'with_peak.ratio is not null and with_peak.factor is null',
        'UNREALIZED_UNPRICED': 'unrealized.is_unpriced',
    }) }} as quality_flags
from with_peak
left join unrealized
    on with_peak.client_id = unrealized.client_id
    and with_peak.snapshot_time = unrealized.snapshot_time
where {{ is_built_date('with_peak.date') }}
