"""Ordinary edits of three sheets: a plain table, a wide one, and one of lines with a status.

An edit gives the sheets that follow each other, and what they say: the sum of each period, as a
person reads it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

Rows = list[list[Any]]
#: The bytes of a CSV file, or the content of a tab of a Google Sheet.
Version = bytes | dict[str, Any]
Sums = dict[str, Decimal]


class Edit(NamedTuple):
    """An edit: its name, the sheets, and the sums that differ from those of the first sheet."""

    name: str
    versions: Sequence[Version]
    says: Mapping[str, Decimal] = MappingProxyType({})


class Sheet(NamedTuple):
    """A sheet, with the sum of each period and the money that is spent by department and period."""

    name: str
    rows: Rows
    sums: Sums
    spent: dict[str, int]


_PLAIN = """Department|Fiscal Period|Budgeted Amount|Owner
Sales - EMEA|Q1 2026|12,500.00|Ann
R & D|Q1 2026|84,250.00|Bo
O'Brien House|Q1 2026|3,100.00|Cy
Café Central|Q1 2026|7,725.50|Di
0410|Q1 2026|19,800.00|Ed
0420|Q1 2026|6,450.00|Flo
Legal|Q1 2026|15,000.00|Gus
Lamp North|Q1 2026|100,000.00|Hal
Museum|Q1 2026|4,990.00|Ida
Docks|Q1 2026|22,310.00|Jo
Legal|Q2 2026|16,000.00|Gus
Docks|Q2 2026|23,000.00|Jo"""

_WIDE = """Department|Q1 2026|Q2 2026|Owner
Sales - EMEA|12500|13000|Ann
R & D|84250|90100|Bo
Lamp North|100000|8000|Hal
Museum|4990|5200|Ida"""

_LINES = """Department|Fiscal Year|Item|Budget|Status
Sales - EMEA|2026|Wages|9000|Approved
Sales - EMEA|2026|Travel|3500|Approved
Lamp North|2026|Wages|80000|Approved
Lamp North|2026|Bulbs|20000|Approved
Museum|2026|Wages|4990|Approved
Docks|2026|Wages|22310|Approved
Docks|2026|Paint|1500|Draft"""


def _rows(text: str) -> Rows:
    return [list(line.split("|")) for line in text.splitlines()]


PLAIN = Sheet(
    "plain",
    _rows(_PLAIN),
    {"2026-Q1": Decimal("276125.50"), "2026-Q2": Decimal(39000)},
    {
        "Sales - EMEA|2026-Q1": 6000,
        "R & D|2026-Q1": 84250,
        "Café Central|2026-Q1": 10,
        "0410|2026-Q1": 19000,
        "Lamp North|2026-Q1": 95000,
        "Docks|2026-Q2": 22000,
    },
)
WIDE = Sheet(
    "wide",
    _rows(_WIDE),
    {"2026-Q1": Decimal(201740), "2026-Q2": Decimal(116300)},
    {"Lamp North|2026-Q1": 95000, "Museum|2026-Q2": 5200},
)
LINES = Sheet(
    "lines",
    _rows(_LINES),
    {"2026": Decimal(139800)},
    {"Lamp North|2026": 95000, "Sales - EMEA|2026": 12000},
)


def file_of(rows: Rows, *, delimiter: str = ",", encoding: str = "utf-8", end: str = "\n") -> bytes:
    """A CSV file."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue().encode(encoding)


def tab_of(rows: Rows, **marks: Any) -> dict[str, Any]:
    """A tab of a Google Sheet. Amounts are number cells."""
    return {"cells": [[_cell(cell, c) for c, cell in enumerate(row)] for row in rows], **marks}


def _cell(cell: Any, column: int) -> Any:
    text = str(cell).replace(",", "")
    return float(text) if column == 2 and text.replace(".", "").isdigit() else cell


def _column(rows: Rows, index: int, change: Callable[[str], Any]) -> Rows:
    """The rows with a column changed below the header."""
    return [
        row if number == 0 else [change(c) if i == index else c for i, c in enumerate(row)]
        for number, row in enumerate(rows)
    ]


def _replaced(rows: Rows, *pairs: tuple[str, Any], column: int | None = None) -> Rows:
    """The rows with whole cells replaced."""
    new = dict(pairs)
    return [
        [new.get(cell, cell) if column in (None, i) else cell for i, cell in enumerate(row)]
        for row in rows
    ]


