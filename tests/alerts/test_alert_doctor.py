"""`flask doctor` reports messages of alerts that wait, and links that are missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask
from support.alerts import PUBLIC_URL, add, budget, collect, once, spend
from support.mail_server import MailServer

from budget_sync.operations.doctor import State
from budget_sync.operations.doctor.alerts import alerts as examine
from budget_sync.settings import Settings

pytestmark = pytest.mark.both_engines


def test_waiting_messages_and_missing_links_are_reported(world: Flask, chosen: Settings) -> None:
    def seen(public_url: str | None = PUBLIC_URL) -> list[tuple[str, str]]:
        settings = replace(chosen, public_url=public_url)
        return [(str(finding.state), finding.seen) for finding in examine(settings)]

    assert seen(None) == []
    with time_machine.travel(datetime.now(UTC)) as clock:
        add(MailServer().url(), "threshold:50")
        works = (State.OK, "1 have no message that waits for more than an hour")
        assert seen() == [works]
        assert seen(None) == [
            (State.WARNING, "PUBLIC_URL is not set: messages have no links"),
            works,
        ]
        spend(budget("Travel", 100), 60)
        collect()
        assert seen() == [works]
        clock.shift(timedelta(minutes=61))
        ((state, text),) = seen()
        assert state == State.WARNING
        assert text.startswith("a message waits since ")
        once()
        ((_, text),) = seen()
        assert "after 1 attempts." in text
        assert "Connection refused" in text
