"""Takes a picture of every page, wide and narrow, light and dark: `python tests/screenshots.py [FOLDER]`, by default .screenshots/."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from browser import Browser, build_company  # noqa: E402
from conftest import PROJECT, Installation  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

#: name, who looks, path.
PAGES = (
    ("sign-in", None, "/sign-in"),
    ("overview", "fiona", "/"),
    ("overview-employee", "jane", "/"),
    ("budgets", "fiona", "/budgets"),
    ("budgets-empty", "fiona", "/budgets?q=nothing+like+this"),
    ("budget", "fiona", "/budget?id=engineering-1"),
    ("budget-overdrawn", "fiona", "/budget?id=legal-1"),
    ("requests", "fiona", "/requests"),
    ("requests-closed", "fiona", "/requests?view=closed"),
    ("requests-uncovered", "fiona", "/requests?view=uncovered"),
    ("requests-employee", "jane", "/requests"),
    ("request-short", "fiona", "/request?id=intake-2001"),
    ("request-open", "fiona", "/request?id=intake-2003"),
    ("release", "fiona", "/request/release?id=intake-2003&budget=design-1&action=reject"),
    ("commit", "fiona", "/request/commit?id=intake-2003&budget=design-1"),
    ("approve", "fiona", "/request/approve?id=intake-2001"),
    ("sync", "fiona", "/sync"),
    ("sync-preview", "fiona", "/sync/preview"),
    ("audit", "fiona", "/audit"),
    ("team", "alex", "/team"),
    ("person", "alex", "/team/person?id=jane"),
    ("person-add", "alex", "/team/add"),
    ("keys", "alex", "/keys"),
    ("account", "fiona", "/account"),
    ("forbidden", "jane", "/team"),
    ("not-found", "fiona", "/nothing-here"),
)
WIDTHS = (1440, 375)


def main(folder: Path) -> None:
    """All of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as instance:
        installation = Installation({"INSTANCE_FOLDER": instance, "SECRET_KEY": "a key for screenshots", "LOG_LEVEL": "ERROR"})
        build_company(installation)
        installation.start("--workers", "1")
        browser = Browser(installation.url)
        try:
            take(browser, folder)
        finally:
            browser.close()
            installation.stop(signal.SIGTERM)


def take(browser: Browser, folder: Path) -> None:
    """Each page in each form, signing in as whoever looks at it."""
    signed_in: str | None = None
    for name, who, path in pages(browser):
        if who != signed_in:
            if signed_in:
                browser.sign_out()
            if who:
                browser.sign_in(who)
            signed_in = who
        for width in WIDTHS:
            browser.size(width)
            browser.go(path)
            for dark in (False, True):
                browser.dark(dark)
                height = browser.driver.execute_script("return document.documentElement.scrollHeight")
                browser.size(width, max(700, min(height, 4000)))
                browser.driver.save_screenshot(str(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"))
            scrolled = browser.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
            if scrolled > 0:
                print(f"{name} at {width} px is {scrolled} px too wide")  # noqa: T201  # a command's output
        browser.size(1440)


def pages(browser: Browser) -> list[tuple[str, str | None, str]]:
    """The pages, and those whose addresses are found on others."""
    browser.sign_in("fiona")
    browser.go("/sync")
    links = [link.get_attribute("href") or "" for link in browser.driver.find_elements(By.CSS_SELECTOR, "a[href*='/sync/pass'], a[href*='/sync/held']")]
    held = next(link for link in links if "/sync/held" in link).removeprefix(browser.url)
    partial = next(link for link in links if "/sync/pass" in link).removeprefix(browser.url)
    browser.sign_out()
    found = [*PAGES, ("sync-pass", "fiona", partial), ("sync-held", "fiona", held)]
    return sorted(found, key=lambda page: page[1] or "")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / ".screenshots")
