"""The values of a period column: which are periods, and what the column settles. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from budget_sync.domain.periods import FiscalYear, PeriodText, Settled, read_period
from budget_sync.sync.limits import MAX_CELL_CHARS
from budget_sync.sync.reading.detect.cells import (
    ascii_digits,
    is_number_cell,
    is_year,
    text_of,
)
from budget_sync.sync.reading.detect.findings import AnswerError, Findings, word_set
from budget_sync.sync.reading.grid import Cell, DateCell
from budget_sync.sync.reading.headings import plain, words
from budget_sync.sync.reading.proposal import Question

#: Reasons for which a text has no key until a question is answered.
NEED_ANSWER = frozenset(("year", "dash", "ddmon", "tri", "mdy", "fiscal_year"))

_NOT_A_PERIOD = PeriodText(None, "unknown")
_MAX_CHARS = 100

_ISO_DATE = re.compile(r"(?:19|20)[0-9]{2}-[0-9]{1,2}-[0-9]{1,2}(?:[ T][0-9:.]+)?")
_SLASHED = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-](?:(?:19|20)[0-9]{2}|[0-9]{2})")
_TWO_YEARS = re.compile(r"(?:fy|gj)?\s*'?(?:[0-9]{4}|[0-9]{2})\s*[-/]\s*(?:[0-9]{4}|[0-9]{2})")
_YEAR_MONTH = re.compile(r"(?:19|20)[0-9]{2}[-/](?:0[1-9]|1[0-2])")
_FOURTH = re.compile(r"(?:t\s*4|4\s*t)(?![0-9])")

# A heading with one of these words is French, Spanish, Italian or Portuguese.
_ROMANCE = word_set(
    """departamento departamentos département dipartimento periodo período période presupuesto
    presupuestos budgété ejercicio exercice exercicio esercizio trimestre importe montant importo
    monto valor orçamento año année anno ano centro centre coût costo coste unidad unidade unité
    área dirección direction secretaría dependencia moneda devise crédits moeda montante valeur
    service libellé nombre concepto partida poste rubro"""
)


@dataclass
class PeriodTexts:
    """Reads period texts, each once."""

    fiscal_year: FiscalYear
    _known: dict[str, PeriodText] = field(default_factory=dict)

    def read(self, text: str) -> PeriodText:
        """The meaning of a text without any answer."""
        if len(text) > _MAX_CHARS:
            return _NOT_A_PERIOD
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = read_period(text, self.fiscal_year)
        return found

    def is_period(self, text: str) -> bool:
        """Whether a text is a period, needs an answer to be one, or is a placeholder for one."""
        found = self.read(text)
        return found.key is not None or found.reason in NEED_ANSWER or found.reason == "placeholder"

    def is_keyed(self, text: str) -> bool:
        """Whether a text is a period without any answer."""
        return self.read(text).key is not None

    def is_year(self, text: str) -> bool:
        """Whether a text is a whole fiscal year: it has the key of a year, or two years."""
        found = self.read(text)
        return (found.key is not None and len(found.key) == 4) or found.reason == "fiscal_year"


def period_text(cell: Cell) -> str:
    """A cell as a period text: a number that is not a year, and a date, are no periods."""
    if isinstance(cell, DateCell):
        return f"{text_of(cell)} (date)"
    text = text_of(cell)
    if is_number_cell(cell) and not is_year(text):
        return f"{text} (number)"
    return text


def period_values(cells: Iterable[Cell]) -> Counter[str]:
    """How often each period text occurs, blank cells excluded."""
    raw = Counter(cell if not isinstance(cell, bool) else str(cell) for cell in cells)
    found: Counter[str] = Counter()
    for cell, times in raw.items():
        if text := period_text(cell):
            found[text[:MAX_CELL_CHARS]] += times
    return found


def settle(
    values: Iterable[str],
    texts: PeriodTexts,
    findings: Findings,
    headings: Iterable[str],
    reasons: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The settled ambiguities of a column or of headings, as in a reading's `period`.

    The rest is asked. `reasons` are examples of texts by the reason for which
    they have no key; without it they come from the values.
    """
    distinct = list(values)
    found = dict(reasons) if reasons is not None else _examples(distinct, texts)
    settled: dict[str, str] = {}
    if "fiscal_year" in found:
        _ask_fiscal_year(found["fiscal_year"], findings)
    if "year" in found:
        _set(settled, "year", _ask_year(found["year"], findings))
    if "dash" in found:
        span = _dash(distinct, texts) or _ask(findings, _dash_question(found["dash"]))
        _set(settled, "dash", span)
    if "ddmon" in found:
        _set(settled, "ddmon", _ask(findings, _ddmon_question(found["ddmon"])))
    if "tri" in found:
        is_quarter = _has_fourth(distinct) or _is_romance(headings)
        tri = "quarter" if is_quarter else _ask(findings, _TRI)
        _set(settled, "tri", tri)
    if "mdy" in found:
        _set(settled, "mdy", _mdy(distinct) or _ask(findings, _mdy_question(found["mdy"])))
    if "tri" in found and "year" not in found:
        _settle_year_of_thirds(distinct, texts, findings, settled)
    _set(settled, "dates", _dates(distinct, texts, findings, settled))
    return settled


def _settle_year_of_thirds(
    values: list[str], texts: PeriodTexts, findings: Findings, settled: dict[str, str]
) -> None:
    """Ask for the year if a text such as T1 has neither an answer nor a year."""
    for value in values:
        if texts.read(value).reason == "tri":
            again = read_period(value, texts.fiscal_year, Settled(tri="quarter"))
            if again.reason == "year":
                _set(settled, "year", _ask_year(value, findings))
                return


