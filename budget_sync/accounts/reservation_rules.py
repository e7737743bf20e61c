"""A customer's rules for reservations: the invoice tolerance, and after how many days they expire.

Commands and pages validate them here, so that both say the same about a wrong value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from budget_sync.database import locked
from budget_sync.database.models import Budget, Customer, Reservation
from budget_sync.domain.money import MoneyError, format_money, to_minor, to_text
from budget_sync.ledger.reservations import expires_after

MAX_HOLD_DAYS: Final = 3650

_BASIS_POINTS: Final = 100
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))? ?%?")
_BAD_PERCENT = "must be a percentage from 0 to 100 such as 10% or 7.5%, with at most 2 decimals"
_BAD_DAYS = f"must be a whole number of days from 1 to {MAX_HOLD_DAYS}"

#: The settings as the audit log and messages name them, by column.
SETTING_OF_COLUMN: Final = {
    "invoiceToleranceBasisPoints": "invoiceTolerance",
    "invoiceToleranceMinor": "invoiceToleranceAmount",
    "holdDays": "holdDays",
}


@dataclass(frozen=True, slots=True)
class ReservationRules:
    """The rules to set. None keeps a rule; a `no_` flag removes it.

    `invoice_tolerance` is a percentage as a person writes it: "10%", "10" or "7.5%".
    """

    invoice_tolerance: str | None = None
    invoice_tolerance_amount: Decimal | None = None
    no_invoice_tolerance_amount: bool = False
    hold_days: int | None = None
    no_hold_days: bool = False

    def columns(self, exponent: int, problems: dict[str, str]) -> dict[str, int | None]:
        """The values to store, by column. Adds what is wrong to `problems`.

        `exponent` is the number of decimals of the customer's currency.
        """
        wanted: dict[str, int | None] = {}
        if self.invoice_tolerance is not None:
            basis_points = _basis_points(self.invoice_tolerance)
            if basis_points is None:
                problems["invoiceTolerance"] = _BAD_PERCENT
            wanted["invoiceToleranceBasisPoints"] = basis_points
        if self.invoice_tolerance_amount is not None:
            try:
                wanted["invoiceToleranceMinor"] = to_minor(self.invoice_tolerance_amount, exponent)
            except MoneyError as error:
                problems["invoiceToleranceAmount"] = str(error)
        elif self.no_invoice_tolerance_amount:
            wanted["invoiceToleranceMinor"] = None
        if self.hold_days is not None:
            if not 1 <= self.hold_days <= MAX_HOLD_DAYS:
                problems["holdDays"] = _BAD_DAYS
            wanted["holdDays"] = self.hold_days
        elif self.no_hold_days:
            wanted["holdDays"] = None
        return wanted


#: No rule is set or removed.
KEEP_RULES: Final = ReservationRules()


def rule_text(column: str, value: int, exponent: int) -> str:
    """A rule as the audit log writes it."""
    if column == "invoiceToleranceBasisPoints":
        return percent_text(value)
    return to_text(value, exponent) if column == "invoiceToleranceMinor" else str(value)


def percent_text(basis_points: int) -> str:
    """Hundredths of a percent as a person writes them: "10%", "7.5%"."""
    return f"{(Decimal(basis_points) / _BASIS_POINTS).normalize():f}%"


def tolerance_text(customer: Customer) -> str:
    """The customer's invoice tolerance in a few words."""
    share = percent_text(customer.invoiceToleranceBasisPoints)
    if customer.invoiceToleranceMinor is None:
        return f"{share}, at most the auto-approve limit"
    amount = format_money(
        customer.invoiceToleranceMinor, customer.currency, customer.currencyExponent
    )
    return f"{share}, at most {amount}"


def expiry_text(customer: Customer) -> str:
    """When the customer's reservations expire, in a few words."""
    days = customer.holdDays
    return "never" if days is None else f"after {days:,} day{'s' * (days != 1)}"


def lock_holds(customer_id: str) -> None:
    """Keep all reservations of a customer as they are until the transaction ends.

    Every verb locks the budget before it reads the customer's hold days and the reservation. So no
    verb that began before the hold days change can write a time that belongs to the old ones.
    """
    list(
        locked(
            Budget.select(Budget.id).where(Budget.customerId == customer_id).order_by(Budget.id)
        ).tuples()
    )


class NewExpiry(NamedTuple):
    """How many reservations got another expiry, and which; None means never."""

    reservations: int = 0
    expires_at: str | None = None


def set_expiry_of_open_holds(customer_id: str, hold_days: int | None) -> NewExpiry:
    """Let the customer's open reservations expire that many days from now.

    None means never. The days count from now and not from the start of the reservation, so that a
    change of the setting releases nothing at once.
    """
    expires_at = expires_after(hold_days)
    query = Reservation.update(expiresAt=expires_at).where(
        (Reservation.customerId == customer_id) & (Reservation.status == "open")
    )
    return NewExpiry(query.execute(), expires_at)


def _basis_points(text: str) -> int | None:
    """Hundredths of a percent; None for a text that is no percentage from 0 to 100."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        return None
    basis_points = int(match[1]) * _BASIS_POINTS + int((match[2] or "").ljust(2, "0"))
    return basis_points if basis_points <= 100 * _BASIS_POINTS else None
