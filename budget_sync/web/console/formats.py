"""How pages write amounts, times and the ledger's words. Pure, but for the present time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from csv import writer
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from io import StringIO
from zoneinfo import ZoneInfo

from markupsafe import Markup

from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.money import format_money

MINUS = "\u2212"

ACTIONS = {
    "CREATE": "Budget created",
    "UPDATE": "Budget changed",
    "SOFT_DELETE": "Budget deleted",
    "REVIVE": "Budget brought back",
    "RESERVE": "Reserved",
    "OVER_BUDGET": "Reserved over budget",
    "COMMIT": "Committed",
    "RELEASE": "Released",
    "ADD_CUSTOMER": "Customer added",
    "DISABLE_CUSTOMER": "Customer disabled",
    "ADD_USER": "Person added",
    "SET_PASSWORD": "Password set",
    "DISABLE_USER": "Person disabled",
    "ENABLE_USER": "Person enabled",
    "ADD_KEY": "API key made",
    "REVOKE_KEY": "API key revoked",
    "ADD_SOURCE": "Source added",
    "REMOVE_SOURCE": "Source removed",
    "PRUNE_CHECKS": "Old checks deleted",
    "RESTORE": "Backup restored",
}
FIELDS = {
    "budgetedAmount": "budgeted amount",
    "autoApproveLimit": "auto-approve limit",
    "department": "department",
    "fiscalPeriod": "fiscal period",
    "externalId": "Budget ID",
    "sourceId": "source",
    "deletedAt": "deleted",
}
ROLES = {
    "super_admin": "Super admin",
    "admin": "Admin",
    "fpa_admin": "FP&A admin",
    "fpa_user": "FP&A user",
    "manager": "Manager",
    "business_user": "Employee",
    "api_system": "Service",
}
DECISIONS = {
    "AUTO_APPROVED": "Auto-approved",
    "REQUIRES_APPROVAL": "Needs FP&A approval",
    "INSUFFICIENT_BUDGET": "Not covered",
    "NO_BUDGET": "No budget",
}
BUDGET_STATES = {
    "ok": "On track",
    "high": "Over 80 % used",
    "overdrawn": "Overdrawn",
    "deleted": "Deleted",
    "live": "All live",
}
STATUSES = {"success": "Success", "partial": "Partial", "failed": "Failed", "skipped": "Skipped"}

_AMOUNT = re.compile(r"\d{1,3}(,\d{3})+(\.\d{1,4})?|\d{1,15}(\.\d{1,4})?")


@lru_cache(maxsize=256)
def _sign(currency: str) -> str:
    """What stands before an amount: "$", "CHF" and a space that does not break."""
    return format_money(0, currency, 0).removesuffix("0")


def money(minor: int, currency: str, exponent: int) -> str:
    """An amount with all its decimals, so that a column lines up: "$2,000.00", "¥500"; a minus is a real one."""
    whole, rest = divmod(abs(minor), 10**exponent)
    return f"{MINUS if minor < 0 else ''}{_sign(currency)}{whole:,}{f'.{rest:0{exponent}d}' if exponent else ''}"


def money_short(minor: int, currency: str, exponent: int) -> str:
    """An amount as a sentence has it: "$2,000", "$99.50"."""
    text = money(minor, currency, exponent)
    return text if minor % 10**exponent else text.partition(".")[0]


def money_axis(minor: int, currency: str, exponent: int) -> str:
    """An amount beside a chart's axis: "$100K", "$1.5M"."""
    one = 10**exponent
    size, letter = next(
        (
            (size, letter)
            for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K"))
            if abs(minor) >= size * one
        ),
        (1, ""),
    )
    tenths = round(abs(minor) * 10 / (size * one))
    return f"{MINUS if minor < 0 else ''}{_sign(currency)}{tenths // 10:,}{f'.{tenths % 10}' if tenths % 10 else ''}{letter}"


def short_name(label: str | None) -> str:
    """Who somebody is, without the address: "Jane Doe" of "Jane Doe (jane@acme.com)"; others as they are."""
    name, _, rest = (label or "").partition(" (")
    return name if "@" in rest else label or ""


def figures(name: str, amounts: Balance) -> str:
    """A bar in words: "Legal: budgeted $100, committed $20, reserved $5, available $75."."""
    parts = {
        "budgeted": amounts.budgeted_minor,
        "committed": amounts.committed_minor,
        "reserved": amounts.reserved_minor,
    }
    parts["overdrawn by" if amounts.available_minor < 0 else "available"] = abs(
        amounts.available_minor
    )
    return f"{name}: {', '.join(f'{what} {money_short(minor, amounts.currency, amounts.exponent)}' for what, minor in parts.items())}."


def delta(minor: int, currency: str, exponent: int) -> str:
    """A change, with its sign: "+$500.00"."""
    return f"{'+' if minor > 0 else ''}{money(minor, currency, exponent)}"


def stored_amount(text: str | None, currency: str | None, exponent: int | None) -> str:
    """An amount as the audit log keeps it ("5000"), with its currency."""
    if text is None or currency is None or exponent is None:
        return text or ""
    return money_short(int(Decimal(text).scaleb(exponent)), currency, exponent)


def parse_amount(text: str) -> Decimal:
    """An amount as a person types it, "1250.50" or "1,250.50". Raises RequestError INVALID_REQUEST."""
    typed = text.strip()
    if not _AMOUNT.fullmatch(typed):
        raise invalid_request({"amount": "must be an amount such as 5000 or 1,250.50"})
    return Decimal(typed.replace(",", ""))


def when(moment: datetime | None, zone: ZoneInfo) -> Markup:
    """A time in the customer's zone, as a <time>."""
    if moment is None:
        return Markup('<span class="none">never</span>')
    local = moment.astimezone(zone)
    return Markup('<time datetime="{}" title="{}"><span>{}</span> <span>{}</span></time>').format(
        clock.to_text(moment),
        f"{clock.to_text(moment)} (UTC)",
        f"{local.day} {local:%b %Y},",
        f"{local:%H:%M}",
    )


def day(moment: datetime, zone: ZoneInfo) -> str:
    """A day in the customer's zone: "5 Feb 2025"."""
    local = moment.astimezone(zone)
    return f"{local.day} {local:%b %Y}"


def age(moment: datetime) -> str:
    """How long ago, in the largest fitting unit: "3 days"."""
    return span(clock.now() - moment)


def span(length: timedelta) -> str:
    """A length of time in words."""
    minutes = max(0, int(length.total_seconds() // 60))
    for size, name in ((60 * 24, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            return count(minutes // size, name)
    return "moments"


def count(number: int, what: str, many: str | None = None) -> str:
    """A number and what it counts: "1 budget", "1,200 budgets"."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"


def percent(share: float) -> str:
    """A share for people: "86 %", and neither 0 nor 100 where it is only nearly so."""
    if 0 < share < 1:
        return "< 1 %"
    return f"{min(99, round(share)) if share < 100 else round(share):,} %"


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """CSV text, row by row, with a byte order mark so that spreadsheets read it as UTF-8."""
    yield "\ufeff" + _csv_line(header)
    yield from map(_csv_line, rows)


def _csv_line(row: Iterable[object]) -> str:
    file = StringIO()
    writer(file).writerow([safe_cell(cell) for cell in row])
    return file.getvalue()


def safe_cell(cell: object) -> object:
    """Text that a spreadsheet would take for a formula gets a quote before it; numbers (Decimal, int) stay numbers."""
    if isinstance(cell, str) and (
        cell[:1] in ("\t", "\r", "\n")
        or cell.lstrip()[:1] in ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
    ):
        return f"'{cell}"
    return cell
