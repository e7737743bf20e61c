"""The demo: the integration guide's customer org-456, budget-123, its users and the orchestrator.

Each installation generates its own passwords and key. They are kept in the instance folder,
readable only by its owner.
"""

from __future__ import annotations

import json
import secrets
from decimal import Decimal
from pathlib import Path

from budget_sync import ledger, manual_budgets, sync
from budget_sync.accounts import api_keys, authentication, customers, people
from budget_sync.database import open_connection
from budget_sync.database.models import Budget, BudgetDataSourceConfig, Customer, Reservation, User
from budget_sync.domain.permissions import Actor, Role
from budget_sync.domain.request_models import CheckRequest, CommitRequest, ReserveRequest
from budget_sync.runtime import files
from budget_sync.sync.propose import propose
from budget_sync.sync.source import CSV
from budget_sync.sync.targets import file_target

CUSTOMER = "org-456"
BUDGET = "budget-123"

#: The sheet of the demo's finance team. It does not have budget-123, which is created by hand.
PLAN = """Budget ID,Department,Fiscal Period,Budgeted Amount
MKT-25Q1,Marketing,Q1 2025,40000
SAL-25Q1,Sales,Q1 2025,"$55,000"
OPS-25Q1,Operations,Q1 2025,30000
"""

#: Id, name, email, role, and the name of the file with the email and password.
PEOPLE = (
    ("user-123", "Jane Doe", "jane@acme.com", Role.BUSINESS_USER, "jane"),
    ("fpa-001", "Fiona Adams", "fiona@acme.com", Role.FPA_ADMIN, "fiona"),
    ("admin-001", "Alex Kim", "alex@acme.com", Role.ADMIN, "alex"),
)


def load(actor: Actor, instance_folder: Path, csv_folder: Path | None = None) -> bool:
    """Create what is missing; returns False if nothing is. Can run again after an interruption."""
    folder = demo_folder(instance_folder)
    files.create_folder(folder)
    created = [_create_customer(actor)]
    created += [_create_user(actor, folder, instance_folder, *person) for person in PEOPLE]
    created += [_create_key(actor, folder), _create_budget(actor), _spend_five_thousand(actor)]
    created += [_create_source(actor, instance_folder, csv_folder or instance_folder / "sheets")]
    return any(created)


def demo_folder(instance_folder: Path) -> Path:
    """The folder of the demo's passwords and key."""
    return instance_folder / "demo"


def _create_customer(actor: Actor) -> bool:
    if Customer.get_or_none(Customer.id == CUSTOMER):
        return False
    customers.add_customer(
        actor, CUSTOMER, "Acme Inc.", currency="USD", auto_approve_limit_minor=1_000_000
    )
    return True


def _create_user(
    actor: Actor,
    folder: Path,
    slots_folder: Path,
    user_id: str,
    name: str,
    email: str,
    role: Role,
    file: str,
) -> bool:
    path = folder / f"{file}.json"
    known = User.get_or_none(User.id == user_id) is not None
    if known and path.exists():
        return False
    password = secrets.token_urlsafe(12)
    if known:
        people.set_password(actor, user_id, password, slots_folder=slots_folder)
    else:
        people.add_user(
            actor,
            user_id,
            name,
            email,
            role,
            customer_id=CUSTOMER,
            password=password,
            slots_folder=slots_folder,
        )
    _write_secret(path, json.dumps({"email": email, "password": password}))
    return True


def _create_key(actor: Actor, folder: Path) -> bool:
    path = folder / "orchestrator.header"
    if path.exists() and authentication.actor_of_key(path.read_text(encoding="utf-8").split()[-1]):
        return False
    _write_secret(
        path,
        f"Authorization: Bearer {api_keys.add_key(actor, 'orchestrator', customer_id=CUSTOMER)}",
    )
    return True


def _create_budget(actor: Actor) -> bool:
    if Budget.get_or_none(Budget.id == BUDGET):
        return False
    manual_budgets.set_budget(
        actor, CUSTOMER, "Engineering", "Q1 2025", Decimal(100_000), budget_id=BUDGET
    )
    return True


