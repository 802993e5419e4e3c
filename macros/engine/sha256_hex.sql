{# sha256 of a text, 64 hex digits. #}
{% macro sha256_hex(text) -%}
{{ return(adapter.dispatch('sha256_hex', 'tickhouse')(text)) }}
{%- endmacro %}

{% macro duckdb__sha256_hex(text) -%}
sha256({{ text }})
{%- endmacro %}

{% macro default__sha256_hex(text) -%}
sha2({{ text }}, 256)
{%- endmacro %}
