"""Commands for budgets, the check log, and the guide's figures."""

from __future__ import annotations

from decimal import Decimal

import click

from budget_sync import manual_budgets
from budget_sync.commands.support import (
    AMOUNT,
    command,
    done,
    me,
    on_current_schema,
    progress_line,
    require_known,
    show_table,
)
from budget_sync.ledger import retention
from budget_sync.queries import stats


@command("set-budget")
@click.option("--customer", "customer_id", required=True, metavar="ID", help="Whose budget it is.")
@click.option("--department", required=True, help="Such as Engineering.")
@click.option("--period", required=True, help='Such as "Q1 2025".')
@click.option("--amount", required=True, type=AMOUNT, help="In whole currency units.")
@click.option(
    "--id", "budget_id", metavar="ID", help="The id of a new budget; made up where left out."
)
@click.option("--currency", help="Of a new budget; the customer's where left out.")
@click.option(
    "--auto-approve-limit", type=AMOUNT, help="Of this budget; the customer's where left out."
)
@click.option("--reason", help="Why, for the audit log.")
@on_current_schema
def set_budget(
    customer_id: str,
    department: str,
    period: str,
    amount: Decimal,
    budget_id: str | None,
    currency: str | None,
    auto_approve_limit: Decimal | None,
    reason: str | None,
) -> None:
    """Make a budget by hand, or change one that was."""
    budget, change = manual_budgets.set_budget(
        me(),
        customer_id,
        department,
        period,
        amount,
        budget_id=budget_id,
        currency=currency,
        auto_approve_limit=auto_approve_limit,
        reason=reason,
    )
    done(f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod}): {change}.")


@command("prune-checks")
@click.option(
    "--older-than",
    required=True,
    type=click.IntRange(1, 36500),
    metavar="DAYS",
    help="Delete checks logged more than this many days ago, but the last of all.",
)
@on_current_schema
def prune_checks(older_than: int) -> None:
    """Delete old rows of the check log, which holds personal data."""
    with progress_line() as say:
        deleted = retention.prune_checks(
            me(), older_than, lambda count: say(f"deleted: {count:,} checks")
        )
    done(f"Deleted {deleted} checks older than {older_than} days.")


@command("stats")
@click.option("--customer", "customer_id", metavar="ID", help="Of this customer alone.")
@on_current_schema
def show_stats(customer_id: str | None) -> None:
    """Show check success, response time, sync success and utilisation."""
    require_known(customer_id)
    figures = stats.load_stats(me(), customer_id)
    click.echo(
        f"Budget check success rate (24 hours): {_figure(figures.check_success_rate, '%')} of {figures.checks} checks"
    )
    click.echo(f"Average response time (24 hours): {_figure(figures.average_response_ms, ' ms')}")
    click.echo(
        f"Sync success rate (7 days): {_figure(figures.sync_success_rate, '%')} of {figures.passes} passes"
    )
    click.echo("Budget utilisation:")
    show_table(
        ("department", "currency", "budgeted", "used", "available"),
        [
            (row.department, row.currency, f"{row.total:,}", f"{row.used:,}", f"{row.available:,}")
            for row in figures.utilization
        ],
        "There are no budgets yet: make one with `flask set-budget`.",
    )


def _figure(value: float | None, unit: str) -> str:
    return "none yet" if value is None else f"{value:.1f}{unit}"


COMMANDS = (set_budget, prune_checks, show_stats)
