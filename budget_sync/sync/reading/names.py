"""Reads departments and Budget IDs: cells -> names as people write them, and their keys. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from budget_sync.domain.names import fold
from budget_sync.sync.limits import MAX_CELL_CHARS, MAX_QUOTED_CHARS, cut, quoted
from budget_sync.sync.reading.amounts import CellError, reject_unfinished, sentence
from budget_sync.sync.reading.grid import Cell, DateCell, LongCell, PercentCell, UncalculatedCell
from budget_sync.sync.reading.header import digits
from budget_sync.sync.reading.totals import is_pure_total, is_total_like
from budget_sync.sync.reading.vocabulary import TOTAL_PHRASES, TOTAL_WORDS

MAX_NAME_CHARS: Final = 200
MAX_ID_CHARS: Final = 100

#: A number cell keeps 15 digits. What follows them is lost.
_LOST_FROM: Final = 10**15

_PLAIN_ID = re.compile(r"(?=[^0-9])[A-Za-z0-9_@:/][A-Za-z0-9._@:/-]{0,99}")
_LOST_DIGITS = re.compile(r"[0-9](?:[.,][0-9]+)?e[+-][0-9]{1,3}", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")
_MAX_CODE_CHARS: Final = 8

# Every name that reads like a total contains one of these. Most names do not, and are not analyzed.
_TOTAL_HINT = re.compile(
    "|".join(
        sorted(map(re.escape, TOTAL_WORDS | {word for pair in TOTAL_PHRASES for word in pair}))
    )
)

# A name must be typed text: the text that a date cell shows changes with the cell's format, and
# the number behind it means nothing to people.
_AS_TEXT = "format the cell as plain text, and type it again"


class TotalKind(Enum):
    """How a name reads. NAMED is in the reading's list of subtotals."""

    NONE = ""
    LIKE = "like"
    PURE = "pure"
    NAMED = "named"


class Name(NamedTuple):
    """A department as written and its key; both are blank if there is a problem, or no name.

    A problem follows the column's name in a sentence. A name that does not read like a total is
    plain.
    """

    text: str
    key: str
    problem: str | None = None
    total: TotalKind = TotalKind.NONE
    is_plain: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether there is neither a name nor a problem."""
        return not self.key and self.problem is None


NO_NAME: Final = Name("", "")


class Names(dict[Cell, Name]):
    """The departments of the cells of one sheet. Texts are read once, other cells each time."""

    def __init__(
        self,
        *,
        strip_codes: bool = False,
        subtotals: Iterable[str] = (),
        departments: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._strip_codes = strip_codes
        self._subtotals = frozenset(map(fold, subtotals))
        self._departments = frozenset(map(fold, departments))
        self._first_spellings: dict[str, str] = {}
        #: All spellings of the departments with more than one, by key.
        self.spellings: dict[str, dict[str, None]] = {}

    def __missing__(self, cell: Cell) -> Name:
        """Read the cell."""
        try:
            text = clean_text(cell, MAX_NAME_CHARS)
        except CellError as error:
            name = Name("", "", str(error))
        else:
            name = self._of_text(text)
        # Only texts are stored, because 1, 1.0 and TRUE are equal as keys.
        if isinstance(cell, str):
            self[cell] = name
        return name

    def _of_text(self, written: str) -> Name:
        text = without_code(written) if self._strip_codes else written
        key = fold(text)
        if not key:
            return NO_NAME
        first = self._first_spellings.setdefault(key, text)
        if first != text:
            self.spellings.setdefault(key, {first: None})[text] = None
        total = self._total_kind(written, key)
        return Name(text, key, None, total, total is TotalKind.NONE)

    def _total_kind(self, written: str, key: str) -> TotalKind:
        other = fold(written) if self._strip_codes else key
        if key in self._subtotals or other in self._subtotals:
            return TotalKind.NAMED
        if not _TOTAL_HINT.search(key) and (other == key or not _TOTAL_HINT.search(other)):
            return TotalKind.NONE
        if key in self._departments or other in self._departments:
            return TotalKind.NONE
        if is_pure_total(written):
            return TotalKind.PURE
        return TotalKind.LIKE if is_total_like(written) else TotalKind.NONE


class BudgetId(NamedTuple):
    """A Budget ID: None if the cell is blank, or if there is a problem with it.

    If the cell is a date by mistake, `possible` still identifies its budget.
    """

    text: str | None
    problem: str | None = None
    possible: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether there is neither an ID nor a problem."""
        return self.text is None and self.problem is None


