"""Tries mutants of one module: `python -m stress.mutant MODULE FILE FOLDER NUMBERS TESTS…`, one JSON line a mutant.

Most of a test run is starting and collecting, so that is done once. A mutant is tried in a child forked from there, two at
once, and only by tests that reach it, the quickest of those that run its very line first, until one fails. Where the change
lies within a function, the collected tests get the function's changed code. A change outside of functions is seen when the
module is imported alone: then the child begins before anybody has imported it. So does every mutant that seems to have
survived, with all tests, to be sure.
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
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import pytest

from stress.mutants import Mutant, mutants_of

#: Seconds after which a mutant that does not end counts as noticed: so many times what its tests took, and some more.
PATIENCE = 10
LEAST_S = 30

AT_ONCE = 2

#: What every child would otherwise import by itself.
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

# What was imported beforehand cannot be rewritten by pytest, and need not; the plugins are of no use here, and take long to import.
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

_GREEN, _NOTICED, _NEVER_IMPORTED = 0, 1, 99

# Where mutants are told: what was standard output, before pytest had it.
_TOLD = os.dup(1)


class Reached(NamedTuple):
    """What a test took, and which lines of the module it ran."""

    seconds: float
    lines: frozenset[int]


class Substitute(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the import of one module a mutant."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree
        self.is_used = False

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The mutant, where its module is asked for."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Run it as the module."""
        self.is_used = True
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)  # noqa: S102  # our own source, changed in one place


def in_children(
    works: Iterator[tuple[int, Callable[[], int], float]], folder: Path
) -> Iterator[tuple[int, bool]]:
    """Do works in forked children, some at once; each one's number, and whether it ended with the status of green tests."""
    running: dict[int, int] = {}
    for number, work, patience_s in works:
        if len(running) == AT_ONCE:
            yield _next(running)
        running[_fork(work, patience_s, folder / str(number))] = number
    while running:
        yield _next(running)


def _next(running: dict[int, int]) -> tuple[int, bool]:
    pid, status = os.waitpid(-1, 0)
    # Whatever it started and did not stop.
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if os.waitstatus_to_exitcode(status) == _NEVER_IMPORTED:
        raise RuntimeError("its tests never import it")
    return running.pop(pid), os.waitstatus_to_exitcode(status) == _GREEN


def _fork(work: Callable[[], int], patience_s: float, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = _NOTICED
    try:
        os.setpgid(0, 0)
        # Ends a child that does not end by itself.
        signal.alarm(int(patience_s) + 1)
        folder.mkdir()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        status = work()
    finally:
        # Nothing of the parent's may be done twice.
        os._exit(status)


@dataclass
class Trial:
    """The mutants of a module that are to be tried, and what the tests reach of it."""

    name: str
    path: Path
    folder: Path
    tests: list[str]
    mutants: dict[int, Mutant]
    reached: dict[str, Reached] = field(default_factory=dict)
    #: Those that no function's changed code can stand for.
    left: list[int] = field(default_factory=list)

    def collected(self, session: pytest.Session) -> None:
        """Look which tests reach what, and try every mutant whose change lies within a function."""
        self._trace(session.items)
        by_id = {item.nodeid: item for item in session.items}
        quickest = sorted(by_id, key=lambda nodeid: self.reached[nodeid].seconds)
        for _, is_green in in_children(
            iter([(-1, lambda: _run([by_id[nodeid] for nodeid in quickest]), 3600.0)]), self.folder
        ):
            if not is_green:
                raise RuntimeError("its tests fail in another order, without any mutant")
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
                    lambda changed=changed, tests=tests: _run_changed(  # type: ignore[misc]  # mypy knows no defaults of lambdas
                        changed, [by_id[nodeid] for nodeid in tests]
                    ),
                    self._patience_s(tests),
                )

        for number, is_green in in_children(works(), self.folder / "inside"):
            if is_green:
                self.left.append(number)
            else:
                _tell(number, survived=False)

    def outside(self) -> None:
        """Try what is left on a fresh import."""

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
                    lambda number=number, order=order: self._run_afresh(  # type: ignore[misc]  # as above
                        self.mutants[number], order
                    ),
                    self._patience_s(order),
                )

        for number, is_green in in_children(works(), self.folder / "outside"):
            _tell(number, survived=is_green)

    def _trace(self, items: list[pytest.Item]) -> None:
        """Run all tests once, without a mutant, and note which lines they reach. Raises RuntimeError where one fails."""
        report = self.folder / "reached.json"
        for _, is_green in in_children(
            iter([(-2, lambda: _run_traced(items, self.path, report), 3600.0)]), self.folder
        ):
            if not is_green:
                raise RuntimeError("its tests fail without any mutant")
        self.reached = {
            nodeid: Reached(seconds, frozenset(lines))
            for nodeid, (seconds, lines) in json.loads(report.read_text(encoding="utf-8")).items()
        }

    def _tests_of(self, line: int) -> list[str]:
        """The tests that run the function around a line, those first that run the line; the quickest first of each."""
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
        return LEAST_S + PATIENCE * sum(self.reached[nodeid].seconds for nodeid in tests)

    def _run_afresh(self, mutant: Mutant, order: dict[str, int]) -> int:
        substitute = Substitute(self.name, self.path, mutant.tree)
        sys.meta_path.insert(0, substitute)
        status = int(_pytest(self.tests, _InOrder(order)))
        return status if substitute.is_used else _NEVER_IMPORTED


