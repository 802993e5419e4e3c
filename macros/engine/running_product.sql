{# Product of a double over the frame of a named window that starts with its partition. NULL factors are left out. #}
{% macro running_product(value, window_name) -%}
{{ return(adapter.dispatch('running_product', 'tickhouse')(value, window_name)) }}
{%- endmacro %}

{% macro duckdb__running_product(value, window_name) -%}
product({{ value }}) over {{ window_name }}
{%- endmacro %}

{% macro default__running_product(value, window_name) -%}
aggregate(collect_list({{ value }}) over {{ window_name }}, 1D, (product, factor) -> product * factor)
{%- endmacro %}
