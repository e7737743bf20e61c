"""FP&A finds requests, adds them up and matches a misspelled department, in a few clicks."""

from __future__ import annotations

import pytest
import requests
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from support.browser import Browser
from support.chromium import require_accessible
from support.company import COMPANY, email
from support.installation import Installation
from support.machine import ENGINE

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")


class Clicks:
    """Counts the clicks of a task, which starts on the overview."""

    def __init__(self, browser: Browser, user_id: str = "fiona") -> None:
        self.browser, self.count = browser, 0
        browser.enter(user_id)
        browser.go("/")

    def follow(self, label: str) -> None:
        """Click a button or link, and wait for the next page."""
        self.count += 1
        self.browser.follow(label)

    def choose(self, name: str, option: str) -> None:
        """Choose an option of a select."""
        self.count += 1
        Select(self.browser.one(f"main [name='{name}']")).select_by_visible_text(option)


def check(company: Installation, request_id: str, department: str) -> str:
    """Check a request without credentials; returns the code."""
    body = {
        "requestId": request_id,
        "userId": "jane",
        "userName": "Jane Doe",
        "userEmail": email("jane"),
        "customerId": COMPANY,
        "department": department,
        "fiscalPeriod": period(company),
        "amount": 12,
        "vendor": "Figma",
    }
    reply = requests.post(f"{company.url}/api/budget/check", json=body, timeout=30)
    code: str = reply.json()["code"]
    return code


def period(company: Installation) -> str:
    """The period of the budgets."""
    login = {"email": email("fiona"), "password": "correct horse battery"}
    session = requests.Session()
    session.post(f"{company.url}/api/auth/login", json=login, timeout=30)
    budgets = session.get(f"{company.url}/api/budgets", timeout=30).json()["items"]
    found: str = next(each for each in budgets if each["id"] == "marketing-1")["fiscalPeriod"]
    return found


@pytest.mark.parametrize("width", [1440, 375])
def test_held_money_of_a_department_in_three_clicks(browser: Browser, width: int) -> None:
    browser.set_screen(width)
    task = Clicks(browser)
    task.follow("Requests")
    task.choose("department", "Marketing")
    browser.type("days", "30")
    browser.wait(lambda: "days=30" in browser.driver.current_url, "the list did not follow")
    assert task.count <= 3
    found = browser.one("#results").text
    assert "Total" in found or "Nothing found" in found
    rows = [row.text for row in browser.all("#results tbody tr")]
    assert all("Marketing" in row for row in rows)
    assert browser.driver.execute_script(
        "return document.documentElement.scrollWidth <= window.innerWidth"
    )


def test_misspelled_request_matches_in_four_clicks(browser: Browser, company: Installation) -> None:
    assert check(company, "PR-2002", "Markting") == "NO_BUDGET"
    task = Clicks(browser)
    browser.one("header [name=q]").send_keys("PR-2002", Keys.ENTER)
    browser.says("Search for PR-2002")
    require_accessible(browser, "search")
    task.follow("PR-2002")
    browser.says("No budget matched")
    task.follow("Find the department")
    require_accessible(browser, "unmatched")
    browser.tab_to("means Marketing")
    task.count += 1
    browser.keys(Keys.ENTER)
    browser.says("Markting means Marketing from the next check on.")
    assert task.count <= 4
    assert check(company, "PR-2003", "Markting") == "AUTO_APPROVED"
    require_accessible(browser, "aliases")


def test_open_reservations_of_the_quarter_in_two_clicks(browser: Browser) -> None:
    task = Clicks(browser)
    task.follow("open\u00a0reservations")
    rows = browser.all("#results tbody tr")
    assert rows
    assert "Total" in browser.one("#results tfoot").text
    task.count += 1
    address = browser.one("#export").get_attribute("href") or ""
    cookies = {each["name"]: each["value"] for each in browser.driver.get_cookies()}
    reply = requests.get(address, cookies=cookies, timeout=30)
    assert reply.headers["Content-Type"].startswith("text/csv")
    lines = reply.content.decode("utf-8-sig").splitlines()
    assert "(Europe/Berlin)" in lines[0]
    assert len(lines) == len(rows) + 1
    assert task.count <= 2


def test_bar_of_the_chart_opens_its_checks(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/")
    require_accessible(browser, "overview")
    browser.go("/requests?view=denied&sort=-amount")
    require_accessible(browser, "denied")
    browser.go("/")
    bar = browser.one("svg.decisions a")
    address = bar.get_attribute("href")
    browser.driver.execute_script(
        "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", bar
    )
    browser.says("Checks of")
    assert browser.all("tbody tr")
    assert address
    require_accessible(browser, "checks")
