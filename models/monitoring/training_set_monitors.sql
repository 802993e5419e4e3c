with

samples as (

    select * from {{ ref('training_sets_stop_outcome_flat') }}

),

-- Of train alone, as a model's own scaling would be.
train as (

    select
        samples.version,
        avg(samples.f_stop_distance_pct) as stop_distance_mean,
        stddev_samp(cast(samples.f_stop_distance_pct as double)) as stop_distance_deviation,
        avg(samples.f_volatility_15m) as volatility_mean,
        stddev_samp(cast(samples.f_volatility_15m as double)) as volatility_deviation
    from samples
    where samples.split = 'train'
    group by samples.version

),

far as (

    select
        samples.version,
        samples.split,
        samples.y_execution_success,
        case
            when abs(samples.f_stop_distance_pct - train.stop_distance_mean) > 3 * train.stop_distance_deviation
                then 1.0
            else 0.0
        end as is_far_stop_distance,
        -- without a value there is nothing to be far: NULL stays out of the share
        case
            when abs(samples.f_volatility_15m - train.volatility_mean) > 3 * train.volatility_deviation then 1.0
            when samples.f_volatility_15m is not null then 0.0
        end as is_far_volatility
    from samples
    inner join train on samples.version = train.version

),

shares as (

    select
        version,
        split,
        'execution_success' as column_name,
        'share of true' as measure,
        avg(case when y_execution_success then 1.0 else 0.0 end) as observed_share,
        0.1 as lowest,
        0.9 as highest
    from far
    group by version, split

    union all

    select
        version,
        split,
        'stop_distance_pct' as column_name,
        'share of |z| > 3' as measure,
        avg(is_far_stop_distance) as observed_share,
        0.0 as lowest,
        0.05 as highest
    from far
    group by version, split

    union all

    select
        version,
        split,
        'volatility_15m' as column_name,
        'share of |z| > 3' as measure,
        avg(is_far_volatility) as observed_share,
        0.0 as lowest,
        0.05 as highest
    from far
    group by version, split

)

select
    -- keys
    shares.version,
    shares.split,
    shares.column_name,
    shares.measure,

    -- measures
    cast(shares.observed_share as double) as observed_share,
    cast(shares.lowest as double) as lowest,
    cast(shares.highest as double) as highest,

    -- flags
    shares.observed_share between shares.lowest and shares.highest as is_within
from shares
