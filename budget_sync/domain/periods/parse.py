"""Parses a period's text into a form, by the shape of its tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

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
from budget_sync.domain.periods.words import (
    MAX_FORM_LENGTH,
    MONTH_NUMBERS,
    Token,
    fold_period,
    is_placeholder,
    shape_of,
    tokens_of,
)

_YEAR = "Y(?:[-/J][YD])?"
_PART = "(?:F[- ]?)?[QHTPM][- ]?[dD]|[dD][- ]?[QHTPM]"
#: The patterns of shapes by kind. A text may fit several; `_forms_of` tries them all.
_SHAPES = {
    kind: re.compile(shape)
    for kind, shape in {
        "year": f"(?P<year>{_YEAR}|D[-/]D)",
        "year, part": f"(?P<year>{_YEAR}|D)[- /]?(?P<part>{_PART})",
        "part, year": f"(?P<part>{_PART})[- /]?(?P<year>{_YEAR}|D[-/]D|D)",
        "part": f"(?P<part>{_PART})",
        "glued": "(?P<part>[QHTPM]L|L[QHTPM])",
        "month": "(?P<month>N)",
        "month, year": f"(?P<month>N)[- /]?(?P<year>{_YEAR}|D)",
        "year, month": f"(?P<year>{_YEAR})[- /]?(?P<month>N)",
        "number, month": "(?P<number>[dD])[- /]?(?P<month>N)",
        "month, number": "(?P<month>N)[- /]?(?P<number>d)",
        "year, number": "(?P<year>Y) (?P<number>D)",
        "number, year": "(?P<number>D)[- /](?P<year>Y)",
        "digits": "(?P<number>L)",
        "y m d": "(?P<year>Y)[- /](?P<month>[dD])[- /](?P<day>[dD])",
        "n n y": "(?P<month>[dD])[- /](?P<day>[dD])[- /](?P<year>[YD])",
        "d month y": "(?P<day>[dD])[- /]?(?P<month>N)[- /]?(?P<year>[YD])",
        "month d y": "(?P<month>N)[- /]?(?P<day>[dD])[- /](?P<year>Y)",
        "y month d": "(?P<year>Y)[- /]?(?P<month>N)[- /]?(?P<day>[dD])",
        "range": f"(?P<from>N(?:[- /]?[YD])?)[-J](?P<to>N)(?:[- /]?(?P<year>{_YEAR}|D))?",
        "year, range": f"(?P<year>{_YEAR})[- /]?(?P<from>N)[-J](?P<to>N)",
        "y m range": "(?P<from>Y[-/]D)J(?P<to>Y[-/]D)",
        "m y range": "(?P<from>D[-/]Y)[-J](?P<to>D[-/]Y)",
    }.items()
}
_DATE_AND_TIME = re.compile(
    r"(.{6,20})[t ]([0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)"
    r" ?([ap]m)?(?:z|[-+][0-9]{2}:?[0-9]{2})?"
)
_NUMBER = re.compile(r"-?[0-9]+(?:[.,][0-9]+)?")
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

#: The most years that a text such as 2024-29 covers. With more, it is not a range of years.
_MAX_SPAN = 10

Groups = dict[str, list[Token]]


def parse(text: str) -> Form:
    """What a text says. The reasons of an Unreadable form are those of `read.PROBLEMS`."""
    if len(text) > MAX_FORM_LENGTH:
        text = " ".join(text.split())
    if len(text) > MAX_FORM_LENGTH:
        return Unreadable("unknown", is_free=True)
    return _parse_short(text)


@lru_cache(maxsize=4096)
def _parse_short(text: str) -> Form:
    folded = fold_period(text)
    if not folded:
        return Unreadable("blank" if not text.strip() else "placeholder")
    if is_placeholder(folded):
        return Unreadable("placeholder")
    dated = _DATE_AND_TIME.fullmatch(folded)
    if dated:
        return _at_time(dated[1], dated[2], dated[3])
    return _parse_folded(folded)


def _at_time(date: str, time: str, half: str | None) -> Form:
    """A date with a time of day, which must be midnight."""
    form = _parse_folded(date)
    if not isinstance(form, Day):
        return Unreadable("unknown")
    if half == "am" and time.startswith("12:"):
        time = f"00{time[2:]}"
    is_midnight = half != "pm" and not time.strip("0:.")
    return form if is_midnight else Unreadable("day")


def _parse_folded(folded: str) -> Form:
    tokens = tokens_of(folded)
    forms = _forms_of(tokens)
    if len(forms) == 1:
        return forms[0]
    if _NUMBER.fullmatch(folded):
        return Unreadable("number", folded)
    return Unreadable("unknown", is_free=_is_free(folded, tokens))


def _forms_of(tokens: list[Token]) -> list[Form]:
    """The different forms that the tokens fit."""
    shape = shape_of(tokens)
    found: list[Form] = []
    for kind, pattern in _SHAPES.items():
        match = pattern.fullmatch(shape)
        if match is None:
            continue
        groups = {
            name: tokens[match.start(name) : match.end(name)]
            for name, value in match.groupdict().items()
            if value is not None
        }
        form = _BUILDERS[kind](groups)
        if form is not None and form not in found:
            found.append(form)
    return found


def _is_free(folded: str, tokens: list[Token]) -> bool:
    """Whether the text is a name with other words than those of periods.

    A single letter next to a year (2025E) does not count.
    """
    others = [each.text for each in tokens if each.letter == "U" and each.text.isalpha()]
    if any(len(each) > 1 for each in others):
        return True
    letters = shape_of(tokens)
    if others and "Y" not in letters:
        return True
    has_term = "N" in letters or any(len(each.text) > 1 for each in tokens if each.letter in "QHPF")
    return not has_term and not any(each.isdecimal() for each in folded)


# Years, parts and months.


def _number(tokens: list[Token]) -> int:
    return int(tokens[0].text)


def _year_of(tokens: list[Token]) -> Year | None:
    """The year or years that the tokens name; None if they name none."""
    first = _four_digits(tokens[0])
    marker = tokens[0].marker
    if len(tokens) == 1:
        return Year(first, first, marker)
    end = tokens[2]
    last = first - first % 100 + int(end.text) if end.letter == "D" else int(end.text)
    if end.letter == "D" and last % 100 == 0 and first % 100 == 99:
        last += 100
    return Year(first, last, marker) if first < last <= first + _MAX_SPAN else None


def _four_digits(token: Token) -> int:
    return int(token.text) if token.letter == "Y" else 2000 + int(token.text)


def _whole_year(groups: Groups) -> Form | None:
    tokens = groups["year"]
    if len(tokens) == 1:
        return WholeYear(Year(int(tokens[0].text), int(tokens[0].text), tokens[0].marker))
    year = _year_of(tokens)
    is_two = year is not None and year.last == year.first + 1
    if tokens[0].letter == "D":
        # 11/12 may be a date, 24/25 cannot.
        is_sure = is_two and int(tokens[0].text) > 12
        return WholeYear(year) if year and is_sure else None
    number = int(tokens[2].text) if tokens[2].letter == "D" else 0
    is_month = 1 <= number <= 12 and tokens[1].letter != "J"
    if not is_month or (is_two and tokens[0].marker):
        return WholeYear(year) if year else None
    if is_two:
        return MonthOrSpan(int(tokens[0].text), number)
    return _month_number(number, tokens[0])


def _month_number(number: int, token: Token) -> Form | None:
    """The month of that number in the calendar year, or in a year with FY."""
    year = Year(int(token.text), int(token.text), token.marker)
    if not 1 <= number <= 12:
        return None
    return Numbered(number, year) if year.is_fiscal else Month(number, year)


def _part_of(tokens: list[Token], year: Year | None) -> Form | None:
    """The part of a year that the tokens name: Q1, 1Q, P01."""
    letter = next(each.letter for each in tokens if each.letter in "QHTPM")
    number = next(int(each.text) for each in tokens if each.letter in "dD")
    return _numbered_part(letter, number, year)


def _numbered_part(letter: str, number: int, year: Year | None) -> Form | None:
    most = {"Q": 4, "H": 2, "T": 4, "P": 13, "M": 12}[letter]
    if not 1 <= number <= most:
        return None
    if letter in "QHT":
        return Part(letter, number, year)
    if letter == "M" and year is not None and not year.is_fiscal:
        return Month(number, year)
    return Numbered(number, year)


def _part_and_year(groups: Groups) -> Form | None:
    year = _year_of(groups["year"])
    return _part_of(groups["part"], year) if year else None


def _glued(groups: Groups) -> Form | None:
    """A part and a year without anything between them: Q12025."""
    first, second = groups["part"]
    if first.letter == "L":
        letter, year, number = second.letter, first.text[:4], first.text[4:]
    else:
        letter, year, number = first.letter, second.text[-4:], second.text[:-4]
    if year[:2] not in ("19", "20") or len(number) > 2:
        return None
    return _numbered_part(letter, int(number), Year(int(year), int(year))) if number else None


def _month_of(tokens: list[Token], year: Year | None) -> Month:
    return Month(MONTH_NUMBERS[tokens[0].text], year)


def _month_and_year(groups: Groups) -> Form | None:
    year = _year_of(groups["year"])
    return _month_of(groups["month"], year) if year else None


def _day_or_year(groups: Groups) -> Form | None:
    number = _number(groups["number"])
    month = MONTH_NUMBERS[groups["month"][0].text]
    if groups["number"][0].letter == "D":
        return DayOrYear(number, month)
    return Unreadable("day") if number else None


# Ranges.


def _month_range(groups: Groups) -> Form | None:
    """Months from one to another: the year of one of them counts for both."""
    start, end = groups["from"], groups["to"]
    last_year = _year_of(groups["year"]) if "year" in groups else None
    if "year" in groups and last_year is None:
        return None
    first_year = _year_of(start[-1:]) if len(start) > 1 else last_year
    return MonthRange(_month_of(start, first_year), _month_of(end, last_year or first_year))


def _numeric_range(groups: Groups) -> Form | None:
    ends = []
    for tokens in (groups["from"], groups["to"]):
        year = next(each for each in tokens if each.letter == "Y")
        month = _month_number(int(next(each.text for each in tokens if each.letter == "D")), year)
        if not isinstance(month, Month):
            return None
        ends.append(month)
    return MonthRange(*ends)


# Dates.


def _digits(groups: Groups) -> Form | None:
    """202501, 012025 or 20250101."""
    text = groups["number"][0].text
    if len(text) == 8 and text[:2] in ("19", "20"):
        return _day((int(text[:4]), int(text[4:6]), int(text[6:])))
    if len(text) != 6:
        return None
    for year, month in ((text[:4], text[4:]), (text[2:], text[:2])):
        if year[:2] in ("19", "20") and 1 <= int(month) <= 12:
            return Month(int(month), Year(int(year), int(year)))
    return None


def _date(groups: Groups) -> Form | None:
    year, month, day = groups["year"][0], groups["month"][0], groups["day"][0]
    if year.marker:
        return None
    number = MONTH_NUMBERS[month.text] if month.letter == "N" else int(month.text)
    return _day((_four_digits(year), number, int(day.text)))


def _date_in_some_order(groups: Groups) -> Form | None:
    """1/2/2025: the month or the day comes first."""
    if groups["year"][0].marker:
        return None
    year = _four_digits(groups["year"][0])
    numbers = _number(groups["month"]), _number(groups["day"])
    return _day((year, *numbers), (year, numbers[1], numbers[0]), numbers=numbers)


def _day(*readings: tuple[int, int, int], numbers: tuple[int, int] | None = None) -> Form | None:
    valid = dict.fromkeys(each for each in readings if _is_day(*each))
    return Day(tuple(valid), numbers) if valid else None


def _is_day(_year: int, month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= _DAYS_IN_MONTH[month - 1]


_BUILDERS: dict[str, Callable[[Groups], Form | None]] = {
    "year": _whole_year,
    "year, part": _part_and_year,
    "part, year": _part_and_year,
    "part": lambda groups: _part_of(groups["part"], None),
    "glued": _glued,
    "month": lambda groups: _month_of(groups["month"], None),
    "month, year": _month_and_year,
    "year, month": _month_and_year,
    "number, month": _day_or_year,
    "month, number": _day_or_year,
    "year, number": lambda groups: _whole_year(
        {"year": [*groups["year"], Token(" ", " "), *groups["number"]]}
    ),
    "number, year": lambda groups: _month_number(_number(groups["number"]), groups["year"][0]),
    "digits": _digits,
    "y m d": _date,
    "n n y": _date_in_some_order,
    "d month y": _date,
    "month d y": _date,
    "y month d": _date,
    "range": _month_range,
    "year, range": _month_range,
    "y m range": _numeric_range,
    "m y range": _numeric_range,
}
