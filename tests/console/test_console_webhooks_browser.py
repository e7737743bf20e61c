"""The pages of webhooks in a browser: accessible, and an admin finds the way."""

from __future__ import annotations

import pytest
from support.browser import Browser
from support.chromium import require_accessible
from support.company import COMPANY
from support.installation import Installation
from support.machine import ENGINE, free_port

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")


def test_admin_adds_tests_and_removes_a_webhook(browser: Browser, company: Installation) -> None:
    down = f"http://127.0.0.1:{free_port()}/a-long-path-without-any-place-to-break-the-line/hook"
    company.flask("add-webhook", "--customer", COMPANY, "--url", down)
    browser.sign_in("alex")
    browser.go("/webhooks")
    browser.type("url", "https://10.0.0.1/")
    browser.press("Add webhook")
    browser.says("private network")
    require_accessible(browser, "webhooks")
    browser.type("url", "https://hooks.example.com/budgets")
    browser.press("Add webhook")
    browser.says("shown only once")
    assert browser.one("#value").text.startswith("whsec_")
    browser.go("/webhooks")
    browser.one("tbody th a").click()
    browser.press("Send a test event")
    browser.says("Not delivered, after")
    browser.says("Connection refused")
    require_accessible(browser, "webhook")
    for link in ("Replace the secret", "Remove the webhook"):
        browser.one("h1")
        address = next(each for each in browser.all("main a") if each.text == link)
        path = str(address.get_attribute("href")).removeprefix(company.url)
        browser.go(path)
        require_accessible(browser, link)
        browser.driver.back()
    browser.go(path)
    browser.press("Remove the webhook")
    browser.says("gets no more events")
    assert "a-long-path" not in browser.one("main").text
