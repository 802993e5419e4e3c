{# A double rounded to `digits` decimals, halves to the even digit. #}
{% macro round_even(value, digits) -%}
{{ return(adapter.dispatch('round_even', 'tickhouse')(value, digits)) }}
{%- endmacro %}

{% macro duckdb__round_even(value, digits) -%}
round_even({{ value }}, {{ digits }})
{%- endmacro %}

{% macro default__round_even(value, digits) -%}
bround({{ value }}, {{ digits }})
{%- endmacro %}
