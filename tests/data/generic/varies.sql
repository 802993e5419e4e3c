{# No feature is constant, and none repeats another value by value: either would be weight without information. NULL is a
   value. Fewer than 1,000 rows prove nothing and pass (spec/market.md 8). #}
{% test varies(model) %}
    {{- config(meta={'across_dates': true}) }}
    {%- set node = (graph.nodes if execute else {}).values() | selectattr('resource_type', 'equalto', 'model')
        | selectattr('alias', 'equalto', model.identifier) | first -%}
    {%- set features = [] -%}
    {%- for column in (node.columns if execute else {}).values() if column.config.meta['role'] == 'feature' -%}
        {%- do features.append(column) -%}
    {%- endfor -%}
    with

    measured as (

        select
            count(*) as row_count
            {%- for column in features %},
            count({{ column.name }}) as {{ column.name }}_count,
            case when min({{ column.name }}) = max({{ column.name }}) then 1 else 0 end as {{ column.name }}_is_one,
            {{ fingerprint('observation_id', column) }} as {{ column.name }}_print
            {%- endfor %}
        from {{ model }}

    ),

    by_column as (
        {% for column in features %}
        select
            '{{ column.name }}' as column_name,
            row_count,
            {{ column.name }}_count as value_count,
            {{ column.name }}_is_one as is_one,
            {{ column.name }}_print as fingerprint
        from measured
        {{ 'union all' if not loop.last }}
        {%- else %}
        select '' as column_name, 0 as row_count, 0 as value_count, 0 as is_one, 0 as fingerprint
        {%- endfor %}

    )

    select column_name, 'is the same in every row' as fault
    from by_column
    where row_count >= 1000 and (value_count = 0 or (value_count = row_count and is_one = 1))

    union all

    select later.column_name, 'repeats ' || earlier.column_name as fault
    from by_column as earlier
    inner join by_column as later
        on earlier.fingerprint = later.fingerprint and earlier.column_name < later.column_name
    -- two that are constant are told above
    where earlier.row_count >= 1000 and earlier.value_count > 0 and earlier.is_one = 0
{% endtest %}
