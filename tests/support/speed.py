"""Makes tests faster: files in memory, routes compiled once, cheap hashes, no child processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from werkzeug.routing import Rule
from werkzeug.security import generate_password_hash

from budget_sync.accounts import passwords
from budget_sync.runtime import isolate
from budget_sync.sync import isolated

#: Calls a function in a child process, as the service does.
call_in_child = isolate.call

#: Compiles the function that builds a route's URLs.
Compiler = Callable[[Rule, bool], Callable[..., tuple[str, str]]]

#: A folder in memory, where fsync costs nothing.
MEMORY = Path("/dev/shm")  # noqa: S108  # temporary folders are created inside

#: Free bytes that tests may need there.
MEMORY_BYTES = 4 * 2**30


def keep_files_in_memory() -> None:
    """Let temporary folders be created in memory, if there is enough room."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        os.environ.setdefault("TMPDIR", str(MEMORY))
        # pytest's output capturing has already cached the default folder.
        tempfile.tempdir = None


def compile_routes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share compiled URL builders between apps. Compiling is three quarters of an app's cost."""
    monkeypatch.setattr(
        Rule,
        "_compile_builder",
        _cached(Rule._compile_builder),  # noqa: SLF001  # Werkzeug has no public way
    )


def use_cheap_password_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with scrypt at minimal cost. test_authentication tests the real cost."""
    monkeypatch.setattr(
        passwords,
        "generate_password_hash",
        partial(generate_password_hash, method="scrypt:256:8:1"),
    )


def call_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run isolated work in the test's process, so that tests can replace parts of it.

    Tests of the server and of `isolate` use child processes.
    """
    monkeypatch.setattr(
        isolate, "call", lambda function, *arguments, **_options: function(*arguments)
    )
    monkeypatch.setattr(isolated, "call", lambda _database, work, job, source: work(job, source))


def _cached(compile_builder: Compiler) -> Compiler:
    """Cache Werkzeug's compiler, whose result depends only on the route."""
    builders: dict[str, Callable[..., tuple[str, str]]] = {}

    def compile_once(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        # Everything that the compiler reads.
        key = repr((rule.rule, rule._trace, rule.defaults, append_unknown))  # noqa: SLF001
        if key not in builders:
            builders[key] = compile_builder(rule, append_unknown)
        return builders[key]

    return compile_once
