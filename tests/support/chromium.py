"""Fixtures for browser tests: the example company, its server, Chromium; accessibility checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from support.installation import Installation
from support.machine import PROJECT, needs
from support.sheets_server import SheetsServer

if TYPE_CHECKING:
    from support.browser import Browser

AXE = PROJECT / "tests" / "vendor" / "axe.min.js"

#: All rules of axe for a page, and the rules that depend on its colors and width.
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


@pytest.fixture(scope="module")
def google() -> Iterator[SheetsServer]:
    """A fake Google."""
    server = SheetsServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def company(
    tmp_path_factory: pytest.TempPathFactory, google: SheetsServer
) -> Iterator[Installation]:
    """The example company and its server."""
    from support.company import build_company  # noqa: PLC0415  # as in `chromium`

    folder = tmp_path_factory.mktemp("company")
    installation = Installation(
        {
            "INSTANCE_FOLDER": str(folder),
            "SECRET_KEY": "a key for tests, long enough",
            "GOOGLE_APPLICATION_CREDENTIALS": str(google.credentials_file(folder)),
            "GOOGLE_SHEETS_API_URL": google.url,
            # A proxy of the test machine must not be used for loopback addresses.
            "NO_PROXY": "127.0.0.1",
        }
    )
    build_company(installation, busy=0.06)
    installation.start("--workers", "1")
    yield installation
    installation.end()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, shared by all tests. A test sets its `url`."""
    # Local, because most tests need no browser and selenium takes long to import.
    from support.browser import CHROMEDRIVER, CHROMIUM, Browser  # noqa: PLC0415

    needs(CHROMIUM and CHROMEDRIVER, "chromium or chromedriver")
    opened = Browser("")
    yield opened
    opened.close()


@pytest.fixture
def browser(chromium: Browser, company: Installation) -> Iterator[Browser]:
    """The browser, signed out. Its console must stay clean, and it must contact no other host."""
    chromium.url = company.url
    chromium.sign_out()
    chromium.set_screen()
    chromium.log("browser")
    chromium.log("performance")
    yield chromium
    warnings = [
        entry["message"]
        for entry in chromium.log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]
    # Chromium logs every response of 400 and above. Tests cause those on purpose.
    assert [
        text
        for text in warnings
        if "Failed to load resource: the server responded with a status of 4" not in text
    ] == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.log("performance")]
    requested = [
        urlsplit(each["params"]["request"]["url"])
        for each in events
        if each["method"] == "Network.requestWillBeSent"
    ]
    assert {url.hostname for url in requested if url.scheme not in ("about", "data")} == {
        "127.0.0.1"
    }


def require_accessible(browser: Browser, name: str) -> None:
    """Assert that the open page is accessible and fits, wide and light, and narrow and dark."""
    browser.driver.execute_script(AXE.read_text(encoding="utf-8"))
    for width, dark, rules in ((1440, False, RULES), (375, True, PAINT)):
        browser.set_screen(width, dark=dark)
        assert serious(browser, rules) == [], f"{name} at {width} px"
        assert browser.driver.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        ), f"{name} is wider than {width} px"
    assert len(browser.all("h1")) == 1, name
    browser.set_screen()


def serious(browser: Browser, rules: dict[str, object]) -> list[str]:
    """The serious and critical accessibility problems that axe finds on the page."""
    found = browser.driver.execute_async_script(
        "axe.run(document, {preload: false, ...arguments[0]}).then(arguments[1])", rules
    )
    return [
        f"{each['id']}: {node['html'][:150]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
