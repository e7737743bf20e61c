"""Commands for budgets, the check log, and the integration guide's figures."""

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
from budget_sync.domain import clock
from budget_sync.ledger import retention
from budget_sync.queries import budgets, stats
from budget_sync.sync.retention import prune_history as prune_sync_history


@command("set-budget")
@click.option(
    "--customer",
    "customer_id",
    required=True,
    metavar="ID",
    help="The customer that the budget belongs to.",
)
@click.option("--department", required=True, help="For example Engineering.")
@click.option("--period", required=True, help='For example "Q1 2025".')
@click.option("--amount", required=True, type=AMOUNT, help="In whole currency units.")
@click.option("--id", "budget_id", metavar="ID", help="Id of a new budget. [default: generated]")
@click.option("--currency", help="Currency of a new budget. [default: the customer's]")
@click.option(
    "--auto-approve-limit", type=AMOUNT, help="Limit of this budget. [default: the customer's]"
)
@click.option(
    "--no-auto-approve-limit",
    is_flag=True,
    help="Remove the limit of this budget; the customer's limit then applies.",
)
@click.option("--owner-email", metavar="EMAIL", help="Email address of the budget's owner.")
@click.option("--no-owner-email", is_flag=True, help="Remove the owner of this budget.")
@click.option("--reason", help="Reason, for the audit log.")
@on_current_schema
def set_budget(
    customer_id: str,
    department: str,
    period: str,
    amount: Decimal,
    budget_id: str | None,
    currency: str | None,
    auto_approve_limit: Decimal | None,
    no_auto_approve_limit: bool,
    owner_email: str | None,
    no_owner_email: bool,
    reason: str | None,
) -> None:
    """Create a budget by hand, or change a budget that was created by hand."""
    budget, change = manual_budgets.set_budget(
        me(),
        customer_id,
        department,
        period,
        amount,
        budget_id=budget_id,
        currency=currency,
        auto_approve_limit=auto_approve_limit,
        no_auto_approve_limit=no_auto_approve_limit,
        owner_email=owner_email,
        no_owner_email=no_owner_email,
        reason=reason,
    )
    done(f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod}): {change}.")


@command("prune-checks")
@click.option(
    "--older-than",
    required=True,
    type=click.IntRange(1, 36500),
    metavar="DAYS",
    help="Delete checks older than this many days. The newest check is always kept.",
)
@on_current_schema
def prune_checks(older_than: int) -> None:
    """Delete old rows of the check log, which holds personal data."""
    with progress_line() as report:
        deleted = retention.prune_checks(
            me(), older_than, lambda count: report(f"deleted: {count:,} checks")
        )
    done(f"Deleted {deleted} checks older than {older_than} days.")


@command("prune-history")
@click.option(
    "--older-than",
    required=True,
    type=click.IntRange(1, 36500),
    metavar="DAYS",
    help="Delete sync runs older than this many days. The newest runs of each source are kept.",
)
@on_current_schema
def prune_history(older_than: int) -> None:
    """Delete old rows of SyncHistory, which lists rejected rows of sheets."""
    with progress_line() as report:
        deleted = prune_sync_history(
            me(), older_than, lambda count: report(f"deleted: {count:,} sync runs")
        )
    done(f"Deleted {deleted} sync runs older than {older_than} days.")


@command("stats")
@click.option("--customer", "customer_id", metavar="ID", help="Only for this customer.")
@on_current_schema
def show_stats(customer_id: str | None) -> None:
    """Show check success, response time, sync success and utilization."""
    require_known(customer_id)
    figures = stats.load_stats(me(), customer_id)
    click.echo(
        "Budget check success rate (24 hours): "
        f"{_figure(figures.check_success_rate, '%')} of {figures.checks} checks"
    )
    click.echo(f"Average response time (24 hours): {_figure(figures.average_response_ms, ' ms')}")
    click.echo(
        "Sync success rate (7 days): "
        f"{_figure(figures.sync_success_rate, '%')} of {figures.sync_runs} sync runs"
        + (
            ""
            if figures.sync_partial_rate is None
            else f"; {figures.sync_partial_rate:.1f}% were partial"
        )
    )
    click.echo("Budget utilization:")
    show_table(
        ("department", "currency", "budgeted", "used", "available"),
        [
            (row.department, row.currency, f"{row.total:,}", f"{row.used:,}", f"{row.available:,}")
            for row in figures.utilization
        ],
        "There are no budgets yet. Create one with `flask set-budget`.",
    )


