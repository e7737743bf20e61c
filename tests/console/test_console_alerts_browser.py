"""The page of alerts in a browser: accessible, and an FP&A admin finds the way."""

from __future__ import annotations

import pytest
from support.browser import Browser
from support.chromium import require_accessible
from support.company import COMPANY
from support.installation import Installation
from support.machine import ENGINE, free_port

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")


def test_admin_adds_tests_and_removes_an_alert(browser: Browser, company: Installation) -> None:
    browser.sign_in("alex")
    browser.go("/alerts")
    browser.says("No alert yet")
    require_accessible(browser, "no alerts")
    browser.type("url", "json://10.0.0.1/")
    browser.press("Add alert")
    browser.says("private network")
    require_accessible(browser, "wrong address")
    browser.type("url", "mailtos://mail.example.com?from=a@acme.com&to=finance@acme.com")
    browser.press("Add alert")
    browser.says("The alert is added")
    browser.one("tbody td a").click()
    browser.says("Remove this alert?")
    require_accessible(browser, "remove an alert")
    browser.press("Remove the alert")
    browser.says("It sends nothing more")
    down = f"mailto://127.0.0.1:{free_port()}?from=a@acme.com&to=a-long-name-of-a-team@acme.com"
    company.flask("add-alert", "--customer", COMPANY, "--to", down, "--on", "threshold:1")
    company.flask(
        *("set-budget", "--customer", COMPANY, "--department", "Alerts"),
        *("--period", "Q1 2025", "--amount", "100"),
    )
    browser.go("/alerts")
    browser.press("Send a test")
    browser.says("Connection refused")
    require_accessible(browser, "alerts")
