"""Makes tests faster: files in memory, routes built once, cheap hashes, no child processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Hashable
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flask import Flask
from werkzeug.routing import Map, Rule, RuleFactory
from werkzeug.security import generate_password_hash

from budget_sync.accounts import passwords
from budget_sync.runtime import isolate
from budget_sync.sync import isolated

#: Calls a function in a child process, as the service does.
call_in_child = isolate.call

#: What distinguishes two rules, in addition to their path, methods and defaults.
_VALUES_OF_RULE = (
    "subdomain",
    "host",
    "build_only",
    "endpoint",
    "strict_slashes",
    "merge_slashes",
    "redirect_to",
    "alias",
    "websocket",
    "provide_automatic_options",
)

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


class SharedMap(Map):
    """The routes of an app, built on first use, and once for all apps that have the same routes.

    Building them is half of an app's cost.
    """

    _built: ClassVar[dict[Hashable, Map]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._options = options
        self._steps: list[Rule | bool] = []
        self._is_built = True

    def add(self, rulefactory: RuleFactory) -> None:
        """Add rules, which are bound to a map later."""
        self._steps += rulefactory.get_rules(self)
        self._is_built = False

    @property
    def merge_slashes(self) -> bool:
        """Whether the rules that are added from now on merge slashes."""
        return self._matcher.merge_slashes

    @merge_slashes.setter
    def merge_slashes(self, value: bool) -> None:
        self._steps.append(value)
        self._matcher.merge_slashes = value

    def update(self) -> None:
        """Build the routes, or take those of an earlier app. Each use of the routes begins here."""
        if not self._is_built:
            steps = tuple(map(_content, self._steps))
            key = (repr(self._options), tuple(self.converters.items()), steps)
            built = self._built.get(key) or self._built.setdefault(key, self._build())
            self._matcher = built._matcher  # noqa: SLF001  # Werkzeug has no public way
            self._rules_by_endpoint = built._rules_by_endpoint  # noqa: SLF001
            self._remap, self._is_built = False, True

    def _build(self) -> Map:
        built = Map(**self._options, converters=self.converters)
        for step in self._steps:
            if isinstance(step, bool):
                built.merge_slashes = step
            else:
                built.add(copy(step))
        built.update()
        return built


def _content(step: Rule | bool) -> Hashable:
    """A rule, or a new value of `merge_slashes`, as a value to compare."""
    if isinstance(step, bool):
        return step
    values = vars(step)
    return (
        step.rule,
        frozenset(step.methods or ()),
        tuple((step.defaults or {}).items()),
        *(values[name] for name in _VALUES_OF_RULE),
    )


def share_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the routes of all apps once. A route that a test adds is only in the test's app."""
    monkeypatch.setattr(Flask, "url_map_class", SharedMap)


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
