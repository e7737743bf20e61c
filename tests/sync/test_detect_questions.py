"""The questions of `detect`: when each is asked, its options and default, and what answers set."""

from __future__ import annotations

import pytest
from support.detection import (
    EURO,
    JANUARY,
    JULY,
    Answers,
    asked,
    budgets,
    proposal,
    question,
)

from budget_sync.sync.reading.detect import AnswerError, answers_of, detect
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import Customer

HEADER = "Department,FY,Budget\n"
STATUS = (
    "Department,FY,Budget,Status\n"
    "Roads,2026,5,Approved\nParks,2026,6,Draft\nOpera,2026,7,Approved\n"
)
WIDE = "Department,FY25 Budget,FY26 Budget,FY24 Actual\nRoads,1,2,3\nParks,4,5,6\n"

# A sheet, its customer, the question, its options, its default, an answer, and what it sets: a path
# in the reading and the value.
ROWS: list[tuple[str, Customer, str, tuple[str, ...], tuple[str, ...] | None, Answers, str, object]]
ROWS = [
    (
        "Department;FY;Budget\nA;2026;14.000\nB;2026;9.000\n",
        EURO,
        "locale",
        ("thousands", "decimals"),
        None,
        {"locale": "thousands"},
        "marks",
        {"decimal": ",", "group": "."},
    ),
    (
        HEADER + 'A,2026,"14,000"\nB,2026,12.000\n',
        JANUARY,
        "locale",
        (". and ,", ", and ."),
        None,
        {"locale": ", and ."},
        "marks",
        {"decimal": ",", "group": "."},
    ),
    (
        "Department,Year,Month,Budget\nA,2026,1,5\nB,2026,2,6\n",
        JULY,
        "part",
        ("fiscal", "calendar"),
        None,
        {"part": "calendar"},
        "period",
        {"column": "Year", "part": "Month", "partKind": "calendar"},
    ),
    (
        "Department,Year,Quarter,Budget\nA,2026,Q1,5\nB,2026,Q2,6\n",
        JANUARY,
        "part",
        ("Quarter", ""),
        ("Quarter",),
        {"part": ""},
        "period",
        {"column": "Year"},
    ),
    (
        "Department,FY,Budget\nA,Q1,5\nB,Q2,6\n",
        JANUARY,
        "year",
        (),
        None,
        {"year": "FY26"},
        "period",
        {"column": "FY", "year": "2026"},
    ),
    (
        "Department,Period,Budget\nA,2011-12,5\nB,2009-10,6\n",
        JULY,
        "dash",
        ("month", "span"),
        None,
        {"dash": "span"},
        "period",
        {"column": "Period", "dash": "span"},
    ),
    (
        "Department,Period,Budget\nA,26-Jan,5\nB,26-Feb,6\n",
        JANUARY,
        "ddmon",
        ("year", "day"),
        None,
        {"ddmon": "year"},
        "period",
        {"column": "Period", "ddmon": "year"},
    ),
    (
        "Department,Period,Budget\nA,T1 2026,5\nB,T2 2026,6\n",
        JANUARY,
        "tri",
        ("quarter", "third"),
        None,
        {"tri": "quarter"},
        "period",
        {"column": "Period", "tri": "quarter"},
    ),
    (
        "Department,Period,Budget\nA,1/2/2026,5\nB,1/3/2026,6\n",
        JANUARY,
        "mdy",
        ("mdy", "dmy"),
        None,
        {"mdy": "dmy"},
        "period",
        {"column": "Period", "mdy": "dmy", "dates": "month"},
    ),
    (
        "Department,Period,Budget\nA,2026-01-01,5\nB,2026-04-01,6\n",
        JANUARY,
        "dates",
        ("month", "quarter", "year"),
        None,
        {"dates": "quarter"},
        "period",
        {"column": "Period", "dates": "quarter"},
    ),
    (
        "Department,fy1,fy2\nA,5,6\nB,6,7\n",
        JANUARY,
        "first_year",
        (),
        None,
        {"first_year": "2026"},
        "period",
        {"headings": {"fy1": "FY2026", "fy2": "FY2027"}, "ignored": []},
    ),
    (
        "Department,Budget\nA,5\nB,6\n",
        JANUARY,
        "period",
        (),
        None,
        {"period": "FY2026"},
        "period",
        {"constant": "FY2026"},
    ),
    (
        WIDE,
        JANUARY,
        "columns",
        ("FY25 Budget", "FY26 Budget", "FY24 Actual"),
        ("FY25 Budget", "FY26 Budget"),
        {"columns": ["fy26_budget"]},
        "period",
        {"headings": {"FY26 Budget": "FY26"}, "ignored": ["FY25 Budget", "FY24 Actual"]},
    ),
    (
        "Department,FY,Adopted Budget,Revised Budget\nA,2026,5,6\nB,2026,6,7\n",
        JANUARY,
        "amount",
        ("Adopted Budget", "Revised Budget"),
        None,
        {"amount": "revised budget"},
        "amount",
        {"columns": ["Revised Budget"]},
    ),
    (
        "Bureau,Kind,FY,Budget\nA,x,2026,5\nB,y,2026,6\n",
        JANUARY,
        "department",
        ("Bureau", "Kind"),
        ("Bureau",),
        {"department": "Kind"},
        "department",
        {"column": "Kind", "fill": "no", "code": "keep"},
    ),
    (
        STATUS,
        JANUARY,
        "keep:Status",
        ("approved", "draft"),
        None,
        {"keep:Status": ["Approved"]},
        "keep",
        [{"column": "Status", "in": ["approved"], "out": ["draft"]}],
    ),
    (
        "Department,FY,Budget,Type\nA,2026,5,Expense\nA,2026,6,Revenue\nB,2026,6,Expense\n",
        JANUARY,
        "keep:Type",
        ("expense", "revenue"),
        ("expense",),
        {},
        "keep",
        [{"column": "Type", "in": ["expense"], "out": ["revenue"]}],
    ),
    (
        "Department,Line,FY,Budget\nA,x,2026,5\n,y,2026,6\nB,z,2026,7\n",
        JANUARY,
        "fill",
        ("down", "no"),
        None,
        {"fill": "down"},
        "department",
        {"column": "Department", "fill": "down", "code": "keep"},
    ),
    (
        "Department,FY,Budget\nAS - Stars,2026,5\nBO - Plants,2026,6\nZO - Beasts,2026,7\n",
        JANUARY,
        "code",
        ("keep", "strip"),
        ("keep",),
        {"code": "strip"},
        "department",
        {"column": "Department", "fill": "no", "code": "strip"},
    ),
    (
        "department_id,Year,Budget\n1,2026,50\n2,2026,70\n",
        JANUARY,
        "ids",
        ("yes", "no"),
        None,
        {"ids": "yes"},
        "department",
        {"column": "department_id", "fill": "no", "code": "keep"},
    ),
    (
        "Department,Line,FY,Budget\nA,x,2026,5\nA,y,2026,6\nB,z,2026,7\n",
        JANUARY,
        "sum",
        ("sum", "refuse"),
        ("sum",),
        {},
        "sum",
        True,
    ),
    (
        "Department,FY,Budget\nA,2026,5\nA,2026,5\nB,2026,7\n",
        JANUARY,
        "sum",
        ("sum", "refuse"),
        None,
        {"sum": "refuse"},
        "sum",
        False,
    ),
    (
        HEADER + "Roads,2026,170\nBridges,2026,140\nWorks,2026,310\n"
        "Opera,2026,25\nMuseum,2026,60\nCulture,2026,85\n",
        JANUARY,
        "subtotals",
        ("totals", "departments"),
        None,
        {"subtotals": "totals"},
        "totals",
        {"names": ["works", "culture"], "departments": []},
    ),
    (
        HEADER + "Total Care,2026,700\nWards,2026,300\nLabs,2026,100\n",
        JANUARY,
        "totals",
        ("totals", "departments"),
        None,
        {"totals": "departments"},
        "totals",
        {"names": [], "departments": ["total care"]},
    ),
    (
        "Department,FY,Budget in TEUR\nA,2026,5\nB,2026,6\n",
        EURO,
        "unit",
        ("1", "1000", "1000000"),
        None,
        {"unit": "1000"},
        "unit",
        1000,
    ),
    (
        HEADER + "A,2026,-5\nB,2026,-6\n",
        JANUARY,
        "sign",
        ("negate", "as is"),
        None,
        {"sign": "negate"},
        "sign",
        "negate",
    ),
    (
        "Department,FY,Budget (EUR)\nA,2026,5\nB,2026,6\n",
        JANUARY,
        "currency",
        ("EUR", "USD"),
        None,
        {"currency": "eur"},
        "currency",
        {"constant": "EUR"},
    ),
    (
        HEADER + "A,2026,5\nB,2026,#missing\nC,2026,6\n",
        JANUARY,
        "blanks",
        ("nothing", "refuse"),
        ("nothing",),
        {},
        "blanks",
        ["#missing"],
    ),
]


