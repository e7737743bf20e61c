"""Changes of reservations, reversals and spend in a real browser, with and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support.browser import Browser
from support.chromium import AXE, RULES, serious
from support.installation import Installation
from support.screenshots import PAGES, WIDTHS

#: The pages of these actions, by their names in PAGES.
NEW = (
    *("requests-waiting", "requests-spend", "requests-nothing"),
    *("request-waiting", "request-moved", "request-spend", "request-employee"),
    *("commit-over", "amend", "amend-employee", "move-choice", "move", "move-over", "extend"),
    *("reverse", "reverse-spend", "spend-choice", "spend", "spend-over"),
)
#: The smallest width and height of a target in px, except for links within text.
MIN_TARGET = 24


# These come first: the actions of the later tests change the pages.


@pytest.mark.parametrize("name", NEW)
def test_page_is_accessible_in_each_width_and_color_scheme(browser: Browser, name: str) -> None:
    ((user_id, path),) = [(who, path) for each, who, path in PAGES if each == name and who]
    browser.enter(user_id)
    for width, dark in product(WIDTHS, (False, True)):
        browser.set_screen(width, dark=dark)
        browser.go(path)
        browser.driver.execute_script(AXE.read_text(encoding="utf-8"))
        assert serious(browser, RULES) == [], f"{width} px, {'dark' if dark else 'light'}"
        assert browser.driver.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        ), f"wider than {width} px"
        assert small_targets(browser) == [], f"{width} px"


def small_targets(browser: Browser) -> list[str]:
    """The buttons and fields of the page that are smaller than MIN_TARGET."""
    found = browser.all(
        "main button, main [role=button], main input:not([type=hidden]), main select"
    )
    return [
        each.get_attribute("outerHTML") or ""
        for each in found
        if each.is_displayed() and min(each.size["width"], each.size["height"]) < MIN_TARGET
    ]


@contextmanager
def scripts(browser: Browser, *, enabled: bool) -> Iterator[None]:
    """Run pages with or without JavaScript."""
    command = "Emulation.setScriptExecutionDisabled"
    browser.driver.execute_cdp_cmd(command, {"value": not enabled})
    try:
        yield
    finally:
        browser.driver.execute_cdp_cmd(command, {"value": False})


def fill(browser: Browser, button: str, *, has_scripts: bool, preview: str, **fields: str) -> None:
    """Fill in an action's form, and press its button when the page shows the effect.

    With JavaScript, the page shows it while the user types. Without, it shows it after the form is
    sent, and asks to confirm again.
    """
    for name, text in fields.items():
        browser.type(name, text)
    if has_scripts:
        browser.wait(lambda: preview in browser.one("#effect").text, f"no preview of {preview}")
    else:
        browser.press(button)
        browser.says("The amounts have changed. Check them below")
        assert preview in browser.one("#effect").text
    browser.press(button)


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
def test_each_action_with_and_without_scripts(
    browser: Browser, company: Installation, has_scripts: bool
) -> None:
    browser.enter("fiona")
    # The second run repeats the first on what that has left.
    back = not has_scripts
    with scripts(browser, enabled=has_scripts):
        browser.go("/request?id=intake-2003")
        browser.press("Change amount")
        amount, preview = ("1300", "$1,300.00") if back else ("1400", "$1,400.00")
        fill(
            browser,
            "Change amount",
            has_scripts=has_scripts,
            preview=preview,
            amount=amount,
            reason="Another price",
        )
        browser.says(f"The request now holds {preview.removesuffix('.00')}.")

        browser.press("Move to another budget")
        target = "Design" if back else "Research"
        browser.type("q", target.lower())
        if has_scripts:
            browser.wait(lambda: len(browser.all("tbody tr")) == 2, "the list did not follow")
        else:
            browser.press("Find")
        assert {row.text.split()[0] for row in browser.all("tbody tr")} == {target}
        # The period of today is the earlier one, and comes first or last.
        browser.driver.find_element(
            By.CSS_SELECTOR, f"tbody a[href*='to={target.lower()}-1']"
        ).click()
        fill(
            browser,
            "Move",
            has_scripts=has_scripts,
            preview="$1,200.00",
            amount="1200",
            reason=f"{target} pays for it",
        )
        browser.says("Moved $1,200 from")
        browser.says(f"{target} pays for it")

        browser.go("/request?id=intake-2005")
        browser.press("Reverse")
        fill(
            browser,
            "Reverse",
            has_scripts=has_scripts,
            preview="$1,400.00" if back else "$1,500.00",
            amount="100",
            reason="Credit note",
        )
        browser.says("Reversed $100.")

        browser.go("/budget?id=facilities-1")
        browser.press("Record spend")
        spend_id = f"card-{'without' if back else 'with'}"
        fill(
            browser,
            "Record spend",
            has_scripts=has_scripts,
            preview="Committed",
            amount="12.50",
            spend_id=spend_id,
            vendor="Staples",
            reason="Paper",
        )
        browser.says("Recorded $12.50 as spent.")
        browser.go("/requests?view=spend")
        assert spend_id in browser.text
        assert "$12.50" in browser.text
    assert "All balances are consistent" in company.flask("verify").stdout


def test_move_by_keyboard_only(browser: Browser) -> None:
    browser.enter("felix")
    browser.go("/request?id=intake-2004")
    browser.says("Waiting for approval, 3 days")
    browser.tab_to("Move to another budget")
    browser.keys(Keys.ENTER)
    browser.says("Choose the budget in USD")
    browser.tab_to("q")
    browser.keys("legal-1")
    browser.wait(lambda: len(browser.all("tbody tr")) == 1, "the list did not follow")
    for _ in range(20):
        browser.keys(Keys.TAB)
        if "to=legal-1" in (browser.driver.switch_to.active_element.get_attribute("href") or ""):
            break
    browser.keys(Keys.ENTER)
    browser.says("The audit log names you as the approver")
    browser.tab_to("reason")
    browser.keys("The board agreed")
    browser.tab_to("Move")
    browser.keys(Keys.ENTER)
    browser.says("Legal")
    browser.says("is overdrawn by")
    browser.go("/audit?action=OVER_BUDGET&q=board+agreed")
    row = browser.one("tbody tr").text
    assert "Felix Bauer" in row
    assert "reserved +$9,000.00" in row


def test_filters_follow_typing_and_stay_on_other_tabs(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/requests?view=all")
    browser.type("q", "intake-2005")
    browser.wait(lambda: len(browser.all("#results tbody tr")) == 2, "the list did not follow")
    browser.press("Closed")
    browser.wait(lambda: "view=closed" in browser.driver.current_url, "the tab did not open")
    assert [row.text.split()[0] for row in browser.all("#results tbody tr")] == ["intake-2005"]
    assert browser.one("#q").get_attribute("value") == "intake-2005"
