"""Fiscal periods: all spellings of a period have one key, in the fiscal year of each customer.

`periods.json` has spellings with their keys for three customers, or why there is no key.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from budget_sync.domain.periods import (
    MAX_FORM_LENGTH,
    PROBLEMS,
    FiscalYear,
    PeriodError,
    Settled,
    api_period_key,
    is_current,
    is_same_for_all,
    period_dates,
    period_key,
    read_period,
    read_year_and_part,
    settle,
    unsettled,
)

JANUARY, JULY, APRIL = FiscalYear(), FiscalYear(7), FiscalYear(4, "start")
CUSTOMERS = {"january": JANUARY, "july_end": JULY, "april_start": APRIL}
FISCAL_YEARS = [
    FiscalYear(month, named_by) for month in range(1, 13) for named_by in ("end", "start")
]
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "periods.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("customer", CUSTOMERS)
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: ascii(vector["text"]))
def test_period_of_each_customer(vector: dict[str, Any], customer: str) -> None:
    found = read_period(vector["text"], CUSTOMERS[customer])
    assert found.key == vector[customer]
    assert (found.problem or "").startswith(vector.get("why", {}).get(customer, ""))
    assert (found.key is None) == (found.problem is not None) == (found.reason is not None)


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
        ("Summer \u2013 2026", "summer-2026"),
        ("Phase 2", "phase 2"),
        ("v2", "v2"),
        ("Q1 2025 (draft)", "q1 2025 (draft)"),
        ("FY25 Budget", "fy25 budget"),
        ("GROSSE STRASSE", "grosse strasse"),
        ("gro\u00dfe Stra\u00dfe", "grosse strasse"),
        ("May Day", "may day"),
        ("x" * 200, "x" * 200),
    ],
)
def test_name_in_a_call_is_folded(text: str, key: str) -> None:
    assert api_period_key(text, JULY) == key
    assert read_period(text, JULY).reason == "unknown"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Q5 2025", "unknown"),
        ("Q0 2025", "unknown"),
        ("H3 2025", "unknown"),
        ("2025-13", "unknown"),
        ("2025-00", "unknown"),
        ("FY25-13", "unknown"),
        # January, or a fiscal year's first month, day or week?
        ("2025-1", "unknown"),
        ("1/2025", "unknown"),
        ("Q1-Q2 2025", "unknown"),
        ("Q1 2125", "unknown"),
        ("FY99-00", "unknown"),
        ("x1980", "unknown"),
        ("2025E", "unknown"),
        ("FY25F", "unknown"),
        ("fy1", "unknown"),
        ("Year 2", "unknown"),
        ("by 25", "unknown"),
        ("04Q01", "unknown"),
        ("Oct-Mar 2025", "unknown"),
        ("25", "number"),
        ("45000", "number"),
        ("2025.5", "number"),
        ("202513", "number"),
        ("2024-2026", "span"),
        ("FY24-26", "span"),
        ("Q2", "year"),
        ("second half", "year"),
        ("Jan-Mar", "year"),
        ("P01", "year"),
        ("P13", "p13"),
        ("Period 13 FY25", "p13"),
        ("Jan-Feb 2025", "months"),
        ("Feb-Apr 2025", "months"),
        ("5-Jan", "day"),
        ("Jan 5", "day"),
        ("Jan 2, 2025", "day"),
        ("1/15/2025", "day"),
        ("2/3/2025", "day"),
        ("2025-01-01 10:30", "day"),
        ("20250115", "day"),
        ("26-Jan", "ddmon"),
        ("01.02.2025", "mdy"),
        ("2011/12", "dash"),
        ("2.T 2025", "tri"),
        ("CY25 Q1", "calendar_year"),
        ("", "blank"),
        ("   ", "blank"),
        ("n.a.", "placeholder"),
        ("Full Year", "placeholder"),
        ("all year", "placeholder"),
        ("\u2014", "placeholder"),
        ("???", "placeholder"),
        ("\u200b", "placeholder"),
    ],
)
def test_text_without_a_key_says_why(text: str, reason: str) -> None:
    found = read_period(text, JULY)
    assert (found.key, found.reason) == (None, reason)
    with pytest.raises(PeriodError) as raised:
        api_period_key(text, JULY)
    assert str(raised.value) == f"Period {text!r} {found.problem}"


def test_different_periods_have_different_keys() -> None:
    assert len({period_key(key) for key in SPELLINGS}) == len(SPELLINGS)


KEYS = st.builds(
    "{}{}".format,
    st.integers(1912, 2098),
    st.sampled_from(["", "-H1", "-H2", *(f"-Q{n}" for n in range(1, 5)), "-01", "-07", "-12"]),
)


@given(KEYS, st.sampled_from(FISCAL_YEARS))
def test_key_of_a_key_is_itself(key: str, fiscal_year: FiscalYear) -> None:
    settled = Settled(dash="month")
    assert read_period(key, fiscal_year, settled).key == key
    if not "2000" < key < "2012":
        assert api_period_key(key, fiscal_year) == key


@given(st.text(max_size=40), st.sampled_from(FISCAL_YEARS))
def test_name_has_one_key(text: str, fiscal_year: FiscalYear) -> None:
    try:
        key = api_period_key(text, fiscal_year)
    except PeriodError:
        return
    assert api_period_key(key, fiscal_year) == key


@given(st.text(max_size=40))
def test_composed_and_combining_accents_are_equal(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert period_key(unicodedata.normalize(form, text)) == period_key(text)


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
    # "2002 03" can also be the fiscal year 2002/03, so it stays as it is.
    assume(not name.isdecimal() or int(name) != (year + 1) % 100)
    written = [
        data.draw(st.sampled_from(forms)),
        data.draw(st.sampled_from([f"{year}", f"FY{year}", f"fy {year}"])),
    ]
    separator = data.draw(st.sampled_from([" ", "-", "/", ".", "_", ", ", " - "]))
    text = separator.join(data.draw(st.permutations(written)))
    assert period_key(text) == f"{year}-{name}"


MORE_SPELLINGS = {
    # The keys for years from January, from July (named by the end), from April (by the start).
    ("2025", "2025", "2025"): (
        "f.y. 2025",
        "F.Y. 25",
        "FY-25",
        "FY: 2025",
        "FY_2025",
        "2025 FY",
        "2025 (FY)",
        "Fiscal 2025",
        "Financial Year 2025",
        "Budget Year 2025",
        "BY 2025",
        "HJ 2025",
        "Geschäftsjahr 2025",
        "Haushaltsjahr 2025",
        "Ejercicio 2025",
        "Exercice budgétaire 2025",
        "Année 2025",
        "Año 2025",
        "Jahr 2025",
        "'2025",
        "\u201825",
        "(2025)",
        "20\u200b25",
        "۲۰۲۵",
        "२०२५",
    ),
    (None, "2025", "2024"): (
        "FY24-FY25",
        "FY2024 / FY2025",
        "2024 \u2013 2025",
        "2024 to 2025",
        "2024-25 FY",
        "GJ 2024/25",
        "Geschäftsjahr 2024/2025",
        "24/25",
        "'24-'25",
    ),
    ("2025-01", "2024-07", "2025-04"): (
        "FY25-P01",
        "P1 FY25",
        "P01/2025",
        "Period 1 2025",
        "Per. 1 2025",
        "Pd 1 FY25",
        "FP01 2025",
        "Periode 1 2025",
        "2025-P01",
        "FY25 01",
        "01-FY25",
        "P012025",
    ),
    ("2025-Q1", "2025-Q1", "2025-Q1"): (
        "Q1 25",
        "25Q1",
        "Q1/2025",
        "Q1 of FY25",
        "Qtr 1 2025",
        "1st Quarter 2025",
        "1st qtr. FY25",
        "First quarter 2025",
        "1er trimestre de 2025",
        "1er trim. 2025",
        "I. Quartal 2025",
        "Trimestre 1 2025",
        "primer trimestre 2025",
        "1.º trimestre 2025",
        "FQ1 2025",
        "Quartal 1/2025",
        "Q12025",
    ),
    ("2025-Q4", "2025-Q4", "2025-Q4"): (
        "T4 2025",
        "4T25",
        "4ème trimestre 2025",
        "Quartal IV 2025",
    ),
    ("2025-H1", "2025-H1", "2025-H1"): (
        "HY1 2025",
        "1st half 2025",
        "Half 1 FY25",
        "S1 2025",
        "1S25",
        "1. Halbjahr 2025",
        "1. HJ 2025",
        "1er semestre 2025",
        "HJ1/25",
        "half-year 1 2025",
    ),
    ("2025-02", "2025-02", "2025-02"): (
        "Feb. 2025",
        "FEB25",
        "Feb '25",
        "Feb/2025",
        "2025 February",
        "Februar 2025",
        "Feber 2025",
        "févr. 2025",
        "FÉVRIER 2025",
        "fevrier 2025",
        "febrero de 2025",
        "2025M02",
        "022025",
        "2025/02",
        "2025-02-01",
        "2025-2-1",
        "20250201",
        "2025-02-01T00:00:00Z",
        "2025-02-01 00:00:00.000",
        "1 Feb 2025",
        "1. Februar 2025",
        "February 1, 2025",
        "01-Feb-25",
        "Feb CY2025",
    ),
    ("2025-08", "2025-08", "2025-08"): (
        "Aug-25",
        "août 2025",
        "agosto 2025",
        "Ago 25",
        "August 2025",
    ),
    ("2025-01", "2025-01", "2025-01"): ("Jänner 2025", "janv. 2025", "Enero 2025", "1/1/25"),
    ("2025-10", "2024-10", "2025-10"): ("Oct FY25", "FY25 Oct", "FY25-Okt", "octobre FY2025"),
    ("2025-Q1", "2025-Q3", "2024-Q4"): (
        "Jan to Mar 2025",
        "Jan \u2013 Mar '25",
        "Jan 2025-Mar 2025",
        "Jan bis März 2025",
        "janv. à mars 2025",
        "enero a marzo 2025",
        "2025 Jan-Mar",
        "2025-01 to 2025-03",
        "01/2025 - 03/2025",
    ),
    ("2025-H1", "2025-H2", None): ("Jan-Jun FY25", "FY25 Jan-Jun", "Jan-Jun 2025"),
    (None, "2025-Q3", "2024-Q4"): ("Jan-Mar 2024/25", "2024-25 Jan-Mar"),
    ("2025", None, None): ("Jan-Dec 2025", "CY25", "Calendar Year 2025"),
    (None, "2025", None): ("Jul 2024 - Jun 2025", "July 2024 to June 2025"),
}


@pytest.mark.parametrize(
    ("keys", "spelling"),
    [(keys, spelling) for keys, spellings in MORE_SPELLINGS.items() for spelling in spellings],
)
def test_further_spellings(keys: tuple[str | None, ...], spelling: str) -> None:
    found = tuple(read_period(spelling, each).key for each in CUSTOMERS.values())
    assert found == keys


@pytest.mark.parametrize("fiscal_year", FISCAL_YEARS, ids=str)
def test_months_of_a_fiscal_year_are_its_dates(fiscal_year: FiscalYear) -> None:
    first, after = period_dates("2025", fiscal_year) or (date.min, date.min)
    months = [read_period(f"P{number} FY25", fiscal_year).key or "" for number in range(1, 13)]
    spans = [period_dates(month, fiscal_year) or (date.min, date.min) for month in months]
    assert [spans[0][0], *(span[1] for span in spans)] == [*(span[0] for span in spans), after]
    assert (spans[0][0], first.month) == (first, fiscal_year.first_month)
    named = after - date.resolution if fiscal_year.named_by == "end" else first
    assert named.year == 2025
    names = [f"{span[0]:%b} FY25" for span in spans]
    assert [read_period(name, fiscal_year).key for name in names] == months


@pytest.mark.parametrize("fiscal_year", FISCAL_YEARS, ids=str)
@pytest.mark.parametrize("key", ["2025", "2025-H1", "2025-H2", "2025-Q1", "2025-Q4"])
def test_range_of_months_is_the_period_with_these_months(key: str, fiscal_year: FiscalYear) -> None:
    first, after = period_dates(key, fiscal_year) or (date.min, date.min)
    last = after - date.resolution
    assert read_period(f"{first:%b %Y} - {last:%B %Y}", fiscal_year).key == key
    assert read_period(f"{first:%Y-%m} to {last:%Y-%m}", fiscal_year).key == key
    longer = f"{first:%b %Y} to {after:%b %Y}"
    assert read_period(longer, fiscal_year).reason == "months"


@pytest.mark.parametrize("fiscal_year", FISCAL_YEARS, ids=str)
def test_two_years_are_the_fiscal_year_that_covers_them(fiscal_year: FiscalYear) -> None:
    found = read_period("FY2024-25", fiscal_year)
    if fiscal_year.is_calendar_year:
        assert found.reason == "fiscal_year"
    else:
        first, after = period_dates(found.key or "", fiscal_year) or (date.min, date.min)
        assert (first.year, (after - date.resolution).year) == (2024, 2025)


@pytest.mark.parametrize(
    ("text", "settled", "keys"),
    [
        ("Q1", Settled(year="2025"), ("2025-Q1", "2025-Q1", "2025-Q1")),
        ("H2", Settled(year="2025"), ("2025-H2", "2025-H2", "2025-H2")),
        ("Oct", Settled(year="2025"), ("2025-10", "2024-10", "2025-10")),
        ("P01", Settled(year="2025"), ("2025-01", "2024-07", "2025-04")),
        ("M1", Settled(year="2025"), ("2025-01", "2024-07", "2025-04")),
        ("Oct-Dec", Settled(year="2025"), ("2025-Q4", "2025-Q2", "2025-Q3")),
        ("Q1 2024", Settled(year="2025"), ("2024-Q1", "2024-Q1", "2024-Q1")),
        ("2011-12", Settled(dash="month"), ("2011-12", "2011-12", "2011-12")),
        ("2011-12", Settled(dash="span"), (None, "2012", "2011")),
        ("25-Jan", Settled(ddmon="year"), ("2025-01", "2025-01", "2025-01")),
        ("25-Jan", Settled(ddmon="day"), (None, None, None)),
        ("T1 2025", Settled(tri="quarter"), ("2025-Q1", "2025-Q1", "2025-Q1")),
        ("T1 2025", Settled(tri="third"), (None, None, None)),
        ("T4 2025", Settled(tri="third"), (None, None, None)),
        ("T2", Settled(tri="quarter", year="2025"), ("2025-Q2", "2025-Q2", "2025-Q2")),
        ("2/1/2025", Settled(mdy="mdy"), ("2025-02", "2025-02", "2025-02")),
        ("1/2/2025", Settled(mdy="dmy"), ("2025-02", "2025-02", "2025-02")),
        ("1/2/2025", Settled(mdy="mdy"), (None, None, None)),
        ("2025-01-01", Settled(dates="month"), ("2025-01", "2025-01", "2025-01")),
        ("2025-01-01", Settled(dates="quarter"), ("2025-Q1", "2025-Q3", "2024-Q4")),
        ("2025-01-01", Settled(dates="year"), ("2025", None, None)),
        ("7/1/2024", Settled(dates="year", mdy="mdy"), (None, "2025", None)),
    ],
)
def test_settled_ambiguity(text: str, settled: Settled, keys: tuple[str | None, ...]) -> None:
    found = tuple(read_period(text, each, settled).key for each in CUSTOMERS.values())
    assert found == keys


@pytest.mark.parametrize(
    ("year", "part", "kind", "keys"),
    [
        ("2025", "Q1", "quarter", ("2025-Q1", "2025-Q1", "2025-Q1")),
        ("FY25", "1", "quarter", ("2025-Q1", "2025-Q1", "2025-Q1")),
        ("2025.0", "4.0", "quarter", ("2025-Q4", "2025-Q4", "2025-Q4")),
        ("2024-25", "3", "quarter", (None, "2025-Q3", "2024-Q3")),
        ("2011-12", "Q2", "quarter", (None, "2012-Q2", "2011-Q2")),
        ("2025", "1st", "quarter", (None, None, None)),
        ("2025", "5", "quarter", (None, None, None)),
        ("2025", "Jan", "quarter", (None, None, None)),
        ("2025", "", "quarter", (None, None, None)),
        ("2025", "1", "fiscal", ("2025-01", "2024-07", "2025-04")),
        ("2025", "12", "fiscal", ("2025-12", "2025-06", "2026-03")),
        ("2025", "Jul", "fiscal", ("2025-07", "2024-07", "2025-07")),
        ("2025", "P02", "fiscal", ("2025-02", "2024-08", "2025-05")),
        ("2025", "13", "fiscal", (None, None, None)),
        ("2025", "1", "calendar", ("2025-01", "2025-01", "2025-01")),
        ("FY2025", "Jul", "calendar", ("2025-07", "2025-07", "2025-07")),
        ("2025", "M12", "calendar", ("2025-12", "2025-12", "2025-12")),
        ("2025", "0", "calendar", (None, None, None)),
        ("2025", "Annual", "calendar", (None, None, None)),
        ("", "1", "fiscal", (None, None, None)),
        ("x1980", "1", "fiscal", (None, None, None)),
        ("Q1 2025", "1", "fiscal", (None, None, None)),
    ],
)
def test_year_and_part_in_two_cells(
    year: str, part: str, kind: str, keys: tuple[str | None, ...]
) -> None:
    found = [read_year_and_part(year, part, kind, each) for each in CUSTOMERS.values()]
    assert tuple(each.key for each in found) == keys
    assert all((each.key is None) == (each.reason in PROBLEMS) for each in found)


@pytest.mark.parametrize(
    "text",
    [vector["text"] for vector in VECTORS]
    + [spelling for spellings in MORE_SPELLINGS.values() for spelling in spellings],
)
def test_text_that_is_the_same_for_all_customers(text: str) -> None:
    found = {read_period(text, each) for each in FISCAL_YEARS}
    if is_same_for_all(text):
        assert len(found) == 1
    else:
        assert len(found) > 1


@pytest.mark.parametrize(
    ("key", "fiscal_year", "first", "after"),
    [
        ("2025-Q1", JANUARY, date(2025, 1, 1), date(2025, 4, 1)),
        ("2025-Q4", JANUARY, date(2025, 10, 1), date(2026, 1, 1)),
        ("2025-Q1", JULY, date(2024, 7, 1), date(2024, 10, 1)),
        ("2025", FiscalYear(4), date(2024, 4, 1), date(2025, 4, 1)),
        ("2025", APRIL, date(2025, 4, 1), date(2026, 4, 1)),
        ("2025-Q4", APRIL, date(2026, 1, 1), date(2026, 4, 1)),
        ("2025-H2", JANUARY, date(2025, 7, 1), date(2026, 1, 1)),
        ("2025-H2", FiscalYear(1, "start"), date(2025, 7, 1), date(2026, 1, 1)),
        ("2025-12", JULY, date(2025, 12, 1), date(2026, 1, 1)),
    ],
)
def test_dates_of_a_period(key: str, fiscal_year: FiscalYear, first: date, after: date) -> None:
    assert period_dates(key, fiscal_year) == (first, after)
    days = [first - date.resolution, first, after - date.resolution, after]
    assert [is_current(key, fiscal_year, day) for day in days] == [False, True, True, False]


@pytest.mark.parametrize(
    "key", ["launch party", "2025-x1", "20", "", "abcd-Q1", "2025-Q5", "2025-13", "9999-12"]
)
def test_unknown_form_has_no_dates(key: str) -> None:
    assert period_dates(key, JANUARY) is None
    assert not is_current(key, JANUARY, date(2025, 1, 1))


@given(st.text(alphabet="0123456789qhtpmfy-/. 'janto", max_size=MAX_FORM_LENGTH + 20))
def test_any_text_has_a_key_or_a_problem(text: str) -> None:
    for fiscal_year in CUSTOMERS.values():
        found = read_period(text, fiscal_year)
        assert (found.key is None) == (found.reason in PROBLEMS)
        assert found.key is None or period_dates(found.key, fiscal_year)


@pytest.mark.parametrize(
    ("texts", "fiscal_year", "headings", "settled"),
    [
        (["2011-12", "2011-07"], JULY, (), Settled(dash="month")),
        (["2011-12", "2012-13"], JULY, (), Settled(dash="span")),
        (["2011-12", "2012-13"], JANUARY, (), Settled()),
        (["2011-12", "2012-13", "2011-07"], JULY, (), Settled()),
        (["2011-12", "FY2012-13"], JULY, (), Settled(dash="span")),
        (["2011-12", "Jan 2011"], JULY, (), Settled()),
        (["2011-12", "2010-11"], JULY, (), Settled()),
        (["2012-13", "2011-07"], JULY, (), Settled()),
        (["25-Jan", "26-Jan"], JANUARY, (), Settled()),
        (["T1 2025", "T2 2025"], JANUARY, ("Department", "Budget"), Settled()),
        (["T1 2025", "T4 2025"], JANUARY, (), Settled(tri="quarter")),
        (["1T2025"], JANUARY, ("Departamento",), Settled(tri="quarter")),
        (["T1 2025"], JANUARY, ("Centre de co\u00fbts",), Settled(tri="quarter")),
        (["1/2/2025", "1/15/2025"], JANUARY, (), Settled(mdy="mdy", dates="month")),
        (["1/2/2025", "15/1/2025"], JANUARY, (), Settled(mdy="dmy", dates="month")),
        (["15/1/2025", "1/15/2025", "2/1/2025"], JANUARY, (), Settled(dates="month")),
        (["2025-01-01", "2025-02-01"], JANUARY, (), Settled(dates="month")),
        (["2025-01-01", "2025-04-01", ""], JANUARY, (), Settled()),
        (["2025-02-01", "2025-05-01"], FiscalYear(2), (), Settled()),
        (["2025-02-01", "2025-05-01"], JANUARY, (), Settled(dates="month")),
        (["2024-01-01", "2025-01-01"], JANUARY, (), Settled()),
        (["2025-01-01", "Q2 2025"], JANUARY, (), Settled(dates="month")),
        (["Q1 2025", "TBD", ""], JANUARY, (), Settled()),
    ],
)
def test_values_of_a_column_settle_ambiguities(
    texts: list[str], fiscal_year: FiscalYear, headings: tuple[str, ...], settled: Settled
) -> None:
    assert settle(texts, fiscal_year, headings) == settled
    assert settle(texts[::-1], fiscal_year, headings) == settled


def test_open_questions_of_a_column() -> None:
    texts = ["2025", "Q1", "T1", "T2 2025", "26-Jan", "2011-12", "1/2/2025", "FY24-25", "TBD"]
    assert unsettled(texts, JANUARY) == {
        "year": "Q1",
        "tri": "T1",
        "ddmon": "26-Jan",
        "dash": "2011-12",
        "mdy": "1/2/2025",
        "dates": "1/2/2025",
        "fiscal_year": "FY24-25",
    }
    answers = Settled("2025", "month", "year", "quarter", "mdy", "month")
    assert unsettled(texts, JULY, answers) == {}
