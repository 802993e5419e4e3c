{# SPY dollars as ES ticks of 0.25 points: floor(B · ratio / 0.25 + 0.5) (spec/market.md 1.5). #}
{% macro ticks(dollars, ratio) -%}
cast(floor({{ dollars }} * {{ ratio }} / 0.25 + 0.5) as integer)
{%- endmacro %}
