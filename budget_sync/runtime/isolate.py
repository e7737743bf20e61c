"""Runs work in a child process with low priority, bounded memory and bounded time.

Reading a large or hostile sheet takes seconds of processor time and a lot of memory. In a worker of
the server, it would hold the interpreter's lock, and so delay or kill the requests of all
customers. A child process can only fail itself.

The child is a new interpreter and not a fork: it inherits no threads, no database connections and
no listening sockets. It starts in about 0.3 s. It ends with its parent, even if that is killed.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from budget_sync.runtime import greenlets
from budget_sync.runtime.correlation import current_id

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Called in the parent with each text that the child reports.
OnProgress = Callable[[str], None]

#: The address space of a child, in bytes. The largest sheet within the limits needs less than half.
MEMORY_BYTES: Final = 2 * 2**30

#: How much lower the priority of a child is. While a normal process wants to run as well, the
#: child gets a quarter of the processor time. With much less, a sheet would not be read in time on
#: a busy machine.
NICENESS: Final = 5

#: A child that is out of time ends itself this many seconds after its parent has given up.
GRACE_S: Final = 5

#: How long a child that has closed its connection may take to end, in seconds.
_EXIT_S: Final = 5

_STOPPED = "The server is stopping, so the work was not finished. Try again in a minute."

_PR_SET_PDEATHSIG = 1

#: The command of a child. It uses the import path of its parent, not its own.
_CODE = (
    "import sys; sys.path[:] = sys.argv[4:]; from budget_sync.runtime import isolate; "
    "isolate.run_child(*map(int, sys.argv[1:4]))"
)

_children: set[subprocess.Popen[bytes]] = set()
_is_stopping = threading.Event()


class IsolatedError(Exception):
    """A child process ended without a result; the text says why and what to do."""


class _Call(NamedTuple):
    """The work of a child. `log_level` is the level of this package's loggers."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    memory_bytes: int
    log_id: str
    log_level: int


class _Message(NamedTuple):
    """From a child: `kind` is "progress", "log", "result", "error" or "memory"."""

    kind: str
    value: Any


def call(
    function: Callable[..., T],
    *arguments: Any,
    timeout_s: float,
    on_progress: OnProgress | None = None,
) -> T:
    """Call a function of a module in a child process; return its result or raise its error.

    Arguments and result must be picklable, and so must the errors, which are those of this package.
    Any other error is logged and becomes IsolatedError. The function may call `report` and
    `at_normal_priority`. In a greenlet, the other greenlets go on.

    Raises IsolatedError if the child runs out of time or memory, is stopped, or dies.
    """

    def run() -> T:
        result: T = _call(function, arguments, timeout_s, on_progress)
        return result

    return greenlets.run_in_thread(run) if greenlets.in_greenlet() else run()


def report(text: str) -> None:
    """Report progress to the parent's `on_progress`. Does nothing outside of a child."""
    if _Child.current:
        _Child.current.send("progress", text)


def at_normal_priority(work: Callable[[], T]) -> T:
    """Do work that others wait for, such as a transaction; return its result or raise its error.

    In a child, a thread with the normal priority does it. Threads that it starts have that
    priority, too. Outside of a child, every thread has the normal priority.
    """
    return _Child.current.normal_thread.run(work) if _Child.current else work()


def stop_children() -> None:
    """Send SIGTERM to the children, and start no others. May be called by a signal handler."""
    _is_stopping.set()
    for process in list(_children):
        process.terminate()


def _call(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    timeout_s: float,
    on_progress: OnProgress | None,
) -> Any:
    if _is_stopping.is_set():
        raise IsolatedError(_STOPPED)
    ends_at = time.monotonic() + timeout_s
    level = logging.getLogger(__package__.partition(".")[0]).getEffectiveLevel()
    sent = _Call(function, arguments, MEMORY_BYTES, current_id.get(), level)
    ours, theirs = Pipe()
    with ours, _started(theirs, timeout_s) as process:
        try:
            ours.send(sent)
            while ours.poll(max(0.0, ends_at - time.monotonic())):
                message = _Message(*ours.recv())
                if message.kind == "result":
                    return message.value
                _handle(message, on_progress)
        except (EOFError, ConnectionError):
            raise IsolatedError(_reason(_status(process), timeout_s)) from None
    raise IsolatedError(_out_of_time(timeout_s))


