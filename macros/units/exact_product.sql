{# Product of two DECIMAL(20,8), exact as DECIMAL(38,16) (spec/execution.md 2.2). NULL from 10^18 on, where landing rejects
   a notional: numbers out of a payload have not passed it, and a broken one must not end the build. #}
{% macro exact_product(left, right) -%}
case when abs(cast({{ left }} as double) * cast({{ right }} as double)) < 1000000000000000000
    then cast({{ left }} as decimal(20, 8)) * cast({{ right }} as decimal(20, 8)) end
{%- endmacro %}
