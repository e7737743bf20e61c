"""Child processes: their results and errors come back, and they never outlive their parent."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import isolated_work, speed

from budget_sync.domain.errors import Code, RequestError
from budget_sync.runtime import greenlets, isolate
from budget_sync.runtime.correlation import current_id
from budget_sync.runtime.isolate import IsolatedError

OUR_FAULT = "Something went wrong on our side"


def call(function: Callable[..., Any], *arguments: Any, timeout_s: float = 60.0) -> Any:
    return speed.call_in_child(function, *arguments, timeout_s=timeout_s)


def is_alive(pid: int) -> bool:
    """Whether a process runs. It may be a zombie of the container's first process."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    ends_at = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends_at:
        time.sleep(0.01)
    return bool(condition())


def pid_in(file: Path) -> int:
    assert wait_for(lambda: file.exists() and file.read_text(encoding="ascii"))
    return int(file.read_text(encoding="ascii"))


def test_work_runs_in_another_process_with_low_priority() -> None:
    token = current_id.set("the-request")
    try:
        found = call(isolated_work.facts)
    finally:
        current_id.reset(token)
    assert found["pid"] != os.getpid()
    assert found["niceness"] == min(19, os.nice(0) + isolate.NICENESS)
    assert found["niceness of urgent work"] == os.nice(0)
    assert found["id"] == "the-request"
    assert not is_alive(found["pid"])


def test_child_inherits_no_sockets_and_no_files(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, open(tmp_path / "db", "w") as file:
        listener.set_inheritable(True)
        os.set_inheritable(file.fileno(), True)
        files = call(isolated_work.facts)["files"]
    assert not [name for name in files if "/db" in name]
    # Its own connection to its parent.
    assert len([name for name in files if name.startswith("socket:")]) == 1


def test_error_of_this_package_comes_back_as_itself() -> None:
    with pytest.raises(RequestError, match=r"Gone\.") as caught:
        call(isolated_work.fail, "known")
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.fields == {"id": "is unknown"}
    assert caught.value.facts == {"retryAfter": 5}


def test_error_of_urgent_work_comes_back_as_itself() -> None:
    with pytest.raises(RequestError, match=r"Gone\."):
        call(isolated_work.fail_in_urgent_work)


@pytest.mark.parametrize(
    ("kind", "name"), [("unknown", "ZeroDivisionError"), ("not picklable", "_LocalError")]
)
def test_other_error_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, kind: str, name: str
) -> None:
    with pytest.raises(IsolatedError, match=rf"^{OUR_FAULT} \({name}\) and was logged\.$"):
        call(isolated_work.fail, kind)
    assert "in fail" in (caplog.records[-1].exc_text or "")
    assert name in (caplog.records[-1].exc_text or "")


def test_child_that_needs_too_much_memory_fails_with_the_limit() -> None:
    with pytest.raises(IsolatedError, match=r"needs more than 2,048 MB of memory\. Remove the"):
        call(isolated_work.fail, "out of memory")


@pytest.mark.parametrize(
    ("number", "message"),
    [("SIGSEGV", OUR_FAULT), ("SIGKILL", "MB of memory"), ("SIGTERM", "server is stopping")],
)
def test_child_that_is_killed_says_why(
    caplog: pytest.LogCaptureFixture, number: str, message: str
) -> None:
    with pytest.raises(IsolatedError, match=message):
        call(isolated_work.fail, number)
    is_logged = any("ended without a result" in line for line in caplog.messages)
    assert is_logged == (number != "SIGTERM")


@pytest.mark.parametrize("work", [isolated_work.hold_interpreter, isolated_work.wait])
def test_child_is_killed_when_its_time_is_over(
    tmp_path: Path, work: Callable[[Path], None]
) -> None:
    file = tmp_path / "pid"
    with pytest.raises(IsolatedError, match=r"needs more than 2 s\. Remove the rows"):
        call(work, file, timeout_s=2)
    assert not isolate._children  # noqa: SLF001  # there is no public list
    # On a busy machine, the child may not have come to its work.
    assert not file.exists() or not is_alive(pid_in(file))


def test_child_ends_itself_if_its_parent_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "GRACE_S", -9)
    with pytest.raises(IsolatedError, match=r"needs more than 10 s"):
        call(isolated_work.hold_interpreter, tmp_path / "pid", timeout_s=10)


def test_progress_and_log_lines_reach_the_parent(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    logging.getLogger("budget_sync").setLevel(logging.INFO)
    assert speed.call_in_child(isolated_work.speak, timeout_s=60, on_progress=said.append) == "done"
    assert said == ["half"]
    assert "A line about it." in caplog.messages
    assert "Not wanted." not in caplog.messages


def test_error_of_the_progress_callback_ends_the_child() -> None:
    def cancel(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        speed.call_in_child(isolated_work.speak, timeout_s=60, on_progress=cancel)
    assert not isolate._children  # noqa: SLF001  # there is no public list


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_child_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "pid"
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from pathlib import Path; "
        f"from support import isolated_work; isolated_work.call_and_hold(Path({str(file)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = pid_in(file)
        assert is_alive(pid)
    finally:
        parent.send_signal(number)
        parent.wait()
    assert wait_for(lambda: not is_alive(pid))


def test_stopping_ends_children_and_starts_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "_is_stopping", threading.Event())
    errors: list[str] = []

    def work() -> None:
        with pytest.raises(IsolatedError) as caught:
            call(isolated_work.wait, tmp_path / "pid")
        errors.append(str(caught.value))

    thread = threading.Thread(target=work)
    thread.start()
    pid_in(tmp_path / "pid")
    isolate.stop_children()
    thread.join(60)
    assert errors == [
        "The server is stopping, so the work was not finished. Try again in a minute."
    ]
    with pytest.raises(IsolatedError, match="server is stopping"):
        call(isolated_work.wait)


class _Poller:
    def register(self, *_: object) -> None: ...

    def unregister(self, *_: object) -> None: ...


def test_other_greenlets_go_on_meanwhile() -> None:
    woken, order = threading.Event(), []
    scheduler = greenlets.Scheduler(woken.set, _Poller())

    def isolated() -> None:
        order.append(call(isolated_work.speak))

    scheduler.spawn(isolated)
    scheduler.spawn(lambda: order.append("other"))
    assert order == ["other"]
    assert woken.wait(60)
    scheduler.resume_notified()
    assert order == ["other", "done"]
