{# A dataset under construction sees its parents on the dates it may read, and in its own param set; a data test of
   `dbt build` sees the dates that it has not passed on yet. Everything else (`dbt test`, docs, shells, unit tests) sees
   them whole. #}
{% macro ref() %}
  {# The hook that makes the views again renders them, and so does `dbt run-operation`: an operation has no parents by
     which dbt would know them, and no group to which those that are private would show. #}
  {% if execute and (model is not defined or model.resource_type in ('operation', 'macro')) %}
    {% set named = graph.nodes.values() | selectattr('resource_type', 'in', ['model', 'seed'])
        | selectattr('name', 'equalto', varargs | last) | list %}
    {% set version = kwargs.get('version', kwargs.get('v')) %}
    {% set node = (named | selectattr('version', 'equalto', version) | first) if version is not none else named | first %}
    {% do return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) %}
  {% endif %}
  {% set relation = builtins.ref(*varargs, **kwargs) %}
  {% if execute and model is defined and model.resource_type == 'test' %}
    {% do return(on_due_dates(relation)) %}
  {% endif %}
  {% do return(on_build_dates(relation)) %}
{% endmacro %}


{% macro on_due_dates(relation) %}
  {% set job = {'op': 'due', 'test': model, 'graph': graph, 'relation': relation.identifier, 'dates': none} %}
  {% if flags.WHICH == 'build' and not flags.FULL_REFRESH %}
    {% do adapter.store_relation('lake', relation, [], '', '', job) %}
  {% endif %}
  {% if job.dates is none %}
    {% do return(relation) %}
  {% endif %}
  {% set condition = "date in ('" ~ job.dates | join("', '") ~ "')" if job.dates else 'false' %}
  {% do return(relation.incorporate(external='(select * from ' ~ relation.render() ~ ' where ' ~ condition ~ ')')) %}
{% endmacro %}


{% macro on_build_dates(relation) %}
  {% if not execute or model is not defined or model.resource_type != 'model' or model.config.materialized != 'dataset' %}
    {% do return(relation) %}
  {% endif %}
  {% set parent = graph.nodes.values() | selectattr('alias', 'equalto', relation.identifier)
      | selectattr('resource_type', 'in', ['model', 'seed']) | first %}
  {% set meta = parent.config.get('meta') or {} %}
  {% if parent.config.materialized == 'dataset' %}
    {% set condition = "(getvariable('build_date') is null or list_contains(getvariable('dates_" ~ relation.identifier ~ "')::date[], date))" %}
    {% if meta.get('per_params') %}
      {% set condition = condition ~ " and (getvariable('p_params_digest') is null or params = left(getvariable('p_params_digest'), 8))" %}
    {% endif %}
  {% elif meta.get('dated_by') %}
    {% set condition = "(getvariable('build_date') is null or " ~ meta['dated_by'] ~ " = getvariable('build_date')::date)" %}
  {% else %}
    {% do return(relation) %}
  {% endif %}
  {# `external` keeps it a Relation and renders as a subquery, in SQL and in dbt.ref() of a Python model alike #}
  {% do return(relation.incorporate(external='(select * from ' ~ relation.render() ~ ' where ' ~ condition ~ ')')) %}
{% endmacro %}
