"""Formatting for pages and CSV files: amounts, times, labels. Pure, except for the current time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from csv import writer
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from io import StringIO
from zoneinfo import ZoneInfo

from markupsafe import Markup

from budget_sync.domain import clock
from budget_sync.domain.balance import Balance
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.money import currency_exponent, format_money

MINUS = "\u2212"

#: The rule of the forecast in one sentence; `domain.forecast` has all of it.
FORECAST_RULE = (
    "The forecast is what is committed and reserved, plus the daily average of what was committed "
    "since the first day of the period for each day to come; the range is narrower the more of the "
    "period has passed."
)

#: An amount of 0 among many.
NOTHING = "\u2013"

#: Answers to a held change whose stored word is not plain.
_ANSWERS = {"same": "same budget", "different": "different budgets"}

#: Commands in the messages of sync runs, which the console and the command line share, and what the
#: pages say instead.
_COMMANDS = (
    (
        re.compile(
            r" or with `flask answer-hold SOURCE` and --rename .{1,1000}? or --different "
            r"(?:'[^']{1,200}'|[^\s']{1,200}?)(?=\.(?:\s|$))"
        ),
        "",
    ),
    (re.compile(r" or with `flask [^`]{1,80}`"), ""),
    (re.compile(r" with `flask (?:remove|restore)-budget [^`]{1,120}`"), ""),
    (re.compile(r"\bRun reread-source\b"), "Read the sheet again"),
    (re.compile(r"\brun reread-source\b"), "read the sheet again"),
)

ACTIONS = {
    "CREATE": "Budget created",
    "UPDATE": "Budget changed",
    "SOFT_DELETE": "Budget deleted",
    "REVIVE": "Budget revived",
    "RESERVE": "Reserved",
    "OVER_BUDGET": "Reserved over budget",
    "COMMIT": "Committed",
    "RELEASE": "Released",
    "AMEND": "Amount changed",
    "TRANSFER": "Moved",
    "EXTEND": "Extended",
    "REVERSE": "Reversed",
    "SPEND": "Spend recorded",
    "APPROVE": "Approved",
    "DECLINE": "Declined",
    "ADD_CUSTOMER": "Customer added",
    "DISABLE_CUSTOMER": "Customer disabled",
    "ADD_USER": "Person added",
    "SET_PASSWORD": "Password set",
    "DISABLE_USER": "Person disabled",
    "ENABLE_USER": "Person enabled",
    "ADD_KEY": "API key created",
    "REVOKE_KEY": "API key revoked",
    "ADD_SOURCE": "Source added",
    "REMOVE_SOURCE": "Source removed",
    "PRUNE_CHECKS": "Old checks deleted",
    "RESTORE": "Backup restored",
    "SET_USER": "Person changed",
    "SET_CUSTOMER": "Customer changed",
    "ENABLE_CUSTOMER": "Customer enabled",
    "RESET_CUSTOMER": "Test customer emptied",
    "PRUNE_HISTORY": "Old sync runs deleted",
    "ROTATE_KEY": "API key rotated",
    "SET_READING": "Reading confirmed",
    "SET_FILE": "Newer file used",
    "ANSWER_HOLD": "Held change answered",
    "SET_ROLE": "Role set by the identity provider",
    "ADD_WEBHOOK": "Webhook added",
    "ROTATE_WEBHOOK": "Webhook secret replaced",
    "PAUSE_WEBHOOK": "Webhook paused",
    "RESUME_WEBHOOK": "Webhook resumed",
    "REMOVE_WEBHOOK": "Webhook removed",
    "ADD_ALERT": "Alert added",
    "REMOVE_ALERT": "Alert removed",
    "LINK_USER": "Person linked to an identity provider",
    "ADD_ALIAS": "Alias added",
    "REMOVE_ALIAS": "Alias removed",
}
#: What the amounts before and after a movement are, unless they are what the request holds.
AMOUNTS = {"REVERSE": "committed", "SPEND": "committed"}
FIELDS = {
    "budgetedAmount": "budgeted amount",
    "autoApproveLimit": "auto-approve limit",
    "ownerEmail": "Owner Email",
    "department": "department",
    "fiscalPeriod": "fiscal period",
    "externalId": "Budget ID",
    "sourceId": "source",
    "deletedAt": "deleted",
    "timeZone": "time zone",
    "fiscalYearStartMonth": "first month of the fiscal year",
    "fiscalYearNamedBy": "naming of the fiscal year",
    "invoiceTolerance": "invoice tolerance",
    "invoiceToleranceAmount": "largest invoice tolerance",
    "employeesSee": "budgets that employees see",
    "holdDays": "days until a reservation expires",
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
    "high": "Over 80% used",
    "overdrawn": "Overdrawn",
    "deleted": "Deleted",
    "live": "All live",
}
STATUSES = {"success": "Success", "partial": "Partial", "failed": "Failed", "skipped": "Skipped"}

#: ASCII and full-width characters.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_AMOUNT = re.compile(r"\d{1,3}(,\d{3}){1,5}(\.\d{1,4})?|\d{1,15}(\.\d{1,4})?")

#: No amount that `_AMOUNT` accepts is longer.
_MAX_AMOUNT_LENGTH = 30


def hold_answer(kind: str, budget_id: str | None, stored: str | None) -> str:
    """An answer to a held change, as the audit log stores it: "rename of bud_1: same budget (…)".

    A new budget is named by its folded department and its period key.
    """
    subject = f"{kind} of {budget_id}" if budget_id else kind
    try:
        given = json.loads(stored or "")
        answer, new_key = str(given["answer"]), given.get("newKey")
    except (ValueError, TypeError, KeyError, AttributeError):
        return subject
    named = f" ({new_key.replace('|', ', ')})" if isinstance(new_key, str) else ""
    return f"{subject}: {_ANSWERS.get(answer, answer)}{named}"


def in_console(message: str) -> str:
    """A message of a sync run without the commands of the command line."""
    for command, instead in _COMMANDS:
        message = command.sub(instead, message)
    return message


@lru_cache(maxsize=256)
def _sign(currency: str) -> str:
    """The prefix of an amount: "$", or "CHF" with a non-breaking space."""
    return format_money(0, currency, 0).removesuffix("0")


def money(minor: int, currency: str, exponent: int) -> str:
    """An amount with all decimals, so that a column lines up: "$2,000.00", "¥500"."""
    whole, rest = divmod(abs(minor), 10**exponent)
    minus = MINUS if minor < 0 else ""
    decimals = f".{rest:0{exponent}d}" if exponent else ""
    return f"{minus}{_sign(currency)}{whole:,}{decimals}"


def cell_money(minor: int, currency: str, exponent: int) -> str:
    """An amount in a cell of a table with many amounts, where 0 is a dash."""
    return money(minor, currency, exponent) if minor else NOTHING


def whole_money(amount: Decimal, currency: str) -> str:
    """An amount in whole units as `money` writes it; with its code if it has more decimals."""
    exponent = currency_exponent(currency)
    minor = amount.scaleb(exponent)
    if minor != int(minor):
        return f"{amount:,f} {currency}"
    return money(int(minor), currency, exponent)


def money_short(minor: int, currency: str, exponent: int) -> str:
    """An amount for a sentence, without zero decimals: "$2,000", "$99.50"."""
    text = money(minor, currency, exponent)
    return text if minor % 10**exponent else text.partition(".")[0]


def balance_money(balance: Balance, minor: int) -> str:
    """An amount of a balance's currency for a sentence."""
    return money_short(minor, balance.currency, balance.exponent)


