"""What every test can ask for: an app on a database of its own, the guide's world in it, a fixed cast, a running server.

With TEST_ENGINE=postgresql that database is PostgreSQL's, for the tests whose subject is no engine's own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psycopg
import pytest
import requests
import warm
from babel.numbers import get_currency_precision
from flask import Flask
from flask.testing import FlaskClient
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from werkzeug.routing import Rule
from werkzeug.security import generate_password_hash

from app import create_app
from budget_sync import database, settings
from budget_sync.accounts import passwords, people
from budget_sync.database.models import User
from budget_sync.domain import money
from budget_sync.domain.permissions import Actor, Role, operator
from budget_sync.operations import demo
from budget_sync.settings import Settings

if TYPE_CHECKING:
    # It needs an installation to make one.
    from templates import Start, Templates

PROJECT = Path(__file__).resolve().parent.parent
pytest_plugins = ["postgres", "templates", "console_site"]

#: What builds a route's URLs.
Builder = Callable[..., tuple[str, str]]

#: The engine that tests run on which take their database from here.
ENGINE = os.environ.get("TEST_ENGINE", "sqlite")

#: For tests of what SQLite alone has: its file, its locks, its faults.
sqlite_only = pytest.mark.skipif(ENGINE != "sqlite", reason="about SQLite")

#: For tests of what root makes for others.
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may give files away")

#: The user id of somebody who has nothing but what was given to them.
NOBODY = 65534

PASSWORD = "correct horse battery"

#: How many a server has that is not told how many.
WORKERS = 2

#: The shell's actor.
ROOT = operator("root")


#: The files whose tests take longest.
LONG = ("test_console_browser", "test_prove")

#: A folder in memory, where a sync costs nothing, and the room that tests may need there.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108  # whoever uses it makes a folder of their own in it


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files in memory, where there is room for them, and what each test's app would compile anew."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        os.environ.setdefault("TMPDIR", str(MEMORY))
        # Asked for already, by pytest's own capturing.
        tempfile.tempdir = None
    monkeypatch = pytest.MonkeyPatch()
    # Three quarters of what a new app costs.
    monkeypatch.setattr(Rule, "_compile_builder", _compile_once(Rule._compile_builder))  # noqa: SLF001  # nothing public does it once
    # A password's hash is as the service makes it, but costs nothing: what it costs, and that it is always paid, is test_logins' subject.
    monkeypatch.setattr(passwords, "generate_password_hash", partial(generate_password_hash, method="scrypt:256:8:1"))
    config.add_cleanup(monkeypatch.undo)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that whoever shares the tests ends with short ones, and at the same time as the others."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def _compile_once(compile_builder: Callable[[Rule, bool], Builder]) -> Callable[[Rule, bool], Builder]:
    """Werkzeug's compiler of what builds a route's URLs, which makes the same of the same route for every app."""
    made: dict[str, Builder] = {}

    def compile_or_take(rule: Rule, append_unknown: bool = True) -> Builder:
        # All that it looks at.
        looked_at = repr((rule.rule, rule._trace, rule.defaults, append_unknown))  # noqa: SLF001  # of its own kind
        if looked_at not in made:
            made[looked_at] = compile_builder(rule, append_unknown)
        return made[looked_at]

    return compile_or_take


def needs(present: object, what: str) -> None:
    """Skip a test where the machine lacks something; with REQUIRE_ALL set, as in CI, that is a failure."""
    if present:
        return
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture
def environment(tmp_path: Path, templates: Templates, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of one installation, in a folder of its own, begun as far as the test's other fixtures need it."""
    start: Start = "world" if "guides_world" in request.fixturenames else "tables" if "app" in request.fixturenames else "nothing"
    with templates.copy(start, tmp_path / "instance") as made:
        yield made


@pytest.fixture
def guides_world() -> None:
    """Asks for the guide's world in that installation."""


@pytest.fixture
def chosen(environment: dict[str, str]) -> Settings:
    """The settings of that installation, with a short wait for locks."""
    loaded = settings.load(environment)
    return Settings(**{name: getattr(loaded, name) for name in loaded.__dataclass_fields__} | {"busy_timeout_s": 1.0})


