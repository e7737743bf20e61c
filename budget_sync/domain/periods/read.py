"""Reads periods: a text and a customer's fiscal year give a key, or a problem."""

from __future__ import annotations

from typing import NamedTuple

from budget_sync.domain.names import fold
from budget_sync.domain.periods.fiscal_year import FiscalYear
from budget_sync.domain.periods.forms import (
    Day,
    DayOrYear,
    Form,
    Month,
    MonthOrSpan,
    MonthRange,
    Numbered,
    Part,
    Unreadable,
    WholeYear,
    Year,
)
from budget_sync.domain.periods.parse import parse
from budget_sync.domain.periods.words import CALENDAR, FISCAL

_EXAMPLE = "Enter a period such as Q1 2025."

#: What is wrong with a text, by reason. The sentence follows "Period" and the text in quotes.
PROBLEMS = {
    "blank": f"is blank. {_EXAMPLE}",
    "placeholder": f"is a placeholder. {_EXAMPLE}",
    "unknown": f"is not a known period. {_EXAMPLE}",
    "year": "has no year.",
    "dash": "may be a month or a fiscal year.",
    "ddmon": "may be a day of this year or a month of another year. Excel shows both in the same "
    "way.",
    "tri": "may be a quarter or a third of the year.",
    "third": f"is a third of the year, which has no key. {_EXAMPLE}",
    "mdy": "may be one of two days. Enter a period such as Jan 2025.",
    "day": "is a day, not a period.",
    "fiscal_year": "covers two calendar years, but the customer's fiscal year begins in January.",
    "span": "covers more than one year.",
    "calendar_year": "is a calendar year, and the customer's fiscal year is another.",
    "months": "is not a quarter, half or year of this customer.",
    "p13": "is a thirteenth month.",
    "number": "is the number {text}. Enter text such as Q1 2025.",
}


class Settled(NamedTuple):
    """Ambiguities that a sheet or a person has settled, as in the `period` of a reading.

    `year` is added to periods without one: a fiscal year, "2026". `dash` is "month" or "span",
    `ddmon` "year" or "day", `tri` "quarter" or "third", `mdy` "mdy" or "dmy", `dates` "month",
    "quarter" or "year".
    """

    year: str | None = None
    dash: str | None = None
    ddmon: str | None = None
    tri: str | None = None
    mdy: str | None = None
    dates: str | None = None


class PeriodText(NamedTuple):
    """What a text says: a key, or the reason why it has none, with the problem for people.

    `problem` is a sentence without its start, "Period '…'".
    """

    key: str | None
    reason: str | None = None
    problem: str | None = None


class PeriodError(ValueError):
    """A text without a key. `problem` follows the text in a sentence."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"Period {text!r} {problem}")
        self.text = text
        self.problem = problem


NOTHING_SETTLED = Settled()


def read_period(
    text: str, fiscal_year: FiscalYear, settled: Settled = NOTHING_SETTLED
) -> PeriodText:
    """The key of a period's text, or why it has none."""
    return resolve(parse(text), fiscal_year, settled)


def read_year_and_part(
    year: str,
    part: str,
    part_kind: str,
    fiscal_year: FiscalYear,
    settled: Settled = NOTHING_SETTLED,
) -> PeriodText:
    """The key of a year and its quarter or month, which are in two cells.

    `part_kind` is "quarter"; or, for months, "fiscal" or "calendar": what the year is, and whether
    month 1 is the first month of the fiscal year or January.
    """
    found = parse(year)
    if isinstance(found, MonthOrSpan):
        # The cell of a year column holds no month.
        found = WholeYear(Year(found.first, found.first + 1))
    if isinstance(found, Unreadable):
        return _problem(found.reason, found.text)
    if not isinstance(found, WholeYear):
        return _problem("unknown")
    form = _part_form(part, part_kind, found.year)
    return resolve(form, fiscal_year, settled)


