"""Lanes: calls that share a thread step aside while they wait; none is forgotten, or goes on before its time."""

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
from budget_sync.runtime.greenlets import TICK_S, Bell, Lane
from budget_sync.server.arbiter import THREADS
from budget_sync.server.connection import unsent_bytes

Said = list[str]


class Loop:
    """A lane of this thread, and the least that can drive it."""

    def __init__(self, at_once: int | None = None) -> None:
        self.woken = threading.Event()
        self.wakes = 0
        self.poller = selectors.DefaultSelector()
        self.lane = Lane(self._wake, self.poller, at_once)

    def _wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def turn(self) -> None:
        """Sleep until somebody rings, or it is time to look."""
        self.lane.rest()
        for key, _ in self.poller.select(0) if self.poller.get_map() else ():
            key.data(key.fileobj)
        if self.woken.wait(TICK_S):
            self.woken.clear()
            self.lane.go_on()
        self.lane.tick()


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Any:
    """A loop on the test's thread, which has no lane afterwards; its parameter is how many calls it takes at once."""
    yield Loop(getattr(request, "param", None))
    greenlets._here.lane = None  # noqa: SLF001  # a server's thread has its lane for as long as it lives


def waits(bell: list[Bell], said: Said, name: str, timeout_s: float = 20) -> Callable[[], None]:
    """A call that waits for a bell of its own, and says when."""

    def call() -> None:
        bell.append(greenlets.new_bell())
        said.append(f"{name} waits")
        said.append(f"{name} {'goes on' if bell[-1].wait(timeout_s) else 'gives up'}")

    return call


def ring(*bells: Bell) -> None:
    for bell in bells:
        bell.ring()


def test_calls_share_the_thread_and_go_on_in_the_order_of_their_bells(loop: Loop) -> None:
    bells: list[Bell] = []
    said: Said = []
    for name in ("one", "two", "three"):
        loop.lane.start(waits(bells, said, name))
    assert said == ["one waits", "two waits", "three waits"]
    ringer = threading.Thread(target=lambda: ring(bells[1], bells[0]))
    ringer.start()
    ringer.join()
    assert loop.wakes == 1, "one wake-up is enough for all that rang before it"
    loop.turn()
    assert said[3:] == ["two goes on", "one goes on"]
    assert loop.lane.is_anyone_waiting
    bells[2].ring()
    assert loop.wakes == 2
    loop.turn()
    assert said[5:] == ["three goes on"]
    assert not loop.lane.is_anyone_waiting


def test_a_bell_that_rang_first_is_not_waited_for(loop: Loop) -> None:
    said: Said = []

    def call() -> None:
        bell = greenlets.new_bell()
        bell.ring()
        said.append(str(bell.wait(20)))

    loop.lane.start(call)
    assert said == ["True"]
    loop.turn()
    assert said == ["True"]


def test_who_has_waited_long_enough_gives_up_and_may_wait_again(loop: Loop) -> None:
    bells: list[Bell] = []
    said: Said = []

    def call() -> None:
        bells.append(greenlets.new_bell())
        while not bells[0].wait(TICK_S):
            said.append("still waits")
        said.append("goes on")

    began = time.monotonic()
    loop.lane.start(call)
    while len(said) < 2:
        loop.turn()
    assert time.monotonic() - began >= 2 * TICK_S
    bells[0].ring()
    loop.turn()
    assert said[-1] == "goes on"
    assert said.count("goes on") == 1


def test_a_bell_for_one_that_gave_up_wakes_nobody_else(loop: Loop) -> None:
    bells: list[Bell] = []
    said: Said = []
    loop.lane.start(waits(bells, said, "impatient", timeout_s=0))
    while len(said) < 2:
        loop.turn()
    loop.lane.start(waits(bells, said, "patient"))
    bells[0].ring()
    loop.turn()
    assert said == ["impatient waits", "impatient gives up", "patient waits"]


def test_each_call_has_a_context_of_its_own(loop: Loop) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    bells: list[Bell] = []
    seen: Said = []

    def named(name: str) -> Callable[[], None]:
        def call() -> None:
            variable.set(name)
            bells.append(greenlets.new_bell())
            bells[-1].wait(20)
            seen.append(variable.get())

        return call

    loop.lane.start(named("one"))
    loop.lane.start(named("two"))
    bells[1].ring()
    bells[0].ring()
    loop.turn()
    assert seen == ["two", "one"]
    assert variable.get() == "nobody's"


