"""The keys of identity providers: fetched, cached, rotated, slow, broken and unreachable."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.tokens import (
    EC,
    OTHER_RSA,
    RSA,
    KeyServer,
    bearer,
    claims,
    key_server,
    key_set,
    sign,
    write_identity_file,
)

from app import create_app
from budget_sync.accounts.identity import Verifier
from budget_sync.accounts.identity import keys as identity_keys
from budget_sync.accounts.identity.keys import KeyFetchError, parse_keys
from budget_sync.settings import Settings


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """A key server on loopback."""
    with key_server() as running:
        yield running


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


@pytest.fixture
def caller(guides_world: None, chosen: Settings, tmp_path: Path, server: KeyServer) -> FlaskClient:
    """A client of an app whose provider publishes its keys on that server."""
    path = write_identity_file(tmp_path, keys=f'jwks_url = "{server.url}"')
    settings = replace(chosen, identity_file=path, is_identity_file_named=True)
    client = create_app(settings).test_client()
    clock_of(client).now = 1000.0
    return client


def clock_of(client: FlaskClient) -> Clock:
    """The clock of the keys, which is put in place at the first call."""
    verifier: Verifier = client.application.extensions["identity"]
    keys = verifier.keys["Acme"]
    if not isinstance(keys.clock, Clock):
        keys.clock = Clock()
    found = keys.clock
    assert isinstance(found, Clock)
    return found


def status(client: FlaskClient, token: str) -> int:
    return client.get("/api/auth/me", headers=bearer(token)).status_code


def test_keys_are_fetched_once(caller: FlaskClient, server: KeyServer) -> None:
    for _ in range(5):
        assert status(caller, sign(claims())) == 200
    assert server.calls == 1


def test_old_keys_are_refreshed_in_the_background(caller: FlaskClient, server: KeyServer) -> None:
    assert status(caller, sign(claims())) == 200
    clock_of(caller).now += identity_keys.REFRESH_AFTER_S + 1
    server.delay_s = 0.5
    began = time.monotonic()
    assert status(caller, sign(claims())) == 200
    assert time.monotonic() - began < 0.5
    _wait_until(lambda: server.calls == 2)


def test_new_key_is_fetched_when_a_token_names_it(caller: FlaskClient, server: KeyServer) -> None:
    assert status(caller, sign(claims())) == 200
    server.body = key_set(OTHER_RSA)
    clock_of(caller).now += identity_keys.MIN_INTERVAL_S + 1
    assert status(caller, sign(claims(), OTHER_RSA)) == 200
    assert status(caller, sign(claims())) == 401


def test_unknown_key_ids_cause_one_fetch_a_minute(caller: FlaskClient, server: KeyServer) -> None:
    assert status(caller, sign(claims())) == 200
    clock_of(caller).now += identity_keys.MIN_INTERVAL_S + 1
    for number in range(20):
        assert status(caller, sign(claims(), OTHER_RSA, kid=f"unknown-{number}")) == 401
    assert server.calls == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", 500),
        ("", 302),
        ("not JSON", 200),
        ("[]", 200),
        ('{"keys": 1}', 200),
        ('{"keys": []}', 200),
        ('{"keys": [{"kty": "oct", "k": "AAAA"}]}', 200),
        ('{"keys": [{"kty": "RSA", "n": "x", "e": "y"}]}', 200),
        ("[" * 100_000, 200),
        ("x" * 600_000, 200),
    ],
    ids=["500", "redirect", "no JSON", "list", "no list", "empty", "secret", "bad", "deep", "huge"],
)
def test_garbage_without_known_keys_is_unavailable(
    caller: FlaskClient, server: KeyServer, body: str, code: int
) -> None:
    server.body, server.status = body, code
    reply = caller.get("/api/auth/me", headers=bearer(sign(claims())))
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "5"
    assert "keys of Acme" in reply.text


def test_garbage_does_not_replace_known_keys(caller: FlaskClient, server: KeyServer) -> None:
    assert status(caller, sign(claims())) == 200
    server.body = "garbage"
    clock_of(caller).now += identity_keys.REFRESH_AFTER_S + 1
    assert status(caller, sign(claims())) == 200
    _wait_until(lambda: server.calls == 2)
    assert status(caller, sign(claims())) == 200


def test_keys_that_cannot_be_refreshed_for_a_day_are_dropped(
    caller: FlaskClient, server: KeyServer
) -> None:
    assert status(caller, sign(claims())) == 200
    server.status = 500
    clock_of(caller).now += identity_keys.EXPIRE_AFTER_S + 1
    assert status(caller, sign(claims())) == 503


def test_failed_fetch_is_not_repeated_at_once(caller: FlaskClient, server: KeyServer) -> None:
    server.status = 500
    assert [status(caller, sign(claims())) for _ in range(5)] == [503] * 5
    assert server.calls == 1
    server.status = 200
    clock_of(caller).now += identity_keys.RETRY_AFTER_FAILURE_S
    assert status(caller, sign(claims())) == 200


def test_callers_of_a_slow_server_share_one_fetch(caller: FlaskClient, server: KeyServer) -> None:
    server.delay_s = 0.5
    app = caller.application
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: status(app.test_client(), sign(claims())), range(8)))
    assert codes == [200] * 8
    assert server.calls == 1


def test_rotation_under_load_answers_nothing_wrongly(
    caller: FlaskClient, server: KeyServer
) -> None:
    """Old tokens work until their key is gone; new ones from then on; forged ones never."""
    assert status(caller, sign(claims())) == 200
    app, clock = caller.application, clock_of(caller)
    old, new = sign(claims()), sign(claims(), OTHER_RSA)
    forged = sign(claims(), OTHER_RSA, kid="rsa-1")
    stop = threading.Event()
    answers: list[tuple[str, int]] = []

    def ask(token: str, name: str) -> None:
        client = app.test_client()
        while not stop.is_set():
            answers.append((name, status(client, token)))

    with ThreadPoolExecutor(6) as pool:
        for token, name in ((old, "old"), (new, "new"), (forged, "forged")) * 2:
            pool.submit(ask, token, name)
        for body in (key_set(RSA, EC, OTHER_RSA), key_set(OTHER_RSA), key_set(RSA, EC)):
            time.sleep(0.4)
            server.body = body
            clock.now += identity_keys.REFRESH_AFTER_S + 1
        time.sleep(0.4)
        stop.set()
    codes = {name: {code for who, code in answers if who == name} for name in ("old", "new")}
    assert codes["old"] <= {200, 401}
    assert codes["new"] <= {200, 401}
    assert 200 in codes["new"]
    assert {code for name, code in answers if name == "forged"} == {401}


def test_private_parts_and_weak_keys_are_not_used() -> None:
    private = RSA.as_dict(private=True)
    (key,) = parse_keys(json.dumps({"keys": [private]}).encode())
    assert not key.is_private
    with pytest.raises(KeyFetchError):
        parse_keys(
            b'{"keys": [{"kty": "RSA", "n": "sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23'
            b'bOdgWp4Dy1Wl", "e": "AQAB", "kid": "weak"}]}'
        )


def _wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")
