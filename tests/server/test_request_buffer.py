"""A request gets a thread once it is complete or can be rejected, however it is split."""

from __future__ import annotations

import json
import random
import select
import socket
import threading
import time
from contextlib import ExitStack, closing

import pytest
import requests
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from support.installation import Installation
from support.world import check_body
from werkzeug.exceptions import RequestEntityTooLarge

from budget_sync.server.arbiter import THREADS
from budget_sync.server.connection import ReceivedData, RequestParser
from budget_sync.server.request_buffer import (
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    MAX_LENGTH_DIGITS,
    RequestBuffer,
)
from budget_sync.server.worker import ARRIVAL_S
from budget_sync.web.payloads import MAX_BODY_BYTES
from budget_sync.web.server_interface import MAX_UPLOAD_BYTES, BrokenBodyError

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\ncontent-LENGTH : 5\r\n\r\n12345"
CHUNKED = (
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: 1\r\n\r\n"
)
CHUNKED_WITHOUT_TRAILERS = (
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, CHUNKED_WITHOUT_TRAILERS])
def test_request_is_complete_with_its_last_byte(request_: bytes) -> None:
    for size in (1, 2, 7, len(request_)):
        buffer = RequestBuffer()
        pieces = [request_[at : at + size] for at in range(0, len(request_), size)]
        assert [buffer.add(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert bytes(buffer.data) == request_
        assert not buffer.is_cut


def test_bytes_after_a_request_are_kept_for_the_parser() -> None:
    buffer = RequestBuffer()
    assert buffer.add(POST + GET)
    assert bytes(buffer.data) == POST + GET


def in_chunks(body: bytes) -> bytes:
    """A request with a chunked body of these bytes."""
    return b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def headed(*headers: bytes) -> bytes:
    """The head of a request with these headers."""
    return b"\r\n".join((b"POST /x HTTP/1.1", *headers, b"", b""))


TOO_LARGE = {
    "length over limit": headed(b"Content-Length: %d" % (MAX_BODY_BYTES + 1)),
    "length of many digits": headed(b"Content-Length: " + b"9" * MAX_LENGTH_DIGITS),
    "chunk over limit": in_chunks(b"%x\r\n" % (MAX_BODY_BYTES + 1)),
    "very large chunk": in_chunks(b"fffffff\r\n"),
    "sum of chunks": in_chunks((b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 4 + b"1\r\n"),
    "long extensions": in_chunks(b"1;an-extension-of-29-characters\r\n \r\n" * 3_000),
    "long trailers": in_chunks(b"0\r\n" + b"Trailer: 1\r\n" * 9_000),
}


@pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE)
def test_too_large_request_is_cut_off(sent: bytes) -> None:
    buffer = RequestBuffer()
    assert buffer.add(sent)
    assert buffer.is_cut
    assert not buffer.fault


UPLOAD = b"POST /sync/file HTTP/1.1\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("uploads", "length", "is_cut"),
    [
        ((b"POST /sync/file ",), MAX_BODY_BYTES + 1, False),
        ((b"POST /sync/file ",), MAX_UPLOAD_BYTES, False),
        ((b"POST /sync/file ",), MAX_UPLOAD_BYTES + 1, True),
        ((b"POST /sync/files ",), MAX_BODY_BYTES + 1, True),
        ((), MAX_BODY_BYTES + 1, True),
    ],
)
def test_only_an_upload_may_have_a_large_body(
    uploads: tuple[bytes, ...], length: int, is_cut: bool
) -> None:
    buffer = RequestBuffer(uploads)
    assert buffer.add(UPLOAD % length) is is_cut
    assert (buffer.is_cut, buffer.is_upload) == (is_cut, not is_cut)
    if not is_cut:
        assert not buffer.add(bytes(length - 1))
        assert buffer.add(b" ")


INVALID_LENGTHS = (
    b"",
    b"-5",
    b"+5",
    b"five",
    b"5.0",
    b"0x5",
    b"5 5",
    b"5, 5",
    b"5\x0b",
    b"1_0",
    b"\xb2",
    b"5;",
    b"0" * 19 + b"5000",
    b"9" * 16,
    b"9" * 5_000,
)

FAULTS = {
    **{
        f"length {length[:24]!r}": headed(b"Content-Length: " + length)
        for length in INVALID_LENGTHS
    },
    "length with line feed": headed(b"Content-Length: 5\nX: y"),
    "two lengths": headed(b"Content-Length: 5", b"Content-Length: 6"),
    "same length twice": headed(b"Content-Length: 5", b"Content-Length: 5"),
    "length, then chunks": headed(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks, then length": headed(b"Transfer-Encoding: chunked", b"X: y", b"content-length: 5"),
    "two codings": headed(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
    "size not a number": in_chunks(b"no size\r\n"),
    "no size": in_chunks(b"\r\n"),
    "negative size": in_chunks(b"-5\r\n"),
    "size with prefix": in_chunks(b"0x5\r\n"),
    "size with space": in_chunks(b"5 \r\n"),
    "size of nine digits": in_chunks(b"00000000f\r\n"),
    "size without end": in_chunks(b"0" * MAX_CHUNK_LINE_BYTES),
    "long extension": in_chunks(b"5;" + b"x" * MAX_CHUNK_LINE_BYTES + b"\r\n"),
    "extension with line feed": in_chunks(b"5;a\nb\r\n"),
    "extension with carriage return": in_chunks(b"5;a\rb\r\n"),
    "chunk longer than its size": in_chunks(b"1\r\nabc\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("sent", FAULTS.values(), ids=FAULTS)
def test_ambiguous_request_is_a_fault_in_any_pieces(sent: bytes) -> None:
    for size in (1, 7, len(sent)):
        buffer = RequestBuffer()
        assert [buffer.add(sent[at : at + size]) for at in range(0, len(sent), size)][-1]
        assert buffer.fault


#: Requests that the parser rejects because of their heads, and requests without a body.
HEAD_ONLY = (
    *(
        headed(b"Transfer-Encoding: " + coding)
        for coding in (
            b"",
            b"identity",
            b"gzip",
            b"chunked, gzip",
            b"chunked;q=1",
            b"xchunked",
            b"'chunked'",
            b"chunked\x0b",
        )
    ),
    *(
        headed(header)
        for header in (
            b"Content-Length:\r\n 5",
            b"X: y\r\n Content-Length: 5",
            b"X: y\nContent-Length: 5",
            b"X: y\rContent-Length: 5",
        )
    ),
    *(
        headed(header)
        for header in (
            b"Content_Length: 5",
            b"Content-Length-: 5",
            b"Content-Length",
            b"Content-Lengt\xe8: 5",
            b"no header",
            b": 5",
        )
    ),
    *(
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
    ),
    *(
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ),
    *(
        headed(b"Expect: 100-continue"),
        headed(b"Expect: nothing"),
        headed(b"Content-Length: 0"),
        headed(b"Content-Length:\t 0 "),
    ),
)

#: Requests with a body. The parser rejects most of them.
WITH_BODY = (
    POST,
    POST.replace(b" :", b":"),
    CHUNKED,
    CHUNKED_WITHOUT_TRAILERS,
    headed(b"Content-Length: 0000005") + b"12345",
    headed(b"Content-Length: 5", b"Expect: 100-continue") + b"12345",
    headed(b"Transfer-Encoding: CHUNKED ") + b"1\r\na\r\n0\r\n\r\n",
    headed(b"Transfer-Encoding: gzip ,\tchunked") + b"1\r\na\r\n0\r\n\r\n",
    headed(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    headed(b"Transfer-Encoding: chunked").replace(b"1.1", b"1.0") + b"0\r\n\r\n",
    in_chunks(b"00000001\r\na\r\n000\r\n\r\n"),
    *(
        in_chunks(b"1%s\r\na\r\n0\r\n\r\n" % extension)
        for extension in (b";a=b", b" ; a", b'\t;a=""', b";", b";;", b";=", b";a b", b";\x01")
    ),
    *(
        in_chunks(b"1\r\na\r\n0\r\n%s\r\n\r\n" % trailer)
        for trailer in (
            b"A: b",
            b"A: b\r\nB: c",
            b"no trailer",
            b"Host: x",
            b"Content-Length: 5",
            b"A: b\nB: c",
            b" x",
        )
    ),
)

#: Beginnings of requests. The rest is waited for without a thread.
INCOMPLETE = (
    *(
        b"GET",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"\r\n",
        b"\r",
        headed(b"X: y")[:-1],
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000,
    ),
    *(
        headed(b"Content-Length: 5000"),
        headed(b"Content-Length: 5") + b"1234",
        headed(b"Content-Length: 5", b"Expect: 100-continue"),
    ),
    *(
        in_chunks(b""),
        in_chunks(b"f"),
        in_chunks(b"f;a"),
        in_chunks(b"f\r\n"),
        in_chunks(b"1\r\na"),
        in_chunks(b"1\r\na\r\n"),
        in_chunks(b"0\r\n"),
        in_chunks(b"0\r\nA: b\r\n"),
    ),
)


GUNICORN = Config()


def parsed(buffer: RequestBuffer) -> bytes:
    """The bytes left after the parser has read or rejected the request.

    Fails the test if the parser needs more data.
    """
    parser = RequestParser(GUNICORN, ("127.0.0.1", 1))
    parser.unreader.unread(bytes(buffer.data))
    try:
        next(parser).body.read()
    except (ParseException, BrokenBodyError):
        return b""
    except NoMoreData:
        pytest.fail(f"the parser needs more than {bytes(buffer.data)[:300]!r}")
    left: bytes = parser.unreader.take_buffered()
    return left


@pytest.mark.parametrize("sent", HEAD_ONLY + WITH_BODY, ids=lambda sent: repr(sent)[2:60])
def test_parser_and_buffer_agree_on_the_end(sent: bytes) -> None:
    buffer = RequestBuffer()
    pieces = [buffer.add(sent[at : at + 1]) for at in range(len(sent))]
    assert not any(pieces[:-1])
    assert pieces[-1]
    assert parsed(buffer) == b""


@pytest.mark.parametrize("sent", INCOMPLETE, ids=lambda sent: repr(sent)[2:60])
def test_incomplete_request_is_waited_for(sent: bytes) -> None:
    assert not RequestBuffer().add(sent)


#: Random heads consist of these.
WORDS = (
    *(
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b": ",
        b",",
        b";",
        b"0",
        b"1",
        b"5",
        b"-",
        b"+",
        b"f",
        b"00000000",
        b"a=b",
        b"12345",
    ),
    *(
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\n",
        b"Content-Length: ",
        b"0" * 16,
        b"content-length: ",
        b"Transfer-Encoding: ",
        b"transfer-encoding",
        b"chunked",
        b"gzip",
    ),
    *(
        b"chunked\r\n\r\n",
        b"1\r\na\r\n",
        b"0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b"Host: a\r\n",
        b"\x00",
        b"\xb2",
        b"\x0b",
    ),
)


#: Each random head begins with one of these.
BEGINNINGS = (b"", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n\r\n")


def test_parser_and_buffer_agree_on_random_heads() -> None:
    dice = random.Random(1)  # noqa: S311  # no secret
    ended = 0
    for _ in range(5_000):
        sent = (
            b"POST /x HTTP/1.1\r\n"
            + dice.choice(BEGINNINGS)
            + b"".join(dice.choices(WORDS, k=dice.randint(2, 12)))
            + b"\r\n\r\n"
        )
        buffer = RequestBuffer()
        for at in range(len(sent)):
            if buffer.add(sent[at : at + 1]):
                ended += 1
                assert buffer.fault or buffer.is_cut or parsed(buffer) == b""
                break
    assert ended > 4_000


@pytest.mark.parametrize(
    "sent",
    [in_chunks(b"1;;\r\na\r\n0\r\n\r\n"), in_chunks(b"0\r\nno trailer\r\n\r\n")],
    ids=["extension", "trailer"],
)
def test_broken_body_raises_none_of_the_parsers_errors(sent: bytes) -> None:
    parser = RequestParser(GUNICORN, ("127.0.0.1", 1))
    parser.unreader.unread(sent)
    body = next(parser).body
    with pytest.raises(BrokenBodyError) as error:
        body.read()
    assert error.value.__cause__ is None
    assert str(error.value) == ""
    assert not parser.finish_body(), "the next request's start is unknown"


def test_reading_never_waits_for_more_data() -> None:
    received = ReceivedData()
    received.unread(b"ab")
    assert received.read(1) == b"a"
    with pytest.raises(NoMoreData):
        received.read(2)
    received.is_cut = True
    with pytest.raises(RequestEntityTooLarge):
        received.read(3)


def test_endless_head_becomes_too_long() -> None:
    buffer = RequestBuffer()
    assert not buffer.add(b"GET / HTTP/1.1\r\n" + b"x" * (MAX_HEAD_BYTES - 100))
    assert not buffer.is_too_long
    assert not buffer.add(b"x" * 100)
    assert buffer.is_too_long


def post(key: dict[str, str], *headers: str) -> tuple[bytes, bytes]:
    """The head and the body of a check."""
    body = json.dumps(check_body()).encode()
    lines = (
        "POST /api/budget/check HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Authorization: {key['Authorization']}",
        *headers,
    )
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode(), body


def reply(connection: socket.socket) -> bytes:
    """The bytes received until the connection is closed or a JSON reply is complete."""
    connection.settimeout(30)
    received = b""
    while not received.endswith(b"}\n") and (data := connection.recv(65_536)):
        received += data
    return received


def test_pieces_pipelining_and_100_continue(server: Installation) -> None:
    head, body = post(server.key())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for piece in (head[:10], head[10:], body[:20], body[20:]):
            connection.sendall(piece)
            time.sleep(0.05)
        assert reply(connection).startswith(b"HTTP/1.1 200")
        # Another request on the same connection, followed by half of a third one.
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


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (headed(b"Content-Length: 5", b"Expect: 100-continue"), b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"GET /" + b"x" * MAX_HEAD_BYTES, b"HTTP/1.1 431 "),
    ],
    ids=["100-continue", "endless head"],
)
def test_bytes_after_a_request_are_handled_at_once(
    installation: Installation, sent: bytes, words: bytes
) -> None:
    server = installation
    server.constants["budget_sync.server.worker.ARRIVAL_S"] = 3600
    server.start("--workers", "1")
    head, body = post(server.key())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + body + sent)
        received = b""
        while words not in received:
            data = connection.recv(65_536)
            assert data, received
            received += data
        assert received.startswith(b"HTTP/1.1 200 ")


def test_slow_client_gets_408_and_server_stops_at_once(
    installation: Installation,
) -> None:
    server = installation
    assert ARRIVAL_S == 10
    server.constants["budget_sync.server.worker.ARRIVAL_S"] = 1
    server.start()
    head, body = post(server.key())
    with (
        socket.create_connection(("127.0.0.1", server.port)) as slow,
        socket.create_connection(("127.0.0.1", server.port)) as silent,
    ):
        slow.sendall(head + body[:10])
        received = reply(slow)
        assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "HTTP_ERROR"
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        # This client connects and sends nothing.
        stopped: list[int] = []
        thread = threading.Thread(target=lambda: stopped.append(server.stop()))
        thread.start()
        thread.join(timeout=15)
        assert stopped == [0]
        assert idle.fileno() > 0


def test_hostile_heads_use_no_thread(installation: Installation) -> None:
    server = installation
    server.constants["budget_sync.server.worker.ARRIVAL_S"] = 120
    server.start("--workers", "1")
    with ExitStack() as patient:
        waiting = [
            connection
            for sent in INCOMPLETE
            for connection in clients_sending(server, sent, patient)
        ]
        for sent in (
            *FAULTS.values(),
            *TOO_LARGE.values(),
            *HEAD_ONLY,
            in_chunks(b"fffff\r\n"),
        ):
            with ExitStack() as hostile:
                connections = clients_sending(server, sent, hostile)
                assert_replies_soon(server)
                assert len(select.select(connections, (), (), 2)[0]) > 0, sent
                assert connections[0].recv(65_536).startswith(b"HTTP/1.1 "), sent
        assert_replies_soon(server)
        for connection in select.select(waiting, (), (), 0)[0]:
            assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"


def clients_sending(server: Installation, sent: bytes, stack: ExitStack) -> list[socket.socket]:
    """More connections than there are threads; each sends these bytes and nothing else."""
    connections = [
        stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port))))
        for _ in range(THREADS + 1)
    ]
    for connection in connections:
        connection.sendall(sent)
    return connections


def assert_replies_soon(server: Installation) -> None:
    """Assert that other clients get replies quickly."""
    for path in ("/healthz", "/sign-in"):
        assert (
            requests.get(
                f"{server.url}{path}", headers={"Connection": "close"}, timeout=2
            ).status_code
            == 200
        )
