"""Every call by every caller, on their own and someone else's request, at their own and another customer, against a table written by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from peewee import JOIN
from support.damage import without_checks
from support.templates import Templates
from support.world import (
    PASSWORD,
    ROOT,
    cheap_hash,
    check_body,
    commit_body,
    release_body,
    reserve_body,
)
from werkzeug.test import TestResponse

from app import create_app
from budget_sync import database, ledger, manual_budgets, settings
from budget_sync.accounts import authentication, people
from budget_sync.database.models import ApiKey, Budget, Customer, Session, User
from budget_sync.domain import clock, permissions
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import (
    ANONYMOUS,
    PERMISSIONS,
    Action,
    Actor,
    Role,
    Scope,
    require,
)
from budget_sync.domain.request_models import CheckRequest, ReserveRequest
from budget_sync.ledger import verification
from budget_sync.ledger.movements import LedgerBudget, select_budgets
from budget_sync.ledger.policy import Approval
from budget_sync.web.auth import get_user_from_request

pytestmark = pytest.mark.both_engines

# Whose is what.
HOME, ABROAD, CLOSED = "org-456", "org-789", "org-closed"
HOME_BUDGET, FULL_BUDGET, ABROAD_BUDGET = "budget-123", "budget-full", "budget-789"
STRANGER, FOREIGNER, APPROVER = "user-stranger", "user-foreigner", "user-approver"
CRON_SECRET = "a secret for cron"
METRICS_TOKEN = "a token for metrics"

#: The columns of the table.
COLUMNS = {
    "nobody": "without a credential, on the box itself",
    "away": "without a credential, from elsewhere",
    "dead": "with a credential that is worth nothing (any more): each of DEAD",
    "super": "super_admin",
    "admin": "admin",
    "fpa_a": "fpa_admin",
    "fpa_u": "fpa_user",
    "mgr": "manager",
    "empl": "business_user",
    "key": "api_system, for the customer",
    "key+": "api_system, for the customer, made with --may-overspend",
    "key*": "api_system, for all customers",
    "sup*": "super_admin, for all customers",
    "odd": "a person whose role no program knows, written past the models and the database's own check",
    "cron": "with the cron's secret",
}

#: Credentials that are worth nothing, or nothing any more; all of them stand in one column.
DEAD = (
    "expired session",
    "disabled user",
    "revoked key",
    "garbage cookie",
    "wrong secret",
    "closed customer",
    "closed customer's key",
)

#: What a cell of the table says: the status, and by its letter which refusal it is.
CELLS = {
    (200, None): "200",
    (400, "INVALID_CUSTOMER"): "400c",  # another customer is named
    (400, "INVALID_REQUEST"): "400f",  # a field is missing
    (401, "AUTHENTICATION_REQUIRED"): "401",
    (403, "FORBIDDEN"): "403r",  # the role's refusal
    (403, "NOT_YOUR_REQUEST"): "403o",  # ownership's refusal
    (403, "OVERSPEND_NOT_ALLOWED"): "403a",  # no right to approve it, or to bring the approval
    (404, "NOT_FOUND"): "404",
    (404, "BUDGET_NOT_FOUND"): "404b",
    (404, "REQUEST_NOT_FOUND"): "404r",
    (409, "CHECK_REQUIRED"): "409",
}

#: "Another customer's" names a budget or request of ABROAD by its id alone; "naming another customer" also sends its customerId.
TABLE = """
                                                  nobody  away  dead  super admin fpa_a fpa_u mgr   empl  key   key+  key*  sup*  odd   cron
check for oneself                                 200     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
check for someone else                            200     401   401   200   200   200   200   403o  403o  200   200   200   200   403r   401
check for oneself, naming another customer        200     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401
check for someone else, naming another customer   200     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401

reserve what one checked                          401     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
reserve what nobody checked                       401     401   401   200   200   200   200   409   409   200   200   200   200   403r   401
reserve what someone else checked                 401     401   401   200   200   200   200   409   409   200   200   200   200   403r   401
reserve what someone else holds                   401     401   401   200   200   200   200   403o  403o  200   200   200   200   403r   401
reserve another customer's                        401     401   401   404b  404b  404b  404b  404b  404b  404b  404b  200   200   403r   401
reserve, naming another customer                  401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401
reserve over budget, approved by oneself          401     401   401   200   200   200   200   403a  403a  403a  403a  403a  200   403r   401
reserve over budget, approved by FP&A             401     401   401   403a  403a  403a  403a  403a  403a  403a  200   403a  403a  403r   401
reserve over budget, for oneself by oneself       401     401   401   403a  403a  403a  403a  403a  403a  403a  403a  403a  403a  403r   401

commit one's own                                  401     401   401   200   200   200   200   403r  403r  200   200   200   200   403r   401
commit someone else's                             401     401   401   200   200   200   200   403r  403r  200   200   200   200   403r   401
commit another customer's                         401     401   401   404b  404b  404b  404b  403r  403r  404b  404b  200   200   403r   401
commit, naming another customer                   401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401

