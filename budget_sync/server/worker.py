"""A worker process: gunicorn's threaded worker, extended by an event loop that reads requests."""

from __future__ import annotations

import itertools
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from gunicorn import util

from budget_sync.runtime import isolate, shutdown
from budget_sync.runtime.correlation import NO_ID, current_id, id_of_request
from budget_sync.runtime.greenlets import TICK_S, Scheduler
from budget_sync.server.accept_balance import ABSENT
from budget_sync.server.accepting import CHECK_COUNTS_S, AcceptingWorker
from budget_sync.server.connection import SEND_TIMEOUT_S, Connection, unsent_bytes
from budget_sync.server.early_errors import MALFORMED, json_error, malformed
from budget_sync.server.event_loop import event_loop_requests, upload_requests
from budget_sync.server.lingering_close import LingeringConnections
from budget_sync.server.request_buffer import RequestBuffer
from budget_sync.web.payloads import MAX_BODY_BYTES
from budget_sync.web.server_interface import BrokenBodyError

#: The most time for a request to arrive, in seconds. 64 KiB need less, even on the slowest line.
ARRIVAL_S = 10.0

#: The same for an upload, in seconds. 16 MiB need 54 s at 2.5 Mbit/s.
UPLOAD_S = 60.0

#: Uploads that may arrive at once in a worker, because they are kept in memory.
MAX_UPLOADS = 4

TOO_MANY_UPLOADS = "Several other files are being uploaded right now. Try again shortly."

#: A client with more unread bytes of earlier replies gets no thread for its next request. With
#: fewer, the kernel's send buffer has room for another page or reply, so the thread does not block.
MAX_UNREAD_BYTES = 32 * 1024

#: A longer request gets a thread: its JSON would occupy the event loop for too long.
MAX_LOOP_BYTES = 8 * 1024

#: How long a thread that renders a page may keep the GIL while the event loop waits for it, in
#: seconds. A call of the API takes the GIL several times.
SWITCH_INTERVAL_S = 0.0005

#: Signals that are blocked until a new worker has its own handlers.
DEFERRED_SIGNALS = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR2,
}


class _Done:
    """A finished future, as far as gunicorn's `finish_request` uses it."""

    __slots__ = ("_result",)

    def __init__(self, result: object) -> None:
        self._result = result

    def cancelled(self) -> bool:
        """Always False."""
        return False

    def result(self) -> object:
        """The result of `handle`."""
        return self._result


