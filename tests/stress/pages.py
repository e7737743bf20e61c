"""Hostile input for the console: every page and form, by whoever may see it or not, given values from a corpus of hostile texts.

What would go well is spoilt in a few places: half of the forms are opened first, as a browser does, for the figures that they show.
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
from budget_sync.accounts import people
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
from stress.wsgi import Answer, Environ, proven_app, request_environ, send, session_cookie

#: Rounds over all pages after which there are new requests to act on, and another sheet to read.
ROUNDS_A_STOCK = 8

OTHER_CUSTOMER = "org-2"

#: Who looks at pages, and how often; nobody in particular is "".
VIEWERS = {"admin-001": 6, "super-001": 5, "fpa-001": 4, "manager-001": 1, "user-123": 2, "": 1}

#: What a page may be given under a name, where the installation does not say it.
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
    "password": ("no password of theirs", PASSWORD),
    "period": ("2025-Q1", "all"),
    "q": ("Engineering", "intake"),
    "reason": ("because",),
    "ref": ("PO-1",),
    "role": ("fpa_user", "manager", "super_admin"),
    "sort": ("department", "-available"),
    "state": ("live", "deleted", "overdrawn"),
    "to": ("2025-12-31", "9999-12-31", "0001-01-01"),
    "view": ("open", "closed", "all", "uncovered"),
    "zone": ("Europe/Berlin", "Elsewhere/Nowhere"),
    # From the form itself, else anything.
    "listed": ("0" * 64,),
    "once": ("once",),
    "shown": ("100/100/-100/0",),
}

#: Names that few pages can do without.
NEEDED = ("id", "budget", "source", "action", "name", "email", "role", "customer", "listed")

#: What a source's file has in turn: all of it, too little to delete the rest without being asked, and what is no plan.
SHEETS = (
    demo.PLAN,
    "".join(demo.PLAN.splitlines(keepends=True)[:2]),
    "Budget ID,Department,Fiscal Period,Budgeted Amount\n=1+1,<script>alert(1)</script>,\u202eQ1,#REF!\n\x1b[2J,Ops,Q1 2025,-5\n",
    "",
)

#: What no page may write unless a form with its token was taken.
WRITTEN = """
SELECT (SELECT SUM("version") FROM "BudgetUtilization"), (SELECT MAX("id") FROM "AuditLog"), (SELECT COUNT(*) FROM "User"),
    (SELECT COUNT("disabledAt") FROM "User"), (SELECT COUNT(*) FROM "ApiKey"), (SELECT COUNT("revokedAt") FROM "ApiKey"),
    (SELECT COUNT(*) FROM "SyncHistory"), (SELECT COUNT(*) FROM "StoredReply")
"""

FORM = "application/x-www-form-urlencoded"
HTML = "text/html"


class Page(NamedTuple):
    """A page or a form's address, and whether opening it shows a form to send there."""

    method: str
    path: str
    has_form: bool


class Visit(NamedTuple):
    """Somebody's request: who, with which cookie, and whether the form's token is the right one."""

    who: str
    environ: Environ
    has_token: bool


def stress(tries: int, place: Place) -> Outcome:
    """Send `tries` cases to each page and form of the console, one to each in turn."""
    outcome = Outcome()
    with proven_app(place, outcome) as app:
        _stress(app, tries, place, outcome)
    return outcome


def _stress(app: Flask, tries: int, place: Place, outcome: Outcome) -> None:
    visits = Visits(app, place.dice)
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
            f"{page.method} {page.path} never went well, which proves little: {dict(seen)}",
        )
    total = sum(statuses.values(), Counter[int]())
    outcome.notes.append(
        f"{len(pages)} pages and forms; statuses: {', '.join(f'{status} {count:,} times' for status, count in sorted(total.items()))}"
    )