reject one's own                                  401     401   401   200   200   200   200   403r  403r  200   200   200   200   403r   401
reject someone else's                             401     401   401   200   200   200   200   403r  403r  200   200   200   200   403r   401
reject another customer's                         401     401   401   404b  404b  404b  404b  403r  403r  404b  404b  200   200   403r   401
reject, naming another customer                   401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401

release by hand one's own                         401     401   401   200   200   200   200   403r  403r  200   200   200   200   403r   401
release by hand someone else's                    401     401   401   200   200   200   200   403r  403r  200   200   200   200   403r   401
release by hand another customer's                401     401   401   404b  404b  404b  404b  403r  403r  404b  404b  200   200   403r   401
release by hand, naming another customer          401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401

cancel one's own                                  401     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
cancel one's own, naming no requester             401     401   401   200   200   200   200   403o  403o  400f  400f  400f  200   403r   401
cancel one's own, naming someone else             401     401   401   200   200   200   200   403o  403o  403o  403o  403o  200   403r   401
cancel someone else's                             401     401   401   200   200   200   200   403o  403o  200   200   200   200   403r   401
cancel someone else's, naming oneself             401     401   401   200   200   200   200   403o  403o  403o  403o  403o  200   403r   401
cancel someone else's, naming no requester        401     401   401   200   200   200   200   403o  403o  400f  400f  400f  200   403r   401
cancel another customer's                         401     401   401   404b  404b  404b  404b  404b  404b  404b  404b  200   200   403r   401
cancel, naming another customer                   401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401

list budgets                                      401     401   401   200   200   200   200   200   200   200   200   400f  400f  403r   401
list budgets, naming one's customer               401     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
list budgets, naming another customer             401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401
read a budget                                     401     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
read another customer's budget                    401     401   401   404b  404b  404b  404b  404b  404b  404b  404b  200   200   403r   401

find one's own request                            401     401   401   200   200   200   200   200   200   200   200   400f  400f  403r   401
find one's own request, naming the customer       401     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
find a request one checked                        401     401   401   200   200   200   200   200   200   200   200   200   200   403r   401
find someone else's request                       401     401   401   200   200   200   200   403o  403o  200   200   200   200   403r   401
find a request someone else checked               401     401   401   200   200   200   200   403o  403o  200   200   200   200   403r   401
find another customer's request                   401     401   401   404r  404r  404r  404r  404r  404r  404r  404r  400f  400f  403r   401
find a request, naming another customer           401     401   401   400c  400c  400c  400c  400c  400c  400c  400c  200   200   400c   401

sync every source                                 401     401   401   401   401   401   401   401   401   401   401   401   401   401   200
who am I                                          401     401   401   200   200   200   200   200   200   200   200   200   200   200   401
log in                                            200     200   200   200   200   200   200   200   200   200   200   200   200   200   200
log out                                           200     200   200   200   200   200   200   200   200   200   200   200   200   200   200
healthz                                           200     200   200   200   200   200   200   200   200   200   200   200   200   200   200
readyz                                            200     200   200   200   200   200   200   200   200   200   200   200   200   200   200
metrics                                           404     404   404   404   404   404   404   404   404   404   404   404   404   404   404
"""

#: How far each role may do what; "-" is not at all. The last five are for commands and pages alone.
SCOPES = """
                check  reserve  commit  release  cancel  read_budgets  read_requests  read_audit  read_sync  manage_people  manage_keys  manage_sources
super_admin     any    any      any     any      any     any           any            any         any        any            any          any
admin           any    any      any     any      any     any           any            any         any        any            any          any
fpa_admin       any    any      any     any      any     any           any            any         any        -              -            any
fpa_user        any    any      any     any      any     any           any            any         any        -              -            -
manager         own    own      -       -        own     any           own            -           -          -              -            -
business_user   own    own      -       -        own     any           own            -           -          -              -            -
api_system      any    any      any     any      any     any           any            -           -          -              -            -
anonymous       any    -        -       -        -       -             -              -           -          -              -            -
auditor         -      -        -       -        -       -             -              -           -          -              -            -
"""


def cells(text: str) -> dict[str, dict[str, str]]:
    """A table as row -> column -> cell; only the names of rows have spaces."""
    head, *lines = [line for line in text.splitlines() if line.strip()]
    columns = head.split()
    rows = [line.rsplit(maxsplit=len(columns)) for line in lines]
    return {row[0].strip(): dict(zip(columns, row[1:], strict=True)) for row in rows}


@dataclass(frozen=True)
class Caller:
    """Somebody who calls: who they are, what they send, and from where."""

    actor: Actor
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    #: Where they can sign in again; None for whoever cannot.
    app: Flask | None = None
    #: The row of an expired session, which every login sweeps away: it is put back, so that it is the time that refuses.
    expired: Mapping[str, object] | None = None

    @property
    def own_id(self) -> str:
        """What a reservation of theirs names as its requester."""
        return self.actor.user_id or self.actor.principal

    def fresh_headers(self) -> dict[str, str]:
        """A session to be ended, where they can sign in: their first one is needed again."""
        return _log_in(self.app, f"{self.actor.user_id}@example.com") if self.app else {}


class Call(NamedTuple):
    """One HTTP request; the headers are sent beside the caller's own, or in their place."""

    method: str
    path: str
    body: dict[str, object] | None = None
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Cast:
    """The app, and everybody who calls it, by the table's columns and by DEAD."""

    app: Flask
    callers: Mapping[str, Caller]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def send(self, caller: Caller, call: Call) -> TestResponse:
        """Make the call."""
        return self.app.test_client(use_cookies=False).open(
            call.path,
            method=call.method,
            json=call.body,
            headers={**caller.headers, **call.headers},
            environ_overrides={"REMOTE_ADDR": caller.address},
        )


