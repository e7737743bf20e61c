"""Splits a period's text into tokens: the words, numbers and separators that periods consist of.

The types of the tokens, written one after the other, are the shape of the text. `forms` says which
shapes are periods. Shapes use these letters:

    Y   a four-digit year, or a two-digit year with an apostrophe or a year word
    D   a number of two digits; d, of one digit; L, of more digits
    Q H T P M   a word for quarter, half, T (quarter or third), period or month number
    N   the name of a month
    J   a word that joins the ends of a range: "to", "bis"
    F   a year word that has no year next to it
    - / and space   separators; a run of separators is one
    U   anything else
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from budget_sync.domain.names import fold

#: No form of a period is longer. A longer text is not matched against the forms and not cached.
MAX_FORM_LENGTH = 100

#: No form of a period has more tokens.
MAX_TOKENS = 24


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MONTHS = (
    "jan january januar janner jaenner janvier janv enero ene",
    "feb february februar feber fevrier fevr fev febrero",
    "mar march marz maerz mrz mars marzo",
    "apr april avril avr abril abr",
    "may mai mayo",
    "jun june juni juin junio",
    "jul july juli juillet juil julio",
    "aug august aout agosto ago",
    "sep sept september septembre septiembre setiembre",
    "oct october okt oktober octobre octubre",
    "nov november novembre noviembre",
    "dec december dez dezember decembre dic diciembre",
)
MONTH_NUMBERS = {
    word: number for number, words in enumerate(_MONTHS, start=1) for word in words.split()
}

#: The marker of a year word says what else it tells: that the year is a fiscal or a calendar year.
FISCAL, CALENDAR, PLAIN = "fiscal", "calendar", ""

_YEAR_WORDS = {
    FISCAL: "fy fiscalyear fiscal financialyear budgetyear gj geschaftsjahr geschaeftsjahr "
    "geschaftsjahres geschaeftsjahres haushaltsjahr haushaltsjahres wirtschaftsjahr exercice "
    "exercicefiscal exercicebudgetaire ejercicio ejerciciofiscal anneefiscale "
    "anneebudgetaire anofiscal",
    CALENDAR: "cy calendaryear kalenderjahr anneecivile anocalendario anocivil",
    PLAIN: "fullyear year jahr annee ano",
}
YEAR_WORDS = {word: marker for marker, words in _YEAR_WORDS.items() for word in words.split()}
#: Year words only before a four-digit year.
_LONG_YEAR_WORDS = _words("by hj")

_PARTS = {
    "Q": "q fq fyq quarter qtr quartal trim trimestre quarters fiscalquarter",
    "H": "h hy half hj s halbjahr semestre fh fyh halfyear",
    "T": "t",
    "P": "p per period pd fp periode fyp fiscalperiod",
    "M": "m",
}
PART_LETTERS = {word: letter for letter, words in _PARTS.items() for word in words.split()}

_JOINERS = _words("to bis a")
#: Words between a part and its year: "1er trimestre de 2025".
_FILLERS = _words("of de del des du the")

_ORDINAL_SUFFIXES = _words("st nd rd th er ere re e eme o do ro to a da ra ta te tes ter")
_ORDINALS = {
    word: str(number)
    for number, words in enumerate(
        (
            "first i erste erstes erster premier premiere primer primero primera",
            "second ii zweite zweites zweiter deuxieme segundo segunda",
            "third iii dritte drittes dritter troisieme tercer tercero tercera",
            "fourth iv vierte viertes vierter quatrieme cuarto cuarta",
        ),
        start=1,
    )
    for word in words.split()
}

_PLACEHOLDERS = _words(
    "tbd tba tbc na ka null none nil nan unknown offen x all allyear ongoing annual annually "
    "yearly monthly quarterly fullyear tobedetermined tobeannounced tobeconfirmed "
    "notavailable notapplicable"
)

_BRACKETS = str.maketrans("()[]{}<>", "        ")
_TOKEN = re.compile(r"[^\W\d_]+|[0-9]+|\W|_")
_SEPARATORS = " ./-,_:"


#: The types of words and separators.
_LETTERS = (
    dict.fromkeys(_LONG_YEAR_WORDS, "F")
    | dict.fromkeys(YEAR_WORDS, "F")
    | PART_LETTERS
    | dict.fromkeys(MONTH_NUMBERS, "N")
    | dict.fromkeys(_JOINERS, "J")
    | dict.fromkeys(_FILLERS, " ")
    | dict.fromkeys(_SEPARATORS, " ")
    | {"-": "-", "/": "/", "'": "'"}
)


class Token(NamedTuple):
    """A token: the letter of its type, its text, and for a year its marker."""

    letter: str
    text: str
    marker: str = PLAIN


def fold_period(text: str) -> str:
    """A period's text for the comparison with the forms: folded, without accents and brackets."""
    folded = fold(text)
    if not folded.isascii():
        letters = unicodedata.normalize("NFD", folded)
        folded = "".join(each for each in letters if unicodedata.category(each) != "Mn")
    return fold(folded.translate(_BRACKETS))


def is_placeholder(folded: str) -> bool:
    """Whether a folded text stands for "no period yet". A text of marks only is one too."""
    letters = "".join(each for each in folded if each.isalnum())
    return not letters or letters in _PLACEHOLDERS


