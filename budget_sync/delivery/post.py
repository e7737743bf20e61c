"""Sends a request to a webhook: to an address that was checked, within ten seconds in total.

Redirects are not followed, and proxies in the environment are not used: both would contact an
address that was not checked.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import NamedTuple, Self

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

import budget_sync
from budget_sync.delivery import addresses
from budget_sync.delivery.addresses import AddressError, Destination, Resolve

# Its warnings have the URL and headers of the answer.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

#: How long an attempt may take, from the resolution of the host name to the answer.
TIMEOUT_S = 10.0

#: How long to try an address of a host that has others.
CONNECT_S = 3.0

#: How much of an answer is read. It is not used, but many receivers expect it to be read.
MAX_ANSWER_BYTES = 4096

#: How long to wait for the rest of an answer after its status, in seconds.
READ_S = 1.0

#: The status with which a receiver says that it wants no more events.
GONE = 410


class Answer(NamedTuple):
    """The result of an attempt: the HTTP status, and why it failed; no error if it succeeded."""

    status: int | None
    error: str | None
    duration_ms: int


class _Broken(Exception):
    """The connection ended before the status of the answer arrived."""


class _Pinned:
    """Connects to the addresses that were checked, and keeps a handle to end the connection."""

    checked: list[str]
    deadline: float
    handle: socket.socket | None = None

    port: int

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers. urllib3 calls this."""
        problem: OSError = OSError("no address")
        for number, address in enumerate(self.checked, start=1):
            left_s = self.deadline - time.monotonic()
            limit_s = left_s if number == len(self.checked) else min(left_s, CONNECT_S)
            if limit_s <= 0:
                raise TimeoutError
            try:
                found = socket.create_connection((address, self.port), timeout=limit_s)
            except OSError as error:
                problem = error
                continue
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.settimeout(max(self.deadline - time.monotonic(), 0.001))
            # TLS takes over the socket itself.
            self.handle = found.dup()
            return found
        raise problem


class _PinnedHttp(_Pinned, HTTPConnection):
    """HTTP to a checked address."""


class _PinnedHttps(_Pinned, HTTPSConnection):
    """HTTPS to a checked address, for the host name of the URL."""


class Sender:
    """Sends requests to one URL, and keeps the connection between them, for a `with` statement."""

    def __init__(
        self,
        destination: Destination,
        *,
        private_networks: bool,
        resolve: Resolve = addresses.resolve,
    ) -> None:
        self._destination = destination
        self._private_networks = private_networks
        self._resolve = resolve
        self._connection: _PinnedHttp | _PinnedHttps | None = None
        self._is_aborted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request; only a status from 200 to 299 is a success."""
        began = time.monotonic()
        deadline = began + TIMEOUT_S
        status, error = None, None
        try:
            status = self._post(body, headers, deadline)
            error = _explain_status(status)
        except (AddressError, _Broken) as problem:
            error = f"{problem}."
        except (OSError, http.client.HTTPException, HTTPError, ValueError) as problem:
            error = _explain(problem)
        if error and status is None and time.monotonic() >= deadline:
            error = f"No answer within {TIMEOUT_S:.0f} seconds."
        if error:
            self.close()
        return Answer(status, error, round((time.monotonic() - began) * 1000))

    def _post(self, body: bytes, headers: Mapping[str, str], deadline: float) -> int:
        if self._connection is not None and self._connection.is_connected:
            # The receiver may close a connection that it kept for a while at any time.
            with suppress(_Broken):
                return self._exchange(body, headers, deadline)
        self.close()
        return self._exchange(body, headers, deadline)

    def _exchange(self, body: bytes, headers: Mapping[str, str], deadline: float) -> int:
        """Send the request and return the status. Raises _Broken if no answer arrived."""
        connection = self._connection or self._prepare(deadline)
        with _ended_at(deadline, connection):
            if connection.is_closed:
                connection.connect()
            # urllib3 sets it on the socket before it sends and before it reads.
            connection.timeout = max(deadline - time.monotonic(), 0.001)
            try:
                connection.request(
                    "POST",
                    self._destination.target,
                    body=body,
                    headers=_HEADERS | dict(headers),
                    preload_content=False,
                    decode_content=False,
                )
                channel = connection.sock
                response = connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected) as error:
                raise _Broken("The connection was closed before the answer") from error
            try:
                if channel is not None:
                    channel.settimeout(READ_S)
                response.read(MAX_ANSWER_BYTES)
                is_read = response.length_remaining == 0
            except (OSError, http.client.HTTPException, HTTPError):
                # The status is what counts.
                is_read = False
        if not is_read:
            self.close()
        return response.status

    def _prepare(self, deadline: float) -> _PinnedHttp | _PinnedHttps:
        """A connection, not opened yet, to addresses that are all allowed."""
        destination = self._destination
        try:
            found = self._resolve(destination.host, deadline - time.monotonic())
        except TimeoutError:
            raise AddressError(
                f"The host name {destination.host} was not resolved in time"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise AddressError(f"The host name cannot be resolved: {reason}") from None
        for address in found:
            addresses.require_allowed(destination, address, private_networks=self._private_networks)
        connection: _PinnedHttp | _PinnedHttps
        if destination.is_https:
            connection = _PinnedHttps(
                destination.host, destination.port, ssl_context=_tls(), timeout=TIMEOUT_S
            )
        else:
            connection = _PinnedHttp(destination.host, destination.port, timeout=TIMEOUT_S)
        connection.checked, connection.deadline = found, deadline
        self._connection = connection
        if self._is_aborted:
            raise _Broken("Stopped")
        return connection

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            if connection.handle is not None:
                connection.handle.close()

    def abort(self) -> None:
        """End the request in progress, from another thread."""
        self._is_aborted = True
        if self._connection is not None:
            _end(self._connection)


_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"budget-sync/{budget_sync.__version__}",
}


@contextmanager
def _ended_at(deadline: float, connection: _Pinned) -> Iterator[None]:
    """End the connection at the deadline.

    The time-out of a socket starts again with every byte.
    """
    timer = threading.Timer(deadline - time.monotonic(), _end, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(connection: _Pinned) -> None:
    # Another thread may close the connection at the same time.
    with suppress(OSError):
        if connection.handle is not None:
            connection.handle.shutdown(socket.SHUT_RDWR)


@cache
def _tls() -> ssl.SSLContext:
    """TLS with verified certificates, of this machine's authorities and of those of certifi."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _explain_status(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"HTTP {status}: a redirect, which is not followed. Use the final address."
    if status == GONE:
        return "HTTP 410: the receiver wants no more events."
    return f"HTTP {status}."


def _explain(problem: Exception) -> str:
    """What went wrong, without any text of the receiver."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"The certificate is not valid: {problem.verify_message}."
    if isinstance(problem, ssl.SSLError):
        return f"TLS failed: {problem.reason or 'the connection was closed'}."
    if isinstance(problem, TimeoutError):
        return f"No answer within {TIMEOUT_S:.0f} seconds."
    if isinstance(problem, OSError):
        return f"No connection: {problem.strerror or 'it was closed'}."
    return "The answer is not HTTP."
