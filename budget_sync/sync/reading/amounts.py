"""Reads the amount in a cell: a number, or text with the marks of the sheet. Exact and pure."""

from __future__ import annotations

import re
import unicodedata
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Final

from budget_sync.domain.money import LIMIT_MINOR, MAX_EXPONENT, currency_exponent
from budget_sync.sync.limits import MAX_CELL_CHARS, MAX_QUOTED_CHARS, cut, quoted
from budget_sync.sync.reading.currencies import INDIAN_GROUPS, fits, marks_of, name_currency
from budget_sync.sync.reading.grid import Cell, DateCell, LongCell, PercentCell, UncalculatedCell
from budget_sync.sync.reading.model import Marks

#: Amounts are added as integers with this many decimals. The noise of a formula has up to 27.
SCALE_DIGITS: Final = 30
SCALE: Final = 10**SCALE_DIGITS
_POWERS: Final[list[int]] = [10 ** (SCALE_DIGITS - decimals) for decimals in range(3)]
_UNITS: Final[list[int]] = [10 ** (SCALE_DIGITS - each) for each in range(MAX_EXPONENT + 1)]

# Sheets and Excel: #REF!, #VALUE!, #NAME?, #DIV/0!, #N/A, and other languages' spellings of them.
_FORMULA_ERROR = re.compile(r"#\S*[!?]|#N/A|#NV|#N/D|#ND|#GETTING_DATA|Err:[0-9]{3}", re.IGNORECASE)
_LOADING = re.compile(
    r"(?:loading|wird geladen|chargement|cargando|caricamento|carregando)\s*(?:\.\.\.|…)",
    re.IGNORECASE,
)
#: A number of so many digits is below the limit of every currency.
_SHORT: Final = 11
_MAX_COMMON: Final = 17

#: Whole numbers below it are exact as floats.
_EXACT: Final = 2.0**53

# Most amounts. With at most two decimals, they are never ambiguous.
_COMMON = re.compile(
    r"(?P<minus>-?)(?P<sign>\$?)(?P<whole>[1-9][0-9]{0,2}(?:,[0-9]{3}){1,4}|[0-9]{1,15})"
    r"(?:\.(?P<decimals>[0-9]{1,2}))?"
)
_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_INDIAN = re.compile(r"[1-9][0-9]?(?:,[0-9]{2})*,[0-9]{3}(?:\.[0-9]+)?")
# One to three digits before the mark, or groups, and three digits after it.
_AMBIGUOUS = re.compile(r"(?:[1-9][0-9]{0,2}|[0-9,]*,[0-9]{3})\.[0-9]{3}")
_SCIENTIFIC = re.compile(
    r"(?P<sign>-?)(?P<number>[0-9]+(?:[.,][0-9]+)?)e(?P<power>[+-]?[0-9]{1,3})"
)
_NO_CENTS = re.compile(r"[.,]-{1,2}")
_JOINED_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\s\d(])")
_SIGNS_AND_BRACKETS = str.maketrans("", "", "+-()")
_UNIT_WORDS: Final = frozenset(
    """k m b mm mn mln mio mill bn bln tsd teur keur meur kusd musd mrd md mds milliard
    milliards million millions millionen millones mille mil thousand thousands tausend lac
    lacs lakh lakhs crore crores cr""".split()  # noqa: SIM905
)
_PLAIN: Final = dict.fromkeys("\u2019\u2018\u02bc\u2032\u00b4`\uff07", "'") | {
    **dict.fromkeys("\u2212\u207b\u2796", "-"),
    "\uffe5": "¥",
    "\uffe1": "£",
    "\ufe69": "$",
    "\u066a": "%",
}
_ROUNDING = Context(prec=2000, rounding=ROUND_HALF_EVEN)


class CellError(ValueError):
    """A cell that cannot be used.

    The text follows the column's name in a sentence: what is wrong with the cell, and what to do.
    """