def tokens_of(folded: str) -> list[Token]:
    """The tokens of a folded text. A text with too many tokens has a token of type U."""
    pieces = _TOKEN.findall(folded)
    if len(pieces) > 2 * MAX_TOKENS:
        return [Token("U", folded)]
    found = _years(_joined(_without_ordinals(_phrases(pieces))))
    return found if len(found) <= MAX_TOKENS else [Token("U", folded)]


def shape_of(tokens: list[Token]) -> str:
    """The types of the tokens as one text."""
    return "".join(each.letter for each in tokens)


def _is_separator(piece: str) -> bool:
    return piece in _SEPARATORS


def _phrases(pieces: list[str]) -> list[str]:
    """The pieces with two words of one term as one: "fiscal" and "year", "f", ".", "y" and "."."""
    found: list[str] = []
    position = 0
    while position < len(pieces):
        piece, length = pieces[position], 1
        after = position + 1
        if after + 1 < len(pieces) and _is_separator(pieces[after]):
            both = piece + pieces[after + 1]
            is_short = piece in ("f", "c", "b") and pieces[after + 1] == "y"
            if (is_short or len(piece) > 1) and (
                both in YEAR_WORDS or both in PART_LETTERS or both in _LONG_YEAR_WORDS
            ):
                piece, length = both, 3
        found.append(piece)
        position += length
    return found


def _without_ordinals(pieces: list[str]) -> list[str]:
    """The pieces with "1st", "1er", "first" and "I" next to a part word as "1"."""
    words = [index for index, piece in enumerate(pieces) if not _is_separator(piece)]
    found = list(pieces)
    for place, index in enumerate(words):
        following = words[place + 1 : place + 2]
        before = words[place - 1] if place else None
        near = [pieces[each] for each in following + ([] if before is None else [before])]
        if pieces[index] in _ORDINALS and any(each in PART_LETTERS for each in near):
            found[index] = _ORDINALS[pieces[index]]
        is_suffix = pieces[index] in _ORDINAL_SUFFIXES and before is not None
        if is_suffix and following and pieces[following[0]] in PART_LETTERS:
            number = pieces[words[place - 1]]
            if number.isdecimal() and len(number) == 1 and index - words[place - 1] <= 2:
                found[index] = " "
    return found


def _joined(pieces: list[str]) -> list[Token]:
    """The tokens, with each run of separators as one, and without separators at the ends."""
    found: list[Token] = []
    for piece in pieces:
        letter = _letter(piece)
        if letter == " " and found and found[-1].letter in " -/J":
            continue
        if letter in "-/J" and found and found[-1].letter == " ":
            found.pop()
        if letter in "-/J" and found and found[-1].letter in "-/J":
            letter = "U"
        found.append(Token(letter, piece))
    while found and found[-1].letter == " ":
        found.pop()
    while found and found[0].letter == " ":
        found.pop(0)
    return found


def _letter(piece: str) -> str:
    """The type of a piece by itself."""
    if piece.isdecimal():
        is_year = len(piece) == 4 and piece[:2] in ("19", "20")
        return "Y" if is_year else {1: "d", 2: "D"}.get(len(piece), "L")
    return _LETTERS.get(piece, "U")


def _years(tokens: list[Token]) -> list[Token]:
    """The tokens with apostrophes and year words as parts of their years."""
    return _words_after(_words_before(_apostrophes(tokens)))


def _apostrophes(tokens: list[Token]) -> list[Token]:
    found: list[Token] = []
    for position, token in enumerate(tokens):
        following = tokens[position + 1].letter if position + 1 < len(tokens) else ""
        if token.letter == "'":
            found += [] if following in ("D", "Y") else [Token("U", token.text)]
        elif token.letter == "D" and position and tokens[position - 1].letter == "'":
            found.append(Token("Y", f"20{token.text}"))
        else:
            found.append(token)
    return found


def _words_before(tokens: list[Token]) -> list[Token]:
    """Year words before a year: "FY 25" and "FY2025". "HJ" is one only before four digits."""
    found: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        rest = tokens[position + 1 : position + 3]
        if rest and rest[0].letter in " -/":
            rest = rest[1:]
        year = rest[0] if rest else Token("", "")
        is_long_word = token.text in _LONG_YEAR_WORDS
        is_half = any(each.letter == "d" for each in found[-2:])
        is_word = token.letter == "F" or (token.text == "hj" and year.letter == "Y" and not is_half)
        if is_word and (year.letter == "Y" or (year.letter == "D" and not is_long_word)):
            digits = year.text if year.letter == "Y" else f"20{year.text}"
            found.append(Token("Y", digits, YEAR_WORDS.get(token.text, FISCAL)))
            position = tokens.index(year, position + 1) + 1
            continue
        found.append(token)
        position += 1
    return found


def _words_after(tokens: list[Token]) -> list[Token]:
    """Year words after a year: "2025 FY", "2024/25 (FY)". A word without a year stays."""
    found: list[Token] = []
    for token in tokens:
        is_word = token.letter == "F" and token.text not in _LONG_YEAR_WORDS
        before = len(found) - 1
        if is_word and before >= 0 and found[before].letter == " ":
            before -= 1
        if is_word and before >= 0 and found[before].letter in "YD":
            first = before
            if before >= 2 and found[before - 1].letter in "-/" and found[before - 2].letter == "Y":
                first = before - 2
            is_year = found[before].letter == "Y" or first < before or first == 0
            if is_year and not found[first].marker:
                del found[before + 1 :]
                digits = found[first].text
                found[first] = Token(
                    "Y", digits if len(digits) == 4 else f"20{digits}", YEAR_WORDS[token.text]
                )
                continue
        found.append(token)
    return found
