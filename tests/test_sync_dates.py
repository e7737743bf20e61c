"""Which text shows a date: no period that people use is taken for one."""

from __future__ import annotations

import pytest
from test_periods import SPELLINGS

from budget_sync.sync.dates import is_date, looks_like_date

DATES = {
    "en_US": (
        *("1/1/2025", "01/31/2025", "12/31/25", "2025-01-01", "2025/1/1", "1/1/2025 0:00:00", "1/1/2025, 8:30 PM", "2025-01-01T08:30", "8:30", "8:30:00.5"),
        *("120:00:00", "Jan 1, 2025", "January 1 2025", "1 January 2025", "Wednesday, January 1, 2025", "1-Jan-25", "31-Dec-99", "2025 May 1"),
    ),
    "de_DE": ("01.01.2025", "1.1.25", "1. Januar 2025", "Mittwoch, 1. Jan. 2025", "01.01.2025 08:30"),
    "fr_FR": ("01/01/2025", "1 janvier 2025", "mercredi 1 janv. 2025"),
    "es_ES": ("1 de enero de 2025", "1/1/2025"),
    "cs_CZ": ("1. 1. 2025", "1. ledna 2025"),
    "ko_KR": ("2025. 1. 1", "2025년 1월 1일"),
    "ja_JP": ("2025/01/01", "2025年1月1日"),
    "hu_HU": ("2025. 01. 01.",),
}

NO_DATES = (
    *("2024/25", "2024-25", "2024-2025", "FY24/25", "Q5 2025", "Summer Campaign", "W01 2025", "2025-W01", "Week 12 2025", "Week 2 Jan 2025", "P1 2025"),
    *("Period 1, 2025", "Sprint 3 2025", "2025 Term 1", "Jan-Mar 2025", "Jan 2025 Phase 2", "Jan 1-15", "Jan 1-15, 2025", "May 25", "Jan-25", "1/2025"),
    *("2025-01-01 - 2025-03-31", "1/1/2025 to 3/31/2025", "1 Jan 2025 - 31 Mar 2025", "1.2.345", "13-32-2025", "10:1", "", "-", "2025-01-01x"),
)


@pytest.mark.parametrize(("locale", "text"), [(locale, text) for locale, texts in DATES.items() for text in texts])
def test_a_whole_date_or_a_time_is_known_as_one(locale: str, text: str) -> None:
    assert is_date(text, locale)
    assert looks_like_date(text, locale)


@pytest.mark.parametrize("locale", DATES)
def test_no_period_is_taken_for_a_date(locale: str) -> None:
    periods = [*NO_DATES, *(" ".join(spelling.split()) for spellings in SPELLINGS.values() for spelling in spellings)]
    assert [text for text in periods if is_date(text, locale)] == []


@pytest.mark.parametrize("text", ["1-2", "1/2", "2025-05", "5/2025", "May 2025", "2-May", "Jan 1-15", "Dec 99"])
def test_a_part_of_a_date_looks_like_one(text: str) -> None:
    assert looks_like_date(text, "en_US")


@pytest.mark.parametrize("text", ["5,00", "5.00", "about 5k", "May", "5 apples", "1.000.000", "€5", "50%", "(5,000)"])
def test_what_is_no_number_need_not_look_like_a_date(text: str) -> None:
    assert not looks_like_date(text, "en_US")
