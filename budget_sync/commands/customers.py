"""Commands for customers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import click

from budget_sync.accounts import customers, reset
from budget_sync.accounts.reservation_rules import (
    ReservationRules,
    expiry_text,
    tolerance_text,
)
from budget_sync.commands.support import (
    AMOUNT,
    changed_line,
    command,
    count_of,
    done,
    has_terminal,
    me,
    on_current_schema,
    progress_line,
    require_any,
    show_table,
    state_since,
)
from budget_sync.domain.money import MoneyError, currency_exponent, to_minor
from budget_sync.domain.periods import NAMED_BY


def _rule_options(run: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for the options of a customer's rules for reservations."""
    for option in (
        click.option(
            "--hold-days",
            type=int,
            metavar="DAYS",
            help="Open reservations expire after so many days. [default: never]",
        ),
        click.option(
            "--invoice-tolerance-amount",
            type=AMOUNT,
            help="At most so much more, in whole currency units. [default: the auto-approve limit]",
        ),
        click.option(
            "--invoice-tolerance",
            metavar="PERCENT",
            help="How much more than it holds a request may commit without FP&A, for example "
            "7.5%. [default: 10%]",
        ),
    ):
        run = option(run)
    return run


@command("add-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--name", required=True, help="The customer's name.")
@click.option("--currency", default="USD", show_default=True, help="ISO 4217 code.")
@click.option(
    "--auto-approve-limit",
    type=AMOUNT,
    help="Amounts up to this limit need no FP&A approval. [default: every amount needs it]",
)
@click.option("--time-zone", default="UTC", show_default=True, help="For example Europe/Berlin.")
@click.option(
    "--fiscal-year-start",
    default=1,
    show_default=True,
    type=click.IntRange(1, 12),
    metavar="MONTH",
    help="First month of the fiscal year, 1 to 12.",
)
@click.option(
    "--fiscal-year-named-by",
    default="end",
    show_default=True,
    type=click.Choice(NAMED_BY),
    help="The calendar year that names a fiscal year: that of its end or of its start.",
)
@_rule_options
@click.option(
    "--test",
    "is_test",
    is_flag=True,
    help="A test customer, for good: left out of metrics and alerts, and can be emptied with "
    "reset-customer.",
)
@on_current_schema
def add_customer(
    customer_id: str,
    name: str,
    currency: str,
    auto_approve_limit: Decimal | None,
    time_zone: str,
    fiscal_year_start: int,
    fiscal_year_named_by: str,
    is_test: bool,
    **rules: Any,
) -> None:
    """Create a customer."""
    try:
        limit_minor = (
            None
            if auto_approve_limit is None
            else to_minor(auto_approve_limit, currency_exponent(currency))
        )
    except MoneyError as error:
        raise click.ClickException(f"--currency and --auto-approve-limit: {error}.") from None
    customers.add_customer(
        me(),
        customer_id,
        name,
        currency=currency,
        auto_approve_limit_minor=limit_minor,
        time_zone=time_zone,
        fiscal_year_start_month=fiscal_year_start,
        fiscal_year_named_by=fiscal_year_named_by,
        rules=ReservationRules(**rules),
        is_test=is_test,
    )
    done(f"Added {'test ' if is_test else ''}customer {customer_id}.")


@command("set-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--name", help="The customer's name.")
@click.option(
    "--auto-approve-limit",
    type=AMOUNT,
    help="Amounts up to this limit need no FP&A approval.",
)
@click.option("--no-auto-approve-limit", is_flag=True, help="Every amount needs an FP&A approval.")
@click.option("--time-zone", help="For example Europe/Berlin.")
@click.option(
    "--fiscal-year-start",
    type=click.IntRange(1, 12),
    metavar="MONTH",
    help="First month of the fiscal year, 1 to 12.",
)
@click.option(
    "--fiscal-year-named-by",
    type=click.Choice(NAMED_BY),
    help="The calendar year that names a fiscal year: that of its end or of its start.",
)
@click.option(
    "--employees-see",
    type=click.Choice(("all", "own")),
    help="Budgets that employees see: all, or only those of departments they have requests in.",
)
@_rule_options
@click.option(
    "--no-invoice-tolerance-amount",
    is_flag=True,
    help="The auto-approve limit is the most that an invoice may exceed.",
)
@click.option("--no-hold-days", is_flag=True, help="Reservations never expire.")
@on_current_schema
def set_customer(
    customer_id: str,
    name: str | None,
    auto_approve_limit: Decimal | None,
    no_auto_approve_limit: bool,
    time_zone: str | None,
    fiscal_year_start: int | None,
    fiscal_year_named_by: str | None,
    employees_see: str | None,
    **rules: Any,
) -> None:
    """Change the settings of a customer. Settings that are not given stay.

    With another fiscal year, each budget keeps the period that its text names: "FY2024-25" gets
    another key. The change is rejected if a budget would lose its period, or if two budgets would
    have one.

    With other hold days, all open reservations of the customer expire so many days from now.
    """
    if auto_approve_limit is not None and no_auto_approve_limit:
        raise click.UsageError("Give either --auto-approve-limit or --no-auto-approve-limit.")
    _require_no_contradiction(rules)
    require_any(
        {
            "--name": name,
            "--auto-approve-limit": auto_approve_limit,
            "--no-auto-approve-limit": no_auto_approve_limit or None,
            "--time-zone": time_zone,
            "--fiscal-year-start": fiscal_year_start,
            "--fiscal-year-named-by": fiscal_year_named_by,
            "--employees-see": employees_see,
            **{
                f"--{option.replace('_', '-')}": None if value is False else value
                for option, value in rules.items()
            },
        }
    )
    changed = customers.set_customer(
        me(),
        customer_id,
        name=name,
        auto_approve_limit=auto_approve_limit,
        no_auto_approve_limit=no_auto_approve_limit,
        time_zone=time_zone,
        fiscal_year_start_month=fiscal_year_start,
        fiscal_year_named_by=fiscal_year_named_by,
        employees_see=employees_see,
        rules=ReservationRules(**rules),
    )
    done(changed_line(f"customer {customer_id}", changed.fields) + _expiry_sentence(changed))


