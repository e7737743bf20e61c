"""Example replies of the other calls, with the integration guide's data, and one error per code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budget_sync.domain.errors import MEANINGS, Code
from budget_sync.web.openapi.ledger_examples import (
    BUDGET,
    CHECKED,
    ENGINEERING,
    REQUEST,
    RESERVATION,
    Body,
    Example,
    figures,
)

_ROW = (
    {"id": "budget-123", "customerId": "org-456"}
    | ENGINEERING
    | figures(0, 5000)
    | {"autoApproveLimit": None, "deletedAt": None, "ownerEmail": None}
)

LIST_BUDGETS = {"page": Example("A single page", None, {"items": [_ROW], "nextCursor": None})}
GET_BUDGET = {"budget": Example("Engineering", None, _ROW)}
_OPEN = (
    RESERVATION
    | BUDGET
    | ENGINEERING
    | {"currency": "USD", "status": "open", "requesterId": "user-123"}
    | {"amountReserved": 5000, "amountHeld": 5000, "amountCommitted": 0}
    | {"amountReleased": 0, "amountReversed": 0, "version": 4}
    | {"createdAt": "2025-02-05T10:30:01Z", "expiresAt": None, "closedAt": None}
)
LIST_REQUESTS = {
    "waiting": Example(
        "One open request, which waits for the approval of FP&A",
        None,
        {
            "items": [
                REQUEST
                | {"requesterName": "Jane Doe", "waitingFor": "approval", "decision": None}
                | _OPEN
            ],
            "nextCursor": None,
        },
    )
}
GET_REQUEST = {
    "reserved": Example(
        "Checked and reserved",
        None,
        REQUEST
        | {
            "decision": None,
            "reservations": [_OPEN],
            "checks": [
                {"checkId": CHECKED["checkId"], "userId": "user-123"}
                | ENGINEERING
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
                | BUDGET
                | RESERVATION
                | {"oldValue": "0", "newValue": "5000", "reservedDelta": 5000, "committedDelta": 0}
                | {
                    "changedBy": "orchestrator (service)",
                    "onBehalfOf": "Jane Doe (jane@acme.com)",
                    "approvedBy": None,
                }
                | {
                    "reason": "Slack - Team collaboration",
                    "externalRef": None,
                    "transferId": None,
                    "createdAt": "2025-02-05T10:30:01Z",
                }
            ],
            "spends": [],
        },
    )
}

_FIONA = {
    "id": "fpa-001",
    "name": "Fiona Adams",
    "email": "fiona@acme.com",
    "role": "fpa_admin",
    "customerId": "org-456",
    "isTest": False,
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
    Code.AMOUNT_TOO_LARGE: BUDGET | {"largestAmount": 0.99},
    Code.AMOUNT_EXCEEDS_RESERVED: {"amountReleased": 0, "amountHeld": 5000, "newAvailable": 90_000},
    Code.NOT_YOUR_REQUEST: REQUEST,
    Code.OVERSPEND_NOT_ALLOWED: {"approvedBy": "fpa-001"},
    Code.BUDGET_NOT_FOUND: BUDGET,
    Code.REQUEST_NOT_FOUND: REQUEST,
    Code.CHECK_REQUIRED: REQUEST,
    Code.REQUEST_CONFLICT: RESERVATION | {"amountReserved": 5000},
    Code.RESERVATION_CLOSED: RESERVATION,
    Code.NO_OPEN_RESERVATION: REQUEST,
    Code.BUDGET_DELETED: BUDGET,
    Code.AMOUNT_EXCEEDS_COMMITTED: BUDGET | REQUEST | {"amountCommitted": 5000},
    Code.COMMIT_EXCEEDS_RESERVED: BUDGET
    | {"amountHeld": 5000, "exceededBy": 1000, "largestAmount": 5500},
    Code.AMEND_OUT_OF_DATE: RESERVATION | {"version": 4, "amountHeld": 6000},
    Code.EXTERNAL_REF_CONFLICT: {"externalRef": "PO-1002", "amount": 5000},
    Code.TOO_MANY_ATTEMPTS: {"retryAfter": 60},
    Code.INTERNAL_ERROR: {"requestId": "5f0c1d2e3a4b5c6d"},
    Code.UNAVAILABLE: _RETRY,
    Code.OUTCOME_UNKNOWN: _RETRY,
}


# The fields of these calls, if they differ.
_FACTS_OF_CALL: dict[tuple[str, Code], Body] = {
    ("amend", Code.REQUEST_CONFLICT): {"budgetId": "budget-456", "amountHeld": 2000},
    ("amend", Code.NO_OPEN_RESERVATION): REQUEST | {"movedToBudgetId": "budget-456"},
    ("commit", Code.NO_OPEN_RESERVATION): REQUEST | {"movedToBudgetId": "budget-456"},
    ("spend", Code.BUDGET_NOT_FOUND): {"department": "Legal", "fiscalPeriod": "Q1 2025"},
    ("spend", Code.IDEMPOTENCY_KEY_REUSED): {"spendId": "card-2025-0031"},
}


def error_reply(code: Code, call: str) -> Mapping[str, Any]:
    """A reply of the call with this error code. Its sentence is the code's meaning."""
    facts = _FACTS_OF_CALL.get((call, code), _FACTS.get(code, {}))
    return {"success": False, "error": MEANINGS[code], "code": str(code)} | facts


LIST_EVENTS = {
    "page": Example(
        "Money was reserved",
        None,
        {
            "items": [
                {
                    "id": "evt_a118",
                    "type": "reservation.created",
                    "time": "2025-02-05T10:30:01Z",
                    "customerId": "org-456",
                    "data": {
                        "budgetId": "budget-123",
                        "department": "Engineering",
                        "fiscalPeriod": "Q1 2025",
                        "currency": "USD",
                        "requestId": "intake-789",
                        "by": "orchestrator (service)",
                        "reason": "Slack - Team collaboration",
                        "amount": 5000,
                        "onBehalfOf": "Jane Doe (jane@acme.com)",
                    },
                }
            ],
            "nextCursor": "a118.0-s7.0",
        },
    )
}