class AmountReader:
    """Reads the amounts of one sheet."""

    def __init__(self, marks: Marks) -> None:
        self._decimal, self._group = marks.decimal, marks.group
        self._example = f"5{marks.group}000{marks.decimal}50"
        # Common amounts are matched as if they were written 5,000.50.
        self._usual = None
        if (marks.decimal, marks.group) != (".", ","):
            self._usual = str.maketrans(
                {**dict.fromkeys(".,' ", "?"), marks.decimal: ".", marks.group: ","}
            )

    def read(self, cell: Cell, currency: str) -> Decimal:
        """The amount in a cell. Raises CellError."""
        return to_decimal(self.scaled(cell, currency))

    def scaled(self, cell: Cell, currency: str) -> int:
        """As `read`, as an integer: the amount times SCALE."""
        if isinstance(cell, str):
            common = self.common(cell, currency)
            return self._text(cell, currency) if common is None else common
        return _within_limit(_number(cell, currency), currency)

    def common(self, cell: str, currency: str) -> int | None:
        """As `scaled`, for the way in which most amounts are written; None for other text."""
        size = len(cell)
        if size <= _SHORT and cell.isascii():
            if cell.isdecimal():
                return int(cell) * SCALE
            whole, _, decimals = cell.partition(self._decimal)
            digits = whole + decimals
            if digits.isdecimal() and whole and 1 <= len(decimals) <= 2:
                return int(digits) * _POWERS[len(decimals)]
        return self._matched(cell, currency) if size <= _MAX_COMMON else None

    def _matched(self, cell: str, currency: str) -> int | None:
        """As `common`, for an amount that may have a sign and groups."""
        usual = cell if self._usual is None else cell.translate(self._usual)
        found = _COMMON.fullmatch(usual)
        if found is None:
            return None
        minus, sign, whole, decimals = found.groups("")
        if sign and "$" not in marks_of(currency):
            return None
        scaled: int = int(whole.replace(",", "") + decimals) * _POWERS[len(decimals)]
        if scaled >= limit_of(currency) * SCALE:
            return None
        return -scaled if minus else scaled

    def _text(self, cell: str, currency: str) -> int:
        if len(cell) > MAX_CELL_CHARS:
            raise CellError(sentence(LongCell(len(cell)).problem("")))
        text = plain_number(cell)
        if not text:
            raise CellError("is blank. Enter an amount, or 0.")
        reject_unfinished(text)
        if text.casefold() in ("true", "false"):
            raise CellError(f"is {text.upper()}. Enter a number.")
        scientific = _SCIENTIFIC.fullmatch(text.casefold())
        if scientific:
            return _within_limit(_scientific(scientific, cell), currency)
        has_digits = any(letter.isdigit() for letter in text)
        if has_digits and ("%" in text or "‰" in text):
            raise CellError(f"is {quoted(cell.strip())}, a percentage. Enter the amount.")
        return _within_limit(self._marked(text, cell.strip(), currency), currency)

    def _marked(self, text: str, shown: str, currency: str) -> int:
        """As `scaled`, for text that may have a sign, brackets, a currency and marks."""
        before, number, after = self._parts(text)
        has_no_cents = bool(number) and bool(_NO_CENTS.match(after))
        if has_no_cents:
            after = _NO_CENTS.sub("", after, count=1)
        before = _JOINED_HYPHEN.sub("", before)
        tokens = f"{before} {after}".translate(_SIGNS_AND_BRACKETS).split()
        if any(_is_unit(token) for token in tokens):
            raise CellError(f"is {quoted(shown)}. Write the number out.")
        negative = _is_negative(before, after) if number else _is_dash(before)
        if negative is None or (has_no_cents and self._decimal in number):
            raise self._not_a_number(shown)
        if tokens and not fits(tokens, currency):
            if name_currency(tokens):
                raise CellError(
                    f"is {quoted(shown)}, but the row is in {currency}. Use the same currency in "
                    "both."
                )
            raise self._not_a_number(shown)
        if not number:
            return 0
        scaled = self._digits(number, shown, currency)
        return -scaled if negative else scaled

    def _parts(self, text: str) -> tuple[str, str, str]:
        """What precedes the number, the number from its first to its last digit, and the rest."""
        places = [place for place, letter in enumerate(text) if "0" <= letter <= "9"]
        if not places:
            return text, "", ""
        start, end = places[0], places[-1] + 1
        # ".5" is a half, and "Rs.5" is 5.
        if text[:start].endswith(self._decimal) and not text[: start - 1][-1:].isalpha():
            start -= 1
        return text[:start], text[start:end], text[end:]

    def _digits(self, number: str, shown: str, currency: str) -> int:
        """The value of digits with marks. Raises CellError."""
        if any(letter in ".,' " for letter in number.translate(self._own_marks())):
            raise self._not_a_number(shown)
        written = number.translate(
            {ord(self._decimal): ".", ord(self._group): ",", 0x66B: ".", 0x66C: ","}
        )
        if not (
            _PLAIN_NUMBER.fullmatch(written)
            or _GROUPED.fullmatch(written)
            or (currency in INDIAN_GROUPS and _INDIAN.fullmatch(written))
        ):
            raise self._not_a_number(shown)
        whole, _, decimals = written.replace(",", "").partition(".")
        if (
            _AMBIGUOUS.fullmatch(written)
            and "\u066b" not in number
            and currency_exponent(currency) != 3
        ):
            raise CellError(
                f"is {quoted(shown)}: {whole}{decimals}, or {whole} and a fraction? Write it "
                "without the mark, or with two decimals."
            )
        return from_decimal(Decimal(f"{whole or 0}.{decimals or 0}"))

    def _own_marks(self) -> dict[int, None]:
        return {ord(self._decimal): None, ord(self._group): None}

    def _not_a_number(self, shown: str) -> CellError:
        return CellError(
            f"is {quoted(shown)}, which is not a number in this sheet. Enter one such as "
            f"{self._example}."
        )


