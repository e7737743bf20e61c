"""Imports point down the layers, and each edge library is imported by its own packages only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.machine import PROJECT

# From the bottom up: a module may import from its own layer and from the layers before it.
LAYERS = (
    {"budget_sync", "domain", "runtime"},
    {"settings"},
    {"database"},
    {"ledger", "accounts"},
    {"queries", "sync", "delivery", "manual_budgets"},
    {"web", "operations"},
    {"server"},
    {"commands"},
    {"cli"},
    {"app", "__main__"},
)

# Libraries, with the only packages that may import them.
PACKAGES_OF_LIBRARY = {
    "authlib": {"accounts"},
    "flask": {"__main__", "app", "cli", "commands", "web", "server"},
    "flask_login": {"web"},
    "flask_wtf": {"web"},
    "gunicorn": {"server"},
    "click": {"__main__", "commands"},
    "greenlet": {"runtime"},
    "gspread": {"sync"},
    "prometheus_client": {"web"},
    "joserfc": {"accounts"},
    "psycopg": {"database", "settings"},
    "pydantic": {"accounts", "domain", "sync", "web"},
    "babel": {"domain", "sync"},
    "python_calamine": {"sync"},
}

FILES = sorted(
    path.relative_to(PROJECT)
    for path in (PROJECT / "app.py", PROJECT / "cli.py", *(PROJECT / "budget_sync").rglob("*.py"))
)


def package(dotted: str) -> str:
    """A module's name in the tables above: budget_sync.web.api -> web."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "budget_sync" and len(parts) > 1 else parts[0]


def package_of_file(path: Path) -> str:
    return package(".".join(path.with_suffix("").parts).removesuffix(".__init__"))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "budget_sync"
                else {node.module}
            )
    return found


def layer(name: str) -> int:
    found = [number for number, names in enumerate(LAYERS) if name in names]
    assert found, f"{name} has no layer: add it to LAYERS"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_points_upward(path: Path) -> None:
    own_layer = layer(package_of_file(path))
    imported = {
        package(name)
        for name in imports(path)
        if name.split(".")[0] in ("budget_sync", "app", "cli")
    }
    upward = {name for name in imported if layer(name) > own_layer}
    assert not upward


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_are_imported_by_their_packages_only(path: Path) -> None:
    importer = package_of_file(path)
    misplaced = {
        name
        for name in imports(path)
        if importer not in PACKAGES_OF_LIBRARY.get(name.split(".")[0], {importer})
    }
    assert not misplaced


@pytest.mark.parametrize("path", FILES, ids=str)
def test_functions_have_at_most_50_lines(path: Path) -> None:
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    long = {
        function.name: function.end_lineno - function.lineno + 1
        for function in functions
        if function.end_lineno and function.end_lineno - function.lineno >= 50
    }
    assert long == {}
