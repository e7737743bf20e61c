"""Sheets in a real browser: connected within six clicks, questions answered, a held rename."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from support.browser import Browser
from support.chromium import require_accessible
from support.company import COMPANY
from support.installation import Installation, found
from support.sheets_server import SheetsServer

#: The most clicks from "Connect a sheet" to the first budget of a sheet without questions.
MAX_CLICKS = 6

PLAN = "Department,Fiscal Period,Budgeted Amount\nLantern {0},Q1 2030,1000\nWick {0},Q1 2030,2500\n"

#: Sheets with questions: the file, the answers by question id, and the budgets that they mean.
LAYOUTS: dict[str, tuple[str, dict[str, list[str]], dict[str, int]]] = {
    "status": (
        """Cost Centre,Spend Type,Time Period,Allocated Budget,Currency Code,Holder,Status,Remarks
Distillery,Copper,FY2031,75000,USD,P. One,Approved,stills
Distillery,Peat,FY2031,45000,USD,P. One,Approved,
Distillery,Casks,Q1-2031,12500,USD,P. One,Draft,
Cooperage,Oak,FY2031,38000,USD,P. Two,Approved,
Cooperage,Hoops,Q1-2031,8500,USD,P. Two,Pending,
Bottling,Glass,Q2-2031,12000,USD,P. Three,Approved,
""",
        {"keep:Status": ["approved"]},
        {"Distillery|2031": 120_000, "Cooperage|2031": 38_000, "Bottling|2031-Q2": 12_000},
    ),
    "years in columns": (
        """Bureau,2032 (Proposed),2032 (Revised),2033 (Proposed),2033 (Revised)
Loft,10,11,12,13
Barn,20,21,22,23
""",
        {"columns": ["2033 (Revised)"], "department": ["Bureau"]},
        {"Loft|2033": 13, "Barn|2033": 23},
    ),
    "two measures": (
        """Department,Annual Budget (USD),,,,Approved On
,Operating,Capital,Wages,Total,
Attic,"$150","$75","$225","$450",2034-03-15
Cellar,"$80","$15","$210","$305",2034-03-15
Total,"$230","$90","$435","$755",
""",
        {"amount": ["Annual Budget (USD) / Total"], "period": ["FY2034"]},
        {"Attic|2034": 450, "Cellar|2034": 305},
    ),
    "same rows twice": (
        """Department,Fiscal Period,Budgeted Amount
Tiles,FY2035,500
Tiles,Fiscal Year 2035,500
Grout,FY2035,40
Paint,FY2035,50
""",
        {"sum": ["refuse"]},
        {"Grout|2035": 40, "Paint|2035": 50},
    ),
}

#: The widths at which a file and a Google Sheet are connected.
FILE_WIDTH, GOOGLE_WIDTH = 375, 1440


class Clicks:
    """A browser that counts clicks."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.count = 0

    def on(self, label: str, within: str = "main") -> None:
        """Click the button or link with this label, and wait for the next page."""
        before = self.browser.one("html")
        self._labelled(label, within).click()
        self.count += 1
        self.browser.wait(lambda: _is_gone(before), f"{label} opened no page")

    def _labelled(self, label: str, within: str) -> WebElement:
        for each in self.browser.all(f"{within} button, {within} a"):
            if each.text.strip() == label and each.is_displayed():
                return each
        raise AssertionError(f"there is no {label!r} in {self.browser.text}")


def _is_gone(element: WebElement) -> bool:
    try:
        element.is_enabled()
    except Exception:  # noqa: BLE001  # any error of the driver means that the page has changed
        return True
    return False


def choose_file(browser: Browser, tmp_path: Path, content: str, name: str = "plan.csv") -> None:
    """Choose a file in the form of the page."""
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    browser.one("input[type=file]").send_keys(str(file))


def live(company: Installation, *periods: str) -> dict[str, int]:
    """The live budgets of these periods: "Loft|2033" -> whole units."""
    rows = found(
        company.target,
        'SELECT "department", "periodKey", "budgetedMinor" FROM "Budget" '
        f"""WHERE "deletedAt" IS NULL AND "customerId" = '{COMPANY}'""",
    )
    return {
        f"{department}|{period}": minor // 100
        for department, period, minor in rows
        if period.partition("-")[0] in periods
    }


def test_file_to_first_budget_within_six_clicks(browser: Browser, tmp_path: Path) -> None:
    browser.set_screen(FILE_WIDTH)
    browser.enter("fiona")
    browser.go("/sync")
    clicks = Clicks(browser)
    clicks.on("Connect a sheet")
    choose_file(browser, tmp_path, PLAN.format(FILE_WIDTH))
    clicks.on("Continue", "[aria-labelledby=file]")
    browser.says("Budgets to come")
    clicks.on("Confirm")
    browser.says("2 created")
    clicks.on("See the budgets")
    assert f"Lantern {FILE_WIDTH}" in browser.text
    assert clicks.count <= MAX_CLICKS


def test_google_sheet_to_first_budget_within_six_clicks(
    browser: Browser, google: SheetsServer
) -> None:
    key = "a-spreadsheet-of-finance"
    rows = [line.split(",") for line in PLAN.format("Google").splitlines()]
    google.share(key, rows, title="FY 2031", gid=7)
    browser.set_screen(GOOGLE_WIDTH)
    browser.enter("fiona")
    browser.go("/sync")
    clicks = Clicks(browser)
    clicks.on("Connect a sheet")
    assert "@" in browser.one("#account").text
    browser.type("address", f"https://docs.google.com/spreadsheets/d/{key}/edit#gid=7")
    clicks.on("Continue", "[aria-labelledby=google]")
    browser.says("FY 2031")
    require_accessible(browser, "the tabs of a sheet")
    clicks.on("Continue")
    browser.says("Budgets to come")
    clicks.on("Confirm")
    browser.says("2 created")
    clicks.on("See the budgets")
    assert "Lantern Google" in browser.text
    assert clicks.count <= MAX_CLICKS


