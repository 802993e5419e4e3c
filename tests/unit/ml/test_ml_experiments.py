"""Experiments on disk: whole at every instant, final when completed, refused when altered."""

import contextlib
import json
import os

import numpy as np
import pytest

from lake import atomic
from ml import experiments

NAME = "exp001_mechanics_only"


def content(k):
    inputs = {
        "experiment": NAME,
        "silver_version": "v1.0_mechanics_only",
        "training": {"stages": ["touch"]},
        "k": k,
    }
    return {
        "config": {"inputs": inputs, "param_set": "default", "params_digest": "aa", "build_digest": None},
        "metrics": {
            "k": k, "signal_count": 1, "feature_count": 2, "sessions": 3, "null_rate_avg": 0.5, "results": [],
        },
        "model": {"k": k, "text": "tree" * 100, "x": np.arange(4)},
    }  # fmt: skip


def write(root, k):
    with experiments.locked(root, NAME):
        return experiments.write(root, NAME, **content(k))


def seen(root):
    """Which whole experiment a reader finds; asserts that its files are of one run."""
    stored = experiments.find(root, NAME)
    if stored is None:
        return None
    model = experiments.load_model(root, NAME)
    assert stored.config["inputs"]["k"] == stored.metrics["k"] == model["k"]
    return model["k"]


class Killed(BaseException):
    """Not an Exception: nothing may catch it and tidy up, as nothing does after SIGKILL."""


STEPS = [
    (os, "rename"), (os, "replace"), (atomic, "write_json"), (atomic, "write_text"), (atomic, "fsync_dir"),
    (atomic, "fsync_file"), (experiments.joblib, "dump"), (experiments.shutil, "rmtree"),
]  # fmt: skip


def kill_at(monkeypatch, nth, *, after):
    """Raise before or after the ``nth`` step of writing; True in the returned list once it happened."""
    count, happened = [0], []

    def wrap(real):
        def step(*args, **kwargs):
            count[0] += 1
            mine = count[0] == nth
            if mine and not after:
                happened.append(True)
                raise Killed
            result = real(*args, **kwargs)
            if mine:
                happened.append(True)
                raise Killed
            return result

        return step

    for module, name in STEPS:
        monkeypatch.setattr(module, name, wrap(getattr(module, name)))
    return happened


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_a_crash_at_any_step_leaves_the_old_or_the_new_experiment(tmp_path, first, after):
    outcomes = set()
    for nth in range(1, 100):
        root = tmp_path / str(nth)
        if not first:
            write(root, 1)
        with pytest.MonkeyPatch.context() as patch:
            happened = kill_at(patch, nth, after=after)
            with contextlib.suppress(Killed):
                write(root, 2)
        if not happened:
            break
        left = seen(root)
        assert left in ({None, 2} if first else {1, 2})
        outcomes.add(left)
        write(root, 3)
        assert seen(root) == 3
        assert sorted(p.name for p in (root / "ml" / "experiments").iterdir() if "lock" not in p.name) == [
            NAME
        ]
    else:
        pytest.fail("writing never ended")
    assert nth > 8
    assert outcomes == ({None, 2} if first else {1, 2})


def test_an_altered_model_is_refused_before_it_is_read(tmp_path, monkeypatch):
    stored = write(tmp_path, 1)
    path = stored.path / "model.joblib"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(experiments.joblib, "load", lambda *_: pytest.fail("unpickled an altered file"))
    with pytest.raises(experiments.AlteredArtifact, match="sha256"):
        experiments.load_model(tmp_path, NAME)
    assert experiments.find(tmp_path, NAME) is None
    with pytest.raises(experiments.ExperimentError, match="tickhouse train"):
        experiments.load_model(tmp_path, "exp009_nothing")


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml"])
@pytest.mark.parametrize("text", ["{{{", "[]"])
def test_a_file_that_was_edited_to_nonsense_is_named(tmp_path, name, text):
    write(tmp_path, 1)
    path = experiments.experiments_dir(tmp_path) / NAME / name
    path.write_text(text)
    with pytest.raises(experiments.ExperimentError, match=f"^[^\n]*{name} [^\n]*put it back[^\n]*$"):
        experiments.find(tmp_path, NAME)


