"""The worksheets of an Excel file, and the number formats of its cell styles."""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from budget_sync.sync.number_formats import BUILT_IN_FORMATS, NumberFormat
from budget_sync.sync.xlsx.package import DamagedFileError, Package
from budget_sync.sync.xlsx.xml import Attributes, XmlReader, attribute, is_true

_MAX_STYLES = 100_000
_MAX_WORKSHEETS = 1000
_MAX_NAME_CHARS = 200


class Worksheet(NamedTuple):
    """A worksheet: its name, the name of its part, and whether it is hidden."""

    name: str
    part: str
    is_hidden: bool


class Workbook(NamedTuple):
    """An Excel file. `recalculates`: the stored values of formulas need not be right."""

    worksheets: tuple[Worksheet, ...]
    shared_strings: str | None
    styles: str | None
    from_1904: bool
    recalculates: bool


def read_workbook(package: Package) -> Workbook:
    """The parts of a file that are read. Chart sheets and macro sheets are left out."""
    root = _relations(package, "")
    part = next((target for kind, target in root.values() if kind == "officeDocument"), None)
    part = part or "xl/workbook.xml"
    relations = _relations(package, part)
    reader = _WorkbookReader()
    reader.read(package.chunks(part))
    found = [
        Worksheet(name, relations[key][1], is_hidden)
        for name, key, is_hidden in reader.sheets
        if relations.get(key, ("", ""))[0] == "worksheet"
    ]
    others = {kind: target for kind, target in relations.values() if kind != "worksheet"}
    return Workbook(
        tuple(found),
        _existing(package, others.get("sharedStrings", "xl/sharedStrings.xml")),
        _existing(package, others.get("styles", "xl/styles.xml")),
        reader.from_1904,
        reader.recalculates,
    )


def _existing(package: Package, part: str) -> str | None:
    return part if package.has(part) else None


def read_formats(package: Package, part: str | None) -> list[NumberFormat | None]:
    """The formats by style; None for a style that shows no number as a percentage or a date."""
    if part is None:
        return []
    reader = _StylesReader()
    reader.read(package.chunks(part))
    parsed: dict[int, NumberFormat | None] = {}
    for number in set(reader.styles):
        code = reader.codes.get(number) or BUILT_IN_FORMATS.get(number, "")
        made = NumberFormat(code)
        parsed[number] = made if made.is_special else None
    return [parsed[number] for number in reader.styles]


class _Relations(XmlReader):
    """Finds the relations of a part: id -> kind and target."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: Attributes) -> None:
        if name != "Relationship" or attributes.get("TargetMode") == "External":
            return
        target = attributes.get("Target", "").replace("\\", "/")
        path = posixpath.normpath(posixpath.join("/", self.base, target)).lstrip("/")
        kind = attributes.get("Type", "").rpartition("/")[2]
        self.found[attributes.get("Id", "")] = (kind, path)


def _relations(package: Package, part: str) -> dict[str, tuple[str, str]]:
    folder, name = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{name}.rels")
    if not package.has(path):
        return {}
    reader = _Relations(folder)
    reader.read(package.chunks(path))
    return reader.found


class _WorkbookReader(XmlReader):
    """Reads the list of sheets, and the properties that change the meaning of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str, bool]] = []
        self.from_1904 = False
        self.recalculates = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sheet":
            if len(self.sheets) >= _MAX_WORKSHEETS:
                raise DamagedFileError(f"it has more than {_MAX_WORKSHEETS:,} sheets")
            title = attributes.get("name", "")[:_MAX_NAME_CHARS]
            is_hidden = attributes.get("state", "visible") != "visible"
            self.sheets.append((title, attribute(attributes, "id") or "", is_hidden))
        elif name == "workbookPr":
            self.from_1904 = is_true(attributes.get("date1904"))
        elif name == "calcPr":
            self.recalculates = is_true(attributes.get("fullCalcOnLoad"))


class _StylesReader(XmlReader):
    """Reads the formats by their number, and the number of the format of each style."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: dict[int, str] = {}
        self.styles: list[int] = []
        self._is_in_styles = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "cellXfs":
            self._is_in_styles = True
        elif name == "xf" and self._is_in_styles:
            self._require_few(self.styles)
            self.styles.append(_number(attributes.get("numFmtId", "0")))
        elif name == "numFmt":
            self._require_few(self.codes)
            self.codes[_number(attributes.get("numFmtId", ""))] = attributes.get("formatCode", "")

    def end(self, name: str) -> None:
        if name == "cellXfs":
            self._is_in_styles = False

    def _require_few(self, found: list[int] | dict[int, str]) -> None:
        if len(found) >= _MAX_STYLES:
            raise DamagedFileError(f"it has more than {_MAX_STYLES:,} styles")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise DamagedFileError("a style has no number")
    return int(text)
