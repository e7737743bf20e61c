"""Runs the tests of one module against its mutants.

`python -m stress.mutant MODULE FILE FOLDER NUMBERS TESTS…` prints one JSON line per mutant.

Starting and collecting takes most of a test run, so both happen once. Each mutant is tested in a
child process forked after that, two at a time, and only with tests that reach it, until one fails.
Tests that run the changed line come first, the fastest first.

If the change is inside a function, the function's code is replaced in the child. A change outside
functions takes effect on import, so the child is forked before the module is imported. Mutants
that survive the first kind of test are tested again in the second way, with all tests.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import pytest

from stress.mutants import Mutant, mutants_of

#: A mutant that runs for PATIENCE times its tests' usual duration, plus EXTRA_S, counts as killed.
PATIENCE = 10
EXTRA_S = 30

PARALLEL = 2

#: Modules that every child would otherwise import.
_WARM = (
    "flask",
    "flask_login",
    "flask_wtf",
    "hypothesis",
    "peewee",
    "pydantic",
    "psycopg",
    "requests",
    "babel.numbers",
    "gspread",
    "prometheus_client",
)

# pytest cannot rewrite modules that are already imported, and need not. The disabled plugins are
# not needed and slow to import.
_OPTIONS = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:anyio",
    "-p",
    "no:xdist",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)

_GREEN, _KILLED, _NEVER_IMPORTED = 0, 1, 99

# The original standard output, for results, before pytest captures it.
_RESULTS = os.dup(1)


class Reached(NamedTuple):
    """A test's duration, and the module's lines that it runs."""

    seconds: float
    lines: frozenset[int]


class Substitute(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that replaces one module by a mutant."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree
        self.is_used = False

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the mutant's spec if its module is imported."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the mutant as the module."""
        self.is_used = True
        code = compile(self.tree, str(self.path), "exec")
        exec(code, module.__dict__)  # noqa: S102  # our own source with one change


def in_children(
    works: Iterator[tuple[int, Callable[[], int], float]], folder: Path
) -> Iterator[tuple[int, bool]]:
    """Run functions in forked children, PARALLEL at a time.

    Yields the number of each, and whether it returned _GREEN.
    """
    running: dict[int, int] = {}
    for number, work, patience_s in works:
        if len(running) == PARALLEL:
            yield _next(running)
        running[_fork(work, patience_s, folder / str(number))] = number
    while running:
        yield _next(running)


def _next(running: dict[int, int]) -> tuple[int, bool]:
    pid, status = os.waitpid(-1, 0)
    # Also kill processes that the child started.
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if os.waitstatus_to_exitcode(status) == _NEVER_IMPORTED:
        raise RuntimeError("its tests do not import it")
    return running.pop(pid), os.waitstatus_to_exitcode(status) == _GREEN


