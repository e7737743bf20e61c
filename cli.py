"""The commands: parse, call one verb, print. Refusals are one line on standard error and a non-zero exit."""

from __future__ import annotations

import functools
import getpass
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click
import peewee
from flask import Flask, current_app
from flask.cli import with_appcontext

from budget_sync import budgets, check_log, clock, database, demo, people, reports, sync
from budget_sync.money import MoneyError, currency_exponent, to_minor
from budget_sync.permissions import PEOPLE_ROLES, Actor, operator
from budget_sync.refusals import Refusal
from budget_sync.settings import Settings, postgresql_url
from budget_sync.web.server import Server

Command = TypeVar("Command", bound=Callable[..., Any])


# Commas only where they part thousands: "99,50" could mean two things.
_AMOUNT = re.compile(r"-?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.[0-9]{1,18})?")


class AmountType(click.ParamType[Decimal]):
    """An exact amount in whole currency units."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The Decimal, or click's error."""
        text = str(value)
        if _AMOUNT.fullmatch(text):
            return Decimal(text.replace(",", ""))
        try:
            # Whatever else is a number (1e3, nan) is for the verb to take or refuse.
            return Decimal("no" if set(text) & set(",_ ") else text)
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount such as 5000, 5,000 or 99.50", param, ctx)


AMOUNT = AmountType()


class Mistyped(click.ClickException):
    """A line that no command takes."""

    exit_code = 2


class OneLine(click.Command):
    """A command whose errors, a mistyped line's included, are one line on standard error."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Read the line."""
        with _one_line():
            if any(not _is_text(argument) for argument in args):
                raise click.UsageError("What is typed must be text in UTF-8.")
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # What goes wrong is said in the one line; a server that the command starts sets its log up anew.
        logging.getLogger("budget_sync").setLevel(logging.CRITICAL)
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        # A list of choices is several lines.
        said = " ".join(error.format_message().split())
        raise Mistyped(f"{said} Try '{error.ctx.command_path} --help'." if error.ctx else said) from error
    except Refusal as refusal:
        raise click.ClickException(f"{refusal.sentence} ({' '.join(str(refusal.__cause__).split())})" if refusal.__cause__ else refusal.sentence) from refusal
    except database.DatabaseProblem as problem:
        raise click.ClickException(str(problem)) from problem
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except peewee.PeeweeException as error:
        refused = database.refusal_of(error)
        if refused is None:
            raise
        raise click.ClickException(f"{refused.sentence} ({' '.join(str(error).split())})") from error


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of ours."""
    return lambda run: click.command(name, cls=OneLine)(with_appcontext(run))


def on_current_schema(run: Command) -> Command:
    """Refuse to run on a database that is not there, or of another schema version."""

    @functools.wraps(run)
    def checked(*args: Any, **kwargs: Any) -> Any:
        database.require_current_schema()
        return run(*args, **kwargs)

    return checked  # type: ignore[return-value]  # wraps() keeps the signature


def me() -> Actor:
    """Whoever has the shell."""
    try:
        return operator(getpass.getuser())
    except (KeyError, OSError):
        return operator(str(os.getuid()))


def settings() -> Settings:
    """The app's settings."""
    chosen: Settings = current_app.config["SETTINGS"]
    return chosen


@command("init-db")
def init_db() -> None:
    """Create the tables; harmless when they are there."""
    # What holds password hashes is for its owner alone.
    os.umask(0o077)
    settings().database_path.parent.mkdir(parents=True, exist_ok=True)
    database.connect(settings().database, create=True)
    made = database.init_schema()
    click.echo(f"{'Created' if made else 'Already there:'} {database.label()} (schema version {database.schema_version()}).")


@command("upgrade-db")
def upgrade_db() -> None:
    """Apply what a newer version of the program needs; all of it or nothing."""
    if settings().database_url is None and not settings().database_path.exists():
        database.require_current_schema()
    steps = database.upgrade_schema()
    click.echo(f"Upgraded to schema version {steps[-1]}." if steps else f"Already at schema version {database.schema_version()}.")


@command("demo")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server will be, for the lines to paste.")
@on_current_schema
def load_demo(url: str) -> None:
    """Load the integration guide's world: customer org-456, budget-123 and its people."""
    made = demo.load(me(), settings().instance_folder, settings().csv_folder)
    click.echo("The demo is loaded." if made else "The demo was loaded before; nothing changed.")
    click.echo(demo.tour(url, settings().instance_folder))


