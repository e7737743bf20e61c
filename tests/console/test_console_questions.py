"""Questions become form fields, and a sent form becomes answers. Readings in plain words."""

from __future__ import annotations

import json

import pytest

from budget_sync.sync.reading.model import (
    Amount,
    CsvFormat,
    CurrencyConstant,
    Department,
    Filter,
    PeriodColumn,
    PeriodHeadings,
    Reading,
    Totals,
)
from budget_sync.sync.reading.proposal import Answers, Proposal, Question
from budget_sync.web.console.questions import from_form, to_fields
from budget_sync.web.console.reading_texts import differences, reading_lines

SUM = Question("sum", "Add them up?", ("sum", "refuse"), ("sum",))
STATUS = Question("keep:Status\n2", "Which rows count?", ("approved", "draft"), several=True)
COLUMNS = Question("columns", "Which?", ("FY26", "FY27"), ("FY26", "FY27"), several=True)
YEAR = Question("year", "Which year?", proposal="2026")
PART = Question("part", "Together?", ("Quarter", ""), ("Quarter",))


def sent(questions: list[Question], answers: Answers, stored: Answers | None = None) -> Answers:
    """The answers in the form that a page shows, sent without a change."""
    proposal = Proposal(None, questions)
    fields: list[tuple[str, list[str]]] = [("csrf_token", ["x"]), ("do", ["read"])]
    for shown in to_fields(proposal, answers, stored or {}):
        if shown.default is not None:
            fields.append((shown.default_name, [shown.default]))
        chosen = [each.value for each in shown.choices if each.is_chosen]
        if chosen:
            fields.append((shown.name, chosen))
        if shown.example:
            fields.append((shown.name, [shown.typed]))
    return from_form(fields).answers


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"sum": ("refuse",)},
        {"keep:Status\n2": ("approved",)},
        {"keep:Status\n2": ("approved", "draft"), "year": ("2026",)},
        {"columns": ("FY27",), "part": ("",)},
    ],
)
def test_unchanged_form_has_the_same_answers(answers: Answers) -> None:
    assert sent([SUM, STATUS, COLUMNS, YEAR, PART], answers) == answers


def test_default_is_preselected_and_no_answer() -> None:
    (shown,) = to_fields(Proposal(None, [SUM]), {}, {})
    assert [(each.is_chosen, each.note) for each in shown.choices] == [
        (True, "suggested"),
        (False, ""),
    ]
    assert sent([SUM], {"sum": ("sum",)}) == {}


def test_proposal_is_shown_and_not_preselected() -> None:
    unit = Question("unit", "In thousands?", ("1", "1000"), proposal="1000")
    unit_shown, year = to_fields(Proposal(None, [unit, YEAR], ["unit", "year"]), {}, {})
    assert [(each.is_chosen, each.note) for each in unit_shown.choices] == [
        (False, ""),
        (False, "the sheet says so"),
    ]
    assert (year.typed, year.example) == ("", "2026")


def test_open_questions_come_first() -> None:
    shown = to_fields(Proposal(None, [SUM, STATUS], [STATUS.id]), {}, {})
    assert [each.question.id for each in shown] == [STATUS.id, "sum"]


def test_answer_of_stored_reading_is_preselected() -> None:
    stored = {"sum": ("refuse",)}
    (shown,) = to_fields(Proposal(None, [SUM]), {}, stored)
    assert [each.is_chosen for each in shown.choices] == [False, True]
    assert sent([SUM], {}, stored) == {}
    assert sent([SUM], {"sum": ("sum",)}, stored) == {"sum": ("sum",)}
    gone = {"sum": ("something else",)}
    assert to_fields(Proposal(None, [SUM]), {}, gone)[0].choices[0].is_chosen


def test_unchecking_every_value_is_a_problem() -> None:
    (shown,) = to_fields(Proposal(None, [COLUMNS]), {}, {})
    found = from_form([(shown.default_name, [shown.default or ""])])
    assert found.answers == {}
    assert found.problems == ["Choose at least one value."]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("answer:", ["x"]),
        ("answer:[1]", ["x"]),
        ('answer:"sum"', ["not json"]),
        ('answer:"sum"', []),
        ('default:"sum"', ["{}"]),
        ('default:"sum"', ['"x"']),
        ('text:"year"', ["  "]),
        ("text:9", ["2026"]),
    ],
)
def test_broken_fields_are_no_answers(name: str, values: list[str]) -> None:
    assert from_form([(name, values)]).answers == {}


READING = Reading(
    file=CsvFormat(delimiter=";", encoding="cp1252"),
    department=Department(column="Cost Center", code="strip"),
    period=PeriodColumn(column="FY", part="@3", part_kind="quarter", dash="month"),
    amount=Amount(columns=("Adopted",)),
    sum=True,
    keep=(
        Filter.model_validate(
            {"column": "Status", "in": ["approved"], "out": ["draft"]}, strict=False
        ),
    ),
    totals=Totals(names=("public works",), departments=("total care",)),
    unit=1000,
    sign="negate",
    blanks=("#missing",),
)


def test_reading_is_described_in_plain_words() -> None:
    assert [tuple(line) for line in reading_lines(READING)] == [
        ("Header", "1 row"),
        ("Department", "“Cost Center”; the code before the name is left out"),
        (
            "Period",
            "“FY” has the year, column 4 (without a heading) has the quarter",
        ),
        ("Periods such as 2011-12", "a month"),
        ("Amount", "“Adopted”, in thousands; negative amounts are budgets"),
        ("Amounts look like", "1,234.50"),
        ("Currency", "the customer's currency"),
        ("Several rows of one department and period", "are added up"),
        (
            "Rows by “Status”",
            "counted if approved; left out if draft; other values are rejected",
        ),
        ("Subtotals left out", "public works"),
        ("Departments that read like totals", "total care"),
        ("No amount", "“#missing”"),
        ("File", "cp1252, columns between semicolons"),
    ]


def test_wide_reading_is_described_in_plain_words() -> None:
    headings = {f"FY{year} Budget": f"FY{year}" for year in range(10, 30)}
    reading = Reading(
        department=Department(column="Bureau", fill="section"),
        period=PeriodHeadings(headings=headings, ignored=("FY09 Actual",)),
        amount=Amount(columns=tuple(headings)),
        currency=CurrencyConstant(constant="EUR"),
    )
    lines = {line.name: line.text for line in reading_lines(reading)}
    assert lines["Period"].startswith("in the headings: “FY10 Budget” is FY10, ")
    assert lines["Period"].endswith(" and 8 more")
    assert lines["Columns left out"] == "“FY09 Actual”"
    assert lines["Currency"] == "EUR"


def test_difference_lists_only_the_points_that_differ() -> None:
    new = READING.model_copy(update={"unit": 1, "blanks": ()})
    assert [tuple(each) for each in differences(READING, new)] == [
        (
            "Amount",
            "“Adopted”, in thousands; negative amounts are budgets",
            "“Adopted”, as written; negative amounts are budgets",
        ),
        ("No amount", "“#missing”", ""),
    ]
    assert differences(READING, READING) == []


def test_values_in_forms_have_no_line_ends() -> None:
    (shown,) = to_fields(Proposal(None, [STATUS], [STATUS.id]), {}, {})
    assert "\n" not in shown.name
    assert json.loads(shown.name.partition(":")[2]) == STATUS.id
