{# Lists, which engines spell differently. `sorted_values`: the distinct values of a column that aren't NULL, in order; an
   aggregate. `flag_list`: the names whose conditions hold, in order: flag_list({'FEE_UNPRICED': 'fee_quote is null'}).
   Both give an empty list, never NULL. `is_empty_list`: true for a list without values, and for none. #}
{% macro sorted_values(value, type='varchar') -%}
{{ return(adapter.dispatch('sorted_values', 'tickhouse')(value, type)) }}
{%- endmacro %}

{% macro duckdb__sorted_values(value, type) -%}
coalesce(list(distinct {{ value }} order by {{ value }}) filter (where {{ value }} is not null), cast([] as {{ type }}[]))
{%- endmacro %}

{% macro default__sorted_values(value, type) -%}
array_sort(collect_set({{ value }}))
{%- endmacro %}

{% macro flag_list(conditions) -%}
{{ return(adapter.dispatch('flag_list', 'tickhouse')(conditions)) }}
{%- endmacro %}

{% macro duckdb__flag_list(conditions) -%}
list_filter([
    {%- for name in conditions | sort %} case when {{ conditions[name] }} then '{{ name }}' end {{- ',' if not loop.last }}
    {%- endfor -%}
], lambda flag: flag is not null)
{%- endmacro %}

{% macro default__flag_list(conditions) -%}
filter(array(
    {%- for name in conditions | sort %} case when {{ conditions[name] }} then '{{ name }}' end {{- ',' if not loop.last }}
    {%- endfor -%}
), flag -> flag is not null)
{%- endmacro %}

{% macro is_empty_list(list) -%}
{{ return(adapter.dispatch('is_empty_list', 'tickhouse')(list)) }}
{%- endmacro %}

{% macro duckdb__is_empty_list(list) -%}
(coalesce(len({{ list }}), 0) = 0)
{%- endmacro %}

{% macro default__is_empty_list(list) -%}
(coalesce(size({{ list }}), 0) = 0)
{%- endmacro %}

{# All values of a column that aren't NULL, in order; an aggregate. NULL of none. #}
{% macro sorted_list(value) -%}
{{ return(adapter.dispatch('sorted_list', 'tickhouse')(value)) }}
{%- endmacro %}

{% macro duckdb__sorted_list(value) -%}
list_sort(list({{ value }}) filter (where {{ value }} is not null))
{%- endmacro %}

{% macro default__sorted_list(value) -%}
array_sort(collect_list({{ value }}))
{%- endmacro %}

{# True where a sorted list of numbers from 1 on leaves none out; numbers may repeat. True of none. #}
{% macro is_gap_free(numbers) -%}
{{ return(adapter.dispatch('is_gap_free', 'tickhouse')(numbers)) }}
{%- endmacro %}

{% macro duckdb__is_gap_free(numbers) -%}
case
    when {{ numbers }} = range(1, len({{ numbers }}) + 1) then true
    else coalesce(list_last({{ numbers }}) = list_unique({{ numbers }}), true)
end
{%- endmacro %}

{% macro default__is_gap_free(numbers) -%}
coalesce(array_max({{ numbers }}) = size(array_distinct({{ numbers }})), true)
{%- endmacro %}

{# A list without values. #}
{% macro empty_list(type) -%}
{{ return(adapter.dispatch('empty_list', 'tickhouse')(type)) }}
{%- endmacro %}

{% macro duckdb__empty_list(type) -%}
cast([] as {{ type }}[])
{%- endmacro %}

{% macro default__empty_list(type) -%}
cast(array() as array<{{ type }}>)
{%- endmacro %}

{# Two lists of names as one, in order; neither may be NULL. #}
{% macro merged_list(left, right) -%}
{{ return(adapter.dispatch('merged_list', 'tickhouse')(left, right)) }}
{%- endmacro %}

{% macro duckdb__merged_list(left, right) -%}
list_sort(list_concat({{ left }}, {{ right }}))
{%- endmacro %}

{% macro default__merged_list(left, right) -%}
array_sort(concat({{ left }}, {{ right }}))
{%- endmacro %}
