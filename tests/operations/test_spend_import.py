"""`flask import-spend`: real files, rows recorded once, matched purchase orders, and kills."""

from __future__ import annotations

import os
import signal
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from support.installation import Installation, found
from support.machine import sqlite_only
from support.world import ROOT
from support.xlsx_files import styles_xml, xlsx

from budget_sync import ledger, manual_budgets
from budget_sync.accounts import customers
from budget_sync.database.models import AuditLog, BudgetUtilization, Spend
from budget_sync.domain.request_models import CommitRequest, ReserveRequest, ReverseRequest
from budget_sync.ledger import verification
from budget_sync.operations import demo
from budget_sync.spend_import.dates import DateOrder, Dates, find_order
from budget_sync.sync.reading.amounts import CellError

pytestmark = pytest.mark.both_engines

HEADER = "Spend ID,Department,Fiscal Period,Amount,Date,Vendor,PO"
GOOD = "S-1,Engineering,Q1 2025,12.50,2025-03-31,Slack,PO-77"


class Importer:
    """Writes files and imports them for the guide's customer."""

    def __init__(self, app: Flask, folder: Path) -> None:
        self._app, self.file = app, folder / "cards.csv"

    def run(self, data: str | bytes, *options: str) -> click.testing.Result:
        """Import a file with this content."""
        self.file.write_bytes(data.encode() if isinstance(data, str) else data)
        arguments = ["import-spend", str(self.file), "--customer", demo.CUSTOMER, *options]
        with self._app.app_context():
            return self._app.test_cli_runner().invoke(args=arguments, prog_name="flask")

    def succeed(self, data: str | bytes, *options: str) -> str:
        """Import a file without a rejected row; returns the output."""
        result = self.run(data, *options)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def rejected(self, *rows: str, options: tuple[str, ...] = ()) -> list[str]:
        """Import rows, of which some are rejected; returns the lines about these."""
        result = self.run("\n".join((HEADER, *rows)), *options)
        assert result.exit_code == 1
        return result.stderr.splitlines()


@pytest.fixture
def cards(world: Flask, tmp_path: Path) -> Importer:
    return Importer(world, tmp_path)


def recorded() -> list[tuple[Any, ...]]:
    """The recorded spends: id, minor units, day, vendor and PO."""
    return [
        (row.spendId, row.amountMinor, str(row.spentOn), row.vendor, row.externalRef)
        for row in Spend.select().order_by(Spend.spendId)
    ]


ONE = [("S-1", 1250, "2025-03-31", "Slack", "PO-77")]


# Files.


@pytest.mark.parametrize(
    "data",
    [
        f"{HEADER}\n{GOOD}\n",
        f"{HEADER}\r\n\r\n{GOOD}\r\n,,,,,,\r\n",
        f"\ufeff{HEADER}\n{GOOD}".encode(),
        f"{HEADER}\n{GOOD}".encode("utf-16"),
        f"sep=;\n{HEADER}\n{GOOD}".replace(",", ";"),
        f"{HEADER}\n{GOOD}".replace(",", "\t"),
        """PO;vendor;DATE;Amount;fiscal_period;DEPARTMENT;Spend-ID
PO-77;Slack;31.03.2025;12,50 ;Q1 2025; engineering ;S-1""",
        "Cards of March\n\n" + f"{HEADER}\n{GOOD}",
        f'{HEADER}\n"S-1",Engineering,"Q1\n2025","$12.50",2025-03-31 00:00:00,"Slack\n","PO-77"\n',
        f"{HEADER},Currency,Note\n{GOOD},usd,lunch",
    ],
    ids=[
        *("plain", "blank rows", "BOM", "UTF-16", "sep line", "tabs", "German", "title"),
        *("line breaks", "more columns"),
    ],
)
def test_file_of_any_usual_form_is_read(cards: Importer, data: str | bytes) -> None:
    assert "Imported 1 spend ($12.50)." in cards.succeed(data)
    assert recorded() == ONE


def test_windows_1252_is_read_and_reported(cards: Importer) -> None:
    data = f"{HEADER}\n{GOOD}".replace("Slack", "Café").encode("cp1252")
    printed = cards.succeed(data)
    assert "Note: The file is not UTF-8. It was read as cp1252: Café." in printed
    assert recorded()[0][3] == "Café"


