{# Those of a few values of one type that aren't NULL, as a list in order; NULL of none. #}
{% macro sorted_present(values) -%}
{{ return(adapter.dispatch('sorted_present', 'tickhouse')(values)) }}
{%- endmacro %}

{% macro duckdb__sorted_present(values) -%}
nullif(list_sort(list_filter([{{ values | join(', ') }}], lambda value: value is not null)), [])
{%- endmacro %}

{% macro default__sorted_present(values) -%}
nullif(array_sort(filter(array({{ values | join(', ') }}), value -> value is not null)), array())
{%- endmacro %}

{# A list in order; NULL of an empty one. #}
{% macro sorted_or_null(list) -%}
{{ return(adapter.dispatch('sorted_or_null', 'tickhouse')(list)) }}
{%- endmacro %}

{% macro duckdb__sorted_or_null(list) -%}
nullif(list_sort({{ list }}), [])
{%- endmacro %}

{% macro default__sorted_or_null(list) -%}
nullif(array_sort({{ list }}), array())
{%- endmacro %}
