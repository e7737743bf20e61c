"""Greenlets that share a thread yield while they wait, and each resumes exactly when it should."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from contextvars import ContextVar
from typing import Any

import pytest
import requests
from stress.locks import HOLD_LOCK
from support.installation import Installation
from support.machine import sqlite_only, wait_until
from support.world import reserve_body

from budget_sync.runtime import greenlets
from budget_sync.runtime.greenlets import TICK_S, Scheduler, Waiter
from budget_sync.server.arbiter import THREADS
from budget_sync.server.connection import unsent_bytes

Events = list[str]


class Loop:
    """A scheduler on this thread, with a minimal event loop to drive it."""

    def __init__(self, max_calls: int | None = None) -> None:
        self.woken = threading.Event()
        self.wakes = 0
        self.poller = selectors.DefaultSelector()
        self.scheduler = Scheduler(self._wake, self.poller, max_calls)

    def _wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def run_once(self) -> None:
        """Sleep until a notification or the next tick, and resume greenlets."""
        self.scheduler.run_before_sleep()
        for key, _ in self.poller.select(0) if self.poller.get_map() else ():
            key.data(key.fileobj)
        if self.woken.wait(TICK_S):
            self.woken.clear()
            self.scheduler.resume_notified()
        self.scheduler.resume_timed_out()


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Any:
    """A loop on the test's thread, removed afterwards; its parameter is `max_calls`."""
    yield Loop(getattr(request, "param", None))
    # The thread of a server keeps its scheduler for as long as it lives.
    greenlets._this_thread.scheduler = None  # noqa: SLF001


def waits(waiters: list[Waiter], events: Events, name: str, timeout_s: float = 20) -> Any:
    """A call that waits on its own waiter, and records it."""

    def call() -> None:
        waiters.append(greenlets.new_waiter())
        events.append(f"{name} waits")
        events.append(f"{name} {'resumes' if waiters[-1].wait(timeout_s) else 'times out'}")

    return call


def notify_all(*waiters: Waiter) -> None:
    for waiter in waiters:
        waiter.notify()


def test_greenlets_resume_in_order_of_notification(loop: Loop) -> None:
    waiters: list[Waiter] = []
    events: Events = []
    for name in ("one", "two", "three"):
        loop.scheduler.spawn(waits(waiters, events, name))
    assert events == ["one waits", "two waits", "three waits"]
    notifier = threading.Thread(target=lambda: notify_all(waiters[1], waiters[0]))
    notifier.start()
    notifier.join()
    assert loop.wakes == 1, "one wake-up suffices for all notifications before it"
    loop.run_once()
    assert events[3:] == ["two resumes", "one resumes"]
    assert loop.scheduler.has_waiters
    waiters[2].notify()
    assert loop.wakes == 2
    loop.run_once()
    assert events[5:] == ["three resumes"]
    assert not loop.scheduler.has_waiters


def test_notification_before_wait_is_not_lost(loop: Loop) -> None:
    results: Events = []

    def call() -> None:
        waiter = greenlets.new_waiter()
        waiter.notify()
        results.append(str(waiter.wait(20)))

    loop.scheduler.spawn(call)
    assert results == ["True"]
    loop.run_once()
    assert results == ["True"]


def test_greenlet_may_wait_again_after_timeout(loop: Loop) -> None:
    waiters: list[Waiter] = []
    events: Events = []

    def call() -> None:
        waiters.append(greenlets.new_waiter())
        while not waiters[0].wait(TICK_S):
            events.append("still waits")
        events.append("resumes")

    began = time.monotonic()
    loop.scheduler.spawn(call)
    while len(events) < 2:
        loop.run_once()
    assert time.monotonic() - began >= 2 * TICK_S
    waiters[0].notify()
    loop.run_once()
    assert events[-1] == "resumes"
    assert events.count("resumes") == 1


def test_late_notification_wakes_no_other_greenlet(loop: Loop) -> None:
    waiters: list[Waiter] = []
    events: Events = []
    loop.scheduler.spawn(waits(waiters, events, "impatient", timeout_s=0))
    while len(events) < 2:
        loop.run_once()
    loop.scheduler.spawn(waits(waiters, events, "patient"))
    waiters[0].notify()
    loop.run_once()
    assert events == ["impatient waits", "impatient times out", "patient waits"]


def test_each_greenlet_has_its_own_context(loop: Loop) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    waiters: list[Waiter] = []
    seen: Events = []

    def named(name: str) -> Callable[[], None]:
        def call() -> None:
            variable.set(name)
            waiters.append(greenlets.new_waiter())
            waiters[-1].wait(20)
            seen.append(variable.get())

        return call

    loop.scheduler.spawn(named("one"))
    loop.scheduler.spawn(named("two"))
    waiters[1].notify()
    waiters[0].notify()
    loop.run_once()
    assert seen == ["two", "one"]
    assert variable.get() == "unset"


