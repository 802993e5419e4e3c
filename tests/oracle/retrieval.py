"""Retrieval as the text of spec/market.md 14.6 says it, row by row."""

import math
import statistics


def vectors(rows: list[dict], names: list[str]) -> tuple[list[str], list[tuple[float, float, float]]]:
    """Names of the columns that vary and their (median, mean, deviation)."""
    kept, stats = [], []
    for name in names:
        known = [r[name] for r in rows if r[name] is not None]
        if not known:
            continue
        median = statistics.median(known)
        filled = [median if r[name] is None else r[name] for r in rows]
        if min(filled) == max(filled):
            continue
        mean = math.fsum(filled) / len(filled)
        kept.append(name)
        stats.append((median, mean, math.sqrt(math.fsum((v - mean) ** 2 for v in filled) / len(filled))))
    return kept, stats


def query(rows: list[dict], names: list[str], event: dict, k: int = 20) -> dict | None:
    kept, stats = vectors(rows, names)

    def z(row: dict) -> list[float]:
        return [
            ((m if row[n] is None else row[n]) - mean) / deviation
            for n, (m, mean, deviation) in zip(kept, stats, strict=True)
        ]

    filters = ["stage", "direction", "level_kind_name", "gamma_bucket"]
    dropped: list[str] = []
    while True:
        left = [i for i, r in enumerate(rows) if all(r[f] == event[f] for f in filters)]
        if len(left) >= k or len(filters) == 1:
            break
        dropped.insert(0, filters.pop())
    if len(left) < 5:
        return None
    target = z(event)
    distance = {i: math.dist(z(rows[i]), target) for i in left}
    chosen: list[int] = []
    for i in sorted(left, key=lambda i: (distance[i], i)):
        r = rows[i]
        same_day = sum(rows[j]["session_date"] == r["session_date"] for j in chosen)
        same_cluster = any(cluster(rows[j]) == cluster(r) for j in chosen)
        if same_day < 2 and not same_cluster:
            chosen.append(i)
        if len(chosen) == k:
            break
    raw = [1 / (distance[i] + 1e-6) for i in chosen]
    weights = [w / math.fsum(raw) for w in raw]
    p = [
        math.fsum(w for i, w in zip(chosen, weights, strict=True) if rows[i]["outcome"] == o)
        for o in ("BREAK", "BOUNCE", "CHOP")
    ]
    return {
        "rows": chosen,
        "p": p,
        "strength": math.fsum(w * rows[i]["strength_signed"] for i, w in zip(chosen, weights, strict=True)),
        "similarity": math.fsum(1 / (1 + distance[i] / math.sqrt(len(kept))) for i in chosen) / len(chosen),
        "entropy": -math.fsum(x * math.log(x) for x in p if x > 0) / math.log(3),
        "effective_n": 1 / math.fsum(w * w for w in weights),
        "dropped": tuple(dropped),
    }


def cluster(row: dict) -> tuple:
    return row["session_date"], row["level_kind_name"], row["direction"], row["attempt_cluster_id"]