@pytest.fixture
def app(chosen: Settings) -> Iterator[Flask]:
    """An app on a fresh database with the tables made."""
    # They are there, unless a fixture asked for this one only when it ran.
    chosen.instance_folder.mkdir(parents=True, exist_ok=True)
    database.connect(chosen.database, create=True)
    database.init_schema()
    made = create_app(chosen)
    yield made
    database.disconnect()


@pytest.fixture
def world(guides_world: None, app: Flask) -> Flask:
    """The app with the guide's world loaded: org-456, budget-123, Jane, Fiona (FP&A), Alex (admin)."""
    return app


@pytest.fixture
def client(world: Flask) -> FlaskClient:
    """A client without credentials, in the guide's world."""
    return world.test_client()


def cheap_hash(password: str = PASSWORD) -> str:
    """A password's hash that costs nothing to make and to compare with, for tests that are not about the hash."""
    return generate_password_hash(password, method="pbkdf2:sha256:1")


def person(user_id: str, role: Role, customer_id: str | None = demo.CUSTOMER) -> Actor:
    """A user, stored, with PASSWORD; and the actor they are."""
    email = f"{user_id}@example.com"
    people.add_user(ROOT, user_id, user_id.title(), email, role, customer_id=customer_id, password=None, slots_folder=slots())
    User.update(passwordHash=cheap_hash()).where(User.id == user_id).execute()
    return Actor(principal=f"user:{user_id}", user_id=user_id, name=user_id.title(), email=email, role=role, customer_id=customer_id)


def slots() -> Path:
    """Where the password slots may be kept."""
    return Path(database.db.file_path).parent if database.is_file() else Path(tempfile.gettempdir())


@contextmanager
def without_checks(table: str, constraint: str) -> Iterator[None]:
    """Let a test write what the database refuses."""
    if ENGINE == "sqlite":
        database.db.execute_sql("PRAGMA ignore_check_constraints = 1")
    else:
        database.db.execute_sql(f'ALTER TABLE "{table}" DROP CONSTRAINT "{constraint}"')
    yield
    if ENGINE == "sqlite":
        database.db.execute_sql("PRAGMA ignore_check_constraints = 0")


#: So many budgets of the largest amount there is add up to more than 64 bits hold.
ROWS_OVER_64_BITS = 9_300


def insert_vast_budgets(customer_id: str) -> int:
    """A department's budgets of the largest amount, all of it reserved, written past the ledger; returns their sum in minor units of USD."""
    amount_minor = money.LIMIT_MINOR - 1
    rows = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS_OVER_64_BITS}) SELECT '{customer_id}-' || i, '{customer_id}'"
    columns = '"department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "createdAt", "updatedAt"'
    at = "'2025-01-01T00:00:00.000000Z'"
    database.db.execute_sql(
        f'INSERT INTO "Budget" ("id", "customerId", {columns})'
        f" {rows}, 'Vast', 'vast', 'Year ' || i, 'year ' || i, 'USD', 2, {amount_minor}, {at}, {at} FROM n"
    )
    database.db.execute_sql(f'INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor") {rows}, 2, {amount_minor} FROM n')
    return ROWS_OVER_64_BITS * amount_minor


def make_fault(event: str, table: str) -> None:
    """Let an event on a table fail with "a fault", by a trigger."""
    if ENGINE == "sqlite":
        database.db.execute_sql(f"""CREATE TRIGGER "fault" BEFORE {event} ON "{table}" BEGIN SELECT RAISE(ABORT, 'a fault'); END""")
        return
    raising = "RAISE EXCEPTION 'a fault' USING ERRCODE = 'integrity_constraint_violation'"
    database.db.execute_sql(f'CREATE FUNCTION "fault"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {raising}; END $$')
    database.db.execute_sql(f'CREATE TRIGGER "fault" BEFORE {event} ON "{table}" FOR EACH ROW EXECUTE FUNCTION "fault"()')


def key_headers(customer_id: str | None = demo.CUSTOMER, name: str = "orchestrator", **options: bool) -> dict[str, str]:
    """The header of a new API key."""
    return {"Authorization": f"Bearer {people.add_key(ROOT, name, customer_id=customer_id, **options)}"}


def sign_in(app: Flask, email: str, password: str = PASSWORD) -> FlaskClient:
    """A client with that person's session."""
    client = app.test_client()
    response = client.post("/api/auth/login", json={"email": email, "password": password})
    assert response.status_code == 200, response.json
    return client


