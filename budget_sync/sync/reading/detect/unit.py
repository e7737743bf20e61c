"""Step 11: whether the amounts are in thousands or millions. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from budget_sync.sync.reading.detect.findings import Findings
from budget_sync.sync.reading.headings import plain
from budget_sync.sync.reading.proposal import Question

Unit = Literal[1, 1000, 1_000_000]

_THOUSANDS = re.compile(
    r"(?<![^\W_])(?:thousands?|teur|tsd\.?|tausend|t€|k€|k\$|\$k|€k|keur|kusd|kgbp|kchf|tchf|tusd|"
    r"tgbp|milliers|miles|mille|migliaia)(?![^\W_])|[$€£]\s?0{3}s?(?![0-9])|'0{3}s?(?![0-9])|"
    r"(?<![0-9.,])0{3}s(?![^\W_])|(?<![0-9.,])000 ?[$€£]|\([$€£]?k\)|[$€£] ?\(?k\)",
    re.IGNORECASE,
)
_MILLIONS = re.compile(
    r"(?<![^\W_])(?:millions?|mio\.?|mill\.|mln\.?|m€|m\$|\$m|€m|£m|meur|musd|\$mm|mm\$|millionen|"
    r"millones|milioni)(?![^\W_])",
    re.IGNORECASE,
)
_SEARCHED_CHARS = 1000

_MIN_AMOUNTS = 8
_MAX_ROWS = 400
_BELOW = 1_000_000
_MIN_DIGITS = 3.5


def unit_in(text: str) -> tuple[Unit, str] | None:
    """The unit that a title or a heading names, with the words that name it."""
    searched = plain(text[:_SEARCHED_CHARS])
    units: tuple[tuple[Unit, re.Pattern[str]], ...] = ((1000, _THOUSANDS), (1_000_000, _MILLIONS))
    for unit, pattern in units:
        if match := pattern.search(searched):
            return unit, match[0]
    return None


def find_unit(
    texts: Sequence[str],
    amounts: Sequence[Decimal],
    rows: int,
    currency: str,
    findings: Findings,
) -> Unit:
    """The factor of the amounts. `texts` are the title and the amount headings.

    `rows` is the number of rows below the header.
    """
    named = next((found for text in texts if (found := unit_in(text))), None)
    if named:
        unit, words = named
        size = "thousands" if unit == 1000 else "millions"
        text = f"'{words}': are the amounts in {size}?"
        question = Question("unit", text, ("1", "1000", "1000000"), proposal=str(unit))
        return _unit(findings.ask_one(question))
    exact = [abs(amount) for amount in amounts if amount]
    if rows >= _MAX_ROWS or not _looks_cut(exact):
        return 1
    question = Question(
        "unit",
        f"Amounts run from {min(exact):,f} to {max(exact):,f} and are not round. In {currency}, "
        "or in thousands?",
        ("1", "1000", "1000000"),
    )
    return _unit(findings.ask_one(question))


def _looks_cut(exact: Sequence[Decimal]) -> bool:
    """Whether amounts are whole, small and not round, as if their thousands were cut off."""
    if len(exact) < _MIN_AMOUNTS:
        return False
    if any(amount >= _BELOW or amount != int(amount) for amount in exact):
        return False
    digits = sum(len(str(int(amount)).rstrip("0")) for amount in exact)
    return digits >= _MIN_DIGITS * len(exact)


def _unit(answer: str | None) -> Unit:
    return 1000 if answer == "1000" else 1_000_000 if answer == "1000000" else 1
