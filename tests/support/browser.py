"""Chromium, for browser tests and screenshots."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import requests
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from support.company import email
from support.world import PASSWORD

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")


class Browser:
    """Chromium with a temporary profile. Its time zone differs from the company's."""

    ZONE = "America/New_York"

    def __init__(self, url: str) -> None:
        self.url = url
        self.profile = tempfile.mkdtemp(prefix="budget-sync-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-extensions",
            "--disable-component-extensions-with-background-pages",
            # Each page would start another process, in case that the next one is of another site.
            "--disable-features=SpareRendererForSitePerProcess",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            f"--user-data-dir={self.profile}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(CHROMEDRIVER)
        )
        self.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": self.ZONE})
        self.set_screen()

    def set_screen(self, width: int = 1440, height: int = 900, *, dark: bool = False) -> None:
        """Set the window size and the color scheme. Animations are off, for stable screenshots."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def run_scripts(self, enabled: bool = True) -> None:
        """Whether pages may run scripts."""
        disabled = {"value": not enabled}
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", disabled)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """The new entries of a log since the last call.

        `kind` is "browser" for the JavaScript console, "performance" for network events.
        """
        # Selenium has no types for it.
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def sign_out(self) -> None:
        """Delete all cookies."""
        self.driver.delete_all_cookies()

    def close(self) -> None:
        """Quit the browser and delete its profile."""
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def go(self, path: str) -> None:
        """Open a page."""
        self.driver.get(f"{self.url}{path}")

    def enter(self, user_id: str) -> None:
        """Sign in with the API, which is ten times as fast as with the form."""
        reply = requests.post(
            f"{self.url}/api/auth/login",
            json={"email": email(user_id), "password": PASSWORD},
            timeout=30,
        )
        name = "budget_sync_session"
        self.driver.execute_cdp_cmd(
            "Network.setCookie",
            {"name": name, "value": reply.cookies[name], "url": self.url, "httpOnly": True},
        )

    def sign_in(self, user_id: str) -> None:
        """Sign in with the form."""
        self.go("/sign-in")
        self.type("email", email(user_id))
        self.type("password", PASSWORD)
        self.press("Sign in")
        self.wait(lambda: "/sign-in" not in self.driver.current_url, "still on the sign-in page")

    def type(self, name: str, text: str) -> None:
        """Replace the text of a form field of the page, not of the search box above it."""
        field = self.one(f"main [name='{name}']")
        field.clear()
        field.send_keys(text)

    def press(self, label: str) -> None:
        """Click the button or link with this label."""
        self.driver.find_element(
            By.XPATH, f"//*[self::button or self::a][normalize-space()='{label}']"
        ).click()

    def follow(self, label: str) -> None:
        """Click the button or link with this label, and wait for the next page."""
        left = self.one("html").id
        self.press(label)
        self.wait(lambda: self.one("html").id != left, f"{label} opens no page")

    def keys(self, *keys: str) -> None:
        """Type into the focused element."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, what: str) -> None:
        """Press Tab until the field with this name or the button with this label has the focus."""
        for _ in range(60):
            self.keys(Keys.TAB)
            # One command for name and text, because each one takes 20 ms.
            if what in self.driver.execute_script(
                "const at = document.activeElement; return [at.name, at.innerText.trim()]"
            ):
                return
        raise AssertionError(f"Tab does not reach {what}")

    def one(self, selector: str) -> WebElement:
        """The first element that matches a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements that match a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    @property
    def text(self) -> str:
        """The text of the page."""
        return self.one("main").text

    def wait(self, holds: Any, otherwise: str) -> None:
        """Wait until `holds()` is true; fail with the message `otherwise`."""
        WebDriverWait(
            self.driver, 15, 0.05, [NoSuchElementException, StaleElementReferenceException]
        ).until(lambda _: holds(), otherwise)

    def says(self, text: str) -> None:
        """Wait until the page contains a text."""
        self.wait(lambda: text in self.text, f"the page does not show {text!r}")
