{# First thing of a run: make the views over the lake again. Also `dbt run-operation lake_register`. #}
{% macro lake_register() %}
  {% if execute and flags.WHICH in ('build', 'run', 'test', 'seed', 'show', 'run-operation', 'freshness') %}
    {% set job = {'op': 'register', 'graph': graph, 'command': flags.WHICH, 'sql': [], 'tables': [], 'tenant_sql': []} %}
    {% do adapter.store_relation('lake', api.Relation.create(identifier='lake'), [], '', '', job) %}
    {# dbt looked at the database before this hook: without a note it would try to create these once more #}
    {% for table in job.tables %}
      {% do adapter.cache_added(api.Relation.create(database=target.database, type='table', **table)) %}
    {% endfor %}
    {% for node in plain_views() %}
      {% do job.sql.append(view_sql(node)) %}
      {% do adapter.cache_added(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias, type='view')) %}
    {% endfor %}
    {# One transaction: each one of its own would be a sync to disk. Last, over all of these: what one tenant may see. #}
    {% call statement('register', auto_begin=false) %}
      begin transaction;
      {{ (job.sql + job.tenant_sql) | join(';\n') }};
      commit;
    {% endcall %}
  {% endif %}
{% endmacro %}


{# Last thing of a run: the data tests' verdicts go beside the commit records that they are about. #}
{% macro lake_end(results) %}
  {% if execute and results and flags.WHICH != 'freshness' %}
    {% set job = {
        'op': 'end', 'graph': graph, 'results': results, 'command': flags.WHICH, 'param_set': var('param_set'),
        'start_date': var('start_date'), 'end_date': var('end_date'), 'full_refresh': flags.FULL_REFRESH,
    } %}
    {% do adapter.store_relation('lake', api.Relation.create(identifier='lake'), [], '', '', job) %}
    {# What this run found of released dates is seen by the view over it. #}
    {% for node in graph.nodes.values() if job.judged and node.resource_type == 'model' and (node.config.get('meta') or {}).get('reads_records') %}
      {% call statement('records', auto_begin=false) %}{{ view_sql(node) }}{% endcall %}
    {% endfor %}
  {% endif %}
{% endmacro %}


{% macro view_sql(node) %}
  create or replace view {{ node.schema }}.{{ node.alias }} as {{ render(node.raw_code) }}
{% endmacro %}


{# Models that are plain views, each after the views that it reads. #}
{% macro plain_views() %}
  {% set views = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model')
      | selectattr('config.materialized', 'equalto', 'view') | list %}
  {% set waiting = views | map(attribute='unique_id') | list %}
  {% set ordered = [] %}
  {% for round in views %}
    {% for node in views if node.unique_id in waiting %}
      {% if node.depends_on.nodes | select('in', waiting) | list | length == 0 %}
        {% do ordered.append(node) %}
        {% do waiting.remove(node.unique_id) %}
      {% endif %}
    {% endfor %}
  {% endfor %}
  {% do return(ordered) %}
{% endmacro %}
