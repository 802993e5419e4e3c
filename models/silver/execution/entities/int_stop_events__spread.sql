with

-- The tokens of a date are few beside those of all dates before it: a join looks these up among those, and history is
-- read once, without its texts, for which the key of a token stands. Straight from the dataset: as a step of its own
-- DuckDB would keep all dates in memory.
on_date as (

    select distinct
        date,
        token_key,
        execution_token
    from {{ ref('int_stop_events__tokens') }}
    where {{ is_built_date('date') }}

),

-- Tokens of a date that an earlier date holds too, of the same tenant or of another one.
earlier as (

    select
        on_date.date,
        on_date.token_key,
        on_date.execution_token,
        tokens.client_id,
        tokens.date as event_date,
        tokens.home_date,
        tokens.first_date,
        tokens.first_event_seq,
        tokens.first_sequence_date,
        tokens.has_null_seq
    from on_date
    inner join {{ ref('int_stop_events__tokens') }} as tokens
        on on_date.token_key = tokens.token_key and on_date.date > tokens.date

),

parts as (

    select * from earlier

    union all

    select
        tokens.date,
        tokens.token_key,
        tokens.execution_token,
        tokens.client_id,
        tokens.date as event_date,
        tokens.home_date,
        tokens.first_date,
        tokens.first_event_seq,
        tokens.first_sequence_date,
        tokens.has_null_seq
    from {{ ref('int_stop_events__tokens') }} as tokens
    where
        {{ is_built_date('tokens.date') }}
        and exists (
            select 1 from earlier
            where tokens.date = earlier.date and tokens.token_key = earlier.token_key
        )

),

-- Over all dates up to this one: `bool_or` and `min` of the parts are those of the whole.
joined as (

    select
        *,
        bool_or(has_null_seq) over tenants as has_any_null_seq,
        min(first_date) over tenants as earliest_date,
        first_value(first_sequence_date) over in_sequence as earliest_sequence_date,
        min(client_id) over executions != max(client_id) over executions as is_shared
    from parts
    window
        executions as (partition by date, token_key),
        tenants as (partition by date, token_key, client_id),
        in_sequence as (
            partition by date, token_key, client_id
            order by first_event_seq asc nulls last, first_sequence_date asc
        )

)

select
    -- keys
    date,
    client_id,
    execution_token,
    event_date,

    -- where it stands
    home_date as own_home_date,
    case when has_any_null_seq then earliest_date else earliest_sequence_date end as home_date,

    -- flags
    has_any_null_seq as has_null_seq,
    is_shared
from joined
