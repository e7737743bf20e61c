"""The commands: their output, exit status and effect; an error is one line on standard error."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.damage import insert_vast_budgets, yen_with_decimals
from support.installation import Installation
from support.machine import ENGINE, PROJECT, sqlite_only
from support.sources import add_file
from support.world import PASSWORD, ROOT, sign_in

import cli
from app import create_app
from budget_sync import database, ledger, settings
from budget_sync.accounts import authentication, customers, people
from budget_sync.database import db
from budget_sync.database.models import (
    ApiKey,
    AuditLog,
    Budget,
    BudgetCheckLog,
    BudgetDataSourceConfig,
    BudgetUtilization,
    Customer,
    SyncHistory,
    User,
)
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import PEOPLE_ROLES
from budget_sync.domain.request_models import CheckRequest, ReserveRequest
from budget_sync.ledger import retention, verification
from budget_sync.operations import demo
from budget_sync.settings import Settings

NOW = datetime(2025, 2, 5, 10, 30, tzinfo=UTC)


@dataclass
class Shell:
    """Runs commands of one installation, in this process."""

    app: Flask

    def run(self, *arguments: str, typed: str = "") -> click.testing.Result:
        """Run `flask <arguments>`, with `typed` as standard input."""
        with self.app.app_context():
            return self.app.test_cli_runner().invoke(args=arguments, input=typed, prog_name="flask")

    def succeed(self, *arguments: str, typed: str = "") -> str:
        """Run a command that must succeed without a warning; returns its output."""
        result = self.run(*arguments, typed=typed)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def fail(self, *arguments: str, typed: str = "") -> str:
        """Run a command that must fail; returns its error.

        Asserts one line on standard error, no output, and no change of the database.
        """
        before = contents()
        result = self.run(*arguments, typed=typed)
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        assert result.exit_code != 0
        assert result.stdout == ""
        assert contents() == before
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.endswith("\n")
        return result.stderr.removeprefix("Error: ").removesuffix("\n")


def contents() -> dict[str, list[Any]]:
    """All rows of the connected database; empty without a database."""
    if ENGINE == "sqlite" and not db.file_path.exists():
        return {}
    database.open_connection()
    return {
        table: sorted(db.execute_sql(f'SELECT * FROM "{table}"').fetchall(), key=repr)
        for table in db.get_tables()
    }


@pytest.fixture
def shell(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The shell of an operator named Ada, for an installation with empty tables."""
    monkeypatch.setenv("LOGNAME", "ada")
    return Shell(app)


@pytest.fixture
def acme(shell: Shell) -> Shell:
    """The same, with a customer, a user without a password, and a budget."""
    customers.add_customer(ROOT, "acme", "Acme Inc.")
    people.add_user(
        ROOT,
        "jane",
        "Jane Doe",
        "jane@acme.com",
        "business_user",
        customer_id="acme",
        password=None,
        slots_folder=Path(),
    )
    shell.succeed(
        "set-budget",
        "--customer",
        "acme",
        "--department",
        "Engineering",
        "--period",
        "Q1 2025",
        "--amount",
        "100000",
        "--id",
        "budget-1",
    )
    return shell


def table(text: str) -> list[list[str]]:
    """The cells of a printed table, its header first."""
    return [re.split(r" {2,}", line) for line in text.splitlines()]


# All commands.

# Valid arguments of each command.
TYPED: dict[str, tuple[str, ...]] = {
    "init-db": (),
    "upgrade-db": (),
    "demo": (),
    "serve": ("--port", "8099"),
    "add-customer": ("acme", "--name", "Acme"),
    "set-customer": ("acme", "--name", "Acme"),
    "disable-customer": ("acme",),
    "enable-customer": ("acme",),
    "reset-customer": ("acme", "--yes"),
    "add-source": ("--customer", "acme", "--csv", "plan.csv"),
    "preview-source": ("--customer", "acme", "--csv", "plan.csv"),
    "reread-source": ("src_1",),
    "show-reading": ("src_1",),
    "answer-hold": ("src_1", "--accept-amounts"),
    "sheet-template": (),
    "list-sources": (),
    "remove-source": ("src_1",),
    "sync-sheets": (),
    "copy-to": ("postgresql://127.0.0.1:1/budgets",),
    "list-customers": (),
    "add-user": (
        "--customer",
        "acme",
        "--id",
        "jane",
        "--name",
        "Jane Doe",
        "--email",
        "jane@acme.com",
        "--role",
        "manager",
    ),
    "set-user": ("jane", "--role", "manager"),
    "set-password": ("jane",),
    "disable-user": ("jane",),
    "enable-user": ("jane",),
    "list-users": (),
    "add-key": ("--customer", "acme", "--name", "orchestrator"),
    "list-keys": (),
    "revoke-key": ("ab12",),
    "rotate-key": ("orchestrator", "--customer", "acme"),
    "link-user": ("jane", "--provider", "Acme", "--subject", "jane"),
    "identity-check": ("-",),
    "set-budget": (
        "--customer",
        "acme",
        "--department",
        "Engineering",
        "--period",
        "Q1 2025",
        "--amount",
        "100000",
    ),
    "add-alias": ("--customer", "acme", "--name", "Eng", "--department", "Engineering"),
    "list-aliases": (),
    "remove-alias": ("--customer", "acme", "--name", "Eng"),
    "add-alert": ("--customer", "acme", "--to", "json://example.com", "--on", "overdrawn"),
    "list-alerts": (),
    "test-alert": ("al_1",),
    "remove-alert": ("al_1",),
    "add-webhook": ("--customer", "acme", "--url", "https://example.com/events"),
    "list-webhooks": (),
    "rotate-webhook": ("whk_1",),
    "test-webhook": ("whk_1",),
    "resume-webhook": ("whk_1",),
    "remove-webhook": ("whk_1",),
    "deliver": ("--once",),
    "load-test": ("--url", "http://127.0.0.1:1", "--key-file", "key"),
    "import-spend": ("cards.csv", "--customer", "acme"),
    "expire-holds": (),
    "prune-checks": ("--older-than", "365"),
    "prune-history": ("--older-than", "365"),
    "stats": (),
    "remove-budget": ("budget-1",),
    "restore-budget": ("budget-1",),
    "list-budgets": (),
    "verify": (),
    "doctor": (),
    "backup": ("/tmp/of-no-database.db",),  # noqa: S108  # never written
    "restore": ("/tmp/no-backup.db",),  # noqa: S108  # the same
}

# These commands create a database, or report problems of a missing one.
WITHOUT_DATABASE = {"init-db", "restore", "doctor", "sheet-template", "load-test"}


def test_all_commands_are_tested_here() -> None:
    assert set(TYPED) == {command.name for command in cli.COMMANDS}


@pytest.mark.parametrize("name", TYPED)
def test_help_describes_command_and_every_option(shell: Shell, name: str) -> None:
    command = shell.app.cli.commands[name]
    printed = shell.succeed(name, "--help")
    assert printed.startswith(f"Usage: flask {name}")
    assert command.help
    assert " ".join(command.help.split()) in " ".join(printed.split())
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.opts[0] in printed
        else:
            assert option.make_metavar(click.Context(command)) in (
                "ID",
                "URL",
                "PATH",
                "SOURCE",
                "NAME",
                "FILE",
                "[TOKEN|-]",
            )


def test_list_of_commands_describes_each(shell: Shell) -> None:
    printed = shell.succeed("--help")
    assert all(re.search(rf"^  {name} +\w", printed, re.MULTILINE) for name in TYPED)


@pytest.mark.parametrize("name", sorted(set(TYPED) - WITHOUT_DATABASE))
def test_missing_database_is_reported_and_not_created(chosen: Settings, name: str) -> None:
    chosen.instance_folder.mkdir(parents=True)
    shell = Shell(create_app(chosen))
    said = shell.fail(name, *TYPED[name], typed="correct horse battery\n" * 2)
    if ENGINE == "sqlite":
        assert (
            said
            == f"There is no database at {chosen.database_path}. Create it with `flask init-db`."
        )
        assert not chosen.database_path.exists()
    else:
        assert (
            said == f"The database {database.label()} has no tables yet. "
            "Create them with `flask init-db`."
        )
        assert contents() == {}


@sqlite_only
def test_empty_database_and_other_file_are_rejected(chosen: Settings) -> None:
    chosen.instance_folder.mkdir(parents=True)
    shell = Shell(create_app(chosen))
    chosen.database_path.touch()
    assert shell.fail("list-users").endswith("has no tables yet. Create them with `flask init-db`.")
    database.close_connection()
    chosen.database_path.write_text("Dear diary, " * 1000, encoding="utf-8")
    before = chosen.database_path.read_bytes()
    for name in ("list-users", "verify"):
        result = shell.run(name)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert (
            result.stderr == f"Error: The database {chosen.database_path} cannot be opened: "
            "file is not a database.\n"
        )
    assert chosen.database_path.read_bytes() == before
    database.close_connection()


@sqlite_only
def test_locked_database_is_reported_in_one_line(acme: Shell) -> None:
    blocker = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, db.file_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    )
    try:
        assert blocker.stdout is not None
        assert blocker.stdout.readline() == b"held\n"
        result = acme.run("disable-user", "jane")
    finally:
        blocker.communicate(b"\n")
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert (result.exit_code, result.stdout) == (1, "")
    # Before the error, the log has the reason.
    assert re.match(
        r"Error: The database is .*\. Nothing was changed; ", result.stderr.splitlines()[-1]
    )
    assert acme.succeed("disable-user", "jane") == "Disabled user jane.\n"