def _figure(value: float | None, unit: str) -> str:
    return "none yet" if value is None else f"{value:.1f}{unit}"


@command("remove-budget")
@click.argument("budget_id", metavar="ID")
@click.option("--reason", help="Reason, for the audit log.")
@on_current_schema
def remove_budget(budget_id: str, reason: str | None) -> None:
    """Remove a budget that was created by hand.

    It takes no new reservations. Its open reservations can still be committed and released.
    """
    budget, balance = manual_budgets.remove_budget(me(), budget_id, reason=reason)
    used = (
        f" {balance.money(balance.used_minor)} stays reserved or committed on it."
        if balance.used_minor
        else ""
    )
    done(
        f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod}): removed.{used} "
        f"Revive it with `flask restore-budget {budget.id}`."
    )


@command("restore-budget")
@click.argument("budget_id", metavar="ID")
@click.option("--reason", help="Reason, for the audit log.")
@on_current_schema
def restore_budget(budget_id: str, reason: str | None) -> None:
    """Revive a removed budget, with what is reserved and committed on it.

    `flask list-budgets --deleted` shows the IDs.
    """
    budget, balance = manual_budgets.restore_budget(me(), budget_id, reason=reason)
    done(
        f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod}): revived. "
        f"Available: {balance.money(balance.available_minor)} of "
        f"{balance.money(balance.budgeted_minor)}."
    )


@command("list-budgets")
@click.option("--customer", "customer_id", metavar="ID", help="Only of this customer.")
@click.option("--department", help="Only of this department.")
@click.option("--period", help='Only of this period, for example "Q1 2025".')
@click.option("--deleted", is_flag=True, help="Only deleted budgets, instead of live ones.")
@on_current_schema
def list_budgets(
    customer_id: str | None, department: str | None, period: str | None, deleted: bool
) -> None:
    """Show the budgets with their figures, in whole currency units."""
    require_known(customer_id)
    found = budgets.list_budgets(
        me(), customer_id, department=department, fiscal_period=period, deleted=deleted
    )
    is_filtered = deleted or any(text is not None for text in (customer_id, department, period))
    show_table(
        (
            *("id", "customer", "department", "period", "currency"),
            *("budgeted", "reserved", "committed", "available"),
            *("auto-approve limit", "owner", "source", "state"),
        ),
        [_budget_cells(line) for line in found],
        "No budget matches."
        if is_filtered
        else "There are no budgets yet. Create one with `flask set-budget`.",
    )


def _budget_cells(line: budgets.BudgetLine) -> tuple[str, ...]:
    """The cells of a budget in `flask list-budgets`."""
    balance, limit_minor = line.balance, line.auto_approve_limit_minor
    amounts_minor = (
        balance.budgeted_minor,
        balance.reserved_minor,
        balance.committed_minor,
        balance.available_minor,
    )
    return (
        line.id,
        line.customer_id,
        line.department,
        line.period,
        balance.currency,
        *(f"{balance.number(minor):,}" for minor in amounts_minor),
        "(the customer's)" if limit_minor is None else f"{balance.number(limit_minor):,}",
        line.owner_email or "(none)",
        line.source_id or "(by hand)",
        f"deleted {clock.to_text(line.deleted_at)}" if line.deleted_at else line.state,
    )


COMMANDS = (
    set_budget,
    prune_checks,
    prune_history,
    show_stats,
    remove_budget,
    restore_budget,
    list_budgets,
)
