"""For browser tests and screenshots: an example company with six weeks of data, and Chromium."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
import time_machine
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from budget_sync import database, ledger, settings, sync
from budget_sync.accounts import api_keys, customers, people
from budget_sync.database.models import User
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from support.installation import Installation
from support.sources import add_file, add_sheet
from support.world import PASSWORD, ROOT, cheap_hash

COMPANY = "northwind"
CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")

#: Id, name and role of each person. All sign in as <id>@northwind.example with PASSWORD.
PEOPLE = (
    ("alex", "Alex Kim", Role.ADMIN),
    ("fiona", "Fiona Adams", Role.FPA_ADMIN),
    ("felix", "Felix Bauer", Role.FPA_USER),
    ("max", "Max Ortiz", Role.MANAGER),
    ("jane", "Jane Doe", Role.BUSINESS_USER),
)

#: Departments with their budget for a quarter, and the share of it that they spend.
DEPARTMENTS = {
    "Engineering": (480_000, 0.72),
    "Marketing": (210_000, 0.9),
    "Sales": (165_000, 0.4),
    "Customer Success": (92_500, 0.55),
    "Finance": (60_000, 0.3),
    "People": (74_000, 0.97),
    "Legal": (45_000, 0.15),
    "IT & Security": (155_000, 0.63),
    "Facilities": (38_000, 0.2),
    "Data Platform": (125_500.5, 0.81),
    "Design": (52_000, 0.05),
    "Research": (30_000, 0.0),
}
VENDORS = (
    "Slack",
    "Figma",
    "Datadog",
    "GitHub",
    "Notion",
    "Zoom",
    "AWS",
    "HubSpot",
    "Linear",
    "Miro",
    "Okta",
    "Adobe",
)


def email(user_id: str) -> str:
    """The email address of a person of the company."""
    return f"{user_id}@northwind.example"


def build_company(installation: Installation, busy: float = 0.35) -> None:
    """Create the company in a fresh installation: people, two sources and six weeks of requests.

    It ends with a few problems to show. `busy` is the share of days on which a department sends a
    request.
    """
    chosen = settings.load(installation.environment)
    chosen.instance_folder.mkdir(parents=True, exist_ok=True)
    database.connect(chosen.database_path, create=True)
    database.init_schema()
    try:
        _Company(chosen.instance_folder, busy).build()
    finally:
        database.close_connection()


#: The service that checks and reserves.
ORCHESTRATOR = Actor("key:orchestrator", None, "orchestrator", None, Role.API_SYSTEM, COMPANY)


class _Company:
    """Builds the company by calling the verbs, with the clock set to past times."""

    def __init__(self, folder: Path, busy: float) -> None:
        self.folder = folder
        self.busy = busy
        self.now = now = datetime.now(UTC)
        self.quarter = f"Q{(now.month - 1) // 3 + 1} {now.year}"
        self.next = (
            f"Q{(now.month - 1) // 3 + 2} {now.year}" if now.month < 10 else f"Q1 {now.year + 1}"
        )
        self.random = random.Random(7)  # noqa: S311  # the same data every time
        self.sheet = folder / "sheets" / "plan.csv"
        self.steps: list[tuple[float, str, Callable[[], None]]] = []
        self.job = sync.Job(ROOT, sync.Reach(self.sheet.parent, attempts=1), folder)

    def build(self) -> None:
        """Build everything, oldest first."""
        with self.at(days=45):
            self.set_up()
        budget_ids = {name: f"{name.split()[0].lower()}-1" for name in DEPARTMENTS}
        for day in range(44, 0, -1):
            for department in DEPARTMENTS:
                self.plan(day, department, budget_ids[department])
        failed: set[str] = set()
        for days_ago, request, step in sorted(self.steps, key=lambda each: -each[0]):
            if request not in failed:
                with self.at(days=days_ago):
                    try:
                        step()
                    except RequestError:
                        failed.add(request)
        self.today(budget_ids)

    @contextmanager
    def at(self, **ago: float) -> Iterator[None]:
        """Set the clock to a time before now."""
        with time_machine.travel(self.now - timedelta(**ago), tick=False):
            yield

    def set_up(self) -> None:
        """Create the customer, people, an API key and the CSV file, as on the first day."""
        customers.add_customer(
            ROOT,
            COMPANY,
            "Northwind Traders",
            auto_approve_limit_minor=500_000,
            time_zone="Europe/Berlin",
        )
        for user_id, name, role in PEOPLE:
            people.add_user(
                ROOT,
                user_id,
                name,
                email(user_id),
                role,
                customer_id=COMPANY,
                password=None,
                slots_folder=self.folder,
            )
        User.update(passwordHash=cheap_hash()).execute()
        api_keys.add_key(ROOT, "orchestrator", customer_id=COMPANY)
        self.sheet.parent.mkdir(exist_ok=True)
        self.write_sheet()
        add_file(COMPANY, self.sheet.parent, self.sheet.name)
        self.sync()

    def write_sheet(
        self,
        *,
        without: tuple[str, ...] = (),
        only: tuple[str, ...] | None = None,
        extra: str = "",
        **amounts: float,
    ) -> None:
        """Write the CSV file: a row for each department and quarter."""
        lines = ["Budget ID,Department,Fiscal Period,Budgeted Amount"]
        for number, period in enumerate((self.quarter, self.next), 1):
            for name, (amount, _) in DEPARTMENTS.items():
                if f"{name} {number}" not in without and (only is None or name in only):
                    first_word = name.split()[0]
                    budgeted = amounts.get(first_word, amount) if number == 1 else amount
                    lines.append(f"{first_word.lower()}-{number},{name},{period},{budgeted}")
        self.sheet.write_text("\n".join(lines) + "\n" + extra, encoding="utf-8")

    def sync(self) -> None:
        """Sync every source."""
        for _ in sync.sync_all(self.job, customer_id=COMPANY):
            pass

    def plan(self, day: int, department: str, budget_id: str) -> None:
        """At random, plan a request: check, reserve, and often commit or reject days later."""
        budgeted, share = DEPARTMENTS[department]
        if self.random.random() > self.busy or share == 0:
            return
        amount = Decimal(max(5, int(budgeted * share / 150 * self.random.uniform(0.3, 1.7))) * 10)
        request = f"intake-{1000 + (44 - day) * 12 + list(DEPARTMENTS).index(department)}"
        who, vendor, fate = (
            self.random.choice(PEOPLE[3:]),
            self.random.choice(VENDORS),
            self.random.random(),
        )

        def begin() -> None:
            self.check(request, department, int(amount), who, vendor)
            ledger.reserve(
                ORCHESTRATOR,
                ReserveRequest(
                    budget_id=budget_id,
                    request_id=request,
                    amount=amount,
                    reason=f"{vendor}, {department}",
                ),
            )

        def commit() -> None:
            ledger.commit(
                ORCHESTRATOR,
                CommitRequest(
                    budget_id=budget_id,
                    request_id=request,
                    amount=amount,
                    external_ref=f"PO-{request[-4:]}",
                ),
            )

        def reject() -> None:
            body = ReleaseRequest(
                budget_id=budget_id,
                request_id=request,
                amount=amount,
                action=ReleaseAction.REJECT,
                reason="No longer needed",
            )
            ledger.release(ORCHESTRATOR, body)

        began = day + self.random.uniform(0, 0.4)
        self.steps.append((began, request, begin))
        if fate < 0.94:
            self.steps.append(
                (
                    max(0.9, began - self.random.uniform(0.5, 6)),
                    request,
                    commit if fate < 0.75 else reject,
                )
            )

    def check(
        self, request: str, department: str, amount: int, who: tuple[str, str, Role], vendor: str
    ) -> None:
        """Check as the orchestrator."""
        ledger.check(
            ORCHESTRATOR,
            CheckRequest(
                request_id=request,
                user_id=who[0],
                user_name=who[1],
                user_email=email(who[0]),
                customer_id=COMPANY,
                department=department,
                fiscal_period=self.quarter,
                amount=Decimal(amount),
                vendor=vendor,
                purpose=f"{vendor} for the team",
            ),
        )

    def today(self, budget_ids: dict[str, str]) -> None:
        """Create today's problems.

        These are an uncovered request, an approval over budget, a budget cut, a sheet without most
        of its rows, and a source that cannot be read.
        """
        jane, big = PEOPLE[4], "intake-2001"
        with self.at(hours=20):
            self.check(big, "Engineering", 475_000, jane, "AWS")
        with self.at(hours=6):
            self.check("intake-2002", "Legal", 52_000, jane, "Okta")
            self.over_budget(budget_ids["Legal"], "intake-2002", 52_000)
            self.check("intake-2003", "Design", 1_250, jane, "Figma")
            ledger.reserve(
                ORCHESTRATOR,
                ReserveRequest(
                    budget_id=budget_ids["Design"],
                    request_id="intake-2003",
                    amount=Decimal(1250),
                    reason="Figma, seats",
                ),
            )
        with self.at(hours=3.5):
            self.write_sheet(Finance=12_000)
            self.sync()
        with self.at(hours=1):
            self.write_sheet(
                only=("Engineering", "Marketing", "Sales"),
                extra="legal-9,Legal,,5000\nit-9,IT,Q9 2026,lots\n",
                Finance=12_000,
            )
            self.sync()
            add_sheet(COMPANY, "1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgVE2upms", "FY plan")
            self.sync()

    def over_budget(self, budget_id: str, request: str, amount: int) -> None:
        """Reserve over budget with Fiona's approval."""
        fiona = Actor("user:fiona", "fiona", "Fiona Adams", email("fiona"), Role.FPA_ADMIN, COMPANY)
        approval = OverBudget(approved_by="fiona", reason="Board-approved litigation reserve")
        ledger.reserve(
            fiona,
            ReserveRequest(
                budget_id=budget_id,
                request_id=request,
                amount=Decimal(amount),
                over_budget=approval,
            ),
        )


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
        """Replace the text of a form field."""
        field = self.driver.find_element(By.NAME, name)
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