class Attempt:
    """A call about to be made: prepares what it needs, for a request that no other attempt knows."""

    def __init__(self, cast: Cast, caller: Caller) -> None:
        self.caller = caller
        self.own = caller.own_id
        self.request_id = f"request-{next(cast.numbers)}"
        if caller.expired:
            Session.insert(caller.expired).on_conflict_ignore().execute()

    def checked_by(self, user_id: str) -> Attempt:
        """Have somebody check the request for themselves."""
        # In a role that may check, so that what is prepared does not depend on what is tested.
        principal = self.caller.actor.principal if user_id == self.own else f"user:{user_id}"
        sender = Actor(
            principal=principal,
            user_id=user_id,
            name=user_id,
            email=None,
            role=Role.FPA_USER,
            customer_id=HOME,
        )
        ledger.check(
            sender,
            CheckRequest(
                request_id=self.request_id,
                user_id=user_id,
                user_name=user_id,
                user_email=f"{user_id}@example.com",
                customer_id=HOME,
                department="Engineering",
                fiscal_period="Q1 2025",
                amount=Decimal(1),
            ),
        )
        return self

    def held_by(self, user_id: str, budget_id: str = HOME_BUDGET) -> Attempt:
        """Set 1 aside for the request, for somebody."""
        ledger.reserve(
            ROOT,
            ReserveRequest(
                budget_id=budget_id, request_id=self.request_id, amount=Decimal(1), user_id=user_id
            ),
        )
        return self

    def abroad(self) -> Attempt:
        """Set 1 aside for the request at another customer."""
        return self.held_by(FOREIGNER, ABROAD_BUDGET)

    def check(self, user_id: str, customer_id: str = HOME) -> Call:
        """The check, for somebody."""
        return Call(
            "POST",
            "/api/budget/check",
            check_body(requestId=self.request_id, userId=user_id, customerId=customer_id, amount=1),
        )

    def reserve(self, **changes: object) -> Call:
        """The reserve."""
        return Call(
            "POST",
            "/api/budget/reserve",
            reserve_body(**{"requestId": self.request_id, "amount": 1} | changes),
        )

    def overspend(self, requester: str, approver: str) -> Call:
        """The reserve, of more than there is."""
        return self.reserve(
            budgetId=FULL_BUDGET,
            amount=10,
            userId=requester,
            overBudget={"approvedBy": approver, "reason": "The launch cannot wait"},
        )

    def commit(self, **changes: object) -> Call:
        """The commit."""
        return Call(
            "POST",
            "/api/budget/commit",
            commit_body(**{"requestId": self.request_id, "amount": 1} | changes),
        )

    def release(self, action: str, **changes: object) -> Call:
        """The release."""
        return Call(
            "POST",
            "/api/budget/release",
            release_body(**{"requestId": self.request_id, "amount": 1, "action": action} | changes),
        )

    def cancel(self, requester: str | None, **changes: object) -> Call:
        """The release by cancel."""
        return self.release("cancel", originalRequesterId=requester, **changes)

    def find(self, customer_id: str | None = None) -> Call:
        """The question where the request stands."""
        return _get(f"/api/requests/{self.request_id}", customer_id)


def _get(path: str, customer_id: str | None = None) -> Call:
    return Call("GET", f"{path}?customerId={customer_id}" if customer_id else path)


