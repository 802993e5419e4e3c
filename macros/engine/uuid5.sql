{# UUIDv5 of a name in the namespace of the execution domain (spec/execution.md 2.4):
   54c2f5b5-35d0-58f2-80e8-fa82ff7a5431, itself the UUIDv5 of `tickhouse/execution` in the URL namespace. `name` is a text
   expression; NULL gives NULL. DuckDB computes the repeated hash once, and takes as long for a `translate` as for the rest:
   there the code of a hexadecimal digit, modulo 39, is the digit plus 9. #}
{% macro uuid5(name) -%}
{{ return(adapter.dispatch('uuid5', 'tickhouse')(name)) }}
{%- endmacro %}

{% macro duckdb__uuid5(name) -%}
{%- set hash -%} sha1(unhex('54c2f5b535d058f280e8fa82ff7a5431') || encode({{ name }})) {%- endset -%}
cast(
    substr({{ hash }}, 1, 12) || '5' || substr({{ hash }}, 14, 3)
    || substr('89ab89ab89ab89ab', ascii(substr({{ hash }}, 17, 1)) % 39 - 8, 1) || substr({{ hash }}, 18, 15)
as uuid)
{%- endmacro %}

{% macro default__uuid5(name) -%}
{%- set hash -%} sha1(concat(unhex('54c2f5b535d058f280e8fa82ff7a5431'), encode({{ name }}, 'UTF-8'))) {%- endset -%}
(
    substr({{ hash }}, 1, 8) || '-' || substr({{ hash }}, 9, 4) || '-5' || substr({{ hash }}, 14, 3) || '-'
    || translate(substr({{ hash }}, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab') || substr({{ hash }}, 18, 3) || '-'
    || substr({{ hash }}, 21, 12)
)
{%- endmacro %}
