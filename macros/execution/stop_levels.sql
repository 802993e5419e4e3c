{# Points with the operation and the level that stop_features() wants of them, as of t, as a query: the first half of
   F(client_id, symbol, operation_id, t) for any instant (spec/execution.md 5.2, 6).

   `points`: client_id, symbol, operation_id (NULL: the active operation of that client and symbol with the greatest
   (opened_at, operation_id)), event_time (= t), and `keys`, which name a point. `triggers`: stop_triggers, on the date of
   t; `levels`: int_operations__levels, on that date and all before; `active`: int_operations__active, on the date.

   At the instant of a trigger of the operation the level is that event's own (of several, of the greatest token's);
   at any other what was known before t. #}
{% macro stop_levels(points, triggers, levels, active, keys=[]) -%}
{%- set fields = ['stop_price', 'entry_price', 'entry_placed_at', 'entry_time'] -%}
with

active_operations as (

    select
        {% for key in keys -%}
        asked.{{ key }},
        {% endfor -%}
        asked.client_id,
        asked.symbol,
        asked.event_time,
        held.operation_id,
        row_number() over (
            partition by asked.client_id, asked.symbol, asked.event_time
            order by held.opened_at desc, held.operation_id desc
        ) as held_rank
    from {{ points }} as asked
    inner join {{ active }} as held
        on asked.client_id = held.client_id
        and asked.symbol = held.symbol
        and cast(asked.event_time as date) = held.date
        and asked.event_time > held.since_at
        and asked.event_time <= coalesce(held.until_at, asked.event_time)
    where asked.operation_id is null

),

located as (

    select
        {% for key in keys -%}
        asked.{{ key }},
        {% endfor -%}
        asked.client_id,
        asked.symbol,
        coalesce(asked.operation_id, active_operations.operation_id) as operation_id,
        asked.event_time
    from {{ points }} as asked
    left join active_operations
        on asked.operation_id is null
        and active_operations.held_rank = 1
        and asked.client_id = active_operations.client_id
        and asked.symbol = active_operations.symbol
        and asked.event_time = active_operations.event_time

),

own_triggers as (

    select
        *,
        row_number() over (
            partition by client_id, operation_id, event_time
            order by execution_token desc
        ) as trigger_rank
    from {{ triggers }}

),

known_levels as (

    select
        client_id,
        operation_id,
        known_at,
        {% for field in fields -%}
        {{ field }} as known_{{ field }},
        {% endfor -%}
        level_event_seq as known_event_seq
    from {{ levels }}

),

with_levels as (

    select
        located.*,
        known_levels.known_at,
        {% for field in fields -%}
        known_levels.known_{{ field }},
        {% endfor -%}
        known_levels.known_event_seq
    {{ asof_left(
        'located', 'known_levels', on=['client_id', 'operation_id'],
        left_time='event_time', right_time='known_at', strict=true
    ) }}

)

select
    {% for key in keys -%}
    with_levels.{{ key }},
    {% endfor -%}
    with_levels.client_id,
    with_levels.symbol,
    with_levels.operation_id,
    with_levels.event_time,
    {% for field in fields -%}
    case when own_triggers.client_id is null then with_levels.known_{{ field }} else own_triggers.{{ field }} end
        as {{ field }},
    {% endfor -%}
    case when own_triggers.client_id is null then with_levels.known_at else own_triggers.level_known_at end
        as level_known_at,
    case when own_triggers.client_id is null then with_levels.known_event_seq else own_triggers.level_event_seq end
        as level_event_seq
from with_levels
left join own_triggers
    on with_levels.client_id = own_triggers.client_id
    and with_levels.operation_id = own_triggers.operation_id
    and with_levels.event_time = own_triggers.event_time
    and own_triggers.trigger_rank = 1
{%- endmacro %}
