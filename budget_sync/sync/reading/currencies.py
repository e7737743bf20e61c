"""The signs and codes that stand next to an amount, and the currencies that they mean. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from babel.numbers import get_currency_symbol, is_currency

from budget_sync.sync.reading.vocabulary import CURRENCY_WORDS

#: The currencies in which groups of two digits precede the last group of three: 12,34,567.
INDIAN_GROUPS: Final = frozenset(("INR", "PKR", "BDT", "NPR", "LKR"))

_MARKS: Final = {
    "USD": "$ us$ usa$ u.s.$",
    "CAD": "$ c$ ca$ can$ cdn$ cad$",
    "AUD": "$ a$ au$ aud$",
    "NZD": "$ nz$",
    "HKD": "$ hk$",
    "SGD": "$ s$ sg$",
    "MXN": "$ mx$ mex$ m$n",
    "COP": "$ col$",
    "CLP": "$ clp$ ch$",
    "ARS": "$ ar$",
    "TWD": "nt$ ntd",
    "BRL": "r$",
    "EUR": "€ euro euros",
    "GBP": "£ gb£ uk£ stg stg£",
    "EGP": "e£ le l.e",
    "JPY": "¥ jp¥ 円 yen",
    "CNY": "¥ cn¥ 元 rmb yuan",
    "KRW": "₩ 원 won",
    "CHF": "fr sfr fr. sfr. ₣",
    "INR": "₹ rs rs. re",
    "PKR": "₨ rs rs.",
    "LKR": "₨ රු rs rs. slrs",
    "NPR": "₨ रू रु rs rs. nrs",
    "MUR": "₨ rs rs.",
    "BDT": "৳ tk tk. taka",
    "SEK": "kr kr. skr :-",
    "NOK": "kr kr. nkr",
    "DKK": "kr kr. dkr",
    "ISK": "kr kr. íkr",
    "PLN": "zł zł. zl",
    "CZK": "kč kc",
    "HUF": "ft ft.",
    "RON": "lei leu",
    "BGN": "лв лв.",
    "RUB": "₽ руб руб. р р.",  # noqa: RUF001
    "UAH": "₴ грн грн.",
    "TRY": "₺ tl",
    "ILS": "₪ nis ils",
    "AED": "dh dhs dh. dhs. د.إ",
    "SAR": "sr ﷼ ر.س",
    "KWD": "kd د.ك",
    "BHD": "bd د.ب",
    "OMR": "ر.ع",
    "JOD": "jd د.أ",
    "ZAR": "r",
    "NGN": "₦",
    "GHS": "₵ gh₵ gh¢",
    "KES": "ksh kshs ksh. kshs.",
    "UGX": "ush",
    "TZS": "tsh",
    "THB": "฿ baht",
    "VND": "₫ đ",
    "PHP": "₱ php",
    "MYR": "rm",
    "IDR": "rp rp.",
    "PEN": "s/ s/.",
    "BOB": "bs bs.",
    "CRC": "₡",
    "PYG": "₲ gs gs.",
    "KZT": "₸",
    "GEL": "₾",
    "AZN": "₼",
}
_KNOWN_MARKS: Final = frozenset(mark for marks in _MARKS.values() for mark in marks.split())


def fits(tokens: Sequence[str], currency: str) -> bool:
    """Whether the texts next to an amount are signs, codes or words of the currency."""
    phrase = " ".join(token.casefold() for token in tokens)
    return CURRENCY_WORDS.get(phrase) == currency or all(
        _token_fits(token.casefold(), currency) for token in tokens
    )


def _token_fits(token: str, currency: str) -> bool:
    """Whether a text is one mark of the currency, or two without a space: USD$."""
    marks = marks_of(currency)
    if token in marks or token.rstrip(".") in marks:
        return True
    return any(
        token[:cut] in marks and token[cut:] in marks for cut in range(1, min(len(token), 9))
    )


@lru_cache(maxsize=256)
def marks_of(currency: str) -> frozenset[str]:
    """The folded signs of a currency, and its code."""
    symbol = get_currency_symbol(currency, "en_US").casefold()
    return frozenset((currency.casefold(), symbol, *_MARKS.get(currency, "").split()))


def name_currency(tokens: Iterable[str]) -> bool:
    """Whether one of the texts next to an amount is a sign or a code of any currency."""
    return any(
        token.casefold() in _KNOWN_MARKS
        or token.casefold().rstrip(".") in _KNOWN_MARKS
        or any(unicodedata.category(letter) == "Sc" for letter in token)
        or (len(token) == 3 and is_currency(token.upper()))
        or token.casefold() in CURRENCY_WORDS
        for token in tokens
    )