def test_encoding_can_be_named(cards: Importer) -> None:
    data = f"{HEADER}\n{GOOD}".replace("Slack", "Café").encode("mac_roman")
    assert "Note" not in cards.succeed(data, "--encoding", "mac_roman")
    assert recorded()[0][3] == "Café"


def test_german_amounts_and_signs_are_read(cards: Importer) -> None:
    rows = ("1.234,50", "$ 99,95", "12", "1.000.000,00 USD")
    lines = [
        f"S-{number};Engineering;Q1 2025;{amount};31.03.2025;;"
        for number, amount in enumerate(rows)
    ]
    printed = cards.succeed("\n".join((HEADER.replace(",", ";"), *lines)))
    assert "Imported 4 spends ($1,001,346.45)." in printed
    assert "Overdrawn: budget budget-123 (Engineering, Q1 2025) by $906,346.45." in printed


def test_ambiguous_marks_are_refused_until_the_operator_decides(cards: Importer) -> None:
    data = f"{HEADER}\n{GOOD}".replace("12.50", "1.234").replace(",", ";")
    result = cards.run(data)
    assert (result.exit_code, result.stdout, recorded()) == (1, "", [])
    assert result.stderr == (
        "Error: Is '1.234' 1,234, or 1 with three decimals? Run the import again with "
        "--decimal-mark '.' or --decimal-mark ','.\n"
    )
    cards.succeed(data, "--decimal-mark", ",")
    assert recorded()[0][1] == 123_400


def test_excel_file_is_read(cards: Importer) -> None:
    def text(place: str, value: str) -> str:
        return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'

    header = "".join(
        text(f"{column}1", heading)
        for column, heading in zip("ABCDEFG", HEADER.split(","), strict=True)
    )
    row = (
        text("A2", "S-1") + text("B2", "Engineering") + text("C2", "Q1 2025")
        + '<c r="D2"><v>12.5</v></c><c r="E2" s="1"><v>45747</v></c>'
        + text("F2", "Slack") + text("G2", "PO-77")
    )  # fmt: skip
    rows = f'<row r="1">{header}</row><row r="2">{row}</row>'
    cards.succeed(xlsx(rows, styles=styles_xml("dd.mm.yyyy")))
    assert recorded() == ONE


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("", "The file is empty."),
        (b"\xd0\xcf\x11\xe0rest", "The file is an old Excel file (.xls). Save it as .xlsx"),
        ("Spend ID,Amount\n1,2", "The file lacks Department, Fiscal Period, Date."),
        ("a,b\n1,2", "The file has no header. Its columns must be named Spend ID, Department"),
        (f"{HEADER},amount\n{GOOD}", "The file has two columns named Amount."),
        (f'{HEADER}\n"S-1,Engineering', "The file cannot be split into columns"),
        (b"PK\x03\x04rest", "The Excel file"),
    ],
)
def test_unusable_file_is_one_error(cards: Importer, data: str | bytes, sentence: str) -> None:
    result = cards.run(data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {sentence}")
    assert result.stderr.count("\n") == 1


def test_missing_file_and_folder_are_one_error(world: Flask, tmp_path: Path) -> None:
    for file in (str(tmp_path / "none.csv"), str(tmp_path)):
        with world.app_context():
            result = world.test_cli_runner().invoke(
                args=["import-spend", file, "--customer", demo.CUSTOMER]
            )
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


# Rows.


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",Engineering,Q1 2025,1,2025-03-31,,", "Spend ID is blank."),
        ("S,,Q1 2025,1,2025-03-31,,", "Department is blank."),
        ("S,Enginering,Q1 2025,1,2025-03-31,,", "Did you mean Engineering?"),
        ("S,Legal,Q1 2025,1,2025-03-31,,", "`flask list-budgets` shows the departments."),
        (
            "S,Engineering,Q2 2025,1,2025-03-31,,",
            "Engineering has no budget for 'Q2 2025'. It has budgets for Q1 2025.",
        ),
        ("S,Engineering,Q5 2025,1,2025-03-31,,", "Fiscal Period 'Q5 2025'"),
        ("S,Engineering,Q1 2025,abc,2025-03-31,,", "Amount is 'abc', which is not a number"),
        ("S,Engineering,Q1 2025,,2025-03-31,,", "Amount is blank."),
        ("S,Engineering,Q1 2025,0,2025-03-31,,", "Amount is 0."),
        ("S,Engineering,Q1 2025,-5,2025-03-31,,", "Leave refunds out, and reverse the spend"),
        ("S,Engineering,Q1 2025,1.005,2025-03-31,,", "fraction? Write it"),
        ("S,Engineering,Q1 2025,€5,2025-03-31,,", "but the row is in USD"),
        ("S,Engineering,Q1 2025,#REF!,2025-03-31,,", "Repair its formula."),
        ("S,Engineering,Q1 2025,1,2025-02-30,,", "Date is '2025-02-30', which is no date."),
        ("S,Engineering,Q1 2025,1,,,", "Date is blank."),
        ("S,Engineering,Q1 2025,1,2025-03-31,Slack,PO,x", "The row has more cells than"),
        ("S,Engineering,Q1 2025,1,234.50,2025-03-31,Slack", "Quote an amount that contains"),
    ],
)
def test_bad_row_is_rejected_with_its_number_and_others_are_imported(
    cards: Importer, row: str, problem: str
) -> None:
    (line,) = cards.rejected(GOOD, row)
    assert line.startswith("Row 3: ")
    assert problem in line
    assert recorded() == ONE