def _amount(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _times(factor: str, shape: str = "{:.2f}") -> Callable[[str], str]:
    return lambda text: shape.format(_amount(text) * Decimal(factor))


def _scaled(sums: Sums, factor: str) -> Sums:
    return {period: total * Decimal(factor) for period, total in sums.items()}


def _moved(rows: Rows, *order: int) -> Rows:
    return [[row[index] for index in order] for row in rows]


def _with_heading(rows: Rows, index: int, heading: str) -> Rows:
    return [[heading if i == index else cell for i, cell in enumerate(rows[0])], *rows[1:]]


def _no_zeros(text: str) -> str:
    return str(int(text)) if text.isdigit() else text


def plain_edits() -> list[Edit]:
    """Edits of the plain table as a CSV file."""
    return [*_name_edits(), *_shape_edits(), *_amount_edits(), *_period_edits(), *_file_edits()]


def _name_edits() -> list[Edit]:
    rows, sums = PLAIN.rows, PLAIN.sums

    def edit(name: str, *pairs: tuple[str, Any], says: Sums = sums) -> Edit:
        return Edit(name, [file_of(_replaced(rows, *pairs))], says)

    lower = sums | {"2026-Q1": sums["2026-Q1"] - 60_000}
    higher = sums | {"2026-Q1": sums["2026-Q1"] + 5_000}
    return [
        edit("dash respelled", ("Sales - EMEA", "Sales \u2013 EMEA")),
        edit("dash without spaces", ("Sales - EMEA", "Sales-EMEA")),
        edit("quote respelled", ("O'Brien House", "O\u2019Brien House")),
        edit("spaces doubled, no-break space", ("Lamp North", "Lamp  North\u00a0")),
        edit("ampersand without spaces", ("R & D", "R&D")),
        edit("invisible character", ("Museum", "Mus\u00adeum\u200b")),
        Edit("all in capitals", [file_of(_column(rows, 0, str.upper))]),
        Edit("full-width letters", [file_of(_column(rows, 0, _full_width))]),
        edit("accent decomposed", ("Café Central", "Cafe\u0301 Central")),
        edit("accent lost", ("Café Central", "Cafe Central")),
        edit("renamed, alike", ("Lamp North", "Lampe North")),
        edit("renamed, another name", ("Lamp North", "Illumination")),
        edit(
            "renamed, and 5% more",
            ("Lamp North", "Illumination"),
            ("100,000.00", "105,000.00"),
            says=higher,
        ),
        edit(
            "renamed, and less than half",
            ("Lamp North", "Lamp North Division"),
            ("100,000.00", "40,000.00"),
            says=lower,
        ),
        Edit(
            "renamed, and its amount unreadable at first",
            [
                file_of(_replaced(rows, ("Lamp North", "Lampe North"), ("100,000.00", amount)))
                for amount in ("TBD", "101,000.00")
            ],
            sums | {"2026-Q1": sums["2026-Q1"] + 1000},
        ),
        Edit(
            "another name, and its amount unreadable at first",
            [
                file_of(_replaced(rows, ("Lamp North", "Illumination"), ("100,000.00", amount)))
                for amount in ("TBD", "100,000.00")
            ],
        ),
        edit("two departments renamed", ("Lamp North", "Lampe North"), ("Docks", "Dockyard")),
        edit("names of two departments swapped", ("Legal", "Docks"), ("Docks", "Legal")),
        Edit("leading zeros lost", [file_of(_column(rows, 0, _no_zeros))]),
        Edit("codes as floats", [file_of(_replaced(rows, ("0410", "410.0"), ("0420", "420.0")))]),
        Edit("codes in scientific notation", [file_of(_replaced(rows, ("0410", "4.1E+02")))]),
        Edit("a code before every name", [file_of(_column(rows, 0, "10 - {}".format))]),
        edit("a department blank", ("Lamp North", "")),
        edit("a department #REF!", ("Lamp North", "#REF!")),
    ]


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "A" <= c <= "z" and c.isalpha() else c for c in text)


