"""Take a screenshot of every page, wide and narrow, light and dark, into .screenshots/.

With --readme: the pictures of the README and of docs/sheets.md, into docs/images/.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[1:3]]

from support.browser import Browser  # noqa: E402
from support.company import build_company  # noqa: E402
from support.company_sheets import add_examples, add_sheets  # noqa: E402
from support.installation import Installation  # noqa: E402
from support.machine import PROJECT  # noqa: E402
from support.sheets_server import SheetsServer  # noqa: E402

YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()

#: Name, user and path of each page.
PAGES = (
    ("sign-in", None, "/sign-in"),
    ("api", None, "/docs"),
    ("guide", None, "/docs/integrate"),
    ("overview", "fiona", "/"),
    ("overview-employee", "jane", "/"),
    ("budgets", "fiona", "/budgets"),
    ("budgets-empty", "fiona", "/budgets?q=nothing+like+this"),
    ("budget", "fiona", "/budget?id=engineering-1"),
    ("budget-add", "fiona", "/budget/add?amount=5000"),
    ("budget-of-sheet", "fiona", "/budget/change?id=engineering-1"),
    ("budget-overdrawn", "fiona", "/budget?id=legal-1"),
    ("requests", "fiona", "/requests"),
    ("requests-closed", "fiona", "/requests?view=closed"),
    ("requests-uncovered", "fiona", "/requests?view=uncovered"),
    ("requests-waiting", "fiona", "/requests?view=waiting"),
    ("requests-all", "fiona", "/requests?view=all"),
    ("requests-denied", "fiona", "/requests?view=denied&sort=-amount"),
    ("unmatched", "fiona", "/unmatched"),
    ("checks", "fiona", "/checks"),
    ("search", "fiona", "/search?q=jane"),
    ("search-nothing", "jane", "/search?q=nothing+like+this"),
    ("requests-spend", "fiona", "/requests?view=spend"),
    ("requests-nothing", "fiona", "/requests?view=closed&department=Research&days=7"),
    ("requests-employee", "jane", "/requests"),
    ("request-short", "fiona", "/request?id=intake-2001"),
    ("request-open", "fiona", "/request?id=intake-2003"),
    ("request-waiting", "fiona", "/request?id=intake-2004"),
    ("request-moved", "fiona", "/request?id=intake-2005"),
    ("request-spend", "fiona", "/request?id=card-4711"),
    ("request-employee", "jane", "/request?id=intake-2003"),
    ("release", "fiona", "/request/release?id=intake-2003&budget=design-1&action=reject"),
    ("commit", "fiona", "/request/commit?id=intake-2003&budget=design-1"),
    ("approve", "fiona", "/request/approve?id=intake-2001"),
    ("approve-reservation", "fiona", "/request/approve-reservation?id=intake-2004&budget=sales-1"),
    ("decline", "fiona", "/request/decline?id=intake-2001"),
    ("commit-over", "fiona", "/request/commit?id=intake-2002&budget=legal-1&amount=60000"),
    ("amend", "fiona", "/request/amend?id=intake-2003&budget=design-1&amount=1400"),
    ("amend-employee", "jane", "/request/amend?id=intake-2003&budget=design-1&amount=99000"),
    ("move-choice", "fiona", "/request/move?id=intake-2003&budget=design-1"),
    ("move", "fiona", "/request/move?id=intake-2003&budget=design-1&to=research-1"),
    ("move-over", "fiona", "/request/move?id=intake-2004&budget=sales-1&to=legal-1"),
    ("extend", "fiona", "/request/extend?id=intake-2003&budget=design-1"),
    ("reverse", "fiona", "/request/reverse?id=intake-2005&budget=data-1"),
    ("reverse-spend", "fiona", "/request/reverse?id=card-4711&budget=facilities-1"),
    ("spend-choice", "fiona", "/spend"),
    ("spend", "fiona", "/spend?budget=facilities-1"),
    ("spend-over", "fiona", "/spend?budget=legal-1&amount=500"),
    ("overview-as-of", "fiona", f"/?asOf={YESTERDAY}"),
    ("budgets-as-of", "fiona", f"/budgets?asOf={YESTERDAY}"),
    ("budget-as-of", "fiona", f"/budget?id=legal-1&asOf={YESTERDAY}"),
    ("compare", "fiona", "/compare"),
    ("compare-employee", "jane", "/compare?show=available"),
    ("changes", "fiona", "/changes"),
    ("changes-nothing", "fiona", "/changes?from=2020-01-01&to=2020-01-02"),
    ("spend-report", "fiona", "/spend-report"),
    ("spend-report-nothing", "fiona", "/spend-report?q=nothing+like+this"),
    ("sync", "fiona", "/sync"),
    ("sync-preview", "fiona", "/sync/preview"),
    ("sync-connect", "fiona", "/sync/connect"),
    ("sync-help", "fiona", "/sync/help"),
    ("audit", "fiona", "/audit?q=legal"),
    ("team", "alex", "/team"),
    ("person", "alex", "/team/person?id=jane"),
    ("person-add", "alex", "/team/add"),
    ("keys", "alex", "/keys"),
    ("webhooks", "alex", "/webhooks"),
    ("account", "fiona", "/account"),
    ("forbidden", "jane", "/team"),
    ("not-found", "fiona", "/nothing-here"),
)
#: Pages that the sync page links to, for Fiona: name, start of the path, and which of the links.
LINKED = (
    ("sync-run", "/sync/pass", 0),
    ("sync-held", "/sync/held", 0),
    ("sync-stored", "/sync/reading", 0),
)
#: The same, if the company also has the sheets of `add_sheets`.
LINKED_SHEETS = (
    *LINKED,
    ("sync-held-rename", "/sync/held", 1),
    ("sync-held-amounts", "/sync/held", 2),
    ("sync-reading", "/sync/reading", -1),
    ("sync-upload", "/sync/upload", 0),
)
WIDTHS = (1440, 375)

#: Pictures of the README: name, path, whether dark, height.
README = (
    ("overview", "/", False, 780),
    ("budget", "/budget?id=marketing-1", False, 620),
    ("approve", "/request/approve?id=intake-2001", True, 600),
)
#: Pictures of docs/sheets.md: name, start of the path of a link on the Sync page, which of these
#: links, height.
SHEETS = (
    ("sheet-connect", "/sync/connect", 0, 560),
    ("sheet-rename", "/sync/held", 1, 420),
    ("sheet-amounts", "/sync/held", 2, 600),
    ("sheet-newer-file", "/sync/upload", 0, 640),
)
#: Pictures of docs/sheets.md of how files of examples/ are read: name, file, height of the page;
#: without a height, of the first rows only.
EXAMPLES = (
    ("sheet-questions", "lines.csv", 940),
    ("sheet-quarters", "quarters.csv", 0),
    ("sheet-sections", "sections.csv", 0),
)
PICTURES = PROJECT / "docs" / "images"


def main(folder: Path | None) -> None:
    """Take all screenshots into a folder; without a folder, those of the README."""
    google = SheetsServer()
    with tempfile.TemporaryDirectory() as instance:
        installation = Installation(
            {
                "INSTANCE_FOLDER": instance,
                "SECRET_KEY": "a key for screenshots",
                "LOG_LEVEL": "ERROR",
                "GOOGLE_APPLICATION_CREDENTIALS": str(google.credentials_file(Path(instance))),
                "GOOGLE_SHEETS_API_URL": google.url,
            }
        )
        build_company(installation)
        if folder:
            add_sheets(installation)
        installation.start("--workers", "1")
        browser = Browser(installation.url)
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                take(browser, folder)
            else:
                take_for_readme(browser)
                # Afterwards, because they change the overview.
                add_sheets(installation)
                take_for_sheets(browser)
                take_examples(browser, installation)
        finally:
            browser.close()
            installation.stop(signal.SIGTERM)
            google.stop()


def take_for_readme(browser: Browser) -> None:
    """Take the README's pictures, each of the top of its page."""
    browser.sign_in("fiona")
    for name, path, dark, height in README:
        browser.set_screen(1120, height, dark=dark)
        browser.go(path)
        browser.driver.save_screenshot(str(PICTURES / f"{name}.png"))


