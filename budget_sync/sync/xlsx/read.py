"""Reads the cells of one worksheet of an Excel file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook

from budget_sync.sync.limits import MAX_CELL_CHARS, Check, no_check, quoted
from budget_sync.sync.number_formats import NumberFormat
from budget_sync.sync.reading.grid import Cell, DateCell, Grid, LongCell, PercentCell
from budget_sync.sync.source import FetchError
from budget_sync.sync.xlsx.package import DamagedFileError, Package
from budget_sync.sync.xlsx.scan import IsoDate, SharedTexts, SheetScan, Special
from budget_sync.sync.xlsx.workbook import Workbook, Worksheet, read_formats, read_workbook

_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)

# Doubles represent all integers up to here.
_MAX_EXACT = 2**53

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"

# An Excel file with one worksheet and no styles, so that all numbers and dates are plain numbers.
_SHEET_PART = "xl/worksheets/sheet1.xml"
_TEXTS_PART = "xl/sharedStrings.xml"
_NO_TEXTS = f'<sst xmlns="{_MAIN}"/>'.encode()
_FRAME = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Override PartName='
    f'"/xl/workbook.xml" ContentType="{_CONTENT}.sheet.main+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets><sheet '
    'name="Sheet" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship '
    f'Id="rId1" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/><Relationship '
    f'Id="rId2" Type="{_RELATIONS}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
}


class Sheet(NamedTuple):
    """A worksheet of a file; `worksheets` are the names of all that are not hidden.

    `name` is None, and `grid` is empty, if no worksheet was named and there is more than one.
    """

    grid: Grid
    name: str | None
    worksheets: tuple[str, ...]


def read_xlsx(data: bytes, worksheet: str | None, check: Check = no_check) -> Sheet:
    """Read the worksheet of that name, or else the only one. Raises FetchError.

    Hidden worksheets are read only by name.
    """
    package = Package(data)
    workbook = read_workbook(package)
    visible = tuple(each.name for each in workbook.worksheets if not each.is_hidden)
    chosen = _choose(workbook, worksheet)
    if chosen is None:
        return Sheet(Grid((), is_xlsx=True), None, visible)
    return Sheet(_read_grid(package, workbook, chosen, check), chosen.name, visible)


def _choose(workbook: Workbook, name: str | None) -> Worksheet | None:
    """The worksheet to read; None if a person must choose. Raises FetchError if there is none."""
    worksheets = workbook.worksheets
    visible = [each for each in worksheets if not each.is_hidden]
    if name is None:
        if not visible:
            raise FetchError("The Excel file has no visible worksheet.")
        return visible[0] if len(visible) == 1 else None
    found = next((each for each in worksheets if each.name == name), None) or next(
        (each for each in worksheets if each.name.strip().casefold() == name.strip().casefold()),
        None,
    )
    if found is None:
        names = ", ".join(quoted(each.name) for each in visible[:10])
        raise FetchError(
            f"The Excel file has no worksheet named {quoted(name)}; it has {names or 'none'}."
        )
    return found


def _read_grid(package: Package, workbook: Workbook, worksheet: Worksheet, check: Check) -> Grid:
    texts = SharedTexts()
    if workbook.shared_strings is not None:
        texts.read(package.chunks(workbook.shared_strings), check)
    formats = read_formats(package, workbook.styles)
    scan = SheetScan(formats, texts.lengths, recalculates=workbook.recalculates)
    scan.read(package.chunks(worksheet.part), check)
    merges = scan.merges()
    check()
    copy = _copy(package, workbook.shared_strings, worksheet.part, scan.unknown_errors)
    rows = _Cells(scan, from_1904=workbook.from_1904).rows(_open(copy))
    hidden = frozenset(row + 1 for row in scan.hidden if row < len(rows) and rows[row])
    return Grid(rows, merges, hidden, is_xlsx=True)


def _copy(
    package: Package, texts: str | None, sheet: str, unknown_errors: Sequence[tuple[int, int]]
) -> io.BytesIO:
    """A file with one worksheet of the package and its texts, for python-calamine."""
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in _FRAME.items():
            archive.writestr(name, text)
        with archive.open(_TEXTS_PART, "w") as part:
            for chunk in package.chunks(texts) if texts else (_NO_TEXTS,):
                part.write(chunk)
        with archive.open(_SHEET_PART, "w") as part:
            chunks = package.chunks(sheet)
            for chunk in _with_known_errors(chunks, unknown_errors) if unknown_errors else chunks:
                part.write(chunk)
    copy.seek(0)
    return copy


def _with_known_errors(
    chunks: Iterable[bytes], unknown_errors: Sequence[tuple[int, int]]
) -> Iterator[bytes]:
    """The XML of a worksheet with #N/A in these places; the scan knows the errors themselves."""
    data = b"".join(chunks)
    done = 0
    for start, end in unknown_errors:
        yield data[done : data.index(b">", start) + 1]
        yield b"#N/A"
        done = end
    yield data[done:]


