"""The commands of alerts, and `flask deliver` as a service and from cron."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.installation import Installation
from support.machine import wait_until
from support.mail_server import MailServer, running

pytestmark = pytest.mark.both_engines

CUSTOMER = "org-456"


def set_budget(installation: Installation, amount: int) -> None:
    installation.flask(
        *("set-budget", "--customer", CUSTOMER, "--department", "Travel"),
        *("--period", "Q1 2025", "--amount", str(amount)),
    )


def spend(installation: Installation, spend_id: str, amount: int) -> None:
    """Record money that was spent."""
    file = installation.folder / f"{spend_id}.csv"
    file.write_text(
        "Spend ID,Department,Fiscal Period,Amount,Date\n"
        f"{spend_id},Travel,Q1 2025,{amount},2025-02-03\n",
        encoding="utf-8",
    )
    installation.flask("import-spend", str(file), "--customer", CUSTOMER)


def test_commands_of_an_alert_in_their_order(installation: Installation) -> None:
    flask = installation.flask
    installation.environment["PUBLIC_URL"] = "https://budgets.acme.com/"
    server = MailServer()
    assert "There are no alerts yet" in flask("list-alerts").stdout
    url = server.url().replace("://", "://me:s3cretpassword@")
    added = flask(
        *("add-alert", "--customer", CUSTOMER, "--to", url),
        *("--on", "threshold:80,threshold:100,overdrawn,sync-failed,held,stale-hold:14d"),
    ).stdout
    match = re.fullmatch(
        rf"Alert: (al_[0-9a-f]+)\nTo: mailto://127.0.0.1:{server.port} to finance@acme.com\n", added
    )
    assert match, added
    listed = flask("list-alerts", "--customer", CUSTOMER).stdout
    assert "stale-hold:14d" in listed
    assert "s3cret" not in listed
    failed = flask("test-alert", match[1], check=False)
    assert failed.returncode == 1
    assert "Not sent. Connection error while submitting email" in failed.stderr
    set_budget(installation, 100)
    spend(installation, "card-1", 85)
    assert flask("deliver", "--once").stdout == (
        "Delivered 0 events; 0 attempts failed. Sent 0 messages of alerts; 1 attempt failed.\n"
    )
    assert re.search(r" no +1 *$", flask("list-alerts").stdout.rstrip())
    server_url = server.url().replace("finance", "other")
    flask("add-alert", "--customer", CUSTOMER, "--to", server_url, "--on", "held")
    flask("remove-alert", match[1])
    assert match[1] not in flask("list-alerts").stdout
    assert "There is no alert" in flask("remove-alert", match[1], check=False).stderr


@contextmanager
def delivering(installation: Installation) -> Iterator[Any]:
    """`flask deliver` as a service; its log is in deliver.log. Killed at the end."""
    with (
        (installation.folder / "deliver.log").open("a", encoding="utf-8") as log,
        open(os.devnull, encoding="ascii") as nothing,
    ):
        process = installation.begin(("deliver",), [nothing, log, log])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)


def test_service_sends_what_a_killed_one_has_stored(installation: Installation) -> None:
    server = MailServer()
    installation.flask(
        *("add-alert", "--customer", CUSTOMER, "--to", server.url(), "--on", "threshold:80"),
    )
    set_budget(installation, 100)

    def waiting() -> bool:
        return bool(re.search(r" no +1 *$", installation.flask("list-alerts").stdout.rstrip()))

    with delivering(installation):
        spend(installation, "card-1", 85)
        wait_until(waiting, "no message was stored", 60)
    with running(server), delivering(installation) as process:
        wait_until(lambda: bool(server.titles), "no mail arrived", 180)
        wait_until(lambda: not waiting(), "the result was not stored", 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert server.titles == ["Travel, Q1 2025: 85% used"]
