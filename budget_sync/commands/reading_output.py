"""Prints a proposed reading: as one JSON object, or as sentences."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import click

from budget_sync.commands.reading_answers import assumed_lines, open_question_lines
from budget_sync.commands.support import done
from budget_sync.domain.results import dumps
from budget_sync.sync.describe import difference, proposal_json, proposal_lines
from budget_sync.sync.propose import Proposed
from budget_sync.sync.source import Source


class Stored(NamedTuple):
    """The result of storing: the source, a sentence about it, and warnings."""

    source_id: str
    sentence: str
    warnings: list[str]


def print_json(source: Source | None, proposed: Proposed, stored: Stored | None) -> None:
    """Print the JSON object; for a source that is read again, with the difference."""
    found = proposal_json(proposed, stored.source_id if stored else None)
    if source is not None:
        found["difference"] = difference(source.reading, proposed.proposal.reading)
    text = dumps(found)
    if stored is None:
        click.echo(text)
        return
    done(text, instead=stored.sentence)
    warn(stored.warnings)


def print_text(
    source: Source | None,
    proposed: Proposed,
    stored: Stored | None,
    *,
    answered: Collection[str],
    is_preview: bool,
) -> None:
    """Print a proposal for a caller without a terminal. Raises click.ClickException if refused.

    `answered` are the ids of the questions that the command has answers to.
    """
    proposal = proposed.proposal
    if proposal.refused is not None:
        raise click.ClickException(proposal.refused)
    if stored is not None:
        for line in (*proposal_lines(proposed), *difference_lines(source, proposed)):
            click.echo(line, err=True)
        done(stored.sentence)
        warn(stored.warnings)
        return
    for line in (*proposal_lines(proposed), *difference_lines(source, proposed)):
        click.echo(line)
    _print_list("Answers that were assumed", assumed_lines(proposal.questions, answered))
    questions = [each for each in proposal.questions if each.id in proposal.open]
    if questions:
        _print_list("Open questions", open_question_lines(questions))
    elif not is_preview:
        click.echo("\nNothing was stored. Add --accept to confirm this reading.")


def _print_list(title: str, lines: list[str]) -> None:
    """Print lines below a title; nothing if there are no lines."""
    if lines:
        click.echo(f"\n{title}:\n")
        for line in lines:
            click.echo(line)


def difference_lines(source: Source | None, proposed: Proposed) -> list[str]:
    """The differences to the stored reading, a line each."""
    if source is None or proposed.proposal.reading is None:
        return []
    changes = difference(source.reading, proposed.proposal.reading)
    if not changes:
        return ["The reading is the stored one."]
    return [
        "Different from the stored reading:",
        *(f"  {each['key']}: {dumps(each['old'])} → {dumps(each['new'])}" for each in changes),
    ]


def warn(warnings: list[str]) -> None:
    """Print warnings to standard error."""
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
