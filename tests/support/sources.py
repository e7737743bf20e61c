"""Sources with a confirmed reading, for tests that are not about how a sheet is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from budget_sync import sync
from budget_sync.sync import Source
from budget_sync.sync.limits import Check, no_check
from budget_sync.sync.reading.apply import apply
from budget_sync.sync.reading.grid import Grid
from budget_sync.sync.reading.model import CsvFormat, Reading
from budget_sync.sync.reading.result import Customer, SheetResult
from budget_sync.sync.source import CSV, XLSX
from budget_sync.sync.standard import HEADINGS, standard_reading
from budget_sync.sync.targets import file_target, google_target
from support.world import ROOT


def reading_of(header: str | list[Any], **changes: Any) -> Reading:
    """The reading of a sheet with our headings: of a Google Sheet, or of the text of a CSV file.

    The optional columns are those in the header. `changes` are parts of the reading.
    """
    if isinstance(header, str):
        delimiter = max(",;\t|", key=header[:200].count)
        changes = {"file": CsvFormat.model_validate({"delimiter": delimiter})} | changes
        names = header.split("\n", 1)[0].split(delimiter)
    else:
        names = [str(cell) for cell in header]
    folded = {name.strip().casefold() for name in names}
    optional = [heading for heading in HEADINGS[3:] if heading.casefold() in folded]
    reading = standard_reading(optional, is_csv="file" in changes)
    return Reading.model_validate({**dict(reading), **changes})


def read_grid(
    cells: Sequence[Sequence[Any]], currency: str = "USD", check: Check = no_check
) -> SheetResult:
    """What `apply` finds in the cells of a sheet with our headings, without a database."""
    reading = reading_of(list(cells[0]) if cells else [])
    return apply(reading, Grid(cells), Customer(currency), check=check)


def add_file(customer_id: str, folder: Path, name: str, reading: Reading | None = None) -> Source:
    """Add a CSV or Excel file in a folder as a source, with our headings unless `reading` is given.

    The file may be created later.
    """
    file = folder / name
    is_csv = not name.endswith(".xlsx")
    if reading is None:
        text = file.read_bytes().decode("utf-8-sig", errors="replace") if file.exists() else ""
        reading = reading_of(text) if is_csv else standard_reading(is_csv=False)
    target = file_target(CSV if is_csv else XLSX, name, folder)
    return sync.add_source(ROOT, customer_id, target, reading=reading)[0]


def add_sheet(
    customer_id: str, key: str, worksheet: str = "Budgets", reading: Reading | None = None
) -> Source:
    """Add a tab of a Google Sheet as a source, with our headings unless `reading` is given."""
    reading = reading or standard_reading(is_csv=False)
    return sync.add_source(ROOT, customer_id, google_target(key, worksheet), reading=reading)[0]


def write_reading(folder: Path, reading: Reading | None = None) -> Path:
    """Write a reading for the option --reading: of a CSV file with our headings, or another one."""
    path = folder / "reading.json"
    path.write_text((reading or standard_reading()).to_text(), encoding="utf-8")
    return path
