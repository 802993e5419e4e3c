with

session as (

    select
        *,
        case when {{ param('event_hours') }} = 'all' then globex_close_ns else rth_close_ns end
            as session_end_ns
    from {{ ref('dim_session') }}

),

kinds as (

    select * from {{ ref('level_kinds') }}
    where {{ param_list_contains('level_kinds', 'level_kind_family') }}

),

ratios as (

    select * from {{ ref('dim_es_spy_ratio') }}

),

ranges as (

    select * from {{ ref('int_bars__ranges') }}

),

averages as (

    select * from {{ ref('int_bars__averages') }}

),

running as (

    select * from {{ ref('int_levels__running') }}

),

options as (

    select * from {{ ref('int_levels__options') }}

),

-- Whole minutes at which dynamic levels are evaluated; each value holds for [m, m + 60 s).
minutes as (

    select
        session.session_date,
        session.globex_open_ns + grid.minute_number * 60000000000 as minute_ns
    from session
    cross join range(1380) as grid (minute_number)
    where session.globex_open_ns + grid.minute_number * 60000000000 < session.session_end_ns

),

averages_at_minute as (

    select
        minutes.session_date,
        minutes.minute_ns,
        averages.sum_200_ticks,
        averages.sum_400_ticks
    {{ asof_left(
        'minutes', 'averages', on=['session_date'], left_time='minute_ns', right_time='bar_end_ns'
    ) }}

),

dynamic_levels as (

    select
        session_date,
        minute_ns,
        source_asof_ns,
        level_kind_name,
        level_price_raw
    from running

    union all

    select
        session_date,
        minute_ns,
        source_asof_ns,
        level_kind_name,
        level_price_raw
    from options

    union all

    select
        session_date,
        minute_ns,
        minute_ns as source_asof_ns,
        'SMA_200' as level_kind_name,
        sum_200_ticks / cast(200 as double) * 0.25 as level_price_raw
    from averages_at_minute
    where sum_200_ticks is not null

    union all

    select
        session_date,
        minute_ns,
        minute_ns as source_asof_ns,
        'SMA_400' as level_kind_name,
        sum_400_ticks / cast(400 as double) * 0.25 as level_price_raw
    from averages_at_minute
    where sum_400_ticks is not null

),

-- What a user has drawn, as far as it reaches into the session.
user_levels as (

    select
        session.session_date,
        given.price_points as level_price_raw,
        greatest(given.from_ns, session.globex_open_ns) as valid_from_ns,
        least(given.until_ns, session.session_end_ns) as valid_to_ns
    from ({{ user_levels() }}) as given
    inner join session on given.from_ns < session.session_end_ns and given.until_ns > session.globex_open_ns

),

all_levels as (

    select
        session_date,
        level_kind_family || '_HIGH' as level_kind_name,
        high_tick * cast(0.25 as double) as level_price_raw,
        valid_from_ns,
        valid_to_ns,
        false as is_dynamic,
        valid_from_ns as source_asof_ns
    from ranges

    union all

    select
        session_date,
        level_kind_family || '_LOW' as level_kind_name,
        low_tick * cast(0.25 as double) as level_price_raw,
        valid_from_ns,
        valid_to_ns,
        false as is_dynamic,
        valid_from_ns as source_asof_ns
    from ranges

    union all

    select
        session_date,
        'USER' as level_kind_name,
        level_price_raw,
        valid_from_ns,
        valid_to_ns,
        false as is_dynamic,
        valid_from_ns as source_asof_ns
    from user_levels

    union all

    select
        session_date,
        level_kind_name,
        level_price_raw,
        minute_ns as valid_from_ns,
        minute_ns + 60000000000 as valid_to_ns,
        true as is_dynamic,
        source_asof_ns
    from dynamic_levels

),

named as (

    select
        all_levels.session_date,
        all_levels.level_kind_name,
        kinds.level_kind,
        all_levels.level_price_raw,
        cast(floor(all_levels.level_price_raw / 0.25 + 0.5) as integer) as level_tick,
        all_levels.valid_from_ns,
        all_levels.valid_to_ns,
        all_levels.is_dynamic,
        all_levels.source_asof_ns
    from all_levels
    inner join kinds on all_levels.level_kind_name = kinds.level_kind_name

)

select
    -- keys
    named.session_date,
    case
        when named.level_kind_name in ('ROUND', 'STRIKE', 'USER')
            then named.level_kind_name || '_' || named.level_tick
        else named.level_kind_name
    end as level_id,
    named.level_kind,
    named.level_kind_name,

    -- measures
    named.level_price_raw,
    named.level_tick,
    named.level_tick * cast(0.25 as double) as level_price,
    ratios.es_spy_ratio,

    -- time
    named.valid_from_ns,
    named.valid_to_ns,
    named.source_asof_ns,

    -- flags
    named.is_dynamic as dynamic
{{ asof_left(
        'named', 'ratios', on=['session_date'], left_time='valid_from_ns', right_time='asof_ns'
    ) }}