def _part_form(part: str, part_kind: str, year: Year) -> Form:
    """The form of the second cell, with the year of the first."""
    form = parse(part)
    if part_kind == "quarter":
        if isinstance(form, Part) and form.year is None:
            return form._replace(year=year)
        number = _bare_number(form)
        return Part("Q", number, year) if 1 <= number <= 4 else _without_form(form)
    if isinstance(form, Month) and form.year is None:
        number = form.month
    elif isinstance(form, Numbered) and form.year is None:
        number = form.number
    else:
        number = _bare_number(form)
    if not 1 <= number <= 13:
        return _without_form(form)
    if isinstance(form, Month):
        return Month(number, _marked(year, FISCAL if part_kind == "fiscal" else CALENDAR))
    if part_kind == "fiscal" or number > 12:
        return Numbered(number, _marked(year, FISCAL))
    return Month(number, _marked(year, CALENDAR))


def _marked(year: Year, marker: str) -> Year:
    """The year as a fiscal or calendar one; two years are always a fiscal year."""
    return year._replace(marker=marker if year.first == year.last else FISCAL)


def _bare_number(form: Form) -> int:
    is_number = isinstance(form, Unreadable) and form.text.isdecimal() and len(form.text) <= 2
    return int(form.text) if is_number and isinstance(form, Unreadable) else 0


def _without_form(form: Form) -> Unreadable:
    return form if isinstance(form, Unreadable) else Unreadable("unknown")


def api_period_key(text: str, fiscal_year: FiscalYear) -> str:
    """The key of a period in an API call or a form: a period's key, or a name's folded text.

    A name has other words than those of periods. Raises PeriodError for any other text without a
    key.
    """
    form = parse(text)
    if isinstance(form, Unreadable) and form.is_free:
        return fold(text)
    found = resolve(form, fiscal_year, NOTHING_SETTLED)
    if found.key is None:
        raise PeriodError(text, found.problem or "")
    return found.key


def is_same_for_all(text: str) -> bool:
    """Whether a text has the same key, or the same problem, in every fiscal year."""
    form = parse(text)
    if isinstance(form, MonthRange):
        return False
    year = getattr(form, "year", None)
    if not isinstance(year, Year):
        return True
    if isinstance(form, Numbered):
        return form.number > 12
    if isinstance(form, Month):
        return not year.is_fiscal
    return year.first == year.last and year.marker != CALENDAR


# From forms to keys.


class _NoKeyError(Exception):
    """A form that has no key; `reason` is a key of PROBLEMS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def resolve(form: Form, fiscal_year: FiscalYear, settled: Settled) -> PeriodText:
    """The key of a form in a customer's fiscal year. Keys are in the years 1900 to 2099."""
    if isinstance(form, Unreadable):
        return _problem(form.reason, form.text)
    try:
        key = _key(form, fiscal_year, settled)
    except _NoKeyError as error:
        return _problem(error.reason)
    return PeriodText(key) if key[:2] in ("19", "20") else _problem("unknown")


def _problem(reason: str, text: str = "") -> PeriodText:
    return PeriodText(None, reason, PROBLEMS[reason].format(text=text))


def _key(form: Form, fiscal_year: FiscalYear, settled: Settled) -> str:
    match form:
        case MonthOrSpan():
            return _key_of_month_or_span(form, fiscal_year, settled)
        case DayOrYear():
            return _key_of_day_or_year(form, settled)
        case Day():
            return _key_of_day(form, fiscal_year, settled)
        case MonthRange():
            return _key_of_range(form, fiscal_year, settled)
        case Month() | Numbered():
            year, month = _calendar_month(form, fiscal_year, settled)
            return f"{year}-{month:02d}"
        case WholeYear() | Part():
            return _key_of_year(form, fiscal_year, settled)
    raise _NoKeyError("unknown")


def _year_of(form: WholeYear | Part | Month | Numbered, settled: Settled) -> Year:
    """The year of a form. The settled one is a fiscal year."""
    if form.year is not None:
        return form.year
    if settled.year is None:
        raise _NoKeyError("year")
    return Year(int(settled.year), int(settled.year), FISCAL)


