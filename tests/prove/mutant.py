"""A mutant's own process: `python -m prove.mutant MODULE FILE MUTANT TESTS…` runs the tests with the mutant in the module's place.

Imports nothing of the project, since the mutant must be there before anybody imports its module.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

#: The exit status where the tests passed and never imported the mutant: they prove nothing.
NEVER_IMPORTED = 99


class Mutant(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the import of one module a mutant."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree
        self.is_used = False

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """The mutant, where its module is asked for."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Run it as the module."""
        self.is_used = True
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)  # noqa: S102  # our own source, changed in one place


def main(name: str, path: str, mutant: str, *tests: str) -> int:
    """Run the tests until one fails; pytest's exit status."""
    finder = Mutant(name, Path(path), ast.parse(Path(mutant).read_text(encoding="utf-8")))
    sys.meta_path.insert(0, finder)
    status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    return status if finder.is_used else NEVER_IMPORTED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