#: How each row of the table is called: what is prepared, and the call then made.
ROWS: dict[str, Callable[[Attempt], Call]] = {
    "check for oneself": lambda a: a.check(a.own),
    "check for someone else": lambda a: a.check(STRANGER),
    "check for oneself, naming another customer": lambda a: a.check(a.own, ABROAD),
    "check for someone else, naming another customer": lambda a: a.check(STRANGER, ABROAD),
    "reserve what one checked": lambda a: a.checked_by(a.own).reserve(),
    "reserve what nobody checked": lambda a: a.reserve(),
    "reserve what someone else checked": lambda a: a.checked_by(STRANGER).reserve(userId=a.own),
    "reserve what someone else holds": lambda a: a.checked_by(a.own).held_by(STRANGER).reserve(),
    "reserve another customer's": lambda a: a.checked_by(a.own).reserve(budgetId=ABROAD_BUDGET),
    "reserve, naming another customer": lambda a: a.checked_by(a.own).reserve(
        budgetId=ABROAD_BUDGET, customerId=ABROAD
    ),
    "reserve over budget, approved by oneself": lambda a: a.overspend(STRANGER, a.own),
    "reserve over budget, approved by FP&A": lambda a: a.overspend(STRANGER, APPROVER),
    "reserve over budget, for oneself by oneself": lambda a: a.overspend(a.own, a.own),
    "commit one's own": lambda a: a.held_by(a.own).commit(),
    "commit someone else's": lambda a: a.held_by(STRANGER).commit(),
    "commit another customer's": lambda a: a.abroad().commit(budgetId=ABROAD_BUDGET),
    "commit, naming another customer": lambda a: a.abroad().commit(
        budgetId=ABROAD_BUDGET, customerId=ABROAD
    ),
    "reject one's own": lambda a: a.held_by(a.own).release("reject"),
    "reject someone else's": lambda a: a.held_by(STRANGER).release("reject"),
    "reject another customer's": lambda a: a.abroad().release("reject", budgetId=ABROAD_BUDGET),
    "reject, naming another customer": lambda a: a.abroad().release(
        "reject", budgetId=ABROAD_BUDGET, customerId=ABROAD
    ),
    "release by hand one's own": lambda a: a.held_by(a.own).release("manual"),
    "release by hand someone else's": lambda a: a.held_by(STRANGER).release("manual"),
    "release by hand another customer's": lambda a: a.abroad().release(
        "manual", budgetId=ABROAD_BUDGET
    ),
    "release by hand, naming another customer": lambda a: a.abroad().release(
        "manual", budgetId=ABROAD_BUDGET, customerId=ABROAD
    ),
    "cancel one's own": lambda a: a.held_by(a.own).cancel(a.own),
    "cancel one's own, naming no requester": lambda a: a.held_by(a.own).cancel(None),
    "cancel one's own, naming someone else": lambda a: a.held_by(a.own).cancel(STRANGER),
    "cancel someone else's": lambda a: a.held_by(STRANGER).cancel(STRANGER),
    "cancel someone else's, naming oneself": lambda a: a.held_by(STRANGER).cancel(a.own),
    "cancel someone else's, naming no requester": lambda a: a.held_by(STRANGER).cancel(None),
    "cancel another customer's": lambda a: a.abroad().cancel(FOREIGNER, budgetId=ABROAD_BUDGET),
    "cancel, naming another customer": lambda a: a.abroad().cancel(
        FOREIGNER, budgetId=ABROAD_BUDGET, customerId=ABROAD
    ),
    "list budgets": lambda a: _get("/api/budgets"),
    "list budgets, naming one's customer": lambda a: _get("/api/budgets", HOME),
    "list budgets, naming another customer": lambda a: _get("/api/budgets", ABROAD),
    "read a budget": lambda a: _get(f"/api/budgets/{HOME_BUDGET}"),
    "read another customer's budget": lambda a: _get(f"/api/budgets/{ABROAD_BUDGET}"),
    "find one's own request": lambda a: a.held_by(a.own).find(),
    "find one's own request, naming the customer": lambda a: a.held_by(a.own).find(HOME),
    "find a request one checked": lambda a: a.checked_by(a.own).find(HOME),
    "find someone else's request": lambda a: a.held_by(STRANGER).find(HOME),
    "find a request someone else checked": lambda a: a.checked_by(STRANGER).find(HOME),
    "find another customer's request": lambda a: a.abroad().find(),
    "find a request, naming another customer": lambda a: a.abroad().find(ABROAD),
    "sync every source": lambda a: _get("/api/cron/sync-google-sheets"),
    "who am I": lambda a: _get("/api/auth/me"),
    "log in": lambda a: Call(
        "POST", "/api/auth/login", {"email": f"{APPROVER}@example.com", "password": PASSWORD}
    ),
    "log out": lambda a: Call("POST", "/api/auth/logout", headers=a.caller.fresh_headers()),
    "healthz": lambda a: _get("/healthz"),
    "readyz": lambda a: _get("/readyz"),
    "metrics": lambda a: _get("/metrics"),
}

EXPECTED = cells(TABLE)
CASES = [
    (row, caller, cell)
    for row, columns in EXPECTED.items()
    for column, cell in columns.items()
    for caller in (DEAD if column == "dead" else (column,))
]


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, templates: Templates) -> Iterator[Cast]:
    """One world for all cases: each case has a request of its own, and the budget is larger than all of them together."""
    with templates.copy("tables", tmp_path_factory.mktemp("permissions")) as environment:
        app = create_app(
            settings.load(
                environment | {"CRON_SECRET": CRON_SECRET, "METRICS_TOKEN": METRICS_TOKEN}
            )
        )
        yield _populate(app)
        database.disconnect()


