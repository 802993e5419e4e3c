with

markers as (

    select * from {{ records('bronze_windows') }}

),

by_date as (

    select
        cast(window_start as date) as date,
        cast(sum(rows) as bigint) as row_count
    from markers
    where dataset = 'events'
    group by cast(window_start as date)

),

ranked as (

    select
        *,
        row_number() over (order by date desc) as age
    from by_date

)

select
    date,
    row_count
from ranked
where age <= 30