def demo_client(app: Flask, file: str) -> FlaskClient:
    """A client signed in as one of the demo's people: jane, fiona or alex."""
    login = json.loads((demo.demo_folder(Path(app.instance_path)) / f"{file}.json").read_text(encoding="utf-8"))
    return sign_in(app, login["email"], login["password"])


def check_body(**changes: Any) -> dict[str, Any]:
    """The guide's check, with changes; None leaves a field out."""
    body = {
        "requestId": "intake-789",
        "userId": "user-123",
        "userName": "Jane Doe",
        "userEmail": "jane@acme.com",
        "customerId": "org-456",
        "department": "Engineering",
        "fiscalPeriod": "Q1 2025",
        "amount": 5000,
        "vendor": "Slack",
        "purpose": "Team collaboration",
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def reserve_body(**changes: Any) -> dict[str, Any]:
    """The guide's reserve, with changes; None leaves a field out."""
    body = {"budgetId": "budget-123", "amount": 5000, "requestId": "intake-789", "reason": "Slack - Team collaboration"} | changes
    return {name: value for name, value in body.items() if value is not None}


def release_body(**changes: Any) -> dict[str, Any]:
    """The guide's release by reject, with changes; None leaves a field out."""
    body = {"budgetId": "budget-123", "amount": 5000, "requestId": "intake-789", "action": "reject", "reason": "Duplicate subscription found"} | changes
    return {name: value for name, value in body.items() if value is not None}


def commit_body(**changes: Any) -> dict[str, Any]:
    """A commit of the guide's reservation, with changes; None leaves a field out."""
    body = {"budgetId": "budget-123", "amount": 5000, "requestId": "intake-789", "reason": "Invoice paid", "externalRef": "PO-1002"} | changes
    return {name: value for name, value in body.items() if value is not None}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def found(target: Path | str, sql: str) -> list[Any]:
    """What anybody with the database finds in it with a statement, on a connection of their own: that file, or that URL's."""
    with closing(psycopg.connect(target) if isinstance(target, str) else sqlite3.connect(f"{target.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows: list[Any] = connection.execute(sql).fetchall()
    return rows


@dataclass
class Installation:
    """A whole installation as an operator has it: a folder, commands, and a server that can be started and stopped."""

    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[str] | warm.Warm | None = None
    #: What its processes have instead of a module's own constants, by their full names: shorter time-outs, above all.
    constants: dict[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The instance folder."""
        return Path(self.environment["INSTANCE_FOLDER"])

    @property
    def database(self) -> Path:
        """The database file."""
        return self.folder / "budget_sync.db"

    @property
    def target(self) -> Path | str:
        """The database: its URL on PostgreSQL, else its file."""
        return self.environment.get("DATABASE_URL") or self.database

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.port}"

    def full_environment(self) -> dict[str, str]:
        """The installation's environment over this process's own."""
        return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | self.environment

    def flask(self, *arguments: str, check: bool = True, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator would; what it has printed."""
        environment = self.full_environment()
        if self._may_be_warm(environment):
            done = warm.run(arguments, environment, self.constants, timeout=timeout)
        else:
            line = [sys.executable, "-m", "flask", *arguments]
            done = subprocess.run(line, cwd=PROJECT, env=environment, text=True, capture_output=True, check=False, timeout=timeout)
        if check:
            done.check_returncode()
        return done

    def _may_be_warm(self, environment: dict[str, str]) -> bool:
        """Whether a command need not start with Python: in `make prove`, what a start takes is a part of what is tried."""
        may_be = "PYTEST_VERSION" in os.environ and not warm.comes_too_late(environment)
        assert may_be or not self.constants, "only what is forked can have other constants"
        return may_be

    def start(self, *options: str) -> None:
        """Start the server, and wait until it is ready, with all its workers: the first of them answers for the service."""
        self.launch(*options)
        workers = int(options[options.index("--workers") + 1]) if "--workers" in options else WORKERS
        wait_until(lambda: self._is_ready() and self._worker_count() in (None, workers), f"the server does not answer:\n{self.log}", timeout_s=60)

    def launch(self, *options: str) -> None:
        """Start the server, and wait for nothing."""
        with (self.folder / "server.log").open("a", encoding="utf-8") as log, open(os.devnull, encoding="ascii") as nothing:
            # In a group of its own, so that it can be killed together with its workers.
            self.server = self.begin(("serve", "--port", str(self.port), *options), [nothing, log, log], own_group=True)

    def begin(self, arguments: Sequence[str], files: Sequence[IO[Any]], *, own_group: bool = False) -> subprocess.Popen[str] | warm.Warm:
        """Start a command with these files as its standard ones, and wait for nothing."""
        environment = self.full_environment()
        if self._may_be_warm(environment):
            return warm.Warm(arguments, environment, self.constants, files, own_group=own_group)
        line, (stdin, stdout, stderr) = [sys.executable, "-m", "flask", *arguments], files
        return subprocess.Popen(
            line, cwd=PROJECT, env=environment, text=True, stdin=stdin, stdout=stdout, stderr=stderr, process_group=0 if own_group else None
        )

    def _is_ready(self) -> bool:
        assert self.server is not None
        assert self.server.poll() is None, self.log
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        except requests.ConnectionError:
            return False

    @property
    def workers(self) -> list[int]:
        """The process ids of the server's workers, by the /proc of Linux."""
        assert self.server is not None
        children = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children")
        return sorted(int(child) for child in children.read_text(encoding="ascii").split())

    def _worker_count(self) -> int | None:
        """How many workers there are; None where there is no /proc of Linux to say it."""
        return len(self.workers) if Path("/proc/self/task").exists() else None

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "server.log").read_text(encoding="utf-8")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server and wait for its end; returns its exit status."""
        assert self.server is not None
        if self.server.poll() is None:
            self.server.send_signal(with_signal)
        status = self.server.wait(timeout=60)
        self.server = None
        return status

    def end(self) -> None:
        """Kill the server, if it runs, and its workers with it: they would keep their connections to the database for a while."""
        if self.server is not None:
            if self.server.poll() is None:
                os.killpg(self.server.pid, signal.SIGKILL)
            self.stop()

    def post(self, path: str, body: object, **options: Any) -> requests.Response:
        """POST JSON to the server."""
        return requests.post(f"{self.url}{path}", json=body, timeout=30, **options)

    def key(self) -> dict[str, str]:
        """The header of the demo's orchestrator."""
        name, _, value = (self.folder / "demo" / "orchestrator.header").read_text(encoding="utf-8").strip().partition(": ")
        return {name: value}

    def session(self, file: str) -> requests.Session:
        """A session of one of the demo's people: jane, fiona or alex."""
        session = requests.Session()
        login = (self.folder / "demo" / f"{file}.json").read_text(encoding="utf-8")
        response = session.post(f"{self.url}/api/auth/login", data=login, headers={"Content-Type": "application/json"}, timeout=30)
        assert response.status_code == 200, response.text
        return session


def session_cookie(session: requests.Session) -> str:
    """The cookie of a person's session."""
    cookie: str | None = session.cookies.get("budget_sync_session")
    assert cookie is not None
    return cookie


def as_nobody(work: Callable[[], Any]) -> Any:
    """What a work comes to in a process of NOBODY's, as JSON has it. For root alone, who can become another.

    Python may lie where NOBODY cannot import from: what the work needs of it has been imported before.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent tells of it
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        told = json.load(said)
    os.waitpid(pid, 0)
    return told


def wait_until(holds: Callable[[], bool], otherwise: str, timeout_s: float = 20) -> None:
    """Wait for something to hold; fail with `otherwise` where it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


@pytest.fixture
def installation(guides_world: None, environment: dict[str, str]) -> Iterator[Installation]:
    """An installation with the guide's world loaded, its server not started."""
    made = Installation(environment)
    yield made
    made.end()


@pytest.fixture
def server(installation: Installation) -> Installation:
    """An installation with the guide's world loaded and its server running."""
    installation.start()
    return installation


@contextmanager
def yen_of(decimals: int) -> Iterator[None]:
    """Meanwhile the yen has so many decimals, as in another version of the currency tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(money, "get_currency_precision", lambda currency: decimals if currency == "JPY" else get_currency_precision(currency))
        money.currency_exponent.cache_clear()
        yield
    money.currency_exponent.cache_clear()
