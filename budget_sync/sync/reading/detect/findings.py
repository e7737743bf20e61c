"""What `detect` has found so far: questions, answers, evidence, and the parts of the reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from budget_sync.domain.names import fold
from budget_sync.sync.limits import cut, quoted
from budget_sync.sync.reading.headings import hkey
from budget_sync.sync.reading.model import Reading
from budget_sync.sync.reading.proposal import Answers, Question
from budget_sync.sync.reading.result import Customer

#: A question shows at most this many characters of a heading or a value.
MAX_SHOWN_CHARS = 60

#: An error about an answer lists at most this many options.
MAX_LISTED_OPTIONS = 30


#: Why a sheet with lone surrogates in its headings or values is rejected.
BROKEN_TEXT = "A heading or a value of the sheet holds broken characters. Type it again."


class AnswerError(ValueError):
    """An answer that is not among the options of its question; the text lists them."""


class Refused(Exception):
    """A sheet that cannot be read as budgets; the text says why and what to do."""


@dataclass
class Findings:
    """The questions with their answers, and the evidence.

    `answers` come from a person and must fit. `stored` are the answers of `reading`, which is
    confirmed already: one that no longer fits the sheet is not used.
    """

    customer: Customer
    answers: Answers
    stored: dict[str, Sequence[str]] = field(default_factory=dict)
    reading: Reading | None = None
    title_years: tuple[str, ...] = ()
    #: The source of the years, for a question.
    years_from: str = "The title"
    questions: list[Question] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)

    @property
    def title_year(self) -> str | None:
        """The only year in the title and the file name."""
        return self.title_years[0] if len(self.title_years) == 1 else None

    @property
    def title_hint(self) -> str:
        """The end of a question about that year: " (The title says 2026.)"."""
        return f" ({self.years_from} says {self.title_year}.)" if self.title_year else ""

    def asked(self, question_id: str) -> bool:
        """Whether the question is in the list already."""
        return any(each.id == question_id for each in self.questions)

    def is_open(self, *question_ids: str) -> bool:
        """Whether one of these questions has neither an answer nor a default."""
        return any(each in self.open for each in question_ids)

    def ask(
        self, question: Question, names: Mapping[str, str] | None = None
    ) -> tuple[str, ...] | None:
        """Ask, and return the answer or the default; None if the question stays open.

        `names` are further spellings of options. Raises AnswerError for an answer that fits none.
        """
        self.questions.append(replace(question, text=unbroken(question.text)))
        known = {_key(option): option for option in question.options}
        known |= {_key(name): option for name, option in (names or {}).items()}
        if question.id in self.answers:
            return _chosen(question, known, self.answers[question.id])
        if question.id in self.stored:
            try:
                return _chosen(question, known, self.stored[question.id])
            except AnswerError:
                self.note(
                    f"The stored answer to {question.id!r} no longer fits the sheet. "
                    "It is asked again."
                )
        if question.default is None:
            self.open.append(question.id)
        return question.default

    def ask_one(self, question: Question, names: Mapping[str, str] | None = None) -> str | None:
        """The same for a question with one value."""
        answer = self.ask(question, names)
        return answer[0] if answer else None

    def note(self, sentence: str) -> None:
        """Add to the evidence, once."""
        if sentence not in self.evidence:
            self.evidence.append(unbroken(sentence))

    def note_unused_answers(self) -> None:
        """Say which answers belong to no question of this sheet."""
        for unused in self.answers:
            if not self.asked(unused):
                self.note(f"The answer to {quoted(unused)} was ignored: it is not asked.")


def _key(text: str) -> str:
    """How an answer is compared: folded; a text without letters and digits as it is."""
    return fold(text) or text.strip()


def _chosen(question: Question, known: Mapping[str, str], given: Sequence[str]) -> tuple[str, ...]:
    """The options that an answer names. Without options, the texts themselves."""
    texts = [given] if isinstance(given, str) else list(given)
    if not question.several and len(texts) != 1:
        raise AnswerError(f"{question.id!r} takes one answer, not {len(texts)}.")
    if not question.several and not question.options:
        return (texts[0].strip(),)
    by_heading = _unique_headings(question.options)
    chosen = []
    for text in texts:
        option = known.get(_key(text)) if text.strip() else _blank_option(question)
        if option is None and hkey(text):
            option = by_heading.get(hkey(text))
        if option is None:
            raise AnswerError(
                f"{quoted(text)} is not an answer to {question.id!r}. "
                f"The answers are: {listed(question.options, MAX_LISTED_OPTIONS)}."
            )
        if option not in chosen:
            chosen.append(option)
    return tuple(chosen)


def _blank_option(question: Question) -> str | None:
    return "" if "" in question.options else None


def _unique_headings(options: Iterable[str]) -> dict[str, str]:
    """The options by `hkey`, without those that share one."""
    found: dict[str, str | None] = {}
    for option in options:
        key = hkey(option)
        found[key] = None if key in found else option
    return {key: option for key, option in found.items() if option is not None}


def is_broken(text: str) -> bool:
    """Whether a text has lone surrogates, which no database and no terminal takes."""
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def unbroken(text: str) -> str:
    """The text with "?" in place of lone surrogates."""
    return text.encode(errors="replace").decode() if is_broken(text) else text


def listed(texts: Iterable[str], most: int = 8) -> str:
    """Texts in quotes, the first ones if there are many: 'A', 'B', …."""
    shown = [f"'{cut(text, MAX_SHOWN_CHARS)}'" for text in texts]
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")


def plain_list(texts: Iterable[str], most: int = 8) -> str:
    """Texts without quotes, the first ones if there are many."""
    shown = [cut(text, MAX_SHOWN_CHARS) for text in texts]
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")


def word_set(text: str) -> frozenset[str]:
    """The words of a text, for lists of words in the code."""
    return frozenset(text.split())


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 row, 2 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