def _name_of(year: Year, fiscal_year: FiscalYear) -> int:
    """The name of the fiscal year that is written as one year or as two."""
    if year.last > year.first + 1:
        raise _NoKeyError("span")
    if year.last > year.first and fiscal_year.is_calendar_year:
        raise _NoKeyError("fiscal_year")
    if year.marker == CALENDAR and not fiscal_year.is_calendar_year:
        raise _NoKeyError("calendar_year")
    return year.first if fiscal_year.named_by == "start" else year.last


def _key_of_year(form: WholeYear | Part, fiscal_year: FiscalYear, settled: Settled) -> str:
    """The key of a year, half or quarter."""
    name = _name_of(_year_of(form, settled), fiscal_year)
    if isinstance(form, WholeYear):
        return str(name)
    if form.letter == "T" and settled.tri == "third":
        raise _NoKeyError("third")
    if form.letter == "T" and form.number < 4 and settled.tri is None:
        raise _NoKeyError("tri")
    return f"{name}-{'H' if form.letter == 'H' else 'Q'}{form.number}"


def _calendar_month(
    form: Month | Numbered, fiscal_year: FiscalYear, settled: Settled
) -> tuple[int, int]:
    """The calendar year and month: of a calendar year, or within a fiscal year."""
    is_numbered = isinstance(form, Numbered)
    number = form.number if isinstance(form, Numbered) else form.month
    if number > 12:
        raise _NoKeyError("p13")
    year = _year_of(form, settled)
    if not year.is_fiscal and (not is_numbered or year.marker == CALENDAR):
        return year.first, number
    name = _name_of(year, fiscal_year)
    month = (fiscal_year.first_month + number - 2) % 12 + 1 if is_numbered else number
    return fiscal_year.calendar_year(name, month), month


def _key_of_month_or_span(form: MonthOrSpan, fiscal_year: FiscalYear, settled: Settled) -> str:
    if settled.dash is None:
        raise _NoKeyError("dash")
    if settled.dash == "month":
        return f"{form.first}-{form.month:02d}"
    return _key_of_year(WholeYear(Year(form.first, form.first + 1)), fiscal_year, settled)


def _key_of_day_or_year(form: DayOrYear, settled: Settled) -> str:
    if settled.ddmon != "year" and 1 <= form.number <= 31:
        raise _NoKeyError("day" if settled.ddmon == "day" else "ddmon")
    return f"20{form.number:02d}-{form.month:02d}"


def _key_of_day(form: Day, fiscal_year: FiscalYear, settled: Settled) -> str:
    """The key of the month, quarter or year that begins on a day."""
    readings = form.readings
    if len(readings) > 1 and settled.mdy:
        readings = readings[:1] if settled.mdy == "mdy" else readings[1:]
    if all(day != 1 for _, _, day in readings):
        raise _NoKeyError("day")
    if len(readings) > 1:
        raise _NoKeyError("mdy")
    year, month, _ = readings[0]
    length = {"quarter": 3, "year": 12}.get(settled.dates or "", 1)
    return _key_of_months(year, month, length, fiscal_year)


def _key_of_range(form: MonthRange, fiscal_year: FiscalYear, settled: Settled) -> str:
    """The key of several months: a month, quarter, half or year of this customer."""
    year, month = _calendar_month(form.first, fiscal_year, settled)
    last_year, last_month = _calendar_month(form.last, fiscal_year, settled)
    length = (last_year - year) * 12 + last_month - month + 1
    if length < 1:
        # Oct-Mar 2025 may begin in 2024 or in 2025.
        raise _NoKeyError("unknown")
    return _key_of_months(year, month, length, fiscal_year)


def _key_of_months(year: int, month: int, length: int, fiscal_year: FiscalYear) -> str:
    key = fiscal_year.key_of(year, month, length)
    if key is None:
        raise _NoKeyError("months")
    return key
