"""One request to a webhook: within ten seconds in total, and never a word of the receiver."""

from __future__ import annotations

import logging
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.machine import free_port
from support.receivers import (
    Behave,
    Receiver,
    answers,
    drips,
    drops,
    hangs,
    receiver,
    speaks_nonsense,
)

from budget_sync.delivery import post
from budget_sync.delivery.addresses import parse_url
from budget_sync.delivery.post import Answer, Sender
from budget_sync.delivery.signatures import new_secret, signed_headers


def send(url: str, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Answer:
    with Sender(parse_url(url), private_networks=False) as sender:
        return sender.post(body, headers or {})


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_status_of_success(status: int) -> None:
    with receiver(answers(status)) as good:
        answer = send(good.url, b'{"a": 1}', {"webhook-id": "evt_1"})
    assert (answer.status, answer.error) == (status, None)
    (received,) = good.received
    assert (received.path, received.body, received.id) == ("/hook", b'{"a": 1}', "evt_1")
    assert received.headers["content-type"] == "application/json"
    assert received.headers["host"] == f"127.0.0.1:{good.port}"
    assert received.headers["user-agent"].startswith("budget-sync/")


@pytest.mark.parametrize(
    ("behave", "status", "error"),
    [
        (answers(400), 400, "HTTP 400."),
        (answers(404), 404, "HTTP 404."),
        (answers(410), 410, "HTTP 410: the receiver wants no more events."),
        (answers(500), 500, "HTTP 500."),
        (answers(503), 503, "HTTP 503."),
        (drops, None, "The connection was closed before the answer."),
        (speaks_nonsense, None, "The answer is not HTTP."),
    ],
)
def test_failures_are_explained(behave: Behave, status: int | None, error: str) -> None:
    with receiver(behave) as bad:
        answer = send(bad.url)
    assert (answer.status, answer.error) == (status, error)
    assert len(bad.received) == 1


def test_receiver_that_is_down() -> None:
    answer = send(f"http://127.0.0.1:{free_port()}/")
    assert (answer.status, answer.error) == (None, "No connection: Connection refused.")


@pytest.mark.parametrize("behave", [hangs, drips])
def test_time_limit_is_total(behave: Behave, monkeypatch: pytest.MonkeyPatch) -> None:
    assert post.TIMEOUT_S == 10
    monkeypatch.setattr(post, "TIMEOUT_S", 1.0)
    with receiver(behave) as slow:
        began = time.monotonic()
        answer = send(slow.url)
        took_s = time.monotonic() - began
    assert (answer.status, answer.error) == (None, "No answer within 1 seconds.")
    assert 0.9 < took_s < 2.5
    assert 900 < answer.duration_ms < 2500


def test_body_of_the_answer_is_read_only_in_part(caplog: pytest.LogCaptureFixture) -> None:
    def answers_at_length(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000000")
        handler.end_headers()
        handler.wfile.write(b"secret-answer" * 100)

    caplog.set_level(logging.DEBUG)
    with receiver(answers_at_length) as talkative:
        answer = send(talkative.url)
    assert (answer.status, answer.error) == (200, None)
    assert "secret" not in caplog.text


def test_connection_is_kept_and_renewed_when_it_was_closed() -> None:
    with receiver(answers(200)) as good, kept(good.url) as keeping:
        assert [keeping.post(b"{}", {}).status for _ in range(3)] == [200] * 3
        assert good.connections == 1
        # The receiver closes it after its answer, without saying so.
        good.behave = closes_after_answer
        assert keeping.post(b"{}", {}).status == 200
        time.sleep(0.1)
        assert keeping.post(b"{}", {}).status == 200
        assert good.connections == 2


def kept(url: str) -> Sender:
    return Sender(parse_url(url), private_networks=False)


def closes_after_answer(handler: BaseHTTPRequestHandler) -> None:
    answers(200)(handler)
    handler.close_connection = True


def test_request_in_progress_can_be_ended() -> None:
    with receiver(hangs) as slow, kept(slow.url) as waiting:
        threading.Timer(0.3, waiting.abort).start()
        began = time.monotonic()
        assert waiting.post(b"{}", {}).error is not None
        assert time.monotonic() - began < 5


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key."""
    path = tmp_path / "localhost.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    parts = [(tmp_path / name).read_text(encoding="ascii") for name in ("key.pem", "cert.pem")]
    path.write_text("".join(parts), encoding="ascii")
    return path


@pytest.fixture
def https(certificate: Path) -> Iterator[Receiver]:
    with receiver() as secure:
        assert secure.server is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        secure.server.socket = context.wrap_socket(
            secure.server.socket, server_side=True, do_handshake_on_connect=False
        )
        yield secure


def test_certificate_must_be_valid_for_the_host_name(
    https: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post._tls.cache_clear()  # noqa: SLF001  # the authorities are read once
    answer = send(f"https://localhost:{https.port}/hook")
    assert answer.error
    assert answer.error.startswith("The certificate is not valid: self-signed certificate")
    # An authority that this machine trusts.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    post._tls.cache_clear()  # noqa: SLF001
    try:
        assert send(f"https://localhost:{https.port}/hook").status == 204
        answer = send(f"https://127.0.0.1:{https.port}/hook")
        assert answer.error
        assert "IP address mismatch" in answer.error
    finally:
        post._tls.cache_clear()  # noqa: SLF001
    assert len(https.received) == 1


def test_name_in_tls_is_the_hosts_although_the_address_is_given(
    https: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    post._tls.cache_clear()  # noqa: SLF001
    try:
        with Sender(
            parse_url(f"https://localhost:{https.port}/hook"),
            private_networks=False,
            resolve=lambda host, _: ["127.0.0.1"],
        ) as named:
            assert named.post(b"{}", {}).error is None
    finally:
        post._tls.cache_clear()  # noqa: SLF001
    assert https.received[0].headers["host"] == f"localhost:{https.port}"


def test_signatures_are_those_of_the_standard() -> None:
    secrets = [new_secret(), new_secret()]
    with receiver() as good:
        body = '{"name": "Zürich"}'.encode()
        headers = signed_headers("evt_a1", int(time.time()), body, secrets)
        send(good.url, body, headers)
    (received,) = good.received
    for secret in secrets:
        assert received.verify(secret) == {"name": "Zürich"}
    with pytest.raises(Exception, match="No matching signature"):
        received.verify(new_secret())