NO_ID: Final = BudgetId(None)


class BudgetIds(dict[Cell, BudgetId]):
    """The Budget IDs of the cells of one sheet."""

    def __missing__(self, cell: Cell) -> BudgetId:
        """Read the cell."""
        found = _budget_id(cell)
        if isinstance(cell, str):
            self[cell] = found
        return found


def _budget_id(cell: Cell) -> BudgetId:
    if isinstance(cell, str) and len(cell) <= MAX_ID_CHARS and _PLAIN_ID.fullmatch(cell):
        return BudgetId(cell)
    try:
        return BudgetId(clean_text(cell, MAX_ID_CHARS) or None)
    except CellError as error:
        possible = digits(cell.number) if isinstance(cell, DateCell) else None
        return BudgetId(None, str(error), possible)


def has_lost_digits(problem: str | None) -> bool:
    """Whether a problem with a name is that its digits are lost."""
    return problem is not None and problem.endswith(_LOST)


_LOST = "which has lost digits. Format the column as text."


def clean_text(cell: Cell, max_chars: int) -> str:
    """A cell as a name with single spaces and without invisible characters; blank without one.

    Raises CellError.
    """
    if isinstance(cell, str):
        return _plain(cell, max_chars) or _clean(cell, max_chars)
    if cell is None:
        return ""
    if isinstance(cell, bool):
        raise CellError(f"is {str(cell).upper()}. Enter a name.")
    if isinstance(cell, DateCell | LongCell | PercentCell | UncalculatedCell):
        raise CellError(sentence(cell.problem(_AS_TEXT)))
    if abs(float(cell)) >= _LOST_FROM:
        raise CellError(f"is '{cell}', {_LOST}")
    return digits(cell)


def _plain(text: str, max_chars: int) -> str | None:
    """As `clean_text`, for most names; None for one that may be a number or a formula's error."""
    if len(text) <= max_chars and text[:1].isalpha() and text.isascii() and text.isprintable():
        clean = " ".join(text.split())
        if clean[0] not in "eE" and clean[-1] != ".":
            return clean
    return None


def _clean(text: str, max_chars: int) -> str:
    if len(text) > MAX_CELL_CHARS:
        if not text.strip():
            return ""
        raise CellError(sentence(LongCell(len(text)).problem("")))
    clean = visible(text)
    # The CSV export of the console puts an apostrophe before a text that may be a formula.
    if clean[:1] == "'" and clean[1:2] in ("-", "+", "@", "="):
        clean = clean[1:]
    if clean[:1].isdecimal():
        if _LOST_DIGITS.fullmatch(clean):
            raise CellError(f"is {quoted(clean)}, {_LOST}")
        if number := _WHOLE_NUMBER.fullmatch(clean):
            clean = number[1]
    elif clean[:1] in "#eE" or clean[-1:] in ".…":
        reject_unfinished(clean)
    if len(clean) > max_chars:
        raise CellError(f"is longer than {max_chars} characters. Shorten it.")
    if not clean.isprintable():
        shown = ascii(cut(clean, MAX_QUOTED_CHARS))
        raise CellError(f"has control characters ({shown}). Type it again.")
    return clean


def visible(text: str) -> str:
    """The text with single spaces and without characters that have no width."""
    if not text.isascii():
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(text.split())


def without_code(name: str) -> str:
    """The name without `CODE - ` in front of it: 1 to 8 capitals or digits, and a dash or colon."""
    for place, letter in enumerate(name[: _MAX_CODE_CHARS + 2]):
        if letter == ":" or unicodedata.category(letter) == "Pd":
            code, rest = name[:place].rstrip(), name[place + 1 :].strip()
            is_code = 1 <= len(code) <= _MAX_CODE_CHARS and all(
                each.isalnum() and not each.islower() for each in code
            )
            return rest if is_code and rest else name
    return name
