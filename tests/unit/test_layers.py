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
    {"queries", "sync", "delivery", "alerts", "manual_budgets", "spend_import"},
    {"web", "operations"},
    {"server"},
    {"commands"},
    {"cli"},
    {"app", "__main__"},
)

# Libraries, with the only packages that may import them.
PACKAGES_OF_LIBRARY = {
    "apprise": {"alerts"},
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


@pytest.fixture(scope="module")
def nodes() -> dict[Path, list[ast.AST]]:
    """The syntax nodes of each file of the package."""
    return {
        path: list(ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))))
        for path in FILES
    }


@pytest.fixture(scope="module")
def imports(nodes: dict[Path, list[ast.AST]]) -> dict[Path, set[str]]:
    """The modules that each file imports, anywhere in it."""
    return {path: imported_by(found) for path, found in nodes.items()}


def imported_by(nodes: list[ast.AST]) -> set[str]:
    """The modules that a file with these nodes imports."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "budget_sync"
                else {node.module}
            )
    return found


def package(dotted: str) -> str:
    """A module's name in the tables above: budget_sync.web.api -> web."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "budget_sync" and len(parts) > 1 else parts[0]


def package_of_file(path: Path) -> str:
    return package(".".join(path.with_suffix("").parts).removesuffix(".__init__"))


def layer(name: str) -> int:
    found = [number for number, names in enumerate(LAYERS) if name in names]
    assert found, f"{name} has no layer: add it to LAYERS"
    return found[0]


def is_upward(path: Path, name: str) -> bool:
    """Whether a file imports a module of a layer above its own."""
    if name.split(".", maxsplit=1)[0] not in ("budget_sync", "app", "cli"):
        return False
    return layer(package(name)) > layer(package_of_file(path))


def is_misplaced(path: Path, name: str) -> bool:
    """Whether a file imports a library of other packages."""
    importer = package_of_file(path)
    return importer not in PACKAGES_OF_LIBRARY.get(name.split(".", maxsplit=1)[0], {importer})


def test_each_file_has_a_layer() -> None:
    assert [layer(package_of_file(path)) for path in FILES]


def test_no_import_points_upward(imports: dict[Path, set[str]]) -> None:
    assert [
        f"{path} imports {name}"
        for path, names in imports.items()
        for name in names
        if is_upward(path, name)
    ] == []


def test_libraries_are_imported_by_their_packages_only(imports: dict[Path, set[str]]) -> None:
    assert [
        f"{path} imports {name}"
        for path, names in imports.items()
        for name in names
        if is_misplaced(path, name)
    ] == []


def test_functions_have_at_most_50_lines(nodes: dict[Path, list[ast.AST]]) -> None:
    assert [
        f"{path}: {node.name}"
        for path, found in nodes.items()
        for node in found
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno >= 50
    ] == []
