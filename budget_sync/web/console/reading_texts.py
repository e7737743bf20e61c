"""A stored reading in plain words, and the differences between two readings. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from budget_sync.sync.reading.model import (
    CurrencyColumn,
    CurrencyConstant,
    Period,
    PeriodColumn,
    PeriodConstant,
    PeriodHeadings,
    Reading,
)

#: A list names at most this many values.
MAX_LISTED = 12

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_UNITS = {1: "as written", 1000: "in thousands", 1_000_000: "in millions"}
_SETTLED = {
    "year": ("Year of periods without one", {}),
    "dash": ("Periods such as 2011-12", {"month": "a month", "span": "a fiscal year"}),
    "ddmon": ("Periods such as 26-Jan", {"year": "a month and a year", "day": "a day"}),
    "tri": ("Periods such as T1", {"quarter": "a quarter", "third": "a third of the year"}),
    "mdy": ("Dates", {"mdy": "the month comes first", "dmy": "the day comes first"}),
    "dates": ("First days as periods", {"month": "months", "quarter": "quarters", "year": "years"}),
}
_PART_KINDS = {
    "quarter": "the quarter",
    "fiscal": "the month, counted from the start of the fiscal year,",
    "calendar": "the month, counted from January,",
}


class Line(NamedTuple):
    """One point of a reading: its name and what the reading says."""

    name: str
    text: str


class Difference(NamedTuple):
    """A point in which two readings differ. A point that only one has is "" in the other."""

    name: str
    old: str
    new: str


def reading_lines(reading: Reading) -> list[Line]:
    """A reading as a list of points."""
    lines = [
        Line("Header", "1 row" if reading.header.rows == 1 else f"{reading.header.rows} rows"),
        Line("Department", _department(reading)),
        *_period(reading.period),
        Line("Amount", _amount(reading)),
        Line("Amounts look like", f"1{reading.marks.group}234{reading.marks.decimal}50"),
        Line("Currency", _currency(reading.currency)),
    ]
    if reading.id is not None:
        lines.append(Line("Budget ID", quoted(reading.id)))
    if reading.limit is not None:
        lines.append(Line("Auto-approve limit", quoted(reading.limit)))
    if reading.owner is not None:
        lines.append(Line("Owner Email", quoted(reading.owner)))
    several = "are added up" if reading.sum else "are rejected"
    lines.append(Line("Several rows of one department and period", several))
    lines += _rows(reading)
    if reading.file is not None:
        delimiter = _DELIMITERS[reading.file.delimiter]
        lines.append(Line("File", f"{reading.file.encoding}, columns between {delimiter}"))
    return lines


def differences(old: Reading, new: Reading) -> list[Difference]:
    """The points in which two readings differ, in the order of the new one."""
    before = {line.name: line.text for line in reading_lines(old)}
    after = {line.name: line.text for line in reading_lines(new)}
    return [
        Difference(name, before.get(name, ""), after.get(name, ""))
        for name in dict.fromkeys((*after, *before))
        if before.get(name) != after.get(name)
    ]


def quoted(heading: str) -> str:
    """A heading in quotes; a column without one by its number."""
    if heading.startswith("@") and heading[1:].isdecimal():
        return f"column {int(heading[1:]) + 1} (without a heading)"
    return f"“{heading}”"


def _department(reading: Reading) -> str:
    text = quoted(reading.department.column)
    if reading.department.fill == "down":
        text += "; a blank one is that of the row above"
    elif reading.department.fill == "section":
        text += "; each on a separate line, with its total below"
    if reading.department.code == "strip":
        text += "; the code before the name is left out"
    return text


def _period(period: Period) -> Iterator[Line]:
    if isinstance(period, PeriodConstant):
        yield Line("Period", f"{period.constant} for all rows")
    elif isinstance(period, PeriodHeadings):
        named = [
            f"{quoted(heading)} is {text}" if heading != text else quoted(heading)
            for heading, text in period.headings.items()
        ]
        yield Line("Period", f"in the headings: {listed(named)}")
        if period.ignored:
            yield Line("Columns left out", listed([quoted(each) for each in period.ignored]))
    elif isinstance(period, PeriodColumn):
        text = quoted(period.column)
        if period.part is not None and period.part_kind is not None:
            text += f" has the year, {quoted(period.part)} has {_PART_KINDS[period.part_kind]}"
        yield Line("Period", text.rstrip(","))
    for key, (name, words) in _SETTLED.items():
        value = getattr(period, key)
        if value is not None:
            yield Line(name, words.get(value, value))


def _amount(reading: Reading) -> str:
    columns = listed([quoted(each) for each in reading.amount.columns])
    text = f"{columns}, {_UNITS[reading.unit]}"
    return f"{text}; negative amounts are budgets" if reading.sign == "negate" else text


def _currency(currency: CurrencyColumn | CurrencyConstant | None) -> str:
    if isinstance(currency, CurrencyConstant):
        return currency.constant
    if currency is None:
        return "the customer's currency"
    words = [f"“{word}” is {code}" for word, code in currency.words.items()]
    return f"{quoted(currency.column)}; {listed(words)}" if words else quoted(currency.column)


def _rows(reading: Reading) -> Iterator[Line]:
    for each in reading.keep:
        text = f"counted if {listed(list(each.kept))}"
        if each.left_out:
            text += f"; left out if {listed(list(each.left_out))}"
        yield Line(f"Rows by {quoted(each.column)}", f"{text}; other values are rejected")
    if reading.totals.names:
        yield Line("Subtotals left out", listed(list(reading.totals.names)))
    if reading.totals.departments:
        yield Line("Departments that read like totals", listed(list(reading.totals.departments)))
    if reading.blanks:
        yield Line("No amount", listed([f"“{each}”" for each in reading.blanks]))


def listed(values: list[str]) -> str:
    """The values with commas; at most MAX_LISTED of them."""
    more = len(values) - MAX_LISTED
    text = ", ".join(values[:MAX_LISTED])
    return f"{text} and {more:,} more" if more > 0 else text
