"""The sample training script of the source document, in this project's terms.

There: read `train/` and `test/` of gold/training_sets/stop_outcome/v1.0.0, train, evaluate, save the model. Here the
same four steps over the published version below LAKE_ROOT. Run: `python analyses/train_stop_outcome.py`.
`tickhouse train stop_outcome --version v1.0.0` does it whole, with folds, calibration and intervals.
"""

import lightgbm as lgb
import numpy as np
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from lake import training_sets
from lake.paths import lake_root
from ml.training_sets import inputs

NAME, VERSION = "stop_outcome", "v1.0.0"

# Load training data
found = training_sets.version(lake_root(), NAME, VERSION)
train, test = inputs.read(found, "train"), inputs.read(found, "test")
names, categories = train.features.column_names, inputs.categories(train.features)
y_train, y_test = train.target("execution_success"), test.target("execution_success")

# Train model
parameters = {"objective": "binary", "deterministic": True, "seed": 42, "num_threads": 1, "verbosity": -1}
samples = lgb.Dataset(inputs.encode(train.features, names, categories), label=y_train)
model = lgb.train(parameters, samples, num_boost_round=100)

# Evaluate
p = np.asarray(model.predict(inputs.encode(test.features, names, categories), num_threads=1))
base_rate = np.full(len(p), y_train.mean())
print(f"dataset_hash {found.record['dataset_hash']}")
print(f"auc      {roc_auc_score(y_test, p):.4f}  base rate 0.5000")
print(f"brier    {brier_score_loss(y_test, p):.4f}  base rate {brier_score_loss(y_test, base_rate):.4f}")
print(f"log loss {log_loss(y_test, p):.4f}  base rate {log_loss(y_test, base_rate):.4f}")

# Save model
folder = lake_root() / "lake" / "gold" / "models" / NAME / VERSION
folder.mkdir(parents=True, exist_ok=True)
model.save_model(folder / "sample.txt")
