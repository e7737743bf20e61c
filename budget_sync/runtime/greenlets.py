"""How a caller waits: one with a thread of its own sleeps; those that share a thread step aside, and let each other go on.

A request spends most of its time waiting for a commit. With a thread each, every such wait hands the interpreter from thread
to thread, which costs more than the request itself. In a lane, requests share one thread: each runs in a greenlet until it
waits for a bell or for a socket, and goes on once that has rung or can be read. Whoever waits or rings need not know which of
the two it is.
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

#: How exact the time is that somebody in a lane waits at most.
TICK_S = 0.05

#: Seconds after which one who waits for however long it takes looks up and waits on.
PATIENCE_S = 60.0


class Bell(Protocol):
    """Rings once, for one who waits."""

    def ring(self) -> None:
        """Let the one who waits go on; from any thread."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for it; False where it did not ring in time, and may be waited for again."""


class _ThreadBell:
    """For a thread of its own, which sleeps."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        # A lock is the cheapest thing to wait for.
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        return self._lock.acquire(timeout=timeout_s)


class _LaneBell:
    """For one in a lane, who steps aside."""

    __slots__ = ("has_rung", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.has_rung = False

    def ring(self) -> None:
        self.has_rung = True
        self.lane.hear(self)

    def wait(self, timeout_s: float) -> bool:
        if not self.has_rung:
            self.lane.step_aside(self, timeout_s)
        return self.has_rung


class Poller(Protocol):
    """What the loop sleeps on, as a selector of the standard library is; it calls what was registered, with the file."""

    def register(self, fileobj: int, events: int, data: Callable[[object], None]) -> object:
        """Call `data` whenever one of the events is there."""

    def unregister(self, fileobj: int) -> object:
        """Do so no more."""


class Lane:
    """The calls that share the thread in which this is made. The loop of that thread drives it, and none of its methods but `hear` is for others.

    `wake` is called from any thread, and has the loop call `go_on` soon. `poller` is what the loop sleeps on. At most `at_once`
    calls are under way at a time: a further one begins when one has ended.
    """

    def __init__(
        self, wake: Callable[[], None], poller: Poller, at_once: int | None = None
    ) -> None:
        self._loop = getcurrent()
        self._wake = wake
        self._poller = poller
        self._at_once = at_once
        self._under_way = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._rung: deque[_LaneBell] = deque()
        # Who waits, and until when.
        self._waiting: dict[_LaneBell, tuple[greenlet, float]] = {}
        self._next_tick = 0.0
        self._soon: list[Callable[[], None]] = []
        _here.lane = self

    def start(self, call: Callable[[], None]) -> None:
        """Make a call, until it ends or steps aside: now, or where one of the calls asks for it, once that has done so."""
        self._queue.append(call)
        if not self.is_entered():
            self._start_queued()

    @property
    def is_anyone_waiting(self) -> bool:
        """Whether `tick` has to be called every TICK_S."""
        return bool(self._waiting)

    def go_on(self) -> None:
        """Let those go on whose bell has rung."""
        # Before looking, so that one who rings now wakes the loop again.
        self._is_woken = False
        while self._rung:
            self._resume(self._rung.popleft())

    def tick(self) -> None:
        """Let those go on who have waited long enough."""
        now = time.monotonic()
        if self._waiting and now >= self._next_tick:
            self._next_tick = now + TICK_S
            for bell in [bell for bell, (_, until) in self._waiting.items() if until <= now]:
                self._resume(bell)

    def rest(self) -> None:
        """Do what was to be done before the thread sleeps."""
        while self._soon:
            self._soon.pop()()

    def step_aside(self, bell: _LaneBell, timeout_s: float) -> None:
        """From within a call: wait."""
        self._waiting[bell] = (getcurrent(), time.monotonic() + timeout_s)
        self._loop.switch()

    def await_socket(self, fileno: int, events: int) -> None:
        """From within a call: wait until the loop finds one of the events there, for as long as that takes."""
        caller = getcurrent()
        self._poller.register(fileno, events, lambda _: self._switch_to(caller))
        self._loop.switch()
        self._poller.unregister(fileno)

    def hear(self, bell: _LaneBell) -> None:
        """That one has rung; from any thread."""
        self._rung.append(bell)
        if not self._is_woken:
            self._is_woken = True
            self._wake()

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it once, before the thread sleeps."""
        if callback not in self._soon:
            self._soon.append(callback)

    def is_entered(self) -> bool:
        """Whether whoever asks is one of the calls, and not the loop itself."""
        return getcurrent() is not self._loop

    def _resume(self, bell: _LaneBell) -> None:
        # Nobody waits for a bell that rang before it was waited for, or whose caller has given up.
        waiting = self._waiting.pop(bell, None)
        if waiting:
            self._switch_to(waiting[0])

    def _switch_to(self, caller: greenlet) -> None:
        caller.switch()
        self._start_queued()

    def _start_queued(self) -> None:
        while self._queue and (self._at_once is None or self._under_way < self._at_once):
            self._under_way += 1
            greenlet(self._make, self._loop).switch(self._queue.popleft())

    def _make(self, call: Callable[[], None]) -> None:
        try:
            call()
        finally:
            self._under_way -= 1


class _Here(threading.local):
    """This thread's lane, if it has one."""

    lane: Lane | None = None


_here = _Here()


def is_shared() -> bool:
    """Whether whoever asks shares a thread with others, and must not keep it waiting."""
    lane = _here.lane
    return lane is not None and lane.is_entered()


def new_bell() -> Bell:
    """A bell for the caller to wait for."""
    lane = _here.lane
    return _LaneBell(lane) if lane is not None and lane.is_entered() else _ThreadBell()


def await_socket(fileno: int, events: int) -> None:
    """Wait until a socket can be read or written, as the selectors' events say; for callers that share a thread alone."""
    lane = _here.lane
    if lane is None:
        raise RuntimeError("this thread is nobody's lane")
    lane.await_socket(fileno, events)


def sleep(seconds: float) -> None:
    """Let that much time go by; in a lane, a TICK_S more."""
    new_bell().wait(seconds)


def apart(work: Callable[[], T]) -> T:
    """Do what would keep a shared thread waiting on a thread of its own; returns or raises what comes of it, however long that takes."""
    bell = new_bell()
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is the caller's
            outcome.append((None, error))
        bell.ring()

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    while not bell.wait(PATIENCE_S):
        pass
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # without an error: the work's own result


def own() -> dict[str, Any]:
    """What is kept for whoever asks alone: for each thread, and in a lane for each call."""
    return vars(getcurrent())


def before_sleep(callback: Callable[[], None]) -> None:
    """Call it before this thread sleeps, once for all that asked for it meanwhile: now, where the caller does not share the thread."""
    lane = _here.lane
    if lane is not None and lane.is_entered():
        lane.soon(callback)
    else:
        callback()
