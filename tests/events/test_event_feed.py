"""GET /api/events: callers, parameters, waiting, and a client that polls under load."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from support.installation import Installation
from support.world import check_body, demo_client, key_headers, reserve_body

from budget_sync.domain.permissions import ApiScope
from budget_sync.queries import events

pytestmark = pytest.mark.both_engines


def get(client: FlaskClient, query: str = "", headers: dict[str, str] | None = None) -> Any:
    return client.get(f"/api/events{query}", headers=headers or {})


def test_page_has_items_and_a_cursor_that_continues(client: FlaskClient) -> None:
    headers = key_headers()
    first = get(client, "?limit=1", headers)
    assert first.status_code == 200
    assert list(first.json) == ["items", "nextCursor"]
    (item,) = first.json["items"]
    assert list(item) == ["id", "type", "time", "customerId", "data"]
    assert item["type"] == "budget.created"
    assert item["customerId"] == "org-456"
    following = get(client, f"?after={first.json['nextCursor']}", headers).json
    assert item not in following["items"]
    again = get(client, f"?after={following['nextCursor']}", headers).json
    assert again["items"] == []


def test_latest_cursor_skips_what_happened_before(client: FlaskClient) -> None:
    headers = key_headers()
    latest = get(client, "?after=latest", headers).json
    assert latest["items"] == []
    client.post("/api/budget/check", json=check_body(), headers=headers)
    client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
    items = get(client, f"?after={latest['nextCursor']}", headers).json["items"]
    assert [(item["type"], item["data"]["requestId"]) for item in items] == [
        ("reservation.created", "intake-789")
    ]


def test_rare_event_is_found_without_waiting(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = key_headers()
    client.post("/api/budget/check", json=check_body(), headers=headers)
    client.post("/api/budget/reserve", json=reserve_body(), headers=headers)
    monkeypatch.setattr(events, "_MOST_PASSED", 1)
    (found, *_) = get(client, "?types=reservation.created", headers).json["items"]
    assert found["type"] == "reservation.created"


def test_only_fpa_admins_and_services_with_scope_read(world: Flask) -> None:
    assert get(world.test_client()).status_code == 401
    assert get(demo_client(world, "jane")).status_code == 403
    for allowed in ("fiona", "alex"):
        assert get(demo_client(world, allowed)).status_code == 200
    client = world.test_client()
    reads = key_headers(name="reader", scopes=[ApiScope.READ])
    checks = key_headers(name="checker", scopes=[ApiScope.CHECK])
    assert get(client, headers=reads).status_code == 200
    assert get(client, headers=checks).status_code == 403


def test_another_customer_is_rejected(world: Flask) -> None:
    client, headers = world.test_client(), key_headers()
    assert get(client, "?customerId=org-other", headers).json["code"] == "INVALID_CUSTOMER"
    everyone = key_headers(customer_id=None, name="everyone")
    assert get(client, "", everyone).json["fields"] == {
        "customerId": "is required, because your credential is for all customers"
    }
    assert get(client, "?customerId=org-456", everyone).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?after=17", "after"),
        ("?after=", "after"),
        ("?after=a999999999999.0-s0.0", "after"),
        ("?types=budget.lost", "types"),
        ("?types=", "types"),
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?wait=26", "wait"),
        ("?wait=-1", "wait"),
        ("?wait=1.5", "wait"),
        ("?wait=1&wait=2", "wait"),
    ],
)
def test_bad_parameter_is_named(client: FlaskClient, query: str, field: str) -> None:
    response = get(client, query, key_headers())
    assert response.status_code == 400
    assert list(response.json["fields"]) == [field]


def read(server: Installation, **query: str | int) -> Any:
    response = requests.get(
        f"{server.url}/api/events", params=query, headers=server.key(), timeout=40
    )
    assert response.status_code == 200, response.text
    return response.json()


def test_waiting_call_returns_soon_after_the_event(server: Installation) -> None:
    cursor = read(server, after="latest")["nextCursor"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read, server, after=cursor, wait=20)
        time.sleep(1)
        assert not waiting.done()
        server.post("/api/budget/reserve", reserve_body(), headers=server.key())
        reserved_at = time.monotonic()
        assert [item["type"] for item in waiting.result()["items"]] == ["reservation.created"]
        assert time.monotonic() - reserved_at < 10


def test_waiting_calls_leave_room_for_others(server: Installation) -> None:
    cursor = read(server, after="latest")["nextCursor"]
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(read, server, after=cursor, wait=25) for _ in range(60)]
        time.sleep(2)
        # More calls wait than a worker has threads, or PostgreSQL connections.
        for number in range(10):
            body = check_body(requestId=f"beside-{number}")
            assert server.post("/api/budget/check", body, headers=server.key()).ok
        assert not any(call.done() for call in waiting)
        server.post("/api/budget/reserve", reserve_body(), headers=server.key())
        assert all(len(call.result()["items"]) == 1 for call in waiting)


def test_stopping_server_does_not_wait_for_waiting_calls(server: Installation) -> None:
    cursor = read(server, after="latest")["nextCursor"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read, server, after=cursor, wait=25)
        time.sleep(1)
        began = time.monotonic()
        assert server.stop() == 0
        assert waiting.result()["items"] == []
        assert time.monotonic() - began < 15


def test_polling_client_gets_each_movement_once(server: Installation) -> None:
    """Concurrent movements take their numbers in another order than they commit."""
    count, clients = 400, 8
    cursor = read(server, after="latest")["nextCursor"]
    stopped = threading.Event()
    found: list[str] = []

    def poll() -> None:
        after = cursor
        while True:
            was_stopped = stopped.is_set()
            page = read(server, after=after, limit=100)
            found.extend(item["data"]["requestId"] for item in page["items"])
            after = page["nextCursor"]
            if was_stopped and not page["items"]:
                return

    def move(number: int) -> None:
        body = reserve_body(requestId=f"load-{number}", amount=1)
        assert server.post("/api/budget/reserve", body, headers=server.key()).ok

    with ThreadPoolExecutor(clients + 1) as pool:
        polling = pool.submit(poll)
        list(pool.map(move, range(count)))
        time.sleep(1)
        stopped.set()
        polling.result()
    assert sorted(found) == sorted(f"load-{number}" for number in range(count))
