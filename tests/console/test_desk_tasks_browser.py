"""What an FP&A analyst does in a week, in a real browser, with the clicks that each task takes.

Each task starts on Overview. Typing is not a click; choosing an option takes two. The first seven
are done by mouse at 1440 px, and by keyboard at 375 px in dark colors. The others are done by
keyboard.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select
from support.browser import Browser
from support.chromium import AXE, PAINT, RULES, serious
from support.desk import (
    DECLINED,
    DENIED,
    HOLD,
    MISSPELLED,
    VENDOR,
    WAITS,
    budget_id,
    build_desk,
    quarter_of,
)
from support.installation import Installation

TODAY = datetime.now(UTC).date()
QUARTER = quarter_of(TODAY)


class Mode(NamedTuple):
    """How the tasks are done: the width in px, dark colors or light, keyboard or mouse."""

    width: int
    is_dark: bool
    has_mouse: bool


MOUSE, KEYBOARD, PHONE = (
    Mode(1440, is_dark=False, has_mouse=True),
    Mode(1440, is_dark=False, has_mouse=False),
    Mode(375, is_dark=True, has_mouse=False),
)


class Desk:
    """A person at the console. Counts the clicks since Overview was opened."""

    def __init__(self, browser: Browser, installation: Installation, mode: Mode) -> None:
        self.browser = browser
        self.installation = installation
        self.mode = mode
        self.clicks = 0

    @contextmanager
    def task(self, most: int) -> Iterator[Browser]:
        """Start on Overview; at the end, at most this many clicks, and the page is accessible."""
        browser = self.browser
        browser.set_screen(self.mode.width, dark=self.mode.is_dark)
        browser.go("/")
        self.clicks = 0
        yield browser
        assert self.clicks <= most
        browser.driver.execute_script(AXE.read_text(encoding="utf-8"))
        assert serious(browser, PAINT if self.mode is PHONE else RULES) == []
        assert browser.driver.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        )

    def press(self, label: str, within: str = "body") -> None:
        """Use the button or link whose text begins with a label, inside a CSS selector."""
        matches = f".//*[self::button or self::a][starts-with(normalize-space(), '{label}')]"
        self.use(self.browser.one(within).find_element(By.XPATH, matches))

    def use(self, element: WebElement) -> None:
        """Click an element, or press Enter on it, and wait for what follows."""
        left = self.browser.one("main").id
        if self.mode.has_mouse:
            element.click()
        else:
            element.send_keys(Keys.ENTER)
        self.clicks += 1
        self.browser.wait(lambda: self.browser.one("main").id != left, "no page has opened")

    def of_request(self, label: str, request: str) -> None:
        """Use a button of the inbox for one request."""
        found = f"//li[contains(., '{request}')]//a[starts-with(normalize-space(), '{label}')]"
        self.use(self.browser.driver.find_element(By.XPATH, found))

    def choose(self, name: str, option: str) -> None:
        """Choose an option of a field. That takes two clicks."""
        Select(self.browser.one(f"main [name={name}]")).select_by_visible_text(option)
        self.clicks += 2

    def session(self) -> requests.Session:
        """A client with the session of the browser."""
        client = requests.Session()
        for cookie in self.browser.driver.get_cookies():
            client.cookies.set(cookie["name"], cookie["value"])
        return client

    def value(self, sql: str, *parameters: str) -> int:
        """The first value that a query of the database gives."""
        connection = sqlite3.connect(self.installation.target)
        try:
            found: int = connection.execute(sql, parameters).fetchone()[0]
        finally:
            connection.close()
        return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The instance folder of the company."""
    folder = tmp_path_factory.mktemp("desk") / "instance"
    build_desk(_installation(folder))
    return folder


def _installation(folder: Path) -> Installation:
    return Installation(
        {"INSTANCE_FOLDER": str(folder), "SECRET_KEY": "a key for tests, long enough"}
    )


def modes(**chosen: Mode) -> pytest.MarkDecorator:
    """Do a task in these modes."""
    return pytest.mark.parametrize(
        "desk", list(chosen.values()), ids=list(chosen), indirect=True, scope="module"
    )


everywhere = modes(mouse=MOUSE, phone=PHONE)
at_a_desk = modes(keyboard=KEYBOARD)


@pytest.fixture(scope="module")
def desk(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, Mode]]:
    """A copy of the company with its server, and how the tasks are done."""
    folder = tmp_path_factory.mktemp("copy") / "instance"
    shutil.copytree(built, folder)
    installation = _installation(folder)
    installation.start("--workers", "1")
    yield installation, request.param
    installation.end()


