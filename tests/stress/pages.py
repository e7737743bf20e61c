"""Hostile input to every console page and form, as viewers with and without permission.

Valid requests are changed in a few places. Half of the forms are opened first, as a browser does,
for the values of their hidden fields.
"""

from __future__ import annotations

import html
import random
import re
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from flask import Flask, session
from flask_wtf.csrf import generate_csrf
from support.console_site import BROWSER, hold, short_check
from support.world import PASSWORD, ROOT

from budget_sync import database, manual_budgets
from budget_sync.accounts import customers, people
from budget_sync.database.models import (
    ApiKey,
    BudgetDataSourceConfig,
    BudgetUtilization,
    Reservation,
    SyncHistory,
    User,
)
from budget_sync.domain.permissions import Role
from budget_sync.operations import demo
from stress.bad_input import ADDRESS_CORPUS, ENOUGH, HEADER_CORPUS, HEADERS
from stress.outcome import Outcome, Place
from stress.wsgi import Answer, Environ, request_environ, send, session_cookie, verified_app

#: Rounds after which there are new requests to act on and another sheet to sync.
ROUNDS_A_STOCK = 8

OTHER_CUSTOMER = "org-2"

#: How often each viewer is used; "" is not logged in.
VIEWERS = {"admin-001": 6, "super-001": 5, "fpa-001": 4, "manager-001": 1, "user-123": 2, "": 1}

#: Valid values by field name, unless they depend on the installation.
WORDS = {
    "action": ("cancel", "reject", "manual", "RESERVE", "COMMIT"),
    "after": ("1", "5"),
    "again": (PASSWORD, "short"),
    "amount": ("1", "0.01", "$1.00"),
    "before": ("1", "1000"),
    "customer": (demo.CUSTOMER, OTHER_CUSTOMER),
    "email": ("jane@acme.com", "alex@acme.com"),
    "final": ("yes", ""),
    "from": ("2025-01-01", "2026-12-31", "0001-01-01", "9999-12-31"),
    "may_overspend": ("yes", ""),
    "name": ("Robin Doe", "orchestrator"),
    "new": (PASSWORD, "short"),
    "next": (
        "/budgets",
        "/request?id=stock-0",
        "//elsewhere.example",
        "https://elsewhere.example/",
        "/\\elsewhere.example",
    ),
    "page": ("1", "2"),
    "present": (PASSWORD,),
    "password": ("a wrong password", PASSWORD),
    "period": ("2025-Q1", "all"),
    "q": ("Engineering", "intake"),
    "reason": ("because",),
    "ref": ("PO-1",),
    "role": ("fpa_user", "manager", "super_admin"),
    "sort": ("department", "-available"),
    "state": ("live", "deleted", "overdrawn"),
    "type": ("budget.updated", "sync.failed"),
    "url": ("https://10.0.0.1/", "http://127.0.0.1:1/", "https://user@192.0.2.1/"),
    "to": ("2025-12-31", "9999-12-31", "0001-01-01"),
    "view": ("open", "closed", "all", "uncovered"),
    "zone": ("Europe/Berlin", "Elsewhere/Nowhere"),
    # Usually taken from the opened form, otherwise random.
    "listed": ("0" * 64,),
    "once": ("once",),
    "shown": ("100/100/-100/0",),
}

#: Fields that most pages need.
NEEDED = ("id", "budget", "source", "action", "name", "email", "role", "customer", "listed")

#: Contents of the source's file in turn: complete, too short to delete the rest, and invalid.
SHEETS = (
    demo.PLAN,
    "".join(demo.PLAN.splitlines(keepends=True)[:2]),
    (
        "Budget ID,Department,Fiscal Period,Budgeted Amount\n"
        "=1+1,<script>alert(1)</script>,\u202eQ1,#REF!\n\x1b[2J,Ops,Q1 2025,-5\n"
    ),
    "",
)