def test_row_names_all_its_problems(cards: Importer) -> None:
    (line,) = cards.rejected("S,Legal,Q1 2025,1,someday,,")
    assert "Date is 'someday'" in line
    assert "department 'Legal'" in line


def test_currency_column_must_be_the_budgets(cards: Importer) -> None:
    result = cards.run(f"{HEADER},Currency\n{GOOD},EUR")
    assert "Currency is EUR, but budget budget-123 (Engineering, Q1 2025) is in USD." in (
        result.stderr
    )
    assert recorded() == []


def test_many_rejected_rows_are_counted(cards: Importer) -> None:
    lines = cards.rejected(*(f"S-{number},Legal,Q1 2025,1,2025-03-31,," for number in range(203)))
    assert len(lines) == 201
    assert lines[-1] == "3 more rows rejected."


def test_ambiguous_date_is_refused_unless_another_row_or_the_operator_settles_it(
    cards: Importer,
) -> None:
    row = "S-1,Engineering,Q1 2025,1,03/04/2025,,"
    (line,) = cards.rejected(row)
    assert line == (
        "Row 2: Date is '03/04/2025', which is 2025-04-03 or 2025-03-04. Run the import again "
        "with --date-order dmy (day first) or mdy (month first), or write the date like "
        "2025-03-31."
    )
    cards.succeed(f"{HEADER}\n{row}", "--date-order", "dmy")
    printed = cards.succeed(
        f"{HEADER}\n{row.replace('S-1', 'S-2')}\nS-3,Engineering,Q1 2025,1,03/31/2025,,"
    )
    assert "are read with the month first" in printed
    assert [row[2] for row in recorded()] == ["2025-04-03", "2025-03-04", "2025-03-31"]


@pytest.mark.parametrize(
    ("text", "order", "day"),
    [
        ("2025-03-31", None, date(2025, 3, 31)),
        ("2025/3/1", None, date(2025, 3, 1)),
        ("2025-03-31T10:00:00Z", None, date(2025, 3, 31)),
        ("31.03.2025", None, date(2025, 3, 31)),
        ("1.4.25", DateOrder.MDY, date(2025, 4, 1)),
        ("03/31/2025", None, date(2025, 3, 31)),
        ("31/03/25", None, date(2025, 3, 31)),
        ("03/03/2025", None, date(2025, 3, 3)),
        ("03-04-2025", DateOrder.MDY, date(2025, 3, 4)),
        ("31 Mar 2025", None, date(2025, 3, 31)),
        ("March 31, 2025", None, date(2025, 3, 31)),
        ("03/31/2025", DateOrder.DMY, None),
        ("45747", None, None),
        ("2025", None, None),
        ("31.03.1925", None, None),
        ("Q1 2025", None, None),
    ],
)
def test_dates_are_read_in_their_usual_forms(
    text: str, order: DateOrder | None, day: date | None
) -> None:
    if day is None:
        with pytest.raises(CellError):
            Dates(order).read(text)
    else:
        assert Dates(order).read(text) == day