@contextmanager
def _started(theirs: Connection, timeout_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A child with its end of the connection. It is dead at the end."""
    with theirs:
        process = subprocess.Popen(  # noqa: S603  # a fixed command
            [
                *(sys.executable, "-P", "-c", _CODE),
                *(str(theirs.fileno()), str(os.getpid()), str(math.ceil(timeout_s) + GRACE_S)),
                *sys.path,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # Ctrl+C in the server's terminal reaches the server only, which stops its children.
            process_group=0,
        )
    _children.add(process)
    try:
        if _is_stopping.is_set():
            process.terminate()
        yield process
    finally:
        process.kill()
        process.wait()
        _children.discard(process)


def _handle(message: _Message, on_progress: OnProgress | None) -> None:
    """Act on a message that is not the result. Raises the child's error."""
    match message.kind:
        case "progress":
            if on_progress:
                on_progress(message.value)
        case "log":
            logging.getLogger(message.value.name).handle(message.value)
        case "memory":
            raise IsolatedError(out_of_memory())
        case _:
            raise message.value


def _status(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a child that has closed its connection."""
    try:
        return process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        return 0


def _reason(status: int, timeout_s: float) -> str:
    """Why a child ended without a result. Logs what an operator should know."""
    if status == -signal.SIGTERM:
        return _STOPPED
    if status == -signal.SIGALRM:
        return _out_of_time(timeout_s)
    log.error("A child process ended without a result, with status %s.", status)
    if status == -signal.SIGKILL:
        # By the kernel, which was short of memory.
        return out_of_memory()
    return "Something went wrong on our side and was logged. Try again."


def _out_of_time(timeout_s: float) -> str:
    return (
        f"The sheet needs more than {math.ceil(timeout_s)} s. Remove the rows and columns that are "
        "not needed, or split it into several sources."
    )


def out_of_memory() -> str:
    """The text of the error for work that needs too much memory."""
    return (
        f"The sheet needs more than {MEMORY_BYTES // 2**20:,} MB of memory. Remove the rows and "
        "columns that are not needed, or split it into several sources."
    )


class _NormalThread:
    """A thread of a child that was started before the priority was lowered."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def run(self, work: Callable[[], T]) -> T:
        """Do the work on the thread, and return its result or raise its error."""
        done: Future[T] = Future()
        self._tasks.put((work, done))
        return done.result()

    def _run(self) -> None:
        while True:
            work, done = self._tasks.get()
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001  # raised again in the caller
                done.set_exception(error)


class _Child:
    """This process, as a child: its connection to its parent, for all its threads."""

    current: _Child | None = None

    def __init__(self, connection: Connection, normal_thread: _NormalThread) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.normal_thread = normal_thread

    def send(self, kind: str, value: object) -> None:
        """Send a message. Raises an exception if the value cannot be pickled."""
        data = pickle.dumps((kind, value))
        # If the parent has given up, this process is about to be killed.
        with self._lock, suppress(ConnectionError):
            self._connection.send_bytes(data)

    def run(self, sent: _Call) -> None:
        """Call the function, and send its result or its error."""
        try:
            self.send("result", sent.function(*sent.arguments))
        except MemoryError:
            self.send("memory", None)
        except BaseException as error:  # noqa: BLE001  # raised again in the parent
            self.send("error", _portable(error))


class _ToParent(logging.Handler):
    """Sends log records to the parent, which adds the request id and knows the format."""

    def __init__(self, child: _Child) -> None:
        super().__init__()
        self._child = child
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, with its traceback as text."""
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = self._formatter.formatException(record.exc_info)
            record.exc_info = None
        self._child.send("log", record)


def run_child(descriptor: int, parent: int, lifetime_s: int) -> NoReturn:
    """Run the call that the parent sends. Does not return.

    `descriptor` is the connection to the parent, and `parent` its process id. The process ends
    after `lifetime_s` at the latest: by a signal that does not need the interpreter's lock.
    """
    signal.setitimer(signal.ITIMER_REAL, lifetime_s)
    _end_with(parent)
    normal_thread = _NormalThread()
    # On Linux, this is the priority of the calling thread and of those that it will start. Before
    # the modules of the function are imported, which takes most of the start.
    with suppress(OSError):
        os.nice(NICENESS)
    connection = Connection(descriptor)
    sent: _Call = connection.recv()
    current_id.set(sent.log_id)
    child = _Child.current = _Child(connection, normal_thread)
    logging.getLogger().handlers = [_ToParent(child)]
    logging.getLogger(__package__.partition(".")[0]).setLevel(sent.log_level)
    _limit_memory(sent.memory_bytes)
    child.run(sent)
    # At once, because threads may still wait for a connection of theirs.
    os._exit(0)


def _limit_memory(memory_bytes: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (OSError, ValueError) as error:
        # A sandbox may forbid it, or a lower limit may be set already.
        log.warning("The memory of a child process could not be limited: %s", error)
    with suppress(OSError):
        # If the machine is short of memory, the kernel ends this process before the server.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, or rather the parent's thread.

    That thread waits for this process. Only Linux can do this; elsewhere, the timer ends it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """The error itself if it is one of this package and survives pickling; else an IsolatedError.

    The latter logs the error.
    """
    package = __package__.partition(".")[0]
    if type(error).__module__.partition(".")[0] == package:
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
            return error
    log.error("Unhandled exception in a child process.", exc_info=error)
    return IsolatedError(
        f"Something went wrong on our side ({type(error).__name__}) and was logged."
    )
