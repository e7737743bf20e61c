"""The --answer options of commands that propose a reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import click

from budget_sync.sync.reading.proposal import Answers, Question

#: A question about the values of a column: the id is followed by the column's heading.
_KEEP: Final = "keep:"


class AnswerProblem(click.UsageError):
    """An --answer option that cannot be an answer."""


def parse_answers(
    texts: Sequence[str], question_ids: Callable[[Answers], Collection[str]]
) -> dict[str, list[str]]:
    """The answers of the options by question id; each has one value or several.

    A heading may contain "=", so the id ends at the first "=" after which the text before is a
    question's id. `question_ids` returns the ids of the questions that are asked after some
    answers; it is only called if there are several "=". Raises AnswerProblem for a text without
    "=".
    """
    answers: dict[str, list[str]] = {}
    unclear: list[str] = []
    for text in texts:
        if "=" not in text:
            raise AnswerProblem(f"--answer {text!r} must look like ID=VALUE.")
        if text.startswith(_KEEP) and text.count("=") > 1:
            unclear.append(text)
        else:
            _add(answers, *text.split("=", 1))
    asked = question_ids(answers) if unclear else ()
    for text in unclear:
        question_id, value = _split(text, asked)
        _add(answers, question_id, value)
    return answers


def _split(text: str, asked: Collection[str]) -> tuple[str, str]:
    """The id and the value of an answer with several "="."""
    end = text.index("=")
    while end >= 0:
        if text[:end] in asked:
            return text[:end], text[end + 1 :]
        end = text.find("=", end + 1)
    question_id, _, value = text.partition("=")
    return question_id, value


def _add(answers: dict[str, list[str]], question_id: str, value: str) -> None:
    """Add an answer to those before it with the same id."""
    answers.setdefault(question_id, []).extend(_values(question_id, value))


def _values(question_id: str, value: str) -> list[str]:
    """The values of an answer: those of a JSON list if the question takes several."""
    if value.startswith("[") and (question_id == "columns" or question_id.startswith(_KEEP)):
        try:
            values = json.loads(value)
        except ValueError:
            return [value]
        if isinstance(values, list) and all(isinstance(each, str | int) for each in values):
            return [str(each) for each in values]
    return [value]


def option_text(question_id: str, value: str) -> str:
    """An --answer option as it is typed in a shell."""
    text = f"{question_id}={value}"
    if all(each.isalnum() or each in "_-=:./,@" for each in text):
        return f"--answer {text}"
    return "--answer '" + text.replace("'", "'\\''") + "'"


def assumed_lines(questions: Iterable[Question], answers: Collection[str]) -> list[str]:
    """Questions that got their default answer, with the other options.

    `answers` are the ids of the answered questions.
    """
    lines: list[str] = []
    for question in questions:
        if question.default is None or question.id in answers:
            continue
        lines.append(f"{question.text} Assumed: {', '.join(question.default) or 'no'}.")
        lines += [
            f"  {option_text(question.id, option)}"
            for option in question.options
            if option not in question.default
        ]
    return lines


def open_question_lines(questions: Iterable[Question]) -> list[str]:
    """Questions with their options, as lines for a caller without a terminal."""
    lines: list[str] = []
    for question in questions:
        lines.append(question.text)
        if question.proposal is not None:
            lines.append(f"  Perhaps {question.proposal!r}.")
        lines += [f"  {option_text(question.id, option)}" for option in question.options]
        if not question.options:
            lines.append(f"  {option_text(question.id, 'VALUE')}")
        if question.several:
            lines.append("  Repeat --answer for several values.")
    return lines
