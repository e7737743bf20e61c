"""An example company with six weeks of data, for browser tests and screenshots."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import time_machine

from budget_sync import database, ledger, settings, sync
from budget_sync.accounts import api_keys, customers, people
from budget_sync.database.models import Customer, User
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import (
    AmendRequest,
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
    ReverseRequest,
    ReverseTo,
    SpendRequest,
)
from support.installation import Installation
from support.sources import add_file, add_sheet
from support.world import ROOT, cheap_hash

COMPANY = "northwind"

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


FIONA = Actor("user:fiona", "fiona", "Fiona Adams", email("fiona"), Role.FPA_ADMIN, COMPANY)


def add_customer_and_people(folder: Path) -> None:
    """Create the customer, its people and an API key. `folder` is the instance folder."""
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
            slots_folder=folder,
        )
    User.update(passwordHash=cheap_hash()).execute()
    api_keys.add_key(ROOT, "orchestrator", customer_id=COMPANY)


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
        add_customer_and_people(self.folder)
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
        of its rows, and a source that cannot be read. Before them, a few requests that changed.
        """
        jane, big = PEOPLE[4], "intake-2001"
        self.changes(jane)
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

    def changes(self, jane: tuple[str, str, Role]) -> None:
        """Change requests after they are reserved, and record money that was spent without one."""
        with self.at(days=3):
            Customer.update(holdDays=30).execute()
            self.check("intake-2004", "Sales", 9_000, jane, "HubSpot")
            ledger.reserve(
                ORCHESTRATOR,
                ReserveRequest(budget_id="sales-1", request_id="intake-2004", amount=Decimal(9000)),
            )
            self.check("intake-2005", "IT & Security", 2_400, jane, "Okta")
            hold: dict[str, Any] = {"budget_id": "it-1", "request_id": "intake-2005"}
            ledger.reserve(ORCHESTRATOR, ReserveRequest(**hold, amount=Decimal(2400)))
        with self.at(days=2):
            raised = AmendRequest(**hold, amount=Decimal(2600), reason="The price went up")
            ledger.amend(ORCHESTRATOR, raised)
            moved = AmendRequest(**hold, to_budget_id="data-1", reason="Data Platform pays for it")
            ledger.amend(FIONA, moved)
            hold["budget_id"] = "data-1"
            ledger.commit(
                ORCHESTRATOR,
                CommitRequest(**hold, amount=Decimal(2000), external_ref="PO-2005"),
            )
            ledger.reverse(
                FIONA,
                ReverseRequest(
                    **hold,
                    amount=Decimal(400),
                    to=ReverseTo.AVAILABLE,
                    reason="Credit note for two seats",
                    external_ref="CN-88",
                ),
            )
            for number, vendor, amount in ((4711, "Staples", "180.40"), (4712, "Uber", "62")):
                ledger.spend(
                    FIONA,
                    SpendRequest(
                        spend_id=f"card-{number}",
                        budget_id="facilities-1",
                        amount=Decimal(amount),
                        date=self.now.date(),
                        vendor=vendor,
                        reason="Company card",
                    ),
                )

    def over_budget(self, budget_id: str, request: str, amount: int) -> None:
        """Reserve over budget with Fiona's approval."""
        approval = OverBudget(approved_by="fiona", reason="Board-approved litigation reserve")
        ledger.reserve(
            FIONA,
            ReserveRequest(
                budget_id=budget_id,
                request_id=request,
                amount=Decimal(amount),
                over_budget=approval,
            ),
        )