def test_what_all_want_done_before_the_thread_sleeps_is_done_once_and_at_once_outside(
    loop: Loop,
) -> None:
    said: Said = []

    def notify() -> None:
        said.append("told")

    for _ in range(3):
        loop.lane.start(lambda: greenlets.before_sleep(notify))
    assert said == []
    loop.turn()
    assert said == ["told"]
    greenlets.before_sleep(notify)
    assert said == ["told", "told"]


def test_a_call_that_starts_another_is_done_with_first(loop: Loop) -> None:
    bells: list[Bell] = []
    said: Said = []

    def call() -> None:
        loop.lane.start(waits(bells, said, "other"))
        said.append("done")

    loop.lane.start(call)
    assert said == ["done", "other waits"]
    ring(*bells)
    loop.turn()
    assert said[2:] == ["other goes on"]


def test_a_call_waits_for_its_socket_while_others_go_on(loop: Loop) -> None:
    said: Said = []
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):

        def call() -> None:
            for _ in range(2):
                greenlets.await_socket(ours.fileno(), selectors.EVENT_READ)
                said.append(ours.recv(10).decode())

        loop.lane.start(call)
        loop.lane.start(lambda: said.append("another"))
        loop.turn()
        assert said == ["another"]
        assert not loop.lane.is_anyone_waiting, "a socket needs no ticks"
        for text in ("one", "two"):
            theirs.send(text.encode())
            loop.turn()
        assert said == ["another", "one", "two"]
        assert not loop.poller.get_map()


@pytest.mark.parametrize("loop", [2], indirect=True)
def test_no_more_calls_are_under_way_than_may_be_and_the_next_begins_when_one_ends(
    loop: Loop,
) -> None:
    bells: list[Bell] = []
    said: Said = []
    for name in ("one", "two", "three", "four"):
        loop.lane.start(waits(bells, said, name))
    assert said == ["one waits", "two waits"]
    bells[1].ring()
    loop.turn()
    assert said[2:] == ["two goes on", "three waits"]
    ring(bells[0], bells[2])
    loop.turn()
    assert said[4:] == ["one goes on", "four waits", "three goes on"]


def test_what_would_keep_the_thread_waiting_is_done_apart(loop: Loop) -> None:
    said: Said = []
    may_end = threading.Event()

    def slow() -> str:
        assert not greenlets.is_shared()
        assert may_end.wait(20)
        return "done"

    def wrong() -> None:
        raise LookupError("lost")

    def call() -> None:
        said.append(greenlets.apart(slow))
        with suppress(LookupError):
            greenlets.apart(wrong)
            said.append("no error")
        said.append("goes on")

    loop.lane.start(call)
    loop.lane.start(lambda: said.append("another"))
    loop.turn()
    assert said == ["another"]
    may_end.set()
    while said[-1] != "goes on":
        loop.turn()
    assert said == ["another", "done", "goes on"]


def test_what_is_kept_for_a_call_is_no_other_calls(loop: Loop) -> None:
    bells: list[Bell] = []
    seen: list[object] = []

    def keeps(name: str) -> Callable[[], None]:
        def call() -> None:
            greenlets.own()["name"] = name
            bells.append(greenlets.new_bell())
            bells[-1].wait(20)
            seen.append(greenlets.own()["name"])

        return call

    loop.lane.start(keeps("one"))
    loop.lane.start(keeps("two"))
    ring(*bells)
    loop.turn()
    assert seen == ["one", "two"]
    assert "name" not in greenlets.own()


def test_the_loop_itself_and_other_threads_wait_as_threads_do(loop: Loop) -> None:
    bell = greenlets.new_bell()
    threading.Timer(0.05, bell.ring).start()
    assert bell.wait(20)
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(lambda: greenlets.new_bell().wait(0.01)).result()
    assert not loop.lane.is_anyone_waiting


@sqlite_only
def test_more_calls_than_threads_wait_for_the_writer_and_leave_the_threads_to_others(
    installation: Installation,
) -> None:
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
    with ThreadPoolExecutor(calls) as pool:
        answers = [
            pool.submit(
                installation.post,
                "/api/budget/reserve",
                reserve_body(requestId=f"request-{number}", amount=1),
                headers=key,
            )
            for number in range(calls)
        ]
        time.sleep(0.5)
        assert not any(answer.done() for answer in answers)
        began = time.monotonic()
        assert (
            requests.get(f"{installation.url}/api/budgets", headers=key, timeout=30).status_code
            == 200
        )
        assert time.monotonic() - began < 3
        holder.communicate()
        assert [answer.result().status_code for answer in answers] == [200] * calls


def test_it_is_seen_when_a_client_leaves_replies_lie() -> None:
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
            wait_until(lambda: unsent_bytes(accepted) == 0, "the client has taken it all")
