{# Publishes a model as Hive-partitioned Parquet: plan the partitions that are due, let the lake stage
   the rows of each, check, digest and commit them. The compiled SQL is the same for every date: dates travel as session variables. #}
{% materialization dataset, adapter='duckdb', supported_languages=['sql', 'python'] %}
  {% set job = {
      'op': 'plan', 'model': model, 'graph': graph, 'selected': selected_resources, 'full_refresh': should_full_refresh(),
      'param_set': var('param_set'), 'start_date': var('start_date'), 'end_date': var('end_date'),
  } %}
  {% do adapter.store_relation('lake', this, [], '', '', job) %}
  {{ run_hooks(pre_hooks) }}

  {% for view_sql in job.views_sql %}
    {% call statement('view', auto_begin=false) %}{{ view_sql }}{% endcall %}
  {% endfor %}
  {% set warnings = [] %}
  {% for step in job.steps %}
    {% call statement('variables', auto_begin=false) %}{{ step.set_sql }}{% endcall %}
    {% if loop.first and model.language == 'sql' %}
      {% call statement('columns', fetch_result=true, auto_begin=false) %}describe ({{ compiled_code }}
){% endcall %}
      {% do adapter.store_relation('lake', this, [], '', '',
          {'op': 'contract', 'job': job, 'step': step, 'found': load_result('columns').data}) %}
    {% endif %}
    {% set rows_sql = rows_in_order('(' ~ compiled_code ~ '\n)' if model.language == 'sql' else 'model__df', job, step) %}
    {% if model.language == 'sql' %}
      {% do write(rows_sql) %}
    {% endif %}
    {% do adapter.store_relation('lake', this, [], '', '', {'op': 'stage', 'job': job, 'step': step, 'sql': rows_sql}) %}
    {% if model.language == 'python' %}
      {% call statement('main', language='python', auto_begin=false) %}
{{ compiled_code }}

def materialize(df, con):
    from lake.staging import stage_python

    stage_python(df, con, {{ step.stage | tojson }})
      {% endcall %}
    {% endif %}
    {% do adapter.store_relation('lake', this, [], '', '', {'op': 'publish', 'job': job, 'step': step}) %}
    {% if step.warning %}
      {% do exceptions.warn(step.warning) %}
      {% do warnings.append('; ' ~ step.warning) %}
    {% endif %}
    {% call statement('reset', auto_begin=false) %}{{ step.reset_sql }}{% endcall %}
  {% endfor %}

  {% set done = {'op': 'finish', 'job': job} %}
  {% do adapter.store_relation('lake', this, [], '', '', done) %}
  {% if done.view_sql %}
    {% call statement('view', auto_begin=false) %}{{ done.view_sql }}{% endcall %}
  {% endif %}
  {% do adapter.store_relation('lake', this, [], '', '', {'op': 'done', 'job': job}) %}
  {{ run_hooks(post_hooks) }}
  {% set target = this.incorporate(type='view') %}
  {% do persist_docs(target, model) %}
  {% do adapter.commit() %}
  {% do store_raw_result('main', message=job.built ~ ' of ' ~ job.total ~ ' dates' ~ warnings | join, code='OK', rows_affected=none) %}
  {{ return({'relations': [target]}) }}
{% endmaterialization %}


{# A model's rows in the declared columns and types and in the order of their key. The partition column stands in the path
   only; a row of another date ends the statement. #}
{% macro rows_in_order(rows, job, step) %}
{%- set checked = namespace(done=false) -%}
select
{%- for name, type in job.columns if name != job.partition_column %}
  {% if not checked.done and job.partition_column in (job.columns | map('first') | list) -%}
  {%- set checked.done = true -%}
  case
    when "{{ job.partition_column }}" is not distinct from date '{{ step.date }}' then cast("{{ name }}" as {{ type }})
    else error('{{ model.name }}, {{ step.date }}: a row had {{ job.partition_column }} '
      || coalesce("{{ job.partition_column }}"::varchar, 'NULL') || '; nothing was published')
  end as "{{ name }}"
  {%- else -%}
  cast("{{ name }}" as {{ type }}) as "{{ name }}"
  {%- endif -%}
  {{ ',' if not loop.last }}
{%- endfor %}
from {{ rows }}
{%- if not (config.get('meta') or {}).get('presorted') %}
order by {% for k in job.key %}"{{ k }}"{{ ', ' if not loop.last }}{% endfor %}
{%- endif %}
{%- endmacro %}
