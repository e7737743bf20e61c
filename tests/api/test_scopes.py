"""A key with one scope makes exactly the calls of that scope."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.world import (
    amend_body,
    check_body,
    commit_body,
    key_headers,
    release_body,
    reserve_body,
    reverse_body,
    spend_body,
)

from budget_sync.domain.errors import Code
from budget_sync.domain.permissions import ApiScope

pytestmark = pytest.mark.both_engines

#: The calls that need each scope.
CALLS = {
    ApiScope.CHECK: ("check",),
    ApiScope.RESERVE: ("reserve", "amend"),
    ApiScope.COMMIT: ("commit", "reverse"),
    ApiScope.RELEASE: ("release", "cancel"),
    ApiScope.SPEND: ("spend",),
    ApiScope.READ: ("list_budgets", "get_budget", "list_requests", "get_request"),
}
NUMBERS = itertools.count()


class Caller:
    """Prepares and makes calls, the call itself with one key."""

    def __init__(self, app: Flask, scope: ApiScope | None) -> None:
        self.client: FlaskClient = app.test_client()
        self.all_scopes = key_headers(name="all")
        self.key = key_headers(name="one", scopes=None if scope is None else [scope])

    def post(self, call: str, body: dict[str, Any]) -> None:
        """Make a call that prepares another."""
        path = f"/api/budget/{call}"
        assert self.client.post(path, json=body, headers=self.all_scopes).status_code == 200

    def code_of(self, call: str) -> str | None:
        """Make the call; returns the code of its error."""
        request_id = f"scope-{next(NUMBERS)}"
        named: dict[str, Any] = {"requestId": request_id, "amount": 5}
        cancel = named | {"action": "cancel", "originalRequesterId": "user-123"}
        self.post("reserve", reserve_body(**named, userId="user-123"))
        if call == "reverse":
            self.post("commit", commit_body(**named))
        bodies: dict[str, Callable[[], dict[str, Any]]] = {
            "check": lambda: check_body(**named),
            "reserve": lambda: reserve_body(**named),
            "amend": lambda: amend_body(**named | {"amount": 6}),
            "commit": lambda: commit_body(**named),
            "reverse": lambda: reverse_body(**named),
            "release": lambda: release_body(**named),
            "cancel": lambda: release_body(**cancel),
            "spend": lambda: spend_body(spendId=request_id, amount=5),
        }
        reads = {
            "list_budgets": "/api/budgets",
            "get_budget": "/api/budgets/budget-123",
            "list_requests": "/api/requests",
            "get_request": f"/api/requests/{request_id}",
        }
        if call in reads:
            response = self.client.get(reads[call], headers=self.key)
        else:
            path = f"/api/budget/{'release' if call == 'cancel' else call}"
            response = self.client.post(path, json=bodies[call](), headers=self.key)
        data = response.get_json()
        assert response.status_code == (403 if "code" in data and call != "check" else 200) or (
            call == "check" and response.status_code in {200, 403}
        )
        return None if response.status_code == 200 else str(data["code"])


@pytest.mark.parametrize("scope", ApiScope)
def test_key_makes_only_the_calls_of_its_scope(world: Flask, scope: ApiScope) -> None:
    caller = Caller(world, scope)
    allowed = {call for calls in CALLS.values() for call in calls if caller.code_of(call) is None}
    assert allowed == set(CALLS[scope])


def test_missing_scope_is_named(world: Flask) -> None:
    caller = Caller(world, ApiScope.READ)
    for call, scope in (("amend", "reserve"), ("reverse", "commit"), ("spend", "spend")):
        assert caller.code_of(call) == Code.FORBIDDEN
        body = {
            "amend": amend_body(),
            "reverse": reverse_body(),
            "spend": spend_body(),
        }[call]
        reply = caller.client.post(f"/api/budget/{call}", json=body, headers=caller.key)
        assert f"the scope '{scope}'" in reply.text


def test_key_without_scopes_makes_every_call(world: Flask) -> None:
    caller = Caller(world, None)
    assert {caller.code_of(call) for calls in CALLS.values() for call in calls} == {None}
