"""Authentication: login, sessions, API keys, cookies, rate limits, CSRF, anonymous checks."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from flask import Flask, sessions
from support.machine import PROJECT, sqlite_only
from support.world import (
    PASSWORD,
    ROOT,
    check_body,
    commit_body,
    key_headers,
    person,
    release_body,
    reserve_body,
    slots,
)
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from app import create_app
from budget_sync import database, manual_budgets, settings
from budget_sync.accounts import api_keys, authentication, customers, last_use, passwords, people
from budget_sync.database.models import (
    ApiKey,
    BudgetCheckLog,
    BudgetUtilization,
    LoginAttempt,
    Reservation,
    Session,
    User,
)
from budget_sync.domain import clock
from budget_sync.domain.permissions import Role

pytestmark = pytest.mark.both_engines

CUSTOMER = "org-456"
JANE, MARK = "jane@example.com", "mark@example.com"
HERE, ELSEWHERE = "127.0.0.1", "203.0.113.9"
NEW_PASSWORD = "battery staple correct"

Headers = dict[str, str]

#: The calls of the ledger, each with a body.
CALLS = {
    "check": check_body(userId="jane"),
    "reserve": reserve_body(),
    "commit": commit_body(),
    "release": release_body(),
}


@pytest.fixture
def acme(app: Flask) -> Flask:
    """The app with one customer, its budget, and two users, Jane and Mark."""
    customers.add_customer(ROOT, CUSTOMER, "Acme Inc.")
    manual_budgets.set_budget(
        ROOT, CUSTOMER, "Engineering", "Q1 2025", Decimal(100_000), budget_id="budget-123"
    )
    for user_id in ("jane", "mark"):
        add_user(user_id)
    return app


def add_user(user_id: str) -> None:
    """Add a user with PASSWORD."""
    person(user_id, Role.FPA_USER, CUSTOMER)


def app_with(environment: dict[str, str], **changes: str) -> Flask:
    """Another app on the same database, with other settings."""
    return create_app(settings.load(environment | changes))


def post(
    app: Flask, path: str, body: object, headers: Headers | None = None, address: str = HERE
) -> TestResponse:
    """POST JSON from an address, with these headers and no others."""
    return app.test_client(use_cookies=False).post(
        path, json=body, headers=headers, environ_overrides={"REMOTE_ADDR": address}
    )


def log_in(
    app: Flask,
    email: str = JANE,
    password: str = PASSWORD,
    headers: Headers | None = None,
    address: str = HERE,
) -> TestResponse:
    """Sign in."""
    return post(app, "/api/auth/login", {"email": email, "password": password}, headers, address)


def cookie_of(response: TestResponse) -> Headers:
    """The session cookie of a login response, as a client sends it back."""
    assert response.status_code == 200, response.json
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


def identify(app: Flask, headers: Headers) -> str | int:
    """The user id that the service derives from these headers, or the status of its error."""
    response = app.test_client(use_cookies=False).get("/api/auth/me", headers=headers)
    return (
        str(response.get_json()["user"]["id"])
        if response.status_code == 200
        else response.status_code
    )


# Login and logout.


def test_login_returns_user_and_session(acme: Flask) -> None:
    response = log_in(acme)
    assert response.json == {
        "success": True,
        "user": {
            "id": "jane",
            "name": "Jane",
            "email": JANE,
            "role": "fpa_user",
            "customerId": CUSTOMER,
            "isTest": False,
        },
    }
    assert identify(acme, cookie_of(response)) == "jane"


def test_login_ignores_case_and_spaces_of_the_email(acme: Flask) -> None:
    assert log_in(acme, "  JANE@Example.COM ").status_code == 200


def test_logout_invalidates_every_copy_of_the_cookie(acme: Flask) -> None:
    cookie, other = cookie_of(log_in(acme)), cookie_of(log_in(acme))
    copy = dict(cookie)
    response = post(acme, "/api/auth/logout", None, cookie)
    assert response.status_code == 200
    assert "budget_sync_session=;" in response.headers["Set-Cookie"]
    assert identify(acme, copy) == 401
    assert identify(acme, other) == "jane"


def test_logout_without_a_session_succeeds(acme: Flask) -> None:
    assert post(acme, "/api/auth/logout", None).json == {"success": True}


def test_cookie_is_http_only_same_site_and_ends_with_browser(
    acme: Flask,
) -> None:
    (cookie,) = log_in(acme).headers.getlist("Set-Cookie")
    name, *flags = [part.strip() for part in cookie.split(";")]
    assert name.startswith("budget_sync_session=")
    assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=Lax"]


def test_cookie_is_secure_if_configured(acme: Flask, environment: dict[str, str]) -> None:
    secure = app_with(environment, SESSION_COOKIE_SECURE="true")
    assert "Secure" in [part.strip() for part in log_in(secure).headers["Set-Cookie"].split(";")]


def test_there_is_never_a_remember_me_cookie(acme: Flask) -> None:
    response = post(
        acme, "/api/auth/login", {"email": JANE, "password": PASSWORD, "remember": True}
    )
    assert [cookie.partition("=")[0] for cookie in response.headers.getlist("Set-Cookie")] == [
        "budget_sync_session"
    ]


def test_login_response_is_not_cached(acme: Flask) -> None:
    assert log_in(acme).headers["Cache-Control"] == "no-store"


@sqlite_only
def test_database_stores_no_usable_secret(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real cost of a hash; other tests run with a cheap one.
    monkeypatch.setattr(passwords, "generate_password_hash", generate_password_hash)
    customers.add_customer(ROOT, CUSTOMER, "Acme Inc.")
    people.add_user(
        ROOT,
        "jane",
        "Jane",
        "jane@example.com",
        Role.FPA_USER,
        customer_id=CUSTOMER,
        password=PASSWORD,
        slots_folder=slots(),
    )
    token = token_in(app, cookie_of(log_in(app)))
    secret = key_headers(CUSTOMER)["Authorization"].split("_", 2)[2]
    database.db.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = database.db.file_path.read_bytes()
    assert b"jane@example.com" in stored
    assert not [text for text in (PASSWORD, token, secret) if text.encode() in stored]
    # 32 MB and about 50 ms.
    assert str(User.get_by_id("jane").passwordHash).startswith("scrypt:32768:8:1$")


def token_in(app: Flask, cookie: Headers) -> str:
    """The session token inside the signed cookie."""
    signer = sessions.SecureCookieSessionInterface().get_signing_serializer(app)
    assert signer is not None
    return str(signer.loads(cookie["Cookie"].partition("=")[2])["_user_id"])


# Session lifetime.


def test_login_replaces_a_planted_cookie(acme: Flask) -> None:
    planted = cookie_of(log_in(acme, MARK))
    victims = cookie_of(log_in(acme, JANE, headers=planted))
    again = cookie_of(log_in(acme, JANE, headers=victims))
    assert len({planted["Cookie"], victims["Cookie"], again["Cookie"]}) == 3
    assert [identify(acme, cookie) for cookie in (planted, victims, again)] == [
        "mark",
        "jane",
        "jane",
    ]


def test_session_ends_after_twelve_hours_despite_use(acme: Flask) -> None:
    start = datetime(2025, 2, 5, 8, 0, tzinfo=UTC)
    with time_machine.travel(start, tick=False) as clock_hand:
        cookie = cookie_of(log_in(acme))
        for hours in (1, 6, 11.99):
            clock_hand.move_to(start + timedelta(hours=hours))
            assert identify(acme, cookie) == "jane"
        clock_hand.move_to(start + timedelta(hours=12))
        assert identify(acme, cookie) == 401


def test_session_expires_by_its_row_not_by_the_cookie(acme: Flask) -> None:
    cookie = cookie_of(log_in(acme))
    Session.update(expiresAt=clock.now()).execute()
    assert identify(acme, cookie) == 401


def test_disabling_a_user_ends_their_sessions_for_good(acme: Flask) -> None:
    cookies, marks = [cookie_of(log_in(acme)) for _ in range(2)], cookie_of(log_in(acme, MARK))
    people.disable_user(ROOT, "jane")
    assert [identify(acme, cookie) for cookie in cookies] == [401, 401]
    assert log_in(acme).status_code == 401
    people.enable_user(ROOT, "jane")
    assert [identify(acme, cookie) for cookie in cookies] == [401, 401]
    assert log_in(acme).status_code == 200
    assert identify(acme, marks) == "mark"


def test_disabling_a_customer_ends_its_sessions_and_keys(acme: Flask) -> None:
    cookie, key = cookie_of(log_in(acme)), key_headers(CUSTOMER)
    assert (identify(acme, cookie), identify(acme, key)) == ("jane", "None")
    customers.disable_customer(ROOT, CUSTOMER)
    assert (identify(acme, cookie), identify(acme, key)) == (401, 401)
    assert log_in(acme).status_code == 401


def test_disabled_customer_is_closed_to_every_key(
    acme: Flask,
) -> None:
    key = key_headers(None)
    assert post(acme, "/api/budget/reserve", reserve_body(), key).status_code == 200
    customers.disable_customer(ROOT, CUSTOMER)
    client = acme.test_client()
    replies = [post(acme, f"/api/budget/{call}", body, key) for call, body in CALLS.items()]
    replies += [
        client.get(f"{path}?customerId={CUSTOMER}", headers=key)
        for path in ("/api/budgets", "/api/budgets/budget-123", "/api/requests/intake-789")
    ]
    assert [(reply.status_code, reply.get_json()["code"]) for reply in replies] == [
        (400, "INVALID_CUSTOMER")
    ] * 7


def test_new_password_ends_sessions_and_the_old_password(acme: Flask) -> None:
    cookies, marks = [cookie_of(log_in(acme)) for _ in range(2)], cookie_of(log_in(acme, MARK))
    people.set_password(ROOT, "jane", NEW_PASSWORD, slots_folder=Path(acme.instance_path))
    assert [identify(acme, cookie) for cookie in cookies] == [401, 401]
    assert log_in(acme).status_code == 401
    assert identify(acme, cookie_of(log_in(acme, password=NEW_PASSWORD))) == "jane"
    assert identify(acme, marks) == "mark"


def test_revoking_a_key_affects_only_that_key_at_once(acme: Flask) -> None:
    key, other = key_headers(CUSTOMER), key_headers(CUSTOMER)
    api_keys.revoke_key(ROOT, key["Authorization"].split("_")[1])
    assert (identify(acme, key), identify(acme, other)) == (401, "None")


def replace_key(old: Headers) -> Headers:
    """A new key with the name of the old one, which is revoked."""
    new = key_headers(CUSTOMER)
    api_keys.revoke_key(ROOT, old["Authorization"].split("_")[1])
    return new


def test_partial_commit_is_replayed_after_its_key_was_replaced(acme: Flask) -> None:
    old = key_headers(CUSTOMER)
    assert post(acme, "/api/budget/reserve", reserve_body(), old).status_code == 200
    body, once = (
        commit_body(amount=1000, final=False, externalRef=None),
        {"Idempotency-Key": "invoice-1"},
    )
    first = post(acme, "/api/budget/commit", body, old | once)
    again = post(acme, "/api/budget/commit", body, replace_key(old) | once)
    assert (first.status_code, again.status_code, again.data) == (200, 200, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert BudgetUtilization.get_by_id("budget-123").committedMinor == 100_000


def test_service_keeps_its_checks_and_reservations_with_a_new_key(acme: Flask) -> None:
    old = key_headers(CUSTOMER)
    post(acme, "/api/budget/reserve", reserve_body(requestId="own"), old)
    new = replace_key(old)
    post(acme, "/api/budget/check", check_body(), new)
    assert Reservation.get().requesterId == BudgetCheckLog.get().checkedBy == "service:orchestrator"
    cancel = release_body(
        requestId="own", action="cancel", originalRequesterId="service:orchestrator"
    )
    assert post(acme, "/api/budget/release", cancel, new).status_code == 200


def test_services_with_other_names_share_no_idempotency_keys(acme: Flask) -> None:
    one, other = key_headers(CUSTOMER), key_headers(CUSTOMER, "billing")
    assert post(acme, "/api/budget/reserve", reserve_body(), one).status_code == 200
    body, once = (
        commit_body(amount=1000, final=False, externalRef=None),
        {"Idempotency-Key": "invoice-1"},
    )
    replies = [post(acme, "/api/budget/commit", body, key | once) for key in (one, other)]
    assert [reply.headers.get("Idempotent-Replayed") for reply in replies] == [None, None]


def test_service_with_the_longest_name_can_cancel(acme: Flask) -> None:
    key = key_headers(CUSTOMER, "n" * 200)
    post(acme, "/api/budget/reserve", reserve_body(), key)
    cancel = release_body(action="cancel", originalRequesterId=f"service:{'n' * 200}")
    assert post(acme, "/api/budget/release", cancel, key).status_code == 200


def last_used(key: Headers) -> datetime | None:
    """When the key was last used, as stored."""
    moment: datetime | None = ApiKey.get_by_id(key["Authorization"].split("_")[1]).lastUsedAt
    return moment


def test_last_use_of_a_key_is_written_once_a_minute(
    acme: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def transact(work: Callable[[], object]) -> object:
        written.append(work)
        return database.transact(work)

    monkeypatch.setattr(last_use, "transact", transact)
    key, start = key_headers(CUSTOMER), datetime(2025, 2, 5, 8, 0, tzinfo=UTC)
    assert last_used(key) is None
    with time_machine.travel(start, tick=False) as clock_hand:
        for seconds, count, stored_s in ((0, 1, 0), (1, 1, 0), (59, 1, 0), (60, 2, 60)):
            clock_hand.move_to(start + timedelta(seconds=seconds))
            assert identify(acme, key) == "None"
            assert (len(written), last_used(key)) == (count, start + timedelta(seconds=stored_s))
        # Another process wrote less than a minute ago.
        last_use.written_at.clear()
        clock_hand.move_to(start + timedelta(seconds=119))
        identify(acme, key)
        assert last_used(key) == start + timedelta(seconds=60)
        # The clock was wrong.
        last_use.written_at.clear()
        clock_hand.move_to(start - timedelta(days=1))
        identify(acme, key)
        assert last_used(key) == start - timedelta(days=1)


def test_invalid_key_is_not_recorded_as_used(acme: Flask) -> None:
    key = key_headers(CUSTOMER)
    assert identify(acme, {"Authorization": f"{key['Authorization']}x"}) == 401
    assert last_used(key) is None


@pytest.mark.parametrize("fault", ["write fails", "write hangs", "no thread"])
def test_request_succeeds_without_the_write_of_the_last_use(
    acme: Flask, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    ended = threading.Event()

    def fail(*_: object, **__: object) -> None:
        if fault == "write hangs":
            ended.wait(30)
        raise RuntimeError("can't start new thread")

    if fault == "no thread":
        monkeypatch.setattr(
            last_use, "threading", SimpleNamespace(Event=threading.Event, Thread=fail)
        )
    else:
        monkeypatch.setattr(last_use, "transact", fail)
    key = key_headers(CUSTOMER)
    try:
        assert identify(acme, key) == "None"
    finally:
        ended.set()
    assert last_used(key) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda: people.disable_user(ROOT, "jane"),
        lambda: customers.disable_customer(ROOT, CUSTOMER),
        lambda: User.update(passwordHash="changed").where(User.id == "jane").execute(),
    ],
    ids=["user disabled", "customer disabled", "password changed"],
)
def test_change_during_password_verification_counts(
    acme: Flask, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]
) -> None:
    verify = passwords.verify

    def slowly(*args: object) -> bool:
        is_correct = verify(*args)  # type: ignore[arg-type]  # passes its arguments on
        change()
        return is_correct

    monkeypatch.setattr(passwords, "verify", slowly)
    assert log_in(acme).status_code == 401
    assert Session.select().count() == 0


def test_invalid_cookie_is_an_error_not_an_anonymous_call(
    acme: Flask, environment: dict[str, str]
) -> None:
    cookie = cookie_of(log_in(acme))["Cookie"]
    elsewhere = cookie_of(
        log_in(app_with(environment, SECRET_KEY="another key, long enough as well"))
    )["Cookie"]
    signer = sessions.SecureCookieSessionInterface().get_signing_serializer(acme)
    assert signer is not None
    unknown = f"budget_sync_session={signer.dumps({'_user_id': 'no such token', '_fresh': True})}"
    no_user = f"budget_sync_session={signer.dumps({})}"
    by_user_id = f"budget_sync_session={signer.dumps({'_user_id': 'jane', '_fresh': True})}"
    by_hash = (
        f"budget_sync_session={signer.dumps({'_user_id': Session.get().tokenHash, '_fresh': True})}"
    )
    bad = [
        elsewhere,
        cookie[:-1],
        f"{cookie}A",
        unknown,
        no_user,
        by_user_id,
        by_hash,
        "budget_sync_session=",
        "budget_sync_session=\xff",
    ]
    for text in bad:
        assert identify(acme, {"Cookie": text}) == 401, text
        assert post(acme, "/api/budget/check", check_body(), {"Cookie": text}).status_code == 401, (
            text
        )


def test_every_failed_login_gets_the_same_response(acme: Flask) -> None:
    add_user("gone")
    people.disable_user(ROOT, "gone")
    people.add_user(
        ROOT,
        "new",
        "New",
        "new@example.com",
        Role.FPA_USER,
        customer_id=CUSTOMER,
        password=None,
        slots_folder=Path(acme.instance_path),
    )
    answers = [
        log_in(acme, JANE, "wrong"),
        log_in(acme, "unknown@example.com"),
        log_in(acme, "not an address"),
        log_in(acme, "gone@example.com"),
        log_in(acme, "new@example.com"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.data for answer in answers}) == 1
    assert not any("Set-Cookie" in answer.headers for answer in answers)


# Rate limits.


def guess(
    app: Flask, count: int, email: str = JANE, address: str = HERE, headers: Headers | None = None
) -> list[int]:
    """Try wrong passwords `count` times; returns the statuses."""
    return [
        log_in(app, email, f"guess {number}", headers, address).status_code
        for number in range(count)
    ]


def test_correct_password_waits_after_five_wrong_ones(acme: Flask) -> None:
    assert guess(acme, 6) == [401] * 5 + [429]
    response = log_in(acme)
    assert (response.status_code, response.get_json()["code"]) == (429, "TOO_MANY_ATTEMPTS")
    assert 0 < int(response.headers["Retry-After"]) <= 15 * 60


def test_failed_logins_do_not_lock_out_other_addresses(acme: Flask) -> None:
    guess(acme, 6)
    assert log_in(acme, JANE, address=ELSEWHERE).status_code == 200
    assert log_in(acme, MARK).status_code == 200


def test_limit_applies_to_every_spelling_of_the_email(acme: Flask) -> None:
    guess(acme, 3)
    assert guess(acme, 3, " JANE@EXAMPLE.COM") == [401, 401, 429]


def test_success_clears_the_count(acme: Flask) -> None:
    for _ in range(3):
        assert guess(acme, 4) == [401] * 4
        assert log_in(acme).status_code == 200


def test_success_does_not_clear_another_accounts_count(acme: Flask) -> None:
    guess(acme, 5)
    log_in(acme, MARK)
    assert log_in(acme).status_code == 429


def test_wait_ends_at_retry_after_despite_more_attempts(
    acme: Flask,
) -> None:
    with time_machine.travel(datetime(2025, 2, 5, 8, 0, tzinfo=UTC), tick=False) as clock_hand:
        guess(acme, 5)
        clock_hand.shift(60)
        wait_s = int(log_in(acme).headers["Retry-After"])
        assert wait_s == 14 * 60
        clock_hand.shift(wait_s - 1)
        assert log_in(acme).status_code == 429
        clock_hand.shift(1)
        assert log_in(acme).status_code == 200


def test_clock_that_was_ahead_locks_no_account(acme: Flask) -> None:
    with time_machine.travel(datetime(2035, 1, 1, tzinfo=UTC)):
        guess(acme, 5)
    assert log_in(acme).status_code == 200


def test_address_is_limited_to_fifty_guesses_in_total(acme: Flask) -> None:
    for number in range(10):
        add_user(f"user-{number}")
        assert guess(acme, 5, f"user-{number}@example.com") == [401] * 5
    assert log_in(acme, MARK).status_code == 429
    assert log_in(acme, MARK, address=ELSEWHERE).status_code == 200


def test_hundred_simultaneous_guesses_count_as_a_hundred(app: Flask) -> None:
    customers.add_customer(ROOT, CUSTOMER, "Acme Inc.")
    # At full cost, computing a hash leaves time for other guesses to overlap.
    person("jane", Role.FPA_USER, CUSTOMER)
    # A hundred requests wait for one disk, which can exceed the usual timeout on a busy machine.
    database.db.obj.busy_timeout_s = 30.0
    start = threading.Barrier(10)

    def ten(_: int) -> list[int]:
        start.wait()
        try:
            return guess(app, 10)
        finally:
            database.close_connection()

    with ThreadPoolExecutor(10) as pool:
        statuses = [status for ten_statuses in pool.map(ten, range(10)) for status in ten_statuses]
    assert sorted(statuses) == [401] * 5 + [429] * 95
    assert LoginAttempt.select().count() == 5


def test_limit_is_shared_by_all_workers(acme: Flask, environment: dict[str, str]) -> None:
    another = app_with(environment)
    assert guess(acme, 3) + guess(another, 3) == [401] * 5 + [429]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("203.0.113.9", "203.0.113.10", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.9", "203.0.113.9", True),
        ("::ffff:203.0.113.9", "::ffff:203.0.113.10", False),
        ("203.0.113.9:40001", "203.0.113.9:40002", True),
        ("203.0.113.9:40001", "203.0.113.10:40001", False),
        ("[2001:db8:1:2::1]:40001", "[2001:db8:1:2::2]:40002", True),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::2", True),
    ],
)
def test_network_is_ipv4_address_or_ipv6_subscriber(
    acme: Flask, first: str, second: str, is_same: bool
) -> None:
    guess(acme, 5, address=first)
    assert log_in(acme, address=second).status_code == (429 if is_same else 200)


def test_forged_client_address_has_no_effect(acme: Flask) -> None:
    for number in range(5):
        guess(
            acme,
            1,
            headers={
                "X-Forwarded-For": f"198.51.100.{number}",
                "X-Real-IP": f"198.51.100.{number}",
                "Forwarded": f"for=198.51.100.{number}",
            },
        )
    assert log_in(acme, headers={"X-Forwarded-For": "198.51.100.99"}).status_code == 429


def test_trusted_proxy_provides_the_client_address(
    acme: Flask, environment: dict[str, str]
) -> None:
    behind = app_with(environment, TRUSTED_PROXIES="1")
    for number in range(5):
        # The first entries are the client's own claim; the proxy appends the last.
        guess(behind, 1, headers={"X-Forwarded-For": f"198.51.100.{number}, {ELSEWHERE}"})
    assert (
        log_in(behind, headers={"X-Forwarded-For": f"198.51.100.99, {ELSEWHERE}"}).status_code
        == 429
    )
    assert log_in(behind, headers={"X-Forwarded-For": "198.51.100.7"}).status_code == 200


# Concurrent password hashes.


@contextmanager
def hashing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a hashing slot until its standard input is closed."""
    code = (
        "import sys, pathlib; from budget_sync.accounts import passwords\n"
        "with passwords._slot(pathlib.Path(sys.argv[1])):"
        " print('computing', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "computing\n"
        try:
            yield process
        finally:
            process.kill()


def test_at_most_two_hashes_run_at_once_on_the_machine(
    acme: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_WAIT_S", 0.1)
    folder = Path(acme.instance_path)
    with hashing(folder):
        assert log_in(acme).status_code == 200
        with hashing(folder) as second:
            busy, unknown = log_in(acme), log_in(acme, "unknown@example.com")
            assert (busy.status_code, busy.get_json()["code"], busy.headers["Retry-After"]) == (
                503,
                "UNAVAILABLE",
                "2",
            )
            # An unknown account costs a hash too, so that response times reveal nothing.
            assert unknown.status_code == 503
            second.kill()
            second.wait()
            assert log_in(acme).status_code == 200


def test_hash_runs_inside_a_slot_also_for_unknown_account(
    acme: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def compute(*args: object) -> Any:
            held.append(len(locked(Path(acme.instance_path))))
            return function(*args)

        return compute

    for name in ("check_password_hash", "generate_password_hash"):
        monkeypatch.setattr(passwords, name, watched(getattr(passwords, name)))
    assert log_in(acme).status_code == 200
    assert log_in(acme, "unknown@example.com").status_code == 401
    people.set_password(ROOT, "jane", NEW_PASSWORD, slots_folder=Path(acme.instance_path))
    assert len(held) >= 3
    assert set(held) == {1}
    assert locked(Path(acme.instance_path)) == []


def locked(folder: Path) -> list[str]:
    """The hashing slots in use."""
    taken = []
    for path in sorted(folder.glob("password-slot-*.lock")):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken.append(path.name)
    return taken


# API keys.


def test_key_works_with_any_spelling_of_the_scheme(acme: Flask) -> None:
    headers = key_headers(CUSTOMER)
    while "_" not in headers["Authorization"].split("_", 2)[2]:
        headers = key_headers(CUSTOMER)
    _, _, key = headers["Authorization"].partition(" ")
    for text in (f"Bearer {key}", f"bearer {key}", f"BEARER  {key} "):
        assert identify(acme, {"Authorization": text}) == "None", text


def test_invalid_key_is_an_error_not_an_anonymous_call(acme: Flask) -> None:
    cookie = cookie_of(log_in(acme))
    _, _, key = key_headers(CUSTOMER)["Authorization"].partition(" ")
    prefix, key_id, secret = key.split("_", 2)
    _, other_id, _ = key_headers(CUSTOMER)["Authorization"].split("_", 2)
    bad = [
        "",
        "Bearer",
        "Bearer ",
        key,
        f"Basic {key}",
        f"Bearer{key}",
        f"Bearer {secret}",
        f"Bearer {key_id}",
        f"Bearer {key_id}_{secret}",
        f"Bearer {prefix}_{key_id}",
        f"Bearer {prefix}_{key_id}_",
        f"Bearer {prefix}_{key_id}_{secret[:-1]}",
        f"Bearer {prefix}_{key_id}_{secret}x",
        f"Bearer {prefix}_{key_id}_{authentication.digest(secret)}",
        f"Bearer {prefix}_{other_id}_{secret}",
        f"Bearer {prefix}__{secret}",
        f"Bearer {prefix}_{key_id.upper()}x_{secret}",
        f"Bearer pk_{key_id}_{secret}",
        f"Bearer {key},Bearer {key}",
        "Bearer bsk_\xff_\xff",
        f"Bearer {'x' * 5000}",
        f"Bearer {'_' * 5000}",
    ]
    for text in bad:
        response = acme.test_client(use_cookies=False).get(
            "/api/auth/me", headers={"Authorization": text}
        )
        assert (response.status_code, response.get_json()["code"]) == (
            401,
            "AUTHENTICATION_REQUIRED",
        ), text
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="budget-sync"'
        # Neither a valid session in the same request nor an anonymous check compensates.
        assert identify(acme, {"Authorization": text} | cookie) == 401, text
        assert (
            post(acme, "/api/budget/check", check_body(), {"Authorization": text}).status_code
            == 401
        ), text


def test_key_in_the_url_is_ignored(acme: Flask) -> None:
    _, _, key = key_headers(CUSTOMER)["Authorization"].partition(" ")
    assert (
        acme.test_client()
        .get("/api/auth/me", query_string={"key": key, "api_key": key, "access_token": key})
        .status_code
        == 401
    )


# Cross-site requests.

WRITING: dict[str, object] = {
    **{f"/api/budget/{call}": body for call, body in CALLS.items()},
    "/api/auth/logout": None,
    "/api/auth/login": {"email": JANE, "password": PASSWORD},
}
CROSS_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:8001"},
    {"Origin": "https://localhost"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]
SAME_ORIGIN = [
    {},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("path", WRITING)
def test_cross_site_page_cannot_use_a_session(acme: Flask, path: str) -> None:
    cookie = cookie_of(log_in(acme))
    before = database.db.execute_sql(
        'SELECT COUNT(*), (SELECT COUNT(*) FROM "BudgetCheckLog") FROM "AuditLog"'
    ).fetchone()
    for headers in CROSS_SITE:
        response = post(acme, path, WRITING[path], cookie | headers)
        assert (response.status_code, response.get_json()["code"]) == (403, "CROSS_ORIGIN"), headers
        assert "Set-Cookie" not in response.headers
    assert (
        before
        == database.db.execute_sql(
            'SELECT COUNT(*), (SELECT COUNT(*) FROM "BudgetCheckLog") FROM "AuditLog"'
        ).fetchone()
    )
    assert identify(acme, cookie) == "jane"


@pytest.mark.parametrize("path", WRITING)
def test_same_origin_pages_and_programs_can_post(acme: Flask, path: str) -> None:
    for headers in SAME_ORIGIN:
        response = post(acme, path, WRITING[path], cookie_of(log_in(acme)) | headers)
        assert response.get_json().get("code") != "CROSS_ORIGIN", headers
        assert response.status_code != 403, headers


def test_cross_site_page_cannot_use_the_anonymous_check(
    acme: Flask,
) -> None:
    for headers in CROSS_SITE:
        assert check(acme, headers=headers) == 403, headers


def test_api_key_works_from_any_origin(
    acme: Flask,
) -> None:
    assert (
        post(
            acme, "/api/budget/check", check_body(), key_headers(CUSTOMER) | CROSS_SITE[0]
        ).status_code
        == 200
    )


def test_reading_needs_no_origin(acme: Flask) -> None:
    assert (
        identify(
            acme,
            cookie_of(log_in(acme))
            | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        )
        == "jane"
    )


@pytest.mark.parametrize("path", [path for path, body in WRITING.items() if body])
def test_bodies_of_html_forms_are_not_parsed(acme: Flask, path: str) -> None:
    cookie = cookie_of(log_in(acme))
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        None,
    ):
        response = acme.test_client(use_cookies=False).post(
            path, data=acme.json.dumps(WRITING[path]), content_type=content_type, headers=cookie
        )
        assert (response.status_code, response.get_json()["code"]) == (
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ), content_type


def test_trusted_proxy_provides_our_own_origin(acme: Flask, environment: dict[str, str]) -> None:
    behind = app_with(environment, TRUSTED_PROXIES="1")
    proxied = {
        "X-Forwarded-For": ELSEWHERE,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "budgets.example.com",
    }
    assert (
        log_in(behind, headers=proxied | {"Origin": "https://budgets.example.com"}).status_code
        == 200
    )
    for origin in ("http://budgets.example.com", "http://localhost", "https://evil.example"):
        assert log_in(behind, headers=proxied | {"Origin": origin}).status_code == 403, origin
    # Without a trusted proxy, any client could send these headers.
    assert (
        log_in(
            app_with(environment), headers=proxied | {"Origin": "https://budgets.example.com"}
        ).status_code
        == 403
    )


# Anonymous checks.


def check(app: Flask, address: str = HERE, headers: Headers | None = None) -> int:
    """The status of an anonymous check."""
    return post(app, "/api/budget/check", check_body(), headers, address).status_code


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_the_guides_check_works_on_the_same_machine(acme: Flask, address: str) -> None:
    for host in (
        "localhost",
        "localhost:8000",
        "LOCALHOST",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]",
        "[::1]:8000",
    ):
        assert check(acme, address, {"Host": host}) == 200, host


def test_anonymous_check_needs_a_local_address(acme: Flask) -> None:
    for address in (
        ELSEWHERE,
        "10.0.0.5",
        "192.168.1.1",
        "169.254.0.1",
        "::",
        "fe80::1",
        "2001:db8::1",
        "::ffff:203.0.113.9",
        "",
        "x",
    ):
        assert check(acme, address) == 401, address


def test_anonymous_check_needs_a_local_host_name(acme: Flask) -> None:
    for host in (
        "budgets.example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "example.com:8000",
        ELSEWHERE,
        "[2001:db8::1]:80",
    ):
        assert check(acme, headers={"Host": host}) == 401, host


@pytest.mark.parametrize("proxies", ["0", "1"])
@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
    ],
)
def test_anonymous_check_never_works_through_a_proxy(
    acme: Flask, environment: dict[str, str], header: str, proxies: str
) -> None:
    app = app_with(environment, TRUSTED_PROXIES=proxies)
    for value in ("127.0.0.1", "for=127.0.0.1", "localhost", "1.1 localhost", ""):
        assert check(app, headers={header: value}) == 401, value