HOLD_THE_LOCK = """
import sys
from peewee import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


USAGE_ERRORS = {
    "unknown option": ("list-users", "--everything"),
    "extra argument": ("verify", "now"),
    "customer without id": ("add-customer", "--name", "Acme"),
    "customer without name": ("add-customer", "new"),
    "fiscal year start 13": (
        "add-customer",
        "new",
        "--name",
        "New",
        "--fiscal-year-start",
        "13",
    ),
    "fiscal year start May": (
        "add-customer",
        "new",
        "--name",
        "New",
        "--fiscal-year-start",
        "May",
    ),
    "fiscal year named by its middle": ("set-customer", "acme", "--fiscal-year-named-by", "middle"),
    "limit not an amount": (
        "add-customer",
        "new",
        "--name",
        "New",
        "--auto-approve-limit",
        "much",
    ),
    "no setting of a customer": ("set-customer", "acme"),
    "customer with and without limit": (
        "set-customer",
        "acme",
        "--auto-approve-limit",
        "5",
        "--no-auto-approve-limit",
    ),
    "no field of a user": ("set-user", "jane"),
    "unknown role of a user": ("set-user", "jane", "--role", "boss"),
    "user without id": (
        "add-user",
        "--customer",
        "acme",
        "--name",
        "New",
        "--email",
        "new@acme.com",
        "--role",
        "admin",
    ),
    "user without name": (
        "add-user",
        "--customer",
        "acme",
        "--id",
        "new",
        "--email",
        "new@acme.com",
        "--role",
        "admin",
    ),
    "user without email": (
        "add-user",
        "--customer",
        "acme",
        "--id",
        "new",
        "--name",
        "New",
        "--role",
        "admin",
    ),
    "user without role": (
        "add-user",
        "--customer",
        "acme",
        "--id",
        "new",
        "--name",
        "New",
        "--email",
        "new@acme.com",
    ),
    "unknown role": (
        "add-user",
        "--customer",
        "acme",
        "--id",
        "new",
        "--name",
        "New",
        "--email",
        "new@acme.com",
        "--role",
        "root",
    ),
    "role of services": (
        "add-user",
        "--customer",
        "acme",
        "--id",
        "new",
        "--name",
        "New",
        "--email",
        "new@acme.com",
        "--role",
        "api_system",
    ),
    "user without customer": (
        "add-user",
        "--id",
        "new",
        "--name",
        "New",
        "--email",
        "new@acme.com",
        "--role",
        "admin",
    ),
    "user of one and all customers": (
        *(
            "add-user",
            "--customer",
            "acme",
            "--all-customers",
            "--id",
            "new",
            "--name",
            "New",
            "--email",
            "new@acme.com",
            "--role",
            "super_admin",
        ),
    ),
    "set-password without id": ("set-password",),
    "disable-user without id": ("disable-user",),
    "key without customer": ("add-key", "--name", "orchestrator"),
    "key of one and all customers": (
        "add-key",
        "--customer",
        "acme",
        "--all-customers",
        "--name",
        "orchestrator",
    ),
    "key without name": ("add-key", "--customer", "acme"),
    "revoke-key without id": ("revoke-key",),
    "budget without amount": (
        "set-budget",
        "--customer",
        "acme",
        "--department",
        "Legal",
        "--period",
        "Q1 2025",
    ),
    "budget without period": (
        "set-budget",
        "--customer",
        "acme",
        "--department",
        "Legal",
        "--amount",
        "1",
    ),
    "amount with a dollar sign": (
        "set-budget",
        "--customer",
        "acme",
        "--department",
        "Legal",
        "--period",
        "Q1 2025",
        "--amount",
        "$5,000",
    ),
    "prune-checks without age": ("prune-checks",),
    "prune-history without age": ("prune-history",),
    "age 0": ("prune-checks", "--older-than", "0"),
    "negative age": ("prune-checks", "--older-than", "-1"),
    "age not a number": ("prune-checks", "--older-than", "year"),
    "age too large": ("prune-checks", "--older-than", "99999999"),
    "port 0": ("serve", "--port", "0"),
    "port 65536": ("serve", "--port", "65536"),
    "no workers": ("serve", "--workers", "0"),
}


@pytest.mark.parametrize("arguments", USAGE_ERRORS.values(), ids=USAGE_ERRORS)
def test_usage_error_is_one_line(acme: Shell, arguments: tuple[str, ...]) -> None:
    acme.fail(*arguments)


def user(**changes: str) -> tuple[str, ...]:
    """Arguments that add a user, with changes."""
    chosen = {
        "customer": "acme",
        "id": "new",
        "name": "New",
        "email": "new@acme.com",
        "role": "admin",
    } | changes
    return (
        "add-user",
        *(word for option, value in chosen.items() for word in (f"--{option}", value)),
    )


def budget(**changes: str) -> tuple[str, ...]:
    """Arguments that set a budget, with changes; an underscore becomes a hyphen."""
    chosen = {
        "customer": "acme",
        "department": "Legal",
        "period": "Q1 2025",
        "amount": "1000",
    } | changes
    return (
        "set-budget",
        *(
            word
            for option, value in chosen.items()
            for word in (f"--{option.replace('_', '-')}", value)
        ),
    )


NAMES = "must be 1 to 200 printable characters"
IDS = "must be 1 to 100 letters, digits, dots, hyphens, underscores or @"

INVALID_VALUES = {
    "taken customer id": (
        ("add-customer", "acme", "--name", "Acme"),
        "id 'acme' is taken",
    ),
    "blank customer id": (("add-customer", " ", "--name", "New"), f"id {IDS}"),
    "customer id with space": (("add-customer", "new one", "--name", "New"), f"id {IDS}"),
    "customer id with slashes": (("add-customer", "../new", "--name", "New"), f"id {IDS}"),
    "customer id too long": (
        ("add-customer", "n" * 101, "--name", "New"),
        f"id {IDS}",
    ),
    "blank customer name": (("add-customer", "new", "--name", " "), f"name {NAMES}"),
    "customer name of two lines": (
        ("add-customer", "new", "--name", "New\nError: none"),
        f"name {NAMES}",
    ),
    "customer name too long": (("add-customer", "new", "--name", "n" * 201), f"name {NAMES}"),
    "unknown currency": (
        ("add-customer", "new", "--name", "New", "--currency", "XQX"),
        "'XQX' is not a currency code such as USD or EUR",
    ),
    "lower-case currency": (
        ("add-customer", "new", "--name", "New", "--currency", "usd"),
        "'usd' is not a currency code such as USD or EUR",
    ),
    "empty currency": (
        ("add-customer", "new", "--name", "New", "--currency", ""),
        "'' is not a currency code such as USD or EUR",
    ),
    "unknown time zone": (
        ("add-customer", "new", "--name", "New", "--time-zone", "Mars/Olympus"),
        "'Mars/Olympus' is not a time zone such as Europe/Berlin",
    ),
    "time zone with slashes": (
        ("add-customer", "new", "--name", "New", "--time-zone", "../../etc/passwd"),
        "is not a time zone such as Europe/Berlin",
    ),
    "time zone folder": (
        ("add-customer", "new", "--name", "New", "--time-zone", "Europe"),
        "is not a time zone such as Europe/Berlin",
    ),
    "empty time zone": (
        ("add-customer", "new", "--name", "New", "--time-zone", ""),
        "is not a time zone such as Europe/Berlin",
    ),
    "negative limit": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "-1"),
        "--auto-approve-limit: must not be negative",
    ),
    "limit NaN": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "NaN"),
        "--auto-approve-limit: must be a finite number",
    ),
    "infinite limit": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "inf"),
        "--auto-approve-limit: must be a finite number",
    ),
    "limit of half a cent": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "0.005"),
        "must have at most 2 decimals in its currency",
    ),
    "limit too large": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "1e13"),
        "must be below 10,000,000,000,000",
    ),
    "disable unknown customer": (
        ("disable-customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "enable unknown customer": (
        ("enable-customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "set unknown customer": (
        ("set-customer", "nobody", "--name", "New"),
        "There is no customer 'nobody'.",
    ),
    "set blank customer name": (("set-customer", "acme", "--name", " "), f"name {NAMES}"),
    "set unknown time zone": (
        ("set-customer", "acme", "--time-zone", "Mars/Olympus"),
        "'Mars/Olympus' is not a time zone such as Europe/Berlin",
    ),
    "set limit of half a cent": (
        ("set-customer", "acme", "--auto-approve-limit", "0.005"),
        "autoApproveLimit must have at most 2 decimals in its currency",
    ),
    "set negative limit": (
        ("set-customer", "acme", "--auto-approve-limit", "-1"),
        "autoApproveLimit must not be negative",
    ),
    "set unknown user": (("set-user", "nobody", "--name", "New"), "There is no user 'nobody'."),
    "set empty user name": (("set-user", "jane", "--name", ""), f"name {NAMES}"),
    "set invalid email": (
        ("set-user", "jane", "--email", "new@"),
        "email 'new@' is not an email address",
    ),
    "user of unknown customer": (user(customer="nobody"), "There is no customer 'nobody'."),
    "taken user id": (user(id="jane"), "id or email is taken"),
    "taken email": (user(email="jane@acme.com"), "id or email is taken"),
    "taken email in other case": (
        user(email="JANE@Acme.com"),
        "id or email is taken",
    ),
    "user id with space": (user(id="jane doe"), f"id {IDS}"),
    "empty user name": (user(name=""), f"name {NAMES}"),
    "email without host": (user(email="new@"), "email 'new@' is not an email address"),
    "email without @": (
        user(email="new.acme.com"),
        "email 'new.acme.com' is not an email address",
    ),
    "email with two @": (user(email="a@b@c"), "email 'a@b@c' is not an email address"),
    "email with space": (
        user(email="new one@acme.com"),
        "email 'new one@acme.com' is not an email address",
    ),
    "email too long": (user(email="n" * 246 + "@acme.com"), "is not an email address"),
    "admin for all customers": (
        (
            "add-user",
            "--all-customers",
            "--id",
            "new",
            "--name",
            "New",
            "--email",
            "new@acme.com",
            "--role",
            "admin",
        ),
        "customer is required: only a super_admin can be for all customers",
    ),
    "password of unknown user": (
        ("set-password", "nobody", "--password-stdin"),
        "There is no user 'nobody'.",
    ),
    "disable unknown user": (("disable-user", "nobody"), "There is no user 'nobody'."),
    "enable unknown user": (("enable-user", "nobody"), "There is no user 'nobody'."),
    "key of unknown customer": (
        ("add-key", "--customer", "nobody", "--name", "orchestrator"),
        "There is no customer 'nobody'.",
    ),
    "blank key name": (("add-key", "--customer", "acme", "--name", " "), f"name {NAMES}"),
    "revoke unknown key": (
        ("revoke-key", "ab12"),
        "There is no key 'ab12'; see list-keys.",
    ),
    "budget of unknown customer": (
        budget(customer="nobody"),
        "There is no customer 'nobody'.",
    ),
    "blank department": (
        budget(department=" "),
        "department must be 1 to 200 printable characters",
    ),
    "empty period": (budget(period=""), "period must be 1 to 100 printable characters"),
    "negative amount": (budget(amount="-5"), "amount must not be negative"),
    "amount NaN": (budget(amount="nan"), "amount must be a finite number"),
    "infinite amount": (budget(amount="Infinity"), "amount must be a finite number"),
    "amount of half a cent": (
        budget(amount="0.005"),
        "amount must have at most 2 decimals in its currency",
    ),
    "amount too large": (
        budget(amount="10000000000000"),
        "amount must be below 10,000,000,000,000",
    ),
    "amount with huge exponent": (
        budget(amount="1e999999"),
        "amount must be below 10,000,000,000,000",
    ),
    "half a yen": (
        budget(currency="JPY", amount="0.5"),
        "amount must be a whole number in its currency",
    ),
    "budget in unknown currency": (
        budget(currency="XQX"),
        "currency 'XQX' is not a currency code such as USD or EUR",
    ),
    "negative limit of a budget": (
        budget(auto_approve_limit="-1"),
        "autoApproveLimit must not be negative",
    ),
    "blank reason": (budget(reason=" "), "reason must be 1 to 500 printable characters"),
    "taken budget id": (budget(id="budget-1"), "id 'budget-1' is taken"),
    "budget id too long": (budget(id="b" * 101), f"id {IDS}"),
    "budget id with slash": (budget(id="a/b"), f"id {IDS}"),
    "budget id with space": (budget(id=" x"), f"id {IDS}"),
    "empty budget id": (budget(id=""), f"id {IDS}"),
    "list keys of unknown customer": (
        ("list-keys", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "list users of unknown customer": (
        ("list-users", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "list sources of unknown customer": (
        ("list-sources", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "stats of unknown customer": (
        ("stats", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "change of budget id": (
        budget(department="Engineering", id="budget-2"),
        "id does not fit: the budget of that department and period is budget-1",
    ),
    "change of budget currency": (
        budget(department="Engineering", currency="EUR"),
        "currency cannot change: the budget is in USD",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), INVALID_VALUES.values(), ids=INVALID_VALUES)
def test_invalid_value_is_reported_in_one_line(
    acme: Shell, arguments: tuple[str, ...], message: str
) -> None:
    assert message in acme.fail(*arguments, typed=f"{PASSWORD}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("disable-user", "\udcff"),
        ("list-users", "--customer", "\udcff"),
        ("stats", "--customer", "\udcff"),
        ("revoke-key", "\udcff"),
        ("add-key", "--customer", "\udcff", "--name", "orchestrator"),
        ("add-customer", "new", "--name", "\udcff"),
        user(email="\udcff@acme.com"),
        budget(department="\udcff"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_argument_that_is_not_utf8_is_rejected(acme: Shell, arguments: tuple[str, ...]) -> None:
    acme.fail(*arguments)


def test_all_errors_of_a_command_are_reported_together(acme: Shell) -> None:
    error = acme.fail(*user(id="a b", name="", email="new"))
    assert all(field in error for field in ("id must", "name must", "email 'new'"))


# Customers.


def test_customer_gets_the_given_options(shell: Shell) -> None:
    line = (
        "--currency",
        "JPY",
        "--auto-approve-limit",
        "10,000",
        "--time-zone",
        "Asia/Tokyo",
        "--fiscal-year-start",
        "4",
    )
    assert (
        shell.succeed("add-customer", "tokyo", "--name", "東京商事", *line)
        == "Added customer tokyo.\n"
    )
    customer = Customer.get_by_id("tokyo")
    assert (
        customer.name,
        customer.currency,
        customer.currencyExponent,
        customer.autoApproveLimitMinor,
    ) == ("東京商事", "JPY", 0, 10_000)
    assert (customer.timeZone, customer.fiscalYearStartMonth, customer.disabledAt) == (
        "Asia/Tokyo",
        4,
        None,
    )


def test_customer_gets_defaults_without_options(shell: Shell) -> None:
    shell.succeed("add-customer", "acme", "--name", "Acme Inc.")
    customer = Customer.get_by_id("acme")
    assert (customer.currency, customer.currencyExponent, customer.autoApproveLimitMinor) == (
        "USD",
        2,
        None,
    )
    assert (customer.timeZone, customer.fiscalYearStartMonth) == ("UTC", 1)


def test_disabling_a_customer_ends_its_keys_and_sessions(acme: Shell) -> None:
    key = acme.succeed("add-key", "--customer", "acme", "--name", "orchestrator").strip()
    assert authentication.actor_of_key(key)
    assert acme.succeed("disable-customer", "acme") == (
        "Disabled customer acme. "
        "This ended the access of 1 user, 0 sessions, 1 API key and 0 sources.\n"
    )
    assert authentication.actor_of_key(key) is None
    assert table(acme.succeed("list-customers"))[1] == [
        "acme",
        "Acme Inc.",
        "USD",
        "UTC",
        "from month 1, named by its end",
        "10%, at most the auto-approve limit",
        "never",
        "disabled",
    ]


def test_disabling_a_customer_twice_changes_nothing(acme: Shell) -> None:
    acme.succeed("disable-customer", "acme")
    before = contents()
    assert acme.succeed("disable-customer", "acme") == "Customer acme is disabled already.\n"
    assert contents() == before


def test_enabled_customer_works_again_but_sessions_stay_ended(acme: Shell) -> None:
    key = acme.succeed("add-key", "--customer", "acme", "--name", "orchestrator").strip()
    acme.succeed("set-password", "jane", "--password-stdin", typed=f"{PASSWORD}\n")
    session = sign_in(acme.app, "jane@acme.com")
    assert acme.succeed("disable-customer", "acme", "--yes") == (
        "Disabled customer acme. "
        "This ended the access of 1 user, 1 session, 1 API key and 0 sources.\n"
    )
    assert acme.succeed("enable-customer", "acme") == "Enabled customer acme.\n"
    assert authentication.actor_of_key(key)
    assert me_of(session) == 401
    sign_in(acme.app, "jane@acme.com")
    before = contents()
    acme.succeed("enable-customer", "acme")
    assert contents() == before


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_disabling_a_customer_is_confirmed_on_a_terminal(
    acme: Shell, environment: dict[str, str], tmp_path: Path, answer: str, status: int
) -> None:
    terminal, theirs = pty.openpty()
    with (
        open(terminal, "r+b", buffering=0) as shown,
        open(theirs, "r+b", buffering=0) as both,
        (tmp_path / "output").open("w+") as output,
    ):
        shown.write(f"{answer}\n".encode())
        run = Installation(environment).begin(("disable-customer", "acme"), [both, output, both])
        assert run.wait(timeout=60) == status
        asked = shown.read(1000).decode()
        output.seek(0)
        assert ("Disabled customer acme." in output.read()) == (answer == "y")
    assert "access of 1 user, 0 sessions, 0 API keys and 0 sources. [y/N]" in asked
    database.open_connection()
    assert (Customer.get_by_id("acme").disabledAt is not None) == (answer == "y")


def test_customer_settings_change_at_once_and_are_audited(acme: Shell) -> None:
    options = ("--auto-approve-limit", "1,000.50", "--time-zone", "Asia/Tokyo")
    assert acme.succeed("set-customer", "acme", "--name", "Acme Corp.", *options) == (
        "Changed customer acme: name, timeZone, autoApproveLimit.\n"
    )
    acme.succeed("set-customer", "acme", "--fiscal-year-start", "4")
    assert acme.succeed("set-customer", "acme", "--fiscal-year-named-by", "start") == (
        "Changed customer acme: fiscalYearNamedBy.\n"
    )
    customer = Customer.get_by_id("acme")
    assert (customer.name, customer.autoApproveLimitMinor) == ("Acme Corp.", 100_050)
    assert (customer.timeZone, customer.fiscalYearStartMonth) == ("Asia/Tokyo", 4)
    acme.succeed("set-customer", "acme", "--no-auto-approve-limit")
    assert Customer.get_by_id("acme").autoApproveLimitMinor is None
    rows = AuditLog.select().where(AuditLog.action == "SET_CUSTOMER").order_by(AuditLog.id)
    assert [(row.field, row.oldValue, row.newValue) for row in rows] == [
        ("name", "Acme Inc.", "Acme Corp."),
        ("timeZone", "UTC", "Asia/Tokyo"),
        ("autoApproveLimit", None, "1000.5"),
        ("fiscalYearStartMonth", "1", "4"),
        ("fiscalYearNamedBy", "end", "start"),
        ("autoApproveLimit", "1000.5", None),
    ]
    assert {(row.customerId, row.subject, row.changedBy) for row in rows} == {
        ("acme", "acme", "ada (command line)")
    }


def test_setting_equal_values_changes_nothing(acme: Shell) -> None:
    before = contents()
    for line, what in (
        (("set-customer", "acme", "--name", "Acme Inc."), "customer acme"),
        (("set-customer", "acme", "--no-auto-approve-limit"), "customer acme"),
        (("set-user", "jane", "--role", "business_user", "--name", "Jane Doe"), "user jane"),
    ):
        assert acme.succeed(*line) == f"Nothing to change: {what} has these values already.\n"
    assert contents() == before


def test_customers_are_listed_in_columns(shell: Shell) -> None:
    assert (
        shell.succeed("list-customers")
        == "There are no customers yet. Create one with `flask add-customer`.\n"
    )
    shell.succeed(
        "add-customer",
        "globex",
        "--name",
        "Globex Corporation",
        "--currency",
        "EUR",
        "--time-zone",
        "Europe/Berlin",
        *("--fiscal-year-start", "4", "--fiscal-year-named-by", "start"),
    )
    shell.succeed("add-customer", "acme", "--name", "Acme")
    shell.succeed("set-customer", "acme", *TOLERANCE, "--hold-days", "30")
    shell.succeed("set-customer", "globex", "--hold-days", "1")
    assert table(shell.succeed("list-customers")) == [
        [
            *("id", "name", "currency", "time zone", "fiscal year", "invoice tolerance"),
            *("reservations expire", "state"),
        ],
        [
            *("acme", "Acme", "USD", "UTC", "from month 1, named by its end"),
            *("7.5%, at most $500", "after 30 days", "active"),
        ],
        [
            *("globex", "Globex Corporation", "EUR", "Europe/Berlin"),
            *("from month 4, named by its start", "10%, at most the auto-approve limit"),
            *("after 1 day", "active"),
        ],
    ]


TOLERANCE = ("--invoice-tolerance", "7.5%", "--invoice-tolerance-amount", "500")


def test_rules_for_reservations_are_set_removed_and_audited(acme: Shell) -> None:
    assert acme.succeed("set-customer", "acme", *TOLERANCE) == (
        "Changed customer acme: invoiceTolerance, invoiceToleranceAmount.\n"
    )
    for text in ("10", "10%", "10.00 %"):
        acme.succeed("set-customer", "acme", "--invoice-tolerance", text)
    acme.succeed("set-customer", "acme", "--no-invoice-tolerance-amount")
    acme.succeed("set-customer", "acme", "--hold-days", "30")
    acme.succeed("set-customer", "acme", "--no-hold-days")
    rows = AuditLog.select().where(AuditLog.action == "SET_CUSTOMER").order_by(AuditLog.id)
    assert [(row.field, row.oldValue, row.newValue) for row in rows] == [
        ("invoiceTolerance", "10%", "7.5%"),
        ("invoiceToleranceAmount", None, "500"),
        ("invoiceTolerance", "7.5%", "10%"),
        ("invoiceToleranceAmount", "500", None),
        ("holdDays", None, "30"),
        ("holdDays", "30", None),
    ]
    acme.succeed("add-customer", "globex", "--name", "Globex", *TOLERANCE, "--hold-days", "7")
    globex = Customer.get_by_id("globex")
    assert (globex.invoiceToleranceBasisPoints, globex.invoiceToleranceMinor) == (750, 50_000)
    assert globex.holdDays == 7


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--invoice-tolerance", "101%"), "invoiceTolerance must be a percentage from 0 to 100"),
        (("--invoice-tolerance", "-1"), "invoiceTolerance must be a percentage"),
        (("--invoice-tolerance", "1.005"), "with at most 2 decimals"),
        (("--invoice-tolerance", "7,5%"), "invoiceTolerance must be a percentage"),
        (("--invoice-tolerance", ""), "invoiceTolerance must be a percentage"),
        (("--invoice-tolerance-amount", "0.005"), "invoiceToleranceAmount must have at most 2"),
        (("--hold-days", "0"), "holdDays must be a whole number of days from 1 to 3650"),
        (("--hold-days", "3651"), "holdDays must be a whole number of days from 1 to 3650"),
        (("--hold-days", "1", "--no-hold-days"), "Give either --hold-days or --no-hold-days."),
        (
            ("--invoice-tolerance-amount", "1", "--no-invoice-tolerance-amount"),
            "Give either --invoice-tolerance-amount or --no-invoice-tolerance-amount.",
        ),
    ],
)
def test_wrong_rule_for_reservations_changes_nothing(
    acme: Shell, options: tuple[str, ...], problem: str
) -> None:
    assert problem in acme.fail("set-customer", "acme", *options)


# Users.


@pytest.mark.parametrize("role", [str(role) for role in PEOPLE_ROLES])
def test_user_of_every_role_can_be_created(acme: Shell, role: str) -> None:
    assert (
        acme.succeed(*user(role=role))
        == "Added user new. Set a password with `flask set-password new`.\n"
    )
    row = User.get_by_id("new")
    assert (row.customerId, row.role, row.email, row.passwordHash) == (
        "acme",
        role,
        "new@acme.com",
        None,
    )


def test_super_admin_can_be_for_all_customers(shell: Shell) -> None:
    shell.succeed(
        "add-user",
        "--all-customers",
        "--id",
        "root",
        "--name",
        "Root",
        "--email",
        "root@example.com",
        "--role",
        "super_admin",
    )
    assert User.get_by_id("root").customerId is None
    assert table(shell.succeed("list-users"))[1][:2] == ["root", "(all)"]


def test_password_from_standard_input_signs_in(acme: Shell) -> None:
    assert acme.succeed(*user(), "--password-stdin", typed=f"{PASSWORD}\n") == "Added user new.\n"
    assert sign_in(acme.app, "new@acme.com").get("/api/auth/me").status_code == 200


@pytest.mark.parametrize(
    ("password", "ending"),
    [
        ("with a space at the end ", "\n"),
        ("from another system", "\r\n"),
        ("without a line end", ""),
    ],
)
def test_password_is_read_up_to_the_line_end(acme: Shell, password: str, ending: str) -> None:
    acme.succeed("set-password", "jane", "--password-stdin", typed=password + ending)
    sign_in(acme.app, "jane@acme.com", password)


@pytest.mark.parametrize("password", ["", "\n", "short\n", "11 letters.\n", "n" * 201 + "\n"])
@pytest.mark.parametrize("line", [user(), ("set-password", "jane")], ids=lambda line: line[0])
def test_too_short_or_too_long_password_is_rejected(
    acme: Shell, line: tuple[str, ...], password: str
) -> None:
    assert "password must have 12 to 200 characters" in acme.fail(
        *line, "--password-stdin", typed=password
    )


def test_new_password_is_prompted_twice_and_not_shown(acme: Shell) -> None:
    output = acme.succeed("set-password", "jane", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert output.split("\n")[-2] == "Set the password of jane."
    assert "New password:" in output
    assert PASSWORD not in output
    sign_in(acme.app, "jane@acme.com")


def test_two_different_passwords_change_nothing(acme: Shell) -> None:
    before = contents()
    result = acme.run("set-password", "jane", typed=f"{PASSWORD}\nanother horse battery\n")
    assert result.exit_code == 1
    assert contents() == before


def me_of(client: FlaskClient) -> int:
    return client.get("/api/auth/me").status_code


def test_new_password_ends_the_old_one_and_all_sessions(acme: Shell) -> None:
    acme.succeed("set-password", "jane", "--password-stdin", typed=f"{PASSWORD}\n")
    session = sign_in(acme.app, "jane@acme.com")
    acme.succeed("set-password", "jane", "--password-stdin", typed="another horse battery\n")
    assert me_of(session) == 401
    sign_in(acme.app, "jane@acme.com", "another horse battery")
    old = acme.app.test_client().post(
        "/api/auth/login", json={"email": "jane@acme.com", "password": PASSWORD}
    )
    assert old.status_code == 401


def test_disabled_user_cannot_sign_in_until_enabled(acme: Shell) -> None:
    acme.succeed("set-password", "jane", "--password-stdin", typed=f"{PASSWORD}\n")
    session = sign_in(acme.app, "jane@acme.com")
    assert acme.succeed("disable-user", "jane") == "Disabled user jane.\n"
    assert me_of(session) == 401
    assert (
        acme.app.test_client()
        .post("/api/auth/login", json={"email": "jane@acme.com", "password": PASSWORD})
        .status_code
        == 401
    )
    assert acme.succeed("enable-user", "jane") == "Enabled user jane.\n"
    assert me_of(session) == 401
    sign_in(acme.app, "jane@acme.com")


@pytest.mark.parametrize("name", ["disable-user", "enable-user"])
def test_disabling_or_enabling_twice_changes_nothing(acme: Shell, name: str) -> None:
    acme.succeed(name, "jane")
    before = contents()
    acme.succeed(name, "jane")
    assert contents() == before


def test_user_changes_are_effective_at_once_and_audited(acme: Shell) -> None:
    acme.succeed("set-password", "jane", "--password-stdin", typed=f"{PASSWORD}\n")
    line = ("--name", "Jane Roe", "--email", "roe@acme.com", "--role", "fpa_admin")
    assert acme.succeed("set-user", "jane", *line) == "Changed user jane: name, email, role.\n"
    me = sign_in(acme.app, "roe@acme.com").get("/api/auth/me").get_json()["user"]
    assert (me["name"], me["email"], me["role"]) == ("Jane Roe", "roe@acme.com", "fpa_admin")
    rows = AuditLog.select().where(AuditLog.action == "SET_USER").order_by(AuditLog.id)
    assert [(row.field, row.oldValue, row.newValue, row.subject) for row in rows] == [
        ("name", "Jane Doe", "Jane Roe", "jane"),
        ("email", "jane@acme.com", "roe@acme.com", "jane"),
        ("role", "business_user", "fpa_admin", "jane"),
    ]


def test_users_are_listed_in_columns(shell: Shell) -> None:
    assert (
        shell.succeed("list-users") == "There are no users yet. Create one with `flask add-user`.\n"
    )
    for customer in ("acme", "globex"):
        shell.succeed("add-customer", customer, "--name", customer.title())
    shell.succeed(
        *user(id="jane", name="Jane Doe", email="jane@acme.com", role="manager"),
        "--password-stdin",
        typed=f"{PASSWORD}\n",
    )
    shell.succeed(*user(id="bo", name="Bo", email="bo@globex.com", customer="globex"))
    with time_machine.travel(NOW, tick=False):
        sign_in(shell.app, "jane@acme.com")
    assert shell.succeed("list-users") == (
        "id    customer  name      email          role     last login            state\n"
        "jane  acme      Jane Doe  jane@acme.com  manager  2025-02-05T10:30:00Z  active\n"
        "bo    globex    Bo        bo@globex.com  admin    never                 no password\n"
    )
    assert [row[0] for row in table(shell.succeed("list-users", "--customer", "globex"))] == [
        "id",
        "bo",
    ]


def test_disabled_users_are_listed_as_disabled(acme: Shell) -> None:
    acme.succeed(*user(role="manager"), "--password-stdin", typed=f"{PASSWORD}\n")
    for name in ("jane", "new"):
        acme.succeed("disable-user", name)
    assert {row[0]: row[-1] for row in table(acme.succeed("list-users"))[1:]} == {
        "jane": "disabled",
        "new": "disabled",
    }


# Keys.


@pytest.mark.parametrize("overspend", [True, False])
@pytest.mark.parametrize("customer", ["acme", None])
def test_new_key_is_the_only_output_and_works(
    acme: Shell, customer: str | None, overspend: bool
) -> None:
    scope = ["--customer", customer] if customer else ["--all-customers"]
    printed = acme.succeed(
        "add-key", *scope, "--name", "orchestrator", *(["--may-overspend"] if overspend else [])
    )
    assert re.fullmatch(r"\S{40,}\n", printed)
    actor = authentication.actor_of_key(printed.strip())
    assert actor
    assert (actor.role, actor.customer_id, actor.name, actor.may_overspend) == (
        "api_system",
        customer,
        "orchestrator",
        overspend,
    )


def test_keys_are_listed_without_secrets_and_can_be_revoked(
    acme: Shell,
) -> None:
    assert (
        acme.succeed("list-keys") == "There are no API keys yet. Create one with `flask add-key`.\n"
    )
    with time_machine.travel(NOW, tick=False):
        key = acme.succeed(
            "add-key", "--customer", "acme", "--name", "orchestrator", "--may-overspend"
        ).strip()
    other = acme.succeed("add-key", "--all-customers", "--name", "reports").strip()
    _, key_id, secret = key.split("_", 2)
    printed = acme.succeed("list-keys")
    assert secret not in printed
    assert table(printed)[0] == [
        "id",
        "customer",
        "name",
        "scopes",
        "may overspend",
        "created",
        "expires",
        "last used",
        "state",
    ]
    assert table(printed)[1] == [
        key_id,
        "acme",
        "orchestrator",
        "all",
        "yes",
        "2025-02-05T10:30:00Z",
        "never",
        "never",
        "active",
    ]
    assert table(printed)[2][1:4] == ["(all)", "reports", "all"]
    assert len(table(acme.succeed("list-keys", "--customer", "acme"))) == 2
    assert acme.succeed("revoke-key", key_id) == f"Revoked key {key_id}.\n"
    assert authentication.actor_of_key(key) is None
    assert authentication.actor_of_key(other)
    assert [row[-1] for row in table(acme.succeed("list-keys"))[1:]] == ["revoked", "active"]


def test_list_of_keys_shows_the_last_use(acme: Shell) -> None:
    key = acme.succeed("add-key", "--customer", "acme", "--name", "orchestrator").strip()
    headers = {"Authorization": f"Bearer {key}"}
    with time_machine.travel(NOW, tick=False):
        assert acme.app.test_client().get("/api/budgets", headers=headers).status_code == 200
    assert "2025-02-05T10:30:00Z" in table(acme.succeed("list-keys"))[1]


def test_revoking_a_key_twice_changes_nothing(acme: Shell) -> None:
    key_id = acme.succeed("add-key", "--customer", "acme", "--name", "orchestrator").split("_")[1]
    acme.succeed("revoke-key", key_id)
    before = contents()
    acme.succeed("revoke-key", key_id)
    assert contents() == before


# Budgets.


def replayed(budget_id: str) -> dict[str, str]:
    """A budget's fields according to its audit rows, whose old values and deltas must match."""
    values: dict[Any, Any] = {}
    total_minor = 0
    for row in AuditLog.select().where(AuditLog.budgetId == budget_id).order_by(AuditLog.version):
        assert row.oldValue == values.get(row.field)
        values[row.field] = row.newValue
        total_minor += row.budgetedDeltaMinor
    assert total_minor == Budget.get_by_id(budget_id).budgetedMinor
    return values