def _require_no_contradiction(rules: dict[str, Any]) -> None:
    """Raise click.UsageError if a rule is both set and removed."""
    for name in ("invoice_tolerance_amount", "hold_days"):
        if rules[name] is not None and rules[f"no_{name}"]:
            option = name.replace("_", "-")
            raise click.UsageError(f"Give either --{option} or --no-{option}.")


def _expiry_sentence(changed: customers.SettingsChange) -> str:
    """How a change of the hold days affects open reservations; blank without one."""
    if "holdDays" not in changed.fields:
        return ""
    count = count_of(changed.reservations, "open reservation")
    if changed.expires_at is None:
        return f" {count} will not expire."
    return f" {count} will expire at {changed.expires_at}."


@command("disable-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
@on_current_schema
def disable_customer(customer_id: str, yes: bool) -> None:
    """End all sessions and keys of a customer, and stop its syncs. Its data stays."""
    access = customers.customer_access(me(), customer_id)
    ends = (
        f"{count_of(access.users, 'user')}, {count_of(access.sessions, 'session')}, "
        f"{count_of(access.keys, 'API key')} and {count_of(access.sources, 'source')}"
    )
    if customers.get_customer(customer_id).disabledAt is not None:
        done(f"Customer {customer_id} is disabled already.")
        return
    if not yes and _is_typed_on_a_terminal():
        question = f"Disable customer {customer_id}? This ends the access of {ends}."
        if not click.confirm(question, err=True):
            raise click.ClickException("Not confirmed. Nothing was changed.")
    customers.disable_customer(me(), customer_id)
    done(f"Disabled customer {customer_id}. This ended the access of {ends}.")


def _is_typed_on_a_terminal() -> bool:
    return has_terminal() and sys.stdin is not None and sys.stdin.isatty()


@command("reset-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
@on_current_schema
def reset_customer(customer_id: str, yes: bool) -> None:
    """Delete the budgets and everything that happened to them, of a test customer.

    This deletes its budgets, requests, spend, checks, sync runs, aliases, and their audit rows. The
    customer, its people, keys, sources, webhooks and alerts stay, and so do their audit rows. The
    next sync run creates the budgets again.
    """
    content = reset.content_of(me(), customer_id)
    holds = f"{count_of(content.budgets, 'budget')}, {count_of(content.rows, 'other row')}"
    if not yes and _is_typed_on_a_terminal():
        question = f"Reset test customer {customer_id}? This deletes {holds}."
        if not click.confirm(question, err=True):
            raise click.ClickException("Not confirmed. Nothing was changed.")
    with progress_line() as say:
        deleted = reset.reset_customer(
            me(), customer_id, lambda rows: say(f"Deleted {count_of(rows, 'row')}")
        )
    done(f"Reset test customer {customer_id}: deleted {count_of(deleted, 'row')}.")


@command("enable-customer")
@click.argument("customer_id", metavar="ID")
@on_current_schema
def enable_customer(customer_id: str) -> None:
    """Enable a disabled customer: its users, keys and sources work again."""
    customers.enable_customer(me(), customer_id)
    done(f"Enabled customer {customer_id}.")


@command("list-customers")
@on_current_schema
def list_customers() -> None:
    """Show the customers."""
    show_table(
        (
            *("id", "name", "currency", "time zone", "fiscal year"),
            *("invoice tolerance", "reservations expire", "state"),
        ),
        [
            (
                *(row.id, row.name, row.currency, row.timeZone),
                f"from month {row.fiscalYearStartMonth}, named by its {row.fiscalYearNamedBy}",
                tolerance_text(row),
                expiry_text(row),
                _state(row),
            )
            for row in customers.list_customers(me())
        ],
        "There are no customers yet. Create one with `flask add-customer`.",
    )


def _state(customer: Any) -> str:
    """Whether a customer is enabled, and whether it is a test customer."""
    state = state_since(customer.disabledAt, "disabled")
    return f"{state}, test" if customer.isTest else state


COMMANDS = (
    *(add_customer, set_customer, disable_customer, enable_customer, reset_customer),
    list_customers,
)
