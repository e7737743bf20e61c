"""Step 5: the department column. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.reading.detect.findings import Findings, Refused, plain_list
from budget_sync.sync.reading.detect.sheet import Column, Sheet, goes_with
from budget_sync.sync.reading.heading_periods import heading_period
from budget_sync.sync.reading.headings import Role, plain
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.totals import is_total_like

_MAX_OPTIONS = 8
_CODE_WORDS = frozenset(("id", "code", "no", "nr", "key", "deptid"))
_CODE_AND_NAME = re.compile(r"([A-Z0-9]{1,8}) ?[-:] ?(\S.*)")
_LETTERS_OR_DIGITS = re.compile(r"[A-Z]{2,5}|[0-9]{2,8}")
_NUMBER_NAME = re.compile(r"[0-9]{1,3}(?:\.0)?")


@dataclass(frozen=True, slots=True)
class DepartmentPlan:
    """The department column, and how its cells are read."""

    column: Column
    fill: Literal["no", "section"] = "no"
    code: Literal["keep", "strip"] = "keep"


def find_department(sheet: Sheet, used: Collection[Column], findings: Findings) -> DepartmentPlan:
    """The department column. `used` are columns with another role. Raises Refused."""
    candidates = _candidates(sheet, used)
    texts = [each for each in sheet.columns if each.is_text and each not in used]
    section = _section(sheet, used)
    if section and findings.ask_one(_section_question(section)) != "no":
        return DepartmentPlan(section.column, fill="section")
    column = _column(candidates, texts, findings)
    _require_names(column, findings)
    return DepartmentPlan(column, code=_code(column, findings))


def _candidates(sheet: Sheet, used: Collection[Column]) -> list[tuple[float, Column]]:
    """The columns with a department heading and their ratings, the best first."""
    found = []
    for column in sheet.columns:
        score = column.roles.get(Role.DEPARTMENT, 0)
        if not score or column in used or not column.filled:
            continue
        if column.share > 0.8:
            score -= 4
        if any(word in _CODE_WORDS for word in column.words):
            score -= 2
        found.append((score, column))
    return sorted(found, key=lambda each: -each[0])


def _column(
    candidates: list[tuple[float, Column]], texts: list[Column], findings: Findings
) -> Column:
    if not candidates:
        return _asked_without_candidates(texts, findings)
    score, best = candidates[0]
    others = candidates[1:]
    if best.share > 0.8:
        title = next((each for each in others if goes_with(best, each[1])), None)
        if title and title[1].share <= 0.8:
            score, best = title
            others = [each for each in candidates if each[1] is not best]
    rivals = [each for rating, each in others if score - rating < 2 and not goes_with(best, each)]
    if rivals:
        return _ask("Which column names the department?", best, [best, *rivals, *texts], findings)
    if score < 7:
        is_likely = score >= 6 or texts == [best]
        return _ask(
            f"Is '{best.name}' the department?",
            best,
            [best, *(each for _, each in others), *texts],
            findings,
            default=(best.name,) if is_likely or not (others or texts) else None,
        )
    return best


def _asked_without_candidates(texts: list[Column], findings: Findings) -> Column:
    if not texts:
        raise Refused("No column names departments.")
    return _ask("Which column names the department?", texts[0], texts, findings)


def _ask(
    text: str,
    best: Column,
    columns: Sequence[Column],
    findings: Findings,
    default: tuple[str, ...] | None = None,
) -> Column:
    """The column of the answer or the default; the best while the question is open."""
    by_name = {column.name: column for column in columns}
    options = tuple(by_name)[:_MAX_OPTIONS]
    answer = findings.ask_one(Question("department", text, options, default=default))
    return by_name[answer] if answer else best


def _require_names(column: Column, findings: Findings) -> None:
    """Ask whether people use the numbers in a column of small numbers."""
    if not any(word in ("id", "key") for word in column.words) or not column.filled:
        return
    numbers = [text for text in column.texts if _NUMBER_NAME.fullmatch(text)]
    if len(numbers) <= 0.9 * column.filled:
        return
    examples = plain_list(dict.fromkeys(numbers), 3)
    question = Question(
        "ids",
        f"'{column.name}' holds only numbers ({examples}). Do people ask for budgets by these "
        "numbers?",
        ("yes", "no"),
    )
    if findings.ask_one(question) == "no":
        raise Refused("Departments are numbers here. Add a column with their names.")


def _code(column: Column, findings: Findings) -> Literal["keep", "strip"]:
    """Whether the codes before the names are removed. It is asked if most cells have them."""
    matches = [
        (_CODE_AND_NAME.fullmatch(plain(text)), times)
        for text, times in column.values.items()
        if not is_total_like(text)
    ]
    with_code = sum(times for match, times in matches if match)
    codes: dict[str, set[str]] = {}
    for match, _ in matches:
        if match:
            codes.setdefault(match[1], set()).add(fold(match[2]))
    usual = sum(bool(_LETTERS_OR_DIGITS.fullmatch(code)) for code in codes)
    if (
        len(codes) < 3
        or with_code < 0.9 * sum(times for _, times in matches)
        or usual < 0.9 * len(codes)
        or any(len(names) > 1 for names in codes.values())
        or any(name.isdecimal() for names in codes.values() for name in names)
    ):
        return "keep"
    example = next(match for match, _ in matches if match)
    question = Question(
        "code",
        f"Departments are a code and a name ('{example[0]}'). Do requests name only "
        f"'{example[2]}'?",
        ("keep", "strip"),
        default=("keep",),
    )
    return "strip" if findings.ask_one(question) == "strip" else "keep"


@dataclass(frozen=True, slots=True)
class _Section:
    column: Column
    names: list[str]


def _section(sheet: Sheet, used: Collection[Column]) -> _Section | None:
    """The column in which departments are on separate lines, with a total below each."""
    first = next((c for c in sheet.columns if c.is_text and c not in used), None)
    if first is None or first.heading:
        return None
    numbers = [column for column in sheet.columns if column is not first]
    names, totals = [], 0
    for row, text in enumerate(first.texts):
        if not text:
            continue
        if is_total_like(text):
            totals += 1
        elif not any(column.texts[row] for column in numbers):
            names.append(text)
    return _Section(first, names) if len(names) >= 3 and totals >= 3 else None


def _section_question(section: _Section) -> Question:
    return Question(
        "section",
        f"Departments are on separate lines ({plain_list(section.names, 3)}), with a total below "
        "each. Is that right?",
        ("yes", "no"),
        default=("yes",),
    )


def require_departments(
    column: Column, with_amount: Sequence[bool], fiscal_year: FiscalYear
) -> None:
    """Raise Refused if the values of the column are totals, or years and versions.

    `with_amount` says for each profiled row whether it has an amount.
    """
    names = {fold(text): text for text in column.texts if text}
    totals = [name for name in names.values() if is_total_like(name)]
    if names and len(totals) >= 0.8 * len(names):
        raise Refused(f"Every row is a total ('{totals[0]}', …). There are no departments.")
    paid = {
        fold(text): text
        for text, has_amount in zip(column.texts, with_amount, strict=True)
        if text and has_amount
    }
    periods = [text for text in paid.values() if heading_period(text, fiscal_year)]
    if len(paid) >= 4 and 2 * len(periods) >= len(paid):
        raise Refused(
            f"The values under '{column.name}' are years or versions ('{periods[0]}', …), and "
            "departments are on separate lines. This layout cannot be read."
        )