def test_budget_is_created_updated_or_unchanged(acme: Shell) -> None:
    assert (
        acme.succeed(*budget(id="legal-1", amount="1,000.50"))
        == "Budget legal-1 (Legal, Q1 2025): created.\n"
    )
    assert replayed("legal-1") == {"budgetedAmount": "1000.5"}
    assert acme.succeed(*budget(amount="2000")) == "Budget legal-1 (Legal, Q1 2025): updated.\n"
    assert (
        acme.succeed(*budget(amount="2000", auto_approve_limit="99.5"))
        == "Budget legal-1 (Legal, Q1 2025): updated.\n"
    )
    assert (
        acme.succeed(*budget(amount="1500", auto_approve_limit="100"))
        == "Budget legal-1 (Legal, Q1 2025): updated.\n"
    )
    assert replayed("legal-1") == {"budgetedAmount": "1500", "autoApproveLimit": "100"}
    before = contents()
    assert (
        acme.succeed(*budget(amount="1500.00")) == "Budget legal-1 (Legal, Q1 2025): unchanged.\n"
    )
    assert contents() == before
    assert (
        AuditLog.select().where(AuditLog.budgetId == "legal-1").count()
        == BudgetUtilization.get_by_id("legal-1").version
        == 5
    )
    assert verification.verify().findings == []


