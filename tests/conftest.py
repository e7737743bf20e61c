"""Fixtures for all tests: an app on its own database, the guide's world, a running server.

With TEST_ENGINE=postgresql, the database is on PostgreSQL instead of SQLite.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support import speed
from support.installation import Installation

from app import create_app
from budget_sync import database, settings
from budget_sync.settings import Settings

if TYPE_CHECKING:
    # pytest imports this plugin itself.
    from support.templates import Start, Templates

pytest_plugins = [
    "support.postgres",
    "support.templates",
    "support.console_site",
    "support.chromium",
]

#: The test files that take longest.
LONGEST = ("test_console_browser", "test_console_sheets_browser", "test_stress")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option for the tests marked `long`."""
    parser.addoption("--long", action="store_true", help="also run the tests that are marked long")


def pytest_configure(config: pytest.Config) -> None:
    """Speed up what every test uses, and choose whether long tests run.

    They also run if the command line names files or folders, or if REQUIRE_ALL is set.
    """
    # A process of xdist has the options of the first process, and its own command line.
    if not hasattr(config, "workerinput"):
        is_named = config.args_source is pytest.Config.ArgsSource.ARGS
        config.option.long |= is_named or bool(os.environ.get("REQUIRE_ALL"))
    speed.keep_files_in_memory()
    monkeypatch = pytest.MonkeyPatch()
    speed.share_routes(monkeypatch)
    speed.use_cheap_password_hashes(monkeypatch)
    speed.call_in_this_process(monkeypatch)
    config.add_cleanup(monkeypatch.undo)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that the long tests are left out."""
    if config.option.long:
        return None
    return "long tests: left out; run them with --long, with REQUIRE_ALL=1, or by their file"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with the longest tests, so that parallel workers finish at about the same time.

    Browser tests are long. Without `--long`, long tests are left out.
    """
    for item in items:
        if item.path.stem.endswith("_browser"):
            item.add_marker("long")
    if not config.option.long:
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Start:
    """What a new installation of the test starts with: the data that the fixtures need."""
    if "guides_world" in request.fixturenames:
        return "world"
    return "tables" if "app" in request.fixturenames else "nothing"


@pytest.fixture
def environment(tmp_path: Path, templates: Templates, start: Start) -> Iterator[dict[str, str]]:
    """The environment variables of a new installation."""
    with templates.copy(start, tmp_path / "instance") as variables:
        yield variables


@pytest.fixture
def guides_world() -> None:
    """Marks that the test needs the guide's world: `environment` looks for this fixture's name."""


@pytest.fixture
def chosen(environment: dict[str, str]) -> Settings:
    """The settings of that installation, with a short wait for locks."""
    loaded = settings.load(environment)
    return Settings(
        **{name: getattr(loaded, name) for name in loaded.__dataclass_fields__}
        | {"busy_timeout_s": 1.0}
    )


@pytest.fixture
def app(chosen: Settings, start: Start) -> Iterator[Flask]:
    """An app on a new database with all tables."""
    if start == "nothing":
        # A fixture requested this one dynamically.
        chosen.instance_folder.mkdir(parents=True, exist_ok=True)
        database.connect(chosen.database, create=True)
        database.init_schema()
    yield create_app(chosen)
    database.disconnect()


@pytest.fixture
def world(guides_world: None, app: Flask) -> Flask:
    """The app with the guide's world: org-456, budget-123, Jane, Fiona (FP&A), Alex (admin)."""
    return app


@pytest.fixture
def client(world: Flask) -> FlaskClient:
    """A client without credentials, in the guide's world."""
    return world.test_client()


@pytest.fixture
def installation(guides_world: None, environment: dict[str, str]) -> Iterator[Installation]:
    """An installation with the guide's world, its server not started."""
    installation = Installation(environment)
    yield installation
    installation.end()


@pytest.fixture
def server(installation: Installation) -> Installation:
    """An installation with the guide's world and its server running."""
    installation.start()
    return installation
