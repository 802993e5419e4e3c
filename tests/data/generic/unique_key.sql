{# No two rows share these columns. The lake checks a key inside each partition before it publishes; this looks across
   dates and param sets. #}
{% test unique_key(model, columns) %}
    {{- config(meta={'across_dates': true}) }}
    select {{ columns | join(', ') }}, count(*) as copies
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}