def _shape_edits() -> list[Edit]:
    rows, header, body = PLAIN.rows, PLAIN.rows[0], PLAIN.rows[1:]
    q1 = [row for row in body if row[1] == "Q1 2026"]
    q2 = [row for row in body if row[1] == "Q2 2026"]

    def edit(name: str, *new: Rows) -> Edit:
        return Edit(name, [file_of(each) for each in new])

    return [
        edit("sorted by amount", [header, *sorted(body, key=lambda row: _amount(row[2]))]),
        edit("sorted by name, descending", [header, *sorted(body, reverse=True)]),
        edit("a column inserted", [[f"n{i}", *row] for i, row in enumerate(rows)]),
        edit("a blank column inserted", [[row[0], "", *row[1:]] for row in rows]),
        edit("columns moved", _moved(rows, 2, 3, 1, 0)),
        edit("an unused column renamed", _with_heading(rows, 3, "Contact")),
        edit("an unused column removed", _moved(rows, 0, 1, 2)),
        edit("the amount column renamed", _with_heading(rows, 2, "Budget 2026")),
        edit("the department column renamed", _with_heading(rows, 0, "Team")),
        edit("headings in capitals", [[cell.upper() for cell in header], *body]),
        edit("headings with marks", _with_heading(rows, 2, "budgeted_amount ($)*")),
        edit(
            "a column 'Spent' added",
            [[*row, "Spent" if i == 0 else "5"] for i, row in enumerate(rows)],
        ),
        edit("the header deleted", body),
        edit("the header twice", [header, *q1, header, *q2]),
        edit("the amount column twice", [[*row, row[2]] for row in rows]),
        edit("a title above", [["Budgets of 2026", "", "", ""], ["", "", "", ""], *rows]),
        edit("blank rows between", [header, *[r for row in body for r in (row, [""] * 4)]]),
        edit("a total below", [*rows, ["Total", "", "315,125.50", ""]]),
        edit("a total without a name", [*rows, ["", "", "315,125.50", ""]]),
        edit("a total above", [header, ["Grand Total", "", "315,125.50", ""], *body]),
        edit("a total with a wrong sum", [*rows, ["Total", "", "999,999.00", ""]]),
        edit(
            "subtotals per quarter",
            [
                header,
                *q1,
                ["Total Q1", "Q1 2026", "276,125.50", ""],
                *q2,
                ["Total Q2", "Q2 2026", "39,000.00", ""],
            ],
        ),
        edit("a total by a name of its own", [*rows, ["City-wide total", "", "315,125.50", ""]]),
        edit("notes below", [*rows, ["", "", "", ""], ["Prepared by finance", "", "", ""]]),
        edit("notes beside", [[*row, "see memo" if i == 3 else ""] for i, row in enumerate(rows)]),
        edit("one row twice", [*rows, body[7]]),
        edit("all rows twice", [*rows, *body]),
        edit("one row twice, another amount", [*rows, ["Lamp North", "Q1 2026", "1.00", ""]]),
        edit("one row deleted", [row for row in rows if row[0] != "Lamp North"]),
        edit("rows deleted one by one", *[rows[:n] for n in range(len(rows) - 1, 0, -1)]),
        edit("rows deleted from the top", *[[header, *body[n:]] for n in range(1, len(body))]),
        edit("all rows deleted", [header]),
        edit("seven of twelve rows deleted", rows[:6]),
        Edit("the sheet emptied", [b""]),
        Edit("the file truncated", [file_of(rows)[:230]]),
        Edit("the file truncated in an amount", [file_of(rows).split(b"000.00", 1)[0]]),
    ]


