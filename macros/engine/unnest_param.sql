{# A list parameter as a query of one BIGINT column. #}
{% macro unnest_param(name, column) -%}
{{ return(adapter.dispatch('unnest_param', 'tickhouse')(name, column)) }}
{%- endmacro %}

{% macro duckdb__unnest_param(name, column) -%}
select unnest({{ param(name, 'bigint[]') }}) as {{ column }}
{%- endmacro %}
