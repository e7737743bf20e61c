"""An example company for the tasks of a week in finance.

It has 12 departments, eight quarters and 300 requests.

Unlike the company of `support.company`, it looks back on eleven months, and its requests are in
every state.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import time_machine

from budget_sync import database, ledger, manual_budgets, settings, sync
from budget_sync.domain.decision_models import ApproveRequest
from budget_sync.domain.errors import RequestError
from budget_sync.domain.request_models import (
    CheckRequest,
    CommitRequest,
    OverBudget,
    ReleaseAction,
    ReleaseRequest,
    ReserveRequest,
)
from support.company import (
    COMPANY,
    DEPARTMENTS,
    FIONA,
    ORCHESTRATOR,
    PEOPLE,
    VENDORS,
    add_customer_and_people,
    email,
)
from support.installation import Installation
from support.sources import add_file, add_sheet
from support.world import ROOT

#: Quarters before and after the current one that have budgets.
PAST_QUARTERS, NEXT_QUARTERS = 5, 2

#: How far the requests go back, in days, and how many there are.
DAYS = 330
REQUESTS = 300

#: The share of a quarter's budget that the requests of a department take in the quarter. Two
#: departments will run over.
SHARES = {name: share for name, (_, share) in DEPARTMENTS.items()} | {
    "Marketing": 1.25,
    "People": 1.1,
}

#: A request whose department was misspelled, yesterday.
MISSPELLED = "PR-2002"

#: Requests for the tasks: one that waits for FP&A, two that their budgets cannot carry, one that is
#: old, and one that holds enough to move.
WAITS, DENIED, DECLINED, OLD, HOLD = (f"PR-{number}" for number in range(3001, 3006))

#: The share of requests that are neither committed nor rejected is what is above this.
_LEFT_OPEN = 0.92

#: The vendor of the task about spend.
VENDOR = VENDORS[0]


def quarter_of(day: date, shift: int = 0) -> str:
    """The quarter of a day, such as Q4 2026, or one that is `shift` quarters later."""
    year, quarter = divmod(day.year * 4 + (day.month - 1) // 3 + shift, 4)
    return f"Q{quarter + 1} {year}"


def build_desk(installation: Installation) -> None:
    """Create the company in a fresh installation."""
    chosen = settings.load(installation.environment)
    chosen.instance_folder.mkdir(parents=True, exist_ok=True)
    database.connect(chosen.database_path, create=True)
    database.init_schema()
    try:
        _Desk(chosen.instance_folder).build()
    finally:
        database.close_connection()


class _Desk:
    """Builds the company by calling the verbs, with the clock set to past times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        self.random = random.Random(11)  # noqa: S311  # the same data every time
        self.sheets = folder / "sheets"
        self.job = sync.Job(ROOT, sync.Reach(self.sheets, attempts=1), folder)
        self.steps: list[tuple[float, Callable[[], None]]] = []

    def build(self) -> None:
        """Build everything, oldest first. Steps that the ledger rejects are left out."""
        with self.at(DAYS + 5):
            self.set_up()
        for number in range(REQUESTS):
            self.plan(number)
        for days_ago, step in sorted(self.steps, key=lambda each: -each[0]):
            with self.at(days_ago), suppress(RequestError):
                step()
        self.today()

    @contextmanager
    def at(self, days_ago: float) -> Iterator[datetime]:
        """Set the clock to a time before now."""
        moment = self.now - timedelta(days=days_ago)
        with time_machine.travel(moment, tick=False):
            yield moment

    def set_up(self) -> None:
        """Create the customer, people, an API key, two files and a budget by hand."""
        add_customer_and_people(self.folder)
        self.sheets.mkdir(exist_ok=True)
        self.write_plan()
        (self.sheets / "projects.csv").write_text(
            "Budget ID,Department,Fiscal Period,Budgeted Amount\n"
            f"atlas-1,Project Atlas,{quarter_of(self.now.date())},40000\n",
            encoding="utf-8",
        )
        for name in ("plan.csv", "projects.csv"):
            add_file(COMPANY, self.sheets, name)
        self.sync()
        manual_budgets.set_budget(
            ROOT,
            COMPANY,
            "Events",
            quarter_of(self.now.date()),
            Decimal(25_000),
            budget_id="events-1",
        )

    def write_plan(self, marketing: int | None = None) -> None:
        """Write the CSV file. `marketing` is another amount of Marketing this quarter."""
        lines = ["Budget ID,Department,Fiscal Period,Budgeted Amount"]
        for shift in range(-PAST_QUARTERS, NEXT_QUARTERS + 1):
            for name, (amount, _) in DEPARTMENTS.items():
                budgeted = marketing if marketing and (name, shift) == ("Marketing", 0) else amount
                period = quarter_of(self.now.date(), shift)
                lines.append(f"{budget_id(name, period)},{name},{period},{budgeted}")
        (self.sheets / "plan.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def sync(self) -> None:
        """Sync every source."""
        for _ in sync.sync_all(self.job, customer_id=COMPANY):
            pass

    def plan(self, number: int) -> None:
        """Plan a request: check, reserve, and often commit or reject days later."""
        began = self.random.uniform(1, DAYS)
        department = self.random.choice([name for name, share in SHARES.items() if share])
        period = quarter_of((self.now - timedelta(days=began)).date())
        # About six requests of each department fall into a quarter.
        share = SHARES[department] * self.random.uniform(0.4, 1.6) / 7
        amount = Decimal(max(5, int(DEPARTMENTS[department][0] * share / 10)) * 10)
        request, fate = f"PR-{1000 + number}", self.random.random()
        vendor, who = self.random.choice(VENDORS), self.random.choice(PEOPLE[3:])
        if fate < 0.04:
            amount *= 40

        def begin() -> None:
            self.check(request, department, period, amount, vendor, who)
            self.reserve(request, department, period, amount)
            if fate >= _LEFT_OPEN:
                self.approve(request, department, period)

        def end() -> None:
            self.end(request, department, period, amount, is_rejected=fate > 0.8)

        self.steps.append((began, begin))
        if fate < _LEFT_OPEN:
            self.steps.append((max(0.5, began - self.random.uniform(0.5, 20)), end))

    def check(
        self,
        request: str,
        department: str,
        period: str,
        amount: Decimal,
        vendor: str = VENDOR,
        who: tuple[str, str, object] = PEOPLE[4],
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
                fiscal_period=period,
                amount=amount,
                vendor=vendor,
                purpose=f"{vendor} for {department}",
            ),
        )

    def reserve(self, request: str, department: str, period: str, amount: Decimal) -> None:
        """Reserve as the orchestrator."""
        ledger.reserve(
            ORCHESTRATOR,
            ReserveRequest(
                budget_id=budget_id(department, period), request_id=request, amount=amount
            ),
        )

    def approve(self, request: str, department: str, period: str) -> None:
        """Approve as Fiona, if the request waits for it."""
        ledger.approve(
            FIONA,
            ApproveRequest(budget_id=budget_id(department, period), request_id=request),
        )

    def end(
        self, request: str, department: str, period: str, amount: Decimal, *, is_rejected: bool
    ) -> None:
        """Commit a request, or reject it."""
        budget = budget_id(department, period)
        if is_rejected:
            ledger.release(
                ORCHESTRATOR,
                ReleaseRequest(
                    budget_id=budget,
                    request_id=request,
                    amount=amount,
                    action=ReleaseAction.REJECT,
                    reason="No longer needed",
                ),
            )
        else:
            ledger.commit(
                ORCHESTRATOR,
                CommitRequest(
                    budget_id=budget,
                    request_id=request,
                    amount=amount,
                    external_ref=f"PO-{request[3:]}",
                ),
            )

    def today(self) -> None:
        """Create what waits for a person today: requests, a budget cut and a failing source."""
        period = quarter_of(self.now.date())
        with self.at(40):
            self.check(OLD, "Marketing", period, Decimal(1_200))
            self.reserve(OLD, "Marketing", period, Decimal(1_200))
        with self.at(1):
            self.check(MISSPELLED, "Enginering", period, Decimal(3_000), "Datadog")
            self.check(DENIED, "Facilities", period, Decimal(90_000), "Miro")
            self.check(DECLINED, "Design", period, Decimal(400_000), "Adobe")
            self.check(HOLD, "Sales", period, Decimal(12_000), "HubSpot")
            self.reserve(HOLD, "Sales", period, Decimal(12_000))
            self.approve(HOLD, "Sales", period)
        with self.at(0.3):
            self.check(WAITS, "Legal", period, Decimal(8_000), "Okta")
            self.reserve(WAITS, "Legal", period, Decimal(8_000))
            self.check("PR-3006", "Research", period, Decimal(34_000), "AWS")
            ledger.reserve(
                FIONA,
                ReserveRequest(
                    budget_id=budget_id("Research", period),
                    request_id="PR-3006",
                    amount=Decimal(34_000),
                    over_budget=OverBudget(approved_by="fiona", reason="Approved by the board"),
                ),
            )
        with self.at(0.2):
            self.write_plan(marketing=225_000)
            self.sync()
        with self.at(0.1):
            add_sheet(COMPANY, "1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgVE2upms", "FY plan")
            self.sync()


def budget_id(department: str, period: str) -> str:
    """The id of a budget of the sheet, such as marketing-q4-2026."""
    return f"{department.split(maxsplit=1)[0].lower()}-{period.lower().replace(' ', '-')}"