class _Collected:
    """Hands the collected tests over, instead of running them."""

    def __init__(self, use: Callable[[pytest.Session], None]) -> None:
        self.use = use

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In the place of pytest's own."""
        self.use(session)
        return True


class _InOrder:
    """Puts the tests in order."""

    def __init__(self, order: dict[str, int]) -> None:
        self.order = order

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Once they are collected; what a mutant makes of their names comes first."""
        items.sort(key=lambda item: self.order.get(item.nodeid, -1))


def _pytest(tests: list[str], plugin: object) -> int:
    return int(pytest.main([*_OPTIONS, *tests], plugins=[plugin]))


def _run(items: list[pytest.Item], before: Callable[[pytest.Item], None] = lambda _: None) -> int:
    """Run tests until one fails."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        before(item)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return _NOTICED
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

    # On the thread that writes as well.
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
    """The functions whose code a mutant changes, with that code; None where it changes anything else."""
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
    """The function that a property or a decorator is made of."""
    found = getattr(found, "fget", found)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return getattr(found, "__func__", found)


def _tell(number: int, *, survived: bool) -> None:
    os.write(_TOLD, f"{json.dumps({'number': number, 'survived': survived})}\n".encode())


def main(name: str, path: str, folder: str, numbers: str, *tests: str) -> int:
    """Try the mutants with those numbers."""
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
    # The module is imported in a child of its own, whose children try what lies within functions. What it found out comes back in a file.
    handed = trial.folder / "handed.json"

    def inside() -> int:
        errors: list[BaseException] = []

        def use(session: pytest.Session) -> None:
            try:
                trial.collected(session)
            except BaseException as error:  # noqa: BLE001  # told to whoever started this
                errors.append(error)

        _pytest(trial.tests, _Collected(use))
        told = {
            "error": str(errors[0]) if errors else None,
            "left": trial.left,
            "reached": {key: (s, sorted(lines)) for key, (s, lines) in trial.reached.items()},
        }
        handed.write_text(json.dumps(told), encoding="utf-8")
        return _GREEN

    child = os.fork()
    if child == 0:
        os._exit(inside())
    os.waitpid(child, 0)
    told = json.loads(handed.read_text(encoding="utf-8"))
    if told["error"]:
        sys.exit(told["error"])
    trial.left = told["left"]
    trial.reached = {
        nodeid: Reached(seconds, frozenset(lines))
        for nodeid, (seconds, lines) in told["reached"].items()
    }
    trial.outside()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
