"""No regular expression of the package takes more than linear time for any text.

Each pattern gets texts that are generated from it: the start of a match, a long repetition of what
one of its repeats accepts, and an end that does not match. Four times the text may take a few times
as long, not sixteen times.
"""

from __future__ import annotations

import ast
import importlib
import math
import pkgutil
import re
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from flask import Flask
from support.machine import PROJECT
from werkzeug import http
from werkzeug.sansio.utils import host_is_trusted

import budget_sync
from budget_sync import settings
from budget_sync.runtime import correlation
from budget_sync.web import auth

parser: Any = importlib.import_module("re._parser")
compiler: Any = importlib.import_module("re._compiler")

# The methods of a pattern, as functions of the pattern and the text.
METHODS: dict[str, Callable[[re.Pattern[Any], Any], object]] = {
    "match": lambda pattern, text: pattern.match(text),
    "fullmatch": lambda pattern, text: pattern.fullmatch(text),
    "search": lambda pattern, text: pattern.search(text),
    "findall": lambda pattern, text: pattern.findall(text),
    "finditer": lambda pattern, text: list(pattern.finditer(text)),
    "split": lambda pattern, text: pattern.split(text),
    "sub": lambda pattern, text: pattern.sub(text[:0], text),
    "subn": lambda pattern, text: pattern.subn(text[:0], text),
}

# Library modules whose patterns see the headers of a request.
LIBRARIES = (
    "gunicorn.http.message",
    "werkzeug.http",
    "werkzeug.sansio.http",
    "werkzeug.sansio.utils",
)

# An app without a database, for functions that need its configuration.
SERVER = Flask("patterns")
SERVER.config["SESSION_COOKIE_NAME"] = "a"
SERVER.config["CREDENTIAL_COOKIES"] = ("a",)

# The app reads cookies in another way: see `session_cookie`.
REPLACED = {"werkzeug.sansio.http._cookie_re"}

# The long text has this many characters, the short one a quarter of them.
LENGTH = 4000

# Less processor time than this is not compared. Linear matching takes under 1 ms.
FLOOR_S = 0.01
#: Quadratic matching takes 16 times as long for the long text, linear matching 4 times.
MAX_RATIO = 8
#: Far more processor time than any linear match takes.
LIMIT_S = 0.3

# Characters to repeat, in addition to those in the pattern.
ALPHABET = "aZ_x19 \t\n\r\x00.,-+'\"#/()[;:=@!\u00e9\u2009\u20ac"


