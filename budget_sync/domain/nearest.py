"""Finds the names that a misspelled or shortened name may mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final

_WORDS = re.compile(r"[^\s&/-]+")

#: A name is near if its likeness is at least this; 1 means equal.
_NEAR: Final = 0.6

#: The likeness of a name and its first letters, as in "eng" and "engineering".
_PREFIX: Final = 0.9
#: The likeness of a name and the first letters of its words, as in "hr" and "human resources".
_INITIALS: Final = 0.85
#: The likeness of a name and some of its letters, in order, as in "mktg" and "marketing".
_SUBSEQUENCE: Final = 0.7

#: Only this many names, those with the most pairs of letters in common, are compared in full.
_COMPARED: Final = 30


def nearest(name: str, others: Iterable[str], count: int) -> list[str]:
    """At most `count` of the other names that are near, the nearest first. All names are folded."""
    pairs = _pairs(name)
    found: dict[str, float] = {}
    shared: list[tuple[float, str]] = []
    for other in others:
        short = _likeness_of_short_form(name, other)
        if short:
            found[other] = max(short, _likeness(name, other))
        elif common := len(pairs & _pairs(other)):
            shared.append((common / (len(pairs) + len(_pairs(other))), other))
    shared.sort(key=lambda each: (-each[0], each[1]))
    for _, other in shared[:_COMPARED]:
        likeness = _likeness(name, other)
        if likeness >= _NEAR:
            found[other] = likeness
    return sorted(found, key=lambda other: (-found[other], other))[:count]


def _likeness(name: str, other: str) -> float:
    return SequenceMatcher(None, name, other, autojunk=False).ratio()


def _likeness_of_short_form(name: str, other: str) -> float:
    """The likeness of two names of which one is a short form of the other, otherwise 0."""
    short, long = sorted((name, other), key=len)
    if len(short) < 2 or short == long:
        return 0.0
    words = _WORDS.findall(long)
    if any(word.startswith(short) for word in words) or long.startswith(short):
        return _PREFIX
    letters = "".join(_WORDS.findall(short))
    if letters in ("".join(word[0] for word in words), "".join(words)):
        return _INITIALS
    is_abbreviation = len(short) >= 3 and len(words) == 1 and " " not in short
    if is_abbreviation and short[0] == long[0] and _is_subsequence(short, long):
        return _SUBSEQUENCE
    return 0.0


def _is_subsequence(short: str, long: str) -> bool:
    letters = iter(long)
    return all(letter in letters for letter in short)


@lru_cache(maxsize=16384)
def _pairs(name: str) -> frozenset[str]:
    """Each two letters of a name that follow each other, with a space before and after it."""
    padded = f" {name} "
    return frozenset(padded[place : place + 2] for place in range(len(padded) - 1))
