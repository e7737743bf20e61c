"""The steps of `detect` in their order. Pure."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from budget_sync.domain.money import currency_exponent
from budget_sync.domain.names import fold
from budget_sync.sync.limits import Check
from budget_sync.sync.reading.detect.amount import find_amount
from budget_sync.sync.reading.detect.currency import (
    column_reading,
    currency_column,
    find_currency,
    find_sign,
)
from budget_sync.sync.reading.detect.department import find_department, require_departments
from budget_sync.sync.reading.detect.draft import Draft, Trials
from budget_sync.sync.reading.detect.fill import find_fill
from budget_sync.sync.reading.detect.findings import BROKEN_TEXT, Findings, Refused, is_broken
from budget_sync.sync.reading.detect.header import find_header, is_blank_grid, require_one_table
from budget_sync.sync.reading.detect.keep import find_filters
from budget_sync.sync.reading.detect.marks import find_blanks, find_marks
from budget_sync.sync.reading.detect.numbers import number_of
from budget_sync.sync.reading.detect.owner import find_owner
from budget_sync.sync.reading.detect.period import PeriodStep
from budget_sync.sync.reading.detect.refusals import refuse_other_lists, refuse_unknown
from budget_sync.sync.reading.detect.sheet import Column, Sheet, cell_at
from budget_sync.sync.reading.detect.source_bytes import read_bytes
from budget_sync.sync.reading.detect.sums import find_sum
from budget_sync.sync.reading.detect.totals import find_subtotals, find_total_names
from budget_sync.sync.reading.detect.unit import find_unit
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.headings import Role
from budget_sync.sync.reading.model import CsvFormat, CurrencyConstant, Marks
from budget_sync.sync.reading.proposal import HEADER_EVIDENCE, Proposal
from budget_sync.sync.reading.result import SheetProblem, SheetResult
from budget_sync.sync.reading.title import years_in
from budget_sync.sync.reading.totals import is_total_like

_MIN_ID_SCORE = 9

#: A reading stores no longer heading. A header of four rows may have one.
_MAX_HEADING_CHARS = 4000


def propose(source: bytes | Grid, findings: Findings, file_name: str, check: Check) -> Proposal:
    """The proposal. Raises Refused, SheetProblem and AnswerError."""
    file: CsvFormat | None = None
    if isinstance(source, bytes):
        grid, file = read_bytes(source, findings)
    else:
        grid = source
    check()
    sheet = _sheet(grid, findings, file_name)
    check()
    draft = _draft(sheet, file, findings)
    check()
    _settle_amounts(draft, findings)
    check()
    return _with_trial(draft, findings, check)


def _sheet(grid: Grid, findings: Findings, file_name: str) -> Sheet:
    """The profile of the sheet. Raises Refused if it is blank or no header is found."""
    if is_blank_grid(grid):
        raise Refused("The sheet is empty.")
    place, _ = find_header(grid, findings.customer.fiscal_year)
    require_one_table(grid, place)
    if any(map(is_broken, place.headings)):
        raise Refused(BROKEN_TEXT)
    if max(map(len, place.headings)) > _MAX_HEADING_CHARS:
        raise Refused(
            f"A heading has more than {_MAX_HEADING_CHARS:,} characters. Shorten the headings in "
            f"row {place.sheet_row}."
        )
    sheet = Sheet(grid, place, file_name)
    texts = (*sheet.title, file_name.rsplit("/", 1)[-1])
    findings.title_years = years_in(texts, findings.customer.fiscal_year)
    refuse_other_lists(sheet.columns)
    return sheet


def _draft(sheet: Sheet, file: CsvFormat | None, findings: Findings) -> Draft:
    """The columns of the reading: steps 4 to 6."""
    period_step = PeriodStep(sheet, findings)
    refuse_unknown(sheet.columns, has_periods=period_step.has_headings)
    identifier = _best(sheet, Role.ID)
    limit = _best(sheet, Role.LIMIT)
    named = [column for column in (identifier, limit) if column]
    period = period_step.find()
    used = [*period.columns, *period.amounts, *period.ignored, *named]
    currency = currency_column(sheet, used, findings)
    used += [currency] if currency else []
    department = find_department(sheet, used, findings)
    used.append(department.column)
    amounts = period.amounts or [find_amount(sheet, used, findings)]
    with_amount = [
        any(number_of(column.cells[row], Marks()) is not None for column in amounts)
        for row in range(len(sheet.rows))
    ]
    if department.fill != "section":
        require_departments(department.column, with_amount, findings.customer.fiscal_year)
    findings.note(
        f"{HEADER_EVIDENCE}{sheet.header.sheet_row}. Department: {department.column.label}. "
        f"{period.evidence}" + ("" if period.amounts else f" Amount: {amounts[0].label}.")
    )
    draft = Draft(
        sheet,
        file,
        department,
        period,
        amounts,
        id=identifier,
        limit=limit,
        currency_column=currency,
        currency=column_reading(sheet, currency) if currency else None,
    )
    _require_different(sheet, draft)
    return draft


def _require_different(sheet: Sheet, draft: Draft) -> None:
    """Raise Refused if the heading of a used column is that of another column, too."""
    headings = Counter(fold(each.heading) for each in sheet.columns if each.heading)
    for column in draft.used:
        is_used = column not in draft.period.ignored
        if is_used and headings[fold(column.heading)] > 1:
            raise Refused(
                f"The header (row {sheet.header.sheet_row}) has '{column.heading}' twice. Rename "
                "one of them."
            )


def _best(sheet: Sheet, role: Role) -> Column | None:
    """The column of an optional role; only a sure heading counts."""
    found = [each for each in sheet.columns if each.roles.get(role, 0) >= _MIN_ID_SCORE]
    return found[0] if found else None


def _settle_amounts(draft: Draft, findings: Findings) -> None:
    """Marks, filters, blank departments, unit, currency and sign: steps 7 to 12."""
    sheet = draft.sheet
    texts = _amount_texts(draft)
    exponent = currency_exponent(findings.customer.currency)
    draft.marks = find_marks(texts, exponent, findings)
    draft.blanks = find_blanks(texts, findings)
    draft.keep = find_filters(
        sheet, draft.department.column, draft.period.columns, draft.used, findings
    )
    kept = {each.column for each in draft.keep}
    others = [each for each in sheet.columns if each.name not in kept and each not in draft.used]
    draft.owner = find_owner(sheet, others)
    if draft.department.fill == "section":
        draft.fill = "section"
    else:
        draft.fill = find_fill(
            sheet,
            draft.department.column,
            draft.amounts,
            draft.used,
            draft.keep,
            draft.marks,
            findings,
        )
    headings = [*sheet.title, *(column.heading for column in draft.amounts)]
    amounts = _amounts(draft)
    if draft.currency_column is None:
        draft.currency = find_currency(headings, texts, findings)
    currency = findings.customer.currency
    if isinstance(draft.currency, CurrencyConstant):
        currency = draft.currency.constant
    draft.unit = find_unit(headings, amounts, len(sheet.rows), currency, findings)
    draft.sign = find_sign(amounts, findings)


def _amount_texts(draft: Draft) -> list[str]:
    """The different texts in the amount columns, in all rows. Numbers have no marks."""
    found: dict[str, None] = {}
    indices = [column.index for column in draft.amounts]
    for _, row in draft.sheet.body:
        for index in indices:
            cell = cell_at(row, index)
            if isinstance(cell, str) and cell:
                found[cell] = None
    return [text for cell in found if (text := cell.strip())]


def _amounts(draft: Draft) -> list[Decimal]:
    """The amounts of the profiled rows, without those of totals and of rows that are left out."""
    names = draft.department.column.texts
    columns = {column.name: column for column in draft.sheet.columns}
    out = [(columns[each.column].texts, set(each.left_out)) for each in draft.keep]
    is_out = [any(fold(texts[row]) in values for texts, values in out) for row in range(len(names))]
    return [
        number
        for column in draft.amounts
        for name, cell, left_out in zip(names, column.cells, is_out, strict=True)
        if not left_out
        and not is_total_like(name)
        and (number := number_of(cell, draft.marks)) is not None
    ]


def _with_trial(draft: Draft, findings: Findings, check: Check) -> Proposal:
    """Totals, subtotals and sums, which need a trial, and the proposal: steps 10, 12 and 13."""
    trials = Trials(findings, check)
    result: SheetResult | None = None
    try:
        find_total_names(draft, trials.run(draft, sums=True), findings)
        find_subtotals(draft, trials.run(draft, sums=True), findings)
        result = find_sum(draft, trials, findings)
    except SheetProblem as problem:
        if not findings.open:
            raise
        findings.note(str(problem))
    if result is not None and not result.rows and not findings.open:
        raise Refused(result.errors[0].message if result.errors else "No row can be read.")
    reading = draft.reading()
    if is_broken(reading.to_text()):
        raise Refused(BROKEN_TEXT)
    return Proposal(
        reading, findings.questions, findings.open, evidence=findings.evidence, trial=result
    )