def _amount_edits() -> list[Edit]:
    rows, sums = PLAIN.rows, PLAIN.sums

    def every(name: str, change: Callable[[str], Any], says: Sums = sums) -> Edit:
        return Edit(name, [file_of(_column(rows, 2, change))], says)

    def one(name: str, old: str, new: str, more: str = "0") -> Edit:
        says = sums | {"2026-Q1": sums["2026-Q1"] + Decimal(more)}
        return Edit(name, [file_of(_replaced(rows, (old, new), column=2))], says)

    return [
        every("units to thousands", _times("0.001", "{:.5f}")),
        every("units to thousands, no decimals", _times("0.001", "{:.0f}")),
        every("units to cents", _times("100", "{:.0f}")),
        every("units times 1000", _times("1000", "{:.0f}")),
        every("decimal mark switched", lambda text: text.translate(str.maketrans(",.", ".,"))),
        every("decimal comma, no groups", lambda text: text.replace(",", "").replace(".", ",")),
        every("groups with apostrophes", lambda text: text.replace(",", "'")),
        every("groups with spaces", lambda text: text.replace(",", "\u202f")),
        every("pasted as values", lambda text: text.replace(",", "")),
        every("pasted with spaces around", " {}\u00a0".format),
        every("rounded to whole units", _times("1", "{:.0f}"), sums | {"2026-Q1": Decimal(276126)}),
        every("five per cent less", _times("0.95"), _scaled(sums, "0.95")),
        every("three per cent more", _times("1.03"), _scaled(sums, "1.0301")),
        every("all amounts 0", lambda _text: "0"),
        every("all amounts blank", lambda _text: ""),
        every("all amounts a dash", lambda _text: "-"),
        every("all amounts the same", lambda _text: "500", {}),
        every("signs flipped", "-{}".format),
        every("in brackets", "({})".format),
        every("dollar signs added", "${}".format),
        every("dollar codes added", "USD {}".format),
        every("euro signs added", "€{}".format),
        every("percentages", "{}%".format),
        every("k added", "{}k".format),
        every("in k", lambda text: f"{_amount(text) / 1000}k"),
        every("in scientific notation", lambda text: f"{_amount(text):.2E}"),
        every("decimals cut off", lambda text: text.split(".")[0]),
        every("three decimals", _times("1", "{:,.3f}")),
        one("one amount 0", "84,250.00", "0"),
        one("one amount below what is spent", "100,000.00", "50,000.00"),
        one("one amount times 100", "4,990.00", "499,000.00"),
        one("one amount times 10", "4,990.00", "49,900.00", "44910"),
        one("one amount with n.000", "15,000.00", "15.000"),
        one("one amount #REF!", "100,000.00", "#REF!"),
        one("one amount Loading…", "100,000.00", "Loading..."),
        one("one amount NaN", "100,000.00", "nan"),
        one("one amount a date", "15,000.00", "2026-01-15"),
        one("one amount text", "15,000.00", "see memo"),
        one("one amount TBD", "15,000.00", "TBD"),
        Edit(
            "two amounts swapped",
            [file_of(_replaced(rows, ("12,500.00", "84,250.00"), ("84,250.00", "12,500.00")))],
        ),
    ]


def _period_edits() -> list[Edit]:
    rows, sums = PLAIN.rows, PLAIN.sums

    def edit(name: str, *pairs: tuple[str, str], says: Sums = sums) -> Edit:
        return Edit(name, [file_of(_replaced(rows, *pairs, column=1))], says)

    def lamp(name: str, period: str, says: Sums) -> Edit:
        new = [[r[0], period, *r[2:]] if r[0] == "Lamp North" else r for r in rows]
        return Edit(name, [file_of(new)], says)

    later = {"2027-Q1": sums["2026-Q1"], "2027-Q2": sums["2026-Q2"]}
    row = ["Archive", "Q1 2026", "2,000.00", ""]
    return [
        edit("period respelled 2026-Q1", ("Q1 2026", "2026-Q1"), ("Q2 2026", "2026-Q2")),
        edit("period respelled 1Q26", ("Q1 2026", "1Q26"), ("Q2 2026", "2Q 2026")),
        edit("period respelled by months", ("Q1 2026", "Jan-Mar 2026")),
        edit("period without a year", ("Q1 2026", "Q1")),
        edit("period a placeholder", ("Q1 2026", "TBD")),
        edit("period a month", ("Q1 2026", "Jan-26")),
        edit("period the year", ("Q1 2026", "FY2026")),
        edit(
            "periods rolled to the next year",
            ("Q1 2026", "Q1 2027"),
            ("Q2 2026", "Q2 2027"),
            says=sums | later,
        ),
        lamp("one period moved", "Q2 2026", sums | {"2026-Q2": sums["2026-Q2"] + 100_000}),
        lamp("one period in the next year", "Q1 2027", sums | {"2027-Q1": Decimal(100_000)}),
        lamp("one period blank", "", sums),
        Edit(
            "a department added",
            [file_of([*rows, row])],
            sums | {"2026-Q1": sums["2026-Q1"] + 2000},
        ),
        Edit(
            "a period added",
            [file_of([*rows, ["Legal", "Q3 2026", "15,500.00", "Gus"]])],
            sums | {"2026-Q3": Decimal(15_500)},
        ),
    ]