def _spend_five_thousand(actor: Actor) -> bool:
    """Check, reserve and commit an earlier request: the guide's budget has $5,000 committed."""
    request = "intake-101"
    if Reservation.get_or_none(
        (Reservation.customerId == CUSTOMER)
        & (Reservation.requestId == request)
        & (Reservation.status == "closed")
    ):
        return False
    amount = Decimal(5_000)
    ledger.check(
        actor,
        CheckRequest(
            request_id=request,
            user_id="user-123",
            user_name="Jane Doe",
            user_email="jane@acme.com",
            customer_id=CUSTOMER,
            department="Engineering",
            fiscal_period="Q1 2025",
            amount=amount,
            vendor="JetBrains",
            purpose="IDE licences",
        ),
    )
    ledger.reserve(
        actor,
        ReserveRequest(
            budget_id=BUDGET,
            request_id=request,
            amount=amount,
            user_id="user-123",
            reason="JetBrains - IDE licences",
        ),
    )
    ledger.commit(
        actor,
        CommitRequest(budget_id=BUDGET, request_id=request, amount=amount, external_ref="PO-1001"),
    )
    return True


def _create_source(actor: Actor, instance_folder: Path, csv_folder: Path) -> bool:
    """Add a CSV file, which stands in for a Google Sheet, and run its first sync."""
    if BudgetDataSourceConfig.get_or_none(
        (BudgetDataSourceConfig.customerId == CUSTOMER)
        & (BudgetDataSourceConfig.csvPath == "demo.csv")
    ):
        return False
    files.create_folder(csv_folder)
    path = csv_folder / "demo.csv"
    if not path.exists():
        files.create_once(path, PLAN)
    reach = sync.Reach(csv_folder)
    customer = sync.reading_customer(customers.get_customer(CUSTOMER))
    proposed = propose(file_target(CSV, "demo.csv", csv_folder), customer, {}, reach)
    proposal = proposed.proposal
    if proposal.reading is None or proposal.trial is None or proposal.open:
        raise RuntimeError(proposal.refused or f"demo.csv has open questions: {proposal.open}")
    open_connection()
    sync.add_source(
        actor, CUSTOMER, proposed.target, reading=proposal.reading, facts=proposal.trial.facts
    )
    for result in sync.sync_all(sync.Job(actor, reach, instance_folder), customer_id=CUSTOMER):
        if result.status != "success":
            raise RuntimeError(sync.result_line(result))
    return True


def _write_secret(path: Path, text: str) -> None:
    """Write a secret to a file that only its owner can read from the start."""
    files.write(path, text + "\n")


def tour(url: str, instance_folder: Path) -> str:
    """The address, the passwords, and curl commands to paste, for a server at that URL."""
    folder = demo_folder(instance_folder)
    try:
        folder = folder.relative_to(Path.cwd())
    except ValueError:
        pass
    passwords = "\n".join(
        f"  {email:<16} {_password(folder / f'{file}.json'):<18} {name}, {role}"
        for _, name, email, role, file in PEOPLE
    )
    return f"""
Budget Sync is at {url} (stop it with Ctrl-C). Its status is at {url}/readyz

Sign in at {url} as a user of {CUSTOMER}.
The passwords were generated for this installation, and are kept in {folder}:
{passwords}

In another terminal, from this folder: check a budget, sign in, reserve, release, and look at
the request.

  curl -sS {url}/api/budget/check -H 'Content-Type: application/json' -d '{{
    "requestId": "test-001", "userId": "user-123", "userName": "Test User",
    "userEmail": "test@example.com", "customerId": "org-456", "department": "Engineering",
    "fiscalPeriod": "Q1 2025", "amount": 5000}}'

  curl -sS -c {folder}/fiona.cookies {url}/api/auth/login \\
    -H 'Content-Type: application/json' -d @{folder}/fiona.json

  curl -sS -b {folder}/fiona.cookies {url}/api/budget/reserve \\
    -H 'Content-Type: application/json' -d '{{
    "budgetId": "budget-123", "amount": 5000, "requestId": "test-001",
    "reason": "Test reservation"}}'

  curl -sS -b {folder}/fiona.cookies {url}/api/budget/release \\
    -H 'Content-Type: application/json' -d '{{
    "budgetId": "budget-123", "amount": 5000, "requestId": "test-001",
    "action": "reject", "reason": "Test rejection"}}'

  curl -sS -H @{folder}/orchestrator.header {url}/api/requests/test-001
"""


def _password(path: Path) -> str:
    password: str = json.loads(path.read_text(encoding="utf-8"))["password"]
    return password