def case_id(value: object) -> str:
    return value if isinstance(value, str) and "\n" not in value else ""


@pytest.mark.parametrize(
    ("sheet", "customer", "asks", "options", "default", "answers", "key", "value"),
    ROWS,
    ids=case_id,
)
def test_question_and_what_its_answer_sets(
    sheet: str,
    customer: Customer,
    asks: str,
    options: tuple[str, ...],
    default: tuple[str, ...] | None,
    answers: Answers,
    key: str,
    value: object,
) -> None:
    first = proposal(sheet, customer)
    found = question(first, asks)
    assert (found.options, found.default) == (options, default)
    assert (asks in first.open) == (default is None)
    others = {each for each in first.open if each != asks}
    answered = proposal(sheet, customer, answers)
    assert asks not in answered.open
    assert set(answered.open) == others
    assert answered.reading is not None
    assert answered.reading.to_json().get(key) == value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2])
def test_stored_reading_answers_again(row: tuple[object, ...]) -> None:
    sheet, customer, answers = str(row[0]).encode(), row[1], row[5]
    assert isinstance(customer, Customer)
    assert isinstance(answers, dict)
    reading = proposal(sheet, customer, answers).reading
    assert reading is not None
    again = detect(sheet, customer, stored=reading)
    assert again.reading == reading
    assert set(again.open) <= {"ids", *proposal(sheet, customer, answers).open}


