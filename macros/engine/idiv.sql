{# Integer division, towards zero. #}
{% macro idiv(dividend, divisor) -%}
{{ return(adapter.dispatch('idiv', 'tickhouse')(dividend, divisor)) }}
{%- endmacro %}

{% macro duckdb__idiv(dividend, divisor) -%}
(({{ dividend }}) // ({{ divisor }}))
{%- endmacro %}

{% macro default__idiv(dividend, divisor) -%}
(({{ dividend }}) div ({{ divisor }}))
{%- endmacro %}