def _pages(app: Flask) -> list[Page]:
    """Every page and form that the app has."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("console.") and not rule.arguments:
            methods = (rule.methods or set()) & {"GET", "POST"}
            found += [Page(method, rule.rule, has_form=len(methods) == 2) for method in methods]
    return sorted(found)


def _written() -> object:
    return database.db.execute_sql(WRITTEN).fetchone()


class Visits:
    """Makes the requests, for the people that there are."""

    def __init__(self, app: Flask, dice: random.Random) -> None:
        self.app = app
        self.dice = dice
        self.sheet = Path(app.instance_path) / "sheets" / "demo.csv"
        people.add_customer(ROOT, OTHER_CUSTOMER, "Other Inc.", time_zone="Pacific/Kiritimati")
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
        self.words: dict[str, tuple[str, ...]] = {}
        self.made = 0

    def _sign_in(self, user_id: str) -> str:
        return session_cookie(self.app, user_id, csrf_token=self.raw_token)

    def restock(self, number: int) -> None:
        """Have new requests to act on, and another sheet to read."""
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
                f"id /team/{deed}": ("user-123", "manager-001")
                for deed in ("person", "password", "disable", "enable")
            },
        }

    def note(self, page: Page, visit: Visit, answer: Answer) -> None:
        """Let in again whom a form has shut out."""
        if visit.who and (
            page.path == "/sign-out" or answer.headers.get("Location", "").startswith("/sign-in")
        ):
            self.cookies[visit.who] = self._sign_in(visit.who)
        if page.path == "/team/disable" and answer.status == 302:
            User.update(disabledAt=None).execute()

    def make(self, page: Page) -> Visit:
        """A request for that page."""
        dice = self.dice
        who = dice.choices([*VIEWERS], [*VIEWERS.values()])[0]
        query = self._fields(page, spoilt=dice.choice((0, 1, 2)))
        if page.method == "GET":
            return Visit(
                who, self._environ("GET", _address(page.path, query), who), has_token=False
            )
        fields = self._fields(page, spoilt=0)
        opened = self._open(page, fields, who) if page.has_form and dice.random() < 0.5 else {}
        form = fields | opened
        if not opened or dice.random() < 0.5:
            form |= self._spoilt(dice.choice((0, 1, 2)), tuple(form))
        has_token = dice.random() < 0.9
        form["csrf_token"] = (
            quote(self.token) if has_token else dice.choice(("", "x", quote(self.token[:-1])))
        )
        target = _address(page.path, fields if opened else query) if page.has_form else page.path
        environ = self._environ(
            "POST",
            target,
            who,
            "&".join(f"{name}={value}" for name, value in form.items()).encode(),
        )
        return Visit(who, environ, has_token)

    def _open(self, page: Page, fields: dict[str, str], who: str) -> dict[str, str]:
        """What the form has in it when that page is opened, but for its token."""
        shown = send(self.app, self._plain("GET", _address(page.path, fields), who))
        inputs: list[dict[str, str]] = [
            dict(re.findall(r'(name|value)="([^"]*)"', tag))
            for tag in re.findall(r"<input[^>]*>", shown.body.decode("utf-8", "replace"))
        ]
        return {
            each["name"]: quote(html.unescape(each.get("value", "")))
            for each in inputs
            if each.get("name", "csrf_token") != "csrf_token"
        }

    def _fields(self, page: Page, spoilt: int) -> dict[str, str]:
        """Values for a page, as an address has them."""
        chosen = [
            name
            for name in ("id", "budget", "source", *WORDS)
            if self.dice.random() < (0.9 if name in NEEDED else 0.3)
        ]
        return {name: quote(self._word(page.path, name)) for name in chosen} | self._spoilt(
            spoilt, ("id", "budget", "source", *WORDS)
        )

    def _word(self, path: str, name: str) -> str:
        if path == "/team/add" and name in ("id", "email"):
            self.made += 1
            return f"new-{self.made}" if name == "id" else f"new-{self.made}@example.com"
        return self.dice.choice(self.words.get(f"{name} {path}") or self.words.get(name) or ("1",))

    def _spoilt(self, count: int, names: tuple[str, ...]) -> dict[str, str]:
        return {
            name: self.dice.choice(ADDRESS_CORPUS)
            for name in self.dice.sample(names, min(count, len(names)))
        }

    def _environ(self, method: str, target: str, who: str, body: bytes = b"") -> Environ:
        dice = self.dice
        environ = self._plain(
            method if dice.random() > 0.01 else dice.choice(("HEAD", "PUT", "DELETE", "BREW")),
            target,
            who,
            body,
        )
        for name in dice.sample(HEADERS, dice.randint(1, 2)) if dice.random() < 0.1 else ():
            environ[name] = dice.choice(HEADER_CORPUS)
        if dice.random() < 0.1:
            environ["HTTP_HX_REQUEST"] = "true"
        return environ

    def _plain(self, method: str, target: str, who: str, body: bytes = b"") -> Environ:
        environ = request_environ(method, target, body)
        environ |= {
            f"HTTP_{name.upper().replace('-', '_')}": value for name, value in BROWSER.items()
        }
        if method == "POST":
            environ["CONTENT_TYPE"] = FORM
            environ["HTTP_SEC_FETCH_SITE"] = "same-origin"
        if who:
            environ["HTTP_COOKIE"] = self.cookies[who]
        return environ


def _address(path: str, query: dict[str, str]) -> str:
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}"


def _judge(visit: Visit, answer: Answer, outcome: Outcome, *, wrote: bool) -> None:
    """Hold an answer to what is promised of pages."""
    wrong = []
    environ = visit.environ
    is_page = answer.kind == HTML
    if answer.status >= 500:
        wrong.append("which is a mistake of ours")
    if (
        not is_page
        and not (answer.kind == "text/csv" and answer.status == 200)
        and answer.status not in (302, 400, 404, 405)
    ):
        wrong.append(f"which is {answer.kind}, and no page")
    if is_page and answer.status != 302 and "Content-Security-Policy" not in answer.headers:
        wrong.append("without a policy of what it may load")
    if is_page and b"<script>" in answer.body:
        wrong.append("with a script that somebody typed")
    if not _is_here(answer.headers.get("Location", "/")):
        wrong.append(f"and leads away to {answer.headers['Location']}")
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
        sent = f"{environ['REQUEST_METHOD']} {environ['RAW_URI'][:500]} by {visit.who or 'nobody'} with {headers} and {environ['wsgi.input'].getvalue()[:500]!r}"
        outcome.expect(
            holds=False,
            otherwise=f"{sent} is answered with {answer.status} {answer.body[:300]!r}, {problem}",
        )


def _is_here(location: str) -> bool:
    """Whether a browser that is led there stays at this site."""
    parts = urlsplit(location.replace("\\", "/"))
    return location.startswith("/") and not parts.netloc and not parts.scheme


def _follow(app: Flask, visit: Visit, answer: Answer, outcome: Outcome) -> None:
    """Open the page that a form leads to, with the message that it left."""
    environ = request_environ("GET", answer.headers["Location"])
    cookie: str = answer.headers.get("Set-Cookie") or visit.environ.get("HTTP_COOKIE") or ""
    environ["HTTP_COOKIE"] = cookie.partition(";")[0]
    _judge(Visit(visit.who, environ, has_token=False), send(app, environ), outcome, wrote=False)
