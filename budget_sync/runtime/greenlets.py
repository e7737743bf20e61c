"""Cooperative waiting: a caller blocks if it owns its thread and yields if it is a greenlet.

A request spends most of its time waiting for a commit. With a thread for each request, every such
wait hands the interpreter from thread to thread, which costs more than the request itself.
Greenlets share one thread: each runs until it waits for a notification or for a socket, and resumes
once it was notified or the socket is ready. The code that waits or notifies is the same for threads
and greenlets.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")

#: Resolution of a greenlet's timeouts, in seconds.
TICK_S = 0.05

#: `run_in_thread` waits without a time limit, in steps of this many seconds.
_STEP_S = 60.0


class Waiter(Protocol):
    """Lets one caller wait for one notification, like an event that is set at most once."""

    def notify(self) -> None:
        """Notify the caller that waits. May be called from any thread."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for the notification; False after the timeout, and the caller may wait again."""


class _ThreadWaiter:
    """Blocks the calling thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        # A lock is the cheapest primitive to wait for.
        self._lock = threading.Lock()
        self._lock.acquire()

    def notify(self) -> None:
        self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        return self._lock.acquire(timeout=timeout_s)


class _GreenletWaiter:
    """Yields to the other greenlets of the thread."""

    __slots__ = ("is_notified", "scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.is_notified = False

    def notify(self) -> None:
        self.is_notified = True
        self.scheduler.enqueue_notified(self)

    def wait(self, timeout_s: float) -> bool:
        if not self.is_notified:
            self.scheduler.wait(self, timeout_s)
        return self.is_notified


class Poller(Protocol):
    """The part of a `selectors` selector that is used here.

    The event loop that sleeps on it calls each registered callback with the ready file.
    """

    def register(self, fileobj: int, events: int, data: Callable[[object], None]) -> object:
        """Call `data` whenever one of the events occurs."""

    def unregister(self, fileobj: int) -> object:
        """Remove the registration."""


class Scheduler:
    """Runs calls as greenlets on the thread that creates it, driven by that thread's event loop.

    Only `enqueue_notified` may be called from other threads.

    `wake` may be called from any thread; it makes the event loop call `resume_notified` soon.
    `poller` is the selector that the event loop sleeps on. At most `max_calls` calls run at a time;
    further calls wait in a queue.
    """

    def __init__(
        self, wake: Callable[[], None], poller: Poller, max_calls: int | None = None
    ) -> None:
        self._loop = getcurrent()
        self._wake = wake
        self._poller = poller
        self._max_calls = max_calls
        self._running = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._notified: deque[_GreenletWaiter] = deque()
        # The waiting greenlets with their deadlines.
        self._waiting: dict[_GreenletWaiter, tuple[greenlet, float]] = {}
        self._next_tick = 0.0
        self._before_sleep: list[Callable[[], None]] = []
        _this_thread.scheduler = self

    def spawn(self, call: Callable[[], None]) -> None:
        """Run the call until it ends or waits. If a greenlet spawns it, that one yields first."""
        self._queue.append(call)
        if not self.is_in_greenlet():
            self._start_queued()

    @property
    def has_waiters(self) -> bool:
        """Whether `resume_timed_out` has to be called every TICK_S."""
        return bool(self._waiting)

    def resume_notified(self) -> None:
        """Resume the greenlets that were notified."""
        # First, so that a notification from now on wakes the loop again.
        self._is_woken = False
        while self._notified:
            self._resume(self._notified.popleft())

    def resume_timed_out(self) -> None:
        """Resume the greenlets with expired timeouts."""
        now = time.monotonic()
        if self._waiting and now >= self._next_tick:
            self._next_tick = now + TICK_S
            for waiter in [
                waiter for waiter, (_, deadline) in self._waiting.items() if deadline <= now
            ]:
                self._resume(waiter)

    def run_before_sleep(self) -> None:
        """Run the callbacks of `call_before_sleep`."""
        while self._before_sleep:
            self._before_sleep.pop()()

    def wait(self, waiter: _GreenletWaiter, timeout_s: float) -> None:
        """Yield until the notification or the timeout. To be called from a greenlet."""
        self._waiting[waiter] = (getcurrent(), time.monotonic() + timeout_s)
        self._loop.switch()

    def idle(self, waiter: _GreenletWaiter, timeout_s: float) -> None:
        """Yield as `wait` does, but do not count as a running call until there is room for it."""
        self._running -= 1
        self.wait(waiter, timeout_s)
        while self._max_calls is not None and self._running >= self._max_calls:
            self.wait(waiter, TICK_S)
        self._running += 1

    def await_socket(self, fileno: int, events: int) -> None:
        """Yield until one of the events occurs, without a timeout. To be called from a greenlet."""
        caller = getcurrent()
        self._poller.register(fileno, events, lambda _: self._switch_to(caller))
        self._loop.switch()
        self._poller.unregister(fileno)

    def enqueue_notified(self, waiter: _GreenletWaiter) -> None:
        """Have the waiter's greenlet resumed. May be called from any thread."""
        self._notified.append(waiter)
        if not self._is_woken:
            self._is_woken = True
            self._wake()

    def call_before_sleep(self, callback: Callable[[], None]) -> None:
        """Call `callback` once before the thread sleeps, however often this is requested."""
        if callback not in self._before_sleep:
            self._before_sleep.append(callback)

    def is_in_greenlet(self) -> bool:
        """Whether the caller is one of the greenlets, and not the event loop itself."""
        return getcurrent() is not self._loop

    def _resume(self, waiter: _GreenletWaiter) -> None:
        # There is no entry if the notification came before the wait, or after its timeout.
        entry = self._waiting.pop(waiter, None)
        if entry:
            self._switch_to(entry[0])

    def _switch_to(self, caller: greenlet) -> None:
        caller.switch()
        self._start_queued()

    def _start_queued(self) -> None:
        while self._queue and (self._max_calls is None or self._running < self._max_calls):
            self._running += 1
            greenlet(self._run, self._loop).switch(self._queue.popleft())

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        finally:
            self._running -= 1


