"""The decisions of reverse, and of an externalRef that is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.request_models import ReverseTo


class Part(NamedTuple):
    """A part of a reversal: the amount taken from the item at that position."""

    position: int
    amount_minor: int


def require_same_ref_amount(
    balance: Balance, external_ref: str, first_minor: int, amount_minor: int
) -> None:
    """Raises RequestError EXTERNAL_REF_CONFLICT if the reference was used for another amount."""
    if first_minor != amount_minor:
        raise RequestError(
            Code.EXTERNAL_REF_CONFLICT,
            f"{external_ref} was already recorded for {balance.money(first_minor)} on this budget. "
            "Send that amount to repeat the call, or another externalRef.",
            externalRef=external_ref,
            amount=balance.number(first_minor),
        )


def require_reservation_to_hold(to: ReverseTo, *, has_reservation: bool) -> None:
    """Raises RequestError INVALID_REQUEST if there is no reservation that could hold the money."""
    if to is ReverseTo.RESERVED and not has_reservation:
        raise invalid_request({"to": "must be available: a spend has no reservation"})


def split_reversal(committed_minor: Sequence[int], amount_minor: int) -> list[Part]:
    """Take the amount from these committed amounts, the first ones first.

    Their sum must be at least the amount.
    """
    parts, rest_minor = [], amount_minor
    for index, available_minor in enumerate(committed_minor):
        taken_minor = min(rest_minor, available_minor)
        if taken_minor:
            parts.append(Part(index, taken_minor))
        rest_minor -= taken_minor
    return parts


def exceeds_committed(
    budget_id: str, request_id: str, balance: Balance, committed_minor: int, amount_minor: int
) -> RequestError:
    """The error for a reversal of more than the request has committed."""
    committed, amount = balance.money(committed_minor), balance.money(amount_minor)
    return RequestError(
        Code.AMOUNT_EXCEEDS_COMMITTED,
        f"This request has committed {committed} on this budget, and {amount} was to be reversed. "
        "Reverse less.",
        budgetId=budget_id,
        requestId=request_id,
        amountCommitted=balance.number(committed_minor),
    )
