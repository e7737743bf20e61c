"""Alerts and what they report, in the process of a test."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from budget_sync import ledger, manual_budgets
from budget_sync.alerts import manage
from budget_sync.alerts.collect import Collector
from budget_sync.alerts.service import Alerts
from budget_sync.domain.request_models import SpendRequest
from budget_sync.operations import demo
from support.world import ROOT

CUSTOMER = demo.CUSTOMER
PUBLIC_URL = "https://budgets.acme.com"

_numbers = itertools.count()


def add(url: str, conditions: str, customer_id: str = CUSTOMER, **options: Any) -> str:
    """Add an alert as an operator; returns its id."""
    return str(
        manage.add_alert(ROOT, customer_id, url, conditions, private_networks=False, **options).id
    )


def budget(department: str, amount: int, customer_id: str = CUSTOMER) -> str:
    """Create a budget of Q1 2025; returns its id."""
    created, _ = manual_budgets.set_budget(
        ROOT, customer_id, department, "Q1 2025", Decimal(amount)
    )
    return str(created.id)


def spend(budget_id: str, amount: int, spend_id: str | None = None) -> None:
    """Record money that was spent."""
    ledger.spend(
        ROOT,
        SpendRequest.model_validate(
            {
                "spendId": spend_id or f"spend-{next(_numbers)}",
                "budgetId": budget_id,
                "amount": amount,
                "date": "2025-02-03",
                "reason": "Card",
            }
        ),
    )


def collect() -> int:
    """What a process stores before it is killed; returns the number of messages."""
    return Collector(PUBLIC_URL).collect()


def once() -> tuple[int, int]:
    """What `flask deliver --once` does: the accepted messages, and the failed attempts."""
    service = Alerts(PUBLIC_URL, private_networks=False)
    service.job_once()
    service.finish()
    return service.outcome