def test_before_sleep_runs_once_for_all_greenlets(loop: Loop) -> None:
    events: Events = []

    def callback() -> None:
        events.append("called")

    for _ in range(3):
        loop.scheduler.spawn(lambda: greenlets.before_sleep(callback))
    assert events == []
    loop.run_once()
    assert events == ["called"]
    # Outside of greenlets, at once.
    greenlets.before_sleep(callback)
    assert events == ["called", "called"]


def test_spawned_call_starts_after_its_spawner_yields(loop: Loop) -> None:
    waiters: list[Waiter] = []
    events: Events = []

    def call() -> None:
        loop.scheduler.spawn(waits(waiters, events, "other"))
        events.append("done")

    loop.scheduler.spawn(call)
    assert events == ["done", "other waits"]
    notify_all(*waiters)
    loop.run_once()
    assert events[2:] == ["other resumes"]


def test_greenlet_waits_for_socket_while_others_run(loop: Loop) -> None:
    events: Events = []
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):

        def call() -> None:
            for _ in range(2):
                greenlets.await_socket(ours.fileno(), selectors.EVENT_READ)
                events.append(ours.recv(10).decode())

        loop.scheduler.spawn(call)
        loop.scheduler.spawn(lambda: events.append("another"))
        loop.run_once()
        assert events == ["another"]
        assert not loop.scheduler.has_waiters, "waiting for a socket needs no ticks"
        for text in ("one", "two"):
            theirs.send(text.encode())
            loop.run_once()
        assert events == ["another", "one", "two"]
        assert not loop.poller.get_map()


@pytest.mark.parametrize("loop", [2], indirect=True)
def test_calls_over_the_limit_start_when_others_end(loop: Loop) -> None:
    waiters: list[Waiter] = []
    events: Events = []
    for name in ("one", "two", "three", "four"):
        loop.scheduler.spawn(waits(waiters, events, name))
    assert events == ["one waits", "two waits"]
    waiters[1].notify()
    loop.run_once()
    assert events[2:] == ["two resumes", "three waits"]
    notify_all(waiters[0], waiters[2])
    loop.run_once()
    assert events[4:] == ["one resumes", "four waits", "three resumes"]


def test_blocking_work_runs_in_another_thread(loop: Loop) -> None:
    events: Events = []
    may_end = threading.Event()

    def slow() -> str:
        assert not greenlets.in_greenlet()
        assert may_end.wait(20)
        return "done"

    def fails() -> None:
        raise LookupError("lost")

    def call() -> None:
        events.append(greenlets.run_in_thread(slow))
        with suppress(LookupError):
            greenlets.run_in_thread(fails)
            events.append("no error")
        events.append("resumes")

    loop.scheduler.spawn(call)
    loop.scheduler.spawn(lambda: events.append("another"))
    loop.run_once()
    assert events == ["another"]
    may_end.set()
    while events[-1] != "resumes":
        loop.run_once()
    assert events == ["another", "done", "resumes"]


def test_each_greenlet_has_its_own_variables(loop: Loop) -> None:
    waiters: list[Waiter] = []
    seen: list[object] = []

    def sets(name: str) -> Callable[[], None]:
        def call() -> None:
            greenlets.local_vars()["name"] = name
            waiters.append(greenlets.new_waiter())
            waiters[-1].wait(20)
            seen.append(greenlets.local_vars()["name"])

        return call

    loop.scheduler.spawn(sets("one"))
    loop.scheduler.spawn(sets("two"))
    notify_all(*waiters)
    loop.run_once()
    assert seen == ["one", "two"]
    assert "name" not in greenlets.local_vars()


def test_loop_and_other_threads_block_while_they_wait(loop: Loop) -> None:
    waiter = greenlets.new_waiter()
    threading.Timer(0.05, waiter.notify).start()
    assert waiter.wait(20)
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(lambda: greenlets.new_waiter().wait(0.01)).result()
    assert not loop.scheduler.has_waiters


@sqlite_only
def test_calls_that_wait_for_the_writer_use_no_threads(installation: Installation) -> None:
    installation.start("--workers", "1")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(installation.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    calls, key = 3 * THREADS, installation.key()

    def reserve(number: int) -> requests.Response:
        body = reserve_body(requestId=f"request-{number}", amount=1)
        return installation.post("/api/budget/reserve", body, headers=key)

    with ThreadPoolExecutor(calls) as pool:
        replies = [pool.submit(reserve, number) for number in range(calls)]
        time.sleep(0.5)
        assert not any(reply.done() for reply in replies)
        began = time.monotonic()
        listed = requests.get(f"{installation.url}/api/budgets", headers=key, timeout=30)
        assert listed.status_code == 200
        assert time.monotonic() - began < 3
        holder.communicate()
        assert [reply.result().status_code for reply in replies] == [200] * calls


def test_unread_replies_count_as_unsent_bytes() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        closing(socket.create_connection(listener.getsockname())) as client,
    ):
        accepted, _ = listener.accept()
        with closing(accepted):
            assert unsent_bytes(accepted) == 0
            accepted.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    sent += accepted.send(bytes(65_536))
            assert unsent_bytes(accepted) > 0
            while sent:
                sent -= len(client.recv(sent))
            wait_until(lambda: unsent_bytes(accepted) == 0, "some bytes stay unsent")
