"""Mutation: small mistakes put into the code that decides about money; the tests must notice them.

A mutant is one change of one place: a comparison turned, a plus made a minus, a constant off by one, a condition negated, a
statement left out. Each runs in a process of its own whose import of that module gets the mutant, against the tests that
belong to it. A survivor is a mistake that no test would notice: it is explained in EQUIVALENT, or a test is missing.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import PROJECT

from prove.mutant import NEVER_IMPORTED
from prove.outcome import Outcome, Place

#: Modules, and the tests whose business they are.
TARGETS = {
    "money": ("money",),
    "permissions": ("permissions",),
    "ledger.check": ("ledger", "guide_sql", "requesters"),
    "ledger.reserve": ("ledger", "requesters", "tenants"),
    "ledger.settle": ("ledger", "requesters", "tenants"),
    "ledger.standing": ("ledger", "requesters", "tenants"),
    "ledger.idempotency": ("ledger", "tenants"),
    "sync.plan": ("sync_plan", "sync_run"),
}

MIN_KILLED = 0.95

#: Seconds after which a mutant that does not end counts as noticed.
TIMEOUT_S = 300

#: Mutants that change nothing anybody could see, by module and what was made of the line, and why.
EQUIVALENT: dict[str, dict[str, str]] = {
    "money": {"257": "how many currencies a cache holds"},
}

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_SCOPES = {"ANY": "OWN", "OWN": "ANY"}


def prove(tries: int, place: Place) -> Outcome:
    """Try every mutant of every module, or `tries` of each by dice where there are more."""
    outcome = Outcome()
    for name, tests in TARGETS.items():
        path = PROJECT / "budget_sync" / Path(*name.split(".")).with_suffix(".py")
        mutants = list(mutants_of(path.read_text(encoding="utf-8")))
        if len(mutants) > tries:
            mutants = place.dice.sample(mutants, tries)
        if not _is_green(path, name, None, tests, place):
            outcome.expect(holds=False, otherwise=f"{name}: its tests fail without any mutant")
            continue
        survivors = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            greens = threads.map(lambda mutant: _is_green(path, name, mutant[1], tests, place), mutants)  # noqa: B023  # used up within the round
            for (line, _), is_green in zip(mutants, greens, strict=True):
                if is_green and line.partition(": ")[2] not in EQUIVALENT.get(name, {}):
                    survivors.append(line)
                    place.tell(f"survived in {name}: {line}")
                outcome.tries += 1
                place.progress(outcome.tries, tries * len(TARGETS))
        killed = 1 - len(survivors) / len(mutants)
        outcome.notes.append(f"{name}: {len(mutants) - len(survivors)} of {len(mutants)} noticed ({killed:.1%})")
        outcome.notes += [f"  survived: {line}" for line in survivors]
        outcome.expect(killed >= MIN_KILLED, f"{name}: {killed:.1%} of {len(mutants)} mutants noticed")
    return outcome


def mutants_of(source: str) -> Iterator[tuple[str, ast.Module]]:
    """Every mutant of a source: its changed line, with the number, and its tree."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    passed_over = _passed_over(tree)
    for number, node in enumerate(nodes):
        if id(node) in passed_over:
            continue
        for change in _changes(node):
            mutant = copy.deepcopy(tree)
            changed = list(ast.walk(mutant))[number]
            change(changed)
            line = ast.unparse(changed).splitlines()[0]
            yield f"line {getattr(node, 'lineno', '?')}: {line}", ast.fix_missing_locations(mutant)


def _passed_over(tree: ast.Module) -> set[int]:
    """Nodes where a change would be one of words alone: annotations, and the parts of texts."""
    found: set[int] = set()
    for node in ast.walk(tree):
        words: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign):
            words = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            words = [node.returns, *(argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs))]
        elif isinstance(node, ast.JoinedStr):
            words = [node]
        found |= {id(inner) for word in words if word for inner in ast.walk(word)}
    return found


def _changes(node: ast.AST) -> list[Callable[[ast.AST], None]]:
    """What can be changed about a node."""
    return _changes_of_values(node) + _changes_of_statements(node) + _omissions(node)


