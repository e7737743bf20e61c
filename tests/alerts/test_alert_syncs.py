"""Alerts about sync runs: a source that fails or holds changes is reported once, not each hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from support.alerts import add, once, spend
from support.mail_server import MailServer, mail_server
from support.sync_world import ORG, World, open_world

from budget_sync.settings import Settings

pytestmark = pytest.mark.both_engines

HEADER = "Department,Fiscal Period,Budgeted Amount\n"


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with mail_server() as started:
        yield started


def plan(**amounts: int) -> str:
    return HEADER + "".join(f"{name},Q1 2025,{amount}\n" for name, amount in amounts.items())


def test_failure_is_reported_until_a_run_works(world: World, mails: MailServer) -> None:
    source = world.csv("plan.csv", plan(Travel=1000))
    add(mails.url(), "sync-failed", customer_id=ORG)
    assert world.sync(source).status == "success"
    for _ in range(2):
        (world.folder / "plan.csv").unlink()
        for _ in range(3):
            assert world.sync(source).status == "failed"
            once()
        world.write("plan.csv", plan(Travel=1000))
        world.sync(source)
        once()
    assert len(mails.mails) == 2
    assert mails.titles[0].startswith("Sync failed: ")
    assert "/sync/pass?id=" in mails.mails[0].body


def test_amount_from_a_sheet_crosses_a_threshold(world: World, mails: MailServer) -> None:
    source = world.csv("plan.csv", plan(Travel=1000))
    world.sync(source)
    add(mails.url(), "threshold:80,overdrawn", customer_id=ORG)
    spend(world.budget("Travel").id, 700)
    world.write("plan.csv", plan(Travel=850))
    world.sync(source)
    assert once() == (1, 0)
    assert mails.titles == ["Travel, Q1 2025: 82.3% used"]
    # Less money, then more: 70 percent is more than five points below.
    world.write("plan.csv", plan(Travel=1000))
    world.sync(source)
    world.write("plan.csv", plan(Travel=800))
    world.sync(source)
    assert once() == (1, 0)


def test_held_changes_are_reported_until_none_is(world: World, mails: MailServer) -> None:
    amounts = dict.fromkeys((f"Team{number}" for number in range(10)), 1000)
    source = world.csv("plan.csv", plan(**amounts))
    world.sync(source)
    add(mails.url(), "held", customer_id=ORG)
    world.write("plan.csv", plan(Team0=1000))
    for _ in range(3):
        assert world.sync(source).held_count > 0
        once()
    (mail,) = mails.mails
    assert "wait for your answer" in mail.title
    assert f"/sync/held?source={source.id}" in mail.body
    world.write("plan.csv", plan(**amounts))
    assert world.sync(source).held_count == 0
    world.write("plan.csv", plan(Team0=1000))
    world.sync(source)
    assert once() == (1, 0)