def take_for_sheets(browser: Browser) -> None:
    """Take the pictures of docs/sheets.md; the user is signed in."""
    for name, path, which, height in SHEETS:
        browser.set_screen(1120, height)
        browser.go("/sync")
        found = [link.get_attribute("href") or "" for link in browser.all("main a")]
        browser.driver.get([link for link in found if path in link][which])
        browser.driver.save_screenshot(str(PICTURES / f"{name}.png"))


def take_examples(browser: Browser, installation: Installation) -> None:
    """Take a picture of how each example is read; the user is signed in."""
    ids = add_examples(installation, *(file for _, file, _ in EXAMPLES))
    for (name, _, height), source_id in zip(EXAMPLES, ids, strict=True):
        browser.set_screen(1120, height or 1400)
        browser.go(f"/sync/reading?source={source_id}")
        (section,) = browser.all("section[aria-labelledby=sheet]")
        picture = str(PICTURES / f"{name}.png")
        if height:
            browser.driver.save_screenshot(picture)
        else:
            section.screenshot(picture)


def take(browser: Browser, folder: Path) -> None:
    """Take each page in each width and color scheme, signed in as its user."""
    for who, found in pages(browser, LINKED_SHEETS).items():
        browser.sign_out()
        if who:
            browser.sign_in(who)
        for name, path in found:
            for width, dark in product(WIDTHS, (False, True)):
                browser.set_screen(width)
                browser.go(path)
                height = browser.driver.execute_script(
                    "return document.documentElement.scrollHeight"
                )
                browser.set_screen(width, max(700, min(height, 4000)), dark=dark)
                browser.driver.save_screenshot(
                    str(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")
                )


def pages(
    browser: Browser, linked: tuple[tuple[str, str, int], ...] = LINKED
) -> dict[str | None, list[tuple[str, str]]]:
    """Name and path of all pages, by user, including the linked ones."""
    browser.sign_in("fiona")
    browser.go("/sync")
    links = [
        (link.get_attribute("href") or "").removeprefix(browser.url)
        for link in browser.all("main a")
    ]
    browser.sign_out()
    found = [
        *PAGES,
        *(
            (name, "fiona", [link for link in links if link.startswith(path)][which])
            for name, path, which in linked
        ),
    ]
    return {
        who: [(name, path) for name, each, path in found if each == who]
        for who in dict.fromkeys(each for _, each, _ in found)
    }


if __name__ == "__main__":
    main(None if sys.argv[1:] == ["--readme"] else PROJECT / ".screenshots")
