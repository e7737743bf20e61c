"""Generates mutants: copies of a source with one small mistake each.

For example an inverted comparison, minus for plus, a constant off by one, a negated condition or a
missing statement. This module imports nothing of the project, because a mutant may have to exist
before any other module is imported.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
#: Changes a node, whose type each change knows.
Change = Callable[[Any], None]

#: Characters shown before and after a change in a line.
_NEAR = 50

_SCOPES = {"ANY": "OWN", "OWN": "ANY"}


class Mutant(NamedTuple):
    """A syntax tree with one change: its line, and the tree before and after."""

    line: int
    original: ast.Module
    tree: ast.Module

    @property
    def change(self) -> str:
        """The first changed line, before and after, shortened to the surroundings of the change."""
        before, after = ast.unparse(self.original).splitlines(), ast.unparse(self.tree).splitlines()
        was, now = next(
            (pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]),
            (before[-1], after[-1]),
        )
        # If a statement was removed, its line now shows the next statement.
        return (
            f"without {was.strip()}"
            if len(after) < len(before) and now.strip() != "pass"
            else _shown(was.strip(), now.strip())
        )


def _shown(was: str, now: str) -> str:
    """The difference between two lines, with some characters around it."""
    same = _common_length(was, now)
    same_after = _common_length(was[:same:-1], now[:same:-1])
    begin = max(0, same - _NEAR)
    pieces = [line[begin : len(line) - max(0, same_after - _NEAR)] for line in (was, now)]
    return f"{'…' * (begin > 0)}{pieces[0]} -> {pieces[1]}"


def _common_length(one: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    return next(
        (
            at
            for at, (char, other_char) in enumerate(zip(one, other, strict=False))
            if char != other_char
        ),
        min(len(one), len(other)),
    )


def mutants_of(source: str) -> Iterator[Mutant]:
    """All mutants of a source, always in the same order."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    unchanged = _unchanged_nodes(tree)
    for number, node in enumerate(nodes):
        if id(node) in unchanged:
            continue
        for change in _changes(node):
            mutant = copy.deepcopy(tree)
            changed = list(ast.walk(mutant))[number]
            change(changed)
            yield Mutant(getattr(node, "lineno", 0), tree, ast.fix_missing_locations(mutant))


def _unchanged_nodes(tree: ast.Module) -> set[int]:
    """Nodes not to change, because they only affect texts: annotations and parts of f-strings."""
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


def _changes(node: ast.AST) -> list[Change]:
    """The possible changes of a node."""
    return _changes_of_values(node) + _changes_of_statements(node) + _omissions(node)


def _changes_of_values(node: ast.AST) -> list[Change]:
    changes: list[Change] = []
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        changes.append(lambda it: it.ops.__setitem__(0, _COMPARISONS[type(it.ops[0])]()))
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        changes.append(lambda it: setattr(it, "op", _OPERATORS[type(it.op)]()))
    if isinstance(node, ast.BoolOp):
        changes.append(
            lambda it: setattr(it, "op", ast.Or() if isinstance(it.op, ast.And) else ast.And())
        )
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        changes.append(lambda it: setattr(it, "value", not it.value))
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        changes.append(lambda it: setattr(it, "value", it.value + 1))
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Scope"
        and node.attr in _SCOPES
    ):
        changes.append(lambda it: setattr(it, "attr", _SCOPES[it.attr]))
    return changes


def _changes_of_statements(node: ast.AST) -> list[Change]:
    changes: list[Change] = []
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        changes.append(lambda it: setattr(it, "test", ast.UnaryOp(ast.Not(), it.test)))
    if isinstance(node, ast.Return) and not (
        node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    ):
        changes.append(lambda it: setattr(it, "value", ast.Constant(None)))
    if isinstance(node, ast.If | ast.For) and any(
        isinstance(inner, ast.Raise | ast.Expr) for inner in node.body
    ):
        changes.append(lambda it: setattr(it, "body", [ast.Pass()]))
    return changes


def _omissions(node: ast.AST) -> list[Change]:
    """The parts that can be left out."""
    changes: list[Change] = []
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


def _without_entry(at: int) -> Change:
    def change(it: Any) -> None:
        del it.keys[at], it.values[at]

    return change


def _without_element(at: int) -> Change:
    return lambda it: it.elts.__delitem__(at)


def _without_statement(at: int) -> Change:
    return lambda it: it.body.__setitem__(at, ast.Pass())
