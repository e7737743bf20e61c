"""The dialogue about a proposed reading, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

import click

from budget_sync.commands.reading_answers import option_text
from budget_sync.commands.support import with_command_name
from budget_sync.sync.propose import Proposed
from budget_sync.sync.reading.proposal import Answers, Question

#: A question that no answer settles: the customer has to be changed first.
_UNANSWERABLE: Final = "fiscal_year"

#: At most this many options are listed with a question; the others after a `?`.
_SHOWN_OPTIONS: Final = 12


def has_dialogue() -> bool:
    """Whether a person can answer: standard input and standard output are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


class Dialogue:
    """Asks about a proposal on the terminal.

    `propose` returns the proposal after some answers, and `describe` its lines for people.
    """

    def __init__(
        self,
        propose: Callable[[Answers], Proposed],
        describe: Callable[[Proposed], list[str]],
        answers: dict[str, list[str]],
    ) -> None:
        self._propose = propose
        self._describe = describe
        self._answers = answers
        self._proposed = propose(answers)

    def hold(self, *, confirm: bool) -> Proposed | None:
        """Ask the open questions, then for confirmation if `confirm`.

        Returns the complete or refused proposal. Returns None if the person does not confirm it, or
        cannot because the customer's fiscal year must be set first.
        """
        if self._proposed.proposal.refused is not None:
            return self._proposed
        self._show()
        while True:
            asked = self._proposed.proposal.open
            if _UNANSWERABLE in asked:
                click.echo(
                    with_command_name(
                        f"\n{self._question(_UNANSWERABLE).text} Set the month with `flask "
                        "set-customer --fiscal-year-start`, then repeat this command."
                    )
                )
                return None
            if asked:
                self._answer(asked[0])
                if self._proposed.proposal.refused is None and not self._proposed.proposal.open:
                    self._show()
            elif self._proposed.proposal.refused is not None or not confirm:
                return self._proposed
            elif (is_confirmed := self._confirmed()) is not None:
                return self._proposed if is_confirmed else None

    def _show(self) -> None:
        click.echo()
        for line in self._describe(self._proposed):
            click.echo(line)

    def _question(self, question_id: str) -> Question:
        return next(each for each in self._proposed.proposal.questions if each.id == question_id)

    def _answer(self, question_id: str) -> None:
        """Ask a question until the answer is possible, and propose again with it."""
        question = self._question(question_id)
        while True:
            answers = {**self._answers, question_id: ask(question)}
            proposed = self._propose(answers)
            if not proposed.is_wrong_answer:
                break
            click.echo(f"  {proposed.proposal.refused}")
        self._answers, self._proposed = answers, proposed

    def _confirmed(self) -> bool | None:
        """Whether the person confirms the reading; None if an assumed answer was changed."""
        assumed = [
            question
            for question in self._proposed.proposal.questions
            if question.id not in self._answers and question.default is not None
        ]
        if assumed:
            click.echo("\nAssumed:")
        for number, question in enumerate(assumed, 1):
            click.echo(f"  {number}  {question.text} {', '.join(question.default or ())}")
        change = ", or the number of an answer to change" if assumed else ""
        while True:
            text = click.prompt(f"\nIs this right? yes, no{change}").strip().casefold()
            if text in ("yes", "y"):
                return True
            if text in ("no", "n"):
                return False
            if text.isdecimal() and 1 <= int(text[:9]) <= len(assumed):
                self._answer(assumed[int(text[:9]) - 1].id)
                if not self._proposed.proposal.open:
                    self._show()
                return None
            click.echo("  Enter yes to store this reading, or no to store nothing.")


def ask(question: Question) -> list[str]:
    """Ask a question on the terminal until the answer is possible."""
    click.echo(f"\n{question.text}")
    numbered = _is_numbered(question)
    for number, option in enumerate(question.options[:_SHOWN_OPTIONS], 1):
        click.echo(f"  {number if numbered else '-'}  {_shown(option)}")
    if len(question.options) > _SHOWN_OPTIONS:
        click.echo(f"  … and {len(question.options) - _SHOWN_OPTIONS} more: enter ? to list them")
    if question.proposal is not None:
        click.echo(f"  Perhaps {_shown(question.proposal)}.")
    default = None if question.default is None else ", ".join(map(_shown, question.default))
    while True:
        text = click.prompt(_prompt(question), default=default).strip()
        if text == "?":
            _explain(question)
        elif question.default is not None and text == default:
            return list(question.default)
        else:
            values, problem = _chosen(question, text)
            if problem is None:
                return values
            click.echo(f"  {problem}")


def _is_numbered(question: Question) -> bool:
    """Whether an option can be chosen by its number: not if the options are numbers themselves."""
    options = question.options
    return not any(
        option.isdecimal() and int(option[:9]) <= len(options) and option != str(number)
        for number, option in enumerate(options, 1)
    )


def _prompt(question: Question) -> str:
    if not question.options:
        return "Answer"
    what = "Number" if _is_numbered(question) else "Value"
    return f"{what}s, separated by commas" if question.several else what


def _shown(option: str) -> str:
    return option or "(no)"


def _explain(question: Question) -> None:
    """Explain how to answer, and list all options."""
    if not question.options:
        click.echo("  Type the answer and press Enter.")
    elif question.several:
        click.echo("  Type all that apply, separated by commas.")
    elif _is_numbered(question):
        click.echo("  Type the number of an option, or the option itself.")
    else:
        click.echo("  Type one of the options.")
    if question.default is not None:
        click.echo("  Press Enter to take the answer in brackets.")
    click.echo("  Ctrl-C ends the command. Then nothing is stored.")
    for number, option in enumerate(question.options, 1):
        mark = number if _is_numbered(question) else "-"
        click.echo(f"  {mark}  {_shown(option)}    {option_text(question.id, option)}")


def _chosen(question: Question, text: str) -> tuple[list[str], str | None]:
    """The values that a text chooses, and what is wrong with the text."""
    if not question.options or text in question.options:
        return [text], None if text else "An answer is needed."
    parts = [part.strip() for part in text.split(",")] if question.several else [text]
    values: list[str] = []
    for part in parts:
        number = int(part[:9]) if part.isdecimal() and _is_numbered(question) else 0
        if part in question.options:
            values.append(part)
        elif 1 <= number <= len(question.options):
            values.append(question.options[number - 1])
        else:
            return [], f"{part!r} is not among the options. Enter ? for help."
    return list(dict.fromkeys(values)), None