def test_audit_log_has_the_reason_for_a_budget(acme: Shell) -> None:
    acme.succeed(*budget(id="legal-1", amount="5000"))
    acme.succeed(*budget(amount="2000"))
    acme.succeed(*budget(amount="3000", auto_approve_limit="5", reason="The board of 3 May"))
    acme.succeed(*budget(department="Sales", id="sales-1", reason="A new team"))
    rows = (
        AuditLog.select(AuditLog.reason)
        .where(AuditLog.budgetId << ("legal-1", "sales-1"))
        .order_by(AuditLog.id)
    )
    assert [row.reason for row in rows] == [
        "Legal, Q1 2025: $5,000",
        "Set by hand",
        "The board of 3 May",
        "The board of 3 May",
        "A new team",
    ]


def test_budget_is_found_by_other_spellings(
    acme: Shell,
) -> None:
    output = acme.succeed(*budget(department="  ENGINEERING ", period="2025-q1", amount="5"))
    assert output == "Budget budget-1 (Engineering, Q1 2025): updated.\n"


def test_budget_without_id_gets_one(acme: Shell) -> None:
    output = acme.succeed(*budget())
    assert re.fullmatch(r"Budget bud_[0-9a-f]{16} \(Legal, Q1 2025\): created\.\n", output)


