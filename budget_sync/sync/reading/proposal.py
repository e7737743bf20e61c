"""What `detect` proposes: a reading, questions that the sheet leaves open, and evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.result import SheetResult

#: The answers to questions by their ids. Questions that take several values have several.
Answers = Mapping[str, Sequence[str]]

#: How the evidence about the header and the columns begins.
HEADER_EVIDENCE = "Header: row "


@dataclass(frozen=True, slots=True)
class Question:
    """A question that only a person can answer.

    `default` is taken without an answer. `proposal` is shown, but never taken as the answer.
    `options` is empty if any text may be an answer (a year, a period) or none can (`fiscal_year`).
    With `several`, the answer is a list of options. `examples` has a text for each option, which
    shows what the option means; the end of `text` has them too, after `short_text`.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    default: tuple[str, ...] | None = None
    proposal: str | None = None
    several: bool = False
    examples: tuple[str, ...] = ()
    short_text: str = ""

    def to_json(self) -> dict[str, object]:
        """As JSON; a question with one value has strings in place of lists."""
        default: object = self.default
        if self.default is not None:
            default = list(self.default) if self.several else self.default[0]
        return {
            "id": self.id,
            "text": self.text,
            "options": list(self.options),
            "default": default,
            "proposal": self.proposal,
        }


@dataclass(frozen=True, slots=True)
class Proposal:
    """A reading with the answers and defaults so far.

    `open` are the ids of the questions that have neither an answer nor a default. A sheet that
    cannot be read has no reading, and `refused` says why. `trial` is what the reading finds, with
    assumptions for open questions; None if the sheet is refused or nothing can be read yet.
    `evidence` are sentences about what was found.
    """

    reading: Reading | None
    questions: list[Question] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    refused: str | None = None
    evidence: list[str] = field(default_factory=list)
    trial: SheetResult | None = None
