{# Microseconds since 1970 UTC of a timestamp, BIGINT: instants are subtracted as integers, exactly. #}
{% macro epoch_us(column) -%}
{{ return(adapter.dispatch('epoch_us', 'tickhouse')(column)) }}
{%- endmacro %}

{% macro duckdb__epoch_us(column) -%}
epoch_us({{ column }})
{%- endmacro %}

{% macro default__epoch_us(column) -%}
unix_micros({{ column }})
{%- endmacro %}
