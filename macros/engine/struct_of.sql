{# A struct of named values, in order: struct_of({'side': 'side', 'hour': 'hour_of_day'}). #}
{% macro struct_of(fields) -%}
{{ return(adapter.dispatch('struct_of', 'tickhouse')(fields)) }}
{%- endmacro %}

{% macro duckdb__struct_of(fields) -%}
struct_pack(
{%- for name, value in fields.items() %}
    {{ name }} := {{ value }}{{ ',' if not loop.last }}
{%- endfor %}
)
{%- endmacro %}

{% macro default__struct_of(fields) -%}
named_struct(
{%- for name, value in fields.items() %}
    '{{ name }}', {{ value }}{{ ',' if not loop.last }}
{%- endfor %}
)
{%- endmacro %}
