with

days as (

    select * from {{ ref('portfolio_daily') }}
    where
        date >= cast('{{ var("performance_start") or "0001-01-01" }}' as date)
        and date < cast('{{ var("performance_end") or "9999-12-31" }}' as date)

),

chained as (

    select
        client_id,
        date,
        twr_index,
        first_value(twr_index) over days_of_client as first_index,
        lag(twr_index) over days_of_client as previous_index,
        max(twr_index) over (
            partition by client_id order by date rows between unbounded preceding and current row
        ) as peak_index
    from days
    window days_of_client as (partition by client_id order by date)

),

returns as (

    select
        *,
        case when previous_index > 0 then twr_index / previous_index - 1 end as daily_return,
        case when peak_index > 0 then twr_index / peak_index - 1 end as drawdown
    from chained

),

summed as (

    select
        client_id,
        min(date) as first_date,
        max(date) as last_date,
        count(*) as day_count,
        count(daily_return) as return_count,
        min(first_index) as first_index,
        max_by(twr_index, date) as last_index,
        avg(daily_return) as mean_return,
        stddev_samp(daily_return) as return_spread,
        min(drawdown) as max_drawdown
    from returns
    group by client_id

)

select
    -- keys
    client_id,

    -- the range
    first_date,
    last_date,
    cast(day_count as integer) as day_count,

    -- measures
    case when first_index > 0 then {{ percent_points('(last_index / first_index - 1) * 100') }} end as roi_pct,
    case when return_count >= 30 then mean_return / nullif(return_spread, 0) * sqrt(365) end as sharpe,
    {{ percent_points('max_drawdown * 100') }} as max_drawdown_pct
from summed
