"""Decisions of FP&A about a request."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from budget_sync.domain import clock


class DecisionKind(StrEnum):
    """How FP&A decided."""

    APPROVED = "approved"
    APPROVED_OVER_BUDGET = "approved_over_budget"
    REJECTED = "rejected"
    DECLINED = "declined"


class Decision(NamedTuple):
    """A decision: `by` names the person or service as the audit log does."""

    kind: DecisionKind
    by: str
    at: datetime
    reason: str

    def to_json(self) -> dict[str, object]:
        """As replies show it."""
        return {
            "decision": str(self.kind),
            "by": self.by,
            "at": clock.to_text(self.at),
            "reason": self.reason,
        }
