"""Asking again: what is asked again, how long it waits, when it stops."""

import random
from datetime import UTC, datetime

import pytest

from ingest.errors import FailedFile
from ingest.http_retry import RetryableError, RetryPolicy, retry_after_s


class Clock:
    """Keeps the waits instead of sleeping."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def policy(clock: Clock, **more: object) -> RetryPolicy:
    return RetryPolicy(sleep=clock, rng=random.Random(7), **more)  # noqa: S311


def failing(*errors: Exception):
    """A function that raises these one after the other, then gives 42; `left` shows what it didn't raise."""
    left = list(errors)

    def fn() -> int:
        if left:
            raise left.pop(0)
        return 42

    fn.left = left
    return fn


def test_an_answer_needs_no_wait() -> None:
    clock = Clock()
    assert policy(clock).call(failing(), what="a") == 42
    assert clock.waits == []


def test_waits_grow_to_the_limit_and_are_jittered() -> None:
    clock = Clock()
    fn = failing(*[RetryableError("busy")] * 9)
    assert policy(clock, attempts=10, base_s=1.0, max_s=8.0).call(fn, what="a") == 42
    ceilings = [1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert all(0 <= wait <= ceiling for wait, ceiling in zip(clock.waits, ceilings, strict=True))
    assert max(clock.waits) > 4
    assert len({wait / ceiling for wait, ceiling in zip(clock.waits, ceilings, strict=True)}) == 9


def test_the_attempts_have_an_end_told_in_one_line() -> None:
    clock = Clock()
    fn = failing(*[RetryableError("answer was 503")] * 9)
    with pytest.raises(
        FailedFile, match=r"the cost failed 3 times, last: answer was 503; .*run again"
    ) as told:
        policy(clock, attempts=3).call(fn, what="the cost")
    assert len(clock.waits) == 2
    assert len(fn.left) == 6
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is None


def test_what_the_server_asks_for_is_waited() -> None:
    clock = Clock()
    policy(clock).call(failing(RetryableError("answer was 429", 17.0)), what="a")
    assert clock.waits == [17.0]


def test_a_wait_too_long_ends_the_call() -> None:
    clock = Clock()
    with pytest.raises(FailedFile, match="asked to wait 3600 s"):
        policy(clock).call(failing(RetryableError("answer was 429", 3600.0)), what="a")
    assert clock.waits == []


def test_progress_counts_the_attempts_anew() -> None:
    clock = Clock()
    fn = failing(*[RetryableError("cut", progressed=True)] * 9, *[RetryableError("cut")] * 2)
    assert policy(clock, attempts=3).call(fn, what="a") == 42
    assert len(clock.waits) == 11


@pytest.mark.parametrize("error", [FailedFile("wrong key"), KeyError("x")])
def test_other_errors_pass_at_once(error: Exception) -> None:
    clock = Clock()
    with pytest.raises(type(error)):
        policy(clock).call(failing(error), what="a")
    assert clock.waits == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Wed, 26 Nov 2025 00:01:00 GMT", 60.0),
        ("Wed, 26 Nov 2025 00:01:00 -0000", 60.0),
        ("Tue, 25 Nov 2025 00:00:00 GMT", 0.0),
        ("-5", None),
        ("1e9", None),
        ("²", None),
        ("soon", None),
        ("", None),
    ],
)
def test_both_forms_of_retry_after(value: str, seconds: float | None) -> None:
    now = datetime(2025, 11, 26, tzinfo=UTC)
    assert retry_after_s({"RETRY-after": value}, now) == seconds


def test_no_header_no_wait() -> None:
    assert retry_after_s({"content-type": "text/plain"}) is None
