with

-- The tokens of a date are few beside those of all dates before it: a join looks these up among those, and history is
-- read once. Straight from the dataset: as a step of its own DuckDB would keep all dates in memory.
on_date as (

    select distinct
        date,
        execution_token,
        tenant_scope
    from {{ ref('int_stop_events__tokens') }}
    where {{ is_built_date('date') }}

),

-- Tokens of a date that an earlier date holds too, of the same tenant or of another one.
earlier as (

    select
        on_date.date as met_on,
        tokens.*
    from on_date
    inner join {{ ref('int_stop_events__tokens') }} as tokens
        on
        on_date.execution_token = tokens.execution_token and on_date.tenant_scope = tokens.tenant_scope
        and on_date.date > tokens.date

),

met_again as (

    select distinct
        met_on as date,
        execution_token,
        tenant_scope
    from earlier

),

parts as (

    select * from earlier

    union all

    select
        met_again.date as met_on,
        tokens.*
    from met_again
    inner join {{ ref('int_stop_events__tokens') }} as tokens
        on
        met_again.date = tokens.date and met_again.execution_token = tokens.execution_token
        and met_again.tenant_scope = tokens.tenant_scope
    where {{ is_built_date('tokens.date') }}

),

histories as (

    select
        met_on as date,
        client_id,
        execution_token,
        tenant_scope,
        date as event_date,
        home_date as own_home_date,
        first_occurred_at,
        {{ sequence_key('first_event_seq', 'first_sequence_at') }} as first_sequence_key,
        has_null_seq
    from parts

),

-- Over all dates up to this one: `bool_or` and `min` of the parts are those of the whole.
joined as (

    select
        *,
        bool_or(has_null_seq) over tenants as has_any_null_seq,
        min(first_occurred_at) over tenants as earliest_at,
        {{ sequence_key_time('min(first_sequence_key) over tenants') }} as earliest_sequence_at,
        min(client_id) over executions != max(client_id) over executions as is_shared
    from histories
    window
        executions as (partition by date, execution_token, tenant_scope),
        tenants as (partition by date, execution_token, client_id)

)

select
    -- keys
    date,
    client_id,
    execution_token,
    event_date,

    -- where it stands
    own_home_date,
    cast(case when has_any_null_seq then earliest_at else earliest_sequence_at end as date) as home_date,

    -- flags
    has_any_null_seq as has_null_seq,
    is_shared
from joined
