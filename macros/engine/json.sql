{# Fields of a JSON object. `json_text`: one top-level key as text. `json_struct`: many keys in one parse, as a struct of
   texts; `fields` is a list of names, or a mapping of a name to the fields of a list of objects under it:
   json_struct('payload_json', ['fee', {'fills': ['price', 'qty']}]). What isn't there, or is JSON null, is NULL; a number
   or a boolean is its text. A value of another shape than declared is NULL. #}
{% macro json_text(column, key) -%}
{{ return(adapter.dispatch('json_text', 'tickhouse')(column, key)) }}
{%- endmacro %}

{% macro duckdb__json_text(column, key) -%}
json_extract_string({{ column }}, '$."{{ key }}"')
{%- endmacro %}

{% macro default__json_text(column, key) -%}
get_json_object({{ column }}, '$.{{ key }}')
{%- endmacro %}

{% macro json_struct(column, fields) -%}
{{ return(adapter.dispatch('json_struct', 'tickhouse')(column, fields)) }}
{%- endmacro %}

{% macro duckdb__json_struct(column, fields) -%}
json_transform({{ column }}, '{ {%- for field in fields -%}
    {%- if field is mapping -%}
    {%- for name, inner in field.items() -%}
    "{{ name }}": [{ {%- for key in inner %}"{{ key }}": "VARCHAR"{{ ', ' if not loop.last }}{% endfor -%} }]
    {%- endfor -%}
    {%- else -%} "{{ field }}": "VARCHAR" {%- endif -%}
    {{ ', ' if not loop.last }}
{%- endfor -%} }')
{%- endmacro %}

{% macro default__json_struct(column, fields) -%}
from_json({{ column }}, '
{%- for field in fields -%}
    {%- if field is mapping -%}
    {%- for name, inner in field.items() -%}
    {{ name }} array<struct<{% for key in inner %}{{ key }}: string{{ ', ' if not loop.last }}{% endfor %}>>
    {%- endfor -%}
    {%- else -%} {{ field }} string {%- endif -%}
    {{ ', ' if not loop.last }}
{%- endfor -%} ')
{%- endmacro %}
