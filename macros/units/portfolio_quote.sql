{# The asset that portfolios are valued in. A macro, not a var of dbt: a var could change without any build key. #}
{% macro portfolio_quote() -%}
'USDC'
{%- endmacro %}