@pytest.mark.parametrize(
    ("sheet", "answers"),
    [
        (STATUS, {"keep:Status": ["final"]}),
        (WIDE, {"columns": ["FY27 Budget"]}),
        (WIDE, {"columns": ["FY26 Budget", "FY26"]}),
        ("Department,Budget\nA,5\nB,6\n", {"period": "Monday"}),
        ("Department,FY,Budget\nA,Q1,5\nB,Q2,6\n", {"year": "Q1 2026"}),
        (HEADER + "A,2026,-5\nB,2026,-6\n", {"sign": "plus"}),
        (HEADER + "A,2026,-5\nB,2026,-6\n", {"sign": ["negate", "as is"]}),
        (HEADER + "A,2026,-5\nB,2026,-6\n", {"sign": ""}),
    ],
)
def test_wrong_answer_is_an_error(sheet: str, answers: Answers) -> None:
    with pytest.raises(AnswerError):
        proposal(sheet, JANUARY, answers)


def test_error_about_an_answer_lists_the_options() -> None:
    with pytest.raises(AnswerError, match=r"'approved', 'draft'"):
        proposal(STATUS, JANUARY, {"keep:Status": ["final"]})


def test_answer_to_a_question_not_asked_is_a_note() -> None:
    found = proposal(STATUS, JANUARY, {"keep:Status": ["approved"], "unit": "1000"})
    assert found.open == []
    assert found.reading is not None
    assert found.reading.unit == 1
    assert any("'unit'" in sentence for sentence in found.evidence)


def test_year_in_the_title_is_a_proposal_not_an_answer() -> None:
    sheet = "Spending plan FY2026\nDepartment,Period,Budget\nA,Q1,5\nB,Q2,6\n"
    found = proposal(sheet)
    assert found.open == ["year"]
    assert question(found, "year").proposal == "2026"
    assert question(found, "year").default is None


def test_two_years_in_the_title_propose_none() -> None:
    found = proposal("Plan 2025 and 2026\nDepartment,Budget\nA,5\nB,6\n")
    assert question(found, "period").proposal is None


def test_file_name_gives_the_proposed_year() -> None:
    found = proposal("Department,Budget\nA,5\nB,6\n", file_name="Budget_FY26.csv")
    assert question(found, "period").proposal == "2026"


def test_fiscal_year_cannot_be_answered() -> None:
    sheet = "Department,FY,Budget\nA,FY25-26,5\nB,FY25-26,6\n"
    found = proposal(sheet)
    assert found.open == ["fiscal_year"]
    assert question(found, "fiscal_year").options == ()
    assert budgets(found) == {"A|2026": 5, "B|2026": 6}
    assert proposal(sheet, JULY).open == []