def test_equal_content_gives_equal_bytes_whatever_strings_are_shared(tmp_path):
    shared = "ab" * 10
    apart = ["ab" * 10, "".join(["ab"] * 10)]
    assert apart[0] is not apart[1]
    files = []
    for i, strings in enumerate(([shared, shared], apart)):
        root = tmp_path / str(i)
        body = content(1)
        body["model"]["strings"] = strings
        with experiments.locked(root, NAME):
            files.append((experiments.write(root, NAME, **body).path / "model.joblib").read_bytes())
    assert files[0] == files[1]
    with pytest.raises(TypeError, match="builtins and numpy arrays only"):
        experiments.canonical({"x": {1, 2}})
    with pytest.raises(TypeError, match="builtins"):
        experiments.canonical(np.array([object()]))


def test_entries_are_upserts_in_order_of_their_number(tmp_path):
    experiments.upsert(tmp_path, {"id": "exp1000", "status": "running"})
    experiments.upsert(tmp_path, {"id": "exp002", "status": "running", "notes": "a"})
    experiments.upsert(tmp_path, {"id": "exp002", "status": "failed"})
    entries = experiments.read_index(tmp_path)
    assert [(e["id"], e["status"]) for e in entries] == [("exp002", "failed"), ("exp1000", "running")]
    assert entries[0]["notes"] == "a"
    assert set(entries[0]) == {
        "id", "version", "created_at", "status", "parent", "param_set", "params_digest", "build_digest",
        "stage", "metrics", "model_path", "model_metrics", "tags", "notes",
    }  # fmt: skip
    with pytest.raises(experiments.ExperimentError, match="three or more digits"):
        experiments.upsert(tmp_path, {"id": "exp1"})
    with pytest.raises(experiments.ExperimentError, match="status was 'done'"):
        experiments.upsert(tmp_path, {"id": "exp003", "status": "done"})


def test_completed_is_final(tmp_path):
    done = {"id": "exp001", "status": "completed", "notes": "n"}
    experiments.upsert(tmp_path, done)
    before = experiments.index_path(tmp_path).read_bytes()
    experiments.upsert(tmp_path, done)
    for change in (
        {"status": "running"},
        {"status": "failed"},
        {"notes": "other"},
        {"status": "archived", "notes": "m"},
    ):
        with pytest.raises(experiments.ExperimentIsFinal, match="exp001 was completed"):
            experiments.upsert(tmp_path, {"id": "exp001", **change})
    assert experiments.index_path(tmp_path).read_bytes() == before
    experiments.upsert(tmp_path, {"id": "exp001", "status": "archived"})
    with pytest.raises(experiments.ExperimentIsFinal, match="exp001 was archived"):
        experiments.upsert(tmp_path, {"id": "exp001", "status": "completed"})


def test_an_entry_lost_in_a_crash_is_written_from_the_files(tmp_path):
    stored = write(tmp_path, 1)
    experiments.record_running(tmp_path, NAME, "v1.0_mechanics_only", ["touch"], "")
    experiments.record_completed(tmp_path, stored)
    entry = experiments.read_index(tmp_path)[0]
    assert (entry["id"], entry["status"]) == ("exp001", "completed")
    assert entry["model_path"] == "ml/experiments/exp001_mechanics_only/model.joblib"
    assert entry["metrics"]["date_coverage"] == 3
    assert entry["metrics"]["n_folds"] == 0
    experiments.record_failed(tmp_path, NAME, "late news")
    assert experiments.read_index(tmp_path)[0] == entry
    json.dumps(entry, allow_nan=False)


def test_an_id_belongs_to_one_name(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(experiments.ExperimentError, match="exp001 was taken by exp001_mechanics_only"):
        experiments.record_running(tmp_path, "exp001_other", "v1.0_mechanics_only", ["touch"], "")


def test_two_writers_lose_no_entry(tmp_path):
    pids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for k in range(5):
                    experiments.upsert(tmp_path, {"id": f"exp{i}{k:02d}", "status": "running"})
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(p, 0)[1] for p in pids] == [0] * 4
    assert len(experiments.read_index(tmp_path)) == 20
