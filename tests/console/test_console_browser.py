"""The console in a real browser, on the running server: what people do, from signing in to the row it leaves in the audit log."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
import requests
from operations.test_readme import README, run_line
from selenium.webdriver.common.keys import Keys
from support.browser import CHROMEDRIVER, CHROMIUM, COMPANY, PEOPLE, Browser, build_company, email
from support.installation import Installation
from support.machine import PROJECT, needs
from support.screenshots import PAGES, pages
from support.world import PASSWORD

TESTS = PROJECT / "tests"
AXE = (TESTS / "vendor" / "axe.min.js").read_text(encoding="utf-8")

#: All that axe looks for on a page; and of it, what other colours and another width can change.
RULES: dict[str, object] = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
PAINT: dict[str, object] = {
    "runOnly": {
        "type": "rule",
        "values": [
            "color-contrast",
            "link-in-text-block",
            "scrollable-region-focusable",
            "target-size",
        ],
    }
}

NAVIGATION = {
    "Overview": "/",
    "Budgets": "/budgets",
    "Requests": "/requests",
    "Sync": "/sync",
    "Audit": "/audit",
    "Team": "/team",
    "API keys": "/keys",
}
REACHED = {"max": 3, "jane": 3, "felix": 5, "fiona": 5, "alex": 7}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The company, and its server."""
    needs(CHROMIUM and CHROMEDRIVER, "chromium or chromedriver")
    made = Installation(
        {
            "INSTANCE_FOLDER": str(tmp_path_factory.mktemp("company")),
            "SECRET_KEY": "a key for tests, long enough",
        }
    )
    build_company(made, busy=0.06)
    made.start("--workers", "1")
    yield made
    made.end()


@pytest.fixture(scope="module")
def chromium(company: Installation) -> Iterator[Browser]:
    """The one browser."""
    opened = Browser(company.url)
    yield opened
    opened.close()


@pytest.fixture
def browser(chromium: Browser, company: Installation) -> Iterator[Browser]:
    """The browser, signed out; nothing may go wrong in it, and it may ask no other host for anything."""
    chromium.forget()
    chromium.paint()
    chromium.log("browser")
    chromium.log("performance")
    yield chromium
    complaints = [
        entry["message"]
        for entry in chromium.log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]
    # A browser notes every answer of 400 and more; those the tests ask for.
    assert [
        text
        for text in complaints
        if "Failed to load resource: the server responded with a status of 4" not in text
    ] == []
    sent = [json.loads(entry["message"])["message"] for entry in chromium.log("performance")]
    asked = [
        urlsplit(each["params"]["request"]["url"])
        for each in sent
        if each["method"] == "Network.requestWillBeSent"
    ]
    assert {url.hostname for url in asked if url.scheme not in ("about", "data")} == {"127.0.0.1"}


def audit_row(browser: Browser, query: str) -> str:
    """The newest row of the audit log that a query finds, as its page shows it."""
    browser.go(f"/audit?{query}")
    return browser.one("tbody tr").text


# What the page-by-page tests see is what the deeds below begin with, so they come first.


@pytest.mark.parametrize("who", dict.fromkeys(who for _, who, _ in PAGES), ids=str)
def test_every_page_is_there_for_everybody(browser: Browser, who: str | None) -> None:
    found = pages(browser)[who]
    if who:
        browser.enter(who)
    for name, path in found:
        browser.go(path)
        browser.driver.execute_script(AXE)
        for width, dark, rules in ((1440, False, RULES), (375, True, PAINT)):
            browser.paint(width, dark=dark)
            assert serious(browser, rules) == [], f"{name} at {width} px"
            assert browser.driver.execute_script(
                "return document.documentElement.scrollWidth <= window.innerWidth"
            ), f"{name} is wider than {width} px"
        assert len(browser.all("h1")) == 1, name


