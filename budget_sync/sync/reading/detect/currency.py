"""Step 12: the currency and the sign of the amounts. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Literal

from budget_sync.domain.names import fold
from budget_sync.sync.reading.detect.cells import currency_of, is_code
from budget_sync.sync.reading.detect.findings import Findings, listed, word_set
from budget_sync.sync.reading.detect.sheet import Column, Sheet
from budget_sync.sync.reading.headings import Role
from budget_sync.sync.reading.model import CurrencyColumn, CurrencyConstant
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.vocabulary import CURRENCY_WORDS

_MIN_SHARE = 0.8
_MIN_NEGATIVE_SHARE = 0.95
_MAX_OPTIONS = 10

#: The currencies that share a sign: dollars, yen and kroner.
_SHARED_SIGNS = {
    "$": ("USD", "CAD", "AUD", "NZD", "HKD", "SGD", "MXN", "COP", "CLP", "ARS"),
    "¥": ("JPY", "CNY"),
    "kr": ("SEK", "NOK", "DKK"),
}

#: Codes that are looked for in titles and headings. Others are also words: ALL, TOP, CUP, TRY.
_TITLE_CODES = word_set(
    """USD EUR GBP CHF CAD AUD NZD JPY CNY INR ILS SEK NOK DKK PLN CZK HUF RON MXN BRL ARS CLP COP
    ZAR SGD HKD KRW AED SAR KWD BHD OMR"""
)
_CAPITALS = re.compile(r"(?<![^\W_])(T|k)?([A-Z]{3})(?![^\W_])")
_SIGNS = re.compile(r"(?:(?<![A-Za-z])(?:US|C|A|NZ|HK))?[$€£¥₹₪]")
_SEARCHED_CHARS = 1000


def currency_column(sheet: Sheet, used: Collection[Column], findings: Findings) -> Column | None:
    """The column of currencies: at least 80% of its cells are codes or words for currencies."""
    candidates = sorted(
        (column for column in sheet.columns if _score(column) and column not in used),
        key=lambda column: -_score(column),
    )
    for column in candidates:
        known = sum(times for text, times in column.values.items() if code_of(text))
        if column.filled and known >= _MIN_SHARE * column.filled:
            return column
        if column.filled:
            findings.note(f"'{column.name}' is not used as the currency: few values are codes.")
    return None


def _score(column: Column) -> float:
    return column.roles.get(Role.CURRENCY, 0)


def code_of(text: str) -> str | None:
    """The code that a currency cell means: a code, or a word such as "US Dollar"."""
    folded = fold(text)
    return CURRENCY_WORDS.get(folded) or (text.upper() if is_code(text.upper()) else None)


def column_reading(sheet: Sheet, column: Column) -> CurrencyColumn:
    """The currency column with its words that are not codes."""
    words = {
        fold(text): CURRENCY_WORDS[fold(text)]
        for text in sheet.counts(column)
        if fold(text) in CURRENCY_WORDS
    }
    return CurrencyColumn(column=column.name, words=words)


def find_currency(
    texts: Iterable[str], amounts: Iterable[str], findings: Findings
) -> CurrencyConstant | None:
    """The currency of a sheet without a currency column; None for the customer's.

    `texts` are the title and the amount headings, `amounts` the texts of the amount cells.
    """
    own = findings.customer.currency
    seen: dict[str, None] = {}
    for text in texts:
        seen.update(dict.fromkeys(_codes_in(text[:_SEARCHED_CHARS])))
    for amount in dict.fromkeys(amounts):
        if code := currency_of(amount):
            seen.setdefault(code)
    others = [code for code in seen if not _fits(code, own)]
    if not others:
        return None
    options = dict.fromkeys(code for sign in others for code in _SHARED_SIGNS.get(sign, (sign,)))
    question = Question(
        "currency",
        f"The sheet mentions {listed(others, 4)}; the customer's currency is {own}. Which one are "
        "the amounts in?",
        tuple(dict.fromkeys([*list(options)[:_MAX_OPTIONS], own])),
    )
    answer = findings.ask_one(question)
    return CurrencyConstant(constant=answer) if answer else None


def _fits(code: str, own: str) -> bool:
    """Whether a code or a sign that several currencies share may mean the customer's currency."""
    return code == own or own in _SHARED_SIGNS.get(code, ())


def _codes_in(text: str) -> list[str]:
    """The codes and signs of currencies in a title or a heading."""
    found = [match[2] for match in _CAPITALS.finditer(text) if match[2] in _TITLE_CODES]
    if "TEUR" in text or "T€" in text:
        found.append("EUR")
    signs = (currency_of(f"{match[0]}1") for match in _SIGNS.finditer(text))
    return [*found, *(code for code in signs if code)]


def find_sign(amounts: Sequence[Decimal], findings: Findings) -> Literal["as is", "negate"]:
    """Whether budgets are written as negative amounts."""
    exact = [amount for amount in amounts if amount]
    negative = sum(amount < 0 for amount in exact)
    if not exact or negative < _MIN_NEGATIVE_SHARE * len(exact):
        return "as is"
    question = Question(
        "sign",
        "The amounts are negative. Are they budgets with the sign reversed?",
        ("negate", "as is"),
    )
    return "negate" if findings.ask_one(question) == "negate" else "as is"
