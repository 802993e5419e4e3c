with

markers as (

    select * from {{ records('bronze_windows') }}

),

sources as (

    select * from {{ records('bronze_sources') }}

),

-- Of all dates that there are: a day without rows has to alarm, not to be empty.
newest as (

    select
        dataset,
        max(max_occurred_at) as last_occurred_at
    from markers
    group by dataset

),

aged as (

    select
        sources.*,
        newest.last_occurred_at,
        now() - newest.last_occurred_at as max_lag,
        now() - sources.last_ingested_at as ingest_lag,
        now() - sources.error_after_s * interval '1' second as stale_before,
        now() - sources.warn_after_s * interval '1' second as late_before
    from sources
    left join newest on sources.dataset = newest.dataset

)

select
    -- keys
    dataset,

    -- measures
    max_lag,
    ingest_lag,

    -- flags
    case
        when last_ingested_at is null then 'never landed'
        when last_ingested_at < stale_before then 'stale'
        when last_ingested_at < late_before then 'late'
        else 'fresh'
    end as status,

    -- time
    last_occurred_at,
    last_ingested_at
from aged