@pytest.fixture
def fiona(desk: tuple[Installation, Mode], chromium: Browser) -> Iterator[Desk]:
    """Fiona, an FP&A admin, at her desk."""
    installation, mode = desk
    chromium.url = installation.url
    chromium.enter("fiona")
    yield Desk(chromium, installation, mode)
    chromium.sign_out()


@everywhere
def test_1_which_departments_will_run_over(fiona: Desk) -> None:
    with fiona.task(0) as browser:
        lines = [line.text for line in browser.all(".bars li")]
    over = [re.search(r"Will run over by \$([\d,.]+)", line) for line in lines]
    amounts = [Decimal(found[1].replace(",", "")) for found in over if found]
    assert amounts == sorted(amounts, reverse=True)
    assert len(amounts) >= 1
    assert all(over[: len(amounts)])


@everywhere
def test_2_what_waits_for_a_decision(fiona: Desk) -> None:
    with fiona.task(0) as browser:
        inbox = browser.one(".inbox").text
        place = browser.one(".inbox").location["y"]
        assert place < browser.one(".bars").location["y"]
    for request in (WAITS, DENIED, DECLINED, MISSPELLED):
        assert request in inbox


@everywhere
def test_3_money_held_for_more_than_a_month(fiona: Desk) -> None:
    before = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    held_minor = fiona.value(
        """
        SELECT SUM("heldMinor") FROM "Reservation" WHERE "createdAt" < ? AND "budgetId" IN
            (SELECT "id" FROM "Budget" WHERE "department" = 'Marketing')
        """,
        before,
    )
    with fiona.task(3) as browser:
        fiona.press("Requests", "nav")
        fiona.choose("department", "Marketing")
        browser.type("days", "30")
        total = f"${held_minor / 100:,.2f}"
        browser.wait(lambda: total in browser.one("tfoot").text, f"the total is not {total}")


@everywhere
def test_4_approve_over_budget(fiona: Desk) -> None:
    with fiona.task(4) as browser:
        fiona.of_request("Approve over budget", DENIED)
        browser.type("reason", "The move cannot wait")
        fiona.press("Approve over budget", "main form")
        browser.says("The move cannot wait")
    assert _actions(fiona, DENIED) == 1


def _actions(fiona: Desk, request: str, action: str = "OVER_BUDGET") -> int:
    return fiona.value(
        'SELECT COUNT(*) FROM "AuditLog" WHERE "requestId" = ? AND "action" = ?', request, action
    )


@everywhere
def test_5_approve_within_budget(fiona: Desk) -> None:
    with fiona.task(3) as browser:
        fiona.of_request("Approve", WAITS)
        fiona.press("Approve", "main form")
        browser.says("Approved")
    assert _actions(fiona, WAITS, "APPROVE") == 1


@everywhere
def test_6_decline(fiona: Desk) -> None:
    with fiona.task(3) as browser:
        fiona.of_request("Decline", DECLINED)
        browser.type("reason", "Not this year")
        fiona.press("Decline", "main form")
        browser.says("Not this year")
    assert _actions(fiona, DECLINED, "DECLINE") == 1
    fiona.browser.go("/")
    assert DECLINED not in fiona.browser.one(".inbox").text


@everywhere
def test_7_match_a_misspelled_department(fiona: Desk) -> None:
    with fiona.task(4) as browser:
        fiona.press(MISSPELLED)
        browser.says("No budget matched Enginering")
        fiona.press("Find the department")
        fiona.press("means Engineering")
    sql = 'SELECT COUNT(*) FROM "DepartmentAlias" WHERE "department" = ?'
    assert fiona.value(sql, "Engineering") == 1


@at_a_desk
def test_8_open_reservations_of_the_quarter_into_excel(fiona: Desk) -> None:
    with fiona.task(2) as browser:
        fiona.press("open\N{NO-BREAK SPACE}reservations")
        link = browser.driver.find_element(By.LINK_TEXT, "Export CSV")
        # The browser of the tests saves no files, so the address of the link is opened here.
        fiona.clicks += 1
        reply = fiona.session().get(link.get_attribute("href") or "", timeout=30)
    lines = list(csv.DictReader(io.StringIO(reply.content.decode("utf-8-sig"))))
    sql = """
        SELECT COUNT(*) FROM "Reservation" WHERE "status" = 'open' AND "budgetId" IN
            (SELECT "id" FROM "Budget" WHERE "fiscalPeriod" = ?)
        """
    assert len(lines) == fiona.value(sql, QUARTER)
    assert {line["Fiscal Period"] for line in lines} == {QUARTER}


