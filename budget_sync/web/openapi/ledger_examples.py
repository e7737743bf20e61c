"""Example requests and replies of the ledger calls, with the integration guide's data."""

from __future__ import annotations

from typing import Any, NamedTuple

from budget_sync.domain.errors import Code

Body = dict[str, Any]


class Example(NamedTuple):
    """The body of a request, if it has one, and the body of its reply."""

    summary: str
    request: Body | None
    reply: Body


#: Parts of examples.
REQUEST = {"requestId": "intake-789"}
BUDGET = {"budgetId": "budget-123"}
_JANE = {
    "userId": "user-123",
    "userName": "Jane Doe",
    "userEmail": "jane@acme.com",
    "customerId": "org-456",
}
ENGINEERING = {"department": "Engineering", "fiscalPeriod": "Q1 2025"}
_SLACK = {"amount": 5000, "vendor": "Slack", "purpose": "Team collaboration"}
CHECKED = {"success": True, "checkId": "chk_0198c1f4e6a27b3d9e5f8a40"}
RESERVATION = {"reservationId": "res_0198c1f5027d4c61b8a93e72"}


def figures(reserved: int, committed: int, budgeted: int = 100_000) -> Body:
    """The figures of the budget."""
    return {
        "currency": "USD",
        "budgetedAmount": budgeted,
        "reservedAmount": reserved,
        "committedAmount": committed,
        "available": budgeted - reserved - committed,
    }


def _budget(committed: int) -> Body:
    return {"id": "budget-123"} | figures(0, committed)


def _decision(
    code: Code,
    reason: str,
    budget: Body | None,
    *,
    available: bool = False,
    can_auto_approve: bool = False,
) -> Body:
    return CHECKED | {
        "available": available,
        "canAutoApprove": can_auto_approve,
        "code": str(code),
        "reason": reason,
        "budget": budget,
    }


_CHECK = REQUEST | _JANE | ENGINEERING | _SLACK

CHECK = {
    "autoApproved": Example(
        "Scenario 1: available, within the auto-approve limit",
        _CHECK,
        _decision(
            Code.AUTO_APPROVED,
            "Budget available. Within the auto-approve limit",
            _budget(5000),
            available=True,
            can_auto_approve=True,
        ),
    ),
    "requiresApproval": Example(
        "Scenario 2: available, requires FP&A approval",
        _CHECK,
        _decision(
            Code.REQUIRES_APPROVAL,
            "Budget available. Requires FP&A approval",
            _budget(5000),
            available=True,
        ),
    ),
    "insufficient": Example(
        "Scenario 3: not available",
        _CHECK,
        _decision(
            Code.INSUFFICIENT_BUDGET,
            "Insufficient budget. Available: $2,000, Requested: $5,000",
            _budget(98_000),
        ),
    ),
    "noBudget": Example(
        "No budget for that department and period",
        _CHECK | {"department": "Enginering"},
        _decision(Code.NO_BUDGET, "No budget found", None) | {"suggestions": ["Engineering"]},
    ),
}

_RESERVE = BUDGET | {"amount": 5000} | REQUEST | {"reason": "Slack - Team collaboration"}

RESERVE = {
    "reserve": Example(
        "Scenario 1: reserved",
        _RESERVE,
        {"success": True}
        | RESERVATION
        | BUDGET
        | REQUEST
        | {"amountReserved": 5000, "newAvailable": 90_000},
    ),
    "overBudget": Example(
        "Scenario 3: reserved over budget with approval",
        _RESERVE | {"overBudget": {"approvedBy": "fpa-001", "reason": "Approved by the CFO"}},
        {"success": True}
        | RESERVATION
        | BUDGET
        | REQUEST
        | {"amountReserved": 5000, "newAvailable": -3000},
    ),
}


def _movement(held: int, available: int, **amounts: int) -> Body:
    return (
        {"success": True}
        | amounts
        | {"newAvailable": available}
        | BUDGET
        | REQUEST
        | RESERVATION
        | {"amountHeld": held}
    )