def test_copies_of_a_row_are_never_summed_by_default() -> None:
    found = proposal("Department,Line,FY,Budget\nA,x,2026,5\nA,x,2026,5\nB,z,2026,7\n")
    assert found.open == ["sum"]


def test_lines_with_a_budget_id_are_not_summed_by_default() -> None:
    sheet = "Budget ID,Department,Line,FY,Budget\n1,A,x,2026,5\n2,A,y,2026,5\n3,B,z,2026,7\n"
    assert proposal(sheet).open == ["sum"]


def test_rows_without_a_status_can_be_chosen() -> None:
    sheet = STATUS + "Mint,2026,9,\n"
    assert question(proposal(sheet), "keep:Status").options == ("approved", "draft", "")
    with_blank = proposal(sheet, JANUARY, {"keep:Status": ["approved", ""]})
    assert "Mint|2026" in budgets(with_blank)
    without = proposal(sheet, JANUARY, {"keep:Status": ["approved"]})
    assert without.trial is not None
    assert [error.rows for error in without.trial.errors] == [(5,)]


def test_only_good_statuses_are_kept_without_a_question() -> None:
    sheet = "Department,FY,Budget,Status\nA,2026,5,Approved\nB,2026,6,Final\n"
    found = proposal(sheet)
    assert asked(found) == []
    assert found.reading is not None
    assert found.reading.to_json()["keep"] == [
        {"column": "Status", "in": ["approved", "final"], "out": []}
    ]


def test_encodings_are_shown_with_words_of_the_file() -> None:
    data = "Département;Exercice;Budget\nÉcole;2026;50\nMusée;2026;60\n".encode("mac_roman")
    found = proposal(data, EURO)
    assert found.open == ["encoding"]
    assert question(found, "encoding").options[:2] == ("cp1252", "mac_roman")
    assert "mac_roman: Département, École, Musée" in question(found, "encoding").text
    answered = proposal(data, EURO, {"encoding": "mac_roman"})
    assert budgets(answered) == {"École|2026": 50, "Musée|2026": 60}


def test_new_value_of_a_filter_is_asked_again() -> None:
    reading = proposal(STATUS, JANUARY, {"keep:Status": ["approved"]}).reading
    assert reading is not None
    changed = STATUS + "Mint,2026,9,On hold\n"
    again = detect(changed.encode(), JANUARY, stored=reading)
    assert again.open == ["keep:Status"]


def test_new_column_of_a_wide_table_is_asked_again() -> None:
    reading = proposal(WIDE, JANUARY, {"columns": ["FY26 Budget"]}).reading
    assert reading is not None
    changed = WIDE.replace("FY24 Actual", "FY27 Budget")
    again = detect(changed.encode(), JANUARY, stored=reading)
    assert again.reading is not None
    assert again.reading.amount.columns == ("FY25 Budget", "FY26 Budget", "FY27 Budget")


def test_person_overrides_the_stored_reading() -> None:
    reading = proposal(STATUS, JANUARY, {"keep:Status": ["approved"]}).reading
    assert reading is not None
    again = detect(STATUS.encode(), JANUARY, {"keep:Status": ["draft"]}, stored=reading)
    assert again.reading is not None
    assert again.reading.keep[0].kept == ("draft",)


def test_answers_of_a_reading_name_its_parts() -> None:
    reading = Reading.model_validate_json(
        """{"department": {"column": "Team", "fill": "down"}, "period": {"constant": "FY2026"},
        "amount": {"columns": ["Total"]}, "unit": 1000, "marks": {"decimal": ",", "group": "."},
        "currency": {"constant": "EUR"}, "keep": [{"column": "Status", "in": ["final"]}]}"""
    )
    found = answers_of(reading)
    assert found["department"] == ("Team",)
    assert found["period"] == ("FY2026",)
    assert found["amount"] == ("Total",)
    assert found["unit"] == ("1000",)
    assert found["locale"] == (", and .",)
    assert found["currency"] == ("EUR",)
    assert found["keep:Status"] == ("final",)


def test_mostly_unknown_statuses_are_not_asked() -> None:
    rows = "A,2026,5,Blue\nB,2026,6,Red\nC,2026,7,Draft\n"
    assert asked(proposal(f"Department,FY,Budget,Status\n{rows}")) == []
    known = rows.replace("Red", "Approved")
    assert asked(proposal(f"Department,FY,Budget,Status\n{known}")) == ["keep:Status"]
