"""How alike two names of departments are, with a limit on the work of comparing them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from typing import Final

#: Names with at least this `difflib` ratio are alike.
MIN_RATIO: Final = 0.75

#: Names are alike if one begins with the other, which has at least this many characters.
MIN_PREFIX_CHARS: Final = 4

#: The work of all comparisons of one sync run, in pairs of characters: a few seconds. Two names of
#: 20 characters cost 400, or 40 if they have too few characters in common.
MAX_WORK: Final = 3_000_000

# With at most this many names, each is a candidate.
_MAX_COMPARED = 200

# Of more names, those that share the most pairs of characters with a name are its candidates: this
# many, found by looking at this many names.
_MAX_CANDIDATES = 5
_MAX_LOOKED_AT = 200

_DECIMAL_ZEROS = re.compile(r"(?<=[0-9])\.0{1,9}(?![0-9])")
_ASCII_PUNCTUATION = re.compile(r"[^0-9A-Za-z]+")
_LEADING_ZEROS = re.compile(r"(?<![0-9])0{1,200}(?=[0-9])")


def bare(folded_name: str) -> str:
    """A folded name without punctuation, spaces, leading zeros and ".0".

    "0410" and "410.0" become "410". Marks of letters stay, because they distinguish words in many
    scripts. Empty if there is nothing else in the name.
    """
    text = _DECIMAL_ZEROS.sub("", folded_name) if ".0" in folded_name else folded_name
    text = _LEADING_ZEROS.sub("", text) if "0" in text else text
    if text.isascii():
        return _ASCII_PUNCTUATION.sub("", text)
    return "".join(char for char in text if unicodedata.category(char)[0] in "LMN")


def begins_alike(one: str, other: str) -> bool:
    """Whether one of two folded names begins with the other, which is not too short."""
    short, long = sorted((one, other), key=len)
    return len(short) >= MIN_PREFIX_CHARS and long.startswith(short)


class Comparer:
    """Compares the names of one sync run, by their ratio up to a limit on the work."""

    def __init__(self, max_work: int = MAX_WORK) -> None:
        self._left = max_work
        self._bare: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._matcher = SequenceMatcher(autojunk=False)

    def bare(self, name: str) -> str:
        """The bare name, as the function of this name returns it."""
        found = self._bare.get(name)
        if found is None:
            found = self._bare[name] = bare(name)
        return found

    def is_same(self, one: str, other: str) -> bool:
        """Whether two folded names are equal but for punctuation, spaces and zeros."""
        return one == other or ((name := self.bare(one)) != "" and name == self.bare(other))

    def _count(self, name: str) -> Counter[str]:
        found = self._counts.get(name)
        if found is None:
            found = self._counts[name] = Counter(name)
        return found

    @property
    def is_exhausted(self) -> bool:
        """Whether a comparison was not done because of the limit."""
        return self._left < 0

    def ratio(self, old: str, new: str) -> float:
        """The `difflib` ratio if it is at least MIN_RATIO, otherwise 0. Also 0 over the limit."""
        total = len(old) + len(new)
        if self._left < 0 or 2 * min(len(old), len(new)) < MIN_RATIO * total:
            return 0.0
        self._left -= total
        # The ratio cannot be more than that of the common characters in any order.
        if 2 * (self._count(old) & self._count(new)).total() < MIN_RATIO * total:
            return 0.0
        self._left -= len(old) * len(new)
        if self._left < 0:
            return 0.0
        self._matcher.set_seqs(old, new)
        ratio = self._matcher.ratio()
        return ratio if ratio >= MIN_RATIO else 0.0


class NameIndex:
    """Names with a number each, searched for those that may be like another name."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._numbers_by_pair: dict[str, list[int]] = {}
        if len(names) > _MAX_COMPARED:
            for number, name in enumerate(names):
                for pair in _pairs(name):
                    self._numbers_by_pair.setdefault(pair, []).append(number)

    def candidates(self, name: str) -> Iterable[int]:
        """The numbers of the names to compare with a name, the likeliest first if not all."""
        if len(self._names) <= _MAX_COMPARED:
            return range(len(self._names))
        listed = sorted(
            (self._numbers_by_pair[pair] for pair in _pairs(name) if pair in self._numbers_by_pair),
            key=len,
        )
        shared: dict[int, int] = {}
        left = _MAX_LOOKED_AT
        # The rarest pairs say the most.
        for numbers in listed:
            for number in numbers[:left]:
                shared[number] = shared.get(number, 0) + 1
            left -= len(numbers)
            if left <= 0:
                break
        return nlargest(_MAX_CANDIDATES, shared, key=lambda number: (shared[number], -number))


def _pairs(name: str) -> set[str]:
    return {name[at : at + 2] for at in range(len(name) - 1)}