def test_rows_that_contradict_each_other_settle_nothing() -> None:
    assert find_order(["03/31/2025", "1/2/2025"]) is DateOrder.MDY
    assert find_order(["31/03/2025", "31.12.2025"]) is DateOrder.DMY
    assert find_order(["31/03/2025", "03/31/2025"]) is None


# Once.


def test_rows_already_imported_are_skipped_and_counted(cards: Importer) -> None:
    cards.succeed(f"{HEADER}\n{GOOD}")
    printed = cards.succeed(f"{HEADER}\n{GOOD}\n{GOOD.replace('S-1', 'S-2')}\n{GOOD}")
    assert printed == (
        "Imported 1 spend ($12.50). Already imported: 2. Matched with a commit: 0. Rejected: 0.\n"
    )
    assert [row[0] for row in recorded()] == ["S-1", "S-2"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_other_amount_for_a_known_id_is_rejected(cards: Importer, dry_run: bool) -> None:
    options = ("--dry-run",) if dry_run else ()
    for rows in ((GOOD, GOOD.replace("12.50", "13")), (GOOD, GOOD.replace("03-31", "03-30"))):
        (line,) = cards.rejected(*rows, options=options)
        assert line.startswith(
            "Row 3: Spend ID 'S-1' is recorded already with $12.50 on budget budget-123, dated "
            "2025-03-31. Correct the row."
        )
    assert recorded() == ([] if dry_run else ONE)


def test_dry_run_reports_the_same_and_changes_nothing(cards: Importer) -> None:
    data = f"{HEADER}\n{GOOD}\n{GOOD.replace('S-1', 'S-2').replace('12.50', '200000')}\nS-3,,,,,,"
    rows = AuditLog.select().count()
    planned = cards.run(data, "--dry-run")
    assert (AuditLog.select().count(), recorded()) == (rows, [])
    done = cards.run(data)
    assert planned.stderr == done.stderr
    assert planned.exit_code == done.exit_code == 1
    assert planned.stdout.replace("Would be overdrawn", "Overdrawn").replace(
        "Would import", "Imported"
    ) == done.stdout.replace("Rejected: 1.", "Rejected: 1. Nothing was changed.")
    assert "Overdrawn: budget budget-123 (Engineering, Q1 2025) by $105,012.50." in done.stdout


def test_spends_are_audited_and_balances_stay_consistent(cards: Importer) -> None:
    cards.succeed(f"{HEADER}\n{GOOD}")
    row = AuditLog.get(AuditLog.action == "SPEND")
    assert (row.requestId, row.reason) == ("S-1", "Imported from cards.csv, row 2")
    assert (row.externalRef, row.committedDeltaMinor) == ("PO-77", 1250)
    assert verification.verify().findings == []


def commit(
    request_id: str,
    amount: str,
    po: str,
    reversed_amount: str | None = None,
    credit_note: str | None = None,
) -> None:
    """Reserve and commit with a PO, and reverse a part of it, with the same or another number."""
    reserve = ReserveRequest(budget_id=demo.BUDGET, request_id=request_id, amount=Decimal(amount))
    ledger.reserve(ROOT, reserve)
    ledger.commit(
        ROOT,
        CommitRequest(
            budget_id=demo.BUDGET, request_id=request_id, amount=Decimal(amount), external_ref=po
        ),
    )
    if reversed_amount:
        ledger.reverse(
            ROOT,
            ReverseRequest.model_validate(
                {
                    "budgetId": demo.BUDGET,
                    "requestId": request_id,
                    "amount": Decimal(reversed_amount),
                    "to": "available",
                    "reason": "Credit note",
                    "externalRef": credit_note or po,
                }
            ),
        )


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_po_of_a_commit_is_counted_once_and_listed(
    cards: Importer, options: tuple[str, ...]
) -> None:
    commit("req-1", "12.50", "PO-77")
    commit("req-2", "100", "po-88", reversed_amount="40")
    committed_minor = BudgetUtilization.get_by_id(demo.BUDGET).committedMinor
    rows = (HEADER, GOOD, "S-2,Engineering,Q1 2025,70,2025-03-31,,PO-88")
    printed = cards.succeed("\n".join(rows), *options)
    assert printed.startswith(
        "Row 2: matched: PO 'PO-77' was committed by request req-1 with $12.50 on budget "
        "budget-123. The amounts are equal.\n"
        "Row 3: matched: PO 'PO-88' was committed by request req-2 with $60 on budget "
        "budget-123. The row has $70, $10 more.\n"
    )
    assert "Matched with a commit: 2." in printed
    assert recorded() == []
    assert BudgetUtilization.get_by_id(demo.BUDGET).committedMinor == committed_minor


@pytest.mark.parametrize("credit_note", [None, "CN-5"])
def test_po_of_a_reversed_commit_is_imported(cards: Importer, credit_note: str | None) -> None:
    commit("req-1", "12.50", "PO-77", "12.50", credit_note)
    cards.succeed(f"{HEADER}\n{GOOD}")
    assert recorded() == ONE


def test_credit_note_lowers_the_amount_of_a_po(cards: Importer) -> None:
    commit("req-1", "20", "PO-77", "7.50", "CN-5")
    printed = cards.succeed(f"{HEADER}\n{GOOD}")
    assert "request req-1 with $12.50 on budget budget-123. The amounts are equal." in printed
    assert recorded() == []


@pytest.mark.parametrize("stored", ["Po-77", "pO-77", "po-77"])
def test_po_is_matched_in_any_letter_case(cards: Importer, stored: str) -> None:
    commit("req-1", "12.50", stored)
    assert "Row 2: matched: PO 'PO-77'" in cards.succeed(f"{HEADER}\n{GOOD}")


def test_po_of_another_customer_is_not_matched(cards: Importer) -> None:
    customers.add_customer(ROOT, "rival", "Rival")
    manual_budgets.set_budget(ROOT, "rival", "IT", "Q1 2025", Decimal(100), budget_id="rival-1")
    ledger.reserve(ROOT, ReserveRequest(budget_id="rival-1", request_id="r", amount=Decimal(5)))
    ledger.commit(
        ROOT,
        CommitRequest(budget_id="rival-1", request_id="r", amount=Decimal(5), external_ref="PO-77"),
    )
    cards.succeed(f"{HEADER}\n{GOOD}")
    assert recorded() == ONE


def test_unknown_and_disabled_customers_are_rejected(cards: Importer, world: Flask) -> None:
    cards.file.write_text(f"{HEADER}\n{GOOD}", encoding="utf-8")
    customers.disable_customer(ROOT, demo.CUSTOMER)
    for customer in ("nobody", demo.CUSTOMER):
        with world.app_context():
            result = world.test_cli_runner().invoke(
                args=["import-spend", str(cards.file), "--customer", customer]
            )
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
    assert recorded() == []


@sqlite_only
def test_killed_import_is_finished_by_the_next_one(
    installation: Installation, tmp_path: Path
) -> None:
    count = 400
    file = tmp_path / "cards.csv"
    rows = [f"S-{number},Engineering,Q1 2025,0.01,2025-03-31,," for number in range(count)]
    file.write_text("\n".join((HEADER, *rows)), encoding="utf-8")
    line = ("import-spend", str(file), "--customer", demo.CUSTOMER)
    kills = 0
    for _ in range(4):
        before = spends(installation)
        with (tmp_path / "output").open("wb") as output, open(os.devnull, "rb") as nothing:
            process = installation.begin(line, [nothing, output, output])
            ends_at = time.monotonic() + 30
            while spends(installation) < before + 20 and time.monotonic() < ends_at:
                if process.poll() is not None:
                    break
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
    assert kills
    done = installation.flask(*line).stdout
    assert spends(installation) == count
    assert f"Already imported: {count}." in installation.flask(*line).stdout, done
    assert "All balances are consistent" in installation.flask("verify").stdout


def spends(installation: Installation) -> int:
    """The number of recorded spends, read by another process."""
    ((number,),) = found(installation.target, 'SELECT COUNT(*) FROM "Spend"')
    return int(number)
