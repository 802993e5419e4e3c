with

records as (

    select * from {{ ref('int_operations__records') }}

),

symbols as (

    select * from {{ ref('symbols') }}

),

bar_dates as (

    select distinct
        date,
        symbol
    from {{ ref('market_bars_1m') }}

),

homes as (

    select
        client_id,
        operation_id,
        min(date) as home_date
    from records
    group by client_id, operation_id

),

traded as (

    select
        records.date,
        records.client_id,
        records.operation_id,
        records.symbol,
        sum(records.net_bought) over so_far as held_quantity,
        sum(records.base_commission) over so_far + coalesce(symbols.step_size, 0) as dust,
        lag(records.date) over dates as previous_date,
        lead(records.date) over dates as next_date
    from records
    left join symbols on records.symbol = symbols.symbol
    where records.net_bought is not null
    window
        dates as (partition by records.client_id, records.operation_id order by records.date),
        so_far as (
            partition by records.client_id, records.operation_id order by records.date
            rows between unbounded preceding and current row
        )

),

stands as (

    select
        traded.*,
        abs(held_quantity) > dust as is_open,
        lag(abs(held_quantity) > dust) over (partition by client_id, operation_id order by date) as was_open
    from traded

),

-- The dates on which something was held, from one date of fills to before the next.
held as (

    select
        bar_dates.date,
        stands.client_id,
        stands.operation_id,
        bar_dates.date as bar_date
    from stands
    inner join bar_dates
        on stands.symbol = bar_dates.symbol
        and stands.date <= bar_dates.date
        and (stands.date = bar_dates.date or stands.is_open)
        and (stands.next_date is null or stands.next_date > bar_dates.date)

),

-- Whoever enters anew had nothing since, and its life went on: known on the date of the new entry only.
gaps as (

    select
        stands.date,
        stands.client_id,
        stands.operation_id,
        cast(stands.previous_date + cast(steps.step_number as integer) as date) as bar_date
    from stands
    inner join range(1, 4000) as steps (step_number)
        on stands.previous_date + cast(steps.step_number as integer) < stands.date
    where not stands.was_open

),

together as (

    select * from held

    union all

    select * from gaps

)

select
    together.date,
    together.client_id,
    together.operation_id,
    homes.home_date,
    together.bar_date
from together
inner join homes
    on together.client_id = homes.client_id
    and together.operation_id = homes.operation_id
where {{ is_built_date('together.date') }}
