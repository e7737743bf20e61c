"""Decisions from the inbox in a real browser: few clicks, by keyboard, on a phone."""

from __future__ import annotations

import pytest
import requests
from selenium.webdriver.common.keys import Keys
from support.browser import Browser
from support.chromium import require_accessible
from support.company import COMPANY, email
from support.installation import Installation
from support.world import PASSWORD

WAITING = ("held-1", "held-2", "held-3")
DENIED = ("desk-1", "desk-2", "desk-3")


@pytest.fixture(scope="module")
def desk(company: Installation) -> Installation:
    """The company, with WAITING for approval, and DENIED, which no budget covers."""
    with requests.Session() as fiona:
        login = {"email": email("fiona"), "password": PASSWORD}
        fiona.post(f"{company.url}/api/auth/login", json=login, timeout=30)
        budgets = fiona.get(f"{company.url}/api/budgets?department=Research", timeout=30).json()
        budget = budgets["items"][0]
        for request_id in (*WAITING, *DENIED):
            check = {
                "requestId": request_id,
                "userId": "jane",
                "userName": "Jane",
                "userEmail": email("jane"),
                "customerId": COMPANY,
                "department": budget["department"],
                "fiscalPeriod": budget["fiscalPeriod"],
                "amount": 900_000 if request_id in DENIED else 6000,
            }
            fiona.post(f"{company.url}/api/budget/check", json=check, timeout=30)
        for request_id in WAITING:
            reserve = {"budgetId": budget["id"], "requestId": request_id, "amount": 6000}
            fiona.post(f"{company.url}/api/budget/reserve", json=reserve, timeout=30)
    return company


# A call of `follow` is one click.


@pytest.mark.parametrize("width", [1440, 375])
def test_decisions_take_two_clicks(browser: Browser, desk: Installation, width: int) -> None:
    browser.enter("felix")
    browser.set_screen(width)
    browser.go("/")
    request_id = WAITING[0 if width == 375 else 1]
    browser.follow(f"Approve {request_id}")
    browser.follow("Approve")
    browser.says("Approved $")
    denied = DENIED[0 if width == 375 else 1]
    browser.go("/")
    assert f"Approve {request_id}" not in browser.text
    browser.follow(f"Decline {denied}")
    browser.type("reason", "Not this quarter")
    browser.follow("Decline")
    browser.says("Declined $900,000.")
    browser.says("Not this quarter")
    if width == 375:
        browser.go("/")
        browser.follow(f"Approve over budget {DENIED[2]}")
        browser.type("reason", "The board agreed")
        browser.follow("Approve over budget")
        browser.says("Reserved $900,000.")
    assert "All balances are consistent" in desk.flask("verify").stdout


def test_approval_by_keyboard_only(browser: Browser, desk: Installation) -> None:
    browser.enter("felix")
    browser.go("/")
    for _ in range(60):
        browser.keys(Keys.TAB)
        focused = browser.driver.switch_to.active_element
        if f"approve-reservation?id={WAITING[2]}" in (focused.get_attribute("href") or ""):
            break
    browser.keys(Keys.ENTER)
    browser.says("The money stays reserved")
    require_accessible(browser, "approve a reservation")
    browser.tab_to("reason")
    browser.keys("Fits the plan")
    browser.tab_to("Approve")
    browser.keys(Keys.ENTER)
    browser.says("Fits the plan")
    browser.go("/request/decline?id=intake-2001")
    require_accessible(browser, "decline")