def test_budget_in_another_currency_keeps_its_decimals(acme: Shell) -> None:
    acme.succeed(*budget(id="yen", currency="JPY", amount="5000", auto_approve_limit="10"))
    acme.succeed(*budget(id="dinar", department="Oil", currency="KWD", amount="5000.125"))
    assert [
        (Budget.get_by_id(name).budgetedMinor, Budget.get_by_id(name).currencyExponent)
        for name in ("yen", "dinar")
    ] == [(5000, 0), (5000125, 3)]


@pytest.mark.parametrize("amount", ["99,50", "1,00", "10,00,000", ",5", "1000,", "1_000", "5 000"])
def test_ambiguous_amount_is_rejected(acme: Shell, amount: str) -> None:
    assert repr(amount) in acme.fail(*budget(amount=amount))


def test_budget_may_be_cut_below_its_reserved_amount(acme: Shell) -> None:
    BudgetUtilization.update(reservedMinor=500).execute()
    assert (
        acme.succeed(*budget(department="Engineering", amount="0"))
        == "Budget budget-1 (Engineering, Q1 2025): updated.\n"
    )


def test_budget_of_a_source_cannot_be_set_by_hand(acme: Shell) -> None:
    BudgetDataSourceConfig.insert(
        id="sheet-1",
        customerId="acme",
        sourceType="google_sheets",
        spreadsheetKey="1AbC",
        isActive=True,
        createdAt=NOW,
    ).execute()
    Budget.update(sourceId="sheet-1").execute()
    assert "belongs to source sheet-1: change the sheet instead" in acme.fail(
        *budget(department="Engineering")
    )


# The check log.


def log_check(request_id: str, at: datetime, customer_id: str = "acme") -> None:
    """Log a check at that time."""
    request = CheckRequest(
        request_id=request_id,
        user_id="jane",
        user_name="Jane Doe",
        user_email="jane@acme.com",
        customer_id=customer_id,
        department="Engineering",
        fiscal_period="Q1 2025",
        amount=Decimal(5000),
    )
    with time_machine.travel(at, tick=False):
        ledger.check(ROOT, request)


def test_pruning_deletes_old_checks_and_is_audited(acme: Shell) -> None:
    acme.succeed("add-customer", "globex", "--name", "Globex")
    today = datetime.now(UTC)
    log_check("old-1", today - timedelta(days=31))
    log_check("old-2", today - timedelta(days=400))
    log_check("old-3", today - timedelta(days=31), "globex")
    log_check("young", today - timedelta(days=29))
    log_check("today", today)
    assert (
        acme.succeed("prune-checks", "--older-than", "30")
        == "Deleted 3 checks older than 30 days.\n"
    )
    assert [row.requestId for row in BudgetCheckLog.select().order_by(BudgetCheckLog.id)] == [
        "young",
        "today",
    ]
    rows = AuditLog.select().where(AuditLog.action == "PRUNE_CHECKS").order_by(AuditLog.customerId)
    assert [(row.customerId, row.oldValue, row.changedBy) for row in rows] == [
        ("acme", "2", "ada (command line)"),
        ("globex", "1", "ada (command line)"),
    ]
    assert acme.succeed("verify").endswith("All balances are consistent.\n")


