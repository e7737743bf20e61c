"""A person signs in at an identity provider in a real browser, acts, and signs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Browser
from support.chromium import require_accessible
from support.installation import Installation, found
from support.tokens import SIGN_IN, openid_provider, write_identity_file


@pytest.fixture
def site(installation: Installation, tmp_path: Path) -> Iterator[Installation]:
    """A running server with the guide's customer and a running identity provider."""
    with openid_provider() as issuer:
        path = write_identity_file(tmp_path, issuer=issuer, keys="", more=SIGN_IN)
        installation.environment |= {
            "IDENTITY_FILE": str(path),
            "ACME_SECRET": "a secret of Acme",
            "NO_PROXY": "127.0.0.1",
        }
        installation.start("--workers", "1")
        yield installation


@pytest.fixture
def browser(chromium: Browser, site: Installation) -> Iterator[Browser]:
    """The browser, signed out. It runs scripts again at the end."""
    chromium.url = site.url
    chromium.sign_out()
    chromium.set_screen()
    yield chromium
    chromium.run_scripts()


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no scripts"])
def test_person_signs_in_acts_and_signs_out(
    site: Installation, browser: Browser, has_scripts: bool
) -> None:
    browser.run_scripts(has_scripts)
    browser.go("/budget?id=budget-123")
    browser.wait(lambda: "/sign-in" in browser.driver.current_url, "no sign-in page")
    if has_scripts:
        require_accessible(browser, "sign-in with a provider")
    browser.press("Sign in with Acme")
    browser.wait(lambda: "oauth2/authorize" in browser.driver.current_url, "no provider")
    browser.type("sub", "mia")
    browser.press("Authorize")
    browser.wait(lambda: browser.driver.current_url.endswith("/budget?id=budget-123"), "not back")
    browser.says("Engineering")
    browser.go("/account")
    browser.says("Mia Meyer")
    rows = found(
        site.target,
        """
        SELECT u."role", u."customerId", a."action", a."changedBy" FROM "User" u
        JOIN "AuditLog" a ON a."subject" = u."id" WHERE u."subject" = 'mia'
        """,
    )
    assert rows == [("fpa_admin", "org-456", "ADD_USER", "Acme (identity provider)")]
    browser.press("Sign out")
    browser.wait(lambda: "Sign out" not in browser.text, "still signed in")
    browser.go("/budgets")
    browser.wait(lambda: "/sign-in" in browser.driver.current_url, "still signed in")
