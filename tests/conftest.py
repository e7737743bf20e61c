"""What every test can ask for: an app on a database of its own, the guide's world in it, a fixed cast, a running server.

With TEST_ENGINE=postgresql that database is PostgreSQL's, for the tests whose subject is no engine's own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.installation import Installation
from werkzeug.routing import Rule
from werkzeug.security import generate_password_hash

from app import create_app
from budget_sync import database, settings
from budget_sync.accounts import passwords
from budget_sync.settings import Settings

if TYPE_CHECKING:
    # It needs an installation to make one.
    from support.templates import Start, Templates

pytest_plugins = ["support.postgres", "support.templates", "support.console_site"]

#: What builds a route's URLs.
Builder = Callable[..., tuple[str, str]]


#: The files whose tests take longest.
LONG = ("test_console_browser", "test_stress")

#: A folder in memory, where a sync costs nothing, and the room that tests may need there.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108  # whoever uses it makes a folder of their own in it


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files in memory, where there is room for them, and what each test's app would compile anew."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        os.environ.setdefault("TMPDIR", str(MEMORY))
        # Asked for already, by pytest's own capturing.
        tempfile.tempdir = None
    monkeypatch = pytest.MonkeyPatch()
    # Three quarters of what a new app costs.
    monkeypatch.setattr(Rule, "_compile_builder", _compile_once(Rule._compile_builder))  # noqa: SLF001  # nothing public does it once
    # A password's hash is as the service makes it, but costs nothing: what it costs, and that it is always paid, is test_logins' subject.
    monkeypatch.setattr(
        passwords,
        "generate_password_hash",
        partial(generate_password_hash, method="scrypt:256:8:1"),
    )
    config.add_cleanup(monkeypatch.undo)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that whoever shares the tests ends with short ones, and at the same time as the others."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def _compile_once(
    compile_builder: Callable[[Rule, bool], Builder],
) -> Callable[[Rule, bool], Builder]:
    """Werkzeug's compiler of what builds a route's URLs, which makes the same of the same route for every app."""
    made: dict[str, Builder] = {}

    def compile_or_take(rule: Rule, append_unknown: bool = True) -> Builder:
        # All that it looks at.
        looked_at = repr((rule.rule, rule._trace, rule.defaults, append_unknown))  # noqa: SLF001  # of its own kind
        if looked_at not in made:
            made[looked_at] = compile_builder(rule, append_unknown)
        return made[looked_at]

    return compile_or_take


@pytest.fixture
def environment(
    tmp_path: Path, templates: Templates, request: pytest.FixtureRequest
) -> Iterator[dict[str, str]]:
    """The environment of one installation, in a folder of its own, begun as far as the test's other fixtures need it."""
    start: Start = (
        "world"
        if "guides_world" in request.fixturenames
        else "tables"
        if "app" in request.fixturenames
        else "nothing"
    )
    with templates.copy(start, tmp_path / "instance") as made:
        yield made


@pytest.fixture
def guides_world() -> None:
    """Asks for the guide's world in that installation."""


@pytest.fixture
def chosen(environment: dict[str, str]) -> Settings:
    """The settings of that installation, with a short wait for locks."""
    loaded = settings.load(environment)
    return Settings(
        **{name: getattr(loaded, name) for name in loaded.__dataclass_fields__}
        | {"busy_timeout_s": 1.0}
    )


@pytest.fixture
def app(chosen: Settings) -> Iterator[Flask]:
    """An app on a fresh database with the tables made."""
    # They are there, unless a fixture asked for this one only when it ran.
    chosen.instance_folder.mkdir(parents=True, exist_ok=True)
    database.connect(chosen.database, create=True)
    database.init_schema()
    made = create_app(chosen)
    yield made
    database.disconnect()


@pytest.fixture
def world(guides_world: None, app: Flask) -> Flask:
    """The app with the guide's world loaded: org-456, budget-123, Jane, Fiona (FP&A), Alex (admin)."""
    return app


@pytest.fixture
def client(world: Flask) -> FlaskClient:
    """A client without credentials, in the guide's world."""
    return world.test_client()


@pytest.fixture
def installation(guides_world: None, environment: dict[str, str]) -> Iterator[Installation]:
    """An installation with the guide's world loaded, its server not started."""
    made = Installation(environment)
    yield made
    made.end()


@pytest.fixture
def server(installation: Installation) -> Installation:
    """An installation with the guide's world loaded and its server running."""
    installation.start()
    return installation
