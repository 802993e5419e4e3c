{# A double in percent points (2.5 means 2.5 %) as DECIMAL(10,4), halves to even (spec/execution.md 2.2). Values that the
   type can't hold stand at its end: a broken price must not end the build, and every range rule still sees them. NULL
   and NaN give NULL. #}
{% macro percent_points(value) -%}
cast(case when {{ value }} between -999999.9999 and 999999.9999 then {{ round_even(value, 4) }}
    when {{ value }} < 0 then -999999.9999 when {{ value }} <= cast('infinity' as double) then 999999.9999 end as decimal(10, 4))
{%- endmacro %}
