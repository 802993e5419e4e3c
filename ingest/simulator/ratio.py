"""How many ES points one dollar of SPY is worth: a slow, smooth drift around 10.03, the same for every scale."""

import numpy as np

CENTRE = 10.03
# Swings around the centre: (period in days, size). The slow ones are dividends and rates, the quick ones a basis that
# moves within a day; all together stay within 0.01 of the centre.
SWINGS = ((41.0, 0.0055), (5.3, 0.0018), (0.9, 0.0008), (0.17, 0.0003))
_DAY_NS = 86_400_000_000_000
_EPOCH_NS = 1_262_304_000_000_000_000  # 2010-01-01; phases are kept small, so that doubles lose nothing


def ratio_at(seed: int, ts_ns: np.ndarray) -> np.ndarray:
    """(n,) float64 ratio ES / SPY at each instant (ns UTC). A function of seed and time alone."""
    days = (np.asarray(ts_ns, np.int64) - _EPOCH_NS) / _DAY_NS
    phases = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 1003]))).random(len(SWINGS))
    ratio = np.full(days.shape, CENTRE)
    for (period_days, size), phase in zip(SWINGS, phases, strict=True):
        ratio += size * np.sin(2 * np.pi * (days / period_days + phase))
    return ratio
