"""The short form of every promise's proof; `make prove` runs the long ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.machine import ENGINE
from support.templates import Templates

from stress import command
from stress.outcome import Outcome, Place, Row
from stress.rows import ROWS

pytestmark = pytest.mark.both_engines

SHORT = [row for row in ROWS if row.short is not None and ENGINE in row.engines]


@pytest.fixture
def place(tmp_path: Path, templates: Templates) -> Place:
    """A place on the engine that the tests run on."""
    # The same dice on every run: a suite that fails by chance helps nobody. `make prove` throws new ones each time, and prints their seed.
    # Nothing here depends on how fast the machine is: `make prove` holds the promised times, here they are stretched.
    return Place(tmp_path, templates, seed=0, patience=10)


def assert_kept(outcome: Outcome) -> None:
    """It was tried, and nothing broke it."""
    assert outcome.violations == []
    assert outcome.tries > 0


@pytest.mark.parametrize("row", SHORT, ids=lambda row: row.name)
def test_a_promise_is_kept(row: Row, place: Place) -> None:
    assert row.short is not None
    assert_kept(row.stress(row.short, place))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "kills,skills"), "there is no row skills; --list names them"),
        (("--engine", "postgresql"), "PostgreSQL is not installed here"),
    ],
)
def test_what_cannot_be_tried_is_said(
    arguments: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "BINARIES", [])
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {says}\n")
