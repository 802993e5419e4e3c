{# An exact amount as DECIMAL(20,8), halves away from zero (spec/execution.md 2.2). What the type can't hold is NULL: a
   broken quantity must not end the build, and whoever needs the amount finds it missing. #}
{% macro money(value) -%}
cast(case when {{ value }} between -999999999999 and 999999999999 then {{ value }} end as decimal(20, 8))
{%- endmacro %}