@pytest.mark.parametrize(
    ("mode", "here", "elsewhere", "proxied"),
    [("local", 200, 401, 401), ("open", 200, 200, 200), ("required", 401, 401, 401)],
)
def test_budget_check_auth_decides_on_anonymous_checks(
    acme: Flask, environment: dict[str, str], mode: str, here: int, elsewhere: int, proxied: int
) -> None:
    app = app_with(environment, BUDGET_CHECK_AUTH=mode)
    assert check(app) == here
    assert check(app, ELSEWHERE, {"Host": "budgets.example.com"}) == elsewhere
    assert check(app, headers={"X-Forwarded-For": ELSEWHERE}) == proxied


@pytest.mark.parametrize("mode", ["local", "open", "required"])
def test_credentials_are_always_verified(
    acme: Flask, environment: dict[str, str], mode: str
) -> None:
    app = app_with(environment, BUDGET_CHECK_AUTH=mode)
    assert check(app, ELSEWHERE, key_headers(CUSTOMER)) == 200
    assert check(app, HERE, {"Authorization": "Bearer wrong"}) == 401
    customers.add_customer(ROOT, "org-789", "Umbrella")
    response = post(app, "/api/budget/check", check_body(), key_headers("org-789"))
    assert (response.status_code, response.get_json()["fields"]) == (
        400,
        {"customerId": "is not a customer you can act for"},
    )
    assert response.get_json()["error"] == "Invalid customer"


@pytest.mark.parametrize(
    "path", ["/api/budget/reserve", "/api/budget/commit", "/api/budget/release"]
)
def test_only_check_allows_anonymous_callers(
    acme: Flask, environment: dict[str, str], path: str
) -> None:
    assert (
        post(app_with(environment, BUDGET_CHECK_AUTH="open"), path, WRITING[path]).status_code
        == 401
    )