def _populate(app: Flask) -> Cast:
    for customer_id in (HOME, ABROAD, CLOSED):
        people.add_customer(ROOT, customer_id, customer_id)
    manual_budgets.set_budget(
        ROOT, HOME, "Engineering", "Q1 2025", Decimal(1_000_000), budget_id=HOME_BUDGET
    )
    manual_budgets.set_budget(ROOT, HOME, "Travel", "Q1 2025", Decimal(1), budget_id=FULL_BUDGET)
    manual_budgets.set_budget(
        ROOT, ABROAD, "Engineering", "Q1 2025", Decimal(1_000_000), budget_id=ABROAD_BUDGET
    )
    _person(app, STRANGER, Role.BUSINESS_USER)
    _person(app, FOREIGNER, Role.BUSINESS_USER, ABROAD)
    _person(app, APPROVER, Role.FPA_ADMIN)
    return Cast(app, _living(app) | _dead(app))


def _living(app: Flask) -> dict[str, Caller]:
    odd = _person(app, "user-odd", Role.BUSINESS_USER)
    with without_checks("User", "User_role_check"):
        User.update(role="auditor").where(User.id == "user-odd").execute()
    return {
        "nobody": Caller(ANONYMOUS),
        "away": Caller(ANONYMOUS, address="203.0.113.9"),
        "super": _person(app, "user-super", Role.SUPER_ADMIN),
        "admin": _person(app, "user-admin", Role.ADMIN),
        "fpa_a": _person(app, "user-fpa-admin", Role.FPA_ADMIN),
        "fpa_u": _person(app, "user-fpa-user", Role.FPA_USER),
        "mgr": _person(app, "user-manager", Role.MANAGER),
        "empl": _person(app, "user-employee", Role.BUSINESS_USER),
        "key": _service(HOME),
        "key+": _service(HOME, may_overspend=True),
        "key*": _service(None),
        "sup*": _person(app, "user-super-all", Role.SUPER_ADMIN, None),
        "odd": odd,
        "cron": Caller(ANONYMOUS, {"Authorization": f"Bearer {CRON_SECRET}"}),
    }


def _dead(app: Flask) -> dict[str, Caller]:
    expired = _person(app, "user-expired", Role.ADMIN)
    (session,) = _sessions("user-expired")
    expired = replace(
        expired, app=None, expired=session | {"expiresAt": clock.now() - timedelta(seconds=1)}
    )
    Session.delete().where(Session.userId == "user-expired").execute()
    disabled, revoked = _person(app, "user-disabled", Role.ADMIN), _service(HOME)
    closed, closed_key = _person(app, "user-closed", Role.ADMIN, CLOSED), _service(CLOSED)
    # Disabling ends sessions; they are put back, so that it is the look at the user and the customer that refuses.
    sessions = _sessions("user-disabled", "user-closed")
    people.disable_user(ROOT, "user-disabled")
    people.disable_customer(ROOT, CLOSED)
    Session.insert_many(sessions).execute()
    people.revoke_key(ROOT, revoked.actor.principal.removeprefix("key:"))
    key = _service(HOME)
    wrong = f"{key.headers['Authorization'][:-1]}{'A' if key.headers['Authorization'][-1] != 'A' else 'B'}"
    return {
        "expired session": expired,
        "disabled user": replace(disabled, app=None),
        "revoked key": revoked,
        "garbage cookie": Caller(expired.actor, {"Cookie": "budget_sync_session=garbage"}),
        "wrong secret": Caller(key.actor, {"Authorization": wrong}),
        "closed customer": replace(closed, app=None),
        "closed customer's key": closed_key,
    }


def _sessions(*user_ids: str) -> list[dict[str, object]]:
    # Rows as dicts, whose types Peewee's stubs do not know.
    rows: Any = Session.select().where(Session.userId << list(user_ids)).dicts()
    return list(rows)


def _person(app: Flask, user_id: str, role: Role, customer_id: str | None = HOME) -> Caller:
    """A user with a session."""
    email = f"{user_id}@example.com"
    people.add_user(
        ROOT,
        user_id,
        user_id,
        email,
        role,
        customer_id=customer_id,
        password=None,
        slots_folder=Path(app.instance_path),
    )
    User.update(passwordHash=cheap_hash()).where(User.id == user_id).execute()
    actor = Actor(
        principal=f"user:{user_id}",
        user_id=user_id,
        name=user_id,
        email=email,
        role=role,
        customer_id=customer_id,
    )
    return Caller(actor, _log_in(app, email), app=app)


def _log_in(app: Flask, email: str) -> dict[str, str]:
    response = app.test_client(use_cookies=False).post(
        "/api/auth/login", json={"email": email, "password": PASSWORD}
    )
    assert response.status_code == 200, response.json
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


def _service(customer_id: str | None, *, may_overspend: bool = False) -> Caller:
    """An API key."""
    key = people.add_key(ROOT, "orchestrator", customer_id=customer_id, may_overspend=may_overspend)
    actor = authentication.actor_of_key(key)
    assert actor is not None
    return Caller(actor, {"Authorization": f"Bearer {key}"})


