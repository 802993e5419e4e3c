{# Position of a row in its file, which datasets keep in key order (the lake checks it before it publishes). On DuckDB a
   window without ORDER BY streams in insertion order; sorting a day of events to number them would cost more than
   the aggregate it serves. Spark has to order by the key. #}
{% macro file_order(key) -%}
{{ return(adapter.dispatch('file_order', 'tickhouse')(key)) }}
{%- endmacro %}

{% macro duckdb__file_order(key) -%}
row_number() over ()
{%- endmacro %}

{% macro default__file_order(key) -%}
row_number() over (order by {{ key | join(', ') }})
{%- endmacro %}
