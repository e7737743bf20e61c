"""Step 7: the decimal mark and the mark between groups of digits, and texts for no amount. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from budget_sync.domain.names import fold
from budget_sync.sync.reading.detect.cells import core_of
from budget_sync.sync.reading.detect.findings import Findings, listed
from budget_sync.sync.reading.model import Marks
from budget_sync.sync.reading.proposal import Question
from budget_sync.sync.reading.vocabulary import BLANK_AMOUNT

Group = Literal[".", ",", " ", "'"]

_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f"), " ") | {ord("\u2019"): "'"}
_GROUPS = re.compile(r"[1-9][0-9]{0,2}(?:([., '])[0-9]{2,3})(?:\1[0-9]{2,3})*")
_MAX_BLANKS = 50

#: The decimal mark that goes with a mark between groups.
_DECIMAL_OF: dict[str, Literal[".", ","]] = {" ": ",", "'": ".", ",": ".", ".": ","}


@dataclass
class MarkEvidence:
    """The marks in the amounts, with one example for each."""

    decimals: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    #: One mark before exactly three digits, which may be either: "12,000".
    either: dict[str, str] = field(default_factory=dict)

    def read(self, text: str) -> None:
        """Add what one amount says."""
        core = core_of(text)
        if core is None or "e" in core or "E" in core:
            return
        core = core.translate(_SPACES)
        marks = [letter for letter in core if not letter.isdecimal()]
        if not marks:
            return
        if len(set(marks)) > 1:
            self._read_both(core, marks, text)
        elif len(marks) > 1 or marks[0] in " '":
            if _is_grouped(core):
                self.groups.setdefault(marks[0], text)
        else:
            self._read_one(core, marks[0], text)

    def _read_both(self, core: str, marks: list[str], text: str) -> None:
        last = marks[-1]
        whole, _, _ = core.rpartition(last)
        if last in marks[:-1] or last not in ".," or not _is_grouped(whole):
            return
        self.groups.setdefault(marks[0], text)
        self.decimals.setdefault(last, text)

    def _read_one(self, core: str, mark: str, text: str) -> None:
        whole, _, rest = core.partition(mark)
        if len(rest) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0"):
            self.either.setdefault(mark, text)
        else:
            self.decimals.setdefault(mark, text)


def _is_grouped(core: str) -> bool:
    """Whether digits are in groups of three, or of two before the last group (12,34,567)."""
    return bool(_GROUPS.fullmatch(core)) and core[-4:-3] in tuple(".,' ")


def find_marks(texts: Iterable[str], exponent: int, findings: Findings) -> Marks:
    """The marks of the amounts. `exponent` is the number of decimals of the currency."""
    seen = MarkEvidence()
    for text in dict.fromkeys(texts):
        seen.read(text)
    if not (seen.decimals or seen.groups or seen.either):
        return Marks()
    marks = _completed(seen)
    if marks is None:
        return _ask_which(seen, findings)
    if not seen.decimals and not seen.groups:
        if set(seen.either) == {"."}:
            return _ask_thousands(seen.either["."], findings)
        findings.note(
            f"Amounts such as {seen.either[',']!r} are read as thousands: the comma separates "
            "groups of digits."
        )
        return marks
    if marks.decimal in seen.either and exponent != 3:
        return _ask_which(seen, findings)
    return marks


def _completed(seen: MarkEvidence) -> Marks | None:
    """The marks that all amounts allow; None if two of them contradict each other."""
    if len(seen.decimals) > 1 or len(seen.groups) > 1 or set(seen.decimals) & set(seen.groups):
        return None
    if not seen.decimals and not seen.groups and len(seen.either) > 1:
        return None
    decimal = next(iter(seen.decimals), None)
    group = next(iter(seen.groups), None)
    if decimal is None and group is None:
        group = next(iter(seen.either))
    decimal = decimal or _DECIMAL_OF[group or ","]
    group = group or ("," if decimal == "." else ".")
    return Marks.model_validate({"decimal": decimal, "group": group})


_ALIASES = {"thousands": ", and .", "decimals": ". and ,"}


def _ask_which(seen: MarkEvidence, findings: Findings) -> Marks:
    """Ask which marks are meant, with an example of each way of writing."""
    examples = _contradicting(seen)
    question = Question(
        "locale",
        f"Amounts are written in several ways: {listed(examples, 3)}. Which marks are meant "
        "(first the decimal mark, then the mark between groups)?",
        (". and ,", ", and ."),
    )
    answer = findings.ask_one(question, _ALIASES)
    return _german(seen) if answer == ", and ." else _english(seen)


def _contradicting(seen: MarkEvidence) -> list[str]:
    found = [*seen.either.values(), *seen.groups.values(), *seen.decimals.values()]
    return list(dict.fromkeys(found))


def _english(seen: MarkEvidence) -> Marks:
    other = next((mark for mark in seen.groups if mark in " '"), ",")
    return Marks.model_validate({"decimal": ".", "group": other if "," not in seen.groups else ","})


def _german(seen: MarkEvidence) -> Marks:
    other = next((mark for mark in seen.groups if mark in " '"), ".")
    return Marks.model_validate({"decimal": ",", "group": other if "." not in seen.groups else "."})


def _ask_thousands(example: str, findings: Findings) -> Marks:
    whole, _, rest = (core_of(example) or "").partition(".")
    question = Question(
        "locale",
        f"Is '{example}' {whole},{rest}, or {whole} with three decimals?",
        ("thousands", "decimals"),
    )
    aliases = {option: name for name, option in _ALIASES.items()}
    if findings.ask_one(question, aliases) == "decimals":
        return Marks(decimal=".", group=",")
    return Marks(decimal=",", group=".")


def find_blanks(texts: Iterable[str], findings: Findings) -> tuple[str, ...]:
    """The folded texts of the amount columns that mean "no amount"."""
    found: dict[str, str] = {}
    for text in texts:
        if len(text) <= 20 and not text[0].isdecimal() and fold(text) in BLANK_AMOUNT:
            found.setdefault(fold(text), text)
    if not found:
        return ()
    verb = "Does" if len(found) == 1 else "Do"
    mean = "mean" if len(found) == 1 else "each mean"
    question = Question(
        "blanks",
        f"{verb} {listed(found.values())} {mean} that there is no budget?",
        ("nothing", "refuse"),
        default=("nothing",),
    )
    if findings.ask_one(question) == "refuse":
        return ()
    return tuple(found)[:_MAX_BLANKS]
