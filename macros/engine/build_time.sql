{# When the row was built: lineage, outside of every digest. #}
{% macro build_time() -%}
{{ return(adapter.dispatch('build_time', 'tickhouse')()) }}
{%- endmacro %}

{% macro duckdb__build_time() -%}
now()
{%- endmacro %}

{% macro default__build_time() -%}
current_timestamp()
{%- endmacro %}