@command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@on_current_schema
def serve(host: str, port: int, workers: int) -> None:
    """Run the production server. SIGTERM stops it once every request under way is answered."""
    # The app's module imports this one.
    from app import create_app  # noqa: PLC0415

    _require_free(host, port)
    # The workers open their own: a connection must not cross a fork.
    database.disconnect()
    Server(functools.partial(create_app, settings()), host=host, port=port, workers=workers).run()


def _require_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from None


@command("add-customer")
@click.argument("customer_id", metavar="ID")
@click.option("--name", required=True, help="The customer's name.")
@click.option("--currency", default="USD", show_default=True, help="ISO 4217 code.")
@click.option("--auto-approve-limit", type=AMOUNT, help="Amounts up to this need no FP&A approval. Without one, FP&A approves everything.")
@click.option("--time-zone", default="UTC", show_default=True, help="Such as Europe/Berlin.")
@click.option("--fiscal-year-start", default=1, show_default=True, type=click.IntRange(1, 12), metavar="MONTH", help="1 to 12.")
@on_current_schema
def add_customer(customer_id: str, name: str, currency: str, auto_approve_limit: Decimal | None, time_zone: str, fiscal_year_start: int) -> None:
    """Make a customer."""
    try:
        limit_minor = None if auto_approve_limit is None else to_minor(auto_approve_limit, currency_exponent(currency))
    except MoneyError as error:
        raise click.ClickException(f"--currency and --auto-approve-limit: {error}.") from None
    people.add_customer(
        me(),
        customer_id,
        name,
        currency=currency,
        auto_approve_limit_minor=limit_minor,
        time_zone=time_zone,
        fiscal_year_start_month=fiscal_year_start,
    )
    click.echo(f"Added customer {customer_id}.")


@command("disable-customer")
@click.argument("customer_id", metavar="ID")
@on_current_schema
def disable_customer(customer_id: str) -> None:
    """End every session and key of a customer; its data stays."""
    people.disable_customer(me(), customer_id)
    click.echo(f"Disabled customer {customer_id}.")


@command("list-customers")
@on_current_schema
def list_customers() -> None:
    """Show the customers."""
    _table(
        ("id", "name", "currency", "time zone", "state"),
        [(row.id, row.name, row.currency, row.timeZone, _state(row.disabledAt, "disabled")) for row in people.list_customers(me())],
        "There are no customers yet: make one with `flask add-customer`.",
    )


def customer_or_all(command: Command) -> Command:
    """--customer ID or --all-customers, one of them."""
    command = click.option("--all-customers", is_flag=True, help="For all customers.")(command)
    return click.option("--customer", "customer_id", metavar="ID", help="For this customer.")(command)


def _one_of(customer_id: str | None, all_customers: bool) -> str | None:
    if (customer_id is not None) == all_customers:
        raise click.UsageError("Give either --customer ID or --all-customers.")
    return customer_id


@command("add-user")
@customer_or_all
@click.option("--id", "user_id", required=True, metavar="ID", help="The user's id, as the orchestrator sends it in userId.")
@click.option("--name", required=True, help="The user's name.")
@click.option("--email", required=True, help="What they sign in with.")
@click.option("--role", required=True, type=click.Choice([str(role) for role in PEOPLE_ROLES]), help="What they may do.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input. Without it they cannot sign in yet.")
@on_current_schema
def add_user(customer_id: str | None, all_customers: bool, user_id: str, name: str, email: str, role: str, password_stdin: bool) -> None:
    """Make a user."""
    password = _password_from_stdin() if password_stdin else None
    people.add_user(
        me(), user_id, name, email, role, customer_id=_one_of(customer_id, all_customers), password=password, slots_folder=settings().instance_folder
    )
    click.echo(f"Added user {user_id}." + ("" if password else f" Give them a password with `flask set-password {user_id}`."))


@command("set-password")
@click.argument("user_id", metavar="ID")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
@on_current_schema
def set_password(user_id: str, password_stdin: bool) -> None:
    """Give a user a new password; their sessions end at once."""
    password = _password_from_stdin() if password_stdin else click.prompt("New password", hide_input=True, confirmation_prompt=True)
    people.set_password(me(), user_id, password, slots_folder=settings().instance_folder)
    click.echo(f"Set the password of {user_id}.")


