"""docs/alerts.md: its numbers are those of the code."""

from __future__ import annotations

import pytest
from support.machine import ENGINE, PROJECT

from budget_sync.alerts import addresses, conditions, manage, send
from budget_sync.alerts.conditions import Kind
from budget_sync.delivery import attempts
from budget_sync.operations.doctor import alerts as doctor

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")


def test_numbers_are_those_of_the_code() -> None:
    page = " ".join((PROJECT / "docs" / "alerts.md").read_text(encoding="utf-8").split())
    assert f"A customer can have {manage.MAX_ALERTS} alerts" in page
    assert f"up to {addresses.MAX_RECIPIENTS} recipients" in page
    assert f"may take {addresses.TIMEOUT_S:.0f} seconds" in page
    assert f"fell by {conditions.HYSTERESIS} points below it" in page
    assert f"If more than {send.MAX_SINGLE} messages wait" in page
    assert f"latest {send.KEPT} messages" in page
    assert (send.LEASE.total_seconds(), "two minutes later" in page) == (120, True)
    assert f"after about {attempts.FIRST_RETRY.seconds} seconds" in page
    assert (attempts.LONGEST_RETRY.total_seconds(), "up to one hour apart" in page) == (3600, True)
    assert (doctor.WAITS_FOR_LONG.total_seconds(), "more than an hour" in page) == (3600, True)
    for kind in Kind:
        assert f"`{kind}" in page