def _fork(work: Callable[[], int], patience_s: float, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = _KILLED
    try:
        os.setpgid(0, 0)
        # Kill the child if it does not end.
        signal.alarm(int(patience_s) + 1)
        folder.mkdir()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        status = work()
    finally:
        # Skip the parent's cleanup.
        os._exit(status)


@dataclass
class Trial:
    """The mutants of one module to test, and the lines its tests reach."""

    name: str
    path: Path
    folder: Path
    tests: list[str]
    mutants: dict[int, Mutant]
    reached: dict[str, Reached] = field(default_factory=dict)
    #: Mutants to test on a new import: outside functions, or not killed inside one.
    left: list[int] = field(default_factory=list)

    def collected(self, session: pytest.Session) -> None:
        """Find out which lines each test reaches, and test all mutants inside functions."""
        self._trace(session.items)
        by_id = {item.nodeid: item for item in session.items}
        quickest = sorted(by_id, key=lambda nodeid: self.reached[nodeid].seconds)
        for _, is_green in in_children(
            iter([(-1, lambda: _run([by_id[nodeid] for nodeid in quickest]), 3600.0)]), self.folder
        ):
            if not is_green:
                raise RuntimeError("its tests depend on their order")
        module = sys.modules[self.name]
        original = compile(self.path.read_text(encoding="utf-8"), str(self.path), "exec")

        def works() -> Iterator[tuple[int, Callable[[], int], float]]:
            for number, mutant in self.mutants.items():
                changed = _changed_functions(
                    original, compile(mutant.tree, str(self.path), "exec"), module
                )
                if changed is None:
                    self.left.append(number)
                    continue
                tests = self._tests_of(mutant.line)
                yield (
                    number,
                    partial(_run_changed, changed, [by_id[nodeid] for nodeid in tests]),
                    self._patience_s(tests),
                )

        for number, is_green in in_children(works(), self.folder / "inside"):
            if is_green:
                self.left.append(number)
            else:
                _print_result(number, survived=False)

    def outside(self) -> None:
        """Test the remaining mutants, each on a new import."""

        def works() -> Iterator[tuple[int, Callable[[], int], float]]:
            for number in sorted(self.left):
                tests = self._tests_of(self.mutants[number].line)
                others = sorted(
                    self.reached.keys() - set(tests),
                    key=lambda nodeid: self.reached[nodeid].seconds,
                )
                order = {nodeid: place for place, nodeid in enumerate([*tests, *others])}
                yield (
                    number,
                    partial(self._run_on_new_import, self.mutants[number], order),
                    self._patience_s(order),
                )

        for number, is_green in in_children(works(), self.folder / "outside"):
            _print_result(number, survived=is_green)

    def _trace(self, items: list[pytest.Item]) -> None:
        """Run all tests once without a mutant and record the lines they reach.

        Raises RuntimeError if a test fails.
        """
        report = self.folder / "reached.json"
        for _, is_green in in_children(
            iter([(-2, lambda: _run_traced(items, self.path, report), 3600.0)]), self.folder
        ):
            if not is_green:
                raise RuntimeError("its tests fail without a mutant")
        self.reached = {
            nodeid: Reached(seconds, frozenset(lines))
            for nodeid, (seconds, lines) in json.loads(report.read_text(encoding="utf-8")).items()
        }

    def _tests_of(self, line: int) -> list[str]:
        """The tests that run the function or class around a line.

        Those that run the line itself come first; among equals, the fastest.
        """
        functions = [
            node
            for node in ast.parse(self.path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        around = next(
            (
                range(node.lineno, (node.end_lineno or 0) + 1)
                for node in functions
                if node.lineno <= line <= (node.end_lineno or 0)
            ),
            range(0),
        )
        reaching = [
            nodeid for nodeid, (_, lines) in self.reached.items() if not lines.isdisjoint(around)
        ]
        return sorted(
            reaching,
            key=lambda nodeid: (
                line not in self.reached[nodeid].lines,
                self.reached[nodeid].seconds,
            ),
        )

    def _patience_s(self, tests: Any) -> float:
        return EXTRA_S + PATIENCE * sum(self.reached[nodeid].seconds for nodeid in tests)

    def _run_on_new_import(self, mutant: Mutant, order: dict[str, int]) -> int:
        substitute = Substitute(self.name, self.path, mutant.tree)
        sys.meta_path.insert(0, substitute)
        status = int(_pytest(self.tests, _InOrder(order)))
        return status if substitute.is_used else _NEVER_IMPORTED


class _Collected:
    """pytest plugin that passes the collected tests to a function instead of running them."""

    def __init__(self, use: Callable[[pytest.Session], None]) -> None:
        self.use = use

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replace pytest's own loop."""
        self.use(session)
        return True


class _InOrder:
    """pytest plugin that runs tests in a given order."""

    def __init__(self, order: dict[str, int]) -> None:
        self.order = order

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests. Those whose names the mutant changed come first."""
        items.sort(key=lambda item: self.order.get(item.nodeid, -1))


def _pytest(tests: list[str], plugin: object) -> int:
    return int(pytest.main([*_OPTIONS, *tests], plugins=[plugin]))


def _run(items: list[pytest.Item], before: Callable[[pytest.Item], None] = lambda _: None) -> int:
    """Run tests until one fails."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        before(item)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return _KILLED
    return _GREEN


def _run_changed(changed: list[tuple[Any, CodeType]], items: list[pytest.Item]) -> int:
    for function, code in changed:
        function.__code__ = code
    return _run(items)


def _run_traced(items: list[pytest.Item], path: Path, report: Path) -> int:
    lines: set[int] = set()
    reached: dict[str, tuple[float, list[int]]] = {}
    current, began = "", 0.0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != str(path):
            return None
        lines.add(frame.f_lineno)
        return trace

    def note() -> None:
        if current:
            reached[current] = (time.monotonic() - began, sorted(lines))
        lines.clear()

    def before(item: pytest.Item) -> None:
        nonlocal current, began
        note()
        current, began = item.nodeid, time.monotonic()

    # Also trace the writer thread.
    threading.settrace(trace)
    sys.settrace(trace)
    status = _run(items, before)
    sys.settrace(None)
    note()
    report.write_text(json.dumps(reached), encoding="utf-8")
    return status


def _changed_functions(
    original: CodeType, mutant: CodeType, holder: object
) -> list[tuple[Any, CodeType]] | None:
    """The functions whose code a mutant changes, with the new code; None for any other change."""
    if original.replace(co_consts=()) != mutant.replace(co_consts=()) or len(
        original.co_consts
    ) != len(mutant.co_consts):
        return None
    changed: list[tuple[Any, CodeType]] = []
    for was, now in zip(original.co_consts, mutant.co_consts, strict=True):
        if was == now and type(was) is type(now):
            continue
        if (
            not isinstance(was, CodeType)
            or not isinstance(now, CodeType)
            or was.co_name != now.co_name
        ):
            return None
        found = getattr(holder, was.co_name, None)
        if isinstance(found, type):
            inside = _changed_functions(was, now, found)
            if inside is None:
                return None
            changed += inside
            continue
        function = _function(found)
        if getattr(function, "__code__", None) != was:
            return None
        changed.append((function, now))
    return changed


def _function(found: Any) -> Any:
    """The function behind a property or a decorator."""
    found = getattr(found, "fget", found)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return getattr(found, "__func__", found)


def _print_result(number: int, *, survived: bool) -> None:
    os.write(_RESULTS, f"{json.dumps({'number': number, 'survived': survived})}\n".encode())


def main(name: str, path: str, folder: str, numbers: str, *tests: str) -> int:
    """Test the mutants with these numbers."""
    wanted = set(json.loads(numbers))
    mutants = {
        number: mutant
        for number, mutant in enumerate(mutants_of(Path(path).read_text(encoding="utf-8")))
        if number in wanted
    }
    trial = Trial(name, Path(path), Path(folder), list(tests), mutants)
    for inner in ("inside", "outside"):
        (trial.folder / inner).mkdir()
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 1)
    for warm in _WARM:
        importlib.import_module(warm)
    # The module is imported in a child, whose own children test mutants inside functions. It
    # returns its findings in a file.
    findings_file = trial.folder / "findings.json"

    def inside() -> int:
        errors: list[BaseException] = []

        def use(session: pytest.Session) -> None:
            try:
                trial.collected(session)
            except BaseException as error:  # noqa: BLE001  # raised by the parent
                errors.append(error)

        _pytest(trial.tests, _Collected(use))
        findings = {
            "error": str(errors[0]) if errors else None,
            "left": trial.left,
            "reached": {key: (s, sorted(lines)) for key, (s, lines) in trial.reached.items()},
        }
        findings_file.write_text(json.dumps(findings), encoding="utf-8")
        return _GREEN

    child = os.fork()
    if child == 0:
        os._exit(inside())
    os.waitpid(child, 0)
    findings = json.loads(findings_file.read_text(encoding="utf-8"))
    if findings["error"]:
        sys.exit(findings["error"])
    trial.left = findings["left"]
    trial.reached = {
        nodeid: Reached(seconds, frozenset(lines))
        for nodeid, (seconds, lines) in findings["reached"].items()
    }
    trial.outside()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
