"""The cut of a training set, straight from the sentences of spec/execution.md 5.3, one sample at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil

EMBARGO = timedelta(seconds=86_400)


@dataclass(frozen=True)
class Sample:
    client: int
    operation: int
    as_of: datetime
    label_time: datetime


def split_at(samples: list[Sample]) -> datetime:
    """``date_trunc('hour', quantile_disc(as_of, 0.8))``: the first value that at least 80 % are not above."""
    for candidate in sorted(s.as_of for s in samples):
        at_most = sum(s.as_of <= candidate for s in samples)
        if Fraction(at_most, len(samples)) >= Fraction(8, 10):
            return candidate.replace(minute=0, second=0, microsecond=0)
    raise AssertionError("no sample")


def sides(samples: list[Sample]) -> list[str]:
    """``train``, ``test``, ``EMBARGO`` or ``OPERATION_STRADDLE`` for each sample."""
    cut = split_at(samples)
    tested = {(s.client, s.operation) for s in samples if s.as_of >= cut}
    found = []
    for s in samples:
        if s.as_of >= cut:
            found.append("test")
        elif not s.label_time < cut - EMBARGO:
            found.append("EMBARGO")
        elif (s.client, s.operation) in tested:
            found.append("OPERATION_STRADDLE")
        else:
            found.append("train")
    return found


def tail(samples: list[Sample]) -> list[Sample]:
    """The last tenth of train by as_of, rounded up, with everything at the instant that it begins with."""
    train = sorted(
        (s for s, side in zip(samples, sides(samples), strict=True) if side == "train"), key=lambda s: s.as_of
    )
    begins = train[-ceil(Fraction(len(train), 10))].as_of
    return [s for s in train if s.as_of >= begins]
