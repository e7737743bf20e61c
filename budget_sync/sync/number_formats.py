"""Number formats of spreadsheets: which numbers they show as percentages and as dates. Pure.

A format has up to four sections, for positive numbers, negative ones, zero and texts, such as
`#,##0.00;[Red]-#,##0.00;"-"`. A section may begin with a condition, such as `[<1]0%;0`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

#: The longest format that is parsed. Excel allows 255 characters.
MAX_FORMAT_CHARS = 1000

#: The formats that Excel files name only by their number, other than those of plain numbers. 14
#: and 22 are shown as the user's system writes dates.
BUILT_IN_FORMATS = {
    9: "0%",
    10: "0.00%",
    14: "yyyy-mm-dd",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd hh:mm",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    **dict.fromkeys((*range(27, 32), *range(34, 37), *range(50, 59)), "yyyy-mm-dd"),
    **dict.fromkeys((32, 33), "hh:mm:ss"),
}

_CONDITIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<>": operator.ne,
}
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)\]")
# One token of a section: a quoted text, an escaped, padding or filling character, a word in
# brackets, a run of date letters, or one other character.
_TOKEN = re.compile(
    r'"[^"]*"?|\\.|_.|\*.|\[[^\]]*\]?|AM/PM|A/P|General|E[+-]|y+|m+|d+|h+|s+|e+|\.0+|.',
    re.IGNORECASE | re.DOTALL,
)
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_DATE_LETTERS = frozenset("ymdhse")
_DIGITS = frozenset("0#?")
_ENGLISH = re.compile(r"\[\$-(?:0{0,4}[048C]09|F[48]00)\]", re.IGNORECASE)
_LOCALE = re.compile(r"\[\$-", re.IGNORECASE)

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
_DAYS_FROM_1900_TO_1904 = 1462
_MAX_SERIAL = 2_958_465  # the last day of the year 9999
_MAX_SECONDS = (_MAX_SERIAL + 1) * 86_400 - 1
_FALSE_LEAP_DAY = 60


class NumberFormat:
    """A parsed format."""

    def __init__(self, code: str) -> None:
        sections = _split_sections(code[:MAX_FORMAT_CHARS])
        self._tests = [_condition(section) for section in sections]
        self._sections = [_TOKEN.findall(section) for section in sections]
        self._kinds = [_kind(tokens) for tokens in self._sections]
        #: Whether some numbers are shown as percentages or dates.
        self.is_special = any(self._kinds)

    def is_percent(self, number: float) -> bool:
        """Whether the number is shown as a percentage."""
        return self._kinds[self._index(number)] == "percent"

    def is_date(self, number: float) -> bool:
        """Whether the number is shown as a date, a time or a duration."""
        return self._kinds[self._index(number)] == "date"

    def show_date(self, number: float, *, from_1904: bool = False) -> str:
        """The date, the time or the duration as a spreadsheet program shows it in English.

        `number` counts days since 1900, or since 1904.
        """
        tokens = self._sections[self._index(number)]
        serial = number + (_DAYS_FROM_1900_TO_1904 if from_1904 else 0)
        if not 0 <= serial < _MAX_SERIAL + 1:
            return f"{Decimal(repr(number)).normalize():f}"
        if any(_LOCALE.match(token) and not _ENGLISH.match(token) for token in tokens):
            tokens = _plain_tokens(tokens)
        return _render(tokens, serial)

    def _index(self, number: float) -> int:
        """The section for a number."""
        for index, test in enumerate(self._tests[:2]):
            if test is not None and test(number):
                return index
        if any(self._tests[:2]):
            return min(len(self._sections) - 1, 2 if all(self._tests[:2]) else 1)
        wanted = 0 if number > 0 else 1 if number < 0 else 2
        return wanted if wanted < min(len(self._sections), 3) else 0


def _split_sections(code: str) -> list[str]:
    """The sections between semicolons, at most three: the fourth is for texts."""
    sections = [""]
    for part in _TOKEN.findall(code):
        if part == ";":
            sections.append("")
        else:
            sections[-1] += part
    return sections[:3]


def _condition(section: str) -> Callable[[float], bool] | None:
    found = _CONDITION.search(section)
    if found is None:
        return None
    compare, limit = _CONDITIONS[found[1]], float(found[2])
    return lambda number: compare(number, limit)


def _kind(tokens: list[str]) -> str:
    """How a section shows numbers: "percent", "date", or "" for anything else."""
    if "%" in tokens:
        return "percent"
    if any(token in _DIGITS or token.lower() in ("general", "e+", "e-") for token in tokens):
        return ""
    return "date" if any(_is_date_token(token) for token in tokens) else ""


def _is_date_token(token: str) -> bool:
    if token[0].lower() in _DATE_LETTERS:
        return token.lower() not in ("general", "e+", "e-")
    return bool(_ELAPSED.fullmatch(token))


def _plain_tokens(tokens: list[str]) -> list[str]:
    """A format with digits only, for one with words of another language."""
    letters = {token[0].lower() for token in tokens if _is_date_token(token)}
    code = "yyyy-mm-dd" if letters & {"y", "d", "e"} or not letters & {"h", "s"} else ""
    time = "hh:mm:ss" if letters & {"h", "s"} else ""
    return _TOKEN.findall(" ".join(filter(None, (code, time))))


def _render(tokens: list[str], serial: float) -> str:
    seconds = round(serial * 86_400, 3)
    has_fraction = any(token.startswith(".0") for token in tokens)
    if not has_fraction:
        seconds = float(round(seconds))
    moment = _moment(seconds)
    is_half_day = any(token.upper() in ("AM/PM", "A/P") for token in tokens)
    shown = []
    for index, token in enumerate(tokens):
        letter = token[0].lower()
        if elapsed := _ELAPSED.fullmatch(token):
            shown.append(_elapsed(elapsed[1].lower(), seconds))
        elif token.upper() in ("AM/PM", "A/P"):
            shown.append(("AM" if moment.hour < 12 else "PM")[: 2 if len(token) > 3 else 1])
        elif letter == "h":
            hour = (moment.hour + 11) % 12 + 1 if is_half_day else moment.hour
            shown.append(f"{hour:0{min(len(token), 2)}}")
        elif letter == "m" and _means_minutes(tokens, index):
            shown.append(f"{moment.minute:0{min(len(token), 2)}}")
        elif letter == "s":
            shown.append(f"{moment.second:0{min(len(token), 2)}}")
        elif token.startswith(".0"):
            shown.append(f".{moment.microsecond:06}"[: len(token)])
        elif letter in _DATE_LETTERS:
            shown.append(_date_part(letter, len(token), moment, serial))
        else:
            shown.append(_literal(token))
    return "".join(shown).strip()


def _moment(seconds: float) -> datetime:
    # Excel has a day 29 February 1900, so that all days before it are one later.
    moved = timedelta(days=1) if seconds < _FALSE_LEAP_DAY * 86_400 else timedelta()
    return _EPOCH + moved + timedelta(seconds=min(seconds, _MAX_SECONDS))


def _date_part(letter: str, length: int, moment: datetime, serial: float) -> str:
    is_false_day = int(serial) == _FALSE_LEAP_DAY
    if letter in "ye":
        return f"{moment.year:04}" if length > 2 or letter == "e" else f"{moment.year % 100:02}"
    if letter == "m":
        name = _MONTHS[1 if is_false_day else moment.month - 1]
        number = 2 if is_false_day else moment.month
        names = {3: name[:3], 5: name[0]}
        return f"{number:0{length}}" if length < 3 else names.get(length, name)
    if length < 3:
        return f"{29 if is_false_day else moment.day:0{length}}"
    return _DAYS[moment.weekday()][: 3 if length == 3 else None]


def _means_minutes(tokens: list[str], index: int) -> bool:
    """Whether an m means minutes: it follows hours or precedes seconds."""
    if len(tokens[index]) > 2:
        return False
    before = next((t for t in reversed(tokens[:index]) if _is_date_token(t)), "")
    after = next((t for t in tokens[index + 1 :] if _is_date_token(t)), "")
    return before.lower().strip("[]").startswith("h") or after.lower().strip("[]").startswith("s")


def _elapsed(unit: str, seconds: float) -> str:
    size = {"h": 3600, "m": 60, "s": 1}[unit[0]]
    return f"{int(seconds // size):0{len(unit)}}"


def _literal(token: str) -> str:
    """The text that a token outside of a date shows."""
    if token.startswith('"'):
        return token.strip('"')
    if token.startswith("\\"):
        return token[1:]
    if token.startswith("_"):
        return " "
    return "" if token.startswith(("*", "[", "@")) else token
