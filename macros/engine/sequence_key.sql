{# One number that orders events by their sequence number, those of one number by their time: `min` of it finds the first
   event of a group, which `min_by` leaves open on ties. `sequence_key_time` gives the time back from the key and its number.
   NULL of a NULL number. #}
{% macro sequence_key(event_seq, occurred_at) -%}
{{ return(adapter.dispatch('sequence_key', 'tickhouse')(event_seq, occurred_at)) }}
{%- endmacro %}

{% macro duckdb__sequence_key(event_seq, occurred_at) -%}
(cast({{ event_seq }} as hugeint) * 100000000000000000 + epoch_us({{ occurred_at }}))
{%- endmacro %}

{% macro default__sequence_key(event_seq, occurred_at) -%}
(cast({{ event_seq }} as decimal(19, 0)) * cast(100000000000000000 as decimal(18, 0)) + unix_micros({{ occurred_at }}))
{%- endmacro %}

{% macro sequence_key_time(key, event_seq) -%}
{{ return(adapter.dispatch('sequence_key_time', 'tickhouse')(key, event_seq)) }}
{%- endmacro %}

{# A remainder of 128 bits takes 50 times as long as a difference. #}
{% macro duckdb__sequence_key_time(key, event_seq) -%}
make_timestamptz(cast({{ key }} - cast({{ event_seq }} as hugeint) * 100000000000000000 as bigint))
{%- endmacro %}

{% macro default__sequence_key_time(key, event_seq) -%}
timestamp_micros(cast({{ key }} % 100000000000000000 as bigint))
{%- endmacro %}
