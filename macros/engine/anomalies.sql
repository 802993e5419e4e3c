{# An aggregate: the anomalies of a group's events as a list of (code, event_id, detail) in order, but for those whose
   code is NULL. NULL of none. #}
{% macro anomaly_list(code, event_id, detail) -%}
{{ return(adapter.dispatch('anomaly_list', 'tickhouse')(code, event_id, detail)) }}
{%- endmacro %}

{% macro duckdb__anomaly_list(code, event_id, detail) -%}
list_sort(
    list({'code': {{ code }}, 'event_id': {{ event_id }}, 'detail': {{ detail }}}) filter (where {{ code }} is not null)
)
{%- endmacro %}

{% macro default__anomaly_list(code, event_id, detail) -%}
array_sort(collect_list(
    case when {{ code }} is not null then named_struct('code', {{ code }}, 'event_id', {{ event_id }}, 'detail', {{ detail }}) end
))
{%- endmacro %}

{# `relation` with a row for each element of one of its list columns, the element under the name `element`. #}
{% macro each_of(relation, column, element) -%}
{{ return(adapter.dispatch('each_of', 'tickhouse')(relation, column, element)) }}
{%- endmacro %}

{% macro duckdb__each_of(relation, column, element) -%}
(select *, unnest({{ column }}) as {{ element }} from {{ relation }})
{%- endmacro %}

{% macro default__each_of(relation, column, element) -%}
(select *, explode({{ column }}) as {{ element }} from {{ relation }})
{%- endmacro %}

{# `value`, unless `condition` is false or NULL: then the build ends with `message`, and nothing is published. #}
{% macro checked(value, condition, message) -%}
{{ return(adapter.dispatch('checked', 'tickhouse')(value, condition, message)) }}
{%- endmacro %}

{% macro duckdb__checked(value, condition, message) -%}
case when {{ condition }} then {{ value }} else error({{ message }}) end
{%- endmacro %}

{% macro default__checked(value, condition, message) -%}
case when {{ condition }} then {{ value }} else raise_error({{ message }}) end
{%- endmacro %}
