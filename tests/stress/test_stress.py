"""The short form of each stress row. `make stress` runs the full form."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.machine import ENGINE
from support.templates import Templates

from stress import command
from stress.outcome import Outcome, Place, Row
from stress.rows import ROWS

pytestmark = [pytest.mark.both_engines, pytest.mark.long]

SHORT = [row for row in ROWS if row.short is not None and ENGINE in row.engines]


@pytest.fixture
def place(tmp_path: Path, templates: Templates) -> Place:
    """A place on the engine under test."""
    # The seed is fixed, so that the suite never fails at random; `make stress` uses and prints a
    # new seed each time. Time limits are stretched, so that the machine's speed does not matter.
    return Place(tmp_path, templates, seed=0, patience=10)


def assert_no_violations(outcome: Outcome) -> None:
    """Assert that tries were made without violations."""
    assert outcome.violations == []
    assert outcome.tries > 0


@pytest.mark.parametrize("row", SHORT, ids=lambda row: row.name)
def test_invariant_holds(row: Row, place: Place) -> None:
    assert row.short is not None
    assert_no_violations(row.stress(row.short, place))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "kills,skills"), "there is no row skills; --list names them"),
        (("--engine", "postgresql"), "PostgreSQL is not installed"),
    ],
)
def test_invalid_arguments_are_explained(
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