def plain_number(text: str) -> str:
    """The text with ASCII digits, spaces, dashes and apostrophes, and no invisible characters.

    Superscripts stay as they are: they are footnotes.
    """
    if text.isascii():
        return text.strip()
    return "".join(map(_plain_character, text)).strip()


def _plain_character(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    return {"Zs": " ", "Pd": "-", "Cf": ""}.get(category, character)


def reject_unfinished(text: str) -> None:
    """Raise CellError if the text is a formula's error, or shows that the sheet is calculating."""
    if _FORMULA_ERROR.fullmatch(text):
        raise CellError(f"shows {cut(text, MAX_QUOTED_CHARS)}. Repair its formula.")
    if _LOADING.fullmatch(text):
        raise CellError(
            f"shows {text!r}. The sheet had not finished calculating. The next sync run reads it "
            "again."
        )


def sentence(problem: str) -> str:
    """A problem that ends with a full stop, so that another sentence can follow."""
    return problem if problem.endswith(".") else f"{problem}."


def to_decimal(scaled: int) -> Decimal:
    """An amount that was multiplied by SCALE, exactly."""
    whole, rest = divmod(abs(scaled), SCALE)
    sign = "-" if scaled < 0 else ""
    decimals = f"{rest:0{SCALE_DIGITS}d}".rstrip("0")
    return Decimal(f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}")


def from_decimal(number: Decimal) -> int:
    """A number below 10^100 times SCALE; decimals beyond the scale are rounded half-even."""
    if not number or number.adjusted() < -SCALE_DIGITS - 1:
        return 0
    scaled = number.scaleb(SCALE_DIGITS, _ROUNDING)
    whole: int = int(scaled.to_integral_value(ROUND_HALF_EVEN, _ROUNDING))
    return whole


def round_minor(scaled: int, exponent: int) -> int:
    """An amount that was multiplied by SCALE, in minor units, rounded half-even."""
    unit = _UNITS[exponent]
    minor, rest = divmod(scaled, unit)
    if 2 * rest > unit or (2 * rest == unit and minor % 2):
        minor += 1
    return minor


def is_numeric(cell: Cell) -> bool:
    """Whether a cell is a number, or text of digits with marks, a sign, a currency or a `%`."""
    if cell is None or isinstance(cell, bool):
        return False
    if not isinstance(cell, str):
        return not isinstance(cell, LongCell | UncalculatedCell | DateCell)
    if cell.isdecimal():
        return True
    text = plain_number(cell[:100])
    rest = "".join(letter for letter in text if letter not in "0123456789.,'+-()% ")
    has_digits = any("0" <= letter <= "9" for letter in text)
    return has_digits and (not rest or name_currency([rest]))


def _is_unit(token: str) -> bool:
    """Whether a text next to a number multiplies it: k, Mio., m€."""
    letters = "".join(c for c in token if unicodedata.category(c) != "Sc").rstrip(".").casefold()
    return letters in _UNIT_WORDS or (letters == "t" and len(token) > 1)


def _is_negative(before: str, after: str) -> bool | None:
    """Whether a sign or brackets make a number negative; None if they contradict each other."""
    brackets = before.count("(")
    if ")" in before or "(" in after or after.count(")") != brackets or brackets > 1:
        return None
    minus = before.count("-") + after.count("-")
    plus = before.count("+") + after.count("+")
    if minus > 1 or plus > 1 or (plus and (minus or brackets)):
        return None
    return bool(minus or brackets)


def _is_dash(text: str) -> bool | None:
    """False for a lone dash, which is 0; None for other text without digits."""
    bare = text.strip(" ()")
    return False if bare.count("-") == 1 and (bare[0] == "-" or bare[-1] == "-") else None


def _scientific(match: re.Match[str], cell: str) -> int:
    """The noise of a formula, such as -2.91038E-11. Raises CellError for a large number."""
    if not match["power"].startswith("-"):
        raise CellError(
            f"is {quoted(cell.strip())}, which has lost digits. Format the column as a number."
        )
    number = match["number"].replace(",", ".")
    return from_decimal(Decimal(f"{match['sign']}{number}e{match['power']}"))


def _number(cell: Cell, currency: str) -> int:
    """The amount in a cell that is not text, times SCALE. Raises CellError."""
    if cell is None:
        raise CellError("is blank. Enter an amount, or 0.")
    if isinstance(cell, bool):
        raise CellError(f"is {str(cell).upper()}. Enter a number.")
    if isinstance(cell, DateCell) and cell.shown is not None:
        raise CellError(
            f"is {quoted(cell.shown)}, which the sheet stores as a date. Enter a number."
        )
    if isinstance(cell, DateCell | LongCell | PercentCell | UncalculatedCell):
        raise CellError(sentence(cell.problem("Enter a number.")))
    if isinstance(cell, int):
        return cell * SCALE
    if isinstance(cell, float) and -_EXACT < cell < _EXACT and cell.is_integer():
        return int(cell) * SCALE
    number = Decimal(repr(cell)) if isinstance(cell, float) else Decimal(cell)
    if not number.is_finite():
        raise CellError(f"is {cut(str(number), MAX_QUOTED_CHARS)}. Enter a number.")
    if number.adjusted() > 20:
        raise too_large(currency)
    return from_decimal(number)


def _within_limit(scaled: int, currency: str) -> int:
    """The amount. Raises CellError if it has 10^15 minor units or more."""
    if abs(scaled) >= limit_of(currency) * SCALE:
        raise too_large(currency)
    return scaled


def too_large(currency: str) -> CellError:
    """The error for an amount that is too large."""
    return CellError(f"is too large. Enter less than {limit_of(currency):,}.")


@lru_cache(maxsize=256)
def limit_of(currency: str) -> int:
    """Amounts of a currency are below this many whole units."""
    limit: int = LIMIT_MINOR // 10 ** currency_exponent(currency)
    return limit
