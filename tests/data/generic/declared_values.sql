{# Every value is what its column's YAML declares: NULL only where `null_when` says that it may be, and of the `domain`
   where there is one. One look at the rows for all columns of a wide model, instead of a test for each. #}
{% test declared_values(model) %}
    {%- set node = (graph.nodes if execute else {}).values() | selectattr('resource_type', 'equalto', 'model')
        | selectattr('alias', 'equalto', model.identifier) | first -%}
    {%- set broken = ["''"] -%}
    {%- for column in (node.columns if execute else {}).values() -%}
        {%- set meta = column.config.meta -%}
        {%- if 'null_when' not in meta -%}
            {%- do broken.append("case when " ~ column.name ~ " is null then '" ~ column.name ~ " is NULL, ' end") -%}
        {%- endif -%}
        {%- if 'domain' in meta -%}
            {%- set values = [] -%}
            {%- for value in meta['domain'] -%}
                {%- do values.append("'" ~ value ~ "'" if value is string else value) -%}
            {%- endfor -%}
            {%- do broken.append(
                "case when " ~ column.name ~ " not in (" ~ values | join(', ') ~ ") then '" ~ column.name
                ~ " is outside its domain, ' end"
            ) -%}
        {%- endif -%}
    {%- endfor -%}
    select *
    from (
        select
            {{ (node.config.meta['key'] if execute else ['null']) | join(', ') }},
            concat_ws(
                '',
                {{ broken | join(',\n                ') }}
            ) as broken
        from {{ model }}
    ) as judged
    where broken != ''
{% endtest %}
