{# True where an instant falls into an hour window of a source that more rows may still come to: one that isn't sealed.
   Only for a date of staging under construction, which reads its own windows; false for every row where nothing is being
   built. #}
{% macro is_provisional_window(source, column) -%}
{{ return(adapter.dispatch('is_provisional_window', 'tickhouse')(source, column)) }}
{%- endmacro %}

{% macro duckdb__is_provisional_window(source, column) -%}
case
  when len(getvariable('provisional_{{ source }}')::varchar[]) > 0 then coalesce(
    list_contains(getvariable('provisional_{{ source }}')::varchar[], strftime(timezone('UTC', {{ column }}), '%Y-%m-%dT%H')),
    false
  )
  else false
end
{%- endmacro %}
