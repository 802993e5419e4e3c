{# True for the rows of the partition under construction. A model that reads earlier dates than it writes ends in it;
   without it the first stray row stops the build. True for all rows where nothing is being built. #}
{% macro is_built_date(column) -%}
(getvariable('build_date') is null or {{ column }} = getvariable('build_date')::date)
{%- endmacro %}
