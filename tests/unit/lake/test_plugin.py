"""What the plugin refuses before it plans anything."""

import pytest

from lake import plan, plugin


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("tomorrow", None, "start_date was 'tomorrow', expected a date such as 2025-12-15"),
        (20231201, None, "start_date was 20231201, expected a date"),
        (None, "2025-13-01", "end_date was '2025-13-01', expected a date"),
        ("2025-12-16", "2025-12-16", "start_date was 2025-12-16, expected one before end_date"),
    ],
)
def test_a_span_that_is_none_is_refused(start: object, end: object, told: str) -> None:
    with pytest.raises(plan.PlanError, match=told.replace("(", r"\(")):
        plugin._span(start, end)


def test_a_span_is_iso_text() -> None:
    assert plugin._span("2025-12-15", None) == ("2025-12-15", None)
    assert plugin._span(None, None) == (None, None)