def money_axis(minor: int, currency: str, exponent: int) -> str:
    """An amount on a chart's axis, rounded: "$100K", "$1.5M"."""
    unit = 10**exponent
    sizes = ((10**9, "B"), (10**6, "M"), (10**3, "K"))
    fitting = ((size, letter) for size, letter in sizes if abs(minor) >= size * unit)
    size, letter = next(fitting, (1, ""))
    tenths = round(abs(minor) * 10 / (size * unit))
    minus = MINUS if minor < 0 else ""
    decimals = f".{tenths % 10}" if tenths % 10 else ""
    return f"{minus}{_sign(currency)}{tenths // 10:,}{decimals}{letter}"


def short_name(label: str | None) -> str:
    """A label without its email address: "Jane Doe" for "Jane Doe (jane@acme.com)"."""
    name, _, rest = (label or "").partition(" (")
    return name if "@" in rest else label or ""


def balance_label(name: str, balance: Balance) -> str:
    """A balance in words: "Legal: budgeted $100, committed $20, reserved $5, available $75."."""
    amounts = {
        "budgeted": balance.budgeted_minor,
        "committed": balance.committed_minor,
        "reserved": balance.reserved_minor,
    }
    rest = "overdrawn by" if balance.available_minor < 0 else "available"
    amounts[rest] = abs(balance.available_minor)
    parts = (f"{what} {balance_money(balance, minor)}" for what, minor in amounts.items())
    return f"{name}: {', '.join(parts)}."