@pytest.mark.parametrize(
    ("layout", "width"), [(name, 375 if name == "two measures" else 1440) for name in LAYOUTS]
)
def test_questions_lead_to_the_right_budgets(
    browser: Browser, company: Installation, tmp_path: Path, layout: str, width: int
) -> None:
    content, answers, expected = LAYOUTS[layout]
    if width != 1440:
        # Budgets of other periods, so that the layout is new.
        content, answers, expected = json.loads(
            json.dumps([content, answers, expected]).replace("2034", "2036")
        )
    browser.set_screen(width)
    browser.enter("fiona")
    browser.go("/sync/connect")
    choose_file(browser, tmp_path, content, f"{layout}.csv")
    Clicks(browser).on("Continue", "[aria-labelledby=file]")
    browser.says("Needs an answer")
    if layout == "status":
        require_accessible(browser, "the questions")
    assert not browser.one("button[value=confirm]").is_enabled()
    for _ in answers:
        answer_all(browser, answers)
        before = browser.one("#reading")
        browser.one("button[value=read]").click()
        browser.wait(lambda before=before: _is_gone(before), "the answers were not used")
    browser.wait(lambda: browser.one("button[value=confirm]").is_enabled(), "questions are open")
    Clicks(browser).on("Confirm")
    browser.says(f"{len(expected)} created")
    years = {key.partition("|")[2].partition("-")[0] for key in expected}
    assert live(company, *years) == expected


def answer_all(browser: Browser, answers: dict[str, list[str]]) -> None:
    """Choose the answers to the questions that the page has."""
    for question_id, values in answers.items():
        name = json.dumps(question_id)
        for field in browser.driver.find_elements(By.XPATH, f"//*[@name='text:{name}']"):
            field.clear()
            field.send_keys(values[0])
        wanted = {json.dumps(value) for value in values}
        for choice in browser.driver.find_elements(By.XPATH, f"//*[@name='answer:{name}']"):
            is_box = choice.get_attribute("type") == "checkbox"
            is_wanted = choice.get_attribute("value") in wanted
            if choice.is_selected() != is_wanted and (is_box or is_wanted):
                choice.send_keys(Keys.SPACE)


def test_held_rename_is_the_same_budget(
    browser: Browser, company: Installation, tmp_path: Path
) -> None:
    browser.enter("fiona")
    browser.go("/sync/connect")
    rows = "Department,Fiscal Period,Budgeted Amount\n{},Q1 2037,100000\nOil,Q1 2037,5\n"
    choose_file(browser, tmp_path, rows.format("Lamp - North"), "lamps.csv")
    clicks = Clicks(browser)
    clicks.on("Continue", "[aria-labelledby=file]")
    clicks.on("Confirm")
    browser.says("2 created")
    clicks.on("Sync")
    source = next(
        card for card in browser.all("section.card") if "lamps.csv" in card.text.splitlines()[0]
    )
    source.find_element(By.LINK_TEXT, "Upload a newer file").click()
    browser.says("Show the changes")
    require_accessible(browser, "the form for a newer file")
    choose_file(browser, tmp_path, rows.format("Lamp North"), "lamps-2.csv")
    clicks.on("Show the changes")
    browser.says("Nothing is applied yet")
    require_accessible(browser, "the plan of a newer file")
    clicks.on("Apply")
    browser.says("1 held back")
    clicks.on("Review held changes")
    browser.says("Lamp - North, Q1 2037 is gone and Lamp North, Q1 2037 is new")
    require_accessible(browser, "held changes")
    clicks.on("Same budget")
    browser.says("1 updated")
    assert live(company, "2037") == {"Lamp North|2037-Q1": 100_000, "Oil|2037-Q1": 5}


def test_sheet_is_connected_by_keyboard_only(browser: Browser, tmp_path: Path) -> None:
    browser.enter("fiona")
    browser.go("/sync")
    browser.tab_to("Connect a sheet")
    browser.keys(Keys.ENTER)
    browser.says("Use the sheet that finance keeps")
    choose_file(browser, tmp_path, PLAN.format("keyboard"), "keyboard.csv")
    browser.one("input[type=file]").submit()
    browser.says("Budgets to come")
    browser.tab_to("Confirm")
    browser.keys(Keys.ENTER)
    browser.says("2 created")


def test_pages_about_a_sheet_are_accessible(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/sync")
    for label in ("How this sheet is read", "Read again"):
        browser.one("main").find_elements(By.LINK_TEXT, label)[0].click()
        browser.wait(lambda label=label: browser.one("h1").text == label, label)
        require_accessible(browser, label)
    for path in ("/sync/connect", "/sync/help", "/sync"):
        browser.go(path)
        require_accessible(browser, path)


def test_too_large_file_is_not_sent(browser: Browser, tmp_path: Path) -> None:
    browser.enter("fiona")
    browser.go("/sync/connect")
    browser.driver.execute_script("document.querySelector('[type=file]').dataset.maxBytes = '10'")
    choose_file(browser, tmp_path, PLAN.format("large"))
    field = browser.one("input[type=file]")
    assert "larger than 16 MB" in str(field.get_property("validationMessage"))
    browser.one("[aria-labelledby=file] button:not([type=button])").click()
    assert browser.one("h1").text == "Connect a sheet"


def test_copy_button_copies_the_address(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/sync/connect")
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": browser.url},
    )
    browser.press("Copy")
    browser.says("Copied")
