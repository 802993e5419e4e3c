with

markers as (

    select * from {{ records('bronze_windows') }}

),

newest as (

    select max(window_end) as newest_end
    from markers

),

spans as (

    select
        dataset,
        cast(min(window_start) as date) as first_date
    from markers
    group by dataset

),

-- Days that have ended, by the newest hour landed of any source: today has not all of its rows yet.
days as (

    select
        spans.dataset,
        spans.first_date + cast(numbers.day_number as integer) as date
    from spans
    cross join newest
    cross join range(62) as numbers (day_number)
    where spans.first_date + cast(numbers.day_number as integer) < cast(newest.newest_end as date)

),

landed as (

    select
        dataset,
        cast(window_start as date) as date,
        sum(rows) as row_count
    from markers
    group by dataset, cast(window_start as date)

),

counted as (

    select
        days.dataset,
        days.date,
        cast(coalesce(landed.row_count, 0) as bigint) as row_count
    from days
    left join landed on days.dataset = landed.dataset and days.date = landed.date

),

compared as (

    select
        counted.dataset,
        counted.date,
        counted.row_count,
        cast(median(earlier.row_count) as double) as median_rows,
        count(earlier.date) as days_before
    from counted
    left join counted as earlier
        on
        counted.dataset = earlier.dataset
        and counted.date > earlier.date
        and earlier.date >= counted.date - 28
    group by counted.dataset, counted.date, counted.row_count

)

select
    -- keys
    dataset,
    date,

    -- measures
    row_count,
    median_rows,
    100.0 * row_count / nullif(median_rows, 0) as median_pct,
    cast(days_before as integer) as days_before,

    -- flags
    case
        -- a week: fewer days say little of a market that knows weekends
        when days_before < 7 then 'unknown'
        when row_count < 0.5 * median_rows or row_count > 2 * median_rows then 'alert'
        else 'ok'
    end as status
from compared
