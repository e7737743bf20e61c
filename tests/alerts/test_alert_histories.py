"""Random histories of a real ledger: exactly the messages that a separate model expects."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from flask import Flask
from support.alerts import CUSTOMER, add, budget, collect, spend
from support.mail_server import MailServer
from support.world import ROOT

from budget_sync import ledger, manual_budgets
from budget_sync.database.delivery_models import AlertMessage
from budget_sync.database.models import Budget, BudgetUtilization, Reservation
from budget_sync.domain.errors import RequestError
from budget_sync.domain.request_models import (
    AmendRequest,
    CommitRequest,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)

pytestmark = pytest.mark.both_engines

LIMITS = {"50%": Fraction(50, 100), "80%": Fraction(80, 100), "100%": Fraction(1)}
DEPARTMENTS = ("Travel", "Training")


class Model:
    """Watches the stored figures after each step, without the audit log."""

    def __init__(self, ids: dict[str, str]) -> None:
        self.ids = ids
        self.waits: set[tuple[str, str]] = set()
        self.expected: list[tuple[str, str]] = []
        self.last = {name: self.share(name) for name in ids}

    def share(self, name: str) -> Fraction:
        """The used share of a budget as it is stored."""
        row = Budget.get_by_id(self.ids[name])
        used = BudgetUtilization.get_by_id(row.id)
        return Fraction(used.reservedMinor + used.committedMinor, row.budgetedMinor)

    def observe(self) -> None:
        """Note which messages the last step should cause."""
        for name in self.ids:
            was, now = self.last[name], self.share(name)
            self.last[name] = now
            for text, limit in LIMITS.items():
                if (name, text) in self.waits:
                    if now <= limit - Fraction(5, 100):
                        self.waits.discard((name, text))
                elif was < limit <= now:
                    self.waits.add((name, text))
                    self.expected.append((name, text))


def step(rng: random.Random, ids: dict[str, str], number: int) -> None:
    """Move money, or change an amount. A step that the ledger rejects changes nothing."""
    name = rng.choice(DEPARTMENTS)
    budget_id = ids[name]
    amount = Decimal(rng.randrange(1, 400))
    what = rng.choice(("reserve", "reserve", "commit", "release", "spend", "amend", "move", "set"))
    open_ones = [
        row.requestId
        for row in Reservation.select().where(
            Reservation.budgetId == budget_id, Reservation.status == "open"
        )
    ]
    request_id = rng.choice(sorted(open_ones)) if open_ones else "none"
    named: dict[str, Any] = {"budget_id": budget_id, "request_id": request_id}
    if what == "reserve":
        ledger.reserve(
            ROOT,
            ReserveRequest(
                budget_id=budget_id, request_id=f"r{number}", amount=amount, user_id="user-123"
            ),
        )
    elif what == "commit":
        ledger.commit(ROOT, CommitRequest(**named, amount=amount, reason="Invoice"))
    elif what == "release":
        ledger.release(
            ROOT, ReleaseRequest(**named, amount=amount, action=ReleaseAction.MANUAL, reason="x")
        )
    elif what == "spend":
        spend(budget_id, int(amount) // 3 + 1)
    elif what == "amend":
        ledger.amend(ROOT, AmendRequest(**named, amount=amount, reason="Quote"))
    elif what == "move":
        other = next(each for each in ids.values() if each != budget_id)
        ledger.amend(ROOT, AmendRequest(**named, to_budget_id=other, reason="Wrong budget"))
    else:
        total = Decimal(rng.choice((600, 900, 1000, 1500)))
        manual_budgets.set_budget(ROOT, CUSTOMER, name, "Q1 2025", total)


@pytest.mark.parametrize("seed", range(3))
def test_real_histories_send_what_a_model_says(world: Flask, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # a test
    ids = {name: budget(name, 1000) for name in DEPARTMENTS}
    add(MailServer().url(), "threshold:50,threshold:80,threshold:100")
    model = Model(ids)
    done = 0
    for number in range(60):
        try:
            step(rng, ids, number)
            done += 1
        except RequestError:
            pass
        model.observe()
        if rng.random() < 0.3:
            collect()
    collect()
    found = []
    for message in AlertMessage.select().order_by(AlertMessage.id):
        (reached,) = [line for line in message.body.splitlines() if line.startswith("Reached: ")]
        name = message.title.partition(",")[0]
        limits = reached.removeprefix("Reached: ").rstrip(".").split(", ")
        found += [(name, limit) for limit in limits]
    assert found == model.expected
    assert done > 20
    assert len(found) >= 3