def delta(minor: int, currency: str, exponent: int) -> str:
    """A change with its sign: "+$500.00"."""
    return f"{'+' if minor > 0 else ''}{money(minor, currency, exponent)}"


def stored_amount(text: str | None, currency: str | None, exponent: int | None) -> str:
    """An amount from the audit log ("5000"), with its currency: "$5,000"."""
    if text is None or currency is None or exponent is None:
        return text or ""
    return money_short(int(Decimal(text).scaleb(exponent)), currency, exponent)


def parse_amount(text: str, field: str = "amount") -> Decimal:
    """An amount typed as "1250.50" or "1,250.50". Raises RequestError INVALID_REQUEST."""
    typed = text.strip()
    if len(typed) > _MAX_AMOUNT_LENGTH or not _AMOUNT.fullmatch(typed):
        raise invalid_request({field: "must be an amount such as 5000 or 1,250.50"})
    return Decimal(typed.replace(",", ""))


def when(moment: datetime | None, zone: ZoneInfo) -> Markup:
    """A time in a time zone, as a <time> element."""
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
    """A day in a time zone: "5 Feb 2025"."""
    return date_text(moment.astimezone(zone).date())


def date_text(moment: date) -> str:
    """A date: "5 Feb 2025"."""
    return f"{moment.day} {moment:%b %Y}"


def long_date(moment: date) -> str:
    """A date in full: "31 October 2026"."""
    return f"{moment.day} {moment:%B %Y}"


def today(zone_name: str) -> date:
    """Today's date in a time zone."""
    return clock.now().astimezone(ZoneInfo(zone_name)).date()


def local_now(zone_name: str) -> str:
    """The current time in a time zone, for an export: "2026-10-31 14:05"."""
    return f"{clock.now().astimezone(ZoneInfo(zone_name)):%Y-%m-%d %H:%M}"


def local_time(moment: datetime, zone_name: str) -> str:
    """A time in a time zone, for an export: "2026-10-31 14:05:30"."""
    return f"{moment.astimezone(ZoneInfo(zone_name)):%Y-%m-%d %H:%M:%S}"


def age(moment: datetime) -> str:
    """The time since a moment, in its largest unit: "3 days"."""
    minutes = max(0, int((clock.now() - moment).total_seconds() // 60))
    for size, name in ((60 * 24, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            return count(minutes // size, name)
    return "moments"


def expires_in(moment: datetime) -> str:
    """When a reservation expires, from now: "Expires in 5 days"."""
    left = moment - clock.now()
    if left <= timedelta(0):
        return "Expired"
    # A part of a day counts, so that a hold of 30 days that was just extended expires in 30 days.
    return f"Expires in {count(-(-left // timedelta(days=1)), 'day')}"


def stored_day(text: str | None, zone: ZoneInfo) -> str:
    """The day of a time from the audit log: "5 Feb 2025"; "never" without a time."""
    return day(clock.from_text(text), zone) if text else "never"


def count(number: int, what: str, many: str | None = None) -> str:
    """A number with its noun: "1 budget", "1,200 budgets"."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"


def percent(share: float) -> str:
    """A share for people: "86%". It is not rounded to 0 or 100: "<1%", "99%"."""
    if 0 < share < 1:
        return "<1%"
    rounded = min(99, round(share)) if share < 100 else round(share)
    return f"{rounded:,}%"


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """CSV text, row by row. It starts with a byte order mark, so that spreadsheets read UTF-8."""
    yield "\ufeff" + _csv_line(header)
    yield from map(_csv_line, rows)


def _csv_line(row: Iterable[object]) -> str:
    file = StringIO()
    writer(file).writerow([safe_cell(cell) for cell in row])
    return file.getvalue()


def csv_time(moment: datetime | None, zone: ZoneInfo) -> str:
    """A time as spreadsheets read it: "2025-02-05 10:30:00"; "" without a time."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}" if moment else ""


def safe_cell(cell: object) -> object:
    """Put a quote before text that a spreadsheet would run as a formula; numbers stay numbers."""
    if not isinstance(cell, str):
        return cell
    is_formula = cell[:1] in ("\t", "\r", "\n") or cell.lstrip()[:1] in _FORMULA_STARTS
    return f"'{cell}" if is_formula else cell
