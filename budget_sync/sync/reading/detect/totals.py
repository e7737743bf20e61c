"""Step 10: rows that are sums of other rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from budget_sync.domain.names import fold
from budget_sync.sync.reading.detect.draft import Draft
from budget_sync.sync.reading.detect.findings import Findings, Refused, listed, plain_list
from budget_sync.sync.reading.detect.numbers import number_of
from budget_sync.sync.reading.detect.sheet import Column
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.result import SheetResult
from budget_sync.sync.reading.totals import is_pure_total, is_total_like

#: A larger sheet has so many sums that some are equal by chance.
MAX_ROWS = 600

_MAX_PARTS = 39
_MIN_COVERED = 0.8

Values = tuple[Decimal | None, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A row that counts: its index, its name, and the numbers in its measures."""

    index: int
    name: str
    values: Values
    is_total: bool = False


def find_total_names(draft: Draft, result: SheetResult, findings: Findings) -> None:
    """Ask about names that read like a total and are not sums. Changes the draft."""
    sheet, column = draft.sheet, draft.department.column
    names: dict[str, str] = {}
    for error in result.errors:
        for row in error.rows[:1]:
            name = sheet.text(row - 1, column)
            if is_total_like(name) and not is_pure_total(name) and "total" in error.message:
                names.setdefault(fold(name), name)
    if not names:
        return
    verb = "reads like a total but is" if len(names) == 1 else "read like totals but are"
    noun = "Total, or department" if len(names) == 1 else "Totals, or departments"
    question = Question(
        "totals",
        f"{listed(names.values())} {verb} not the sum of the rows above. {noun}?",
        ("totals", "departments"),
    )
    if findings.reading:
        for answer, known in (
            ("departments", findings.reading.totals.departments),
            ("totals", findings.reading.totals.names),
        ):
            if set(names) <= set(map(fold, known)):
                findings.stored[question.id] = [answer]
    given = findings.ask_one(question)
    if given == "departments":
        draft.total_departments = tuple(names)
    elif given == "totals":
        draft.totals = (*draft.totals, *names)


def find_subtotals(draft: Draft, result: SheetResult, findings: Findings) -> None:
    """Ask about rows that are the sum of other rows without a word that says so.

    Changes the draft. Raises Refused if a person says that rows are totals, and
    other rows have the same names.
    """
    if draft.fill == "section" or len(draft.sheet.rows) > MAX_ROWS or not draft.sheet.is_whole:
        return
    measures = _measures(draft)
    lines = _lines(draft, measures, result)
    found = _sums_below(lines, len(measures)) or _parents_above(lines)
    if not found:
        return
    names = {fold(line.name): line.name for line in found}
    question = Question(
        "subtotals",
        f"These rows are sums of other rows: {plain_list(names.values())}. Totals to leave out, "
        "or departments?",
        ("totals", "departments"),
    )
    if findings.reading and set(names) <= set(map(fold, findings.reading.totals.names)):
        findings.stored[question.id] = ["totals"]
    answer = findings.ask_one(question)
    if answer == "departments":
        return
    sums = {line.index for line in found}
    others = {fold(line.name) for line in lines if line.index not in sums and not line.is_total}
    both = [name for folded, name in names.items() if folded in others]
    if answer is None:
        draft.assumed_totals = () if both else tuple(names)
        return
    if both:
        raise Refused(
            f"The name '{both[0]}' is that of a total and of other rows. Rename the totals, or "
            "remove them from the sheet."
        )
    draft.totals = (*draft.totals, *names)


def _measures(draft: Draft) -> list[Column]:
    """The amount columns and all other measures."""
    used = draft.used
    others = [each for each in draft.sheet.columns if each.is_measure and each not in used]
    ignored = [each for each in draft.period.ignored if each.is_measure]
    return [*draft.amounts, *ignored, *others]


def _lines(draft: Draft, measures: Sequence[Column], result: SheetResult) -> list[Line]:
    found = []
    for position, index in enumerate(draft.sheet.rows):
        why = result.skipped.get(index + 1)
        is_total = why is not None and "total" in why
        if why is not None and not is_total:
            continue
        values = tuple(number_of(each.cells[position], draft.marks) for each in measures)
        if any(values):
            name = draft.department.column.texts[position]
            found.append(Line(index, name, values, is_total))
    return found


def _sums_below(lines: Sequence[Line], measures: int) -> list[Line]:
    """The rows that are the sum of the rows above, or of the earlier such rows."""
    found: list[Line] = []
    sizes: list[int] = []
    since: list[Values] = []
    subtotals: list[Values] = []
    for line in lines:
        if line.is_total:
            since, subtotals = [], []
        elif len(since) >= 2 and _is_sum(line.values, since):
            found.append(line)
            sizes.append(len(since))
            subtotals.append(line.values)
            since = []
        elif len(subtotals) >= 2 and not since and _is_sum(line.values, subtotals):
            found.append(line)
            sizes.append(len(subtotals))
            subtotals = []
        else:
            since.append(line.values)
    is_sure = len(found) >= 2 or (len(found) == 1 and sizes[0] >= 3 and measures >= 2)
    return [line for line in found if line.name] if is_sure else []


def _is_sum(values: Values, parts: Sequence[Values]) -> bool:
    """Whether each number of a row is the sum of those of other rows; a blank cell is 0 there."""
    return any(values) and all(
        value is None or value == sum((part[number] or Decimal(0) for part in parts), Decimal(0))
        for number, value in enumerate(values)
    )


def _parents_above(lines: Sequence[Line]) -> list[Line]:
    """The rows that are the sum of the rows below them, if nearly all rows are such or their parts.

    By chance, a row is often the sum of the next two. So no name may occur twice.
    """
    lines = [line for line in lines if not line.is_total]
    names = Counter(fold(line.name) for line in lines)
    if not lines or any(times > 1 for times in names.values()):
        return []
    found, covered, position = [], 0, 0
    while position < len(lines):
        parts = _parts_of(lines, position)
        if parts:
            found.append(lines[position])
            covered += parts + 1
        position += parts + 1
    if len(found) < 2 or covered < _MIN_COVERED * len(lines):
        return []
    return found


def _parts_of(lines: Sequence[Line], position: int) -> int:
    """How many of the next rows a row is the sum of; 0 for none."""
    values = lines[position].values
    parts: list[Values] = []
    for line in lines[position + 1 : position + 1 + _MAX_PARTS]:
        parts.append(line.values)
        if len(parts) >= 2 and _is_sum(values, parts):
            return len(parts)
    return 0