def test_newest_check_is_never_pruned(acme: Shell) -> None:
    for number in range(3):
        log_check(f"old-{number}", NOW)
    assert (
        acme.succeed("prune-checks", "--older-than", "30")
        == "Deleted 2 checks older than 30 days.\n"
    )
    assert [row.requestId for row in BudgetCheckLog.select()] == ["old-2"]


def audited_deletions() -> list[tuple[str | None, int]]:
    """The customer and the number of deleted checks in each audit row about pruning."""
    rows = AuditLog.select().where(AuditLog.action == "PRUNE_CHECKS").order_by(AuditLog.id)
    return [(row.customerId, int(row.oldValue or 0)) for row in rows]


@pytest.fixture
def batches_of_two(acme: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Pruning in batches of two, with six old checks, one of them of another customer."""
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    acme.succeed("add-customer", "globex", "--name", "Globex")
    for number, customer_id in enumerate(["acme", "acme", "globex", "acme", "acme", "acme"]):
        log_check(f"{number}", NOW - timedelta(days=10 - number), customer_id)
    return acme


def test_pruning_works_in_audited_batches(batches_of_two: Shell) -> None:
    progress: list[int] = []

    def write_meanwhile(deleted: int) -> None:
        progress.append(deleted)
        assert deleted == sum(count for _, count in audited_deletions())
        log_check(f"meanwhile-{deleted}", datetime.now(UTC))

    # The last old check is not the newest one any more, because of the new checks.
    assert retention.prune_checks(ROOT, 30, write_meanwhile) == 6
    assert progress == [2, 4, 6, 6]
    assert audited_deletions() == [("acme", 2), ("acme", 1), ("globex", 1), ("acme", 2)]
    assert {row.requestId for row in BudgetCheckLog.select()} == {
        f"meanwhile-{deleted}" for deleted in progress
    }


def test_interrupted_pruning_can_be_continued(batches_of_two: Shell) -> None:
    def interrupt(deleted: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retention.prune_checks(ROOT, 30, interrupt)
    assert [row.requestId for row in BudgetCheckLog.select().order_by(BudgetCheckLog.id)] == [
        "2",
        "3",
        "4",
        "5",
    ]
    assert audited_deletions() == [("acme", 2)]
    assert (
        batches_of_two.succeed("prune-checks", "--older-than", "30")
        == "Deleted 3 checks older than 30 days.\n"
    )
    assert audited_deletions() == [("acme", 2), ("acme", 1), ("globex", 1), ("acme", 1)]


def test_failed_pruning_reports_deleted_checks(batches_of_two: Shell) -> None:
    target = batches_of_two.app.config["SETTINGS"].database
    with closing(
        sqlite3.connect(target, isolation_level=None)
        if isinstance(target, Path)
        else psycopg.connect(target)
    ) as other:

        def keep_writers_out(deleted: int) -> None:
            other.execute(
                "BEGIN IMMEDIATE" if isinstance(target, Path) else 'LOCK TABLE "BudgetCheckLog"'
            )

        with pytest.raises(
            RequestError, match=r"^2 checks were deleted, and then: The database is"
        ) as error:
            retention.prune_checks(ROOT, 30, keep_writers_out)
        assert error.value.code is Code.UNAVAILABLE
        assert audited_deletions() == [("acme", 2)]
    assert (
        batches_of_two.succeed("prune-checks", "--older-than", "30")
        == "Deleted 3 checks older than 30 days.\n"
    )


def test_pruning_shows_progress_on_a_terminal(
    acme: Shell, environment: dict[str, str], tmp_path: Path
) -> None:
    for number in range(3):
        log_check(f"old-{number}", NOW)
    installation = Installation(
        environment, constants={"budget_sync.ledger.retention.BATCH_SIZE": 1}
    )
    terminal, theirs = pty.openpty()
    with open(terminal, "rb", buffering=0) as shown, (tmp_path / "output").open("w+") as output:
        # Closed before it is read. Otherwise, a read without any output would block.
        with open(theirs, "w") as error, open(os.devnull) as nothing:
            assert (
                installation.begin(
                    ("prune-checks", "--older-than", "30"), [nothing, output, error]
                ).wait(timeout=60)
                == 0
            )
        lines = shown.read(1000)
        output.seek(0)
        assert output.read() == "Deleted 2 checks older than 30 days.\n"
    assert lines.startswith(b"\rdeleted: 1 checks\rdeleted: 2 checks")
    assert re.search(rb"\r +\r$", lines)


def test_pruning_nothing_is_not_audited(acme: Shell) -> None:
    log_check("young", datetime.now(UTC))
    before = contents()
    assert (
        acme.succeed("prune-checks", "--older-than", "36500")
        == "Deleted 0 checks older than 36500 days.\n"
    )
    assert contents() == before


# Stats.


def test_stats_are_the_four_numbers_of_the_guide(acme: Shell) -> None:
    acme.succeed("add-customer", "globex", "--name", "Globex", "--currency", "EUR")
    acme.succeed(*budget(customer="globex", amount="0.5"))
    acme.succeed(*budget(department="Engineering", period="Q2 2025", amount="20,000"))
    BudgetUtilization.update(reservedMinor=500_000, committedMinor=250_050).where(
        BudgetUtilization.budgetId == "budget-1"
    ).execute()
    today = datetime.now(UTC)
    for customer, available, duration_ms, age in (
        ("acme", 1, 10, 1),
        ("acme", 1, 20, 23),
        ("acme", 0, 60, 2),
        ("acme", 0, 999, 25),
        ("globex", 0, 30, 3),
    ):
        BudgetCheckLog.insert(
            **dict.fromkeys(
                (
                    "checkId",
                    "requestId",
                    "userId",
                    "userName",
                    "userEmail",
                    "department",
                    "fiscalPeriod",
                    "code",
                    "reason",
                    "response",
                ),
                "x",
            ),
            customerId=customer,
            currency="USD",
            currencyExponent=2,
            amountMinor=1,
            available=available,
            canAutoApprove=False,
            durationMs=duration_ms,
            timestamp=today - timedelta(hours=age),
        ).execute()
    BudgetDataSourceConfig.insert(
        id="sheet-1",
        customerId="acme",
        sourceType="google_sheets",
        spreadsheetKey="1AbC",
        isActive=True,
        createdAt=NOW,
    ).execute()
    for number, (status, age) in enumerate(
        (("success", 1), ("success", 6), ("partial", 2), ("failed", 3), ("failed", 8))
    ):
        at = today - timedelta(days=age)
        SyncHistory.insert(
            syncId=f"sync_{number}",
            customerId="acme",
            sourceId="sheet-1",
            status=status,
            startedBy="cron",
            durationMs=1,
            startTime=at,
            endTime=at,
        ).execute()
    assert acme.succeed("stats") == (
        "Budget check success rate (24 hours): 50.0% of 4 checks\n"
        "Average response time (24 hours): 30.0 ms\n"
        "Sync success rate (7 days): 75.0% of 4 sync runs; 25.0% were partial\n"
        "Budget utilization:\n"
        "department   currency  budgeted  used     available\n"
        "Engineering  USD       120,000   7,500.5  112,499.5\n"
        "Legal        EUR       0.5       0        0.5\n"
    )
    assert acme.succeed("stats", "--customer", "globex") == (
        "Budget check success rate (24 hours): 0.0% of 1 checks\n"
        "Average response time (24 hours): 30.0 ms\n"
        "Sync success rate (7 days): none yet of 0 sync runs\n"
        "Budget utilization:\n"
        "department  currency  budgeted  used  available\n"
        "Legal       EUR       0.5       0     0.5\n"
    )


def test_stats_add_up_budgets_with_different_decimals(acme: Shell) -> None:
    for quarter, decimals, amount in (
        ("Q1", "0", "5000"),
        ("Q2", "2", "5000.5"),
        ("Q3", "2", "0.5"),
    ):
        with yen_with_decimals(int(decimals)):
            acme.succeed(
                *budget(
                    id=f"yen-{quarter}",
                    department="Tokyo",
                    period=f"{quarter} 2025",
                    currency="JPY",
                    amount=amount,
                )
            )
    lines = [line.split() for line in acme.succeed("stats").splitlines()]
    assert [line for line in lines if line[0] == "Tokyo"] == [
        ["Tokyo", "JPY", "10,001", "0", "10,001"]
    ]


def test_stats_add_up_beyond_64_bits(acme: Shell) -> None:
    acme.succeed("add-customer", "rich", "--name", "Rich")
    insert_vast_budgets("rich")
    assert (
        "Vast        USD       92,999,999,999,999,907  92,999,999,999,999,907  0\n"
        in acme.succeed("stats", "--customer", "rich")
    )


def test_stats_without_data(shell: Shell) -> None:
    assert shell.succeed("stats") == (
        "Budget check success rate (24 hours): none yet of 0 checks\n"
        "Average response time (24 hours): none yet\n"
        "Sync success rate (7 days): none yet of 0 sync runs\n"
        "Budget utilization:\n"
        "There are no budgets yet. Create one with `flask set-budget`.\n"
    )


# The schema.


def test_init_db_creates_folder_and_tables_once(chosen: Settings) -> None:
    shell = Shell(create_app(chosen))
    assert (
        shell.succeed("init-db")
        == f"Created {database.label()} (schema version {database.SCHEMA_VERSION}).\n"
    )
    assert (
        shell.succeed("init-db")
        == f"Already there: {database.label()} (schema version {database.SCHEMA_VERSION}).\n"
    )
    assert shell.succeed("upgrade-db") == f"Already at schema version {database.SCHEMA_VERSION}.\n"
    assert (
        shell.succeed("list-users") == "There are no users yet. Create one with `flask add-user`.\n"
    )
    database.close_connection()


# The server.


def test_serve_rejects_a_port_in_use(acme: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = acme.fail("serve", "--port", str(port))
    assert error == f"Cannot listen on 127.0.0.1 port {port}: Address already in use."


def test_serve_rejects_an_address_of_another_machine(acme: Shell) -> None:
    assert acme.fail("serve", "--host", "192.0.2.1").startswith(
        "Cannot listen on 192.0.2.1 port 8000: "
    )


# The demo.


def demo_data() -> dict[str, list[Any]]:
    """The data of the demo, without the values that differ each time."""
    budget_row, utilization = (
        Budget.get_by_id(demo.BUDGET),
        BudgetUtilization.get_by_id(demo.BUDGET),
    )
    return {
        "people": sorted((row.id, row.name, row.email, row.role) for row in User.select()),
        "budget": [
            budget_row.department,
            budget_row.fiscalPeriod,
            budget_row.budgetedMinor,
            utilization.reservedMinor,
            utilization.committedMinor,
        ],
        "movements": [
            (row.version, row.action, row.reservedDeltaMinor, row.committedDeltaMinor)
            for row in AuditLog.select().where(AuditLog.budgetId == demo.BUDGET)
        ],
    }


DEMO_DATA = {
    "people": [
        ("admin-001", "Alex Kim", "alex@acme.com", "admin"),
        ("fpa-001", "Fiona Adams", "fiona@acme.com", "fpa_admin"),
        ("user-123", "Jane Doe", "jane@acme.com", "business_user"),
    ],
    "budget": ["Engineering", "Q1 2025", 10_000_000, 0, 500_000],
    "movements": [
        (1, "CREATE", 0, 0),
        (2, "RESERVE", 500_000, 0),
        (3, "COMMIT", -500_000, 500_000),
    ],
}


def secrets_of(folder: Path) -> dict[str, str]:
    """The passwords and the key in the folder of the demo."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["password"]
        for path in (folder / "demo").glob("*.json")
    }
    return found | {
        "orchestrator": (folder / "demo" / "orchestrator.header")
        .read_text(encoding="utf-8")
        .split()[-1]
    }


