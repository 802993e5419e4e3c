{# Texts out of JSON as values; NULL where a text is none of the kind: a payload is kept as it came, and a field of it that
   can't be read must not end the build. `time_text`: ISO 8601 as a time. `bigint_text`, `percent_text` (percent points),
   `boolean_text`: their types. For money there is decimal_text. #}
{% macro time_text(text) -%} {{ return(adapter.dispatch('text_as', 'tickhouse')(text, 'timestamp with time zone')) }} {%- endmacro %}
{% macro bigint_text(text) -%} {{ return(adapter.dispatch('text_as', 'tickhouse')(text, 'bigint')) }} {%- endmacro %}
{% macro percent_text(text) -%} {{ return(adapter.dispatch('text_as', 'tickhouse')(text, 'decimal(10, 4)')) }} {%- endmacro %}
{% macro boolean_text(text) -%} {{ return(adapter.dispatch('text_as', 'tickhouse')(text, 'boolean')) }} {%- endmacro %}

{% macro duckdb__text_as(text, type) -%}
try_cast({{ text }} as {{ type }})
{%- endmacro %}

{% macro default__text_as(text, type) -%}
try_cast({{ text }} as {{ type | replace(' with time zone', '') }})
{%- endmacro %}
