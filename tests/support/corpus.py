"""The corpus: sheets with the expected result of reading them, as JSON files.

`budgets` are `{"Department|period key": amount}`, exactly these. `skipped_rows` and `error_rows`
are sheet rows; a list inside is one error that names all of its rows. `must_ask` are ids of
questions, and `answers` what the person answers. `versions` of a sequence are read one after the
other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from budget_sync.domain.names import fold
from budget_sync.domain.periods import FiscalYear
from budget_sync.sync.number_formats import NumberFormat
from budget_sync.sync.reading.grid import Cell, DateCell, Grid, Merge, PercentCell
from budget_sync.sync.reading.result import Customer, SheetResult

Case = Mapping[str, Any]
Key = tuple[str, str]

FOLDER = Path(__file__).parent.parent / "sync" / "corpus"


def cases() -> list[Case]:
    """All cases, by id."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]


def customer_of(case: Case) -> Customer:
    """The customer of a case."""
    found = case["customer"]
    return Customer(found["currency"], FiscalYear(found["fiscal_year_start"], found["named_by"]))


def versions_of(case: Case) -> list[Case]:
    """The sheets of a case, one after the other."""
    versions: list[Case] = case.get("versions", [case])
    return versions


def source_of(version: Case) -> bytes | Grid:
    """The file or the cells of a sheet."""
    if "base64" in version:
        return base64.b64decode(version["base64"])
    if "text" in version:
        return str(version["text"]).encode()
    formats = {(r, c): shape for r, c, shape in version.get("number_formats") or ()}
    return Grid(
        [
            [_cell(value, formats.get((r, c), "")) for c, value in enumerate(row)]
            for r, row in enumerate(version["cells"])
        ],
        merges=tuple(Merge(*merge) for merge in version.get("merges") or ()),
        hidden_rows=frozenset(row + 1 for row in version.get("hidden") or ()),
    )


def _cell(value: Any, shape: str) -> Cell:
    """A cell; `shape` is its number format."""
    if value is None or value == "":
        return None
    if "%" in shape:
        return PercentCell(Decimal(str(value)))
    if "yy" in shape:
        return DateCell(value, NumberFormat(shape).show_date(value))
    cell: Cell = Decimal(str(value)) if isinstance(value, float) else value
    return cell


def answers_of(expect: Case, asked: set[str]) -> dict[str, list[str]]:
    """The person's answers to the questions that are asked, as lists."""
    return {
        question: [answer] if isinstance(answer, str) else list(answer)
        for question, answer in expect.get("answers", {}).items()
        if question in asked
    }


def ends_in_question(expect: Case) -> bool:
    """Whether the case ends in a question that no answer settles."""
    return bool(expect.get("must_ask")) and not (expect.get("budgets") or expect.get("error_rows"))


def amounts_of(result: SheetResult) -> dict[Key, Decimal]:
    """The amounts of the budgets, in whole units, by folded department and period key."""
    return {
        row.budget.key: Decimal(row.budget.budgeted_minor).scaleb(-row.budget.exponent)
        for row in result.rows
    }


def key_of(text: str) -> Key:
    """The key of a budget that is written as "Department|period key"."""
    department, _, period = text.rpartition("|")
    return fold(department), period


def mismatches(expect: Case, result: SheetResult) -> list[str]:
    """The differences between a result and the expected one."""
    return [
        *_amounts_that_differ(expect, amounts_of(result)),
        *_errors_that_differ(expect, result),
        *_other_differences(expect, result),
    ]


def _amounts_that_differ(expect: Case, amounts: Mapping[Key, Decimal]) -> Iterator[str]:
    due = {key_of(key): Decimal(str(amount)) for key, amount in expect.get("budgets", {}).items()}
    for key in sorted(due.keys() | amounts.keys()):
        if amounts.get(key) != due.get(key):
            yield f"{key} is {amounts.get(key)}, not {due.get(key)}"
    for text, amount in expect.get("must_not", {}).items():
        if amounts.get(key_of(text)) == Decimal(str(amount)):
            yield f"{text} is {amount}"


def _errors_that_differ(expect: Case, result: SheetResult) -> Iterator[str]:
    found = [set(error.rows) for error in result.errors]
    wanted = [set(rows) for rows in expect.get("error_rows", ())]
    messages = [f"{error.rows}: {error.message}" for error in result.errors]
    for rows in wanted:
        if not any(rows <= each for each in found):
            yield f"no error names the rows {sorted(rows)}: {messages}"
    for each in found:
        if not any(each & rows for rows in wanted):
            yield f"an error that is not expected names {sorted(each)}: {messages}"


def _other_differences(expect: Case, result: SheetResult) -> Iterator[str]:
    if missing := set(expect.get("skipped_rows", ())) - result.skipped.keys():
        yield f"rows {sorted(missing)} are not skipped: {result.skipped}"
    currencies = {row.budget.key: row.budget.currency for row in result.rows}
    for text, currency in expect.get("currencies", {}).items():
        if currencies.get(key_of(text)) != currency:
            yield f"{text} is in {currencies.get(key_of(text))}, not {currency}"
