{# A text from outside as DECIMAL(20,8); NULL where it is none or doesn't fit: an answer of an exchange is kept as it came,
   and a field of it that can't be read must not end the build. #}
{% macro decimal_text(text) -%}
{{ return(adapter.dispatch('decimal_text', 'tickhouse')(text)) }}
{%- endmacro %}

{% macro default__decimal_text(text) -%}
try_cast({{ text }} as decimal(20, 8))
{%- endmacro %}
