"""Decides which changes of a sync run are applied and which are held. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.holds.amounts import AmountPair, bulk_reason, is_hundredfold
from budget_sync.sync.holds.model import (
    BULK,
    Answer,
    Hold,
    Kind,
    Question,
    Reason,
    Reply,
    held_budget,
    held_creation,
)
from budget_sync.sync.holds.periods import Spans
from budget_sync.sync.holds.renames import Pair, Renames, find_renames
from budget_sync.sync.kept import KeptBudget
from budget_sync.sync.limits import Check, checked, no_check
from budget_sync.sync.match import Match, StoredBudget, problem_of
from budget_sync.sync.reading.result import SheetRow

#: The deletion limit: deletions are held if they are more than half of the source's live budgets,
#: or more than this count and more than a tenth.
DELETION_LIMIT_COUNT = 10

_CALENDAR_YEAR = FiscalYear()


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found: `missing` budgets are live, and no good row of the sheet means them.

    `live_count` is the number of the source's live budgets. The `kept` ones are missing too, but
    are not deleted. One that a bad row only may mean can have a new name. `previous` is what the
    source's latest applied run held, and `answers` are the open answers. `allow_deletes` approves
    all deletions. `fiscal_year` is the customer's.
    """

    source_id: str
    matched: list[Match]
    missing: list[StoredBudget]
    live_count: int
    fiscal_year: FiscalYear
    kept: Collection[KeptBudget] = ()
    previous: Collection[Hold] = ()
    answers: Collection[Answer] = ()
    allow_deletes: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The applied and the held changes of a plan.

    `matched` are the rows to apply, with the old amounts of budgets whose new amount is held.
    `kept` are the kept budgets that are not renamed. `live_count` is the number of the source's
    live budgets without approved deletions. `applied_ids` are the stored answers that had an
    effect, and `expired_ids` those that fit nothing; the others are still open.
    """

    matched: list[Match]
    deletes: list[StoredBudget]
    held: list[Hold]
    kept: list[KeptBudget]
    live_count: int
    applied_ids: list[int]
    expired_ids: list[int]


class _Answers:
    """The open answers, and which of them were used."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = list(answers)
        self._given = {(answer.question, answer.reply) for answer in self._answers}
        self._used: set[tuple[Question, Reply]] = set()

    def have(self, question: Question, reply: Reply) -> bool:
        """Whether this is the answer to the question. Then it counts as used."""
        if (question, reply) not in self._given:
            return False
        self._used.add((question, reply))
        return True

    def closed(self, held: Iterable[Hold]) -> tuple[list[int], list[int]]:
        """The ids of the applied and of the expired answers.

        An answer to what is still held stays open: it did not answer all, or is not possible now.
        """
        still_asked = {hold.question for hold in held}
        applied: list[int] = []
        expired: list[int] = []
        for answer in self._answers:
            if answer.id is not None and answer.question not in still_asked:
                is_used = (answer.question, answer.reply) in self._used
                (applied if is_used else expired).append(answer.id)
        return applied, expired


def decide(found: Found, check: Check = no_check) -> Decision:
    """Decide which changes are held: renames, deletions, creations and amounts, in this order."""
    answers = _Answers(found.answers)
    deletions = _decide_deletions(found, answers, check)
    deletions.blocked_periods = _blocked_periods(deletions.held, found.fiscal_year)
    deletions.split = {
        department: Spans(keys, found.fiscal_year)
        for department, keys in deletions.split_periods.items()
    }
    check()
    amounts = _decide_amounts(found, deletions.kept_ids, answers, check)
    held = [*deletions.held, *amounts.held.values()]
    matched: list[Match] = []
    for match in checked(found.matched, check):
        row, budget = match
        if match.row.number in deletions.held_rows:
            continue
        if same := deletions.same.get(row.number):
            matched.append(Match(row, same))
        elif budget is not None and budget.id in amounts.held:
            matched.append(Match(_with_old_amount(row, budget), budget))
        elif not _is_new(match) or row.number in deletions.different_rows:
            matched.append(match)
        elif reasons := _creation_reasons(row, deletions, amounts, answers):
            held.append(held_creation(row, *reasons))
        else:
            matched.append(match)
    applied_ids, expired_ids = answers.closed(held)
    return Decision(
        matched,
        deletions.deletes,
        held,
        [each for each in found.kept if each.budget.id in deletions.kept_ids],
        deletions.live_count,
        applied_ids,
        expired_ids,
    )


def _is_new(match: Match) -> bool:
    """Whether the row creates a budget, revives a deleted one, or takes one over with more money.

    The source had none of these budgets before.
    """
    row, budget = match
    return (
        budget is None
        or budget.deleted_at is not None
        or (budget.source_id is None and row.budget.budgeted_minor > budget.sheet.budgeted_minor)
    )


def _may_be_renamed(match: Match) -> bool:
    """Whether the row may be another budget under a new name.

    Not if it names a deleted budget by its Budget ID.
    """
    budget = match.budget
    return budget is None or (
        budget.deleted_at is not None and match.row.budget.external_id != budget.sheet_id
    )


