"""The console in a real browser against a running server, from signing in to the audit log."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests
from operations.test_docs import README, run_line
from selenium.webdriver.common.keys import Keys
from support.browser import Browser
from support.chromium import require_accessible
from support.company import COMPANY, PEOPLE, email
from support.installation import Installation
from support.machine import PROJECT, needs
from support.screenshots import PAGES, pages
from support.world import PASSWORD

TESTS = PROJECT / "tests"
NAVIGATION = {
    "Overview": "/",
    "Budgets": "/budgets",
    "Requests": "/requests",
    "Reports": "/compare",
    "Sync": "/sync",
    "Audit": "/audit",
    "Alerts": "/alerts",
    "Team": "/team",
    "API keys": "/keys",
    "Webhooks": "/webhooks",
}
REACHED = {"max": 4, "jane": 4, "felix": 6, "fiona": 7, "alex": 10}


def audit_row(browser: Browser, query: str) -> str:
    """The text of the newest audit row that matches a query."""
    browser.go(f"/audit?{query}")
    return browser.one("tbody tr").text


# These come first: the actions of the later tests change the pages.


@pytest.mark.parametrize("who", dict.fromkeys(who for _, who, _ in PAGES), ids=str)
def test_every_page_is_accessible_and_fits_its_width(browser: Browser, who: str | None) -> None:
    found = pages(browser)[who]
    if who:
        browser.enter(who)
    for name, path in found:
        browser.go(path)
        require_accessible(browser, name)


@pytest.mark.parametrize("user_id", [user_id for user_id, _, _ in PEOPLE])
def test_navigation_shows_only_the_pages_of_the_role(browser: Browser, user_id: str) -> None:
    browser.enter(user_id)
    browser.go("/")
    assert [link.text for link in browser.all("nav.links a")] == list(NAVIGATION)[
        : REACHED[user_id]
    ]
    # `test_each_role_sees_only_its_pages` opens every page in each role, without a browser.
    browser.go("/keys")
    assert ("does not allow this" in browser.text) == (REACHED[user_id] < len(NAVIGATION))


def test_release_by_keyboard_only(browser: Browser, company: Installation) -> None:
    browser.go("/request?id=intake-2003")
    assert "/sign-in" in browser.driver.current_url
    browser.keys(email("fiona"), Keys.TAB, "wrong", Keys.ENTER)
    browser.says("Email or password is wrong")
    # The email is kept, and the password field has the focus.
    browser.keys(PASSWORD, Keys.ENTER)
    browser.says("Timeline")
    browser.tab_to("Reject")
    browser.keys(Keys.ENTER)
    browser.says("Reject the request")
    browser.tab_to("amount")
    browser.keys(Keys.CONTROL, "a")
    browser.keys("lots")
    browser.says("must be an amount such as")
    browser.keys(Keys.CONTROL, "a")
    browser.keys("500")
    browser.wait(lambda: "$750.00" in browser.one("#effect").text, "the amounts did not follow")
    browser.tab_to("reason")
    browser.keys("Found a cheaper one")
    browser.tab_to("Reject and release")
    browser.keys(Keys.ENTER)
    browser.says("Released $500")
    row = audit_row(browser, "q=cheaper")
    for text in (
        "Released",
        "reserved \u2212$500.00",
        "intake-2003",
        "Fiona Adams",
        "Found a cheaper one",
    ):
        assert text in row
    browser.tab_to("Sign out")
    browser.keys(Keys.ENTER)
    browser.wait(lambda: "/sign-in" in browser.driver.current_url, "still signed in")
    browser.go("/budgets")
    assert "/sign-in" in browser.driver.current_url
    assert "All balances are consistent" in company.flask("verify").stdout


def test_approval_over_budget(browser: Browser) -> None:
    browser.enter("felix")
    browser.go("/requests?view=uncovered")
    browser.press("intake-2001")
    browser.says("Waiting for FP&A")
    browser.press("Approve over budget")
    browser.says("The budget will be overdrawn")
    browser.type("reason", "Agreed with the board")
    browser.press("Approve over budget")
    browser.says("Reserved $475,000")
    row = audit_row(browser, "action=OVER_BUDGET&q=intake-2001")
    for text in (
        "Reserved over budget",
        "reserved +$475,000.00",
        "Felix Bauer",
        "approved by Felix Bauer",
        "Agreed with the board",
    ):
        assert text in row
    browser.go("/")
    assert "Engineering" in browser.one(".need").text


def test_sync_from_preview_to_approved_deletions(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/sync")
    browser.press("Preview next sync")
    browser.says("Nothing was changed")
    assert "Held back until a person answers, of 24 live budgets" in browser.text
    browser.press("Run now")
    browser.says("Partial. 6 unchanged, 16 held back")
    browser.press("Review held changes")
    browser.says("deletes only these budgets")
    listed = [name.text for name in browser.all("tbody th")]
    assert len(listed) == 16
    browser.press("Delete these 16 budgets")
    browser.says("16 deleted")
    browser.go("/audit?action=SOFT_DELETE")
    assert sorted(name.text for name in browser.all("tbody td:nth-child(3)")) == sorted(listed)
    assert "Fiona Adams" in browser.one("tbody tr").text


def test_created_key_works_until_it_is_revoked(browser: Browser, company: Installation) -> None:
    needs(shutil.which("curl"), "curl")
    browser.sign_in("alex")
    browser.go("/keys")
    browser.type("name", "reporting")
    browser.press("Create key")
    browser.says("shown only once")
    key = browser.one("#value").text
    line = [
        "curl",
        "-sS",
        "-H",
        f"Authorization: Bearer {key}",
        f"{company.url}/api/budgets?limit=1",
    ]
    assert (
        json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)[
            "items"
        ][0]["customerId"]
        == COMPANY
    )
    browser.press("Done")
    browser.says("reporting")
    assert key not in browser.driver.page_source
    browser.one("tbody tr a[href*='revoke']").click()
    browser.press("Revoke the key")
    browser.says("is revoked")
    assert (
        json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)["code"]
        == "AUTHENTICATION_REQUIRED"
    )


def test_form_without_a_valid_token_changes_nothing(
    browser: Browser, company: Installation
) -> None:
    browser.enter("jane")
    browser.go("/account")
    browser.driver.execute_script(
        "document.querySelectorAll('[name=csrf_token]').forEach(field => { field.value = 'stale' })"
    )
    for field in ("present", "new", "again"):
        browser.type(field, "long enough to be sent")
    browser.press("Change password")
    browser.says("Nothing was changed")
    assert requests.post(f"{company.url}/sync/run", timeout=10).status_code == 400


def test_list_follows_typing_and_times_are_in_browser_zone(browser: Browser) -> None:
    # With the form, which sends the browser's time zone.
    browser.sign_in("fiona")
    browser.go("/budgets")
    browser.type("q", "legal")
    browser.wait(lambda: len(browser.all("#results tbody tr")) == 2, "the list did not follow")
    browser.wait(lambda: "q=legal" in browser.driver.current_url, "the address did not follow")
    browser.go("/request?id=intake-2002")
    assert f"Times are in {Browser.ZONE}" in browser.one("footer").text
    shown = browser.one("time")
    moment = (
        datetime.strptime(shown.get_attribute("datetime") or "", "%Y-%m-%dT%H:%M:%SZ")
        .replace(tzinfo=UTC)
        .astimezone(ZoneInfo(Browser.ZONE))
    )
    assert shown.text == f"{moment.day} {moment:%b %Y, %H:%M}"


def test_readme_steps_release_a_reservation(
    browser: Browser, company: Installation, server: Installation
) -> None:
    needs(shutil.which("curl"), "curl")
    section = README.split("## Five minutes in the browser")[1].split("## ")[0]
    (line,) = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    run_line(line, server)
    login = json.loads((server.folder / "demo" / "fiona.json").read_text(encoding="utf-8"))
    assert login["email"] in section
    browser.url = server.url
    try:
        browser.go("/")
        browser.keys(login["email"], Keys.TAB, login["password"], Keys.ENTER)
        browser.says("Overview")
        for label in re.findall(r"\*\*(.+?)\*\*", section):
            if browser.all("[name=reason]"):
                browser.type("reason", "Walked as written")
            browser.follow(label)
        row = browser.one("tbody tr").text
        for text in (
            "Released",
            "reserved \u2212$2,500.00",
            "test-002",
            "Fiona Adams",
            "Walked as written",
        ):
            assert text in row
    finally:
        browser.url = company.url


def test_first_tab_skips_to_the_page(browser: Browser) -> None:
    browser.enter("max")
    browser.go("/budgets")
    browser.tab_to("Skip to the page")
    browser.keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"


@pytest.mark.parametrize(
    "folder", [PROJECT / "budget_sync" / "web" / "static", TESTS], ids=["console", "tests"]
)
def test_vendored_files_match_their_checksums(folder: Path) -> None:
    listed = (folder / "VENDORED.md").read_text(encoding="utf-8").split("```")[1].strip()
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict"],
        cwd=folder,
        input=listed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {line.split()[1] for line in listed.splitlines()} == {
        f"vendor/{path.name}" for path in (folder / "vendor").iterdir() if path.suffix != ".LICENSE"
    }
