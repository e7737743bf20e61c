"""Example requests and replies with the integration guide's data, and one error per code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from budget_sync.domain.errors import MEANINGS, Code

Body = dict[str, Any]


class Example(NamedTuple):
    """The body of a request, if it has one, and the body of its reply."""

    summary: str
    request: Body | None
    reply: Body


_REQUEST = {"requestId": "intake-789"}
_BUDGET = {"budgetId": "budget-123"}
_JANE = {
    "userId": "user-123",
    "userName": "Jane Doe",
    "userEmail": "jane@acme.com",
    "customerId": "org-456",
}
_ENGINEERING = {"department": "Engineering", "fiscalPeriod": "Q1 2025"}
_SLACK = {"amount": 5000, "vendor": "Slack", "purpose": "Team collaboration"}
_CHECKED = {"success": True, "checkId": "chk_0198c1f4e6a27b3d9e5f8a40"}
_RESERVATION = {"reservationId": "res_0198c1f5027d4c61b8a93e72"}


def _figures(reserved: int, committed: int, budgeted: int = 100_000) -> Body:
    return {
        "currency": "USD",
        "budgetedAmount": budgeted,
        "reservedAmount": reserved,
        "committedAmount": committed,
        "available": budgeted - reserved - committed,
    }


def _budget(committed: int) -> Body:
    return {"id": "budget-123"} | _figures(0, committed)


def _decision(
    code: Code,
    reason: str,
    budget: Body | None,
    *,
    available: bool = False,
    can_auto_approve: bool = False,
) -> Body:
    return _CHECKED | {
        "available": available,
        "canAutoApprove": can_auto_approve,
        "code": str(code),
        "reason": reason,
        "budget": budget,
    }


_CHECK = _REQUEST | _JANE | _ENGINEERING | _SLACK

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
        _CHECK | {"department": "Legal"},
        _decision(Code.NO_BUDGET, "No budget found", None),
    ),
}

_RESERVE = _BUDGET | {"amount": 5000} | _REQUEST | {"reason": "Slack - Team collaboration"}

RESERVE = {
    "reserve": Example(
        "Scenario 1: reserved",
        _RESERVE,
        {"success": True}
        | _RESERVATION
        | _BUDGET
        | _REQUEST
        | {"amountReserved": 5000, "newAvailable": 90_000},
    ),
    "overBudget": Example(
        "Scenario 3: reserved over budget with approval",
        _RESERVE | {"overBudget": {"approvedBy": "fpa-001", "reason": "Approved by the CFO"}},
        {"success": True}
        | _RESERVATION
        | _BUDGET
        | _REQUEST
        | {"amountReserved": 5000, "newAvailable": -3000},
    ),
}


def _movement(held: int, available: int, **amounts: int) -> Body:
    return (
        {"success": True}
        | amounts
        | {"newAvailable": available}
        | _BUDGET
        | _REQUEST
        | _RESERVATION
        | {"amountHeld": held}
    )


COMMIT = {
    "commit": Example(
        "The whole reservation is spent",
        _BUDGET
        | {"amount": 5000}
        | _REQUEST
        | {"reason": "Invoice paid", "externalRef": "PO-1002"},
        _movement(0, 90_000, amountCommitted=5000, amountReleased=0),
    ),
    "final": Example(
        "Less is spent, and the rest is released",
        _BUDGET | {"amount": 4200.5} | _REQUEST | {"final": True},
        _movement(0, 90_799, amountCommitted=4200, amountReleased=799)
        | {"amountCommitted": 4200.5, "amountReleased": 799.5, "newAvailable": 90_799.5},
    ),
}

RELEASE = {
    "reject": Example(
        "Scenario 4: rejected",
        _BUDGET
        | {"amount": 5000}
        | _REQUEST
        | {"action": "reject", "reason": "Duplicate subscription found"},
        _movement(0, 97_000, amountReleased=5000),
    ),
    "cancel": Example(
        "Scenario 5: the requester cancels",
        _BUDGET
        | {"amount": 5000}
        | _REQUEST
        | {"action": "cancel", "originalRequesterId": "user-123", "reason": "No longer needed"},
        _movement(0, 95_000, amountReleased=5000),
    ),
    "exceedsReserved": Example(
        "More than the request holds on the budget",
        _BUDGET | {"amount": 6000} | _REQUEST | {"action": "manual"},
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

_ROW = (
    {"id": "budget-123", "customerId": "org-456"}
    | _ENGINEERING
    | _figures(0, 5000)
    | {"autoApproveLimit": None, "deletedAt": None}
)

LIST_BUDGETS = {"page": Example("A single page", None, {"items": [_ROW], "nextCursor": None})}
GET_BUDGET = {"budget": Example("Engineering", None, _ROW)}
GET_REQUEST = {
    "reserved": Example(
        "Checked and reserved",
        None,
        _REQUEST
        | {
            "reservations": [
                _RESERVATION
                | _BUDGET
                | _ENGINEERING
                | {"currency": "USD", "status": "open", "requesterId": "user-123"}
                | {
                    "amountReserved": 5000,
                    "amountHeld": 5000,
                    "amountCommitted": 0,
                    "amountReleased": 0,
                }
                | {"createdAt": "2025-02-05T10:30:01Z", "closedAt": None}
            ],
            "checks": [
                {"checkId": _CHECKED["checkId"], "userId": "user-123"}
                | _ENGINEERING
                | {
                    "currency": "USD",
                    "amount": 5000,
                    "budgetId": "budget-123",
                    "available": True,
                    "canAutoApprove": True,
                }
                | {
                    "code": "AUTO_APPROVED",
                    "reason": "Budget available. Within the auto-approve limit",
                    "timestamp": "2025-02-05T10:30:00Z",
                }
            ],
            "movements": [
                {"action": "RESERVE"}
                | _BUDGET
                | _RESERVATION
                | {"oldValue": "0", "newValue": "5000", "reservedDelta": 5000, "committedDelta": 0}
                | {
                    "changedBy": "orchestrator (service)",
                    "onBehalfOf": "Jane Doe (jane@acme.com)",
                    "approvedBy": None,
                }
                | {
                    "reason": "Slack - Team collaboration",
                    "externalRef": None,
                    "createdAt": "2025-02-05T10:30:01Z",
                }
            ],
        },
    )
}

_FIONA = {
    "id": "fpa-001",
    "name": "Fiona Adams",
    "email": "fiona@acme.com",
    "role": "fpa_admin",
    "customerId": "org-456",
}
_SIGNED_IN = {"success": True, "user": _FIONA}

LOGIN = {
    "login": Example(
        "Fiona logs in",
        {"email": "fiona@acme.com", "password": "correct horse battery staple"},
        _SIGNED_IN,
    )
}
ME = {"person": Example("A person", None, _SIGNED_IN)}
SYNC = {
    "synced": Example(
        "One source synced",
        None,
        {
            "success": True,
            "results": [
                {
                    "syncId": "sync_1707134400_org-456",
                    "customerId": "org-456",
                    "sourceId": "src_0198c1e2",
                    "sourceType": "google_sheets",
                    "status": "success",
                }
                | {
                    "createdCount": 3,
                    "updatedCount": 5,
                    "unchangedCount": 42,
                    "softDeletedCount": 1,
                    "revivedCount": 0,
                    "heldCount": 0,
                    "held": [],
                    "notes": [],
                    "errorCount": 0,
                }
                | {
                    "overdrawnCount": 0,
                    "message": None,
                    "durationMs": 2340,
                    "startTime": "2025-02-05T10:00:00Z",
                }
            ],
        },
    )
}

_RETRY = {"retryAfter": 2}

# Fields of error replies with these codes, in addition to `success`, `error` and `code`.
_FACTS: dict[Code, Body] = {
    Code.INVALID_REQUEST: {"fields": {"amount": "must be a number", "requestId": "is required"}},
    Code.INVALID_CUSTOMER: {"fields": {"customerId": "is not a customer you can act for"}},
    Code.INSUFFICIENT_BUDGET: {
        "reason": "Insufficient budget. Available: $2,000, Requested: $5,000",
        "budgetId": "budget-123",
        "available": 2000,
        "shortfall": 3000,
    },
    Code.AMOUNT_TOO_LARGE: _BUDGET | {"largestAmount": 0.99},
    Code.AMOUNT_EXCEEDS_RESERVED: {"amountReleased": 0, "amountHeld": 5000, "newAvailable": 90_000},
    Code.NOT_YOUR_REQUEST: _REQUEST,
    Code.OVERSPEND_NOT_ALLOWED: {"approvedBy": "fpa-001"},
    Code.BUDGET_NOT_FOUND: _BUDGET,
    Code.REQUEST_NOT_FOUND: _REQUEST,
    Code.CHECK_REQUIRED: _REQUEST,
    Code.REQUEST_CONFLICT: _RESERVATION | {"amountReserved": 5000},
    Code.RESERVATION_CLOSED: _RESERVATION,
    Code.NO_OPEN_RESERVATION: _REQUEST,
    Code.BUDGET_DELETED: _BUDGET,
    Code.TOO_MANY_ATTEMPTS: {"retryAfter": 60},
    Code.INTERNAL_ERROR: {"requestId": "5f0c1d2e3a4b5c6d"},
    Code.UNAVAILABLE: _RETRY,
    Code.OUTCOME_UNKNOWN: _RETRY,
}


def error_reply(code: Code) -> Mapping[str, Any]:
    """An error reply with this code. Its sentence is the code's meaning."""
    return {"success": False, "error": MEANINGS[code], "code": str(code)} | _FACTS.get(code, {})
