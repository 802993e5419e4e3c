{# One number of a column's values by row, whatever the order of rows: equal columns have equal ones. Numbers are compared
   as numbers, so that an integer and a double may be equal. An aggregate. #}
{% macro fingerprint(key, column) -%}
{{ return(adapter.dispatch('fingerprint', 'tickhouse')(key, column)) }}
{%- endmacro %}

{% macro duckdb__fingerprint(key, column) -%}
{#- hash() of several values joins theirs by xor: once more over it, or a value's row would not matter -#}
{%- set is_number = column.data_type in ('tinyint', 'smallint', 'integer', 'bigint', 'double') -%}
bit_xor(hash(hash({{ key }}, {{ 'cast(' ~ column.name ~ ' as double)' if is_number else column.name }})))
{%- endmacro %}
