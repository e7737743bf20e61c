"""A driver that applies each operation to a customer of the service and to its model.

Each operation raises ConservationError if the service answers otherwise than the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from support.world import ROOT

from budget_sync import ledger
from budget_sync.domain.decision_models import ApproveRequest
from budget_sync.domain.permissions import Actor
from budget_sync.domain.request_models import (
    AmendRequest,
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    ReverseTo,
    SpendRequest,
)
from budget_sync.ledger.expiry import expire_holds
from stress.ledger_customer import PERIOD, ModeledCustomer
from stress.ledger_model_decisions import approve
from stress.ledger_model_rows import DONE, PAST, REPLAYED, SERVICE

#: The versions that an amendment names: the current one, or the one that the last one named.
CURRENT, SENT = "current", "sent"

_PAST_TIME = "2020-01-01T00:00:00Z"


@dataclass
class Driver(ModeledCustomer):
    """Applies each operation to a customer of the service and to its model, and compares them."""

    #: The version that the last amendment of a request on a budget named.
    sent_versions: dict[tuple[str, str], int] = field(default_factory=dict)

    def check(self, department: str, request: str, amount: int) -> None:
        """Check."""
        body = CheckRequest(
            request_id=request,
            user_id="jane",
            user_name="Jane",
            user_email="jane@example.com",
            customer_id=self.customer,
            department=department,
            fiscal_period=PERIOD,
            amount=_units(amount),
        )
        expected = self.model.check(self.budget_id(department), request, amount)
        self.compare_answer(
            f"check {department} {request} {amount}",
            expected,
            lambda: ledger.check(self.actor, body).data["code"],
        )

    def reserve(
        self, department: str, request: str, amount: int, *, over: bool, by: str, key: str | None
    ) -> None:
        """Reserve."""
        body = ReserveRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            user_id="jane",
            over_budget=self._approval(over=over),
        )
        expected = self.model.reserve(body.budget_id, request, amount, over=over, by=by, key=key)
        self._move(
            f"reserve {department} {request} {amount} over={over} by={by} key={key}",
            expected,
            lambda: ledger.reserve(self._actor(by), body, idempotency_key=key),
        )

    def commit(
        self,
        department: str,
        request: str,
        amount: int,
        *,
        final: bool,
        ref: str | None,
        over: bool,
        by: str,
        key: str | None,
    ) -> None:
        """Commit."""
        body = CommitRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            final=final,
            external_ref=ref,
            over_budget=self._approval(over=over),
        )
        expected = self.model.commit(
            body.budget_id, request, amount, final=final, ref=ref, over=over, by=by, key=key
        )
        self._move(
            f"commit {department} {request} {amount} final={final} ref={ref} over={over} by={by}"
            f" key={key}",
            expected,
            lambda: ledger.commit(self._actor(by), body, idempotency_key=key),
        )

    def release(
        self, department: str, request: str, amount: int, *, action: ReleaseAction, key: str | None
    ) -> None:
        """Release."""
        body = ReleaseRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            action=action,
        )
        expected = self.model.release(body.budget_id, request, amount, action=action, key=key)
        self._move(
            f"release {department} {request} {amount} {action} key={key}",
            expected,
            lambda: ledger.release(self.actor, body, idempotency_key=key),
        )

    def amend(
        self,
        department: str,
        request: str,
        amount: int | None,
        *,
        to: str | None,
        extend: bool,
        over: bool,
        if_version: str | None,
        by: str,
        key: str | None,
    ) -> None:
        """Amend. `if_version` is CURRENT or SENT."""
        budget_id = self.budget_id(department)
        version = self._version(budget_id, request, if_version)
        body = AmendRequest(
            budget_id=budget_id,
            request_id=request,
            amount=None if amount is None else _units(amount),
            to_budget_id=to and self.budget_id(to),
            reason="Changed",
            extend=extend,
            over_budget=self._approval(over=over),
            if_version=version,
        )
        expected = self.model.amend(
            budget_id,
            request,
            amount,
            to=body.to_budget_id,
            extend=extend,
            over=over,
            if_version=version,
            by=by,
            key=key,
        )
        self._move(
            f"amend {department} {request} {amount} to={to} extend={extend} over={over}"
            f" if_version={version} by={by} key={key}",
            expected,
            lambda: ledger.amend(self._actor(by), body, idempotency_key=key),
        )

    def reverse(
        self,
        department: str,
        request: str,
        amount: int,
        *,
        to: ReverseTo,
        ref: str | None,
        by: str,
        key: str | None,
    ) -> None:
        """Reverse, for a request or a spend."""
        body = ReverseRequest(
            budget_id=self.budget_id(department),
            request_id=request,
            amount=_units(amount),
            to=to,
            reason="Credit note",
            external_ref=ref,
        )
        expected = self.model.reverse(
            body.budget_id, request, amount, to=to, ref=ref, by=by, key=key
        )
        self._move(
            f"reverse {department} {request} {amount} to={to} ref={ref} by={by} key={key}",
            expected,
            lambda: ledger.reverse(self._actor(by), body, idempotency_key=key),
        )

    def spend(
        self, department: str, spend_id: str, amount: int, *, day: str, named: bool, by: str
    ) -> None:
        """Spend on a budget by its id, or by department and period if `named`."""
        budget_id = self.budget_id(department)
        body = SpendRequest(
            spend_id=spend_id,
            budget_id=None if named else budget_id,
            department=department if named else None,
            fiscal_period=PERIOD if named else None,
            amount=_units(amount),
            date=date.fromisoformat(day),
            reason="Card",
        )
        expected = self.model.spend(budget_id, spend_id, amount, day=day, named=named)
        self._move(
            f"spend {department} {spend_id} {amount} on {day} named={named} by={by}",
            expected,
            lambda: ledger.spend(self._actor(by), body),
        )

    def approve(self, department: str, request: str) -> None:
        """Approve."""
        budget_id = self.budget_id(department)
        body = ApproveRequest(budget_id=budget_id, request_id=request)
        self._move(
            f"approve {department} {request}",
            approve(self.model, budget_id, request),
            lambda: ledger.approve(self.actor, body),
        )

    def set_hold_days(self, days: int | None) -> None:
        """Let new reservations of the customer expire after so many days, or never."""
        self.history.append(f"hold days {days}")
        self.set_customer("holdDays", days)
        self.model.hold_days = days

    def let_expire(self, department: str, request: str) -> None:
        """Set the expiry of a request's open reservation to a time in the past."""
        self.history.append(f"the time of {department} {request} is over")
        budget_id = self.budget_id(department)
        self.write(
            f"""
            UPDATE "Reservation" SET "expiresAt" = '{_PAST_TIME}' WHERE "status" = 'open'
            AND "budgetId" = '{budget_id}' AND "requestId" = '{request}'
            """
        )
        hold = self.model.hold_of(budget_id, request)
        if hold and hold.held:
            hold.expires = PAST

    def expire(self) -> None:
        """Release all reservations that have expired."""
        expected = self.model.expire()
        self.compare_answer("expire", str(expected), lambda: str(expire_holds(ROOT, self.customer)))

    def _actor(self, by: str) -> Actor:
        return self.service if by == SERVICE else self.actor

    def _approval(self, *, over: bool) -> OverBudget | None:
        approver = self.actor.user_id or ""
        return OverBudget(approved_by=approver, reason="Urgent") if over else None

    def _version(self, budget_id: str, request: str, if_version: str | None) -> int | None:
        """The version that an amendment names."""
        hold = self.model.hold_of(budget_id, request)
        if if_version == CURRENT:
            self.sent_versions[budget_id, request] = hold.version if hold else 1
        return self.sent_versions.get((budget_id, request), 1) if if_version else None

    def _move(self, operation: str, expected: str, verb: Callable[[], Any]) -> None:
        def answer() -> str:
            return REPLAYED if verb().replayed else DONE

        self.compare_answer(operation, expected, answer)


def _units(minor: int) -> Decimal:
    return Decimal(minor) / 100
