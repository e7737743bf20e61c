"""Folds names for comparison: all spellings of a department's name have one key. Pure.

Two names are equal if they differ only in letter case, accents written in another way, width of
letters and digits, kinds of dashes, quotes and digits, spaces, invisible characters, or the ".0"
that a spreadsheet adds to a number.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

#: No stored name is longer. Composing the accents of a long text can take quadratic time.
MAX_COMPOSED_LENGTH = 1000

#: Only folded texts of up to this length are cached: the check of a request folds a name each time.
_MAX_CACHED_LENGTH = 100

#: The second round changes what the first one has uncovered; more are needed for few texts.
_MAX_ROUNDS = 8

# Unicode's Default_Ignorable_Code_Point, beyond the categories Cc and Cf: fillers and variation
# selectors, which have no width.
_INVISIBLE = (
    range(0x034F, 0x0350),
    range(0x115F, 0x1161),
    range(0x17B4, 0x17B6),
    range(0x180B, 0x1810),
    range(0x2065, 0x2066),
    range(0x3164, 0x3165),
    range(0xFE00, 0xFE10),
    range(0xFFA0, 0xFFA1),
    range(0xE0000, 0xE1000),
)
_SINGLE_QUOTES = (
    "`\u00b4\u1ffd\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ca\u02cb\u055a\u05f3\u2018\u2019"
    "\u201a\u201b\u2032\u2035\u2039\u203a\u275b\u275c\ua78b\ua78c\uff07\uff40"
)
_DOUBLE_QUOTES = (
    "\u00ab\u00bb\u02ba\u02dd\u02ee\u05f4\u201c\u201d\u201e\u201f\u2033\u2036\u275d\u275e\u301d"
    "\u301e\u301f\uff02"
)
#: Dashes that are not in Unicode's category Pd.
_DASHES = "\u02d7\u2043\u207b\u208b\u2212\u2796"
_SLASHES = "\u2044\u2215\u29f8\uff0f"
_PLAIN = (
    dict.fromkeys(map(ord, _SINGLE_QUOTES), "'")
    | dict.fromkeys(map(ord, _DOUBLE_QUOTES), '"')
    | dict.fromkeys(map(ord, _DASHES), "-")
    | dict.fromkeys(map(ord, _SLASHES), "/")
)

_AROUND_JOINERS = re.compile(r" ?([-/&]) ?")
_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")


class _PlainCharacters:
    """A table for `str.translate`: plain dashes, quotes and digits, without invisible characters.

    It computes each entry when it is asked for, because a table of all characters takes 0.3 s to
    build.
    """

    def __getitem__(self, code: int) -> str:
        if code in _PLAIN:
            return _PLAIN[code]
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Pd":
            return "-"
        if category == "Nd":
            return str(unicodedata.decimal(character))
        if category == "Cf" or any(code in each for each in _INVISIBLE):
            return ""
        if category == "Cc" and not character.isspace():
            return ""
        return character


_PLAIN_CHARACTERS = _PlainCharacters()


def fold(text: str) -> str:
    """The key of a name, in which all spellings of the name are equal.

    The key of a key is itself. A text that is too long for a name keeps its accents as they are.
    """
    return _fold_short(text) if len(text) <= _MAX_CACHED_LENGTH else _fold(text)


def _fold(text: str) -> str:
    if _is_plain(text):
        return _folded(text)
    for _ in range(_MAX_ROUNDS):
        folded = _fold_once(text)
        # ASCII text is folded in one round.
        if folded == text or folded.isascii():
            return folded
        text = folded
    return text


_fold_short = lru_cache(maxsize=4096)(_fold)


def plain(text: str) -> str:
    """The text with plain dashes, quotes and digits, and without invisible characters."""
    if _is_plain(text):
        return text
    text = text.translate(_PLAIN_CHARACTERS)
    if len(text) <= MAX_COMPOSED_LENGTH:
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN_CHARACTERS)
    return text


def _is_plain(text: str) -> bool:
    """Whether a text has only characters of ASCII that have a width and are not folded."""
    return text.isascii() and text.isprintable() and "`" not in text


def _fold_once(text: str) -> str:
    """One round. A few letters need two: \u0390 folds into more characters than its capital."""
    return _folded(plain(text))


def _folded(text: str) -> str:
    folded = " ".join(text.casefold().split())
    # Most names have none of these, and no digit at the start.
    if "-" in folded or "/" in folded or "&" in folded:
        folded = _AROUND_JOINERS.sub(r"\1", folded).strip()
    if folded[:1].isdigit() and (number := _WHOLE_NUMBER.fullmatch(folded)):
        return number[1]
    return folded
