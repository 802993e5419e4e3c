{# A list as rows: one row for each element, in a select list; none for an empty list and for NULL. `json_objects`: a JSON
   list of flat objects as a list of structs of texts, for `explode`; what isn't there, or is JSON null, is NULL. #}
{% macro explode(list) -%}
{{ return(adapter.dispatch('explode', 'tickhouse')(list)) }}
{%- endmacro %}

{% macro duckdb__explode(list) -%}
unnest({{ list }})
{%- endmacro %}

{% macro default__explode(list) -%}
explode({{ list }})
{%- endmacro %}

{% macro json_objects(column, fields) -%}
({{ json_struct("'{\"listed\":' || " ~ column ~ " || '}'", [{'listed': fields}]) }}).listed
{%- endmacro %}