def serious(browser: Browser, rules: dict[str, object]) -> list[str]:
    """What axe finds on the page that stands in somebody's way."""
    found = browser.driver.execute_async_script(
        "axe.run(document, {preload: false, ...arguments[0]}).then(arguments[1])", rules
    )
    return [
        f"{each['id']}: {node['html'][:150]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


@pytest.mark.parametrize("user_id", [user_id for user_id, _, _ in PEOPLE])
def test_each_role_has_its_pages_and_a_sentence_instead_of_the_others(
    browser: Browser, user_id: str
) -> None:
    browser.enter(user_id)
    browser.go("/")
    assert [link.text for link in browser.all("nav.links a")] == list(NAVIGATION)[
        : REACHED[user_id]
    ]
    for number, path in enumerate(NAVIGATION.values()):
        browser.go(path)
        assert ("does not allow this" in browser.text) == (number >= REACHED[user_id]), path


def test_a_release_by_keyboard_alone_from_signing_in_to_the_audit_log(
    browser: Browser, company: Installation
) -> None:
    browser.go("/request?id=intake-2003")
    assert "/sign-in" in browser.driver.current_url
    browser.keys(email("fiona"), Keys.TAB, "wrong", Keys.ENTER)
    browser.says("Email or password is wrong")
    # The email is kept, and the focus is where it has to be typed anew.
    browser.keys(PASSWORD, Keys.ENTER)
    browser.says("What happened")
    browser.tab_to("Reject")
    browser.keys(Keys.ENTER)
    browser.says("Reject the request")
    browser.tab_to("amount")
    browser.keys(Keys.CONTROL, "a")
    browser.keys("lots")
    browser.says("must be an amount such as")
    browser.keys(Keys.CONTROL, "a")
    browser.keys("500")
    browser.wait(lambda: "$750.00" in browser.one("#effect").text, "the figures did not follow")
    browser.tab_to("reason")
    browser.keys("Found a cheaper one")
    browser.tab_to("Reject and release")
    browser.keys(Keys.ENTER)
    browser.says("Released $500")
    row = audit_row(browser, "q=cheaper")
    for told in (
        "Released",
        "reserved \u2212$500.00",
        "intake-2003",
        "Fiona Adams",
        "Found a cheaper one",
    ):
        assert told in row
    browser.tab_to("Sign out")
    browser.keys(Keys.ENTER)
    browser.wait(lambda: "/sign-in" in browser.driver.current_url, "still inside")
    browser.go("/budgets")
    assert "/sign-in" in browser.driver.current_url
    assert "All balances are consistent" in company.flask("verify").stdout


def test_an_approval_over_budget_from_the_list_to_the_audit_log(browser: Browser) -> None:
    browser.enter("felix")
    browser.go("/requests?view=uncovered")
    browser.press("intake-2001")
    browser.says("Waits for FP&A")
    browser.press("Approve over budget")
    browser.says("The budget is then overdrawn")
    browser.type("reason", "Agreed with the board")
    browser.press("Approve over budget")
    browser.says("Reserved $475,000")
    row = audit_row(browser, "action=OVER_BUDGET&q=intake-2001")
    for told in (
        "Reserved over budget",
        "reserved +$475,000.00",
        "Felix Bauer",
        "approved by Felix Bauer",
        "Agreed with the board",
    ):
        assert told in row
    browser.go("/")
    assert "Engineering" in browser.one(".need").text


def test_a_sync_from_preview_to_approved_deletions(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/sync")
    browser.press("Preview the next pass")
    browser.says("Nothing was changed")
    assert "Held back: 16 of the source's 24 live budgets" in browser.text
    browser.press("Run now")
    browser.says("Partial. 6 unchanged, 16 held back")
    browser.press("Look at them")
    browser.says("and no others than these")
    listed = [name.text for name in browser.all("tbody th")]
    assert len(listed) == 16
    browser.press("Delete these 16 budgets")
    browser.says("16 deleted")
    browser.go("/audit?action=SOFT_DELETE")
    assert sorted(name.text for name in browser.all("tbody td:nth-child(3)")) == sorted(listed)
    assert "Fiona Adams" in browser.one("tbody tr").text


def test_a_key_is_made_and_a_program_uses_it(browser: Browser, company: Installation) -> None:
    needs(shutil.which("curl"), "curl")
    browser.sign_in("alex")
    browser.go("/keys")
    browser.type("name", "reporting")
    browser.press("Make a key")
    browser.says("shown this once")
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
    browser.one("tbody tr a").click()
    browser.press("Revoke the key")
    browser.says("is revoked")
    assert (
        json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)["code"]
        == "AUTHENTICATION_REQUIRED"
    )


def test_a_form_without_its_token_changes_nothing(browser: Browser, company: Installation) -> None:
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


def test_a_list_follows_what_is_typed_and_times_are_the_readers(browser: Browser) -> None:
    # In the form, which tells in what zone the browser is.
    browser.sign_in("fiona")
    browser.go("/budgets")
    browser.type("q", "legal")
    browser.wait(lambda: len(browser.all("#results tbody tr")) == 2, "the list did not follow")
    browser.wait(lambda: "q=legal" in browser.driver.current_url, "the address did not follow")
    browser.go("/request?id=intake-2002")
    assert f"Times are in {Browser.ZONE}" in browser.one("footer").text
    told = browser.one("time")
    moment = (
        datetime.strptime(told.get_attribute("datetime") or "", "%Y-%m-%dT%H:%M:%SZ")
        .replace(tzinfo=UTC)
        .astimezone(ZoneInfo(Browser.ZONE))
    )
    assert told.text == f"{moment.day} {moment:%b %Y, %H:%M}"


def test_the_readmes_walk_releases_a_budget(
    browser: Browser, company: Installation, server: Installation
) -> None:
    needs(shutil.which("curl"), "curl")
    section = README.split("## In the browser")[1].split("## ")[0]
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
        for told in (
            "Released",
            "reserved \u2212$2,500.00",
            "test-003",
            "Fiona Adams",
            "Walked as written",
        ):
            assert told in row
    finally:
        browser.url = company.url


def test_the_first_tab_skips_the_links_of_every_page(browser: Browser) -> None:
    browser.enter("max")
    browser.go("/budgets")
    browser.tab_to("Skip to the page")
    browser.keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"


@pytest.mark.parametrize(
    "folder", [PROJECT / "budget_sync" / "web" / "static", TESTS], ids=["pages", "tests"]
)
def test_what_is_vendored_is_what_its_list_says(folder: Path) -> None:
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
