"""Mutants: every small mistake that can be made in a source, one change of one place each.

A comparison turned, a plus made a minus, a constant off by one, a condition negated, a statement left out. Imports nothing of
the project, since a mutant may have to be there before anybody imports its module.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

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
#: Characters of a line that are shown before and after what was changed in it.
_NEAR = 50

_SCOPES = {"ANY": "OWN", "OWN": "ANY"}


class Mutant(NamedTuple):
    """A source with one change: where it is, and the tree before and after."""

    line: int
    original: ast.Module
    tree: ast.Module

    @property
    def change(self) -> str:
        """The first line that differs, as it was and as it is, around where it does."""
        before, after = ast.unparse(self.original).splitlines(), ast.unparse(self.tree).splitlines()
        was, now = next(
            (pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]),
            (before[-1], after[-1]),
        )
        # One that was left out has the next one in its place.
        return (
            f"without {was.strip()}"
            if len(after) < len(before) and now.strip() != "pass"
            else _shown(was.strip(), now.strip())
        )


def _shown(was: str, now: str) -> str:
    """What differs between two lines, and what stands near it."""
    same = _alike(was, now)
    same_after = _alike(was[:same:-1], now[:same:-1])
    begin = max(0, same - _NEAR)
    pieces = [line[begin : len(line) - max(0, same_after - _NEAR)] for line in (was, now)]
    return f"{'…' * (begin > 0)}{pieces[0]} -> {pieces[1]}"


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next(
        (at for at, (char, its) in enumerate(zip(one, other, strict=False)) if char != its),
        min(len(one), len(other)),
    )


def mutants_of(source: str) -> Iterator[Mutant]:
    """Every mutant of a source, always in the same order."""
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
            yield Mutant(getattr(node, "lineno", 0), tree, ast.fix_missing_locations(mutant))


def _passed_over(tree: ast.Module) -> set[int]:
    """Nodes where a change would be one of words alone: annotations, and the parts of texts."""
    found: set[int] = set()
    for node in ast.walk(tree):
        words: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign):
            words = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            words = [
                node.returns,
                *(argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)),
            ]
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
        changes.append(
            lambda it: setattr(it, "op", ast.Or() if isinstance(it.op, ast.And) else ast.And())  # type: ignore[attr-defined]  # a BoolOp
        )
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        changes.append(lambda it: setattr(it, "value", not it.value))  # type: ignore[attr-defined]  # a Constant
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        changes.append(lambda it: setattr(it, "value", it.value + 1))  # type: ignore[attr-defined]  # a Constant
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Scope"
        and node.attr in _SCOPES
    ):
        changes.append(lambda it: setattr(it, "attr", _SCOPES[it.attr]))  # type: ignore[attr-defined]  # an Attribute
    return changes


def _changes_of_statements(node: ast.AST) -> list[Callable[[ast.AST], None]]:
    changes: list[Callable[[ast.AST], None]] = []
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        changes.append(lambda it: setattr(it, "test", ast.UnaryOp(ast.Not(), it.test)))  # type: ignore[attr-defined]  # an If
    if isinstance(node, ast.Return) and not (
        node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    ):
        changes.append(lambda it: setattr(it, "value", ast.Constant(None)))
    if isinstance(node, ast.If | ast.For) and any(
        isinstance(inner, ast.Raise | ast.Expr) for inner in node.body
    ):
        changes.append(lambda it: setattr(it, "body", [ast.Pass()]))
    return changes


def _omissions(node: ast.AST) -> list[Callable[[ast.AST], None]]:
    """What can be left out."""
    changes: list[Callable[[ast.AST], None]] = []
    if isinstance(node, ast.Dict):
        changes += [_without_entry(at) for at in range(len(node.keys))]
    if (
        isinstance(node, ast.Tuple | ast.Set)
        and len(node.elts) > 1
        and isinstance(node.ctx if isinstance(node, ast.Tuple) else ast.Load(), ast.Load)
    ):
        changes += [_without_element(at) for at in range(len(node.elts))]
    if isinstance(node, ast.FunctionDef):
        calls = [
            at
            for at, inner in enumerate(node.body)
            if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call)
        ]
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
