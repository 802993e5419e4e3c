with

markers as (

    select * from {{ records('bronze_windows') }}

),

-- To the newest hour of any dataset: one that stops while others go on has missing hours. When all stop,
-- bronze_freshness says so.
spans as (

    select
        dataset,
        min(window_start) as first_start
    from markers
    group by dataset

),

newest as (

    select max(window_end) as newest_end
    from markers

),

-- two months back: what the markers are read for
hours_back as (

    select hour_number from range(1488) as hours (hour_number)

),

expected as (

    select
        spans.dataset,
        newest.newest_end,
        newest.newest_end - (hours_back.hour_number + 1) * interval '1' hour as window_start
    from spans
    cross join newest
    cross join hours_back
    where newest.newest_end - (hours_back.hour_number + 1) * interval '1' hour >= spans.first_start

),

found as (

    select
        dataset,
        window_start,
        bool_and(is_supplement or state <> 'provisional') as is_sealed,
        cast(sum(rows) as bigint) as row_count,
        bool_or(incomplete) as is_incomplete,
        cast(sum(reject_rows) as bigint) as reject_rows,
        cast(sum(case when is_supplement then 1 else 0 end) as integer) as supplements,
        cast(sum(case when is_supplement then rows else 0 end) as bigint) as late_rows
    from markers
    group by dataset, window_start

)

select
    -- keys
    expected.dataset,
    expected.window_start,

    -- flags
    found.dataset is not null as is_present,
    coalesce(found.is_sealed, false) as is_sealed,
    coalesce(found.is_incomplete, false) as is_incomplete,

    -- measures
    found.row_count,
    found.reject_rows,
    found.supplements,
    found.late_rows,
    case
        when not coalesce(found.is_sealed, false) then expected.newest_end - expected.window_start - interval '1' hour
    end as seal_lag
from expected
left join found
    on expected.dataset = found.dataset and expected.window_start = found.window_start
