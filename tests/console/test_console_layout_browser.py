"""The layout in a real browser: targets for fingers, headers of tables, and the width of pages."""

from __future__ import annotations

import pytest
from support.browser import Browser

#: The clickable elements below 24 px, except links within a sentence.
SMALL_TARGETS = """
const found = [];
for (const each of document.querySelectorAll("a, button, input, select, textarea, summary")) {
  const box = each.getBoundingClientRect();
  if (each.type === "hidden" || !box.width || !each.checkVisibility() || each.matches(".skip")) {
    continue;
  }
  const text = [...each.parentNode.childNodes].some(
    (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  const isInSentence = each.matches("p a, li a, .note a") && text;
  if ((box.height < 23.9 || box.width < 23.9) && !isInSentence) {
    found.push(`${each.outerHTML.slice(0, 120)} ${box.width}x${box.height}`);
  }
}
return found;
"""
FITS = "return document.documentElement.scrollWidth <= window.innerWidth"


#: A page of each kind.
PAGES = {
    "fiona": (
        "/",
        "/budgets",
        "/budget?id=legal-1",
        "/budget/add?amount=5000",
        "/requests",
        "/request?id=intake-2003",
        "/request/commit?id=intake-2003&budget=design-1",
        "/sync",
        "/sync/connect",
        "/audit?q=legal",
    ),
    "alex": ("/team", "/team/customer", "/keys", "/webhooks"),
}


@pytest.mark.parametrize("who", PAGES)
def test_targets_have_24_pixels_and_pages_fit_a_phone(browser: Browser, who: str) -> None:
    browser.enter(who)
    browser.set_screen(375, 800)
    small: dict[str, list[str]] = {}
    for path in PAGES[who]:
        browser.go(path)
        assert browser.driver.execute_script(FITS), path
        if targets := browser.driver.execute_script(SMALL_TARGETS):
            small[path] = targets
    assert small == {}


def test_header_of_a_table_stays_on_the_screen(browser: Browser) -> None:
    browser.enter("fiona")
    browser.set_screen(1440, 400)
    for path in ("/budgets", "/audit"):
        browser.go(path)
        top = browser.driver.execute_script(
            "document.querySelector('tbody tr:last-child').scrollIntoView({block: 'end'});"
            "return document.querySelector('thead th').getBoundingClientRect().top"
        )
        assert -1 <= top <= 1, path
        assert browser.driver.execute_script(FITS), path


def test_wide_screen_shows_figures_next_to_the_fields(browser: Browser) -> None:
    browser.enter("fiona")
    browser.go("/budget/add?amount=5000")
    fields, effect = browser.one(".fields").rect, browser.one("#effect").rect
    assert effect["x"] > fields["x"] + fields["width"]
    browser.set_screen(375, 800)
    fields, effect = browser.one(".fields").rect, browser.one("#effect").rect
    assert effect["y"] > fields["y"] + fields["height"] - 1


def test_footer_has_the_version(browser: Browser) -> None:
    browser.enter("max")
    browser.go("/")
    assert "Budget Sync 1." in browser.one("footer").text
