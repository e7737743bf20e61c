"""Sends the guide's calls to the same app and settings with a temporary database.

The calls are check, reserve, and the three actions of release.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import peewee
from werkzeug.test import Client

from budget_sync import database, manual_budgets
from budget_sync.accounts import api_keys, customers, people
from budget_sync.database import DatabaseUnusableError
from budget_sync.database.models import AuditLog
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Role, operator
from budget_sync.ledger import verification
from budget_sync.operations.doctor.findings import Finding, failed, ok, warning
from budget_sync.settings import Settings

_TODO = "read the log, and run the tests with `make test`"


def try_calls(settings: Settings, make_app: Callable[[Settings], Any]) -> Iterator[Finding]:
    """A finding for each call. Until the end, the app is not connected to the real database."""
    with tempfile.TemporaryDirectory(prefix="budget-sync-smoke-test-") as folder:
        elsewhere = replace(
            settings,
            instance_folder=Path(folder),
            database_path=Path(folder) / "smoke_test.db",
            database_url=None,
            csv_folder=Path(folder),
            secret_key=secrets.token_hex(16),
        )
        try:
            with _database(elsewhere, settings.database_url) as (chosen, where):
                yield from _SmokeTest(chosen, make_app(chosen), where).run()
        except DatabaseUnusableError as problem:
            yield warning(
                "Test budget check",
                f"{problem}",
                "grant CREATE on the database while `flask doctor` runs, or make the calls of the "
                "README by hand",
            )
        finally:
            database.connect(settings.database, busy_timeout_s=settings.busy_timeout_s)


@contextmanager
def _database(settings: Settings, url: str | None) -> Iterator[tuple[Settings, str]]:
    """The settings with an empty database, and where it is: a file, or a schema on PostgreSQL."""
    if url is None:
        yield settings, "a temporary file"
        return
    with database.temporary_schema(url) as temporary_url:
        try:
            yield replace(settings, database_url=temporary_url), "a temporary schema"
        finally:
            database.disconnect()


class _SmokeTest:
    """One run of all calls."""

    def __init__(self, settings: Settings, app: Any, where: str) -> None:
        self.where = where
        self.client = Client(app)
        host = settings.trusted_hosts[0].lstrip(".") if settings.trusted_hosts else "localhost"
        self.base_url = f"{'https' if settings.session_cookie_secure else 'http'}://{host}"
        self.settings = settings
        self.key = ""

    def run(self) -> Iterator[Finding]:
        """Make all calls, up to the first unexpected reply."""
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("Test budget check", self._check),
            ("Test budget reserve", self._reserve),
            ("Test budget release (cancel)", self._cancel),
            ("Test budget release (reject)", lambda: self._release("reject")),
            ("Test budget release (manual)", lambda: self._release("manual")),
            ("Audit logs of the test calls", self._verify),
        )
        subject = steps[0][0]
        try:
            self._create_data()
            for subject, step in steps:
                yield ok(subject, step())
        except (
            _UnexpectedError,
            RequestError,
            DatabaseUnusableError,
            peewee.PeeweeException,
        ) as error:
            yield failed(subject, f"on {self.where}: {' '.join(str(error).split())}", _TODO)

    def _create_data(self) -> None:
        database.connect(self.settings.database, create=True)
        database.init_schema()
        root, password = operator("doctor"), secrets.token_urlsafe(16)
        customers.add_customer(root, "smoke-test", "Smoke test", auto_approve_limit_minor=1_000_000)
        people.add_user(
            root,
            "fpa",
            "FPA",
            "fpa@example.com",
            Role.FPA_USER,
            customer_id="smoke-test",
            password=password,
            slots_folder=self.settings.instance_folder,
        )
        manual_budgets.set_budget(
            root, "smoke-test", "Engineering", "Q1 2025", Decimal(100_000), budget_id="smoke-1"
        )
        self.key = api_keys.add_key(root, "orchestrator", customer_id="smoke-test")
        self._post("/api/auth/login", 200, {"email": "fpa@example.com", "password": password})

    def _post(
        self, path: str, status: int, body: dict[str, Any], *, as_service: bool = False
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"} if as_service else {}
        response = self.client.post(path, json=body, headers=headers, base_url=self.base_url)
        data: dict[str, Any] = response.get_json()
        if response.status_code != status:
            raise _UnexpectedError(
                f"{path} returned {response.status_code} instead of {status}: {data.get('error')}"
            )
        return data

    def _check(self) -> str:
        caller = {
            "userId": "user-1",
            "userName": "Smoke test",
            "userEmail": "user@example.com",
            "customerId": "smoke-test",
        }
        purchase = {"department": "Engineering", "fiscalPeriod": "Q1 2025", "amount": 5000}
        for number in (1, 2, 3):
            reply = self._post(
                "/api/budget/check",
                200,
                {"requestId": f"smoke-{number}"} | caller | purchase,
                as_service=True,
            )
            if not (reply["available"] and reply["canAutoApprove"]):
                raise _UnexpectedError(
                    f"the check of $5,000 against $100,000 returned {reply['code']}"
                )
        return f"a check of $5,000 by a service was auto-approved, on {self.where}"

    def _reserve(self) -> str:
        for number in (1, 2, 3):
            reply = self._post(
                "/api/budget/reserve",
                200,
                {"budgetId": "smoke-1", "amount": 5000, "requestId": f"smoke-{number}"},
                as_service=True,
            )
            if reply["newAvailable"] != 100_000 - 5000 * number:
                raise _UnexpectedError(
                    f"{reply['newAvailable']} is available after {number} reservations of 5000 "
                    "from 100000"
                )
        return "a service reserved $5,000 three times; $85,000 of $100,000 is available"

    def _cancel(self) -> str:
        body = {"budgetId": "smoke-1", "amount": 5000, "requestId": "smoke-1", "action": "cancel"}
        self._post(
            "/api/budget/release",
            403,
            body | {"originalRequesterId": "someone-else"},
            as_service=True,
        )
        self._require_released(
            self._post(
                "/api/budget/release",
                200,
                body | {"originalRequesterId": "user-1"},
                as_service=True,
            )
        )
        return "a release on behalf of the requester succeeds, and of another user is rejected"

    def _release(self, action: str) -> str:
        request_id = {"reject": "smoke-2", "manual": "smoke-3"}[action]
        self._require_released(
            self._post(
                "/api/budget/release",
                200,
                {"budgetId": "smoke-1", "amount": 5000, "requestId": request_id, "action": action},
            )
        )
        return "a signed-in FP&A user released $5,000"

    @staticmethod
    def _require_released(reply: dict[str, Any]) -> None:
        if reply["amountReleased"] != 5000:
            raise _UnexpectedError(f"{reply['amountReleased']} was released instead of 5000")

    @staticmethod
    def _verify() -> str:
        changes = [
            (row.oldValue, row.newValue)
            for row in AuditLog.select().where(AuditLog.action == "RELEASE")
        ]
        findings = verification.verify().findings
        if changes != [("5000", "0")] * 3 or findings:
            raise _UnexpectedError(
                f"after three releases, the audit log has {changes}, and {len(findings)} "
                "contradictions were found"
            )
        return "each movement has its row, and the rows add up to the balances"


class _UnexpectedError(Exception):
    """An unexpected reply to a call."""
