"""A request is given to a thread when all of it has arrived, or as soon as it can be refused; however it comes in pieces."""

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
from budget_sync.web.server_interface import BrokenBodyError

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\ncontent-LENGTH : 5\r\n\r\n12345"
CHUNKED = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;name=value\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: 1\r\n\r\n"
CHUNKED_WITHOUT_TRAILERS = (
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, CHUNKED_WITHOUT_TRAILERS])
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_: bytes) -> None:
    for size in (1, 2, 7, len(request_)):
        request_buffer = RequestBuffer()
        pieces = [request_[at : at + size] for at in range(0, len(request_), size)]
        assert [request_buffer.add(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [
            True
        ]
        assert bytes(request_buffer.data) == request_
        assert not request_buffer.is_cut


def test_what_follows_a_whole_request_is_kept_for_the_parser() -> None:
    request_buffer = RequestBuffer()
    assert request_buffer.add(POST + GET)
    assert bytes(request_buffer.data) == POST + GET


def in_chunks(body: bytes) -> bytes:
    """A request with a body that begins with these bytes."""
    return b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def headed(*headers: bytes) -> bytes:
    """A request's head with these headers."""
    return b"\r\n".join((b"POST /x HTTP/1.1", *headers, b"", b""))


TOO_LARGE = {
    "by its length": headed(b"Content-Length: %d" % (MAX_BODY_BYTES + 1)),
    "by a long length": headed(b"Content-Length: " + b"9" * MAX_LENGTH_DIGITS),
    "one chunk": in_chunks(b"%x\r\n" % (MAX_BODY_BYTES + 1)),
    "a very large chunk": in_chunks(b"fffffff\r\n"),
    "all chunks together": in_chunks((b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 4 + b"1\r\n"),
    "what is around the chunks": in_chunks(b"1;so-much-is-said-of-each-chunk\r\n \r\n" * 3_000),
    "what follows the chunks": in_chunks(b"0\r\n" + b"Trailer: 1\r\n" * 9_000),
}


@pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_is_too_large_is_not_waited_for(sent: bytes) -> None:
    request_buffer = RequestBuffer()
    assert request_buffer.add(sent)
    assert request_buffer.is_cut
    assert not request_buffer.fault


LENGTHS_THAT_ARE_NONE = (
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
        f"the length {length[:24]!r}": headed(b"Content-Length: " + length)
        for length in LENGTHS_THAT_ARE_NONE
    },
    "a length with a line feed": headed(b"Content-Length: 5\nX: y"),
    "two lengths": headed(b"Content-Length: 5", b"Content-Length: 6"),
    "one length twice": headed(b"Content-Length: 5", b"Content-Length: 5"),
    "a length and chunks": headed(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks and a length": headed(b"Transfer-Encoding: chunked", b"X: y", b"content-length: 5"),
    "two codings": headed(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
    "a size that is none": in_chunks(b"no size\r\n"),
    "no size": in_chunks(b"\r\n"),
    "a negative size": in_chunks(b"-5\r\n"),
    "a size with a prefix": in_chunks(b"0x5\r\n"),
    "a size with a space": in_chunks(b"5 \r\n"),
    "a size of nine digits": in_chunks(b"00000000f\r\n"),
    "a size without end": in_chunks(b"0" * MAX_CHUNK_LINE_BYTES),
    "a long extension": in_chunks(b"5;" + b"x" * MAX_CHUNK_LINE_BYTES + b"\r\n"),
    "an extension with a line feed": in_chunks(b"5;a\nb\r\n"),
    "an extension with a carriage return": in_chunks(b"5;a\rb\r\n"),
    "a chunk longer than its size": in_chunks(b"1\r\nabc\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("sent", FAULTS.values(), ids=FAULTS)
def test_what_may_end_in_two_places_is_refused_at_once_however_it_comes(sent: bytes) -> None:
    for size in (1, 7, len(sent)):
        request_buffer = RequestBuffer()
        assert [request_buffer.add(sent[at : at + size]) for at in range(0, len(sent), size)][-1]
        assert request_buffer.fault


#: What the parser refuses by its head, so that nothing more is waited for; and what it takes for a request without a body.
JUDGED_BY_THE_HEAD = (
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

#: Requests with a body, most of which the parser refuses when it comes to it.
WITH_A_BODY = (
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

#: What may still become a request, and is waited for without a thread.
TO_BE_CONTINUED = (
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


def parsed(request_buffer: RequestBuffer) -> bytes:
    """What gunicorn's parser leaves of what has arrived, once it has read or refused the request; to wait for more is a failure."""
    parser = RequestParser(GUNICORN, ("127.0.0.1", 1))
    parser.unreader.unread(bytes(request_buffer.data))
    try:
        next(parser).body.read()
    except (ParseException, BrokenBodyError):
        return b""
    except NoMoreData:
        pytest.fail(f"the parser waits for more than {bytes(request_buffer.data)[:300]!r}")
    left: bytes = parser.unreader.take_buffered()
    return left


@pytest.mark.parametrize(
    "sent", JUDGED_BY_THE_HEAD + WITH_A_BODY, ids=lambda sent: repr(sent)[2:60]
)
def test_the_parser_and_the_loop_agree_where_a_request_ends(sent: bytes) -> None:
    request_buffer = RequestBuffer()
    pieces = [request_buffer.add(sent[at : at + 1]) for at in range(len(sent))]
    assert not any(pieces[:-1])
    assert pieces[-1]
    assert parsed(request_buffer) == b""


@pytest.mark.parametrize("sent", TO_BE_CONTINUED, ids=lambda sent: repr(sent)[2:60])
def test_what_may_become_a_request_is_waited_for(sent: bytes) -> None:
    assert not RequestBuffer().add(sent)


#: Of these, heads are made that nobody thought of.
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


#: What each of them may begin with.
BEGINNINGS = (b"", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n\r\n")


def test_the_parser_and_the_loop_agree_about_random_heads() -> None:
    dice = random.Random(1)  # noqa: S311  # no secret
    whole = 0
    for _ in range(5_000):
        sent = (
            b"POST /x HTTP/1.1\r\n"
            + dice.choice(BEGINNINGS)
            + b"".join(dice.choices(WORDS, k=dice.randint(2, 12)))
            + b"\r\n\r\n"
        )
        request_buffer = RequestBuffer()
        for at in range(len(sent)):
            if request_buffer.add(sent[at : at + 1]):
                whole += 1
                assert (
                    request_buffer.fault or request_buffer.is_cut or parsed(request_buffer) == b""
                )
                break
    assert whole > 4_000


def test_nothing_is_read_that_has_not_arrived() -> None:
    arrived = ReceivedData()
    arrived.unread(b"ab")
    assert arrived.read(1) == b"a"
    with pytest.raises(NoMoreData):
        arrived.read(2)
    arrived.is_cut = True
    with pytest.raises(RequestEntityTooLarge):
        arrived.read(3)


def test_a_head_without_end_is_too_long_at_some_time() -> None:
    request_buffer = RequestBuffer()
    assert not request_buffer.add(b"GET / HTTP/1.1\r\n" + b"x" * (MAX_HEAD_BYTES - 100))
    assert not request_buffer.is_too_long
    assert not request_buffer.add(b"x" * 100)
    assert request_buffer.is_too_long


def post(key: dict[str, str], *headers: str) -> tuple[bytes, bytes]:
    """A check, as head and body."""
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
    """What comes until the connection is closed, or a whole JSON reply is there."""
    connection.settimeout(30)
    received = b""
    while not received.endswith(b"}\n") and (data := connection.recv(65_536)):
        received += data
    return received


def test_a_request_in_pieces_two_at_once_and_one_that_waits_to_be_told_are_answered(
    server: Installation,
) -> None:
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


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (headed(b"Content-Length: 5", b"Expect: 100-continue"), b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"GET /" + b"x" * MAX_HEAD_BYTES, b"HTTP/1.1 431 "),
    ],
    ids=["one that waits to be told", "one with an endless head"],
)
def test_what_came_together_with_the_request_before_is_looked_at_too(
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


def test_who_takes_too_long_is_told_so_and_the_server_still_stops_at_once(
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
        # It is taken in, and never says a word.
        stopped: list[int] = []
        thread = threading.Thread(target=lambda: stopped.append(server.stop()))
        thread.start()
        thread.join(timeout=15)
        assert stopped == [0]
        assert idle.fileno() > 0


def test_hostile_heads_cost_no_thread_and_keep_nobody_waiting(installation: Installation) -> None:
    server = installation
    server.constants["budget_sync.server.worker.ARRIVAL_S"] = 120
    server.start("--workers", "1")
    with ExitStack() as patient:
        waiting = [
            connection for sent in TO_BE_CONTINUED for connection in callers(server, sent, patient)
        ]
        for sent in (
            *FAULTS.values(),
            *TOO_LARGE.values(),
            *JUDGED_BY_THE_HEAD,
            in_chunks(b"fffff\r\n"),
        ):
            with ExitStack() as hostile:
                connections = callers(server, sent, hostile)
                answers_soon(server)
                assert len(select.select(connections, (), (), 2)[0]) > 0, sent
                assert connections[0].recv(65_536).startswith(b"HTTP/1.1 "), sent
        answers_soon(server)
        for connection in select.select(waiting, (), (), 0)[0]:
            assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"


def callers(server: Installation, sent: bytes, stack: ExitStack) -> list[socket.socket]:
    """More connections than there are threads, on each of which that is sent and nothing else."""
    connections = [
        stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port))))
        for _ in range(THREADS + 1)
    ]
    for connection in connections:
        connection.sendall(sent)
    return connections


def answers_soon(server: Installation) -> None:
    """Whether others are answered: by the loop itself, and by a thread."""
    for path in ("/healthz", "/sign-in"):
        assert (
            requests.get(
                f"{server.url}{path}", headers={"Connection": "close"}, timeout=2
            ).status_code
            == 200
        )