def outcome(
    cast: Cast,
    row: str,
    caller: str,
    break_guard: Callable[[pytest.MonkeyPatch], None] | None = None,
) -> str:
    """The cell that a call comes out with; the guard is broken for the call alone, not for what prepares it."""
    attempt = Attempt(cast, cast.callers[caller])
    call = ROWS[row](attempt)
    before = _written()
    with pytest.MonkeyPatch.context() as patch:
        if break_guard:
            break_guard(patch)
        response = cast.send(attempt.caller, call)
    data = response.get_json()
    code = data["code"] if data.get("success") is False else None
    if response.status_code != 200:
        assert _written() == before, f"{row} was refused, yet something was written"
    return CELLS.get((response.status_code, code), f"{response.status_code} {code}")


def _written() -> tuple[object, ...]:
    tables = ("AuditLog", "BudgetCheckLog", "Reservation", "StoredReply", "Session")
    counts = ", ".join(f'(SELECT COUNT(*) FROM "{table}")' for table in tables)
    row: tuple[object, ...] = database.db.execute_sql(
        f'SELECT {counts}, (SELECT SUM("version") FROM "BudgetUtilization")'
    ).fetchone()
    return row


@pytest.mark.parametrize(
    ("row", "caller", "cell"), CASES, ids=[f"{row} [{caller}]" for row, caller, _ in CASES]
)
def test_a_call_comes_out_as_the_table_says(cast: Cast, row: str, caller: str, cell: str) -> None:
    assert outcome(cast, row, caller) == cell


def test_the_table_has_a_row_for_every_call_and_a_column_for_every_caller(cast: Cast) -> None:
    assert list(EXPECTED) == list(ROWS)
    assert all(list(columns) == list(COLUMNS) for columns in EXPECTED.values())
    assert {*COLUMNS, *DEAD} == {*cast.callers, "dead"}
    attempt = Attempt(cast, cast.callers["super"])
    routes = cast.app.url_map.bind("localhost")
    called = {
        routes.match(call.path.partition("?")[0], method=call.method)[0]
        for call in (prepare(attempt) for prepare in ROWS.values())
    }
    assert called == {
        rule.endpoint
        for rule in cast.app.url_map.iter_rules()
        if rule.endpoint.startswith(("api.", "metrics."))
    }


def test_the_permissions_are_those_written_here() -> None:
    assert _scopes() == cells(SCOPES)
    assert set(cells(SCOPES)) == {*Role, "auditor"}


def _scopes() -> dict[str, dict[str, str]]:
    """What the product's table says, in the form of ours."""
    return {
        role: {
            action.replace(" ", "_"): permissions.scope_of(replace(ANONYMOUS, role=role), action)
            or "-"
            for action in Action
        }
        for role in cells(SCOPES)
    }


# Removing any one guard fails at least one case.

COLUMN_OF = {
    "super_admin": "super",
    "admin": "admin",
    "fpa_admin": "fpa_a",
    "fpa_user": "fpa_u",
    "manager": "mgr",
    "business_user": "empl",
    "api_system": "key",
    "auditor": "odd",
}
ROWS_OF = {
    Action.CHECK: "check",
    Action.RESERVE: "reserve",
    Action.COMMIT: "commit",
    Action.RELEASE: "reject",
    Action.CANCEL: "cancel",
    Action.READ_BUDGETS: "list",
    Action.READ_REQUESTS: "find",
}
ENTRIES = [
    (role, action, scope)
    for role, columns in cells(SCOPES).items()
    for action, scope in zip(Action, columns.values(), strict=True)
]


def entry(role: str, action: Action, scope: Scope | None) -> Callable[[pytest.MonkeyPatch], None]:
    """Changes one entry of the product's table."""
    others = {
        name: reach for name, reach in PERMISSIONS.get(role, {}).items() if name is not action
    }
    changed = {**PERMISSIONS, role: others | ({action: scope} if scope else {})}
    return lambda patch: patch.setattr(permissions, "PERMISSIONS", changed)


@pytest.mark.parametrize(
    ("role", "action"), [(role, action) for role, action, scope in ENTRIES if scope != "any"]
)
def test_widening_or_adding_a_permission_changes_the_outcome(
    cast: Cast, role: str, action: Action
) -> None:
    assert _is_noticed(cast, role, action, Scope.ANY)


@pytest.mark.parametrize(
    ("role", "action"), [(role, action) for role, action, scope in ENTRIES if scope != "-"]
)
def test_taking_a_permission_away_changes_the_outcome(
    cast: Cast, role: str, action: Action
) -> None:
    assert _is_noticed(cast, role, action, None)


def _is_noticed(cast: Cast, role: str, action: Action, scope: Scope | None) -> bool:
    """By a call, where there is one that this role can reach; else by the table of scopes alone."""
    change = entry(role, action, scope)
    if action in ROWS_OF and role in COLUMN_OF:
        return _is_caught(cast, change, ROWS_OF[action], COLUMN_OF[role])
    with pytest.MonkeyPatch.context() as patch:
        change(patch)
        return _scopes() != cells(SCOPES)


