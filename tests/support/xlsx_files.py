"""Excel files for tests, from the XML of their parts: exact, broken or hostile."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"

#: The names of the parts of a file with one worksheet.
SHEET, TEXTS, STYLES, WORKBOOK = (
    "xl/worksheets/sheet1.xml",
    "xl/sharedStrings.xml",
    "xl/styles.xml",
    "xl/workbook.xml",
)


def sheet_xml(rows: str, after: str = "", *, main: str = MAIN) -> str:
    """A worksheet with these rows, and elements after them."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<worksheet xmlns="{main}" '
        f'xmlns:r="{RELATIONS}"><sheetData>{rows}</sheetData>{after}</worksheet>'
    )


def texts_xml(*texts: str) -> str:
    """Shared texts; one that begins with < is XML."""
    items = "".join(
        f"<si>{text if text.startswith('<') else f'<t>{text}</t>'}</si>" for text in texts
    )
    return f'<sst xmlns="{MAIN}">{items}</sst>'


def styles_xml(*codes: str) -> str:
    """A style for each number format; style 0 is the general one."""
    formats = "".join(
        f'<numFmt numFmtId="{number}" formatCode={quoteattr(code)}/>'
        for number, code in enumerate(codes, 164)
    )
    styles = "".join(f'<xf numFmtId="{number}"/>' for number in range(164, 164 + len(codes)))
    return (
        f'<styleSheet xmlns="{MAIN}"><numFmts>{formats}</numFmts>'
        f'<cellStyleXfs><xf numFmtId="9"/></cellStyleXfs>'
        f'<cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>'
    )


def workbook_xml(*names: str, properties: str = "", states: Mapping[str, str] | None = None) -> str:
    """A workbook with these sheets; `states` are those of hidden ones."""
    sheets = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"'
        + (f' state="{states[name]}"' if states and name in states else "")
        + "/>"
        for number, name in enumerate(names, 1)
    )
    return (
        f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}">{properties}'
        f"<sheets>{sheets}</sheets></workbook>"
    )


def relations_xml(*kinds_and_targets: tuple[str, str]) -> str:
    """The relations of a part, with the ids rId1, rId2, …"""
    return (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        + "".join(
            f'<Relationship Id="rId{number}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
            for number, (kind, target) in enumerate(kinds_and_targets, 1)
        )
        + "</Relationships>"
    )


def package(parts: Mapping[str, str | bytes]) -> bytes:
    """The parts as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parts(
    rows: str = "", *, after: str = "", names: tuple[str, ...] = ("Budgets",)
) -> dict[str, str | bytes]:
    """The parts of a file in which all worksheets have these rows."""
    sheets = {
        f"xl/worksheets/sheet{number}.xml": sheet_xml(rows, after)
        for number in range(1, len(names) + 1)
    }
    targets = [("worksheet", name.removeprefix("xl/")) for name in sheets]
    return {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Override '
        f'PartName="/xl/workbook.xml" ContentType="{_TYPE}"/></Types>',
        "_rels/.rels": relations_xml(("officeDocument", WORKBOOK)),
        WORKBOOK: workbook_xml(*names),
        "xl/_rels/workbook.xml.rels": relations_xml(
            *targets, ("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml")
        ),
        **sheets,
        TEXTS: texts_xml(),
        STYLES: styles_xml(),
    }


def xlsx(rows: str = "", *, after: str = "", **replaced: str) -> bytes:
    """A file with one worksheet; `texts`, `styles`, `workbook` or `sheet` replace a part."""
    names = {"texts": TEXTS, "styles": STYLES, "workbook": WORKBOOK, "sheet": SHEET}
    return package(
        parts(rows, after=after) | {names[name]: content for name, content in replaced.items()}
    )