def _file_edits() -> list[Edit]:
    rows = PLAIN.rows
    pandas = [["", *rows[0]]]
    pandas += [
        [
            str(i),
            "410.0" if r[0] == "0410" else r[0],
            r[1],
            str(float(_amount(r[2]))),
            r[3] or "NaN",
        ]
        for i, r in enumerate(rows[1:])
    ]
    excel = _column(
        _column(rows, 0, _no_zeros), 2, lambda text: text.replace(",", "").removesuffix(".00")
    )
    return [
        Edit("saved as cp1252", [file_of(rows, encoding="cp1252")]),
        Edit("saved as MacRoman", [file_of(rows, encoding="mac_roman")]),
        Edit("saved as UTF-16", [file_of(rows, encoding="utf-16")]),
        Edit("saved with a byte-order mark", [file_of(rows, encoding="utf-8-sig", end="\r\n")]),
        Edit("decoded twice", [file_of(rows).decode("cp1252").encode()]),
        Edit("saved with semicolons", [file_of(rows, delimiter=";")]),
        Edit("saved with tabs", [file_of(rows, delimiter="\t")]),
        Edit("saved with CR", [file_of(rows, end="\r")]),
        Edit("sep= above", [b"sep=,\r\n" + file_of(rows, end="\r\n")]),
        Edit("opened and saved by Excel", [file_of(excel, encoding="utf-8-sig", end="\r\n")]),
        Edit("German Excel", [file_of(excel, delimiter=";", encoding="cp1252", end="\r\n")]),
        Edit("written by pandas", [file_of(pandas)]),
        Edit("all cells quoted", [_quoted(rows)]),
        Edit("unquoted commas", ["\n".join(",".join(row) for row in rows).encode()]),
        Edit("a quote left open", [file_of(rows).replace(b"Museum", b'"Museum')]),
        Edit("blank lines at the end", [file_of(rows) + b",,,\n" * 50]),
        Edit("another file", [b"Invoice,Vendor,Amount\n1,Shop,10\n2,Inn,20\n"]),
        Edit("an HTML page", [b"<!DOCTYPE html>\n<html><body>Sign in, please</body></html>\n"]),
    ]


def _quoted(rows: Rows) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def google_edits() -> list[Edit]:
    """Edits of the plain table as a Google Sheet."""
    rows, sums = PLAIN.rows, PLAIN.sums
    order = [0, 1, 2, 3, 4, 5, 6, 8, 9, 7, 11, 10, 12]
    paired = [rows[i] for i in order]
    merged = [
        [None if i == 10 and c == 0 else cell for c, cell in enumerate(row)]
        for i, row in enumerate(paired)
    ]
    formulas = _replaced(rows, ("100,000.00", "#REF!"))
    dates = [
        [46023 if i == 8 and c == 1 else cell for c, cell in enumerate(row)]
        for i, row in enumerate(rows)
    ]
    return [
        Edit("a row hidden", [tab_of(rows, hidden=[8])]),
        Edit("rows hidden by a filter", [tab_of(rows, hidden=[1, 2, 3, 8, 12])]),
        Edit("all rows hidden", [tab_of(rows, hidden=list(range(1, 13)))]),
        Edit("departments merged", [tab_of(merged, merges=[[9, 0, 10, 0]])]),
        Edit(
            "a title merged above",
            [tab_of([["Budgets", None, None, None], *rows], merges=[[0, 0, 0, 3]])],
        ),
        Edit("a percent format", [tab_of(rows, number_formats=[[8, 2, "0.00%"]])]),
        Edit("a currency format", [tab_of(rows, number_formats=[[8, 2, '"$"#,##0.00']])]),
        Edit("a date format on an amount", [tab_of(rows, number_formats=[[8, 2, "yyyy-mm-dd"]])]),
        Edit("a date as the period", [tab_of(dates, number_formats=[[8, 1, "yyyy-mm-dd"]])]),
        Edit("a formula error", [tab_of(formulas)]),
        Edit("amounts as text", [{"cells": rows}]),
        Edit("codes as numbers", [tab_of(_replaced(rows, ("0410", 410), ("0420", 420)))]),
        Edit("the tab cleared", [{"cells": []}]),
        Edit("columns moved", [tab_of(_moved(rows, 1, 0, 2, 3))], sums),
    ]