class Worker(AcceptingWorker):
    """A worker with threads for complete requests only: a slow client uses memory, not a thread.

    The event loop accepts connections and reads from them. Once a request is complete, or can be
    rejected, a thread handles it; views with `@runs_on_event_loop` run in a greenlet on the loop
    instead. Requests that are too slow or ambiguous get a JSON error from the loop. See
    docs/server.md.
    """

    scheduler: Scheduler
    lingering: LingeringConnections
    event_loop_requests: tuple[bytes, ...]
    upload_requests: tuple[bytes, ...]

    #: False only in the benchmark, to measure the difference.
    uses_greenlets = True

    def init_process(self) -> None:
        """Prepare this process, and serve."""
        util.http_date = _http_date
        # Gunicorn reads settings a dozen times for each request, by a function call each time. They
        # do not change, so store them as attributes.
        self.cfg.__dict__.update(
            {name: setting.get() for name, setting in self.cfg.settings.items()}
        )
        if hasattr(os, "SCHED_BATCH"):
            # The threads wake each other all the time. A thread that wakes up need not preempt
            # another at once.
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        # Connections with an incomplete request, and those with unread replies, by their deadlines.
        self.arriving: dict[Connection, None] = {}
        self.uploading: dict[Connection, None] = {}
        self.blocked: dict[Connection, None] = {}
        super().init_process()

    def init_signals(self) -> None:
        """Set the handlers, and unblock the signals that came in the meantime."""
        super().init_signals()
        # A shell sends SIGHUP to every process. The master stops its workers after their requests.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # `systemctl kill` sends a signal to every process. SIGUSR2 would end the worker.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFERRED_SIGNALS)

    def handle_exit(self, number: int, frame: object) -> None:
        """Stop after the requests in progress. Sheets that are being read end their requests."""
        shutdown.request()
        isolate.stop_children()
        super().handle_exit(number, frame)

    def handle_quit(self, number: int, frame: object) -> None:
        """Stop at once."""
        isolate.stop_children()
        super().handle_quit(number, frame)

    def run(self) -> None:
        """Serve until stopped."""
        self.scheduler = Scheduler(
            lambda: self.method_queue.defer(self.scheduler.resume_notified),
            self.poller,
            self.wsgi.config.get("EVENT_LOOP_MAX_CALLS"),
        )
        self.lingering = LingeringConnections(self.poller)
        self.event_loop_requests = event_loop_requests(self.wsgi) if self.uses_greenlets else ()
        self.upload_requests = upload_requests(self.wsgi)
        self.connection_counts.set(self.age, 0)
        super().run()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Handle events for up to TICK_S, or one round of them if the worker stops.

        After this call, gunicorn checks its master, its connections and its heartbeat, which costs
        more than an event does.
        """
        deadline = time.monotonic() + TICK_S
        while True:
            self.scheduler.run_before_sleep()
            super().wait_for_and_dispatch_events(self._select_timeout(timeout))
            self.scheduler.resume_timed_out()
            now = time.monotonic()
            if self.accepts_at is not None and (
                now >= self.accepts_at or self.nr_conns <= self.connection_counts.lowest()
            ):
                self._accept_after_all()
            self.connection_counts.set(self.age, self.nr_conns if self.alive else ABSENT)
            if not self.alive or now >= deadline:
                return

    def _select_timeout(self, timeout: float) -> float:
        """The longest time to wait for events, in seconds."""
        if self.accepts_at is not None:
            return CHECK_COUNTS_S
        # After TICK_S, gunicorn's loop also checks whether there is room for a new connection.
        needs_tick = self.scheduler.has_waiters or self.blocked or not self._accepting
        return TICK_S if needs_tick else timeout

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Read the next request of a kept connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_request(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """Read the next request of a kept connection, of which the parser has a part already."""
        conn.sock.setblocking(False)
        self._await_request(conn, conn.parser.unreader.take_buffered())

    def handle(self, conn: Connection) -> object:
        """Parse and handle the request. Runs in a thread, or in a greenlet on the event loop."""
        conn.parser.unreader.unread(bytes(conn.buffer.data))
        conn.is_cut = conn.parser.unreader.is_cut = conn.buffer.is_cut
        conn.buffer = RequestBuffer(conn.uploads)
        try:
            return super().handle(conn)
        finally:
            # The app has set the id, and has kept it for lines that are logged while the reply is
            # sent.
            current_id.set(NO_ID)

    def _submit(self, conn: Connection) -> None:
        """Have a thread handle the request.

        Rejects an ambiguous request. If the client has not read its earlier replies, the request
        waits until it has.
        """
        if conn.buffer.fault:
            self._reject(conn, HTTPStatus.BAD_REQUEST, malformed(conn.buffer.fault))
        elif unsent_bytes(conn.sock) > MAX_UNREAD_BYTES:
            conn.timeout = time.monotonic() + SEND_TIMEOUT_S
            self.blocked[conn] = None
        else:
            super().enqueue_req(conn)

    def murder_pending(self) -> None:
        """Submit, reject or close the waiting connections that no longer need to wait."""
        now = time.monotonic()
        for conn in [
            conn
            for conn in self.blocked
            if conn.timeout <= now or unsent_bytes(conn.sock) <= MAX_UNREAD_BYTES
        ]:
            if conn.timeout <= now:
                self._drop(conn)
            else:
                del self.blocked[conn]
                super().enqueue_req(conn)
        for conn in [
            conn
            for waiting in (self.arriving, self.uploading)
            for conn in itertools.takewhile(lambda conn: conn.timeout <= now, waiting)
        ]:
            if conn.buffer.data:
                self._reject(
                    conn, HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive."
                )
            else:
                self._drop(conn)
        self.lingering.close_overdue()

    def _cap_keepalive(self, deadline: float) -> None:
        """On shutdown, close connections without a request by the deadline."""
        super()._cap_keepalive(deadline)
        idle = {conn: None for conn in self.arriving if not conn.buffer.data}
        for conn in idle:
            conn.timeout = min(conn.timeout, deadline)
        self.arriving = idle | self.arriving

    def _await_request(self, conn: Connection, read_ahead: bytes = b"") -> None:
        """Read what has arrived of a request, and wait for the rest."""
        conn.timeout = time.monotonic() + ARRIVAL_S
        if (not read_ahead or self._add(conn, read_ahead, is_ahead=True)) and self._read(conn):
            self.poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._read(conn))
            if conn not in self.uploading:
                self.arriving[conn] = None

    def _read(self, conn: Connection) -> bool:
        """Read what has arrived; returns as `_add` does."""
        try:
            data = conn.sock.recv(MAX_BODY_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            self._drop(conn)
            return False
        return self._add(conn, data)

    def _add(self, conn: Connection, data: bytes, *, is_ahead: bool = False) -> bool:
        """Add received bytes; `data` is empty if the client has ended its side.

        True if the request is incomplete; False if it is being handled, was rejected, or is gone.
        """
        is_complete = conn.buffer.add(data)
        if conn.buffer.is_too_long:
            self._reject(
                conn,
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                malformed("headers too long or too many"),
            )
        elif is_complete or (not data and conn.buffer.data):
            # If the client has ended its side in the middle, the parser says what is missing.
            self._stop_waiting(conn)
            # Pipelined requests go to a thread: one client could keep the event loop busy.
            if is_complete and not is_ahead and self._may_run_here(conn):
                self.scheduler.spawn(lambda: self._handle_here(conn))
            else:
                self._submit(conn)
        elif not data:
            self._drop(conn)
        elif conn.buffer.is_upload and not self._may_upload(conn):
            self._reject(conn, HTTPStatus.SERVICE_UNAVAILABLE, TOO_MANY_UPLOADS)
        else:
            if conn.buffer.awaits_continue:
                conn.buffer.awaits_continue = False
                with suppress(OSError):
                    conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return True
        return False

    def _may_upload(self, conn: Connection) -> bool:
        """Give an upload that has begun more time; False if MAX_UPLOADS others are arriving."""
        if conn not in self.uploading:
            if len(self.uploading) >= MAX_UPLOADS:
                return False
            self.arriving.pop(conn, None)
            conn.timeout = time.monotonic() + UPLOAD_S
            self.uploading[conn] = None
        return True

    def _may_run_here(self, conn: Connection) -> bool:
        """Whether its view may run on the event loop and neither side has to wait."""
        return (
            len(conn.buffer.data) <= MAX_LOOP_BYTES
            and conn.buffer.data.startswith(self.event_loop_requests)
            and not (conn.buffer.is_cut or conn.buffer.fault)
            and unsent_bytes(conn.sock) == 0
        )

    def _handle_here(self, conn: Connection) -> None:
        """Handle a request in a greenlet, and finish it as gunicorn finishes a thread's."""
        self.finish_request(conn, _Done(self.handle(conn)))

    def _stop_waiting(self, conn: Connection) -> None:
        if conn in self.arriving or conn in self.uploading:
            self.arriving.pop(conn, None)
            self.uploading.pop(conn, None)
            # Not registered yet if the first bytes were read when the connection was accepted.
            with suppress(KeyError):
                self.poller.unregister(conn.sock)

    def _drop(self, conn: Connection) -> None:
        self._stop_waiting(conn)
        self.blocked.pop(conn, None)
        self.nr_conns -= 1
        conn.close()

    def _reject(self, conn: Connection, status: HTTPStatus, sentence: str) -> None:
        """Send an error response under a new request id, and close the connection."""
        self._stop_waiting(conn)
        self.nr_conns -= 1
        before = current_id.set(id_of_request(""))
        self._send_error(conn.sock, status, sentence)
        current_id.reset(before)
        conn.close(graceful=True)

    def handle_error(
        self, _: object, client: socket.socket, address: object, error: Exception
    ) -> None:
        """Send an error response for a malformed request, or for an unhandled exception.

        The response and the log never quote the request.
        """
        if current_id.get() == NO_ID:
            # The request did not reach the app, which sets the id.
            current_id.set(id_of_request(""))
        if type(error) in MALFORMED:
            status, kind = MALFORMED[type(error)]
            self._send_error(client, status, malformed(kind))
        else:
            self.log.error("Unhandled exception outside of the app.", exc_info=error)
            self._send_error(
                client,
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "Something went wrong on our side and was logged. "
                f"Quote request id {current_id.get()} if you contact support.",
            )

    def _send_error(self, client: socket.socket, status: HTTPStatus, sentence: str) -> None:
        """Send an error response, and log the same sentence, both under the current request id."""
        self.log.warning("Rejected before it reached the app: %d %s", status, sentence)
        with suppress(OSError):
            util.write_nonblock(client, json_error(status, sentence))

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether to keep the connection; not if the request was cut off."""
        try:
            return not conn.is_cut and bool(super()._keepalive_after(conn, keepalive))
        except BrokenBodyError:
            # The view did not read all of a broken body. Its reply is sent; send no second one.
            return False

    def is_parent_alive(self) -> bool:
        """Whether the master process lives. If it was killed, stop listening, and stop this worker.

        A new server can then use the port at once, while this one finishes its requests.
        """
        if super().is_parent_alive():
            return True
        self.alive = False
        for listener in self.sockets:
            # Shut down, not only closed: the other workers have it open, too. Fails if one of them
            # was faster.
            with suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RD)
        return False


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


def _http_date(timestamp: float | None = None) -> str:
    """A time as in the Date header, formatted once a second."""
    return _date_of(int(time.time() if timestamp is None else timestamp))
