"""The guide's calls, tried on a throw-away database by the same app with the same settings: check, reserve, and the three releases."""

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
from budget_sync.accounts import people
from budget_sync.database import DatabaseProblem
from budget_sync.database.models import AuditLog
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Role, operator
from budget_sync.ledger import verification
from budget_sync.operations.doctor.findings import Finding, failed, ok, warning
from budget_sync.settings import Settings

_NOT_AS_IT_SHOULD = "see the log, and run the tests: make test"


def try_calls(settings: Settings, make_app: Callable[[Settings], Any]) -> Iterator[Finding]:
    """A finding for each call. The real database is out of reach meanwhile, and back at the end."""
    with tempfile.TemporaryDirectory(prefix="budget-sync-trial-") as folder:
        elsewhere = replace(
            settings,
            instance_folder=Path(folder),
            database_path=Path(folder) / "trial.db",
            database_url=None,
            csv_folder=Path(folder),
            secret_key=secrets.token_hex(16),
        )
        try:
            with _database(elsewhere, settings.database_url) as (chosen, where):
                yield from _Trial(chosen, make_app(chosen), where).run()
        except DatabaseProblem as problem:
            yield warning(
                "Test budget check",
                f"{problem}",
                "grant CREATE on the database for the time of this examination, or try the README's calls by hand",
            )
        finally:
            database.connect(settings.database, busy_timeout_s=settings.busy_timeout_s)


@contextmanager
def _database(settings: Settings, url: str | None) -> Iterator[tuple[Settings, str]]:
    """The settings with a fresh database, and what it is on: a file, or on PostgreSQL a schema of its own."""
    if url is None:
        yield settings, "a throw-away file"
        return
    with database.trial_schema(url) as there:
        try:
            yield replace(settings, database_url=there), "a schema of its own, since dropped"
        finally:
            database.disconnect()


class _Trial:
    """One run through the calls."""

    def __init__(self, settings: Settings, app: Any, where: str) -> None:
        self.where = where
        self.client = Client(app)
        host = settings.trusted_hosts[0].lstrip(".") if settings.trusted_hosts else "localhost"
        self.base_url = f"{'https' if settings.session_cookie_secure else 'http'}://{host}"
        self.settings = settings
        self.key = ""

    def run(self) -> Iterator[Finding]:
        """Try them all; the first that is not answered as it should be ends the trial."""
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("Test budget check", self._check),
            ("Test budget reserve", self._reserve),
            ("Test budget release (cancel)", self._cancel),
            ("Test budget release (reject)", lambda: self._release("reject")),
            ("Test budget release (manual)", lambda: self._release("manual")),
            ("Audit logs tell of the trial", self._prove),
        )
        subject = steps[0][0]
        try:
            self._furnish()
            for subject, step in steps:
                yield ok(subject, step())
        except (_UnexpectedError, RequestError, DatabaseProblem, peewee.PeeweeException) as error:
            yield failed(
                subject, f"tried on {self.where}: {' '.join(str(error).split())}", _NOT_AS_IT_SHOULD
            )

    def _furnish(self) -> None:
        database.connect(self.settings.database, create=True)
        database.init_schema()
        root, password = operator("doctor"), secrets.token_urlsafe(16)
        people.add_customer(root, "trial", "Trial", auto_approve_limit_minor=1_000_000)
        people.add_user(
            root,
            "fpa",
            "FPA",
            "fpa@trial.example",
            Role.FPA_USER,
            customer_id="trial",
            password=password,
            slots_folder=self.settings.instance_folder,
        )
        manual_budgets.set_budget(
            root, "trial", "Engineering", "Q1 2025", Decimal(100_000), budget_id="trial-1"
        )
        self.key = people.add_key(root, "orchestrator", customer_id="trial")
        self._post("/api/auth/login", 200, {"email": "fpa@trial.example", "password": password})

    def _post(
        self, path: str, status: int, body: dict[str, Any], *, as_service: bool = False
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"} if as_service else {}
        response = self.client.post(path, json=body, headers=headers, base_url=self.base_url)
        data: dict[str, Any] = response.get_json()
        if response.status_code != status:
            raise _UnexpectedError(
                f"{path} answered {response.status_code} instead of {status}: {data.get('error')}"
            )
        return data

    def _check(self) -> str:
        who = {
            "userId": "user-1",
            "userName": "Trial",
            "userEmail": "user@trial.example",
            "customerId": "trial",
        }
        what = {"department": "Engineering", "fiscalPeriod": "Q1 2025", "amount": 5000}
        for number in (1, 2, 3):
            reply = self._post(
                "/api/budget/check",
                200,
                {"requestId": f"trial-{number}"} | who | what,
                as_service=True,
            )
            if not (reply["available"] and reply["canAutoApprove"]):
                raise _UnexpectedError(f"the check of $5,000 of $100,000 answered {reply['code']}")
        return f"a service's check of $5,000 was auto-approved, on {self.where}"

    def _reserve(self) -> str:
        for number in (1, 2, 3):
            reply = self._post(
                "/api/budget/reserve",
                200,
                {"budgetId": "trial-1", "amount": 5000, "requestId": f"trial-{number}"},
                as_service=True,
            )
            if reply["newAvailable"] != 100_000 - 5000 * number:
                raise _UnexpectedError(
                    f"{reply['newAvailable']} are available after {number} reservations of 5000 from 100000"
                )
        return "a service reserved $5,000 three times; $85,000 of $100,000 are available"

    def _cancel(self) -> str:
        body = {"budgetId": "trial-1", "amount": 5000, "requestId": "trial-1", "action": "cancel"}
        self._post(
            "/api/budget/release",
            403,
            body | {"originalRequesterId": "someone-else"},
            as_service=True,
        )
        self._released(
            self._post(
                "/api/budget/release",
                200,
                body | {"originalRequesterId": "user-1"},
                as_service=True,
            )
        )
        return "in the name of the requester it is released, in another's refused"

    def _release(self, action: str) -> str:
        request_id = {"reject": "trial-2", "manual": "trial-3"}[action]
        self._released(
            self._post(
                "/api/budget/release",
                200,
                {"budgetId": "trial-1", "amount": 5000, "requestId": request_id, "action": action},
            )
        )
        return "somebody of FP&A, signed in, released $5,000"

    @staticmethod
    def _released(reply: dict[str, Any]) -> None:
        if reply["amountReleased"] != 5000:
            raise _UnexpectedError(f"{reply['amountReleased']} were released instead of 5000")

    @staticmethod
    def _prove() -> str:
        told = [
            (row.oldValue, row.newValue)
            for row in AuditLog.select().where(AuditLog.action == "RELEASE")
        ]
        findings = verification.verify().findings
        if told != [("5000", "0")] * 3 or findings:
            raise _UnexpectedError(
                f"three releases left {told}, and {len(findings)} contradictions"
            )
        return "each movement has its row, and the balances replay from them"


class _UnexpectedError(Exception):
    """A call that was not answered as it should be."""
