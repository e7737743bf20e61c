"""Names of departments: all spellings of a name have one key."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_sync.domain.names import fold

SPELLINGS = {
    "sales-emea": (
        "Sales - EMEA",
        "Sales \u2013 EMEA",
        "Sales\u2014EMEA",
        "SALES\u00a0\u2212 EMEA",
        "sales\u2011emea",
        " Sales  -\tEMEA\n",
        "\ufeffSales \u2010 EMEA",
        "Sa\u00adles - EMEA",
        "Sales \u2e3a EMEA",
    ),
    "m&e": ("M & E", "M&E", "m &e", "\uff2d\uff06\uff25", "M \ufe60 E"),
    "hr/it": ("HR / IT", "hr/it", "HR\u2215IT", "HR \u2044 IT", "\uff28\uff32\uff0f\uff29\uff34"),
    "o'brien": (
        "O'Brien",
        "O\u2019Brien",
        "O\u2018Brien",
        "O`Brien",
        "O\u00b4Brien",
        "O\u2032BRIEN",
    ),
    '"blue" team': (
        '"Blue" Team',
        "\u201cBlue\u201d Team",
        "\u201eBlue\u201c Team",
        "\u00abBlue\u00bb Team",
    ),
    "410": (
        "410",
        "410.0",
        "\uff14\uff11\uff10",
        "\u0664\u0661\u0660",
        "\u06f4\u06f1\u06f0",
        "\u096a\u0967\u0966",
    ),
    "0410": ("0410", "0410.0"),
    "caf\u00e9": (
        "Caf\u00e9",
        "CAFE\u0301",
        "caf\u00e9\ufe0f",
        "\u202dCaf\u00e9\u202c",
        "Ca\u200bf\u00e9",
    ),
    "grosse strasse": ("gro\u00dfe Stra\u00dfe", "GROSSE STRASSE", "gro\u1e9ee stra\u1e9ee"),
    "\u03ca\u0301": ("\u0390", "\u03aa\u0301"),
    "": ("", " \n", "\u200b\u2060\ufeff", "\u00ad"),
}


@pytest.mark.parametrize("key", SPELLINGS, ids=ascii)
def test_spellings_of_a_name_have_one_key(key: str) -> None:
    assert {fold(name) for name in SPELLINGS[key]} == {fold(key)}


@pytest.mark.parametrize("key", [key for key in SPELLINGS if key.isascii()])
def test_key_is_plain_lower_case(key: str) -> None:
    assert fold(SPELLINGS[key][0]) == key


def test_different_names_have_different_keys() -> None:
    names = ["IT", "I T", "I-T", "I&T", "410", "0410", "410.1", "4.10", "Caf\u00e9", "Cafe", "+IT"]
    assert len({fold(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    [
        "\u30b5\u30fc\u30d3\u30b9",
        "\u05e9\u05d9\u05d5\u05d5\u05e7",
        "Se\u00f1or \u00b7 X",
        "A+B",
        "#1, Inc.",
    ],
)
def test_letters_and_other_marks_stay(name: str) -> None:
    assert fold(name) == unicodedata.normalize("NFKC", name).casefold()


@given(st.text(max_size=60))
def test_key_of_a_key_is_itself(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(st.text(max_size=40))
def test_composed_and_combining_accents_are_equal(name: str) -> None:
    assert fold(unicodedata.normalize("NFC", name)) == fold(name)
    assert fold(unicodedata.normalize("NFD", name)) == fold(name)


@given(st.text(max_size=40), st.sampled_from([" ", "\t", "\n", "  ", "\u00a0", "\u3000", "\u200b"]))
def test_spaces_around_a_name_are_ignored(name: str, space: str) -> None:
    assert fold(f"{space}{name}{space}") == fold(name)


def test_key_of_any_character_is_stable() -> None:
    others = [
        *range(0x3400),
        *range(0xA000, 0xAC00),
        *range(0xE000, 0x20000),
        *range(0xE0000, 0xE01F0),
    ]
    characters = [
        chr(code) for code in others if unicodedata.category(chr(code)) not in ("Cn", "Co")
    ]
    assert len(characters) > 40_000
    assert [each for each in characters if fold(fold(f"a{each}b")) != fold(f"a{each}b")] == []


def test_every_decimal_digit_is_an_ascii_digit() -> None:
    digits = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isdecimal()]
    assert len(digits) > 600
    assert {fold(digit) for digit in digits} == set("0123456789")


def test_every_dash_is_a_hyphen() -> None:
    codes = range(sys.maxunicode + 1)
    dashes = [chr(code) for code in codes if unicodedata.category(chr(code)) == "Pd"]
    assert {fold(f"a{dash}b") for dash in dashes} == {"a-b"}
