"""The console in a real browser, on the running server: what people do, from signing in to the row it leaves in the audit log."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from browser import CHROMEDRIVER, CHROMIUM, COMPANY, Browser, build_company
from conftest import PROJECT, Installation, needs
from screenshots import PAGES, pages
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

TESTS = Path(__file__).parent

RULES: dict[str, object] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], "resultTypes": ["violations"]}

#: What the other colours and the other width can change.
PAINT: dict[str, object] = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]}}

PAINTED = {
    "overview",
    "budgets",
    "budget-overdrawn",
    "requests-closed",
    "request-short",
    "commit",
    "sync",
    "sync-pass",
    "audit",
    "keys",
    "sign-in",
    "forbidden",
}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The company, and its server."""
    needs(CHROMIUM and CHROMEDRIVER, "chromium or chromedriver")
    made = Installation({"INSTANCE_FOLDER": str(tmp_path_factory.mktemp("company")), "SECRET_KEY": "a key for tests, long enough"})
    build_company(made)
    made.start()
    yield made
    made.stop(signal.SIGKILL)


@pytest.fixture
def browser(company: Installation) -> Iterator[Browser]:
    """A browser of one's own, in which nothing went wrong and which asked no other host for anything."""
    opened = Browser(company.url)
    yield opened
    complaints = [entry["message"] for entry in opened.log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    sent = [json.loads(entry["message"])["message"] for entry in opened.log("performance")]
    opened.close()
    asked = [urlsplit(each["params"]["request"]["url"]) for each in sent if each["method"] == "Network.requestWillBeSent"]
    # The empty tab that a browser opens with is its own.
    assert {url.netloc for url in asked if url.scheme not in ("chrome", "chrome-untrusted", "about", "data")} == {urlsplit(company.url).netloc}
    # A browser notes every answer of 400 and more; those the tests ask for.
    assert [text for text in complaints if "Failed to load resource: the server responded with a status of 4" not in text] == []


def serious(browser: Browser, rules: dict[str, object]) -> list[str]:
    """What axe finds on the page that stands in somebody's way."""
    found = browser.driver.execute_async_script("axe.run(document, arguments[0]).then(arguments[1])", rules)
    return [
        f"{each['id']}: {node['html'][:150]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


def test_every_page_is_there_for_everybody(browser: Browser) -> None:
    axe = (TESTS / "vendor" / "axe.min.js").read_text(encoding="utf-8")
    browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": axe})
    who = None
    for name, user_id, path in pages(browser):
        if user_id != who:
            if who:
                browser.sign_out()
            if user_id:
                browser.sign_in(user_id)
            who = user_id
        browser.go(path)
        for width, dark, rules in ((1440, False, RULES), (375, True, PAINT)):
            browser.size(width)
            browser.dark(dark)
            if rules is RULES or name in PAINTED:
                assert serious(browser, rules) == [], f"{name} at {width} px"
            assert browser.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is wider than {width} px"
            assert len(browser.driver.find_elements(By.TAG_NAME, "h1")) == 1, name
    assert len(PAGES) > 20


def test_a_release_from_signing_in_to_the_audit_log(browser: Browser, company: Installation) -> None:
    browser.go("/request?id=intake-2003")
    assert "/sign-in" in browser.driver.current_url
    browser.type("email", "fiona@northwind.example")
    browser.type("password", "wrong")
    browser.press("Sign in")
    assert "Email or password is wrong" in browser.text
    browser.sign_in("fiona")
    browser.go("/request?id=intake-2003")
    browser.press("Reject")
    browser.wait(lambda: "Reject the request" in browser.text, "no form")
    browser.one("#amount").send_keys(Keys.CONTROL, "a")
    browser.one("#amount").send_keys("500")
    browser.wait(lambda: "$750.00" in browser.one("#effect").text, "the figures did not follow")
    browser.type("reason", "Found a cheaper one")
    browser.press("Reject and release")
    browser.wait(lambda: "Released $500" in browser.text, "not released")
    assert "Found a cheaper one" in browser.text
    browser.go("/audit?q=cheaper")
    row = browser.one("tbody tr").text
    for told in ("Released", "reserved \u2212$500.00", "intake-2003", "Fiona Adams", "Found a cheaper one"):
        assert told in row
    browser.sign_out()
    browser.go("/budgets")
    assert "/sign-in" in browser.driver.current_url
    assert "every balance is proven" in company.flask("verify").stdout


def test_an_approval_over_budget_from_the_overview_to_the_audit_log(browser: Browser) -> None:
    browser.sign_in("felix")
    browser.go("/requests?view=uncovered")
    browser.press("intake-2001")
    browser.wait(lambda: "Waits for FP&A" in browser.text, "no story")
    browser.press("Approve over budget")
    browser.wait(lambda: "The budget is then overdrawn" in browser.text, "no figures")
    browser.type("reason", "Agreed with the board")
    browser.press("Approve over budget")
    browser.wait(lambda: "Reserved $400,000" in browser.text, "not approved")
    browser.go("/audit?action=OVER_BUDGET&q=intake-2001")
    row = browser.one("tbody tr").text
    for told in ("Reserved over budget", "reserved +$400,000.00", "Felix Bauer", "approved by Felix Bauer", "Agreed with the board"):
        assert told in row
    browser.go("/")
    assert "Engineering" in browser.one(".need").text


def test_a_sync_from_preview_to_approved_deletions(browser: Browser) -> None:
    browser.sign_in("fiona")
    browser.go("/sync")
    browser.press("Preview the next pass")
    browser.wait(lambda: "Nothing was changed" in browser.text, "no preview")
    assert "Held back: 16 of the source's 24 live budgets" in browser.text
    browser.press("Run now")
    browser.wait(lambda: "Partial. 6 unchanged, 16 held back" in browser.text, "no pass")
    browser.press("Look at them")
    browser.wait(lambda: "and no others than these" in browser.text, "no list")
    listed = [row.text.split(" 2026")[0].split(" 2027")[0] for row in browser.driver.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert len(listed) == 16
    browser.press("Delete these 16 budgets")
    browser.wait(lambda: "16 deleted" in browser.text, "not deleted")
    browser.go("/audit?action=SOFT_DELETE")
    deleted = [cell.text.split(" 2026")[0].split(" 2027")[0] for cell in browser.driver.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(3)")]
    assert sorted(deleted) == sorted(listed)
    assert "Fiona Adams" in browser.one("tbody tr").text


def test_a_key_is_made_and_a_program_uses_it(browser: Browser, company: Installation) -> None:
    needs(shutil.which("curl"), "curl")
    browser.sign_in("alex")
    browser.go("/keys")
    browser.type("name", "reporting")
    browser.press("Make a key")
    browser.wait(lambda: "shown this once" in browser.text, "no key")
    key = browser.one("#value").text
    line = ["curl", "-sS", "-H", f"Authorization: Bearer {key}", f"{company.url}/api/budgets?limit=1"]
    assert json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)["items"][0]["customerId"] == COMPANY
    browser.press("Done")
    browser.wait(lambda: "reporting" in browser.text, "not listed")
    assert key not in browser.driver.page_source
    browser.one("tbody tr a").click()
    browser.press("Revoke the key")
    browser.wait(lambda: "is revoked" in browser.text, "not revoked")
    assert json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)["code"] == "AUTHENTICATION_REQUIRED"


def test_an_employee_meets_a_page_that_is_not_theirs_and_a_stale_form_changes_nothing(browser: Browser, company: Installation) -> None:
    browser.sign_in("jane")
    assert "Audit" not in browser.one("nav").text
    browser.go("/audit")
    assert "Not allowed" in browser.text
    browser.go("/account")
    browser.driver.execute_script("document.querySelectorAll('[name=csrf_token]').forEach(field => { field.value = 'stale' })")
    for field in ("present", "new", "again"):
        browser.type(field, "long enough to be sent")
    browser.press("Change password")
    assert "Nothing was changed" in browser.text
    response = requests.post(f"{company.url}/sync/run", timeout=10)
    assert response.status_code == 400


def test_a_list_follows_what_is_typed_and_works_by_keyboard(browser: Browser) -> None:
    browser.sign_in("fiona")
    browser.go("/budgets")
    browser.type("q", "legal")
    browser.wait(lambda: len(browser.driver.find_elements(By.CSS_SELECTOR, "#results tbody tr")) == 2, "the list did not follow")
    browser.wait(lambda: "q=legal" in browser.driver.current_url, "the address did not follow")
    browser.go("/budgets")
    browser.one("body").send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the page"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"


@pytest.mark.parametrize("folder", [PROJECT / "budget_sync" / "web" / "static", TESTS], ids=["pages", "tests"])
def test_what_is_vendored_is_what_its_list_says(folder: Path) -> None:
    listed = (folder / "VENDORED.md").read_text(encoding="utf-8").split("```")[1].strip()
    checked = subprocess.run(["sha256sum", "--check", "--strict"], cwd=folder, input=listed, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {line.split()[1] for line in listed.splitlines()} == {f"vendor/{path.name}" for path in (folder / "vendor").iterdir() if path.suffix != ".LICENSE"}
