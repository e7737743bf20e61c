"""tests/README.md names every test folder, and only make targets and files that exist."""

from __future__ import annotations

import re

from support.machine import PROJECT

TESTS = PROJECT / "tests"
README = (TESTS / "README.md").read_text(encoding="utf-8")


def test_every_folder_is_described() -> None:
    described = re.findall(r"^\| `(\w+)/` \|", README, flags=re.MULTILINE)
    folders = {
        path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith("__")
    }
    assert sorted(described) == sorted(folders)


def test_every_make_target_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"test", "tests", "tests-postgresql", "stress"} <= named
    assert named <= targets


def test_every_file_exists() -> None:
    paths = re.findall(r"\b(?:tests/)?((?:\w+/)*\w+\.(?:py|md))\b", README)
    assert paths
    assert [path for path in paths if not (TESTS / path).exists()] == []