#: State that a page may only change through an accepted form with a CSRF token.
WRITTEN = """
SELECT (SELECT SUM("version") FROM "BudgetUtilization"), (SELECT MAX("id") FROM "AuditLog"),
    (SELECT COUNT(*) FROM "User"), (SELECT COUNT("disabledAt") FROM "User"),
    (SELECT COUNT(*) FROM "ApiKey"), (SELECT COUNT("revokedAt") FROM "ApiKey"),
    (SELECT COUNT(*) FROM "Webhook"), (SELECT COUNT("removedAt") FROM "Webhook"),
    (SELECT COUNT(*) FROM "SyncHistory"), (SELECT COUNT(*) FROM "StoredReply")
"""

FORM = "application/x-www-form-urlencoded"
HTML = "text/html"


class Page(NamedTuple):
    """A route of the console, and whether its GET response contains a form to POST to it."""

    method: str
    path: str
    has_form: bool


class Visit(NamedTuple):
    """A request: its viewer, its environment, and whether its CSRF token is valid."""

    viewer: str
    environ: Environ
    has_token: bool


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` cases to each page and form, in turn."""
    outcome = Outcome()
    with verified_app(place, outcome) as app:
        _stress(app, tries, place, outcome)
    return outcome


def _stress(app: Flask, tries: int, place: Place, outcome: Outcome) -> None:
    visits = Visits(app, place.rng)
    pages = _pages(app)
    statuses: dict[Page, Counter[int]] = defaultdict(Counter)
    for number in range(tries):
        if number % ROUNDS_A_STOCK == 0:
            visits.restock(number // ROUNDS_A_STOCK)
        for page in pages:
            visit = visits.make(page)
            before = _written()
            answer = send(app, visit.environ)
            _judge(visit, answer, outcome, wrote=_written() != before)
            if answer.status == 302:
                _follow(app, visit, answer, outcome)
            visits.note(page, visit, answer)
            statuses[page][answer.status] += 1
            outcome.tries += 1
        place.progress(outcome.tries, tries * len(pages))
    for page, seen in statuses.items() if tries >= ENOUGH else ():
        outcome.expect(
            seen[200] + seen[302],
            f"{page.method} {page.path} never succeeded, so it was hardly tested: {dict(seen)}",
        )
    total = sum(statuses.values(), Counter[int]())
    by_status = ", ".join(f"{status}: {count:,}" for status, count in sorted(total.items()))
    outcome.notes.append(f"{len(pages)} pages and forms; responses by status: {by_status}")


def _pages(app: Flask) -> list[Page]:
    """All pages and forms of the app."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("console.") and not rule.arguments:
            methods = (rule.methods or set()) & {"GET", "POST"}
            found += [Page(method, rule.rule, has_form=len(methods) == 2) for method in methods]
    return sorted(found)


def _written() -> object:
    return database.db.execute_sql(WRITTEN).fetchone()


class Visits:
    """Generates requests of all viewers."""

    def __init__(self, app: Flask, rng: random.Random) -> None:
        self.app = app
        self.rng = rng
        self.sheet = Path(app.instance_path) / "sheets" / "demo.csv"
        customers.add_customer(ROOT, OTHER_CUSTOMER, "Other Inc.", time_zone="Pacific/Kiritimati")
        for user_id, role, customer_id in (
            ("super-001", Role.SUPER_ADMIN, None),
            ("manager-001", Role.MANAGER, demo.CUSTOMER),
        ):
            address = f"{user_id}@example.com"
            people.add_user(
                ROOT,
                user_id,
                user_id,
                address,
                role,
                customer_id=customer_id,
                password=None,
                slots_folder=Path(app.instance_path),
            )
        with app.test_request_context():
            self.token = generate_csrf()
            self.raw_token: str = session["csrf_token"]
        self.cookies = {user_id: self._sign_in(user_id) for user_id in VIEWERS if user_id}
        self.roles = {user.id: user.role for user in User.select()}
        self.words: dict[str, tuple[str, ...]] = {}
        self.new_count = 0

    def _sign_in(self, user_id: str) -> str:
        return session_cookie(self.app, user_id, csrf_token=self.raw_token)

    def restock(self, number: int) -> None:
        """Create new requests to act on, and another sheet to sync."""
        used = BudgetUtilization.get_by_id(demo.BUDGET)
        manual_budgets.set_budget(
            ROOT,
            demo.CUSTOMER,
            "Engineering",
            "Q1 2025",
            Decimal((used.reservedMinor + used.committedMinor) // 100 + 1000),
        )
        hold(f"stock-{number}", 3)
        short_check(f"short-{number}", 5000)
        self.sheet.write_text(SHEETS[number % len(SHEETS)], encoding="utf-8")
        requests = [
            row.requestId
            for row in Reservation.select()
            .where(Reservation.status == "open")
            .order_by(Reservation.seq.desc())
            .limit(5)
        ]
        self.words = WORDS | {
            "budget": (demo.BUDGET,),
            "source": tuple(row.id for row in BudgetDataSourceConfig.select()),
            "id /budget": (demo.BUDGET,),
            "id /request": (*requests, f"short-{number}"),
            "id /request/approve": (f"short-{number}",),
            "id /request/commit": tuple(requests),
            "id /request/release": tuple(requests),
            "id /sync/pass": tuple(
                row.syncId for row in SyncHistory.select().order_by(SyncHistory.id.desc()).limit(5)
            ),
            "id /keys/revoke": tuple(
                row.id for row in ApiKey.select().order_by(ApiKey.createdAt.desc()).limit(5)
            ),
            **{
                f"id /team/{action}": ("user-123", "manager-001")
                for action in ("person", "set", "password", "disable", "enable")
            },
        }

    def note(self, page: Page, visit: Visit, answer: Answer) -> None:
        """Log in again after a logout, enable disabled users, and undo changes of roles."""
        if visit.viewer and (
            page.path == "/sign-out" or answer.headers.get("Location", "").startswith("/sign-in")
        ):
            self.cookies[visit.viewer] = self._sign_in(visit.viewer)
        if page.path == "/team/disable" and answer.status == 302:
            User.update(disabledAt=None).execute()
        if page.path == "/team/set" and answer.status == 302:
            for user_id, role in self.roles.items():
                User.update(role=role).where(User.id == user_id).execute()

    def make(self, page: Page) -> Visit:
        """Generate a request for this page."""
        rng = self.rng
        viewer = rng.choices([*VIEWERS], [*VIEWERS.values()])[0]
        query = self._fields(page, hostile=rng.choice((0, 1, 2)))
        if page.method == "GET":
            return Visit(
                viewer, self._environ("GET", _address(page.path, query), viewer), has_token=False
            )
        fields = self._fields(page, hostile=0)
        opened = self._open(page, fields, viewer) if page.has_form and rng.random() < 0.5 else {}
        form = fields | opened
        if not opened or rng.random() < 0.5:
            form |= self._hostile(rng.choice((0, 1, 2)), tuple(form))
        has_token = rng.random() < 0.9
        form["csrf_token"] = (
            quote(self.token) if has_token else rng.choice(("", "x", quote(self.token[:-1])))
        )
        target = _address(page.path, fields if opened else query) if page.has_form else page.path
        environ = self._environ(
            "POST",
            target,
            viewer,
            "&".join(f"{name}={value}" for name, value in form.items()).encode(),
        )
        return Visit(viewer, environ, has_token)

    def _open(self, page: Page, fields: dict[str, str], viewer: str) -> dict[str, str]:
        """Open a form; returns the values of its fields except the CSRF token."""
        shown = send(self.app, self._plain("GET", _address(page.path, fields), viewer))
        inputs: list[dict[str, str]] = [
            dict(re.findall(r'(name|value)="([^"]*)"', tag))
            for tag in re.findall(r"<input[^>]*>", shown.body.decode("utf-8", "replace"))
        ]
        return {
            each["name"]: quote(html.unescape(each.get("value", "")))
            for each in inputs
            if each.get("name", "csrf_token") != "csrf_token"
        }

    def _fields(self, page: Page, hostile: int) -> dict[str, str]:
        """Values for a page's fields, URL-encoded."""
        chosen = [
            name
            for name in ("id", "budget", "source", *WORDS)
            if self.rng.random() < (0.9 if name in NEEDED else 0.3)
        ]
        return {name: quote(self._word(page.path, name)) for name in chosen} | self._hostile(
            hostile, ("id", "budget", "source", *WORDS)
        )

    def _word(self, path: str, name: str) -> str:
        if path == "/team/add" and name in ("id", "email"):
            self.new_count += 1
            return f"new-{self.new_count}" if name == "id" else f"new-{self.new_count}@example.com"
        return self.rng.choice(self.words.get(f"{name} {path}") or self.words.get(name) or ("1",))

    def _hostile(self, count: int, names: tuple[str, ...]) -> dict[str, str]:
        return {
            name: self.rng.choice(ADDRESS_CORPUS)
            for name in self.rng.sample(names, min(count, len(names)))
        }

    def _environ(self, method: str, target: str, viewer: str, body: bytes = b"") -> Environ:
        rng = self.rng
        environ = self._plain(
            method if rng.random() > 0.01 else rng.choice(("HEAD", "PUT", "DELETE", "BREW")),
            target,
            viewer,
            body,
        )
        for name in rng.sample(HEADERS, rng.randint(1, 2)) if rng.random() < 0.1 else ():
            environ[name] = rng.choice(HEADER_CORPUS)
        if rng.random() < 0.1:
            environ["HTTP_HX_REQUEST"] = "true"
        return environ

    def _plain(self, method: str, target: str, viewer: str, body: bytes = b"") -> Environ:
        environ = request_environ(method, target, body)
        environ |= {
            f"HTTP_{name.upper().replace('-', '_')}": value for name, value in BROWSER.items()
        }
        if method == "POST":
            environ["CONTENT_TYPE"] = FORM
            environ["HTTP_SEC_FETCH_SITE"] = "same-origin"
        if viewer:
            environ["HTTP_COOKIE"] = self.cookies[viewer]
        return environ


def _address(path: str, query: dict[str, str]) -> str:
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}"


def _judge(visit: Visit, answer: Answer, outcome: Outcome, *, wrote: bool) -> None:
    """Verify a response: no server error, no injected script, no changes without permission."""
    wrong = []
    environ = visit.environ
    is_page = answer.kind == HTML
    if answer.status >= 500:
        wrong.append("a server error")
    if (
        not is_page
        and not (answer.kind == "text/csv" and answer.status == 200)
        and answer.status not in (302, 400, 404, 405)
    ):
        wrong.append(f"{answer.kind} instead of a page")
    if is_page and answer.status != 302 and "Content-Security-Policy" not in answer.headers:
        wrong.append("no Content-Security-Policy")
    if is_page and b"<script>" in answer.body:
        wrong.append("an injected script")
    if not _is_here(answer.headers.get("Location", "/")):
        wrong.append(f"a redirect to another site, {answer.headers['Location']}")
    if wrote and (
        environ["REQUEST_METHOD"] != "POST" or answer.status >= 400 or not visit.has_token
    ):
        wrong.append("and something was written")
    for problem in wrong:
        headers = {
            name: value
            for name, value in environ.items()
            if name.startswith(("HTTP_", "CONTENT_TYPE"))
        }
        target, sent_body = environ["RAW_URI"][:500], environ["wsgi.input"].getvalue()[:500]
        sent = (
            f"{environ['REQUEST_METHOD']} {target} as {visit.viewer or 'anonymous'}"
            f" with {headers} and {sent_body!r}"
        )
        outcome.expect(
            holds=False,
            otherwise=f"{sent} got {answer.status} {answer.body[:300]!r}: {problem}",
        )


def _is_here(location: str) -> bool:
    """Whether a redirect stays on this site."""
    parts = urlsplit(location.replace("\\", "/"))
    return location.startswith("/") and not parts.netloc and not parts.scheme


def _follow(app: Flask, visit: Visit, answer: Answer, outcome: Outcome) -> None:
    """Open the page that a form redirects to, which shows its message."""
    environ = request_environ("GET", answer.headers["Location"])
    cookie: str = answer.headers.get("Set-Cookie") or visit.environ.get("HTTP_COOKIE") or ""
    environ["HTTP_COOKIE"] = cookie.partition(";")[0]
    _judge(Visit(visit.viewer, environ, has_token=False), send(app, environ), outcome, wrote=False)
