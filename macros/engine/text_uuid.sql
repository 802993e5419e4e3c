{# 128 bits that stand for a text, in a quarter of the bytes of a sha256: its MD5. Two texts of one number are not met by
   chance. NULL gives NULL. #}
{% macro text_uuid(text) -%}
{{ return(adapter.dispatch('text_uuid', 'tickhouse')(text)) }}
{%- endmacro %}

{% macro duckdb__text_uuid(text) -%}
cast(md5({{ text }}) as uuid)
{%- endmacro %}

{% macro default__text_uuid(text) -%}
md5({{ text }})
{%- endmacro %}
