"""Reports and past days in a real browser: clicks from the overview, keyboard, without JavaScript.

`test_console_browser` checks that each of these pages is accessible and fits.
"""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from support.browser import Browser
from support.chromium import AXE, PAINT, serious
from support.screenshots import PAGES, YESTERDAY

#: The pages of the reports, by their names in PAGES.
NEW = (
    *("overview", "overview-as-of", "budgets-as-of", "budget-as-of", "compare"),
    *(
        "compare-employee",
        "changes",
        "changes-nothing",
        "spend-report",
        "spend-report-nothing",
        "budget",
    ),
)


@pytest.mark.parametrize("name", NEW)
def test_report_fits_in_the_other_color_schemes(browser: Browser, name: str) -> None:
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


@pytest.mark.parametrize("width", [1440, 375])
def test_reports_are_at_most_three_clicks_from_the_overview(browser: Browser, width: int) -> None:
    browser.enter("fiona")
    browser.set_screen(width)
    browser.go("/")
    browser.follow("Reports")
    assert "Engineering" in browser.one(".matrix").text
    browser.follow("What changed")
    browser.says("Net change of each department")
    browser.go("/")
    browser.follow("Reports")
    browser.follow("Spend")
    browser.type("q", "staples")
    browser.wait(lambda: "AWS" not in browser.one("#results").text, "the list did not follow")
    assert "Facilities" in browser.one("#results").text
    assert "$180.40" in browser.one("#results").text


def test_past_day_is_chosen_by_keyboard(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/budgets")
    browser.tab_to("asOf")
    # Each digit of the year makes another date: only the whole one is sent.
    browser.keys(f"{YESTERDAY:%m%d%Y}", Keys.ENTER)
    browser.wait(lambda: "Back to today" in browser.text, "the day is not shown")
    browser.wait(lambda: f"asOf={YESTERDAY}" in browser.driver.current_url, "not in the address")
    browser.tab_to("Back to today")
    browser.keys(Keys.ENTER)
    browser.wait(lambda: "Back to today" not in browser.text, "the day is still shown")


def test_reports_work_without_scripts(browser: Browser) -> None:
    browser.enter("fiona")
    browser.run_scripts(enabled=False)
    try:
        browser.go(f"/changes?from={YESTERDAY}")
        browser.follow("Show")
        browser.says("What changed")
        browser.go("/spend-report?q=uber")
        browser.follow("Find")
        assert "$62.00" in browser.one("#results").text
        browser.go("/compare")
        browser.follow("All periods")
        browser.follow("Show")
        assert browser.one(".matrix").text.count("Budgeted") == 2
    finally:
        browser.run_scripts()
