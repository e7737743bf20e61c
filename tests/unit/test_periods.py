"""Fiscal periods: all spellings of a period have one key."""

from __future__ import annotations

import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_sync.domain.periods import fold, period_dates, period_key

SPELLINGS = {
    "2025": ("2025", "FY2025", "fy 2025", "FY25", "FY'25", "'25", "  2025 "),
    "2025-Q1": (
        "Q1 2025",
        "2025-Q1",
        "q1 fy2025",
        "2025Q1",
        "2025 q1",
        "2025/Q1",
        "2025.Q1",
        "2025_Q1",
        "Q1-2025",
        "Q1, 2025",
        "1Q2025",
        "1q 2025",
        "Q1 FY25",
        "Q1'25",
        "FY25-Q1",
        "FY 2025 Q1",
        "Q 1 2025",
        "Quarter 1 2025",
        "quarter 1, fy 2025",
        " Q1\t2025\n",
        "Q1\u00a02025",
    ),
    "2025-Q4": ("Q4 2025", "2025-q4", "4Q2025"),
    "2024-Q1": ("Q1 2024", "FY24 Q1"),
    "2025-H1": ("H1 2025", "2025-H1", "1H2025", "half 1 2025", "2025 h1", "H1 FY25"),
    "2025-H2": ("H2 2025", "2h 2025"),
    "2025-01": (
        "Jan 2025",
        "January 2025",
        "2025-01",
        "01/2025",
        "2025M01",
        "202501",
        "jan. 2025",
        "2025 January",
    ),
    "2025-05": ("May 2025", "2025-05", "05.2025"),
    "2025-09": ("Sep 2025", "Sept 2025", "September, 2025"),
    "2025-12": ("Dec-2025", "12/2025", "2025-12"),
    "1999-Q2": ("Q2 1999",),
}


@pytest.mark.parametrize(
    ("key", "spelling"),
    [(key, spelling) for key, spellings in SPELLINGS.items() for spelling in spellings],
)
def test_known_forms_have_one_key(key: str, spelling: str) -> None:
    assert period_key(spelling) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("  Summer   Campaign ", "summer campaign"),
        ("Q5 2025", "q5 2025"),
        ("Q0 2025", "q0 2025"),
        ("H3 2025", "h3 2025"),
        ("2025-13", "2025-13"),
        ("2025-00", "2025-00"),
        # Ambiguous: January, or a fiscal year's first month, day or week.
        ("2025-1", "2025-1"),
        # Two digits are a year only after "FY" or an apostrophe: 2025, or the 25th?
        ("Q1 25", "q1 25"),
        ("25", "25"),
        ("FY2025/26", "fy2025/26"),
        ("Q1 2025 (draft)", "q1 2025 (draft)"),
        ("Q1-Q2 2025", "q1-q2 2025"),
        ("Q1 2125", "q1 2125"),
        ("GROSSE STRASSE", "grosse strasse"),
        ("große Straße", "grosse strasse"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_unknown_form_is_trimmed_and_folded(text: str, key: str) -> None:
    assert period_key(text) == key


def test_different_periods_have_different_keys() -> None:
    assert len({period_key(key) for key in SPELLINGS}) == len(SPELLINGS)


@given(st.text(max_size=40))
def test_key_of_a_key_is_itself(text: str) -> None:
    assert period_key(period_key(text)) == period_key(text)
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=40))
def test_composed_and_combining_accents_are_equal(text: str) -> None:
    for form in ("NFC", "NFD"):
        stored = unicodedata.normalize(form, text)
        assert (fold(stored), period_key(stored)) == (fold(text), period_key(text))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Caf\u00e9", "CAFE\u0301"),
        ("\u0130stanbul", "I\u0307STANBUL"),
        # The capital letter is composed with only one of its two accents.
        ("Ma\u0390ou", "MA\u03aa\u0301OU"),
        ("\u1e96", "H\u0331"),
    ],
)
def test_accented_capitals_are_equal(text: str, other: str) -> None:
    assert fold(text) == fold(other)


def test_keys_of_single_characters_never_change() -> None:
    """Otherwise, the keys of stored budgets would no longer match."""
    characters = map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
    composed = (each for each in characters if unicodedata.is_normalized("NFC", each))
    assert [each for each in composed if fold(each) != " ".join(each.split()).casefold()] == []


@given(st.text(max_size=40), st.sampled_from([" ", "\t", "\n", "  ", "\u00a0"]))
def test_spaces_around_a_period_are_ignored(text: str, space: str) -> None:
    assert period_key(f"{space}{text}{space}") == period_key(text)


PARTS = st.sampled_from(
    [
        *[
            (f"Q{number}", forms)
            for number in range(1, 5)
            for forms in [(f"Q{number}", f"q{number}", f"{number}Q", f"Quarter {number}")]
        ],
        *[
            (f"H{number}", forms)
            for number in (1, 2)
            for forms in [(f"H{number}", f"h {number}", f"{number}h", f"HALF {number}")]
        ],
        ("03", ("Mar", "march", "03", "m03")),
        ("11", ("Nov", "NOVEMBER", "11", "M11")),
    ]
)


@given(st.integers(1900, 2099), PARTS, st.data())
def test_order_and_separators_of_year_and_part_are_ignored(
    year: int, part: tuple[str, tuple[str, ...]], data: st.DataObject
) -> None:
    name, forms = part
    written = [
        data.draw(st.sampled_from(forms)),
        data.draw(st.sampled_from([f"{year}", f"FY{year}", f"fy {year}"])),
    ]
    separator = data.draw(st.sampled_from([" ", "-", "/", ".", "_", ", ", " - "]))
    text = separator.join(data.draw(st.permutations(written)))
    assert period_key(text) == f"{year}-{name}"


@pytest.mark.parametrize(
    ("key", "month", "first", "after"),
    [
        ("2025-Q1", 1, date(2025, 1, 1), date(2025, 4, 1)),
        ("2025-Q4", 1, date(2025, 10, 1), date(2026, 1, 1)),
        ("2025-Q1", 7, date(2024, 7, 1), date(2024, 10, 1)),
        ("2025", 4, date(2024, 4, 1), date(2025, 4, 1)),
        ("2025-H2", 1, date(2025, 7, 1), date(2026, 1, 1)),
        ("2025-12", 7, date(2025, 12, 1), date(2026, 1, 1)),
    ],
)
def test_dates_of_a_period(key: str, month: int, first: date, after: date) -> None:
    assert period_dates(key, month) == (first, after)


@pytest.mark.parametrize(
    "key", ["launch party", "2025-x1", "20", "", "abcd-Q1", "2025-Q5", "2025-13", "9999-12"]
)
def test_unknown_form_has_no_dates(key: str) -> None:
    assert period_dates(key, 1) is None
