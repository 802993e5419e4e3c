"""Asking a vendor's server again: which answers are worth it, how long to wait, and when to stop.

One policy for every source. A caller turns what its client raised into `RetryableError` (worth asking again)
or `ingest.errors.FailedFile` (never worth it: wrong key, wrong request, not paid); everything else passes
through untouched.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from ingest.errors import FailedFile, IngestError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# 408 and 425: the server saw no whole request. 429: too many. 5xx below: overloaded or being restarted; 501
# and 505 say that it never will.
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class RetryableError(IngestError):
    """One attempt failed in a way that another may not.

    ``retry_after_s`` is what the server asked for. ``progressed`` says that the attempt brought a good part
    of what was asked for, as of a long download: then the attempts are counted anew.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None, *, progressed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.progressed = progressed


@dataclass
class RetryPolicy:
    """Exponential backoff with full jitter: before attempt k (2, 3, …) it waits a uniform share of
    ``min(max_s, base_s · 2^(k−2))`` seconds.

    A server's Retry-After replaces that wait where it is longer; one above ``longest_wait_s`` ends the call
    instead of holding a process for hours. Tests pass their own ``sleep`` and ``rng``.
    """

    attempts: int = 6
    base_s: float = 0.5
    max_s: float = 30.0
    longest_wait_s: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=random.Random)

    def call(self, fn: Callable[[], Result], *, what: str) -> Result:
        """``fn()``, asked again while it raises RetryableError.

        Raises FailedFile with ``what`` and the last reason when the attempts are used up, and at once with
        whatever else ``fn`` raises. ``what`` names the request for people and must hold no secret.
        """
        attempt = 1
        while True:
            try:
                return fn()
            except RetryableError as error:
                attempt = 1 if error.progressed else attempt + 1
                if attempt > self.attempts:
                    raise FailedFile(
                        f"{what} failed {self.attempts} times, last: {error.reason}; expected an answer; "
                        "run again later"
                    ) from None
                wait_s = self._wait_s(max(attempt, 2), error.retry_after_s)
                if wait_s > self.longest_wait_s:
                    raise FailedFile(
                        f"{what}: {error.reason}, and the server asked to wait {wait_s:.0f} s, expected at "
                        f"most {self.longest_wait_s:.0f}; run again after that"
                    ) from None
                log.info("asking again what=%s reason=%s wait_s=%.1f", what, error.reason, wait_s)
            self.sleep(wait_s)

    def _wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        ceiling = min(self.max_s, self.base_s * 2.0 ** min(attempt - 2, 60))
        return max(self.rng.uniform(0, ceiling), retry_after_s or 0.0)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, in either of its two forms; None without a readable
    one. A moment that has passed is 0.
    """
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000" says UTC without a place
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
