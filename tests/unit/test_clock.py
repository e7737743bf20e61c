"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from budget_sync.domain import clock


def test_time_is_read_from_its_text() -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert clock.from_text(clock.to_text(moment)) == moment
    assert clock.from_text("2025-02-05T10:30:00Z").tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-02-05",
        "2025-02-05 10:30:00Z",
        "2025-02-05T10:30:00",
        "2025-02-05T10:30+00Z",
        "2025-02-30T10:30:00Z",
        "2025-02-05T10:30:0xZ",
    ],
)
def test_other_text_is_not_a_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        clock.from_text(text)