def _changes_of_values(node: ast.AST) -> list[Callable[[ast.AST], None]]:
    changes: list[Callable[[ast.AST], None]] = []
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        changes.append(lambda it: it.ops.__setitem__(0, _COMPARISONS[type(it.ops[0])]()))  # type: ignore[attr-defined]  # a Compare
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        changes.append(lambda it: setattr(it, "op", _OPERATORS[type(it.op)]()))  # type: ignore[attr-defined]  # a BinOp
    if isinstance(node, ast.BoolOp):
        changes.append(lambda it: setattr(it, "op", ast.Or() if isinstance(it.op, ast.And) else ast.And()))  # type: ignore[attr-defined]  # a BoolOp
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        changes.append(lambda it: setattr(it, "value", not it.value))  # type: ignore[attr-defined]  # a Constant
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        changes.append(lambda it: setattr(it, "value", it.value + 1))  # type: ignore[attr-defined]  # a Constant
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Scope" and node.attr in _SCOPES:
        changes.append(lambda it: setattr(it, "attr", _SCOPES[it.attr]))  # type: ignore[attr-defined]  # an Attribute
    return changes


def _changes_of_statements(node: ast.AST) -> list[Callable[[ast.AST], None]]:
    changes: list[Callable[[ast.AST], None]] = []
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        changes.append(lambda it: setattr(it, "test", ast.UnaryOp(ast.Not(), it.test)))  # type: ignore[attr-defined]  # an If
    if isinstance(node, ast.Return) and node.value is not None:
        changes.append(lambda it: setattr(it, "value", ast.Constant(None)))
    if isinstance(node, ast.If | ast.For) and any(isinstance(inner, ast.Raise | ast.Expr) for inner in node.body):
        changes.append(lambda it: setattr(it, "body", [ast.Pass()]))
    return changes


def _omissions(node: ast.AST) -> list[Callable[[ast.AST], None]]:
    """What can be left out."""
    changes: list[Callable[[ast.AST], None]] = []
    if isinstance(node, ast.Dict):
        changes += [_without_entry(at) for at in range(len(node.keys))]
    if isinstance(node, ast.Tuple | ast.Set) and len(node.elts) > 1 and isinstance(node.ctx if isinstance(node, ast.Tuple) else ast.Load(), ast.Load):
        changes += [_without_element(at) for at in range(len(node.elts))]
    if isinstance(node, ast.FunctionDef):
        calls = [at for at, inner in enumerate(node.body) if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call)]
        changes += [_without_statement(at) for at in calls]
    return changes


def _without_entry(at: int) -> Callable[[ast.AST], None]:
    def change(it: ast.AST) -> None:
        del it.keys[at], it.values[at]  # type: ignore[attr-defined]  # a Dict

    return change


def _without_element(at: int) -> Callable[[ast.AST], None]:
    return lambda it: it.elts.__delitem__(at)  # type: ignore[attr-defined]  # a Tuple or Set


def _without_statement(at: int) -> Callable[[ast.AST], None]:
    return lambda it: it.body.__setitem__(at, ast.Pass())  # type: ignore[attr-defined]  # a FunctionDef


def _is_green(path: Path, name: str, tree: ast.Module | None, tests: tuple[str, ...], place: Place) -> bool:
    """Whether the tests pass with the mutant."""
    folder = Path(tempfile.mkdtemp(dir=place.folder))
    mutant = folder / "mutant.py"
    mutant.write_text(ast.unparse(tree) if tree else path.read_text(encoding="utf-8"), encoding="utf-8")
    files = [str(PROJECT / "tests" / f"test_{test}.py") for test in tests]
    command = [sys.executable, "-m", "prove.mutant", f"budget_sync.{name}", str(path), str(mutant), f"--basetemp={folder / 'tests'}", *files]
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}"}
    try:
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    finally:
        shutil.rmtree(folder)
    if done.returncode == NEVER_IMPORTED:
        raise RuntimeError(f"the tests of {name} never import it")
    return done.returncode == 0