def wide_edits() -> list[Edit]:
    """Edits of the wide table."""
    rows, sums = WIDE.rows, WIDE.sums

    def edit(name: str, new: Rows, says: Sums = sums) -> Edit:
        return Edit(name, [file_of(new)], says)

    def heading(name: str, index: int, text: str) -> Edit:
        return edit(name, _with_heading(rows, index, text))

    def added(name: str, text: str) -> Edit:
        return edit(name, [[*row, text if i == 0 else "700"] for i, row in enumerate(rows)])

    return [
        added("a new period column", "Q3 2026"),
        added("a column of actuals", "Q1 2026 Actual"),
        added("a total column", "Total"),
        added("a year column", "FY2026"),
        heading("a heading respelled", 1, "Q1  2026 "),
        heading("a heading with another spelling", 1, "2026-Q1"),
        heading("a heading of the next year", 1, "Q1 2027"),
        heading("a heading twice", 2, "Q1 2026"),
        edit("columns moved", _moved(rows, 2, 1, 0, 3)),
        edit("a column removed", _moved(rows, 0, 1, 3)),
        edit("a cell blank", _replaced(rows, ("100000", ""))),
        edit("a column blank", _column(rows, 1, lambda _text: "")),
        edit("a column 0", _column(rows, 1, lambda _text: "0")),
        edit("two columns swapped", _column(_moved(rows, 0, 2, 1, 3), 0, str), sums),
        edit(
            "the headings swapped",
            [[rows[0][i] for i in (0, 2, 1, 3)], *rows[1:]],
            {"2026-Q1": sums["2026-Q2"], "2026-Q2": sums["2026-Q1"]},
        ),
        edit("a total row", [*rows, ["Total", "201740", "116300", ""]]),
        edit(
            "all in thousands",
            [[c if not c.isdigit() else str(Decimal(c) / 1000) for c in row] for row in rows],
        ),
    ]


def lines_edits() -> list[Edit]:
    """Edits of the lines with a status."""
    rows = LINES.rows
    more = {"2026": LINES.sums["2026"] + 1500}

    def edit(name: str, new: Rows, says: Sums = LINES.sums) -> Edit:
        return Edit(name, [file_of(new)], says)

    def status(name: str, index: int, text: str, says: Sums = LINES.sums) -> Edit:
        return edit(
            name, [[*row[:4], text] if i == index else row for i, row in enumerate(rows)], says
        )

    return [
        status("a line approved", 7, "Approved", more),
        status("a line withdrawn", 3, "Draft"),
        status("a line with an unknown status", 3, "On ice"),
        status("a line without a status", 3, ""),
        status("a status in capitals", 3, "APPROVED"),
        edit("the status column removed", [row[:4] for row in rows]),
        edit("all lines drafts", _column(rows, 4, lambda _text: "Draft")),
        edit("all lines approved", _column(rows, 4, lambda _text: "Approved"), more),
        edit("a line unreadable", _replaced(rows, ("80000", "80k"))),
        edit("a line blank", _replaced(rows, ("80000", ""))),
        edit("a line twice", [*rows, rows[3]], {"2026": LINES.sums["2026"] + 80_000}),
        edit(
            "a line split",
            [
                *rows[:3],
                ["Lamp North", "2026", "Wages", "50000", "Approved"],
                ["Lamp North", "2026", "Oil", "30000", "Approved"],
                *rows[4:],
            ],
        ),
        edit("a line renamed", _replaced(rows, ("Bulbs", "Light bulbs"))),
        edit(
            "one line's department renamed",
            [["Lampe North", *row[1:]] if row[2] == "Bulbs" else row for row in rows],
        ),
        edit("a department renamed", _replaced(rows, ("Lamp North", "Lampe North"))),
        edit(
            "department totals added",
            [
                *rows[:3],
                ["Sales - EMEA Total", "", "", "12500", ""],
                *rows[3:5],
                ["Lamp North Total", "", "", "100000", ""],
                *rows[5:],
            ],
        ),
        edit(
            "departments only on the first line",
            [["" if i in (2, 4) else row[0], *row[1:]] for i, row in enumerate(rows)],
        ),
        edit("all lines twice", [*rows, *rows[1:]], {"2026": LINES.sums["2026"] * 2}),
    ]