class _ThisThread(threading.local):
    """The scheduler of the current thread, if it has one."""

    scheduler: Scheduler | None = None


_this_thread = _ThisThread()


def in_greenlet() -> bool:
    """Whether the caller is a greenlet, and so must not block its thread."""
    scheduler = _this_thread.scheduler
    return scheduler is not None and scheduler.is_in_greenlet()


def new_waiter() -> Waiter:
    """A waiter for the caller to wait on."""
    scheduler = _this_thread.scheduler
    if scheduler is not None and scheduler.is_in_greenlet():
        return _GreenletWaiter(scheduler)
    return _ThreadWaiter()


def await_socket(fileno: int, events: int) -> None:
    """Yield until a socket is ready for one of the `selectors` events. Only for greenlets."""
    scheduler = _this_thread.scheduler
    if scheduler is None:
        raise RuntimeError("this thread runs no greenlets")
    scheduler.await_socket(fileno, events)


def sleep(seconds: float) -> None:
    """Sleep; in a greenlet, for up to TICK_S longer."""
    new_waiter().wait(seconds)


def idle(seconds: float) -> None:
    """Sleep, and let other calls run in place of this one. It must hold no connection or lock."""
    scheduler = _this_thread.scheduler
    if scheduler is not None and scheduler.is_in_greenlet():
        scheduler.idle(_GreenletWaiter(scheduler), seconds)
    else:
        sleep(seconds)


def run_in_thread(work: Callable[[], T]) -> T:
    """Run work that would block a shared thread on a new thread, and return or raise its outcome.

    Waits without a time limit.
    """
    waiter = new_waiter()
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001  # raised again in the caller
            outcome.append((None, error))
        waiter.notify()

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    while not waiter.wait(_STEP_S):
        pass
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # without an error: the result of the work


def local_vars() -> dict[str, Any]:
    """Variables of the current greenlet, or of the current thread outside of greenlets."""
    return vars(getcurrent())


def before_sleep(callback: Callable[[], None]) -> None:
    """Call `callback` now; in a greenlet, as `Scheduler.call_before_sleep` does."""
    scheduler = _this_thread.scheduler
    if scheduler is not None and scheduler.is_in_greenlet():
        scheduler.call_before_sleep(callback)
    else:
        callback()
