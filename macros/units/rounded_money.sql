{# `money` of an exact product or sum of products, DECIMAL(38,16), of which `near` is a close double (see `money_near`). #}
{% macro rounded_money(exact, near) -%}
coalesce({{ money_near(exact, near) }}, {{ money(exact) }})
{%- endmacro %}
