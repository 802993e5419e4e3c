{# dbt's own makes each view under another name, renames it and drops the old one: for nothing here, as nobody reads
   `lake.duckdb` while it is written, and five times the work of one statement. #}
{% materialization view, adapter='duckdb' %}
  {{ run_hooks(pre_hooks) }}
  {% if config.get('contract').enforced %}
    {{ get_assert_columns_equivalent(sql) }}
  {% endif %}
  {% call statement('main', auto_begin=false) %}
    create or replace view {{ this.schema }}.{{ this.identifier }} as {{ sql }}
  {% endcall %}
  {{ run_hooks(post_hooks) }}
  {% set target = this.incorporate(type='view') %}
  {% do persist_docs(target, model) %}
  {% do adapter.commit() %}
  {{ return({'relations': [target]}) }}
{% endmaterialization %}
