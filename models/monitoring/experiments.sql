select
    -- keys
    experiments.experiment_id,

    -- what it is
    experiments.version,
    experiments.status,
    experiments.parent,
    experiments.param_set,
    experiments.params_digest,
    experiments.build_digest,
    experiments.stage,

    -- metrics
    experiments.signal_count,
    experiments.feature_count,
    experiments.date_coverage,
    experiments.null_rate_avg,
    experiments.pr_auc,
    experiments.roc_auc,
    experiments.brier,
    experiments.brier_skill,
    experiments.ece,
    experiments.precision_at_k,
    experiments.n_folds,
    experiments.ci_low,
    experiments.ci_high,
    experiments.base_rate_brier,
    experiments.base_rate_roc_auc,

    -- files and remarks
    experiments.model_path,
    experiments.tags,
    experiments.notes,

    -- time
    experiments.created_at
from {{ records('experiments') }} as experiments