def _with_old_amount(row: SheetRow, budget: StoredBudget) -> SheetRow:
    """The row with the stored amount, and with the stored limit, which may be misread too."""
    return row._replace(
        budget=row.budget._replace(
            budgeted_minor=budget.sheet.budgeted_minor, limit_minor=budget.sheet.limit_minor
        )
    )


def _creation_reasons(
    row: SheetRow, deletions: _Deletions, amounts: _Amounts, answers: _Answers
) -> list[Reason]:
    """Why the creation of the row's budget is held; empty if it is not."""
    question = held_creation(row).question
    # Both are asked for, so that both count as used.
    is_approved = answers.have(question, Reply.APPROVE)
    is_applied = answers.have(question, Reply.APPLY)
    reasons: list[Reason] = []
    if not is_approved:
        period_key = row.budget.period_key
        split = deletions.split.get(row.budget.department_key)
        if deletions.blocked_periods.overlap(period_key):
            reasons.append(Reason.LIMIT)
        if split is not None and split.overlap(period_key):
            reasons.append(Reason.SPLIT)
    if amounts.bulk is not None and not is_applied:
        reasons.append(amounts.bulk)
    return reasons


@dataclass(slots=True)
class _Deletions:
    """What is deleted, renamed and held of the budgets that are gone. Rows are by their number.

    `split_periods` are the periods of held budgets with money on them, by department.
    """

    live_count: int
    kept_ids: set[str] = field(default_factory=set)
    deletes: list[StoredBudget] = field(default_factory=list)
    held: list[Hold] = field(default_factory=list)
    held_rows: set[int] = field(default_factory=set)
    same: dict[int, StoredBudget] = field(default_factory=dict)
    different_rows: set[int] = field(default_factory=set)
    blocked_periods: Spans = field(default_factory=lambda: Spans((), _CALENDAR_YEAR))
    split_periods: dict[str, list[str]] = field(default_factory=dict)
    split: dict[str, Spans] = field(default_factory=dict)


def _decide_deletions(found: Found, answers: _Answers, check: Check) -> _Deletions:
    """Pair suspected renames, apply the answers, then apply the deletion limit to the rest."""
    before = {
        hold.budget_id: hold
        for hold in found.previous
        if hold.kind in (Kind.RENAME, Kind.DELETION) and hold.budget_id is not None
    }
    renames = _find_renames(found, before, check)
    result = _Deletions(found.live_count)
    pairs = _answered_pairs(found, renames.pairs, answers, result)
    paired_ids = {pair.old.id for pair in renames.pairs}
    result.kept_ids = {each.budget.id for each in found.kept} - paired_ids
    gone = [
        budget
        for budget in found.missing
        if budget.id not in paired_ids and budget.id not in result.kept_ids
    ]
    waiting: list[StoredBudget] = []
    fresh: list[StoredBudget] = []
    split_ids = _split_ids(found, gone)
    for budget in gone:
        question = held_budget(Kind.DELETION, budget, None).question
        if found.allow_deletes or answers.have(question, Reply.APPROVE):
            result.deletes.append(budget)
            result.live_count -= not found.allow_deletes
        elif budget.id in before or budget.id in split_ids:
            waiting.append(budget)
        else:
            fresh.append(budget)
    too_many = not found.allow_deletes and (
        not renames.is_complete
        or _exceeds_limit(len(fresh) + len(waiting) + len(pairs), result.live_count)
    )
    limited_ids = {
        budget_id
        for budget_id, hold in before.items()
        if Reason.LIMIT in hold.reasons and not found.allow_deletes
    }
    if too_many:
        limited_ids |= {budget.id for budget in (*fresh, *waiting, *(pair.old for pair in pairs))}
    else:
        result.deletes += fresh
    deleted_ids = {budget.id for budget in result.deletes}
    held = [(budget, before.get(budget.id)) for budget in gone if budget.id not in deleted_ids]
    _hold(result, sorted(pairs, key=lambda pair: pair.row.number), held, limited_ids)
    for budget, earlier in held:
        if budget.id in split_ids or (earlier and Reason.SPLIT in earlier.reasons):
            _add_split(result, budget)
    return result


def _split_ids(found: Found, gone: Iterable[StoredBudget]) -> set[str]:
    """The budgets with money whose department is new in a period that shares days with theirs.

    A year becomes quarters, or quarters become a year: the new budgets would have all of the money.
    """
    used = [budget for budget in gone if _has_money(budget)]
    if not used:
        return set()
    periods: dict[str, list[str]] = {budget.key[0]: [] for budget in used}
    for match in found.matched:
        wanted = match.row.budget
        if wanted.department_key in periods and _is_new(match):
            periods[wanted.department_key].append(wanted.period_key)
    spans = {name: Spans(keys, found.fiscal_year) for name, keys in periods.items() if keys}
    return {
        budget.id
        for budget in used
        if (new := spans.get(budget.key[0])) is not None and new.overlap(budget.key[1])
    }