def _password_from_stdin() -> str:
    return sys.stdin.readline().rstrip("\r\n")


@command("disable-user")
@click.argument("user_id", metavar="ID")
@on_current_schema
def disable_user(user_id: str) -> None:
    """Lock a user out at once."""
    people.disable_user(me(), user_id)
    click.echo(f"Disabled user {user_id}.")


@command("enable-user")
@click.argument("user_id", metavar="ID")
@on_current_schema
def enable_user(user_id: str) -> None:
    """Let a disabled user sign in again."""
    people.enable_user(me(), user_id)
    click.echo(f"Enabled user {user_id}.")


@command("list-users")
@click.option("--customer", "customer_id", metavar="ID", help="Of this customer alone.")
@on_current_schema
def list_users(customer_id: str | None) -> None:
    """Show the users."""
    _require_known(customer_id)
    _table(
        ("id", "customer", "name", "email", "role", "last login", "state"),
        [
            (
                row.id,
                row.customerId or "(all)",
                row.name,
                row.email,
                row.role,
                clock.to_text(row.lastLoginAt) if row.lastLoginAt else "never",
                "disabled" if row.disabledAt else "active" if row.passwordHash else "no password",
            )
            for row in people.list_users(me(), customer_id)
        ],
        "There are no users yet: make one with `flask add-user`.",
    )


@command("add-key")
@customer_or_all
@click.option("--name", required=True, help="Which service it is for, as the audit log will name it.")
@click.option("--may-overspend", is_flag=True, help="Let the service bring over-budget approvals of FP&A people.")
@on_current_schema
def add_key(customer_id: str | None, all_customers: bool, name: str, may_overspend: bool) -> None:
    """Make an API key and print it alone on standard output, this once."""
    click.echo(people.add_key(me(), name, customer_id=_one_of(customer_id, all_customers), may_overspend=may_overspend))


@command("list-keys")
@click.option("--customer", "customer_id", metavar="ID", help="Of this customer alone.")
@on_current_schema
def list_keys(customer_id: str | None) -> None:
    """Show the API keys, without their secrets."""
    _require_known(customer_id)
    _table(
        ("id", "customer", "name", "may overspend", "made", "state"),
        [
            (
                row.id,
                row.customerId or "(all)",
                row.name,
                "yes" if row.mayOverspend else "no",
                clock.to_text(row.createdAt),
                _state(row.revokedAt, "revoked"),
            )
            for row in people.list_keys(me(), customer_id)
        ],
        "There are no API keys yet: make one with `flask add-key`.",
    )


@command("revoke-key")
@click.argument("key_id", metavar="ID")
@on_current_schema
def revoke_key(key_id: str) -> None:
    """End an API key's use at once; ID as `flask list-keys` shows it."""
    people.revoke_key(me(), key_id)
    click.echo(f"Revoked key {key_id}.")


@command("set-budget")
@click.option("--customer", "customer_id", required=True, metavar="ID", help="Whose budget it is.")
@click.option("--department", required=True, help="Such as Engineering.")
@click.option("--period", required=True, help='Such as "Q1 2025".')
@click.option("--amount", required=True, type=AMOUNT, help="In whole currency units.")
@click.option("--id", "budget_id", metavar="ID", help="The id of a new budget; made up where left out.")
@click.option("--currency", help="Of a new budget; the customer's where left out.")
@click.option("--auto-approve-limit", type=AMOUNT, help="Of this budget; the customer's where left out.")
@on_current_schema
def set_budget(
    customer_id: str,
    department: str,
    period: str,
    amount: Decimal,
    budget_id: str | None,
    currency: str | None,
    auto_approve_limit: Decimal | None,
) -> None:
    """Make a budget by hand, or change one that was."""
    budget, done = budgets.set_budget(
        me(), customer_id, department, period, amount, budget_id=budget_id, currency=currency, auto_approve_limit=auto_approve_limit
    )
    click.echo(f"Budget {budget.id} ({budget.department}, {budget.fiscalPeriod}): {done}.")


@command("prune-checks")
@click.option("--older-than", required=True, type=click.IntRange(1, 36500), metavar="DAYS", help="Delete checks logged more than this many days ago.")
@on_current_schema
def prune_checks(older_than: int) -> None:
    """Delete old rows of the check log, which holds personal data."""
    click.echo(f"Deleted {check_log.prune_checks(me(), older_than)} checks older than {older_than} days.")


