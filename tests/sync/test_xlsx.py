"""Excel files: the cells of a worksheet as a person sees them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from openpyxl.worksheet.formula import ArrayFormula
from support.xlsx_files import (
    MAIN,
    SHEET,
    STRICT,
    WORKBOOK,
    package,
    parts,
    relations_xml,
    sheet_xml,
    styles_xml,
    texts_xml,
    workbook_xml,
    xlsx,
)

from budget_sync.sync.reading.grid import (
    Cell,
    DateCell,
    Grid,
    LongCell,
    Merge,
    PercentCell,
    UncalculatedCell,
)
from budget_sync.sync.source import FetchError
from budget_sync.sync.xlsx import read_xlsx


def grid(data: bytes, worksheet: str | None = None) -> Grid:
    return read_xlsx(data, worksheet).grid


def row(*cells: str) -> str:
    """Row 1 with cells that have no reference."""
    return f'<row r="1">{"".join(cells)}</row>'


def cells(*xml: str, **replaced: str) -> Sequence[Cell]:
    return grid(xlsx(row(*xml), **replaced)).rows[0]


def written_by_openpyxl(rows: Sequence[Sequence[Any]]) -> bytes:
    book = openpyxl.Workbook()
    for each in rows:
        book.active.append(each)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def written_by_xlsxwriter(rows: Sequence[Sequence[Any]]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet("Budgets")
        for number, each in enumerate(rows):
            sheet.write_row(number, 0, each)
    return buffer.getvalue()


WRITERS = {"openpyxl": written_by_openpyxl, "xlsxwriter": written_by_xlsxwriter}
Writer = Callable[[Sequence[Sequence[Any]]], bytes]
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@writers
def test_values_of_each_type(write: Writer) -> None:
    rows = grid(write([["Sales", 5, 0.1, -2.5, True, None, "é & <b>"], [], [None, 10**12]])).rows
    assert list(map(list, rows)) == [
        ["Sales", 5, Decimal("0.1"), Decimal("-2.5"), True, "", "é & <b>"],
        [],
        ["", 1_000_000_000_000],
    ]
    assert [type(cell) for cell in rows[0][1:5]] == [int, Decimal, Decimal, bool]


@writers
def test_formula_of_a_program_that_does_not_calculate(write: Writer) -> None:
    assert list(grid(write([["Sales", "=1+1", 5]])).rows[0]) == ["Sales", UncalculatedCell(), 5]


def test_array_formula_without_a_value() -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = ArrayFormula("A1:A2", "=B1:B2*2")
    buffer = io.BytesIO()
    book.save(buffer)
    assert grid(buffer.getvalue()).rows[0] == [UncalculatedCell()]


FORMULAS: dict[str, tuple[str, Cell]] = {
    "number": ("<c><f>A1</f><v>5</v></c>", 5),
    "zero": ("<c><f>A1</f><v>0</v></c>", 0),
    "text": ('<c t="str"><f>A1</f><v>abc</v></c>', "abc"),
    "empty text": ('<c t="str"><f>A1</f><v></v></c>', ""),
    "boolean": ('<c t="b"><f>A1</f><v>1</v></c>', True),
    "error": ('<c t="e"><f>A1</f><v>#DIV/0!</v></c>', "#DIV/0!"),
    "of LibreOffice": ('<c t="n"><f aca="false">A1</f><v>5</v></c>', 5),
    "shared": ('<c><f t="shared" si="0"/><v>5</v></c>', 5),
    "without a value": ("<c><f>A1</f></c>", UncalculatedCell()),
    "with an empty value": ("<c><f>A1</f><v/></c>", UncalculatedCell()),
    "of text without a value": ('<c t="str"><f>A1</f></c>', UncalculatedCell()),
    "shared without a value": ('<c><f t="shared" si="0"/></c>', UncalculatedCell()),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str) -> None:
    xml, cell = FORMULAS[name]
    assert list(cells(xml, "<c><v>9</v></c>")) == [cell, 9]


def test_zero_is_uncalculated_if_file_asks_to_calculate() -> None:
    workbook = workbook_xml("Budgets").replace(
        "</workbook>", "<calcPr fullCalcOnLoad='1'/></workbook>"
    )
    xml = ("<c><f>A1</f><v>0</v></c>", "<c><f>A1</f><v>5</v></c>", "<c><v>0</v></c>")
    assert list(cells(*xml, workbook=workbook)) == [UncalculatedCell(), 5, 0]


def test_row_that_ends_with_a_formula_without_a_value() -> None:
    rows = grid(
        xlsx(row("<c><v>1</v></c>", "<c/>", "<c><f>A1</f></c>") + "<row><c><f>x</f></c></row>")
    ).rows
    assert list(map(list, rows)) == [[1, "", UncalculatedCell()], [UncalculatedCell()]]


@pytest.mark.parametrize(
    "error",
    ["#DIV/0!", "#REF!", "#N/A", "#NAME?", "#VALUE!", "#NULL!", "#NUM!", "#SPILL!", "Err:508"],
)
def test_error_is_its_own_text(error: str) -> None:
    assert list(cells(f'<c t="e"><v>{error}</v></c>', "<c><v>1</v></c>")) == [error, 1]


NUMBERS: dict[str, Cell] = {
    "5": 5,
    "-0": 0,
    "1.10": Decimal("1.1"),
    "0.1": Decimal("0.1"),
    "0.10000000000000001": Decimal("0.1"),
    "1234.5600000000002": Decimal("1234.5600000000002"),
    "-2.91038E-11": Decimal("-2.91038E-11"),
    "1E3": 1000,
    "123456789012345678": 123456789012345680,
    "1E+22": 10**22,
    "NaN": "#NUM!",
    "1E999": "#NUM!",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_number_is_exact(text: str) -> None:
    found = cells(f"<c><v>{text}</v></c>")[0]
    assert found == NUMBERS[text]
    assert type(found) is type(NUMBERS[text])


def test_texts_in_cells_and_shared_rich_and_escaped() -> None:
    texts = texts_xml(
        "plain &amp; caf&#233;",
        '<r><rPr><b/></rPr><t>Sales</t></r><r><t xml:space="preserve"> North</t></r>',
        "<t>漢字</t><rPh sb='0' eb='2'><t>かんじ</t></rPh>",
        "a_x000A_b",
    )
    xml = [f'<c t="s"><v>{index}</v></c>' for index in range(4)]
    inline = '<c t="inlineStr"><is><r><t>In</t></r><r><t>line</t></r></is></c>'
    assert list(cells(*xml, inline, texts=texts)) == [
        "plain & café",
        "Sales North",
        "漢字",
        "a\nb",
        "Inline",
    ]


def test_text_beyond_the_limit_is_only_counted() -> None:
    texts = texts_xml("x" * 1000, "x" * 1001)
    found = cells('<c t="s"><v>0</v></c>', '<c t="s"><v>1</v></c>', texts=texts)
    assert list(found) == ["x" * 1000, LongCell(1001)]


PERCENT = ("0%", "0.00%", "#,##0%;[Red]-#,##0%", "[<=1]0%;0", "0 %")
NO_PERCENT = ("0.00", '0"%"', "0\\%", "[<0]0%;0", "General")


@pytest.mark.parametrize("code", PERCENT)
def test_number_that_is_shown_as_a_percentage(code: str) -> None:
    assert cells('<c s="1"><v>0.5</v></c>', styles=styles_xml(code)) == [
        PercentCell(Decimal("0.5"))
    ]


@pytest.mark.parametrize("code", NO_PERCENT)
def test_number_that_is_not_shown_as_a_percentage(code: str) -> None:
    assert cells('<c s="1"><v>0.5</v></c>', styles=styles_xml(code)) == [Decimal("0.5")]


def test_built_in_percent_and_date_formats() -> None:
    styles = (
        f'<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="9"/><xf numFmtId="17"/></cellXfs>'
        "</styleSheet>"
    )
    found = cells(
        '<c s="0"><v>1</v></c>', '<c s="1"><v>46023</v></c>', "<c><v>2</v></c>", styles=styles
    )
    assert list(found) == [PercentCell(1), DateCell(46023, "Jan-26"), PercentCell(2)]


def test_format_of_a_text_or_an_error_does_not_matter() -> None:
    xml = ('<c s="1" t="str"><v>50%</v></c>', '<c s="1" t="e"><v>#N/A</v></c>', '<c s="1"/>')
    assert list(cells(*xml, styles=styles_xml("0%"))) == ["50%", "#N/A"]


# Serial numbers since 1900, formats, and what Excel shows in English.
DATES = [
    ("46025", "yyyy-mm-dd", "2026-01-03"),
    ("46025", "m/d/yyyy", "1/3/2026"),
    ("46025", "[$-409]d\\-mmm\\-yy;@", "3-Jan-26"),
    ("46025", "mmm-yy", "Jan-26"),
    ("46025", "mmmm yyyy", "January 2026"),
    ("46025", "dddd, mmmm dd, yyyy", "Saturday, January 03, 2026"),
    ("46025", "[$-407]d. mmmm yyyy", "2026-01-03"),
    ("46025", '"FY"yyyy', "FY2026"),
    ("46025", "dd.mm.yyyy", "03.01.2026"),
    ("46025.75", "yyyy-mm-dd hh:mm", "2026-01-03 18:00"),
    ("46025.75", "h:mm AM/PM", "6:00 PM"),
    ("0.5", "h:mm", "12:00"),
    ("1.5", "[h]:mm:ss", "36:00:00"),
    ("0.000011574", "mm:ss", "00:01"),
    ("1", "yyyy-mm-dd", "1900-01-01"),
    ("60", "yyyy-mm-dd", "1900-02-29"),
    ("61", "yyyy-mm-dd", "1900-03-01"),
    ("2958465.999999", "yyyy-mm-dd", "9999-12-31"),
    ("-1", "yyyy-mm-dd", "-1"),
    ("9999999", "yyyy-mm-dd", "9999999"),
]


@pytest.mark.parametrize(("number", "code", "shown"), DATES)
def test_date_as_a_person_sees_it(number: str, code: str, shown: str) -> None:
    (found,) = cells(f'<c s="1"><v>{number}</v></c>', styles=styles_xml(code))
    assert found == DateCell(Decimal(number), shown)


@pytest.mark.parametrize(
    "code", ["#,##0.00", "0.0E+00", '0 "days"', "General", "@", "0\\d", "[Red]0"]
)
def test_format_that_is_not_a_date(code: str) -> None:
    assert cells('<c s="1"><v>46025</v></c>', styles=styles_xml(code)) == [46025]


def test_date_of_a_file_that_counts_from_1904() -> None:
    workbook = workbook_xml("Budgets", properties='<workbookPr date1904="true"/>')
    found = cells('<c s="1"><v>44563</v></c>', styles=styles_xml("yyyy-mm-dd"), workbook=workbook)
    assert found == [DateCell(44563, "2026-01-03")]


def test_date_that_is_stored_as_text() -> None:
    assert cells('<c t="d"><v>2026-01-03T12:00:00</v></c>') == [
        DateCell(Decimal("46025.5"), "2026-01-03T12:00:00")
    ]


@writers
def test_dates_of_programs(write: Writer) -> None:
    if write is written_by_openpyxl:
        data = write([[date(2026, 1, 3)]])
    else:
        buffer = io.BytesIO()
        with xlsxwriter.Workbook(buffer) as book:
            book.add_worksheet().write_number(0, 0, 46025, book.add_format({"num_format": 14}))
        data = buffer.getvalue()
    assert grid(data).rows[0] == [DateCell(46025, "2026-01-03")]


def test_merges_and_hidden_rows() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for each in (["Title", None], ["Sales", 1], [None, 2], ["Ops", 3], [], ["End", 4]):
        sheet.append(each)
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("A2:A3")
    sheet.merge_cells("D20:E30")
    sheet.row_dimensions[4].hidden = True
    sheet.row_dimensions[5].hidden = True
    sheet.row_dimensions[99].hidden = True
    buffer = io.BytesIO()
    book.save(buffer)
    found = grid(buffer.getvalue())
    assert found.merges == (Merge(0, 0, 0, 1), Merge(1, 0, 2, 0))
    assert found.hidden_rows == {4}
    assert found.is_xlsx
    assert not found.is_csv


def test_merge_ends_with_the_used_cells() -> None:
    rows = row("<c><v>1</v></c>", "<c><v>1</v></c>") + "<row><c/><c><v>1</v></c></row>"
    after = '<mergeCells><mergeCell ref="A1:A1048576"/><mergeCell ref="B2"/></mergeCells>'
    assert grid(xlsx(rows, after=after)).merges == (Merge(0, 0, 1, 0),)


def test_cells_and_rows_keep_their_places() -> None:
    rows = (
        '<row r="3"><c r="C3"><v>1</v></c><c r="AA3"><v>2</v></c></row>'
        '<row r="5"><c r="D5"><v>3</v></c></row>'
    )
    found = grid(xlsx(rows)).rows
    assert list(map(list, found)) == [
        [],
        [],
        ["", "", 1, *[""] * 23, 2],
        [],
        ["", "", "", 3],
    ]


def test_blank_cells_with_a_style_are_left_out() -> None:
    blank = "".join(f'<row r="{number}"><c r="A{number}" s="0"/></row>' for number in range(2, 900))
    assert grid(xlsx(row("<c><v>1</v></c>", "<c/>") + blank)).rows == [[1]]


def test_empty_worksheet_has_no_rows() -> None:
    assert list(grid(xlsx()).rows) == []


def test_file_with_prefixed_names_and_of_the_strict_format() -> None:
    data = (
        f'<x:worksheet xmlns:x="{STRICT}"><x:sheetData><x:row r="1" hidden="true"><x:c r="A1">'
        '<x:v>1</x:v></x:c><x:c r="B1" t="e"><x:v>#SPILL!</x:v></x:c></x:row></x:sheetData>'
        "</x:worksheet>"
    )
    found = grid(xlsx(sheet=data))
    assert list(map(list, found.rows)) == [[1, "#SPILL!"]]
    assert found.hidden_rows == {1}
    assert grid(xlsx(sheet=sheet_xml(row("<c><v>1</v></c>"), main=STRICT))).rows == [[1]]


def test_file_of_a_workbook_in_another_folder() -> None:
    moved = {
        name.replace("xl/", "book/"): content
        for name, content in parts(row("<c><v>1</v></c>")).items()
    }
    moved["_rels/.rels"] = relations_xml(("officeDocument", "/book/workbook.xml"))
    assert grid(package(moved)).rows == [[1]]


def three_sheets(**states: str) -> bytes:
    names = ("First", "Second", "Third")
    content = parts(names=names)
    for number, name in enumerate(names, 1):
        text = f'<c t="inlineStr"><is><t>{name}</t></is></c>'
        content[f"xl/worksheets/sheet{number}.xml"] = sheet_xml(row(text))
    content[WORKBOOK] = workbook_xml(*names, states=states)
    return package(content)


@pytest.mark.parametrize("name", ["Second", " second "])
def test_worksheet_is_found_by_name(name: str) -> None:
    found = read_xlsx(three_sheets(), name)
    assert (found.name, found.grid.rows, found.worksheets) == (
        "Second",
        [["Second"]],
        ("First", "Second", "Third"),
    )


def test_only_visible_worksheet_is_read() -> None:
    found = read_xlsx(three_sheets(First="hidden", Third="veryHidden"), None)
    assert (found.name, found.worksheets) == ("Second", ("Second",))


def test_hidden_worksheet_is_read_by_name() -> None:
    assert read_xlsx(three_sheets(First="hidden"), "First").grid.rows == [["First"]]


def test_several_worksheets_are_left_to_a_person() -> None:
    found = read_xlsx(three_sheets(Third="hidden"), None)
    assert (found.name, found.worksheets, list(found.grid.rows)) == (None, ("First", "Second"), [])


def test_unknown_worksheet() -> None:
    with pytest.raises(
        FetchError, match=r"^The Excel file has no worksheet named 'Plan'; it has 'First', 'Second'"
    ):
        read_xlsx(three_sheets(), "Plan")


def test_file_without_a_visible_worksheet() -> None:
    states = dict.fromkeys(("First", "Second", "Third"), "hidden")
    with pytest.raises(FetchError, match=r"^The Excel file has no visible worksheet\.$"):
        read_xlsx(three_sheets(**states), None)


def test_chart_sheet_is_not_a_worksheet() -> None:
    content = parts(row("<c><v>1</v></c>"), names=("Chart", "Budgets"))
    content["xl/_rels/workbook.xml.rels"] = relations_xml(
        ("chartsheet", "chartsheets/sheet1.xml"), ("worksheet", "worksheets/sheet2.xml")
    )
    found = read_xlsx(package(content), None)
    assert (found.name, found.worksheets) == ("Budgets", ("Budgets",))


def test_macros_and_external_links_are_ignored() -> None:
    content = parts(row("<c><f>[1]Sheet1!$A$1</f><v>7</v></c>"))
    content["xl/vbaProject.bin"] = b"\xd0\xcf\x11\xe0 macros"
    content["xl/externalLinks/externalLink1.xml"] = "not even XML"
    content[SHEET] = str(content[SHEET]).replace(
        "</worksheet>", '<legacyDrawing r:id="rId9"/></worksheet>'
    )
    assert grid(package(content)).rows == [[7]]


PLAN = "Department\tFiscal Period\tBudgeted Amount\n"
OTHER_FILES = {
    "a protected file": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 900 + "EncryptedPackage".encode("utf-16-le"),
        "This file is protected with a password. Save it without one.",
    ),
    "an old Excel file": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 900,
        "This is a file of an old Excel version (.xls). Save it as an Excel workbook (.xlsx).",
    ),
    "an OpenDocument file": (
        package({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": "x"}),
        "This is an OpenDocument file (.ods). Save it as an Excel workbook (.xlsx).",
    ),
    "a Numbers file": (
        package({"Index/Document.iwa": "x", "Metadata/Properties.plist": "x"}),
        "This is a Numbers file. Export it as an Excel workbook (.xlsx).",
    ),
    "a binary Excel file": (
        package({"_rels/.rels": relations_xml(), "xl/workbook.bin": "x"}),
        "This is a binary Excel file (.xlsb). Save it as an Excel workbook (.xlsx).",
    ),
    "a Word document": (
        package({"_rels/.rels": relations_xml(), "word/document.xml": "x"}),
        "This is a Word document. Save the sheet as an Excel workbook (.xlsx).",
    ),
    "another archive": (
        package({"readme.txt": "x"}),
        "This is not an Excel file. Save the sheet as an Excel workbook (.xlsx).",
    ),
    "a PDF": (b"%PDF-1.7\n", "This is not an Excel file. Save the sheet as an Excel workbook"),
    "a web page": (b"\xef\xbb\xbf<html><table>", "This is a web page or XML with the name of an"),
    "XML of Excel 2003": (b"<?xml version='1.0'?><Workbook>", "This is a web page or XML with"),
    "text": (PLAN.encode(), "This is a text file and not an Excel file. If it is a CSV file,"),
    "text in UTF-16": (PLAN.encode("utf-16"), "This is not an Excel file."),
    "nothing": (b"", "The Excel file is empty. Save it again."),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_file_of_another_kind(kind: str) -> None:
    data, sentence = OTHER_FILES[kind]
    with pytest.raises(FetchError) as problem:
        read_xlsx(data, None)
    assert str(problem.value).startswith(sentence)