def _has_money(budget: StoredBudget) -> bool:
    return budget.reserved_minor + budget.committed_minor > 0


def _add_split(result: _Deletions, budget: StoredBudget) -> None:
    """Hold the creations of the department in periods that share days with this budget's."""
    department_key, period_key = budget.key
    result.split_periods.setdefault(department_key, []).append(period_key)


def _find_renames(found: Found, before: Mapping[str, Hold], check: Check) -> Renames:
    """The suspected renames; `before` are the renames and deletions that the last run held."""
    certain_ids = {each.budget.id for each in found.kept if each.is_certain}
    missing = [budget for budget in found.missing if budget.id not in certain_ids]
    rows: list[SheetRow] = []
    if missing:
        rows = [match.row for match in found.matched if _may_be_renamed(match)]
    keys = {budget_id: hold.new.key for budget_id, hold in before.items() if hold.new}
    return find_renames(missing, rows, keys, check)


def _answered_pairs(
    found: Found, pairs: Sequence[Pair], answers: _Answers, result: _Deletions
) -> list[Pair]:
    """Apply the answers to suspected renames; return the pairs that are held."""
    held: list[Pair] = []
    for pair in pairs:
        old, row, _ = pair
        question = held_budget(Kind.RENAME, old, row).question
        if answers.have(question, Reply.DIFFERENT):
            result.deletes.append(old)
            result.different_rows.add(row.number)
            result.live_count -= 1
        elif (
            answers.have(question, Reply.SAME)
            and problem_of(found.source_id, row.budget, old) is None
        ):
            result.same[row.number] = old
        else:
            held.append(pair)
    return held


def _hold(
    result: _Deletions,
    pairs: Iterable[Pair],
    deletions: Iterable[tuple[StoredBudget, Hold | None]],
    limited_ids: Collection[str],
) -> None:
    """Hold renames and deletions.

    `deletions` have what the previous run held. The new name of a held rename is remembered: its
    row may be back later.
    """
    for old, row, reasons in pairs:
        limit = (Reason.LIMIT,) if old.id in limited_ids else ()
        result.held.append(held_budget(Kind.RENAME, old, row, *reasons, *limit))
        result.held_rows.add(row.number)
        if _has_money(old):
            _add_split(result, old)
    for budget, earlier in deletions:
        was_rename = earlier is not None and Reason.SPLIT not in earlier.reasons
        reason = Reason.RENAME if was_rename else Reason.SPLIT
        reason = Reason.LIMIT if budget.id in limited_ids else reason
        hold = held_budget(Kind.DELETION, budget, None, reason)
        result.held.append(hold._replace(new=earlier and earlier.new))


def _blocked_periods(held: Iterable[Hold], fiscal_year: FiscalYear) -> Spans:
    """The periods in which nothing is created, because deletions over the limit are held.

    A year also blocks its quarters: the money would be there twice.
    """
    keys = (hold.period_key for hold in held if Reason.LIMIT in hold.reasons)
    return Spans(keys, fiscal_year)


def _exceeds_limit(count: int, live_count: int) -> bool:
    return count * 2 > live_count or (count > DELETION_LIMIT_COUNT and count * 10 > live_count)


class _Amounts(NamedTuple):
    """The held amounts by budget id, and why all of them and all creations are held, if so."""

    held: dict[str, Hold]
    bulk: Reason | None


def _decide_amounts(
    found: Found, kept_ids: Collection[str], answers: _Answers, check: Check
) -> _Amounts:
    """Hold the changed amounts that look misread, and those that are still held.

    The held amount of a kept budget stays held: its row cannot be read now.
    """
    before = {
        hold.budget_id: hold
        for hold in found.previous
        if hold.kind is Kind.AMOUNT and hold.budget_id is not None
    }
    pairs: list[AmountPair] = []
    changed: list[tuple[AmountPair, Match, StoredBudget]] = []
    for match in checked(found.matched, check):
        row, budget = match
        if budget is None or budget.deleted_at is not None or budget.source_id != found.source_id:
            continue
        pair = AmountPair(
            budget.id,
            budget.sheet.currency,
            budget.sheet.budgeted_minor,
            row.budget.budgeted_minor,
        )
        if not pair.is_changed:
            pairs.append(pair)
        elif not answers.have(held_budget(Kind.AMOUNT, budget, row).question, Reply.APPLY):
            pairs.append(pair)
            changed.append((pair, match, budget))
    now = bulk_reason(pairs)
    held = {budget_id: hold for budget_id, hold in before.items() if budget_id in kept_ids}
    for pair, match, budget in changed:
        reason = now
        if reason is None and (hold := before.get(budget.id)):
            reason = hold.reasons[0]
        if reason is None and is_hundredfold(pair):
            reason = Reason.HUNDREDFOLD
        if reason is not None:
            held[budget.id] = held_budget(Kind.AMOUNT, budget, match.row, reason)
    bulk = next((hold.reasons[0] for hold in held.values() if hold.reasons[0] in BULK), None)
    return _Amounts(held, bulk)
