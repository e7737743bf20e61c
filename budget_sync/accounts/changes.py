"""What changes of customers, users and keys share: the rules for names, and their audit rows."""

from __future__ import annotations

from dataclasses import dataclass

from budget_sync.database import audit_log
from budget_sync.domain.ids import CHOSEN_ID, CHOSEN_ID_RULE
from budget_sync.domain.permissions import Actor


@dataclass(frozen=True, slots=True)
class Change:
    """A changed field, with its values as the audit log writes them."""

    field: str
    old: str | None
    new: str | None


def bad_names(**names: str) -> dict[str, str]:
    """The names that are too long, empty or not printable, each with what is wrong with it."""
    fields = {}
    for field, text in names.items():
        if field == "id" and not CHOSEN_ID.fullmatch(text):
            fields[field] = CHOSEN_ID_RULE
        elif not text.strip() or len(text) > 200 or not text.isprintable():
            fields[field] = "must be 1 to 200 printable characters"
    return fields


def record_changes(
    actor: Actor, action: str, changes: list[Change], *, customer_id: str | None, subject: str
) -> None:
    """Write an audit row for each changed field."""
    for change in changes:
        audit_log.record(
            actor,
            action,
            customer_id=customer_id,
            subject=subject,
            field=change.field,
            oldValue=change.old,
            newValue=change.new,
        )
