"""A request is given to a thread when all of it has arrived, or as soon as it can be refused; however it comes in pieces."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from conftest import Installation, check_body

from budget_sync.web.arrival import MAX_HEAD_BYTES, Arrival
from budget_sync.web.payloads import MAX_BODY_BYTES
from budget_sync.web.worker import ARRIVAL_S

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\ncontent-LENGTH : 5\r\n\r\n12345"
CHUNKED = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;name=value\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: 1\r\n\r\n"
CHUNKED_WITHOUT_TRAILERS = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, CHUNKED_WITHOUT_TRAILERS])
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_: bytes) -> None:
    for size in (1, 2, 7, len(request_)):
        arrival = Arrival()
        pieces = [request_[at : at + size] for at in range(0, len(request_), size)]
        assert [arrival.add(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert bytes(arrival.data) == request_
        assert not arrival.is_cut


def test_what_follows_a_whole_request_is_kept_for_the_parser() -> None:
    arrival = Arrival()
    assert arrival.add(POST + GET)
    assert bytes(arrival.data) == POST + GET


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 64,
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 7,
    ],
    ids=["too long by its length", "no chunk", "an endless size", "too large a chunk", "too many chunks"],
)
def test_what_will_be_refused_is_not_waited_for(sent: bytes) -> None:
    arrival = Arrival()
    assert arrival.add(sent)
    assert arrival.is_cut


def test_a_length_that_is_none_is_for_the_parser_to_refuse() -> None:
    assert Arrival().add(b"POST /x HTTP/1.1\r\nContent-Length: -5\r\n\r\n")
    assert Arrival().add(b"POST /x HTTP/1.1\r\nContent-Length: five\r\n\r\n")


def test_a_head_without_end_is_too_long_at_some_time() -> None:
    arrival = Arrival()
    assert not arrival.add(b"GET / HTTP/1.1\r\n" + b"x" * (MAX_HEAD_BYTES - 100))
    assert not arrival.is_too_long
    assert not arrival.add(b"x" * 100)
    assert arrival.is_too_long


def post(key: dict[str, str], *headers: str) -> tuple[bytes, bytes]:
    """A check, as head and body."""
    body = json.dumps(check_body()).encode()
    lines = ("POST /api/budget/check HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Authorization: {key['Authorization']}", *headers)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode(), body


def reply(connection: socket.socket) -> bytes:
    """What comes until the connection is closed, or a whole JSON reply is there."""
    connection.settimeout(30)
    received = b""
    while not received.endswith(b"}\n") and (data := connection.recv(65_536)):
        received += data
    return received


def test_a_request_in_pieces_two_at_once_and_one_that_waits_to_be_told_are_answered(server: Installation) -> None:
    head, body = post(server.key())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for piece in (head[:10], head[10:], body[:20], body[20:]):
            connection.sendall(piece)
            time.sleep(0.05)
        assert reply(connection).startswith(b"HTTP/1.1 200")
        # The next one on the same connection, and half of another behind it.
        connection.sendall(head + body + head[:30])
        assert reply(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(head[30:] + body)
        assert reply(connection).startswith(b"HTTP/1.1 200")
    head, body = post(server.key(), "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        connection.settimeout(30)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        assert b"HTTP/1.1 200" in reply(connection)


def test_who_takes_too_long_is_told_so_and_the_server_still_stops_at_once(installation: Installation) -> None:
    server = installation
    assert ARRIVAL_S == 10
    server.constants["budget_sync.web.worker.ARRIVAL_S"] = 1
    server.start()
    head, body = post(server.key())
    with socket.create_connection(("127.0.0.1", server.port)) as slow, socket.create_connection(("127.0.0.1", server.port)) as silent:
        slow.sendall(head + body[:10])
        received = reply(slow)
        assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "HTTP_ERROR"
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        # It is taken in, and never says a word.
        stopped: list[int] = []
        thread = threading.Thread(target=lambda: stopped.append(server.stop()))
        thread.start()
        thread.join(timeout=15)
        assert stopped == [0]
        assert idle.fileno() > 0
