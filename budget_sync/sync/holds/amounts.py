"""Changed amounts that look as if the sheet was read wrongly. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final, NamedTuple

from budget_sync.sync.holds.model import Reason

#: Fewer amounts than this never hold all changes.
MIN_AMOUNTS: Final = 3

#: The powers of ten by which a misread decimal mark or unit changes amounts.
_FACTORS = (10, 100, 1000, 10**6)

#: The sum changed too much if it is more than this many times what it was, or less than a part.
_MAX_SUM_FACTOR = 5

#: One amount is held if it is at least this many times what it was.
_HUNDREDFOLD = 100


class AmountPair(NamedTuple):
    """The amounts of a budget that is in the sheet before and after, in minor units."""

    budget_id: str
    currency: str
    old_minor: int
    new_minor: int

    @property
    def is_changed(self) -> bool:
        """Whether the amounts differ."""
        return self.old_minor != self.new_minor


def bulk_reason(pairs: Collection[AmountPair]) -> Reason | None:
    """Why all changed amounts are held; None if they are not."""
    changed = [pair for pair in pairs if pair.is_changed]
    if len(changed) < MIN_AMOUNTS:
        return None
    above_zero = sum(1 for pair in pairs if pair.old_minor > 0)
    zeros = sum(1 for pair in changed if pair.new_minor == 0)
    if zeros >= MIN_AMOUNTS and zeros * 2 > above_zero:
        return Reason.ZEROS
    factors = Counter(factor for pair in changed if (factor := _factor(pair)))
    most = max(factors.values(), default=0)
    if most >= MIN_AMOUNTS and most * 2 > len(changed):
        return Reason.FACTOR
    by_currency: dict[str, list[AmountPair]] = {}
    for pair in pairs:
        by_currency.setdefault(pair.currency, []).append(pair)
    return Reason.SUM if any(map(_is_other_sum, by_currency.values())) else None


def is_hundredfold(pair: AmountPair) -> bool:
    """Whether the amount became 100 times or more of what it was."""
    return 0 < pair.old_minor * _HUNDREDFOLD <= pair.new_minor


def _factor(pair: AmountPair) -> tuple[int, int] | None:
    """The power of ten by which an amount changed, +-0.2%, as (times, divided by)."""
    old, new = pair.old_minor, pair.new_minor
    if old == 0 or new == 0:
        return None
    for factor in _FACTORS:
        if abs(new - factor * old) * 500 <= factor * old:
            return factor, 1
        if abs(new * factor - old) * 500 <= old:
            return 1, factor
    return None


def _is_other_sum(pairs: Collection[AmountPair]) -> bool:
    """Whether most amounts of one currency changed, and their sum is of another size."""
    above_zero = [pair for pair in pairs if pair.old_minor > 0]
    changed = sum(1 for pair in above_zero if pair.is_changed)
    if changed < MIN_AMOUNTS or changed * 2 <= len(above_zero):
        return False
    old = sum(pair.old_minor for pair in pairs)
    new = sum(pair.new_minor for pair in pairs)
    return new > old * _MAX_SUM_FACTOR or new * _MAX_SUM_FACTOR < old