COMMIT = {
    "commit": Example(
        "The whole reservation is spent",
        BUDGET | {"amount": 5000} | REQUEST | {"reason": "Invoice paid", "externalRef": "PO-1002"},
        _movement(0, 90_000, amountCommitted=5000, amountReleased=0),
    ),
    "final": Example(
        "Less is spent, and the rest is released",
        BUDGET | {"amount": 4200.5} | REQUEST | {"final": True},
        _movement(0, 90_799, amountCommitted=4200, amountReleased=799)
        | {"amountCommitted": 4200.5, "amountReleased": 799.5, "newAvailable": 90_799.5},
    ),
    "exceeds": Example(
        "The invoice is three percent higher than the reservation",
        BUDGET | {"amount": 5150} | REQUEST | {"externalRef": "INV-88"},
        _movement(0, 89_850, amountCommitted=5150, amountReleased=0) | {"amountExceeded": 150},
    ),
}

RELEASE = {
    "reject": Example(
        "Scenario 4: rejected",
        BUDGET
        | {"amount": 5000}
        | REQUEST
        | {"action": "reject", "reason": "Duplicate subscription found"},
        _movement(0, 97_000, amountReleased=5000),
    ),
    "cancel": Example(
        "Scenario 5: the requester cancels",
        BUDGET
        | {"amount": 5000}
        | REQUEST
        | {"action": "cancel", "originalRequesterId": "user-123", "reason": "No longer needed"},
        _movement(0, 95_000, amountReleased=5000),
    ),
    "exceedsReserved": Example(
        "More than the request holds on the budget",
        BUDGET | {"amount": 6000} | REQUEST | {"action": "manual"},
        {
            "success": False,
            "error": (
                "Amount exceeds reserved: this request holds 5000 on this budget, "
                "6000 was to be released."
            ),
            "code": str(Code.AMOUNT_EXCEEDS_RESERVED),
            "amountReleased": 0,
            "amountHeld": 5000,
            "newAvailable": 90_000,
        },
    ),
}

_AMENDED = {"success": True} | RESERVATION | BUDGET | REQUEST
_AMEND = BUDGET | REQUEST

AMEND = {
    "amend": Example(
        "The price rises while FP&A decides",
        _AMEND | {"amount": 6000, "reason": "New quote"},
        _AMENDED
        | {"previousAmount": 5000, "amountReserved": 6000, "newAvailable": 89_000, "version": 5},
    ),
    "move": Example(
        "The cost moves to another department",
        _AMEND | {"toBudgetId": "budget-456", "reason": "Paid by Marketing"},
        _AMENDED
        | {"budgetId": "budget-456"}
        | {"previousAmount": 5000, "amountReserved": 5000, "newAvailable": 15_000, "version": 2},
    ),
    "extend": Example(
        "The hold expires later",
        _AMEND | {"extend": True, "reason": "The supplier is late", "ifVersion": 4},
        _AMENDED
        | {"previousAmount": 5000, "amountReserved": 5000, "newAvailable": 90_000, "version": 5}
        | {"expiresAt": "2025-05-06T10:30:00Z"},
    ),
}

_REVERSED = {"success": True} | BUDGET | REQUEST

REVERSE = {
    "creditNote": Example(
        "A credit note: the money returns to the budget",
        BUDGET
        | REQUEST
        | {"amount": 1200.5, "to": "available", "reason": "Credit note", "externalRef": "CN-7"},
        _REVERSED | {"amountReversed": 1200.5, "to": "available", "newAvailable": 91_200.5},
    ),
    "wrongInvoice": Example(
        "An invoice was booked by mistake: the request holds the money again",
        BUDGET | REQUEST | {"amount": 5000, "to": "reserved", "reason": "Wrong invoice"},
        _REVERSED | {"amountReversed": 5000, "to": "reserved", "newAvailable": 90_000},
    ),
}

_CARD = {"spendId": "card-2025-0031"}
_BOUGHT = {"date": "2025-02-07", "vendor": "Lufthansa", "reason": "Flight to a customer"}

SPEND = {
    "card": Example(
        "A card payment",
        _CARD | ENGINEERING | {"amount": 640.2} | _BOUGHT,
        {"success": True}
        | _CARD
        | BUDGET
        | {"amountCommitted": 640.2, "newAvailable": 94_359.8}
        | {"overdrawn": False, "overdrawnBy": 0},
    ),
    "overdrawn": Example(
        "More than is available: it is recorded, because it was spent",
        _CARD | BUDGET | {"amount": 96_000} | _BOUGHT,
        {"success": True}
        | _CARD
        | BUDGET
        | {"amountCommitted": 96_000, "newAvailable": -1000}
        | {"overdrawn": True, "overdrawnBy": 1000},
    ),
}
