"""Behind proxies: client address, own origin, and the warning for a wrong setting."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from support.world import PASSWORD, ROOT, person

from app import create_app
from budget_sync import settings
from budget_sync.accounts import authentication, customers
from budget_sync.domain.permissions import Role
from budget_sync.web import proxies

CUSTOMER = "org-456"
CLIENT, OTHER_CLIENT, OUTER_PROXY = "203.0.113.9", "198.51.100.7", "10.0.0.5"

#: Logs Jane in with these headers, and returns the status of the reply.
LogIn = Callable[..., int]


@pytest.fixture
def log_in(app: Flask, environment: dict[str, str], request: pytest.FixtureRequest) -> LogIn:
    """A login through the number of proxies in the test's parameter, by default two."""
    customers.add_customer(ROOT, CUSTOMER, "Acme Inc.")
    person("jane", Role.FPA_USER, CUSTOMER)
    app_behind_proxies = create_app(
        settings.load(environment | {"TRUSTED_PROXIES": str(getattr(request, "param", 2))})
    )

    def send(headers: dict[str, str], password: str = PASSWORD) -> int:
        body = {"email": "jane@example.com", "password": password}
        return (
            app_behind_proxies.test_client(use_cookies=False)
            .post("/api/auth/login", json=body, headers=headers)
            .status_code
        )

    return send


@pytest.mark.parametrize("log_in", [1, 2, 3], indirect=True)
def test_own_origin_is_the_one_of_the_nearest_proxy(
    log_in: LogIn,
) -> None:
    for before in ("", "evil.example, "):
        proxied = {
            "X-Forwarded-For": f"{CLIENT}, {OUTER_PROXY}",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": f"{before}budgets.example.com",
        }
        assert log_in(proxied | {"Origin": "https://budgets.example.com"}) == 200
        for origin in ("https://evil.example", "http://budgets.example.com", "http://localhost"):
            assert log_in(proxied | {"Origin": origin}) == 403, origin


def test_failed_logins_count_for_the_outermost_address(log_in: LogIn) -> None:
    for number in range(authentication.MAX_FAILURES_ACCOUNT):
        assert (
            log_in({"X-Forwarded-For": f"198.51.100.{number}, {CLIENT}, {OUTER_PROXY}"}, "wrong")
            == 401
        )
    assert log_in({"X-Forwarded-For": f"{CLIENT}, {OUTER_PROXY}"}) == 429
    assert log_in({"X-Forwarded-For": f"{OTHER_CLIENT}, {OUTER_PROXY}"}) == 200


@pytest.mark.parametrize("quoted", ['"', 'x"', '192.0.2.1, "', '"a", "b', '"\\'])
def test_quotes_of_the_client_hide_no_addresses(log_in: LogIn, quoted: str) -> None:
    for _ in range(authentication.MAX_FAILURES_ACCOUNT):
        log_in({"X-Forwarded-For": f"{quoted}, {CLIENT}, {OUTER_PROXY}"}, "wrong")
    assert log_in({"X-Forwarded-For": f"{CLIENT}, {OUTER_PROXY}"}) == 429


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-For": CLIENT}, "1 address in X-Forwarded-For"),
        ({"X-Forwarded-Proto": "https"}, "0 addresses in X-Forwarded-For"),
        ({"X-Forwarded-For": f"{CLIENT}, {OUTER_PROXY}"}, None),
        # A client that bypasses the proxies, such as Prometheus.
        ({}, None),
    ],
    ids=str,
)
def test_too_few_addresses_are_logged_once_a_minute(
    app: Flask,
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    expected: str | None,
) -> None:
    client = create_app(settings.load(environment | {"TRUSTED_PROXIES": "2"})).test_client()

    def lines() -> list[str]:
        client.get("/healthz", headers=headers)
        return [
            line for line in capsys.readouterr().err.splitlines() if "TRUSTED_PROXIES is 2" in line
        ]

    warnings = lines()
    assert len(warnings) == (expected is not None)
    assert all(f"a request has {expected}" in line and " WARNING " in line for line in warnings)
    assert lines() == []
    monkeypatch.setattr(proxies, "WARN_EVERY_S", 0)
    assert len(lines()) == (expected is not None)
