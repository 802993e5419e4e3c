{# A text from outside as DECIMAL(20,8); NULL where it is none or doesn't fit: an answer of an exchange is kept as it came,
   and a field of it that can't be read must not end the build. #}
{% macro decimal_text(text) -%}
{{ return(adapter.dispatch('decimal_text', 'tickhouse')(text)) }}
{%- endmacro %}

{% macro default__decimal_text(text) -%}
try_cast({{ text }} as decimal(20, 8))
{%- endmacro %}

{# Up to 18 digits DuckDB reads 100 times faster than above: the wide type is only for what doesn't fit. #}
{% macro duckdb__decimal_text(text) -%}
coalesce(cast(try_cast({{ text }} as decimal(18, 8)) as decimal(20, 8)), try_cast({{ text }} as decimal(20, 8)))
{%- endmacro %}
