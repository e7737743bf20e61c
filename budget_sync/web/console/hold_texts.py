"""Held changes as sentences with the answers that are possible. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.sync.holds import BULK, Hold, Kind, Reason
from budget_sync.web.console.formats import count, money

#: How an amount changed, by its power of ten.
_FACTORS = {
    Decimal(10): "10 times",
    Decimal(100): "100 times",
    Decimal(1000): "1,000 times",
    Decimal(10) ** 6: "a million times",
    Decimal("0.1"): "a tenth of",
    Decimal("0.01"): "a hundredth of",
    Decimal("0.001"): "a thousandth of",
    Decimal(10) ** -6: "a millionth of",
}

#: How far an amount may be from the exact factor.
_TOLERANCE = Decimal("0.002")


class RenameText(NamedTuple):
    """A held rename. `why_not_same` says why it cannot be the same budget; "" if it can."""

    hold: Hold
    sentence: str
    used: str
    why_not_same: str


class AmountsText(NamedTuple):
    """The held amounts: why they are held, and a question that helps to find the mistake."""

    sentence: str
    question: str


def rename_text(hold: Hold, balance: Balance | None) -> RenameText:
    """A held rename; `balance` is that of the old budget."""
    new = hold.new
    if new is None:
        raise ValueError("a rename has a new budget")
    old_amount, new_amount = (_money(hold, minor) for minor in (hold.old_minor, hold.new_minor))
    amounts = (
        f"both with {new_amount}"
        if hold.old_minor == hold.new_minor
        else f"with {old_amount} and {new_amount}"
    )
    is_other_period = hold.period_key != new.period_key
    return RenameText(
        hold,
        f"{hold.department}, {hold.fiscal_period} is gone and {new.department}, "
        f"{new.fiscal_period} is new, {amounts}.",
        _used(hold, balance),
        "There is money on the old budget, and the new one is for another period."
        if is_other_period and hold.used_minor
        else "",
    )


def _used(hold: Hold, balance: Balance | None) -> str:
    """The money on the old budget: "95,000.00 is committed on the old one."."""
    if balance is None:
        parts = [(hold.used_minor, "reserved or committed")]
    else:
        parts = [(balance.committed_minor, "committed"), (balance.reserved_minor, "reserved")]
    named = [f"{_money(hold, minor)} is {what}" for minor, what in parts if minor]
    return f"{' and '.join(named)} on the old one." if named else ""


def amounts_text(holds: Sequence[Hold]) -> AmountsText:
    """Why amounts are held. `holds` are of kind AMOUNT, and there is at least one."""
    reasons = {reason for hold in holds for reason in hold.reasons}
    if Reason.ZEROS in reasons:
        zeros = sum(1 for hold in holds if hold.new_minor == 0)
        return AmountsText(
            f"{_all_or_part(zeros, len(holds))} became 0.", "Is a formula or a link broken?"
        )
    if Reason.FACTOR in reasons:
        found = Counter(filter(None, map(_factor, holds)))
        words, number = found.most_common(1)[0] if found else ("another amount than", len(holds))
        return AmountsText(
            f"{_all_or_part(number, len(holds))} became {words} what they were.",
            "Is a decimal mark read differently?",
        )
    if reasons & BULK:
        old = sum((_exact(hold, hold.old_minor) for hold in holds), Decimal(0))
        new = sum((_exact(hold, hold.new_minor) for hold in holds), Decimal(0))
        return AmountsText(
            f"{count(len(holds), 'amount')} changed, from {old:,.2f} to {new:,.2f} in total.",
            "Is another column or another unit read?",
        )
    subject, before = ("One amount", "it was")
    if len(holds) > 1:
        subject, before = f"{len(holds):,} amounts", "they were"
    return AmountsText(
        f"{subject} became 100 times or more of what {before}.", "Is a decimal mark missing?"
    )


def _all_or_part(number: int, total: int) -> str:
    return f"All {total:,} amounts" if number == total else f"{number:,} of {total:,} amounts"


def _factor(hold: Hold) -> str | None:
    if not hold.old_minor or not hold.new_minor:
        return None
    share = Decimal(hold.new_minor) / hold.old_minor
    for factor, words in _FACTORS.items():
        if abs(share / factor - 1) <= _TOLERANCE:
            return words
    return None


def _exact(hold: Hold, minor: int | None) -> Decimal:
    return Decimal(minor or 0).scaleb(-hold.exponent)


def _money(hold: Hold, minor: int | None) -> str:
    return money(minor or 0, hold.currency, hold.exponent)


def of_kind(holds: Sequence[Hold], kind: Kind) -> list[Hold]:
    """The holds of one kind, in their order."""
    return [hold for hold in holds if hold.kind is kind]
