"""Settles ambiguous spellings of periods by all values of a column; the rest are questions. Pure.

The values are the different texts of the column, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from budget_sync.domain.names import fold
from budget_sync.domain.periods.fiscal_year import FiscalYear
from budget_sync.domain.periods.forms import (
    Day,
    Form,
    Month,
    MonthOrSpan,
    Part,
    Unreadable,
    WholeYear,
)
from budget_sync.domain.periods.parse import parse
from budget_sync.domain.periods.read import NOTHING_SETTLED, Settled, read_period
from budget_sync.domain.periods.words import fold_period

#: Assumed answers, with which the next open question of the same text is found.
_ASSUMED = {"year": "2025", "dash": "month", "ddmon": "year", "tri": "quarter", "mdy": "mdy"}

#: Words of French, Spanish, Italian and Portuguese headings that other languages do not have,
#: without accents.
_ROMANCE_WORDS = frozenset(
    word
    for words in (
        "departamento dipartimento cout couts centro costo costos coste costes custo custos",
        "unite unidad unidade organizativa direccion direzione direcao secretaria dependencia",
        "exercice ejercicio esercizio exercicio periodo annee ano anno trimestre semestre mois mes",
        "mese montant importe importo presupuesto orcamento bilancio budgete alloue",
        "presupuestado aprobado anual annuel moneda moeda devise",
    )
    for word in words.split()
)


def settle(texts: Iterable[str], fiscal_year: FiscalYear, headings: Sequence[str] = ()) -> Settled:
    """What the values of a column and the sheet's headings settle; None for the rest."""
    forms = {text: parse(text) for text in texts}
    mdy = _order_of_dates(forms.values())
    return Settled(
        dash=_month_or_span(forms, fiscal_year),
        tri=_quarter(forms.values(), headings),
        mdy=mdy,
        dates=_months(forms.values(), fiscal_year, mdy),
    )


def unsettled(
    texts: Iterable[str], fiscal_year: FiscalYear, settled: Settled = NOTHING_SETTLED
) -> dict[str, str]:
    """The ids of the questions that the values leave open, with the first text of each.

    The ids are those of `Settled`, and "fiscal_year": a text covers two calendar years, and the
    customer's fiscal year begins in January.
    """
    found: dict[str, str] = {}
    days = False
    for text in texts:
        assumed = settled
        reason = read_period(text, fiscal_year, assumed).reason
        while reason in _ASSUMED:
            found.setdefault(reason, text)
            assumed = assumed._replace(**{reason: _ASSUMED[reason]})
            reason = read_period(text, fiscal_year, assumed).reason
        if reason == "fiscal_year":
            found.setdefault(reason, text)
        if not days and settled.dates is None and isinstance(parse(text), Day):
            days = True
            found["dates"] = text
    return found


def is_romance(headings: Iterable[str]) -> bool:
    """Whether headings are French, Spanish, Italian or Portuguese, in which T is a quarter."""
    words = {word for heading in headings for word in fold_period(heading[:200]).split()}
    return bool(words & _ROMANCE_WORDS)


def _month_or_span(forms: dict[str, Form], fiscal_year: FiscalYear) -> str | None:
    """The meaning of 2011-12, by the other cells."""
    if not any(isinstance(form, MonthOrSpan) for form in forms.values()):
        return None
    is_span = any(
        isinstance(form, WholeYear) and form.year.last == form.year.first + 1
        for form in forms.values()
    )
    is_month = any(
        isinstance(form, Month) and _is_year_and_number(fold(text)) for text, form in forms.items()
    )
    if is_month == is_span:
        return None
    if is_month:
        return "month"
    return None if fiscal_year.is_calendar_year else "span"


def _is_year_and_number(folded: str) -> bool:
    return len(folded) == 7 and folded[:4].isdecimal() and folded[5:].isdecimal()


def _quarter(forms: Iterable[Form], headings: Sequence[str]) -> str | None:
    """The meaning of T1: a quarter if there is a T4, or by the language of the headings."""
    numbers = {form.number for form in forms if isinstance(form, Part) and form.letter == "T"}
    if not numbers:
        return None
    return "quarter" if 4 in numbers or is_romance(headings) else None


def _order_of_dates(forms: Iterable[Form]) -> str | None:
    """The order of month and day, if a number of a date is too large for a month."""
    numbers = [form.numbers for form in forms if isinstance(form, Day) and form.numbers]
    is_dmy = any(first > 12 for first, _ in numbers)
    is_mdy = any(second > 12 for _, second in numbers)
    if is_dmy == is_mdy:
        return None
    return "dmy" if is_dmy else "mdy"


def _months(forms: Iterable[Form], fiscal_year: FiscalYear, mdy: str | None) -> str | None:
    """That first days mean months: not if each is the first day of a quarter or a year."""
    read = [form for form in forms if not isinstance(form, Unreadable)]
    days = [form for form in read if isinstance(form, Day)]
    if not days:
        return None
    months = {month for form in days for month in _first_days(form, mdy)}
    starts = {month % 3 for month in months}
    is_quarters = len(days) == len(read) and starts in ({1}, {fiscal_year.first_month % 3})
    return None if is_quarters else "month"


def _first_days(form: Day, mdy: str | None) -> list[int]:
    """The months that a date may begin."""
    readings = form.readings
    if len(readings) > 1 and mdy:
        readings = readings[:1] if mdy == "mdy" else readings[1:]
    return [month for _, month, day in readings if day == 1]