def _open(copy: io.BytesIO) -> CalamineSheet:
    return _calamine(lambda: CalamineWorkbook.from_filelike(copy).get_sheet_by_index(0))


def _calamine(call: Callable[[], CalamineSheet]) -> CalamineSheet:
    """The result of a call of python-calamine. Raises DamagedFileError if it rejects the file."""
    try:
        return call()
    except CalamineError:
        raise DamagedFileError("its cells cannot be read") from None
    except BaseException as error:
        # A panic of Rust is not an Exception, and its class has no public name.
        if type(error).__name__ != "PanicException":
            raise
        raise DamagedFileError("its cells cannot be read") from None


class _Cells:
    """Turns what python-calamine returns into cells."""

    def __init__(self, scan: SheetScan, *, from_1904: bool) -> None:
        self._scan = scan
        self._from_1904 = from_1904

    def rows(self, sheet: CalamineSheet) -> list[list[Cell]]:
        """The rows from row 1, without blank cells and rows at the end."""
        # iter_rows begins at row 1, but at the first used column.
        before: list[Cell] = [""] * (sheet.start or (0, 0))[1]
        found = [
            self._with_specials(row, before + [_cell(value) for value in values])
            for row, values in enumerate(sheet.iter_rows())
        ]
        # For python-calamine, a formula without a value is not a used cell.
        found += [self._with_specials(row, []) for row in range(len(found), self._scan.row_count)]
        while found and not found[-1]:
            found.pop()
        return found

    def _with_specials(self, row: int, cells: list[Cell]) -> list[Cell]:
        specials = self._scan.specials.get(row)
        if specials:
            cells += [""] * (max(specials) + 1 - len(cells))
            for column, special in specials.items():
                cells[column] = self._special_cell(special, cells[column])
        while cells and cells[-1] == "":
            cells.pop()
        return cells

    def _special_cell(self, special: Special, cell: Cell) -> Cell:
        if isinstance(special, IsoDate):
            return _iso_date(special.text)
        if not isinstance(special, NumberFormat):
            return special
        if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
            return cell
        number = float(cell)
        if special.is_percent(number):
            return PercentCell(cell)
        if special.is_date(number):
            exact = cell if isinstance(cell, int) else Decimal(cell)
            return DateCell(exact, special.show_date(number, from_1904=self._from_1904))
        return cell


def _cell(value: str | float | bool | date | datetime | time | timedelta) -> Cell:
    """A value of python-calamine as a cell, with numbers as exact as they are written."""
    if isinstance(value, float):
        if value.is_integer():
            return int(value) if abs(value) < _MAX_EXACT else int(Decimal(repr(value)))
        return Decimal(repr(value)) if value - value == 0 else "#NUM!"
    if isinstance(value, str):
        return value if len(value) <= MAX_CELL_CHARS else LongCell(len(value))
    if isinstance(value, int):
        return value
    return _iso_date(str(value))


def _iso_date(text: str) -> DateCell:
    """A date that is stored as text, with the days since 1900; 0 if they are unknown."""
    try:
        passed = datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH
    except ValueError:
        return DateCell(0, text)
    days = Decimal(passed // timedelta(seconds=1)) / 86_400
    return DateCell(int(days) if days == int(days) else days, text)