def _is_caught(
    cast: Cast, break_guard: Callable[[pytest.MonkeyPatch], None], rows: str, *callers: str
) -> bool:
    """Whether a case of the table, of the rows that begin so and of these callers, comes out differently without the guard."""
    return any(
        outcome(cast, row, caller, break_guard) != cell
        for row, caller, cell in CASES
        if row.startswith(rows) and caller in callers
    )


def without(module: str, name: str, instead: object) -> Callable[[pytest.MonkeyPatch], None]:
    """Puts something else in a guard's place."""
    # By import_module, since the ledger's package has verbs of the same names as its modules.
    return lambda patch: patch.setattr(import_module(f"budget_sync.{module}"), name, instead)


def anything(actor: Actor, action: Action) -> Scope:
    """The permission table's question, always answered yes."""
    return Scope.ANY


def as_if_any(actor: Actor, action: Action) -> Scope:
    """The permission table's question, answered as if whoever may do it for themselves may do it for all."""
    require(actor, action)
    return Scope.ANY


def believe_anybody() -> Actor | None:
    """The caller, or nobody where the credential is wrong."""
    try:
        return get_user_from_request()
    except RequestError:
        return None


def session_without(test: str) -> Callable[[str], Actor | None]:
    """The look-up of a session without one of its tests."""

    def actor_of_session(token: str) -> Actor | None:
        tests = {
            "expiry": Session.expiresAt > clock.now(),
            "user": User.disabledAt.is_null(),
            "customer": Customer.disabledAt.is_null(),
        }
        query = (
            User.select(User)
            .join(Session, on=(Session.userId == User.id))
            .join(Customer, JOIN.LEFT_OUTER, on=(Customer.id == User.customerId))
        )
        user = query.where(
            Session.tokenHash == authentication.digest(token),
            *(kept for name, kept in tests.items() if name != test),
        ).first()
        return (
            Actor(f"user:{user.id}", user.id, user.name, user.email, user.role, user.customerId)
            if user
            else None
        )

    return actor_of_session


def key_without(test: str) -> Callable[[str], Actor | None]:
    """The look-up of a key without one of its tests."""

    def actor_of_key(key: str) -> Actor | None:
        _, key_id, secret = key.split("_", 2)
        tests = {
            "secret": ApiKey.secretHash == authentication.digest(secret),
            "revocation": ApiKey.revokedAt.is_null(),
            "customer": Customer.disabledAt.is_null(),
        }
        query = ApiKey.select(ApiKey).join(
            Customer, JOIN.LEFT_OUTER, on=(Customer.id == ApiKey.customerId)
        )
        row = query.where(
            ApiKey.id == key_id, *(kept for name, kept in tests.items() if name != test)
        ).first()
        return (
            Actor(f"key:{row.id}", None, row.name, None, Role.API_SYSTEM, row.customerId)
            if row
            else None
        )

    return actor_of_key


def any_budget(
    actor: Actor, budget_id: str, customer_id: str | None, related: database.Prepared, **values: Any
) -> tuple[LedgerBudget, Any]:
    """The budget with that id, of any customer, and the first related row."""
    budget = LedgerBudget.of(select_budgets(Budget.id == budget_id).tuples().first())
    return budget, related.first(customer_id=budget.customer_id, budget_id=budget_id, **values)


def _serve_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Actor, "serves", lambda actor, customer_id: True)


