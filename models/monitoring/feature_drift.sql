{%- set features = [
    'stop_distance_pct', 'time_to_trigger_sec', 'time_in_position_sec', 'volatility_15m', 'volume_24h',
    'volume_24h_base', 'hour_of_day', 'day_of_week', 'consecutive_failures_1h',
] -%}
with

published as (

    select * from {{ ref('training_sets_stop_outcome') }}
    where split = 'train'

),

-- What a model of each version is asked about: samples since the last one that it was fitted on.
candidates as (

    select * from {{ ref('stop_outcome_candidates') }}
    where excluded_reason is null

),

sampled as (

    select
        candidates.features,
        candidates.metadata.as_of
    from candidates

),

fitted_through as (

    select
        published.version,
        max(published.metadata.as_of) as last_as_of
    from published
    group by published.version

),

since as (

    select
        fitted_through.version,
        sampled.features
    from fitted_through
    inner join sampled on fitted_through.last_as_of < sampled.as_of

),

train as (

    {%- for feature in features %}

        select
            published.version,
            '{{ feature }}' as feature,
            cast(published.features.{{ feature }} as double) as feature_value
        from published
        {%- if not loop.last %}

            union all
        {%- endif %}
    {%- endfor %}

),

recent as (

    {%- for feature in features %}

        select
            since.version,
            '{{ feature }}' as feature,
            cast(since.features.{{ feature }} as double) as feature_value
        from since
        {%- if not loop.last %}

            union all
        {%- endif %}
    {%- endfor %}

),

ranked as (

    select
        version,
        feature,
        feature_value,
        ntile(10) over (partition by version, feature order by feature_value) as decile
    from train
    where feature_value is not null

),

-- Upper bound of each decile. Deciles that end in one value are one bin: that value can't be told apart.
bounds as (

    select
        version,
        feature,
        decile,
        max(feature_value) as upper_bound
    from ranked
    group by version, feature, decile

),

distinct_bounds as (

    select distinct
        version,
        feature,
        upper_bound
    from bounds

),

bins as (

    select
        version,
        feature,
        lag(upper_bound) over ordered as lower_bound,
        -- the last bin is open: what is greater than all of train belongs to it
        case when lead(upper_bound) over ordered is not null then upper_bound end as upper_bound,
        row_number() over ordered as bin
    from distinct_bounds
    window ordered as (partition by version, feature order by upper_bound)

    union all

    -- what is not known is a bin of its own
    select distinct
        version,
        feature,
        cast(null as double) as lower_bound,
        cast(null as double) as upper_bound,
        0 as bin
    from train

),

observed as (

    select *, 1 as is_train from train
    union all
    select *, 0 as is_train from recent

),

counted as (

    select
        bins.version,
        bins.feature,
        bins.bin,
        count(case when observed.is_train = 1 then 1 end) as train_count,
        count(case when observed.is_train = 0 then 1 end) as recent_count
    from bins
    left join observed
        on
        bins.version = observed.version
        and bins.feature = observed.feature
        and (
            (bins.bin = 0 and observed.feature_value is null)
            or (
                bins.bin > 0
                and (bins.lower_bound is null or bins.lower_bound < observed.feature_value)
                and (bins.upper_bound is null or bins.upper_bound >= observed.feature_value)
            )
        )
    group by bins.version, bins.feature, bins.bin

),

shares as (

    select
        version,
        feature,
        sum(train_count) over totals as train_samples,
        sum(recent_count) over totals as recent_samples,
        -- an empty bin counts as one in ten thousand, so that its logarithm exists
        greatest(train_count / nullif(cast(sum(train_count) over totals as double), 0), 0.0001) as train_share,
        greatest(recent_count / nullif(cast(sum(recent_count) over totals as double), 0), 0.0001) as recent_share,
        recent_count + train_count as samples
    from counted
    window totals as (partition by version, feature)

),

indexes as (

    select
        version,
        feature,
        cast(max(train_samples) as bigint) as train_samples,
        cast(max(recent_samples) as bigint) as recent_samples,
        case
            when max(recent_samples) > 0
                then sum(
                        case
                            when samples > 0 then (recent_share - train_share) * ln(recent_share / train_share) else 0
                        end
                    )
        end as psi
    from shares
    group by version, feature

)

select
    -- keys
    version,
    feature,

    -- measures
    train_samples,
    recent_samples,
    psi,

    -- flags
    case
        when psi is null then 'unknown'
        when psi >= 0.25 then 'alert'
        when psi >= 0.1 then 'warn'
        else 'ok'
    end as status
from indexes
