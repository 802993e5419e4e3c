{# True where a list parameter holds the value of a column. #}
{% macro param_list_contains(name, column) -%}
{{ return(adapter.dispatch('param_list_contains', 'tickhouse')(name, column)) }}
{%- endmacro %}

{% macro duckdb__param_list_contains(name, column) -%}
list_contains({{ param(name, 'varchar[]') }}, {{ column }})
{%- endmacro %}