@command("stats")
@click.option("--customer", "customer_id", metavar="ID", help="Of this customer alone.")
@on_current_schema
def show_stats(customer_id: str | None) -> None:
    """Show check success, response time, sync success and utilisation."""
    _require_known(customer_id)
    stats = reports.stats(me(), customer_id)
    click.echo(f"Budget check success rate (24 hours): {_figure(stats.check_success_rate, '%')} of {stats.checks} checks")
    click.echo(f"Average response time (24 hours): {_figure(stats.average_response_ms, ' ms')}")
    click.echo(f"Sync success rate (7 days): {_figure(stats.sync_success_rate, '%')} of {stats.passes} passes")
    click.echo("Budget utilisation:")
    _table(
        ("department", "currency", "budgeted", "used", "available"),
        [(row.department, row.currency, f"{row.total:,}", f"{row.used:,}", f"{row.available:,}") for row in stats.utilization],
        "There are no budgets yet: make one with `flask set-budget`.",
    )


def _figure(value: float | None, unit: str) -> str:
    return "none yet" if value is None else f"{value:.1f}{unit}"


@command("verify")
@on_current_schema
def verify() -> None:
    """Prove the balances: counters = open reservations = replayed audit log. Exit status 1 where they are not."""
    proof = reports.verify()
    for finding in proof.findings:
        click.echo(finding, err=True)
    counted = f"{proof.budgets} budgets, {proof.reservations} reservations, {proof.movements} audit rows"
    if proof.findings:
        raise click.ClickException(f"{len(proof.findings)} contradictions found in {counted}.")
    click.echo(f"Verified: {counted}; every balance is proven.")


def column_names(pairs: tuple[str, ...]) -> dict[str, str]:
    """The --map options: our column -> the sheet's name for it."""
    names = {}
    for pair in pairs:
        column, equals, name = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--map {pair!r} must look like 'Budgeted Amount=FY Plan'.")
        names[column.strip()] = name.strip()
    return names


@command("add-source")
@click.option("--customer", "customer_id", required=True, metavar="ID", help="Whose budgets it holds.")
@click.option("--spreadsheet", metavar="KEY", help="The key in a Google spreadsheet's address, or the address.")
@click.option("--worksheet", metavar="NAME", help='The title of its tab, or the tab\'s number as in "gid=0".')
@click.option("--csv", "csv_path", metavar="PATH", help="A CSV file instead, inside the folder for CSV files (instance/sheets).")
@click.option("--locale", help="How amounts that are text are written, such as de_DE; a sheet's own locale where left out.")
@click.option("--map", "pairs", multiple=True, metavar="COLUMN=NAME", help='What the sheet calls a column, such as "Budgeted Amount=FY Plan".')
@on_current_schema
def add_source(customer_id: str, spreadsheet: str | None, worksheet: str | None, csv_path: str | None, locale: str | None, pairs: tuple[str, ...]) -> None:
    """Follow a Google Sheet or a CSV file."""
    folder = settings().csv_folder
    folder.mkdir(parents=True, exist_ok=True)
    source, warnings = sync.add_source(
        me(),
        customer_id,
        spreadsheet=spreadsheet,
        worksheet=worksheet,
        csv_path=csv_path,
        csv_folder=folder,
        locale=locale,
        names=column_names(pairs),
    )
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(f"Added source {source.id} ({source.label}). See what a pass would do: flask sync-sheets --customer {customer_id} --dry-run")


@command("list-sources")
@click.option("--customer", "customer_id", metavar="ID", help="Of this customer alone.")
@on_current_schema
def list_sources(customer_id: str | None) -> None:
    """Show the sources."""
    _table(
        ("id", "customer", "source", "locale", "columns"),
        [
            (source.id, source.customer_id, source.label, source.locale or "(the sheet's)", ", ".join(f"{ours}={name}" for ours, name in source.names.items()))
            for source in sync.list_sources(me(), customer_id)
        ],
        "There are no sources yet: make one with `flask add-source`.",
    )


@command("remove-source")
@click.argument("source_id", metavar="ID")
@on_current_schema
def remove_source(source_id: str) -> None:
    """Stop following a source; its budgets stay, and can be changed by hand or adopted by another source."""
    let_go = sync.remove_source(me(), source_id)
    click.echo(f"Removed source {source_id}; its {let_go} budgets stay as they are.")


