"""The questions about a sheet as form fields, and the answers in a sent form. Pure.

Ids and values may be any text of a sheet. In names and values of fields they are JSON strings,
because a browser changes line ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from budget_sync.sync.reading.proposal import Answers, Proposal, Question

#: The beginnings of the names of the fields: chosen options, a typed text, the default shown.
CHOSEN, TYPED, DEFAULT = "answer:", "text:", "default:"

#: The most characters of a typed answer.
MAX_TYPED = 100

#: The questions with a typed answer, and an example.
EXAMPLES = {"period": "FY2026", "year": "2026", "first_year": "2026"}

#: The labels of options that are words of the program. Others are values of the sheet.
LABELS: Mapping[str, Mapping[str, str]] = {
    "encoding": {
        "cp1252": "cp1252, Western Europe",
        "mac_roman": "mac_roman, Western Europe, old Macs",
        "cp1250": "cp1250, Central Europe",
        "cp1251": "cp1251, Cyrillic",
        "cp1255": "cp1255, Hebrew",
    },
    "locale": {
        "thousands": "The mark separates thousands",
        "decimals": "The mark is the decimal mark",
        ". and ,": "1,234.50: a point before the decimals",
        ", and .": "1.234,50: a comma before the decimals",
    },
    "ids": {"yes": "Yes", "no": "No"},
    "code": {"keep": "No, keep code and name", "strip": "Yes, only the name"},
    "section": {"yes": "Yes", "no": "No"},
    "part": {
        "fiscal": "The first month of the fiscal year",
        "calendar": "January",
        "": "No",
    },
    "dash": {"month": "A month", "span": "A fiscal year"},
    "ddmon": {"year": "A month and a year", "day": "A day"},
    "tri": {"quarter": "A quarter", "third": "A third of the year"},
    "mdy": {"mdy": "The month", "dmy": "The day"},
    "dates": {"month": "Months", "quarter": "Quarters", "year": "Years"},
    "fill": {"down": "Yes, to the department above", "no": "No"},
    "sum": {"sum": "Add them up", "refuse": "Reject them"},
    "subtotals": {"totals": "Totals to leave out", "departments": "Departments"},
    "totals": {"totals": "A total to leave out", "departments": "A department"},
    "unit": {"1": "Amounts as written", "1000": "In thousands", "1000000": "In millions"},
    "sign": {"negate": "Yes, reverse the sign", "as is": "No, leave them negative"},
    "blanks": {"nothing": "Yes, no budget", "refuse": "No, reject such rows"},
}


class Choice(NamedTuple):
    """An option as a radio button or a check box. `note` is a reason to choose it, or ""."""

    value: str
    label: str
    is_chosen: bool
    note: str


class ShownQuestion(NamedTuple):
    """A question as a part of a form.

    `name` is the name of its fields. With `example`, the answer is typed and `typed` is the text so
    far. Without choices and example, it cannot be answered in the form. `default` is the value of
    the hidden field DEFAULT, or None: what is chosen without an answer in the form.
    """

    question: Question
    name: str
    choices: list[Choice]
    example: str
    typed: str
    default_name: str
    default: str | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class SentAnswers:
    """The answers in a sent form. `problems` are sentences about questions without a value."""

    answers: Answers
    problems: list[str] = field(default_factory=list)


def to_fields(proposal: Proposal, answers: Answers, stored: Answers) -> list[ShownQuestion]:
    """The questions of a proposal as form fields, open ones first.

    `answers` are those of the form, and `stored` those of an earlier reading.
    """
    shown = [
        _to_field(each, answers, stored, is_open=each.id in proposal.open)
        for each in proposal.questions
    ]
    return sorted(shown, key=lambda each: not each.is_open)


def _to_field(
    question: Question, answers: Answers, stored: Answers, *, is_open: bool
) -> ShownQuestion:
    earlier = None if is_open else stored.get(question.id)
    if earlier is not None and question.options and not set(earlier) <= set(question.options):
        earlier = None
    preset = question.default if earlier is None else tuple(earlier)
    chosen = answers.get(question.id, preset or ())
    example = "" if question.options else EXAMPLES.get(question.id, "")
    labels = _labels(question)
    choices = [
        Choice(
            json.dumps(option),
            labels.get(option, option),
            option in chosen,
            "as before" if earlier and option in earlier else _note(question, option),
        )
        for option in question.options
    ]
    return ShownQuestion(
        question,
        (TYPED if example else CHOSEN) + json.dumps(question.id),
        choices,
        example,
        chosen[0] if chosen and example else "",
        DEFAULT + json.dumps(question.id),
        None if preset is None else json.dumps(list(preset)),
        is_open,
    )


def _labels(question: Question) -> Mapping[str, str]:
    """The labels of the options that are not shown as they are."""
    labels = LABELS.get(question.id, {})
    if not question.examples:
        return labels
    shown = zip(question.options, question.examples, strict=True)
    return {option: f"{text} ({labels.get(option, option)})" for option, text in shown}


def _note(question: Question, option: str) -> str:
    if question.default is not None and option in question.default:
        return "suggested"
    return "the sheet says so" if option == question.proposal else ""


def from_form(fields: Iterable[tuple[str, Sequence[str]]]) -> SentAnswers:
    """The answers in the fields of a form: names, each with its values. Ignores other fields.

    An answer that equals the default on the page is not an answer. So it follows the default if
    another answer changes that.
    """
    answers: dict[str, tuple[str, ...]] = {}
    defaults: dict[str, tuple[str, ...]] = {}
    for name, values in fields:
        kind, _, rest = name.partition(":")
        question_id = _text(rest)
        if question_id is None:
            continue
        if kind == "answer":
            answers[question_id] = tuple(text for text in map(_text, values) if text is not None)
        elif kind == "text" and values and values[0].strip():
            answers[question_id] = (values[0].replace("\x00", "").strip()[:MAX_TYPED],)
        elif kind == "default" and values:
            defaults[question_id] = _texts(values[0])
    emptied = [each for each, default in defaults.items() if default and each not in answers]
    problems = [
        f"Choose at least one value{f' of {heading}' if heading else ''}."
        for heading in (each.partition(":")[2] for each in emptied)
    ]
    kept = {
        each: given
        for each, given in answers.items()
        if given and set(given) != set(defaults.get(each, ()))
    }
    return SentAnswers(kept, problems)


def without_typed(answers: Answers) -> Answers:
    """The answers that were chosen and not typed."""
    return {each: given for each, given in answers.items() if each not in EXAMPLES}


def _text(value: str) -> str | None:
    try:
        text = json.loads(value)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _texts(value: str) -> tuple[str, ...]:
    try:
        texts = json.loads(value)
    except ValueError:
        return ()
    return tuple(each for each in texts if isinstance(each, str)) if isinstance(texts, list) else ()
