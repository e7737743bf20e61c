"""Properties of holds over sequences of sheets: held changes never change a balance."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_sync.domain.names import fold
from budget_sync.sync.holds import Answer, Hold, Kind, Reply
from budget_sync.sync.match import StoredBudget
from budget_sync.sync.plan import SyncPlan, make_plan
from budget_sync.sync.reading.result import SheetBudget, SheetResult, SheetRow

SOURCE = "src_1"

Sheet = dict[tuple[str, str], int]

# Names that are alike in several ways, and amounts that are powers of ten and near each other.
DEPARTMENTS = ("0410", "410", "Lamp - North", "Lampe North", "Lamp", "Zither", "Quarry", "Ops")
PERIODS = ("2026-Q1", "2026-Q2", "2027-Q1")
SHEETS = st.dictionaries(
    st.tuples(st.sampled_from(DEPARTMENTS), st.sampled_from(PERIODS)),
    st.sampled_from([0, 100, 105, 200, 1000, 10_000, 100_000]),
    min_size=1,
    max_size=10,
)


class Step(NamedTuple):
    """A sheet, the replies that a person gives to what it holds, and money spent after the run."""

    sheet: Sheet
    replies: list[Reply]
    spent: list[int]


STEPS = st.lists(
    st.builds(
        Step,
        SHEETS,
        st.lists(st.sampled_from(Reply), max_size=6),
        st.lists(st.sampled_from([0, 0, 50, 100]), max_size=10),
    ),
    min_size=1,
    max_size=5,
)


def result_of(sheet: Sheet) -> SheetResult:
    """The sheet, from row 2 on."""
    rows = [
        SheetRow(
            number,
            SheetBudget(None, department, fold(department), period, period, "USD", amount, None, 2),
        )
        for number, ((department, period), amount) in enumerate(sheet.items(), 2)
    ]
    return SheetResult(rows, [], has_limits=False)


def applied(plan: SyncPlan, existing: list[StoredBudget], run: int) -> list[StoredBudget]:
    """The budgets after a plan, which must be one that the database accepts."""
    after = {change.before.id: change.after for change in (*plan.updates, *plan.revivals)}
    gone = {budget.id for budget in plan.deletes}
    budgets = [
        budget._replace(deleted_at=f"2026-01-{run + 1:02}T00:00:00Z")
        if budget.id in gone
        else after.get(budget.id, budget)
        for budget in existing
    ]
    budgets += [
        StoredBudget(f"b{run}_{row.number}", SOURCE, row.number, None, 0, 0, 1, row.budget)
        for row in plan.creates
    ]
    live = [budget.key for budget in budgets if budget.deleted_at is None]
    assert len(set(live)) == len(live)
    return budgets


def replied(holds: list[Hold], replies: list[Reply], first_id: int) -> list[Answer]:
    """The replies to the holds in order, as far as they fit."""
    fitting = {
        Kind.RENAME: (Reply.SAME, Reply.DIFFERENT),
        Kind.DELETION: (Reply.APPROVE,),
        Kind.CREATION: (Reply.APPROVE, Reply.APPLY),
        Kind.AMOUNT: (Reply.APPLY,),
    }
    return [
        Answer(hold.question, reply, first_id + number)
        for number, (hold, reply) in enumerate(zip(holds, replies, strict=False))
        if reply in fitting[hold.kind]
    ]


def require_money_is_explained(plan: SyncPlan, answers: list[Answer]) -> None:
    """Nothing that is held changes a balance, and nothing is both held and applied."""
    held_ids = {hold.budget_id for hold in plan.held if hold.budget_id}
    held_rows = {hold.new.row for hold in plan.held if hold.new and hold.kind is not Kind.DELETION}
    assert not held_ids & {budget.id for budget in plan.deletes}
    assert not held_rows & {row.number for row in plan.creates}
    for change in (*plan.updates, *plan.revivals):
        assert change.before.reserved_minor == change.after.reserved_minor
        assert change.before.committed_minor == change.after.committed_minor
        assert change.row not in held_rows
        if change.before.id in held_ids:
            assert change.after.sheet.budgeted_minor == change.before.sheet.budgeted_minor
            assert change.after.sheet.limit_minor == change.before.sheet.limit_minor
    # A budget with money is never deleted next to a new budget of its amount, unless a person
    # answered that.
    allowed = {
        answer.question.budget_id
        for answer in answers
        if answer.reply in (Reply.DIFFERENT, Reply.APPROVE)
    }
    for old in plan.deletes:
        if old.committed_minor and old.id not in allowed and old.sheet.budgeted_minor:
            assert not [
                row
                for row in plan.creates
                if row.budget.period_key == old.key[1]
                and row.budget.budgeted_minor == old.sheet.budgeted_minor
            ]


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_sequence_of_sheets_and_answers_is_safe(steps: list[Step]) -> None:
    budgets: list[StoredBudget] = []
    held: list[Hold] = []
    answers: list[Answer] = []
    for run, step in enumerate(steps):
        sheet = result_of(step.sheet)
        plan = make_plan(SOURCE, sheet, budgets, previous=held, answers=answers)
        require_money_is_explained(plan, answers)
        closed = {*plan.applied_answers, *plan.expired_answers}
        assert closed <= {answer.id for answer in answers}
        assert len(closed) == len(plan.applied_answers) + len(plan.expired_answers)
        budgets = applied(plan, budgets, run)
        answers = [answer for answer in answers if answer.id not in closed]
        # The same sheet again changes nothing and holds the same.
        again = make_plan(SOURCE, sheet, budgets, previous=plan.held, answers=answers)
        assert [*again.creates, *again.updates, *again.revivals, *again.deletes] == []
        assert [hold.question for hold in again.held] == [hold.question for hold in plan.held]
        # What was held is still held, was answered, or is over in the sheet.
        asked = {hold.question for hold in plan.held}
        assert all(answer.question in asked for answer in answers)
        held = plan.held
        budgets = [
            budget._replace(committed_minor=min(spent, budget.sheet.budgeted_minor))
            if budget.deleted_at is None and not budget.committed_minor
            else budget
            for budget, spent in zip(
                budgets, [*step.spent, *[0] * len(budgets)][: len(budgets)], strict=True
            )
        ]
        answers += replied(held, step.replies, first_id=100 * run)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_held_amounts_and_deletions_wait_for_an_answer(steps: list[Step]) -> None:
    """Without answers, a held budget keeps its amount until the sheet goes back to it."""
    budgets: list[StoredBudget] = []
    held: list[Hold] = []
    for run, step in enumerate(steps):
        plan = make_plan(SOURCE, result_of(step.sheet), budgets, previous=held)
        now = applied(plan, budgets, run)
        after = {budget.id: budget for budget in now}
        for hold in held:
            if hold.budget_id is not None and after[hold.budget_id].deleted_at is None:
                assert after[hold.budget_id].sheet.budgeted_minor in (
                    hold.old_minor,
                    # A budget whose row was gone is back with another amount, which is a change
                    # of its own.
                    *(
                        [step.sheet.get((hold.department, hold.period_key))]
                        if hold.kind is not Kind.AMOUNT
                        else []
                    ),
                )
            if hold.kind in (Kind.RENAME, Kind.DELETION):
                assert hold.budget_id is not None
                assert after[hold.budget_id].deleted_at is None
        held, budgets = plan.held, now
