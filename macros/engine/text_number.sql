{# A number of 63 bits for a text, to look it up among many in a tenth of the bytes; two texts may share one, so that what is
   found wants comparing. The lower half of its MD5, as that stays the same from release to release. #}
{% macro text_number(text) -%}
{{ return(adapter.dispatch('text_number', 'tickhouse')(text)) }}
{%- endmacro %}

{% macro duckdb__text_number(text) -%}
cast(md5_number_lower({{ text }}) >> 1 as bigint)
{%- endmacro %}

{% macro default__text_number(text) -%}
xxhash64({{ text }})
{%- endmacro %}