@command("sync-sheets")
@click.option("--customer", "customer_id", metavar="ID", help="This customer's sources alone.")
@click.option("--dry-run", is_flag=True, help="Print what a pass would do, and change nothing.")
@click.option("--allow-deletes", is_flag=True, help="Let deletions through that are held back for being many.")
@on_current_schema
def sync_sheets(customer_id: str | None, dry_run: bool, allow_deletes: bool) -> None:
    """Make the budgets follow their sheets: one line a source. Exit status 1 where a source failed."""
    progress = _Progress()
    job = sync.Job(
        me(),
        sync.Reach.of(settings()),
        settings().instance_folder,
        allow_deletes=allow_deletes,
        say=progress.say if sys.stderr.isatty() else None,
    )
    failed = _preview_sheets(job, customer_id, progress) if dry_run else _sync_sheets(job, customer_id, progress)
    if failed:
        sys.exit(1)


def _preview_sheets(job: sync.Job, customer_id: str | None, progress: _Progress) -> bool:
    failed = False
    for number, preview in enumerate(sync.preview_all(job, customer_id=customer_id)):
        progress.clear()
        failed |= preview.failed
        click.echo(("\n" if number else "") + f"{preview.source.customer_id} {preview.source.id} ({preview.source.label})")
        for line in preview.lines:
            click.echo(f"  {line}".rstrip(), err=preview.failed)
    return failed


def _sync_sheets(job: sync.Job, customer_id: str | None, progress: _Progress) -> bool:
    failed = False
    for result in sync.sync_all(job, customer_id=customer_id):
        progress.clear()
        failed |= result.status == "failed"
        click.echo(sync.result_line(result), err=result.status == "failed")
        for line in sync.error_lines(result):
            click.echo(line, err=True)
    return failed


class _Progress:
    """One line on a terminal that says what is being done, written over and wiped at the end."""

    def __init__(self) -> None:
        self.shown = 0

    def say(self, text: str) -> None:
        """Show it."""
        text = text[:100]
        click.echo("\r" + text.ljust(self.shown), nl=False, err=True)
        self.shown = len(text)

    def clear(self) -> None:
        """Wipe it."""
        if self.shown:
            click.echo("\r" + " " * self.shown + "\r", nl=False, err=True)
            self.shown = 0


@command("copy-to")
@click.argument("url", metavar="URL")
@on_current_schema
def copy_to(url: str) -> None:
    """Copy everything from the SQLite file to an empty, initialised PostgreSQL database, and prove it there. Stop the server first."""
    try:
        target = postgresql_url(url)
    except ValueError as error:
        raise click.ClickException(f"URL {error}.") from None
    if target is None:
        raise click.ClickException("URL must begin with postgresql://.")
    copied = database.copy_to(target)
    database.connect(target)
    try:
        proof = reports.verify()
    finally:
        database.disconnect()
        database.connect(settings().database)
    if proof.findings:
        raise click.ClickException(f"Copied, but {len(proof.findings)} contradictions were found there; the first: {proof.findings[0]}")
    click.echo(f"Copied {sum(copied.values()):,} rows of {len(copied)} tables; every balance of {proof.budgets} budgets is proven there.")


def _state(ended_at: object, word: str) -> str:
    return word if ended_at else "active"


def _require_known(customer_id: str | None) -> None:
    """Raises Refusal INVALID_CUSTOMER for a mistyped customer, whose list would look empty."""
    if customer_id is not None:
        people.get_customer(customer_id)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]], empty: str) -> None:
    """Print rows under a header in columns, or a sentence where there are none."""
    if not rows:
        click.echo(empty)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


COMMANDS = (
    init_db,
    upgrade_db,
    load_demo,
    serve,
    add_customer,
    disable_customer,
    list_customers,
    add_user,
    set_password,
    disable_user,
    enable_user,
    list_users,
    add_key,
    list_keys,
    revoke_key,
    set_budget,
    add_source,
    list_sources,
    remove_source,
    sync_sheets,
    prune_checks,
    show_stats,
    verify,
    copy_to,
)


def init_app(app: Flask) -> None:
    """Register the commands."""
    for command in COMMANDS:
        app.cli.add_command(command)
