"""Sync runs and a customer's fiscal year: a changed naming never creates a budget again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.sync_world import HEADER, World, open_world
from support.world import ROOT

from budget_sync.accounts import customers
from budget_sync.database.models import Budget
from budget_sync.domain.periods import FiscalYear, Settled, read_period
from budget_sync.settings import Settings
from budget_sync.sync import prepare
from budget_sync.sync.reading.values import Period, Periods

pytestmark = pytest.mark.both_engines

ROWS: list[list[Any]] = [
    HEADER,
    ["Legal", "FY2024-25", 100],
    ["Legal", "Q3 FY2024-25", 20],
    ["Legal", "Jul-Sep 2024", 30],
    ["Legal", "P12 FY24", 40],
    ["Legal", "Jan 2025", 50],
]


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        world.customer("acme", fiscal_year_start_month=7)
        world.sheet("the-only-key", ROWS, customer_id="acme")
        yield world


def keys() -> list[str]:
    return [budget.periodKey for budget in Budget.select().order_by(Budget.sourceRow)]


def test_next_sync_run_after_a_new_naming_changes_nothing(world: World) -> None:
    assert world.sync().created_count == 5
    assert keys() == ["2025", "2025-Q3", "2025-Q1", "2024-06", "2025-01"]
    customers.set_customer(ROOT, "acme", fiscal_year_named_by="start")
    after = world.state("acme")
    assert keys() == ["2024", "2024-Q3", "2024-Q1", "2025-06", "2025-01"]
    assert world.sync().unchanged_count == 5
    assert world.state("acme") == after
    world.verify()


def test_new_naming_during_a_sync_run_skips_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync()
    plan_for = prepare.plan_for

    def set_naming(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(prepare, "plan_for", plan_for)
        customers.set_customer(ROOT, "acme", fiscal_year_named_by="start")
        return plan_for(*arguments, **options)

    monkeypatch.setattr(prepare, "plan_for", set_naming)
    skipped = world.sync()
    assert skipped.status == "skipped"
    assert "fiscal year was changed while this sync run" in (skipped.message or "")
    assert keys() == ["2024", "2024-Q3", "2024-Q1", "2025-06", "2025-01"]
    assert world.sync().unchanged_count == 5


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("Q1", Period("Q1 2026", "2026-Q1")),
        ("Jul", Period("Jul FY2026", "2025-07")),
        ("P01", Period("P01 2026", "2025-07")),
        ("Q1 2025", Period("Q1 2025", "2025-Q1")),
    ],
)
def test_period_with_the_settled_year_can_be_read_again(text: str, period: Period) -> None:
    fiscal_year = FiscalYear(7)
    assert Periods(fiscal_year, Settled(year="2026"))[text] == period
    assert read_period(period.text, fiscal_year).key == period.key