def assert_secrets_work(app: Flask, folder: Path) -> None:
    """Assert that each password signs in, and that the key is valid."""
    kept = secrets_of(folder)
    for _, _, email, _, file in demo.PEOPLE:
        sign_in(app, email, kept[file])
    actor = authentication.actor_of_key(kept["orchestrator"])
    assert actor
    assert (actor.name, actor.customer_id) == ("orchestrator", demo.CUSTOMER)


def test_demo_has_the_data_of_the_guide(shell: Shell) -> None:
    output = shell.succeed("demo", "--url", "http://127.0.0.1:8099")
    assert output.startswith("The demo is loaded.\n")
    assert demo_data() == DEMO_DATA
    folder = Path(shell.app.instance_path)
    assert_secrets_work(shell.app, folder)
    kept = secrets_of(folder)
    assert all(kept[file] in output for *_, file in demo.PEOPLE)
    assert kept["orchestrator"] not in output
    assert "http://127.0.0.1:8099/api/budget/check" in output
    assert ":8000" not in output
    assert shell.succeed("verify").startswith("Verified: 4 budgets, 1 reservations, ")


def test_second_demo_changes_nothing(shell: Shell) -> None:
    shell.succeed("demo")
    before, kept = contents(), secrets_of(Path(shell.app.instance_path))
    assert shell.succeed("demo").startswith("The demo was loaded before. Nothing was changed.\n")
    assert contents() == before
    assert secrets_of(Path(shell.app.instance_path)) == kept


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str, calls_before: int = 0
) -> None:
    """Raise KeyboardInterrupt in that function, after this many calls of it."""
    original, calls = getattr(place, name), iter(range(calls_before))

    def fault(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(place, name, fault)


@pytest.mark.parametrize(
    ("place", "name", "calls_before"),
    [
        (demo, "_write_secret", 0),
        (demo, "_write_secret", 3),
        (ledger, "reserve", 0),
        (ledger, "commit", 0),
    ],
    ids=[
        "before a password file",
        "before the key file",
        "before the reserve",
        "before the commit",
    ],
)
def test_interrupted_demo_can_be_completed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, calls_before: int
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, place, name, calls_before)
        assert shell.run("demo").exit_code == 1
    assert shell.succeed("demo").startswith("The demo is loaded.\n")
    assert demo_data() == DEMO_DATA
    assert_secrets_work(shell.app, Path(shell.app.instance_path))


def test_demo_replaces_lost_files(shell: Shell) -> None:
    shell.succeed("demo")
    folder = Path(shell.app.instance_path)
    for name in ("fiona.json", "orchestrator.header"):
        (folder / "demo" / name).unlink()
    shell.succeed("demo")
    assert demo_data() == DEMO_DATA
    assert_secrets_work(shell.app, folder)


@sqlite_only
def test_demo_with_old_files_and_a_new_database_works(shell: Shell) -> None:
    shell.succeed("demo")
    database.close_connection()
    db.file_path.unlink()
    shell.succeed("init-db")
    shell.succeed("demo")
    assert_secrets_work(shell.app, Path(shell.app.instance_path))


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask of 0: files are private only if the program makes them so."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_secrets_are_unique_and_private(environment: dict[str, str], tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        # Without SECRET_KEY, a key is generated and kept.
        chosen = settings.load({"INSTANCE_FOLDER": str(tmp_path / name)})
        shell = Shell(create_app(chosen))
        shell.succeed("init-db")
        shell.succeed("demo")
        database.close_connection()
        kept = secrets_of(tmp_path / name) | {
            "secret_key": (tmp_path / name / "secret_key").read_text(encoding="ascii")
        }
        assert kept["secret_key"] == chosen.secret_key
        assert len(set(kept.values())) == len(kept) == 5
        assert all(len(secret) >= 16 for secret in kept.values())
        files = [tmp_path / name / "secret_key", *(tmp_path / name / "demo").iterdir()]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert {
            stat.S_IMODE(path.stat().st_mode)
            for path in (tmp_path / name, tmp_path / name / "demo")
        } == {0o700}
        found.append(kept)
    assert not set(found[0].values()) & set(found[1].values())


def test_no_password_key_or_session_is_stored_in_clear(shell: Shell) -> None:
    shell.succeed("demo")
    shell.succeed(*user(customer="org-456"), "--password-stdin", typed=f"{PASSWORD}\n")
    shell.succeed("set-password", "user-123", typed="another horse battery\n" * 2)
    key = shell.succeed("add-key", "--all-customers", "--name", "reports").strip()
    client = sign_in(shell.app, "new@acme.com")
    with client.session_transaction() as session:
        tokens = [value for value in session.values() if isinstance(value, str) and len(value) > 20]
    assert tokens
    # People sometimes type the password into the wrong field.
    assert (
        client.post(
            "/api/auth/login",
            json={"email": "hunter2 hunter2 hunter2", "password": "horses for courses"},
        ).status_code
        == 401
    )
    stored = repr(contents()).encode()
    if ENGINE == "sqlite":
        # The files may still contain deleted or changed values.
        stored = b"".join(
            path.read_bytes() for path in db.file_path.parent.glob(f"{db.file_path.name}*")
        )
    assert b"new@acme.com" in stored
    kept = secrets_of(Path(shell.app.instance_path))
    hidden = [
        PASSWORD,
        "another horse battery",
        "horses for courses",
        "hunter2 hunter2",
        key,
        *tokens,
        *kept.values(),
    ]
    hidden += [text.split("_", 2)[2] for text in (key, kept["orchestrator"])]
    assert [secret for secret in hidden if secret.encode() in stored] == []


# Commands in their own process.


def run_with_output(
    installation: Installation, output: int, folder: Path, *arguments: str
) -> tuple[int, str]:
    """Run a command with this file as its output; returns its exit status and its errors."""
    with (
        open(os.devnull, "rb") as nothing,
        open(output, "wb") as out,
        (folder / "errors").open("wb") as errors,
    ):
        status = installation.begin(arguments, [nothing, out, errors]).wait(timeout=60)
    return status, (folder / "errors").read_text(encoding="utf-8")