@dataclass(frozen=True, slots=True)
class Subject:
    """A pattern, and the method that the code calls."""

    place: str
    pattern: re.Pattern[Any]
    method: str

    def __str__(self) -> str:
        return f"{self.place}-{self.method}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A text of any length: `start`, `pump` again and again, `end`."""

    start: str
    pump: str
    end: str
    repeats_start: bool = False

    def text(self, length: int) -> str:
        """The text with about this many characters."""
        unit = self.start + self.pump if self.repeats_start else self.pump
        start = "" if self.repeats_start else self.start
        return start + unit * (length // len(unit)) + self.end


HEADERS = [
    Shape(start, pump, end)
    for start in ("", "a=", 'a="', "bytes=", "[")
    for pump in ("a", " ", "1", ",", ";", '"', "\\", ";a=", ',"', "a=b;", ":", ".", "0-1,")
    for end in ("", "x", '"')
]


class TooSlowError(Exception):
    """A match used LIMIT_S of processor time."""


def session_cookie(header: str) -> object:
    """The session's cookie as the app reads it."""
    with SERVER.app_context():
        return auth._Request({"HTTP_COOKIE": header}).cookies  # noqa: SLF001


# The patterns of the package.


def module_names() -> list[str]:
    found = pkgutil.walk_packages(budget_sync.__path__, "budget_sync.")
    return ["app", "cli", *(each.name for each in found if not each.name.endswith("__main__"))]


def patterns_in(value: object) -> Iterator[re.Pattern[Any]]:
    """The patterns that a module-level value is or contains."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from patterns_in(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from patterns_in(inner)


def objects() -> list[Subject]:
    """Every pattern in a module or class, once for each method that is called on its name."""
    names: dict[re.Pattern[Any], set[str]] = defaultdict(set)
    places: dict[re.Pattern[Any], str] = {}
    for module_name in [*module_names(), *LIBRARIES]:
        module = importlib.import_module(module_name)
        values = dict(vars(module))
        for each in list(values.values()):
            if isinstance(each, type) and each.__module__ == module_name:
                values |= vars(each)
        for name, value in values.items():
            for pattern in patterns_in(value):
                names[pattern].add(name)
                places.setdefault(pattern, f"{module_name}.{name}")
    called = methods_of_names()
    return [
        Subject(places[pattern], pattern, method)
        for pattern in names
        for method in sorted(set.union(*(called[name] for name in names[pattern])) or {"fullmatch"})
    ]


@cache
def nodes() -> list[tuple[str, list[ast.AST]]]:
    """The syntax nodes of each file."""
    paths = [PROJECT / "app.py", PROJECT / "cli.py", *(PROJECT / "budget_sync").rglob("*.py")]
    sources = {str(path.relative_to(PROJECT)): path for path in sorted(paths)} | {
        name: Path(str(importlib.import_module(name).__file__)) for name in LIBRARIES
    }
    return [
        (name, list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
        for name, path in sources.items()
    ]


def methods_of_names() -> dict[str, set[str]]:
    """The methods that are called on each name, also by the name of a loop over it."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, found_nodes in nodes():
        loops = {
            node.target.id: node.iter.id
            for node in found_nodes
            if isinstance(node, ast.comprehension | ast.For)
            and isinstance(node.target, ast.Name)
            and isinstance(node.iter, ast.Name)
        }
        for node in found_nodes:
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                owner = node.value
                name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
                found[loops.get(name, name)].add(node.attr)
    return found


def is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def is_name_in_re(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether the node is `re.<name>`."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "re"
    )


def flags_in(call: ast.Call) -> int:
    """The flags that are named in a call of `re`."""
    return sum(
        getattr(re, node.attr)
        for argument in [*call.args[1:], *(keyword.value for keyword in call.keywords)]
        for node in ast.walk(argument)
        if isinstance(node, ast.Attribute) and node.attr.isupper()
    )


def literals() -> list[Subject]:
    """Patterns that are written in a call of `re`, a JSON Schema or a converter of URLs."""
    found = []
    for path, found_nodes in nodes():
        for node in found_nodes:
            place = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and is_name_in_re(node.func):
                method = node.func.attr
                if node.args and is_text(node.args[0]) and method in METHODS:
                    pattern = re.compile(ast.literal_eval(node.args[0]), flags_in(node))
                    found.append(Subject(place, pattern, method))
            elif isinstance(node, ast.keyword) and node.arg == "pattern" and is_text(node.value):
                pattern = re.compile(ast.literal_eval(node.value))
                found.append(Subject(place, pattern, "search"))
            elif isinstance(node, ast.Dict):
                found += [
                    Subject(f"{path}:{value.lineno}", re.compile(ast.literal_eval(value)), "search")
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and key.value == "pattern" and is_text(value)
                ]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "regex":
                pattern = re.compile(ast.literal_eval(node.value))
                found.append(Subject(place, pattern, "match"))
    return found


# Texts for a pattern.


class Texts:
    """The shapes of texts that could be slow for a pattern."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        source = pattern.pattern
        self.tree = parser.parse(source, pattern.flags & ~re.DEBUG)
        self.flags = pattern.flags
        self.is_bytes = isinstance(source, bytes)
        written = source.decode("latin-1") if isinstance(source, bytes) else source
        characters = dict.fromkeys([*ALPHABET, *written])
        self.alphabet = [each for each in characters if not self.is_bytes or ord(each) < 256]

    def encoded(self, text: str) -> Any:
        """The text, as bytes for a pattern of bytes."""
        return text.encode("latin-1") if self.is_bytes else text

    def accepted(self, items: list[Any]) -> list[str]:
        """The characters of the alphabet that this part of the pattern matches."""
        part = compiler.compile(parser.SubPattern(self.tree.state, items), self.flags)
        return [each for each in self.alphabet if part.fullmatch(self.encoded(each))]

    def samples(self, items: Any) -> list[str]:
        """A few short texts that match a sequence of nodes: one for each alternative."""
        found = [""]
        for item in items:
            found = [text + more for text in found for more in self.samples_of(item)][:12]
        return found

    def samples_of(self, item: Any) -> list[str]:
        """A few short texts that match one node."""
        name, value = str(item[0]), item[1]
        if name == "BRANCH":
            return [text for each in value[1] for text in self.samples(each)[:3]]
        if name == "SUBPATTERN":
            return self.samples(value[3])
        if name == "ATOMIC_GROUP":
            return self.samples(value)
        if name.endswith("_REPEAT"):
            return [text * value[0] for text in self.samples(value[2])[:3]]
        if name in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            return self.accepted([item])[:1] or [""]
        return [""]

    def repeats(self, items: Any, start: str) -> Iterator[tuple[str, Any, str]]:
        """Every repeat: the start of a text that reaches it, its body, and the rest of a match."""
        for position, item in enumerate(items):
            name, value = str(item[0]), item[1]
            rest = self.samples(list(items)[position + 1 :])[0]
            if name.endswith("_REPEAT"):
                if value[1] > 1:
                    yield start, value[2], rest
                yield from self.repeats(value[2], start)
            elif name == "BRANCH":
                for each in value[1]:
                    yield from self.repeats(each, start)
            elif name == "SUBPATTERN":
                yield from self.repeats(value[3], start)
            elif name == "ATOMIC_GROUP":
                yield from self.repeats(value, start)
            start += self.samples_of(item)[0]

    def shapes(self) -> Iterator[Shape]:
        """All shapes: each repeat with each character or text that it accepts, and each end."""
        for start, body, rest in self.repeats(self.tree, ""):
            pumps = self.accepted(list(body)) or list(filter(None, self.samples(body)))
            for pump in pumps:
                for end in ("", "x1", "\x00", "!", f"{rest}\x00"):
                    yield Shape(start, pump, end)
                    yield Shape(start, pump, end, repeats_start=True)


# Measuring.


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise TooSlowError after LIMIT_S of processor time. `re` handles signals during a match."""

    def stop(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def used_s(parse: Callable[[Any], object], text: Any) -> float:
    """The processor time to parse a text."""
    with time_limit():
        started_s = time.process_time()
        parse(text)
        return time.process_time() - started_s


def slow_growth(parse: Callable[[Any], object], long: Any, short: Any) -> str | None:
    """What is wrong if the time to parse grows too fast from the short to the long text."""
    try:
        if used_s(parse, long) < FLOOR_S:
            return None
        # Alternately, because the machine may be slower for a while. The short one is more often
        # disturbed and costs little.
        long_s, short_s = math.inf, math.inf
        for _ in range(3):
            long_s = min(long_s, used_s(parse, long))
            short_s = min(short_s, *(used_s(parse, short) for _ in range(5)))
    except TooSlowError:
        return f"takes over {LIMIT_S} s"
    is_slow = long_s >= FLOOR_S and long_s > MAX_RATIO * short_s
    return f"takes {long_s:.3f} s, a quarter of it {short_s:.3f} s" if is_slow else None


def slow_shape(subject: Subject) -> str | None:
    """A text for which the time of the pattern grows too fast, or None."""
    texts = Texts(subject.pattern)
    for shape in texts.shapes():
        long, short = (texts.encoded(shape.text(length)) for length in (LENGTH, LENGTH // 4))
        problem = slow_growth(partial(METHODS[subject.method], subject.pattern), long, short)
        if problem:
            return f"{shape} {problem}"
    return None


@cache
def subjects() -> list[Subject]:
    """All patterns."""
    return [*objects(), *literals()]


def test_time_of_every_pattern_grows_linearly() -> None:
    # One test, because each process of the test run collects all tests, and it takes seconds to
    # find the patterns.
    tried = [each for each in subjects() if each.place not in REPLACED]
    problems = {f"{each}: {each.pattern.pattern!r}": slow_shape(each) for each in tried}
    assert {subject: problem for subject, problem in problems.items() if problem} == {}


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(a+)+$", "match"),
        (r"(?:a|a)*b", "fullmatch"),
        (r"(\w+\s?)*:", "match"),
        (r"\s+$", "search"),
        (r"[^@\s]+@", "search"),
        (r"\d*\d*x", "fullmatch"),
        (r"\d.*?\s*[^\d\s.,]*", "fullmatch"),
        (rb"a*a*a*b", "match"),
        # An earlier pattern for amounts: "1", many spaces and "x1" kept a worker busy for minutes.
        (
            r"(?P<before>[^\d\s.,+\-()']*)\s*(?P<number>\d.*?)\s*(?P<after>[^\d\s.,+\-()']*)",
            "fullmatch",
        ),
    ],
)
def test_growth_of_a_bad_pattern_is_noticed(pattern: Any, method: str) -> None:
    assert slow_shape(Subject("", re.compile(pattern), method))


@pytest.mark.parametrize(
    "pattern", [r"(?:[^\\\"]|\\.)*", r"[^@\s]+@[^@\s]+", r"\s*\S.*", r"(?:a|b)*c", r"#\S*[!?]"]
)
def test_linear_pattern_is_not_reported(pattern: str) -> None:
    assert slow_shape(Subject("", re.compile(pattern), "fullmatch")) is None


@pytest.mark.parametrize(
    "parse",
    [
        session_cookie,
        http.parse_etags,
        http.parse_options_header,
        http.parse_accept_header,
        http.parse_list_header,
        http.parse_dict_header,
        http.parse_set_header,
        http.parse_range_header,
        http.parse_date,
        host_is_trusted,
        settings.is_loopback,
        correlation.id_of_request,
    ],
)
def test_time_to_parse_a_header_grows_linearly(parse: Callable[[str], object]) -> None:
    for shape in HEADERS:
        problem = slow_growth(parse, shape.text(LENGTH), shape.text(LENGTH // 4))
        assert problem is None, shape


def test_patterns_of_the_package_are_found() -> None:
    places = {subject.place for subject in subjects()}
    assert "budget_sync.sync.reading.heading_periods._FORMS" in places
    assert any(place.startswith("budget_sync/database/schema.py:") for place in places)
    assert any(place.startswith("budget_sync/domain/request_models.py:") for place in places)
    assert "werkzeug.http._etag_re" in places


def test_patterns_outside_of_functions_are_literals_or_objects() -> None:
    """Otherwise the tests above would not find them."""
    missed = [
        f"{path}:{node.lineno}"
        for path, found_nodes in nodes()
        if path not in LIBRARIES and any(map(is_name_in_re, found_nodes))
        for function in found_nodes
        if isinstance(function, ast.FunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and is_name_in_re(node.func)
        and not (node.args and is_text(node.args[0]) and node.func.attr != "compile")
        and node.func.attr != "escape"
    ]
    assert missed == []
