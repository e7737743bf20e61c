"""Writes a plan and its row of `SyncHistory`: in one transaction, or in parts if it is large.

Each part also replaces the row, so that it is true at any time, even if the process is killed: it
says "failed", with the number of changes so far, until the last part is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import peewee

from budget_sync.database import transact
from budget_sync.domain.permissions import Actor
from budget_sync.runtime.isolate import at_normal_priority
from budget_sync.sync import apply, history
from budget_sync.sync.history import SyncRunResult
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.parts import Counts, split
from budget_sync.sync.plan import SyncPlan
from budget_sync.sync.refresh import refresh
from budget_sync.sync.source import Source

#: In the messages of errors. It is replaced if changes were written before the error.
NOTHING_CHANGED = "Nothing was changed"


#: How often a sync run plans, if budgets are changed between planning and writing.
PLAN_ATTEMPTS = 5


class BudgetsChangedError(Exception):
    """The plan no longer fits the customer's budgets; the text says what to do."""

    def __init__(self) -> None:
        super().__init__(
            f"The customer's budgets were changed during the sync run, {PLAN_ATTEMPTS} times in a "
            f"row. {NOTHING_CHANGED}; the next sync run tries again."
        )


def _transact(work: Callable[[], SyncRunResult]) -> SyncRunResult:
    """Run a transaction at the normal priority, because other callers wait for its locks."""
    return at_normal_priority(partial(transact, work))


@dataclass
class Written:
    """The changes that a run has written in parts, and the row of `SyncHistory` that says so.

    `planned` is the number of changes of the run. `earlier` are the changes of plans that no longer
    fitted the budgets after some parts: they are done, so they are not in the present plan.
    """

    done: Counts = field(default_factory=Counts)
    earlier: Counts = field(default_factory=Counts)
    planned: int = 0
    sync_id: str | None = None

    def begin(self, plan: SyncPlan) -> None:
        """Begin to write a plan: the first one, or what is left of the changes."""
        self.earlier = self.done
        self.planned = self.done.total + Counts.of(plan).total

    def add(self, part: SyncPlan, result: SyncRunResult) -> None:
        """Count a part that was written, with its row."""
        self.done = self.done.plus(Counts.of(part))
        self.sync_id = result.sync_id

    def unfinished(self, result: SyncRunResult, part: SyncPlan) -> SyncRunResult:
        """The result for the row of a part, which is not the last one."""
        done = self.done.plus(Counts.of(part))
        message = (
            f"{done.total:,} of {self.planned:,} {history.SO_FAR} If this run has ended, the next "
            "one makes the others."
        )
        return replace(self._with(done, result), message=message)

    def finished(self, result: SyncRunResult, part: SyncPlan) -> SyncRunResult:
        """The result of the whole run, once its last part is written as well."""
        unchanged_count = result.unchanged_count - self.earlier.in_sheet
        result = replace(result, unchanged_count=max(0, unchanged_count))
        return self._with(self.done.plus(Counts.of(part)), result)

    def failed(self, result: SyncRunResult) -> SyncRunResult:
        """The result of a run that ended early, with the changes that it made."""
        if not self.done.total:
            return result
        made = f"{self.done.total:,} of {self.planned:,} changes were made"
        message = (result.message or "").replace(NOTHING_CHANGED, made)
        if made not in message:
            message = f"{message} {made}."
        return replace(self._with(self.done, result), message=message)

    def _with(self, counts: Counts, result: SyncRunResult) -> SyncRunResult:
        return replace(
            result,
            sync_id=self.sync_id,
            created_count=counts.created,
            updated_count=counts.updated,
            revived_count=counts.revived,
            soft_deleted_count=counts.deleted,
        )


@dataclass(frozen=True)
class Writer:
    """Writes the plans of a run for the `stored` budgets. `title` names the sheet for people.

    `before` is called first in each transaction, and raises an exception if the run must end.
    `finish` is called at the end of the last one, and gives the result of the plan. `saved` is
    called after that result was saved. `unfinished` gives the result of a run that has failed.
    """

    actor: Actor
    source: Source
    title: str
    stored: Sequence[StoredBudget]
    written: Written
    progress: apply.Progress
    before: Callable[[], None]
    finish: Callable[[SyncPlan], SyncRunResult]
    saved: Callable[[SyncPlan, SyncRunResult], None]
    unfinished: Callable[[], SyncRunResult]

    def write(self, plan: SyncPlan) -> SyncRunResult:
        """Write a plan. Raises BudgetsChangedError if what is left no longer fits the budgets."""
        self.written.begin(plan)
        *firsts, last = split(plan)
        if not firsts:
            return _transact(partial(self._write_all, plan))
        for part in firsts:
            self.written.add(part, _transact(partial(self._write_part, part, plan)))
        return _transact(partial(self._write_last, last, plan))

    def _write_all(self, plan: SyncPlan) -> SyncRunResult:
        self.before()
        if not plan.changes_nothing:
            changed = apply.lock_and_find_changed(self.source.customer_id, self.stored)
            plan = self._refreshed(plan, changed, has_new=plan.has_new)
            self._apply(plan)
        return self._save_last(plan, plan)

    def _write_part(self, part: SyncPlan, plan: SyncPlan) -> SyncRunResult:
        self.before()
        self._apply_part(part, plan)
        return self._save(self.written.unfinished(self.unfinished(), part))

    def _write_last(self, part: SyncPlan, plan: SyncPlan) -> SyncRunResult:
        self.before()
        self._apply_part(part, plan)
        return self._save_last(plan, part)

    def _apply_part(self, part: SyncPlan, plan: SyncPlan) -> None:
        """Write a part of a plan, if only money moved on its own budgets since they were read.

        Comparing all budgets of the customer would take longer than writing the part. Others have
        an effect only if they took a name that the part needs, which the database rejects.
        """
        changes = [*part.updates, *part.revivals]
        own = [*part.deletes, *(change.before for change in changes)]
        changed = apply.lock_and_find_changed_of(self.source.customer_id, own)
        try:
            self._apply(self._refreshed(part, changed, has_new=plan.has_new))
        except peewee.IntegrityError as error:
            raise BudgetsChangedError from error

    def _refreshed(
        self, plan: SyncPlan, changed: list[StoredBudget] | None, *, has_new: bool
    ) -> SyncPlan:
        """The plan with the current figures of changed budgets; see `refresh`.

        `changed` is from `lock_and_find_changed`.
        """
        if changed == []:
            return plan
        found = changed and refresh(self.source.id, plan, self.stored, changed, has_new=has_new)
        if not found:
            raise BudgetsChangedError
        return found

    def _apply(self, plan: SyncPlan) -> None:
        source = self.source
        apply.apply_plan(self.actor, source.customer_id, source.id, self.title, plan, self.progress)

    def _save_last(self, plan: SyncPlan, part: SyncPlan) -> SyncRunResult:
        """Save the result of the whole plan, whose last part was written."""
        result = self._save(self.written.finished(self.finish(plan), part))
        self.saved(plan, result)
        return result

    def _save(self, result: SyncRunResult) -> SyncRunResult:
        return history.insert(self.actor.label, result)
