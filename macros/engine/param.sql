{# A parameter of the param set under construction. A session variable on DuckDB, so that the compiled SQL is the same
   for every set; `cast_to` gives it a type where the value alone would not. #}
{% macro param(name, cast_to=none) -%}
{{ return(adapter.dispatch('param', 'tickhouse')(name, cast_to)) }}
{%- endmacro %}

{% macro duckdb__param(name, cast_to) -%}
{%- if cast_to -%} cast(getvariable('p_{{ name }}') as {{ cast_to }}) {%- else -%} getvariable('p_{{ name }}') {%- endif -%}
{%- endmacro %}
