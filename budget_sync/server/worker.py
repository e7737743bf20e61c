"""A worker of the production server: gunicorn's with threads, which here get whole requests only, or none at all."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from budget_sync.runtime.correlation import NOTHING, current_id, id_of_request
from budget_sync.runtime.greenlets import TICK_S, Lane
from budget_sync.server.accept_balance import ABSENT, Balance
from budget_sync.server.connection import SEND_TIMEOUT_S, Connection, unsent_bytes
from budget_sync.server.early_errors import MALFORMED, json_error, malformed
from budget_sync.server.lingering_close import Leaving
from budget_sync.server.request_buffer import Arrival
from budget_sync.web.payloads import MAX_BODY_BYTES

#: Seconds that a new client is left to a worker that has fewer, before whoever saw it takes it after all.
LEAVE_TO_OTHERS_S = 0.002

#: Seconds until one who left a client to others looks whether it is its own turn again.
LOOK_S = 0.001

#: Seconds that a request may take to arrive, head and body: 64 KiB do in less, on the slowest line.
ARRIVAL_S = 10.0

#: Bytes of its replies that a client may have left untaken and still be given a thread for its next request. With a page or an
#: answer on top of that, what the system keeps suffices, so that the thread has nothing to wait for.
MAX_UNTAKEN_BYTES = 32 * 1024

#: What waits until a new worker has handlers of its own: what tells it to stop, and a hang-up.
HELD_BACK = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}

#: What the system says where it has no file, or no memory, for another connection.
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Answered:
    """As much of a future as is asked of one whose request was answered without a thread."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: object) -> None:
        self._outcome = outcome

    def cancelled(self) -> bool:
        """It was not."""
        return False

    def result(self) -> object:
        """What handling it came to."""
        return self._outcome


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker with threads that are given whole requests only, so that a slow client costs memory and no thread.

    The loop that waits for connections also reads from them. A thread gets a request once all of it is there, or once it can
    be refused; one that takes too long to arrive is refused here. What is no HTTP is refused as JSON, and the listener may be
    found shut. Calls for which the app says that they wait for nothing but a bell get no thread: they share the loop's.
    """

    lane: Lane
    leaving: Leaving
    shared_calls: tuple[bytes, ...]

    #: Of all workers of the server: whoever starts them sets it on the class, as gunicorn makes them.
    balance: Balance

    #: When to look again for a client that was left to another worker.
    looks_again: float | None = None

    #: Whether the system had no file or no memory for the last connection.
    has_no_room = False

    def init_process(self) -> None:
        """Start serving."""
        util.http_date = _http_date
        # Gunicorn asks for a setting a dozen times a request, by way of a function each time. A worker's never change.
        self.cfg.__dict__.update(
            {name: setting.get() for name, setting in self.cfg.settings.items()}
        )
        if hasattr(os, "SCHED_BATCH"):
            # Threads that hand over to each other all the time: one that wakes need not push another off its core at once.
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        # The one that waits longest first; each knows when its time is up.
        self.arriving: dict[Connection, None] = {}
        self.clogged: dict[Connection, None] = {}
        super().init_process()

    def init_signals(self) -> None:
        """Listen to the master, also to what it said meanwhile."""
        super().init_signals()
        # A shell passes a hang-up on to every process. The master stops its workers, once they have answered.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def run(self) -> None:
        """Serve until told to stop."""
        self.lane = Lane(
            lambda: self.method_queue.defer(self.lane.go_on),
            self.poller,
            self.wsgi.config.get("SHARED_AT_ONCE"),
        )
        self.leaving = Leaving(self.poller)
        self.shared_calls = self.wsgi.config.get("SHARED_CALLS", ())
        self.balance.tell(self.age, 0)
        super().run()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait, and let those go on who have waited long enough; for a while, where there is more to come.

        In between, gunicorn looks after its master, its connections and its heartbeat, which costs more than an event does.
        """
        until = time.monotonic() + TICK_S
        while True:
            self.lane.rest()
            super().wait_for_and_dispatch_events(self._patience(timeout))
            self.lane.tick()
            now = time.monotonic()
            if self.looks_again is not None and (
                now >= self.looks_again or self.nr_conns <= self.balance.least()
            ):
                self._look_again()
            self.balance.tell(self.age, self.nr_conns if self.alive else ABSENT)
            if not self.alive or now >= until:
                return

    def _patience(self, timeout: float) -> float:
        """Seconds to wait at most for what may happen."""
        if self.looks_again is not None:
            return LOOK_S
        # Whether there is room again for a new client is looked at in between.
        return (
            TICK_S
            if self.lane.is_anyone_waiting or self.clogged or not self._accepting
            else timeout
        )

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, or leave it to a worker that has fewer: not for long, as that one may be busy with something else."""
        if self.nr_conns > self.balance.least():
            self.looks_again = time.monotonic() + LEAVE_TO_OTHERS_S
            self.set_accept_enabled(False)
        else:
            self._take(listener)

    def _look_again(self) -> None:
        """Take a connection that nobody else took, if there is one, and wait for the next."""
        self.looks_again = None
        if self.alive and self.nr_conns < self.worker_connections:
            self.set_accept_enabled(True)
            for listener in self.sockets:
                self._take(listener)

    def _take(self, listener: socket.socket) -> None:
        """Take a connection, unless the master has stopped listening: SIGTERM is then on its way here."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in NO_ROOM:
                self._wait_for_room(error)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINVAL):
                raise
            return
        self.has_no_room = False
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections and (slow := self.clogged or self.arriving):
            # Full: who has taken longest gives way.
            self._drop(next(iter(slow)))
        # So do those that were told to go: they have files open, too.
        self.leaving.end_beyond(self.worker_connections - self.nr_conns)
        if self.nr_conns >= self.worker_connections:
            self.set_accept_enabled(False)
        self._await_request(
            Connection(self.cfg, client, address, listener.getsockname(), self.leaving.add)
        )

    def _wait_for_room(self, error: OSError) -> None:
        """Listen to nobody new until gunicorn's loop does so again, in a moment: who waits to be taken in would wake it over and over."""
        self.set_accept_enabled(False)
        if not self.has_no_room:
            # Once: it may stay so for hours.
            self.has_no_room = True
            self.log.error(
                "There is no room for another connection: %s. Who comes now has to wait.",
                error.strerror,
            )

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The next request on a kept connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_request(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """The next request on a kept connection, of which the parser has read some already."""
        conn.sock.setblocking(False)
        self._await_request(conn, conn.parser.unreader.take_buffered())

    def handle(self, conn: Connection) -> object:
        """Give the parser what has arrived, and have the request handled. Runs in a thread, or in the lane."""
        conn.parser.unreader.unread(bytes(conn.arrival.data))
        conn.is_cut = conn.parser.unreader.is_cut = conn.arrival.is_cut
        conn.arrival = Arrival()
        try:
            return super().handle(conn)
        finally:
            # The request set it, and kept it for what is logged while its reply is sent.
            current_id.set(NOTHING)

    def _give_thread(self, conn: Connection) -> None:
        """Have a thread handle the request, but wait here, without one, for a client that has not taken what it got for those before.

        A request of which nobody knows where it ends is refused without one.
        """
        if conn.arrival.fault:
            self._refuse(conn, HTTPStatus.BAD_REQUEST, malformed(conn.arrival.fault))
        elif unsent_bytes(conn.sock) > MAX_UNTAKEN_BYTES:
            conn.timeout = time.monotonic() + SEND_TIMEOUT_S
            self.clogged[conn] = None
        else:
            super().enqueue_req(conn)

    def murder_pending(self) -> None:
        """Refuse what takes too long to arrive, go on with who has taken its replies at last, and close what was left open long enough."""
        now = time.monotonic()
        for conn in [
            conn
            for conn in self.clogged
            if conn.timeout <= now or unsent_bytes(conn.sock) <= MAX_UNTAKEN_BYTES
        ]:
            if conn.timeout <= now:
                self._drop(conn)
            else:
                del self.clogged[conn]
                super().enqueue_req(conn)
        for conn in list(itertools.takewhile(lambda conn: conn.timeout <= now, self.arriving)):
            if conn.arrival.data:
                self._refuse(
                    conn, HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive."
                )
            else:
                self._drop(conn)
        self.leaving.end_overdue()

    def _cap_keepalive(self, deadline: float) -> None:
        """Before the end, nobody is waited for who has not begun to send."""
        super()._cap_keepalive(deadline)
        idle = {conn: None for conn in self.arriving if not conn.arrival.data}
        for conn in idle:
            conn.timeout = min(conn.timeout, deadline)
        self.arriving = idle | self.arriving

    def _await_request(self, conn: Connection, read_ahead: bytes = b"") -> None:
        """Read what is there of a request, and wait for the rest."""
        conn.timeout = time.monotonic() + ARRIVAL_S
        if (not read_ahead or self._take_in(conn, read_ahead, is_ahead=True)) and self._read(conn):
            self.poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._read(conn))
            self.arriving[conn] = None

    def _read(self, conn: Connection) -> bool:
        """Read what has come; returns as `_take_in` does."""
        try:
            data = conn.sock.recv(MAX_BODY_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            self._drop(conn)
            return False
        return self._take_in(conn, data)

    def _take_in(self, conn: Connection, data: bytes, *, is_ahead: bool = False) -> bool:
        """Take in what has come, or that no more will; False where the connection needs no more waiting: it went to a thread, was refused, or is gone."""
        is_whole = conn.arrival.add(data)
        if conn.arrival.is_too_long:
            self._refuse(
                conn,
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                malformed("headers too long or too many"),
            )
        elif is_whole or (not data and conn.arrival.data):
            # Or half of one that ends there: the parser says what is missing.
            self._stop_waiting(conn)
            # Who sends many requests at once would have the loop for itself: what came ahead gets a thread.
            if is_whole and not is_ahead and self._may_share(conn):
                self.lane.start(lambda: self._answer(conn))
            else:
                self._give_thread(conn)
        elif not data:
            self._drop(conn)
        else:
            if conn.arrival.awaits_continue:
                conn.arrival.awaits_continue = False
                with suppress(OSError):
                    conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return True
        return False

    def _may_share(self, conn: Connection) -> bool:
        """Whether the request can be answered without a thread: nothing of it is still to come, and its client has taken all earlier replies."""
        return (
            conn.arrival.data.startswith(self.shared_calls)
            and not (conn.arrival.is_cut or conn.arrival.fault)
            and unsent_bytes(conn.sock) == 0
        )

    def _answer(self, conn: Connection) -> None:
        """Handle a request in the lane, and say so as a thread's future would."""
        self.finish_request(conn, _Answered(self.handle(conn)))

    def _stop_waiting(self, conn: Connection) -> None:
        if conn in self.arriving:
            del self.arriving[conn]
            self.poller.unregister(conn.sock)

    def _drop(self, conn: Connection) -> None:
        self._stop_waiting(conn)
        self.clogged.pop(conn, None)
        self.nr_conns -= 1
        conn.close()

    def _refuse(self, conn: Connection, status: HTTPStatus, sentence: str) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        before = current_id.set(id_of_request(""))
        self._say_no(conn.sock, status, sentence)
        current_id.reset(before)
        conn.close(graceful=True)

    def handle_error(
        self, _: object, client: socket.socket, address: object, error: Exception
    ) -> None:
        """Refuse what the parser cannot read, and tell nothing of it but the kind of its fault; anything else is a mistake of ours."""
        if current_id.get() == NOTHING:
            # It did not come to the app, which would have given it one.
            current_id.set(id_of_request(""))
        if type(error) in MALFORMED:
            status, kind = MALFORMED[type(error)]
            self._say_no(client, status, malformed(kind))
        else:
            self.log.error("A mistake of ours, outside of the app.", exc_info=error)
            self._say_no(
                client, HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side."
            )

    def _say_no(self, client: socket.socket, status: HTTPStatus, sentence: str) -> None:
        """Refuse a request outside of the app, under the id that is set; the log has the same words as the reply."""
        self.log.warning("Refused before the app saw it: %d %s", status, sentence)
        with suppress(OSError):
            util.write_nonblock(client, json_error(status, sentence))

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether the connection can be kept: nobody waits for the rest of a body that was refused unread."""
        try:
            return not conn.is_cut and bool(super()._keepalive_after(conn, keepalive))
        except errors.ParseException:
            # What the call did not read of the body is none. It has its reply, and must not get another.
            return False

    def is_parent_alive(self) -> bool:
        """Whether the master lives. Where it was killed, let go of its port at once, for the next one, and end what is under way."""
        if super().is_parent_alive():
            return True
        self.alive = False
        for listener in self.sockets:
            # Shut, not just closed: the other workers have it too. One of them may have been first.
            with suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RD)
        return False


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


def _http_date(timestamp: float | None = None) -> str:
    """A time for a header, made once a second."""
    return _date_of(int(time.time() if timestamp is None else timestamp))
