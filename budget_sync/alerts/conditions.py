"""The conditions of an alert, and when one of them begins and ends. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import RequestError, invalid_request
from budget_sync.domain.events import became_overdrawn, is_at

#: A threshold that was reported can be reported again after the use fell by this many points.
HYSTERESIS = 5

#: A share of the budget, above 100 for budgets that may be overdrawn; days of an open reservation.
MAX_PERCENT = 1000
MAX_DAYS = 3650


class Kind(StrEnum):
    """The kind of a condition."""

    THRESHOLD = "threshold"
    OVERDRAWN = "overdrawn"
    SYNC_FAILED = "sync-failed"
    HELD = "held"
    STALE_HOLD = "stale-hold"
    WEBHOOK_PAUSED = "webhook-paused"


#: The conditions about the figures of a budget.
OF_BALANCE = frozenset({Kind.THRESHOLD, Kind.OVERDRAWN})

#: The conditions about a sync run.
OF_SYNC = frozenset({Kind.SYNC_FAILED, Kind.HELD})


class Condition(NamedTuple):
    """A condition: its kind, and the percent of a threshold or the days of a stale hold."""

    kind: Kind
    number: int = 0

    @property
    def text(self) -> str:
        """As people write it: threshold:80, overdrawn, stale-hold:14d."""
        if self.kind is Kind.THRESHOLD:
            return f"{self.kind}:{self.number}"
        return f"{self.kind}:{self.number}d" if self.kind is Kind.STALE_HOLD else str(self.kind)


class Change(NamedTuple):
    """The conditions that a change of a budget has reached, and those that have ended."""

    reached: list[Condition]
    ended: list[Condition]


_THRESHOLD = re.compile(r"threshold:([0-9]{1,4})%?", re.ASCII)
_STALE_HOLD = re.compile(r"stale-hold:([0-9]{1,4})d?", re.ASCII)


def parse_conditions(text: str) -> list[Condition]:
    """The conditions in a list that is separated by commas, without repetitions.

    Raises RequestError INVALID_REQUEST.
    """
    found = dict.fromkeys(_parse(each.strip().lower()) for each in text.split(",") if each.strip())
    if not found:
        raise _bad("must have at least one condition, such as threshold:80")
    return list(found)


def _parse(text: str) -> Condition:
    if match := _THRESHOLD.fullmatch(text):
        return Condition(Kind.THRESHOLD, _within(int(match[1]), MAX_PERCENT, "a threshold"))
    if match := _STALE_HOLD.fullmatch(text):
        return Condition(Kind.STALE_HOLD, _within(int(match[1]), MAX_DAYS, "the days"))
    try:
        kind = Kind(text)
    except ValueError:
        kind = Kind.THRESHOLD
    if kind in (Kind.THRESHOLD, Kind.STALE_HOLD):
        raise _bad(
            f"has the unknown condition {text[:40]!r}. Use threshold:80, overdrawn, sync-failed, "
            "held, stale-hold:14d or webhook-paused"
        )
    return Condition(kind)


def _within(number: int, most: int, name: str) -> int:
    if not 1 <= number <= most:
        raise _bad(f"has the number {number}: {name} must be from 1 to {most:,}")
    return number


def _bad(problem: str) -> RequestError:
    return invalid_request({"on": problem})


def to_text(conditions: Iterable[Condition]) -> str:
    """The conditions as `parse_conditions` reads them."""
    return ",".join(condition.text for condition in conditions)


def change_of(
    conditions: Iterable[Condition], reported: Collection[str], before: Balance, after: Balance
) -> Change:
    """Which conditions begin and which end when a budget's balance changes.

    `reported` has the texts of the conditions that were reported for this budget and have not
    ended. A condition begins when the use crosses it upward. It ends, so that it can begin again,
    when the use has fallen by HYSTERESIS points below it.
    """
    reached, ended = [], []
    for condition in conditions:
        if condition.kind not in OF_BALANCE:
            continue
        if condition.text in reported:
            if _is_over(condition, after):
                ended.append(condition)
        elif _is_crossed(condition, before, after):
            reached.append(condition)
    return Change(reached, ended)


def _is_crossed(condition: Condition, before: Balance, after: Balance) -> bool:
    if condition.kind is Kind.OVERDRAWN:
        return became_overdrawn(before, after)
    return is_at(after, condition.number) and not is_at(before, condition.number)


def _is_over(condition: Condition, balance: Balance) -> bool:
    """Whether a reported condition has ended. A budget counts as overdrawn from 100 percent."""
    if balance.used_minor <= 0:
        return True
    percent = 100 if condition.kind is Kind.OVERDRAWN else condition.number
    return balance.used_minor * 100 <= balance.budgeted_minor * (percent - HYSTERESIS)
