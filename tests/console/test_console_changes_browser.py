"""Changes of reservations, reversals and spend in a real browser, with and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver.common.keys import Keys
from support.browser import Browser
from support.chromium import AXE, PAINT, serious
from support.installation import Installation
from support.screenshots import PAGES

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
def test_page_fits_in_the_other_color_schemes(browser: Browser, name: str) -> None:
    # The test of all pages opens them wide and light, and narrow and dark.
    ((user_id, path),) = [(who, path) for each, who, path in PAGES if each == name and who]
    browser.enter(user_id)
    browser.go(path)
    browser.driver.execute_script(AXE.read_text(encoding="utf-8"))
    for width, dark in ((1440, True), (375, False)):
        browser.set_screen(width, dark=dark)
        assert serious(browser, PAINT) == [], f"{width} px, {'dark' if dark else 'light'}"
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


def fill(browser: Browser, button: str, *, has_scripts: bool, **fields: str) -> str:
    """Fill in an action's form, and press its button when the page shows the effect; returns that.

    With JavaScript, the page shows it while the user types. Without, it shows it after the form is
    sent, and asks to confirm again.
    """
    before = browser.one("#effect").text
    for name, text in fields.items():
        browser.type(name, text)
    if not has_scripts:
        browser.follow(button)
        browser.says("The amounts have changed. Check them below")
    browser.wait(lambda: browser.one("#effect").text != before, "the amounts did not follow")
    effect = browser.one("#effect").text
    browser.follow(button)
    return effect


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
def test_each_action_with_and_without_scripts(
    browser: Browser, company: Installation, has_scripts: bool
) -> None:
    browser.enter("fiona")
    with scripts(browser, enabled=has_scripts):
        change_and_move(browser, has_scripts=has_scripts)
        reverse_and_spend(browser, has_scripts=has_scripts)
    assert "All balances are consistent" in company.flask("verify").stdout


def change_and_move(browser: Browser, *, has_scripts: bool) -> None:
    """Change the amount of intake-2003, and move it from Design to Research or back."""
    amount = "1300" if has_scripts else "1400"
    browser.go("/request?id=intake-2003")
    target = "Research" if browser.one("h2 a").text.startswith("Design") else "Design"
    browser.follow("Change amount")
    effect = fill(
        browser, "Change amount", has_scripts=has_scripts, amount=amount, reason="Another price"
    )
    assert f"${int(amount):,}.00" in effect
    browser.says(f"The request now holds ${int(amount):,}.")
    browser.follow("Move to another budget")
    browser.type("q", target.lower())
    if has_scripts:
        browser.wait(lambda: len(browser.all("tbody tr")) == 2, "the list did not follow")
    else:
        browser.follow("Find")
    assert {row.text.split()[0] for row in browser.all("tbody tr")} == {target}
    browser.one(f"tbody a[href*='to={target.lower()}-1']").click()
    browser.says("Choose another")
    reason = f"{target} pays for it"
    effect = fill(browser, "Move", has_scripts=has_scripts, amount="1200", reason=reason)
    assert f"To {target}" in effect
    assert "$1,200.00" in effect
    browser.says("Moved $1,200 from")
    browser.says(reason)


def reverse_and_spend(browser: Browser, *, has_scripts: bool) -> None:
    """Reverse a part of intake-2005, and record a spend."""
    browser.go("/request?id=intake-2005")
    browser.follow("Reverse")
    fill(browser, "Reverse", has_scripts=has_scripts, amount="100", reason="Credit note")
    browser.says("Reversed $100.")
    spend_id = f"card-{has_scripts}"
    browser.go("/budget?id=facilities-1")
    browser.follow("Record spend")
    fill(
        browser,
        "Record spend",
        has_scripts=has_scripts,
        amount="12.50",
        spend_id=spend_id,
        vendor="Staples",
        reason="Paper",
    )
    browser.says("Recorded $12.50 as spent.")
    browser.go("/requests?view=spend")
    assert spend_id in browser.text
    assert "$12.50" in browser.text


def test_move_by_keyboard_only(browser: Browser) -> None:
    browser.enter("felix")
    browser.go("/request?id=intake-2004")
    browser.says("Waiting for approval, 3 days")
    browser.tab_to("Move to another budget")
    browser.keys(Keys.ENTER)
    browser.says("Choose the budget in USD")
    # The first field of that name is the search of every page.
    browser.tab_to("q")
    browser.keys(Keys.TAB)
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
