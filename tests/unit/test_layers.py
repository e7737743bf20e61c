"""One way down: nothing imports upward, and the libraries of the edges stay at the edges."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.machine import PROJECT

# From the bottom up: a module may import from its own layer and from those before it.
LAYERS = (
    {"budget_sync", "domain", "runtime"},
    {"settings"},
    {"database"},
    {"ledger", "accounts"},
    {"queries", "sync", "manual_budgets"},
    {"web", "operations"},
    {"server"},
    {"commands"},
    {"cli"},
    {"app", "__main__"},
)

# Libraries that only the named rooms may import.
AT_HOME = {
    "flask": {"__main__", "app", "cli", "commands", "web", "server"},
    "flask_login": {"web"},
    "flask_wtf": {"web"},
    "gunicorn": {"server", "web"},
    "click": {"__main__", "commands"},
    "greenlet": {"runtime"},
    "gspread": {"sync"},
    "prometheus_client": {"web"},
    "psycopg": {"database", "settings"},
    "pydantic": {"domain", "web"},
    "babel": {"domain", "sync"},
}

FILES = sorted(
    path.relative_to(PROJECT)
    for path in (PROJECT / "app.py", PROJECT / "cli.py", *(PROJECT / "budget_sync").rglob("*.py"))
)


def room(dotted: str) -> str:
    """The layer table's name for a module: budget_sync.web.api -> web."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "budget_sync" and len(parts) > 1 else parts[0]


def imports(path: Path) -> set[str]:
    """The modules a file imports, anywhere in it."""
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
def test_nothing_imports_upward(path: Path) -> None:
    here = room(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    ours = {
        room(name) for name in imports(path) if name.split(".")[0] in ("budget_sync", "app", "cli")
    }
    upward = {name for name in ours if layer(name) > layer(here)}
    assert not upward


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_library_of_the_edge_stays_at_the_edge(path: Path) -> None:
    here = room(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    strayed = {
        name for name in imports(path) if here not in AT_HOME.get(name.split(".")[0], {here})
    }
    assert not strayed
