"""docs/webhooks.md: its receiver works, and its numbers are those of the code."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from support.machine import ENGINE, PROJECT

from budget_sync.delivery import attempts, post, webhooks
from budget_sync.delivery.signatures import new_secret, signed_headers

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")

PAGE = (PROJECT / "docs" / "webhooks.md").read_text(encoding="utf-8")


def test_receiver_in_python_accepts_only_signed_events() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    secret, stored = new_secret(), []
    names: dict[str, Any] = {
        "__name__": "receiver",
        "store_once": lambda *each: stored.append(each),
    }
    exec(block.replace("whsec_…", secret), names)  # noqa: S102  # the page's own code
    client = names["app"].test_client()
    body = b'{"id": "evt_a1"}'
    headers = signed_headers("evt_a1", int(time.time()), body, [new_secret(), secret])
    assert client.post("/budgets", data=body, headers=headers).status_code == 204
    assert stored == [("evt_a1", {"id": "evt_a1"})]
    for forged in (
        signed_headers("evt_a1", int(time.time()), body, [new_secret()]),
        signed_headers("evt_a1", int(time.time()) - 3600, body, [secret]),
        headers | {"webhook-id": "evt_a2"},
        {},
    ):
        assert client.post("/budgets", data=body, headers=forged).status_code == 400
    assert len(stored) == 1


def test_numbers_are_those_of_the_code() -> None:
    page = " ".join(PAGE.split())
    assert f"A customer can have {webhooks.MAX_WEBHOOKS} webhooks" in page
    assert f"latest {attempts.MAX_ATTEMPTS} attempts" in page
    assert f"within {post.TIMEOUT_S:.0f} seconds" in page
    assert f"after about {attempts.FIRST_RETRY.seconds} seconds" in page
    assert attempts.LONGEST_RETRY.total_seconds() == 3600
    assert "up to one hour" in page
    assert attempts.GIVE_UP_AFTER.days == 3
    assert "After three days of failures" in page
    assert webhooks.OVERLAP.total_seconds() == 24 * 3600
    assert "for 24 hours" in page