def closed_pipe() -> int:
    """A pipe that no process reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
        (closed_pipe, "Broken pipe"),
    ],
    ids=["full disk", "closed pipe"],
)
def test_unprintable_output_says_command_succeeded(
    guides_world: None,
    app: Flask,
    installation: Installation,
    tmp_path: Path,
    output: Callable[[], int],
    reason: str,
) -> None:
    line = (
        "set-budget",
        "--customer",
        "org-456",
        "--department",
        "Legal",
        "--period",
        "Q1 2025",
        "--amount",
        "1000",
        "--id",
        "legal-1",
    )
    prefix = f"Error: The command succeeded, but its output could not be printed ({reason}): "
    assert run_with_output(installation, output(), tmp_path, *line) == (
        1,
        f"{prefix}Budget legal-1 (Legal, Q1 2025): created.\n",
    )
    assert Budget.select().where(Budget.id == "legal-1").exists()
    status, error = run_with_output(
        installation, output(), tmp_path, "add-key", "--customer", "org-456", "--name", "lost"
    )
    key = ApiKey.get(ApiKey.name == "lost")
    assert (status, error) == (
        1,
        f"{prefix}revoke the key, which was not shown, with `flask revoke-key {key.id}`.\n",
    )


def test_closed_pipe_ends_a_list_silently(
    guides_world: None, app: Flask, installation: Installation, tmp_path: Path
) -> None:
    for arguments in (("list-customers",), ("list-customers", "--help")):
        assert run_with_output(installation, closed_pipe(), tmp_path, *arguments) == (1, "")
    full = os.open("/dev/full", os.O_WRONLY)
    assert run_with_output(installation, full, tmp_path, "list-customers") == (
        1,
        "Error: [Errno 28] No space left on device\n",
    )


@sqlite_only
def test_closed_standard_output_says_command_succeeded(
    guides_world: None, app: Flask, installation: Installation
) -> None:
    line = [sys.executable, "-m", "flask", "disable-user", "user-123"]
    environment = installation.full_environment()
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *line],
        cwd=PROJECT,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == (
        "Error: The command succeeded, but its output could not be printed (Bad file descriptor): "
        "Disabled user user-123.\n"
    )


@sqlite_only
@pytest.mark.parametrize(
    "arguments",
    [("sync-sheets",), ("backup", "{folder}/new.db"), ("restore", "{folder}/old.db")],
    ids=lambda arguments: arguments[0],
)
def test_commands_work_with_standard_error_closed(
    installation: Installation, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    installation.flask("backup", str(tmp_path / "old.db"))
    line = [sys.executable, "-m", "flask", *(word.format(folder=tmp_path) for word in arguments)]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *line],
        cwd=PROJECT,
        env=installation.full_environment(),
        text=True,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(
        {"sync-sheets": "org-456 ", "backup": "Backed up to ", "restore": "Restored "}[arguments[0]]
    )


@sqlite_only
def test_commands_run_from_any_folder_with_app_option(
    environment: dict[str, str], tmp_path: Path
) -> None:
    installation = Installation(environment)

    def flask(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "flask", "--app", str(PROJECT / "app.py"), *arguments]
        return subprocess.run(
            line,
            cwd=tmp_path,
            env=installation.full_environment(),
            text=True,
            capture_output=True,
            check=False,
        )

    missing = flask("list-users")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert (
        missing.stderr == f"Error: There is no database at {installation.database}. "
        "Create it with `flask init-db`.\n"
    )
    created = flask("init-db")
    assert (created.returncode, created.stderr) == (0, "")
    assert installation.database.exists()


# Budgets set by hand.


def test_remove_restore_and_list_budgets(acme: Shell) -> None:
    acme.succeed(*budget(id="legal-1", auto_approve_limit="50", amount="2500.5"))
    ledger.reserve(
        ROOT, ReserveRequest(budget_id="budget-1", request_id="r-1", amount=Decimal(40_000))
    )
    assert acme.succeed("remove-budget", "budget-1", "--reason", "Reorganization") == (
        "Budget budget-1 (Engineering, Q1 2025): removed. $40,000 stays reserved or committed on "
        "it. Revive it with `flask restore-budget budget-1`.\n"
    )
    assert AuditLog.select().where(AuditLog.action == "SOFT_DELETE").get().reason == (
        "Reorganization"
    )
    assert table(acme.succeed("list-budgets"))[1:] == [
        [
            *("legal-1", "acme", "Legal", "Q1 2025", "USD", "2,500.5", "0", "0", "2,500.5"),
            *("50", "(none)", "(by hand)", "ok"),
        ]
    ]
    header, deleted = table(acme.succeed("list-budgets", "--deleted"))
    assert header == [
        *("id", "customer", "department", "period", "currency", "budgeted", "reserved"),
        *("committed", "available", "auto-approve limit", "owner", "source", "state"),
    ]
    assert deleted[:-1] == [
        *("budget-1", "acme", "Engineering", "Q1 2025", "USD", "100,000", "40,000", "0"),
        *("60,000", "(the customer's)", "(none)", "(by hand)"),
    ]
    assert re.fullmatch(r"deleted \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", deleted[-1])
    assert acme.succeed("restore-budget", "budget-1") == (
        "Budget budget-1 (Engineering, Q1 2025): revived. Available: $60,000 of $100,000.\n"
    )
    assert acme.succeed("list-budgets", "--deleted") == "No budget matches.\n"


def test_list_budgets_filters(acme: Shell) -> None:
    acme.succeed("add-customer", "globex", "--name", "Globex")
    acme.succeed(*budget(id="legal-1"))
    acme.succeed(*budget(id="legal-2", period="Q2 2025"))
    acme.succeed(*budget(id="globex-1", customer="globex"))

    def listed(*arguments: str) -> list[str]:
        return [row[0] for row in table(acme.succeed("list-budgets", *arguments))[1:]]

    assert listed() == ["budget-1", "legal-1", "legal-2", "globex-1"]
    assert listed("--customer", "globex") == ["globex-1"]
    assert listed("--department", " LEGAL ") == ["legal-1", "legal-2", "globex-1"]
    assert listed("--period", "2025-q1") == ["budget-1", "legal-1", "globex-1"]
    assert listed("--customer", "acme", "--department", "Legal", "--period", "q2 fy2025") == [
        "legal-2"
    ]
    acme.succeed("set-customer", "globex", "--fiscal-year-start", "7")
    assert listed("--period", "Jan-Mar 2025") == ["budget-1", "legal-1"]
    assert listed("--period", "Jul-Sep 2024") == ["globex-1"]
    assert listed("--period", "FY2024-25") == []
    assert acme.fail("list-budgets", "--period", "Q5 2025") == (
        "The request is not valid: period 'Q5 2025' is not a known period. Enter a period such as "
        "Q1 2025."
    )
    assert acme.succeed("list-budgets", "--department", "Leg") == "No budget matches.\n"
    assert acme.fail("list-budgets", "--customer", "nobody") == "There is no customer 'nobody'."


def test_list_budgets_of_a_new_installation_says_what_to_do(shell: Shell) -> None:
    assert shell.succeed("list-budgets") == (
        "There are no budgets yet. Create one with `flask set-budget`.\n"
    )


def test_list_budgets_names_the_source_and_the_state(acme: Shell, chosen: Settings) -> None:
    chosen.csv_folder.mkdir(parents=True, exist_ok=True)
    (chosen.csv_folder / "plan.csv").write_text(
        "Department,Fiscal Period,Budgeted Amount\nSales,2025,10\n", encoding="utf-8"
    )
    add_file("acme", chosen.csv_folder, "plan.csv")
    acme.succeed("sync-sheets")
    sales = Budget.get(Budget.department == "Sales")
    ledger.reserve(ROOT, ReserveRequest(budget_id=sales.id, request_id="r-1", amount=Decimal(9)))
    _, row = table(acme.succeed("list-budgets", "--department", "Sales"))
    assert row[-2:] == [sales.sourceId, "high"]
    assert acme.fail("remove-budget", sales.id) == (
        f"Budget {sales.id} (Sales, 2025) belongs to source {sales.sourceId}. "
        "Remove its row from the sheet instead."
    )


def test_set_budget_removes_the_auto_approve_limit(acme: Shell) -> None:
    acme.succeed(*budget(id="legal-1", auto_approve_limit="50"))
    assert acme.succeed(*budget(), "--no-auto-approve-limit") == (
        "Budget legal-1 (Legal, Q1 2025): updated.\n"
    )
    assert Budget.get_by_id("legal-1").autoApproveLimitMinor is None
    assert acme.fail(*budget(auto_approve_limit="50"), "--no-auto-approve-limit") == (
        "The request is not valid: autoApproveLimit can be either set or removed, not both."
    )


BUDGET_ERRORS = {
    "remove without id": (("remove-budget",), "Missing argument 'ID'"),
    "remove unknown": (("remove-budget", "none"), "There is no budget 'none'; see list-budgets."),
    "restore unknown": (("restore-budget", "none"), "There is no budget 'none'; see list-budgets."),
    "restore live": (
        ("restore-budget", "budget-1"),
        "Budget budget-1 (Engineering, Q1 2025) was not removed. Nothing is left to do.",
    ),
    "blank reason": (
        ("remove-budget", "budget-1", "--reason", " "),
        "reason must be 1 to 500 printable characters",
    ),
    "argument that is not UTF-8": (
        ("remove-budget", "\udcff"),
        "The arguments must be UTF-8 text.",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BUDGET_ERRORS.values(), ids=BUDGET_ERRORS)
def test_budget_command_error_is_one_line(
    acme: Shell, arguments: tuple[str, ...], message: str
) -> None:
    assert message in acme.fail(*arguments)


def test_rejected_row_keeps_the_sync_success_rate(acme: Shell, chosen: Settings) -> None:
    chosen.csv_folder.mkdir(parents=True, exist_ok=True)
    (chosen.csv_folder / "plan.csv").write_text(
        "Department,Fiscal Period,Budgeted Amount\nSales,2025,10\nOps,2025,#REF!\n",
        encoding="utf-8",
    )
    add_file("acme", chosen.csv_folder, "plan.csv")
    assert acme.run("sync-sheets").exit_code == 0
    run = SyncHistory.get().__data__
    assert run["status"] == "partial"
    # Another server's cron found the source locked.
    SyncHistory.insert(
        {name: value for name, value in run.items() if name != "id"}
        | {"syncId": "another", "status": "skipped"}
    ).execute()
    assert (
        "Sync success rate (7 days): 100.0% of 1 sync runs; 100.0% were partial\n"
        in acme.succeed("stats")
    )


def test_sheet_row_revives_a_budget_removed_by_hand(acme: Shell, chosen: Settings) -> None:
    ledger.reserve(
        ROOT, ReserveRequest(budget_id="budget-1", request_id="r-1", amount=Decimal(40_000))
    )
    acme.succeed("remove-budget", "budget-1")
    chosen.csv_folder.mkdir(parents=True, exist_ok=True)
    (chosen.csv_folder / "plan.csv").write_text(
        "Department,Fiscal Period,Budgeted Amount\nEngineering,Q1 2025,100000\n", encoding="utf-8"
    )
    add_file("acme", chosen.csv_folder, "plan.csv")
    result = acme.run("sync-sheets")
    assert (result.exit_code, "takes over Engineering, Q1 2025" in result.stderr) == (0, True)
    _, row = table(acme.succeed("list-budgets"))
    assert (row[0], row[6]) == ("budget-1", "40,000")
    assert acme.succeed("list-budgets", "--deleted") == "No budget matches.\n"
    assert verification.verify().findings == []