def _set(settled: dict[str, str], key: str, value: str | None) -> None:
    if value is not None:
        settled[key] = value


def _ask(findings: Findings, question: Question) -> str | None:
    return findings.ask_one(question)


def _examples(values: list[str], texts: PeriodTexts) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        reason = texts.read(value).reason
        if reason in NEED_ANSWER and reason is not None:
            found.setdefault(reason, value)
    return found


def _ask_fiscal_year(example: str, findings: Findings) -> None:
    if not findings.asked("fiscal_year"):
        findings.ask(
            Question(
                "fiscal_year",
                f"'{example}' covers two calendar years, but this customer's fiscal year begins in "
                "January. Set the month with 'flask set-customer', then start again.",
            )
        )


def _ask_year(example: str, findings: Findings) -> str | None:
    return ask_for_year(
        findings,
        Question(
            "year",
            f"'{example}' has no year. Which fiscal year is it?{findings.title_hint}",
            proposal=findings.title_year,
        ),
    )


def ask_for_year(findings: Findings, question: Question) -> str | None:
    """Ask for a year: any text that is one, as four digits. Raises AnswerError."""
    if findings.asked(question.id):
        return None
    answer = findings.ask_one(question)
    return None if answer is None else four_digits(answer, question.id, findings)


def four_digits(answer: str, question_id: str, findings: Findings) -> str:
    """The year that an answer names: "2026", "FY26" or "2025-26". Raises AnswerError."""
    found = read_period(answer, findings.customer.fiscal_year)
    if found.key is None or len(found.key) != 4:
        raise AnswerError(f"'{answer}' is not an answer to {question_id!r}. Enter a year: 2026.")
    return found.key


def _dash_question(example: str) -> Question:
    year, _, rest = ascii_digits(plain(example)).partition("-")
    return Question(
        "dash",
        f"Is {example} month {rest} of {year}, or the fiscal year {example}?",
        ("month", "span"),
    )


def _ddmon_question(example: str) -> Question:
    return Question(
        "ddmon",
        f"Is '{example}' a month with its year (26-Jan: January 2026), or a day?",
        ("year", "day"),
    )


_TRI = Question("tri", "Is T1 a quarter (trimestre), or a third of the year?", ("quarter", "third"))


def _mdy_question(example: str) -> Question:
    return Question(
        "mdy",
        f"Which comes first in dates such as '{example}', the month or the day?",
        ("mdy", "dmy"),
    )


def _dash(values: list[str], texts: PeriodTexts) -> str | None:
    """Whether texts such as 2011-12 are months or spans of years, if other values say so."""
    months = spans = False
    for value in values:
        text = ascii_digits(plain(value)).lower()
        read = texts.read(value)
        if read.reason == "dash":
            continue
        if _YEAR_MONTH.fullmatch(text) and read.key is not None and len(read.key) == 7:
            months = True
        elif _TWO_YEARS.fullmatch(text) and (
            read.reason == "fiscal_year" or (read.key is not None and len(read.key) == 4)
        ):
            spans = True
    if months and not spans:
        return "month"
    if spans and not months and texts.fiscal_year.first_month != 1:
        return "span"
    return None


def _has_fourth(values: list[str]) -> bool:
    return any(_FOURTH.search(ascii_digits(plain(value)).lower()) for value in values)


def _is_romance(headings: Iterable[str]) -> bool:
    return any(word in _ROMANCE for heading in headings for word in words(heading))


def _mdy(values: list[str]) -> str | None:
    """The order of day and month, if one of the numbers of a date is above 12."""
    found = set()
    for value in values:
        if match := _SLASHED.fullmatch(ascii_digits(value)):
            if int(match[1]) > 12:
                found.add("dmy")
            if int(match[2]) > 12:
                found.add("mdy")
    return found.pop() if len(found) == 1 else None


def _dates(
    values: list[str], texts: PeriodTexts, findings: Findings, settled: Mapping[str, str]
) -> str | None:
    """The meaning of first days: months, unless all are first days of quarters or of years."""
    dated = [value for value in values if _is_date(value)]
    if not dated:
        return None
    others = [v for v in values if not _is_date(v) and texts.read(v).reason != "placeholder"]
    orders = [settled["mdy"]] if "mdy" in settled else ["mdy", "dmy"]
    start = texts.fiscal_year.first_month
    quarters = {(start + 3 * number - 1) % 12 + 1 for number in range(4)}
    in_orders = [{_month_of(value, texts, order) for value in dated} for order in orders]
    if others or not any(months <= quarters or months <= {1, 4, 7, 10} for months in in_orders):
        return "month"
    question = Question(
        "dates",
        f"The periods are first days ({', '.join(dated[:2])}). Do they mean months, quarters or "
        "years?",
        ("month", "quarter", "year"),
    )
    return findings.ask_one(question)


def _is_date(value: str) -> bool:
    text = ascii_digits(value)
    return bool(_ISO_DATE.fullmatch(text) or _SLASHED.fullmatch(text))


def _month_of(value: str, texts: PeriodTexts, order: str) -> int | None:
    """The month that begins on a day; None for any other day."""
    found = read_period(value, texts.fiscal_year, Settled(mdy=order))
    return int(found.key[5:]) if found.key and found.key[5:].isdecimal() else None