@at_a_desk
def test_9_raise_the_amount_of_a_department(fiona: Desk) -> None:
    with fiona.task(3) as browser:
        fiona.press("Marketing", ".bars")
        if browser.all("#results"):
            fiona.press("Marketing", "#results")
        browser.says("Row ")
        browser.says("plan.csv")
    with fiona.task(3) as browser:
        fiona.press("Events", ".bars")
        fiona.press("Change", "main")
        browser.type("amount", "30000")
        browser.type("reason", "A second fair")
        fiona.press("Change the budget", "main form")
    sql = 'SELECT "budgetedMinor" FROM "Budget" WHERE "id" = ?'
    assert fiona.value(sql, "events-1") == 3_000_000


@at_a_desk
def test_10_connect_a_file(fiona: Desk, tmp_path: Path) -> None:
    file = tmp_path / "labs.csv"
    file.write_text(f"Department,Fiscal Period,Budgeted Amount\nLabs,{QUARTER},7000\n", "utf-8")
    with fiona.task(6) as browser:
        fiona.press("Sync", "nav")
        fiona.press("Connect a sheet")
        browser.one("input[type=file]").send_keys(str(file))
        fiona.press("Continue", "section[aria-labelledby=file]")
        browser.says("Labs")
        fiona.press("Confirm", "main")
        browser.says("Success")
    assert fiona.value('SELECT COUNT(*) FROM "Budget" WHERE "department" = ?', "Labs") == 1


@at_a_desk
def test_11_why_a_sync_failed(fiona: Desk) -> None:
    with fiona.task(2) as browser:
        fiona.press("Google Sheet / FY plan", ".inbox")
        browser.says("GOOGLE_APPLICATION_CREDENTIALS is not set: set it to the JSON file")
        browser.says("For your operator")


@at_a_desk
def test_12_what_changed_since_the_end_of_last_month(fiona: Desk) -> None:
    with fiona.task(3) as browser:
        fiona.press("Reports", "nav")
        fiona.press("What changed")
        last_month = TODAY.replace(day=1) - timedelta(days=1)
        assert browser.one("main [name=from]").get_attribute("value") == f"{last_month}"
        browser.says("Net change of each department")
        assert any("Legal" in row.text for row in browser.all("tbody tr"))


@at_a_desk
def test_13_compare_with_a_year_before(fiona: Desk) -> None:
    with fiona.task(2) as browser:
        fiona.press("Reports", "nav")
        heads = " ".join(each.text for each in browser.all("thead th"))
    assert quarter_of(TODAY, -4) in heads
    assert QUARTER in heads


@at_a_desk
def test_14_spend_with_one_vendor_this_year(fiona: Desk) -> None:
    with fiona.task(3) as browser:
        fiona.press("Reports", "nav")
        fiona.press("Spend", "main")
        browser.type("q", VENDOR)
        browser.wait(
            lambda: {row.text.split()[0] for row in browser.all("#results tbody tr")} == {VENDOR},
            "the list did not follow",
        )
        total = browser.one("#results strong").text
    spent = fiona.value(
        """
        SELECT SUM(a."committedDeltaMinor") FROM "AuditLog" a WHERE a."createdAt" >= ? AND
            (SELECT c."vendor" FROM "BudgetCheckLog" c WHERE c."requestId" = a."requestId") = ?
        """,
        f"{TODAY.year - 1}-12-31T23:00:00Z",
        VENDOR,
    )
    assert total == f"${spent / 100:,.2f}"


@at_a_desk
def test_15_committed_and_reserved_as_of_a_past_day(fiona: Desk) -> None:
    day = TODAY - timedelta(days=31)
    with fiona.task(2) as browser:
        field = browser.one("main [name=asOf]")
        browser.driver.execute_script("arguments[0].value = arguments[1]", field, f"{day}")
        fiona.press("Show", "main")
        browser.says(f"As of {day.day} {day:%B %Y}")
        browser.says("Committed")
        browser.says("Reserved")


@at_a_desk
def test_16_move_a_part_of_a_reservation(fiona: Desk) -> None:
    target = budget_id("Marketing", QUARTER)
    with fiona.task(4) as browser:
        box = browser.one("header [name=q]")
        box.send_keys(HOLD, Keys.ENTER)
        browser.says("HubSpot")
        fiona.press(HOLD, "main")
        fiona.press("Move to another budget")
        browser.type("q", "marketing")
        browser.wait(lambda: browser.all(f"a[href*='to={target}']"), "the list did not follow")
        fiona.use(browser.one(f"a[href*='to={target}']"))
        browser.type("amount", "5000")
        browser.type("reason", "Marketing pays for a part")
        fiona.press("Move", "main form")
        browser.says("Marketing pays for a part")
    sql = 'SELECT "heldMinor" FROM "Reservation" WHERE "requestId" = ? AND "budgetId" = ?'
    assert fiona.value(sql, HOLD, target) == 500_000
