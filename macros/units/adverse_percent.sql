{# How much worse than a reference a price is, in percent of it; positive is adverse (spec/execution.md 4.3). Prices are
   DECIMAL, `side` is the closing direction. DOUBLE, not rounded; NULL where something is missing or the base is 0. #}
{% macro adverse_percent(side, reference, price, base=none) -%}
(case {{ side }} when 'SELL' then 1 when 'BUY' then -1 end * ({{ reference }} - {{ price }}) * 100 / nullif({{ base or reference }}, 0))
{%- endmacro %}
