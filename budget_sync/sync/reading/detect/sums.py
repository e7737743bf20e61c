"""Step 12: whether rows of one department and period are added up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from budget_sync.sync.reading.detect.draft import Draft, Trials, without
from budget_sync.sync.reading.detect.findings import Findings
from budget_sync.sync.reading.detect.sheet import Column, cell_at
from budget_sync.sync.reading.headings import Role
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.result import SheetResult
from budget_sync.sync.reading.vocabulary import NOT_AMOUNT

#: Groups of rows that are compared in detail.
_COMPARED_GROUPS = 200
_FEW_GROUPS = 2
_AMOUNT_SHARE = 0.5

Groups = list[tuple[int, ...]]


def find_sum(draft: Draft, trials: Trials, findings: Findings) -> SheetResult:
    """Ask whether rows are added up if several are of one budget. Changes the draft.

    Returns the trial with the answer. Raises SheetProblem.
    """
    result = trials.run(draft, sums=True)
    groups = _groups(draft, trials) if _may_have_groups(draft, result) else []
    names = {row.number: row.budget.department for row in result.rows}
    if not groups:
        draft.sum = False
        return trials.run(draft)
    question = _question(draft, groups, names)
    answer = findings.ask_one(question)
    draft.sum = answer == "sum"
    return trials.run(draft, sums=True if answer is None else None)


def _may_have_groups(draft: Draft, result: SheetResult) -> bool:
    """Whether several rows may be of one budget, by the trial that adds rows up.

    Rows with a blank amount are nothing in that trial. The error of a section names all of its
    lines, which are one budget in any case.
    """
    return any(row.row_count > 1 for row in result.rows) or (
        draft.fill != "section"
        and (
            result.facts.blank_amounts > 0
            or any(len(error.rows) > 1 and error.key for error in result.errors)
        )
    )


def _groups(draft: Draft, trials: Trials) -> Groups:
    """The rows of each budget that has several, as they are named if rows are not added up."""
    result = trials.run(draft, sums=False)
    return [error.rows for error in result.errors if len(error.rows) > 1 and error.key]


def _question(draft: Draft, groups: Groups, names: Mapping[int, str]) -> Question:
    sheet = draft.sheet
    others = [column for column in without(sheet.columns, draft.used) if _names_lines(column)]
    if draft.fill == "section":
        # The lines of a section have their names in the department column.
        others.append(draft.department.column)
    compared = groups[:_COMPARED_GROUPS]
    differing = Counter(
        column.index for rows in compared for column in others if _differ(draft, rows, column)
    )
    column = max(
        (each for each in others if differing[each.index]),
        key=lambda each: (each.share < _AMOUNT_SHARE, differing[each.index]),
        default=None,
    )
    are_copies = len(groups) <= _FEW_GROUPS and all(_are_equal(draft, rows) for rows in groups)
    has_default = column is not None and draft.id is None and not are_copies
    return Question(
        "sum",
        _text(names.get(groups[0][0]), groups[0], column),
        ("sum", "refuse"),
        default=("sum",) if has_default else None,
    )


def _names_lines(column: Column) -> bool:
    """Whether rows that differ in a column are different lines; other amounts do not name lines."""
    is_amount = column.share >= _AMOUNT_SHARE and (
        bool(column.roles.get(Role.AMOUNT)) or any(word in NOT_AMOUNT for word in column.words)
    )
    return bool(column.filled) and not is_amount


def _text(name: str | None, rows: Sequence[int], column: Column | None) -> str:
    """The question, with the rows of one budget as the example."""
    subject = name or f"The budget in row {rows[0]}"
    if column is None:
        shown = ", ".join(map(str, rows[:5]))
        return (
            f"{subject} has {len(rows)} rows (rows {shown}) that differ in no column. Add them up?"
        )
    if column.heading:
        return f"{subject} has {len(rows)} rows that differ in {column.label}. Add them up?"
    return f"{subject} has {len(rows)} rows. Add them up?"


def _differ(draft: Draft, rows: Sequence[int], column: Column) -> bool:
    """Whether rows differ in a column."""
    return len({draft.sheet.text(row - 1, column) for row in rows}) > 1


def _are_equal(draft: Draft, rows: Sequence[int]) -> bool:
    """Whether rows are equal in every cell."""
    grid = draft.sheet.grid.rows
    width = max(len(grid[row - 1]) for row in rows)
    return len({tuple(str(cell_at(grid[r - 1], c)) for c in range(width)) for r in rows}) == 1
