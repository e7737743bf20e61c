"""HTTP receivers of webhooks on loopback, which behave well or badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError


@dataclass
class Received:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        """The event in the body."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def id(self) -> str:
        """The id in the headers."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> Any:
        """Verify the signature with the library that receivers use; returns the event."""
        return Verifier(secret).verify(self.body, self.headers)


#: Handles a request that was received: answers, or not.
Behave = Callable[[BaseHTTPRequestHandler], None]


def answers(status: int, **headers: str) -> Behave:
    """Answer with a status and headers."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def drops(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection after the body, without an answer."""
    handler.close_connection = True


def hangs(handler: BaseHTTPRequestHandler) -> None:
    """Do not answer until the client ends the connection."""
    handler.connection.settimeout(60)
    try:
        handler.connection.recv(1)
    except OSError:
        pass
    handler.close_connection = True


def drips(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte of the answer from time to time, for a minute."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 600:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass
    handler.close_connection = True


def speaks_nonsense(handler: BaseHTTPRequestHandler) -> None:
    """Answer with something that is not HTTP."""
    handler.wfile.write(b"secret-nonsense\r\n\r\n")
    handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients close connections at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def do_POST(self) -> None:
        """Read the body and behave as the receiver does."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The client was killed while it sent the request.
            self.close_connection = True
            return
        received = Received(
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            body,
            time.monotonic(),
        )
        self.server.receiver.handle(received, self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing."""


@dataclass
class Receiver:
    """A server on loopback that keeps the requests which it received."""

    behave: Behave = field(default_factory=lambda: answers(204))
    received: list[Received] = field(default_factory=list)
    #: Connections that arrived, also those without a request.
    connections: int = 0
    server: _Server | None = None
    #: If set, requests without a valid signature are noted, as their times are valid for minutes.
    secret: str | None = None
    forged: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port of the server."""
        assert self.server is not None
        return self.server.server_port

    @property
    def url(self) -> str:
        """The URL for a webhook."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """The ids of the events, in the order of arrival."""
        return [each.id for each in self.received]

    def handle(self, received: Received, handler: BaseHTTPRequestHandler) -> None:
        """Keep a request and behave."""
        if self.secret:
            try:
                received.verify(self.secret)
            except WebhookVerificationError as error:
                self.forged.append(f"{received.id}: {error}")
        self.received.append(received)
        self.behave(handler)

    def start(self, port: int = 0) -> None:
        """Start the server."""
        receiver = self

        class Counting(_Handler):
            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

        self.server = _Server(("127.0.0.1", port), Counting)
        self.server.receiver = self
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop the server. Its port refuses connections then."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()


@contextmanager
def receiver(behave: Behave | None = None) -> Iterator[Receiver]:
    """A running receiver."""
    started = Receiver(behave or answers(204))
    started.start()
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def listener() -> Iterator[socket.socket]:
    """A socket that listens on loopback and accepts nothing; see `was_contacted`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def was_contacted(listening: socket.socket) -> bool:
    """Whether a connection arrived at a listener."""
    try:
        connection, _ = listening.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True