#: A guard, broken; the rows that should notice, and the callers.
GUARDS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str, tuple[str, ...]]] = {
    "a caller says who they are": (
        without("web.api", "require_user", lambda: get_user_from_request() or ANONYMOUS),
        "reserve",
        ("nobody",),
    ),
    "a credential that is sent is verified": (
        without("web.auth", "get_user_from_request", believe_anybody),
        "check",
        ("garbage cookie",),
    ),
    "a session ends": (
        without("accounts.authentication", "actor_of_session", session_without("expiry")),
        "who",
        ("expired session",),
    ),
    "a disabled user has no session": (
        without("accounts.authentication", "actor_of_session", session_without("user")),
        "who",
        ("disabled user",),
    ),
    "a disabled customer's user has no session": (
        without("accounts.authentication", "actor_of_session", session_without("customer")),
        "who",
        ("closed customer",),
    ),
    "a key has a secret": (
        without("accounts.authentication", "actor_of_key", key_without("secret")),
        "who",
        ("wrong secret",),
    ),
    "a revoked key is worth nothing": (
        without("accounts.authentication", "actor_of_key", key_without("revocation")),
        "who",
        ("revoked key",),
    ),
    "a disabled customer's key is worth nothing": (
        without("accounts.authentication", "actor_of_key", key_without("customer")),
        "who",
        ("closed customer's key",),
    ),
    "a check without credentials comes from this machine": (
        without("web.auth", "_is_from_this_machine", lambda: True),
        "check",
        ("away",),
    ),
    "check asks for permission": (without("ledger.check", "require", anything), "check", ("odd",)),
    "reserve asks for permission": (
        without("ledger.reserve", "require", anything),
        "reserve",
        ("odd",),
    ),
    "commit asks for permission": (
        without("ledger.commit", "require", anything),
        "commit",
        ("mgr",),
    ),
    "reject asks for permission": (
        without("ledger.release", "require", anything),
        "reject",
        ("empl",),
    ),
    "release by hand asks for permission": (
        without("ledger.release", "require", anything),
        "release by hand",
        ("mgr",),
    ),
    "cancel asks for permission": (
        without("ledger.release", "require", anything),
        "cancel",
        ("odd",),
    ),
    "a list of budgets asks for permission": (
        without("queries.api", "require", anything),
        "list",
        ("odd",),
    ),
    "reading a budget asks for permission": (
        without("queries.api", "require", anything),
        "read",
        ("odd",),
    ),
    "finding a request asks for permission": (
        without("queries.api", "require", anything),
        "find",
        ("odd",),
    ),
    "people check for themselves": (
        without("ledger.check", "require", as_if_any),
        "check",
        ("empl",),
    ),
    "people reserve for themselves": (
        without("ledger.reserve", "require", as_if_any),
        "reserve",
        ("empl",),
    ),
    "people cancel for themselves": (
        without("ledger.release", "require", as_if_any),
        "cancel",
        ("mgr",),
    ),
    "people find what is theirs": (without("queries.api", "require", as_if_any), "find", ("empl",)),
    "people reserve what they checked": (
        without("ledger.policy", "require_own_check", lambda *_, **__: None),
        "reserve what nobody",
        ("empl",),
    ),
    "people reserve what nobody else holds": (
        without("ledger.policy", "require_not_held_by_other", lambda *_, **__: None),
        "reserve what someone else holds",
        ("mgr",),
    ),
    "a cancel is the requester's": (
        without("ledger.policy", "require_may_cancel", lambda *_: None),
        "cancel someone",
        ("empl",),
    ),
    "a service's cancel names the requester": (
        without("ledger.policy", "require_may_cancel", lambda *_: None),
        "cancel someone else's, naming oneself",
        ("key",),
    ),
    "a service's cancel names somebody": (
        lambda patch: patch.setattr(Actor, "is_service", False),
        "cancel one's own, naming no requester",
        ("key",),
    ),
    "a check serves the caller's customer": (_serve_all, "check", ("key",)),
    "a movement serves the caller's customer": (_serve_all, "reject", ("admin",)),
    "a list serves the caller's customer": (_serve_all, "list", ("empl",)),
    "a budget serves the caller's customer": (_serve_all, "read", ("fpa_u",)),
    "a question about a request serves the caller's customer": (_serve_all, "find", ("super",)),
    "a movement's budget is the caller's": (
        without("ledger.movements", "lock_budget", any_budget),
        "commit another",
        ("key",),
    ),
    "a movement's customer is the caller's": (_serve_all, "commit, naming", ("key",)),
    "a question's customer is the caller's": (
        without("queries.api", "_customer_for", lambda actor, customer_id: customer_id or HOME),
        "list",
        ("empl",),
    ),
    "a question is about one customer": (
        without("queries.api", "_customer_for", lambda actor, customer_id: customer_id or HOME),
        "list",
        ("key*",),
    ),
    "overspending is for those who may": (
        without("ledger.reserve", "require_overspend", lambda _: None),
        "reserve over",
        ("key",),
    ),
    "a sync is the cron's": (
        without("web.api", "_require_cron", lambda _: None),
        "sync",
        ("super",),
    ),
    "an approver approves in person": (
        without("ledger.reserve", "_approval", lambda *_: Approval("Anyone", "Anything")),
        "reserve over budget, approved by FP&A",
        ("admin",),
    ),
    "an approver is not the requester": (
        without("ledger.reserve", "_approval", lambda *_: Approval("Anyone", "Anything")),
        "reserve over budget, for oneself",
        ("sup*",),
    ),
    "an approver is a person": (
        without("ledger.reserve", "_approval", lambda *_: Approval("Anyone", "Anything")),
        "reserve over budget, approved by oneself",
        ("key+",),
    ),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_removing_a_guard_changes_the_outcome(cast: Cast, guard: str) -> None:
    break_guard, rows, callers = GUARDS[guard]
    assert _is_caught(cast, break_guard, rows, *callers)


def test_after_all_of_it_every_balance_is_proven(cast: Cast) -> None:
    assert verification.verify().findings == []


def test_a_caller_is_nobody_or_a_service_by_their_role_alone_and_stays_what_they_are() -> None:
    assert {
        role for role in Role if Actor("p", None, "n", None, role, None).is_anonymous is True
    } == {Role.ANONYMOUS}
    assert {
        role for role in Role if Actor("p", None, "n", None, role, None).is_service is True
    } == {Role.API_SYSTEM}
    assert ANONYMOUS.may_overspend is False
    with pytest.raises(FrozenInstanceError):
        ANONYMOUS.role = Role.ADMIN  # type: ignore[misc]  # what must not work
