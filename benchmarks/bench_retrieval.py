"""One retrieval query over 100,000 events of 50 features against an exact faiss flat index, in one process.

Both get one query at a time and one thread, and have to find the same neighbours: no cap on sessions and clusters,
which faiss doesn't know, ever bites, and all rows agree with the filters, so that nothing is pruned.
"""

import datetime
import statistics
import time

import faiss
import numpy as np
import pyarrow as pa

from ml.retrieval import Index

ROWS, DIMS, QUERIES, K = 100_000, 50, 200, 20
AFTER = "9999-12-31"


def events(rows: int, dims: int, seed: int = 5) -> tuple[pa.Table, list[str]]:
    rng = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(dims)]
    first = datetime.date(1900, 1, 1).toordinal()
    columns = {name: rng.normal(size=rows) for name in names} | {
        "session_date": pa.array([datetime.date.fromordinal(first + i) for i in range(rows)]),
        "event_id": [f"e{i}" for i in range(rows)],
        "attempt_cluster_id": np.arange(rows),
        "outcome": rng.choice(["BREAK", "BOUNCE", "CHOP"], rows),
        "strength_signed": rng.normal(size=rows),
    }
    same = {"stage": "touch", "direction": "UP", "level_kind_name": "ROUND", "gamma_bucket": "LONG_GAMMA"}
    return pa.table(columns | {k: [v] * rows for k, v in same.items()}), names


def bench(*, rows: int = ROWS, dims: int = DIMS, queries: int = QUERIES, runs: int = 3) -> dict[str, float]:
    """Medians over ``queries`` queries, asked in turn of both; ``ratio`` is ours / faiss."""
    table, names = events(rows, dims)
    index = Index.build(table, names)
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatL2(dims)
    flat.add(np.ascontiguousarray(index.vectors, dtype=np.float32))
    filters = {f: table[f][0].as_py() for f in ("stage", "direction", "level_kind_name", "gamma_bucket")}
    rng = np.random.default_rng(6)
    wanted = rng.normal(size=(queries, dims))
    singles = index.scaling.apply(wanted).astype(np.float32)
    ours, theirs = [], []
    differ = 0
    for _ in range(runs):
        for raw, single in zip(wanted, singles, strict=True):
            started = time.perf_counter()
            found = index.query(raw, filters, AFTER, K)
            between = time.perf_counter()
            _, neighbours = flat.search(single[None, :], K)
            theirs.append(time.perf_counter() - between)
            ours.append(between - started)
            differ += set(found.rows.tolist()) != set(index.rows[neighbours[0]].tolist())
    return {
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ours_ms": statistics.median(ours) * 1e3,
        "faiss_ms": statistics.median(theirs) * 1e3,
        "queries_that_differ": differ,
    }
