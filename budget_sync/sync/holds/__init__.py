"""Holds: changes that look like a mistake wait for the answer of a person. Pure."""

from __future__ import annotations

from budget_sync.sync.holds.model import (
    BULK,
    Answer,
    Hold,
    Kind,
    NewBudget,
    Question,
    Reason,
    Reply,
)

__all__ = ["BULK", "Answer", "Hold", "Kind", "NewBudget", "Question", "Reason", "Reply"]
