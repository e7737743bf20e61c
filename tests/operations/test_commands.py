"""Every command as an operator types it: what it prints, its exit status, and one line on standard error where it refuses."""

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
from support.damage import insert_vast_budgets, yen_of
from support.installation import Installation
from support.machine import ENGINE, PROJECT, sqlite_only
from support.world import PASSWORD, ROOT, sign_in

import cli
from app import create_app
from budget_sync import database, ledger, settings
from budget_sync.accounts import authentication, people
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
from budget_sync.domain.request_models import CheckRequest
from budget_sync.ledger import retention, verification
from budget_sync.operations import demo
from budget_sync.settings import Settings

pytestmark = pytest.mark.both_engines

NOW = datetime(2025, 2, 5, 10, 30, tzinfo=UTC)


@dataclass
class Shell:
    """Types commands at one installation, in this process."""

    app: Flask

    def type(self, *arguments: str, typed: str = "") -> click.testing.Result:
        """Run `flask <arguments>`, with that much typed at its prompts."""
        with self.app.app_context():
            return self.app.test_cli_runner().invoke(args=arguments, input=typed, prog_name="flask")

    def says(self, *arguments: str, typed: str = "") -> str:
        """What a command prints that works; nothing stands on standard error."""
        result = self.type(*arguments, typed=typed)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def refuses(self, *arguments: str, typed: str = "") -> str:
        """The one line that a command refuses with; nothing was printed and nothing changed."""
        before = contents()
        result = self.type(*arguments, typed=typed)
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        assert result.exit_code != 0
        assert result.stdout == ""
        assert contents() == before
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.endswith("\n")
        return result.stderr.removeprefix("Error: ").removesuffix("\n")


def contents() -> dict[str, list[Any]]:
    """Every row of the connected database; empty where there is none."""
    if ENGINE == "sqlite" and not db.file_path.exists():
        return {}
    database.open_connection()
    return {
        table: sorted(db.execute_sql(f'SELECT * FROM "{table}"').fetchall(), key=repr)
        for table in db.get_tables()
    }


@pytest.fixture
def shell(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """An operator called Ada at an installation with its tables made and nothing in them."""
    monkeypatch.setenv("LOGNAME", "ada")
    return Shell(app)


@pytest.fixture
def acme(shell: Shell) -> Shell:
    """The same, with a customer, a person without a password, and a budget."""
    people.add_customer(ROOT, "acme", "Acme Inc.")
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
    shell.says(
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


# All of them.

# How each is typed when nothing is wrong with it.
TYPED: dict[str, tuple[str, ...]] = {
    "init-db": (),
    "upgrade-db": (),
    "demo": (),
    "serve": ("--port", "8099"),
    "add-customer": ("acme", "--name", "Acme"),
    "disable-customer": ("acme",),
    "add-source": ("--customer", "acme", "--csv", "plan.csv"),
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
    "set-password": ("jane",),
    "disable-user": ("jane",),
    "enable-user": ("jane",),
    "list-users": (),
    "add-key": ("--customer", "acme", "--name", "orchestrator"),
    "list-keys": (),
    "revoke-key": ("ab12",),
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
    "prune-checks": ("--older-than", "365"),
    "stats": (),
    "verify": (),
    "doctor": (),
    "backup": ("/tmp/of-no-database.db",),  # noqa: S108  # never written
    "restore": ("/tmp/no-backup.db",),  # noqa: S108  # the same
}

# What is there to get a database, or to say what is wrong with one.
WITHOUT_DATABASE = {"init-db", "restore", "doctor"}


def test_this_file_knows_every_command() -> None:
    assert set(TYPED) == {command.name for command in cli.COMMANDS}


@pytest.mark.parametrize("name", TYPED)
def test_help_says_what_a_command_does_and_what_each_option_means(shell: Shell, name: str) -> None:
    command = shell.app.cli.commands[name]
    printed = shell.says(name, "--help")
    assert printed.startswith(f"Usage: flask {name}")
    assert command.help
    assert " ".join(command.help.split()) in " ".join(printed.split())
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.opts[0] in printed
        else:
            assert option.make_metavar(click.Context(command)) in ("ID", "URL", "PATH")


def test_the_list_of_commands_says_what_each_is_for(shell: Shell) -> None:
    printed = shell.says("--help")
    assert all(re.search(rf"^  {name} +\w", printed, re.MULTILINE) for name in TYPED)


@pytest.mark.parametrize("name", sorted(set(TYPED) - WITHOUT_DATABASE))
def test_without_a_database_a_command_says_how_to_make_one_and_makes_none(
    chosen: Settings, name: str
) -> None:
    chosen.instance_folder.mkdir(parents=True)
    shell = Shell(create_app(chosen))
    said = shell.refuses(name, *TYPED[name], typed="correct horse battery\n" * 2)
    if ENGINE == "sqlite":
        assert (
            said
            == f"There is no database at {chosen.database_path}. Create it with `flask init-db`."
        )
        assert not chosen.database_path.exists()
    else:
        assert (
            said
            == f"The database {database.label()} has no tables yet. Create them with `flask init-db`."
        )
        assert contents() == {}


@sqlite_only
def test_a_database_without_tables_and_a_file_that_is_none_are_refused(chosen: Settings) -> None:
    chosen.instance_folder.mkdir(parents=True)
    shell = Shell(create_app(chosen))
    chosen.database_path.touch()
    assert shell.refuses("list-users").endswith(
        "has no tables yet. Create them with `flask init-db`."
    )
    database.close_connection()
    chosen.database_path.write_text("Dear diary, " * 1000, encoding="utf-8")
    before = chosen.database_path.read_bytes()
    for name in ("list-users", "verify"):
        result = shell.type(name)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert (
            result.stderr
            == f"Error: The database {chosen.database_path} cannot be opened: file is not a database.\n"
        )
    assert chosen.database_path.read_bytes() == before
    database.close_connection()


@sqlite_only
def test_a_busy_database_is_refused_with_one_line(acme: Shell) -> None:
    blocker = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, db.file_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    )
    try:
        assert blocker.stdout is not None
        assert blocker.stdout.readline() == b"held\n"
        result = acme.type("disable-user", "jane")
    finally:
        blocker.communicate(b"\n")
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert (result.exit_code, result.stdout) == (1, "")
    # The log has told why, by then.
    assert re.match(
        r"Error: The database is .*\. Nothing was changed; ", result.stderr.splitlines()[-1]
    )
    assert acme.says("disable-user", "jane") == "Disabled user jane.\n"


HOLD_THE_LOCK = """
import sys
from peewee import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


MISTYPED = {
    "an unknown option": ("list-users", "--everything"),
    "an argument too many": ("verify", "now"),
    "no id of a customer": ("add-customer", "--name", "Acme"),
    "no name of a customer": ("add-customer", "new"),
    "a fiscal year that starts in no month": (
        "add-customer",
        "new",
        "--name",
        "New",
        "--fiscal-year-start",
        "13",
    ),
    "a fiscal year that starts in a word": (
        "add-customer",
        "new",
        "--name",
        "New",
        "--fiscal-year-start",
        "May",
    ),
    "a limit that is no amount": (
        "add-customer",
        "new",
        "--name",
        "New",
        "--auto-approve-limit",
        "much",
    ),
    "no id of a user": (
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
    "no name of a user": (
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
    "no email": (
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
    "no role": (
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
    "an unknown role": (
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
    "the role of services": (
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
    "a user of no customer": (
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
    "a user of one customer and all": (
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
    "a password of nobody": ("set-password",),
    "nobody to disable": ("disable-user",),
    "a key of no customer": ("add-key", "--name", "orchestrator"),
    "a key of one customer and all": (
        "add-key",
        "--customer",
        "acme",
        "--all-customers",
        "--name",
        "orchestrator",
    ),
    "no name of a key": ("add-key", "--customer", "acme"),
    "no key to revoke": ("revoke-key",),
    "no amount": (
        "set-budget",
        "--customer",
        "acme",
        "--department",
        "Legal",
        "--period",
        "Q1 2025",
    ),
    "no period": ("set-budget", "--customer", "acme", "--department", "Legal", "--amount", "1"),
    "an amount that is none": (
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
    "no age of checks": ("prune-checks",),
    "an age of no days": ("prune-checks", "--older-than", "0"),
    "an age below none": ("prune-checks", "--older-than", "-1"),
    "an age in words": ("prune-checks", "--older-than", "year"),
    "an age beyond all calendars": ("prune-checks", "--older-than", "99999999"),
    "a port that is none": ("serve", "--port", "0"),
    "a port beyond the last": ("serve", "--port", "65536"),
    "no workers": ("serve", "--workers", "0"),
}


@pytest.mark.parametrize("arguments", MISTYPED.values(), ids=MISTYPED)
def test_a_mistyped_line_is_refused_with_one_line(acme: Shell, arguments: tuple[str, ...]) -> None:
    acme.refuses(*arguments)


def user(**changes: str) -> tuple[str, ...]:
    """The line that adds a user, with changes."""
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
    """The line that sets a budget, with changes; an underscore stands for a hyphen."""
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

REFUSED = {
    "a customer's id that is taken": (
        ("add-customer", "acme", "--name", "Acme"),
        "id 'acme' is taken",
    ),
    "a customer's id of blanks": (("add-customer", " ", "--name", "New"), f"id {IDS}"),
    "a customer's id with a space": (("add-customer", "new one", "--name", "New"), f"id {IDS}"),
    "a customer's id that is a path": (("add-customer", "../new", "--name", "New"), f"id {IDS}"),
    "a customer's id of 101 characters": (
        ("add-customer", "n" * 101, "--name", "New"),
        f"id {IDS}",
    ),
    "a blank name": (("add-customer", "new", "--name", " "), f"name {NAMES}"),
    "a name of two lines": (
        ("add-customer", "new", "--name", "New\nError: all is well"),
        f"name {NAMES}",
    ),
    "a name of 201 characters": (("add-customer", "new", "--name", "n" * 201), f"name {NAMES}"),
    "an unknown currency": (
        ("add-customer", "new", "--name", "New", "--currency", "XQX"),
        "'XQX' is not a currency code such as USD or EUR",
    ),
    "a currency in small letters": (
        ("add-customer", "new", "--name", "New", "--currency", "usd"),
        "'usd' is not a currency code such as USD or EUR",
    ),
    "no currency": (
        ("add-customer", "new", "--name", "New", "--currency", ""),
        "'' is not a currency code such as USD or EUR",
    ),
    "an unknown time zone": (
        ("add-customer", "new", "--name", "New", "--time-zone", "Mars/Olympus"),
        "'Mars/Olympus' is not a time zone such as Europe/Berlin",
    ),
    "a time zone that is a path": (
        ("add-customer", "new", "--name", "New", "--time-zone", "../../etc/passwd"),
        "is not a time zone such as Europe/Berlin",
    ),
    "a time zone that is a folder": (
        ("add-customer", "new", "--name", "New", "--time-zone", "Europe"),
        "is not a time zone such as Europe/Berlin",
    ),
    "no time zone": (
        ("add-customer", "new", "--name", "New", "--time-zone", ""),
        "is not a time zone such as Europe/Berlin",
    ),
    "a negative limit": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "-1"),
        "--auto-approve-limit: must not be negative",
    ),
    "a limit that is no number": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "NaN"),
        "--auto-approve-limit: must be a finite number",
    ),
    "a limit without end": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "inf"),
        "--auto-approve-limit: must be a finite number",
    ),
    "a limit of half a cent": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "0.005"),
        "must have at most 2 decimals in its currency",
    ),
    "a limit beyond 15 digits": (
        ("add-customer", "new", "--name", "New", "--auto-approve-limit", "1e13"),
        "must be below 10,000,000,000,000",
    ),
    "a customer to disable who is unknown": (
        ("disable-customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "a user of an unknown customer": (user(customer="nobody"), "There is no customer 'nobody'."),
    "a user's id that is taken": (user(id="jane"), "id or email is taken"),
    "an email that is taken": (user(email="jane@acme.com"), "id or email is taken"),
    "an email that is taken in other letters": (
        user(email="JANE@Acme.com"),
        "id or email is taken",
    ),
    "a user's id with a space": (user(id="jane doe"), f"id {IDS}"),
    "a user's blank name": (user(name=""), f"name {NAMES}"),
    "an email without a host": (user(email="new@"), "email 'new@' is not an email address"),
    "an email without an @": (
        user(email="new.acme.com"),
        "email 'new.acme.com' is not an email address",
    ),
    "an email of two": (user(email="a@b@c"), "email 'a@b@c' is not an email address"),
    "an email with a space": (
        user(email="new one@acme.com"),
        "email 'new one@acme.com' is not an email address",
    ),
    "an email of 255 characters": (user(email="n" * 246 + "@acme.com"), "is not an email address"),
    "a person for all customers who is no super_admin": (
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
    "a password of somebody unknown": (
        ("set-password", "nobody", "--password-stdin"),
        "There is no user 'nobody'.",
    ),
    "a user to disable who is unknown": (("disable-user", "nobody"), "There is no user 'nobody'."),
    "a user to enable who is unknown": (("enable-user", "nobody"), "There is no user 'nobody'."),
    "a key of an unknown customer": (
        ("add-key", "--customer", "nobody", "--name", "orchestrator"),
        "There is no customer 'nobody'.",
    ),
    "a key without a name": (("add-key", "--customer", "acme", "--name", " "), f"name {NAMES}"),
    "a key to revoke that is unknown": (
        ("revoke-key", "ab12"),
        "There is no key 'ab12'; see list-keys.",
    ),
    "a budget of an unknown customer": (
        budget(customer="nobody"),
        "There is no customer 'nobody'.",
    ),
    "a budget of no department": (
        budget(department=" "),
        "department must be 1 to 200 printable characters",
    ),
    "a budget of no period": (budget(period=""), "period must be 1 to 100 printable characters"),
    "a negative budget": (budget(amount="-5"), "amount must not be negative"),
    "a budget that is no number": (budget(amount="nan"), "amount must be a finite number"),
    "a budget without end": (budget(amount="Infinity"), "amount must be a finite number"),
    "a budget of half a cent": (
        budget(amount="0.005"),
        "amount must have at most 2 decimals in its currency",
    ),
    "a budget beyond 15 digits": (
        budget(amount="10000000000000"),
        "amount must be below 10,000,000,000,000",
    ),
    "a budget beyond all digits": (
        budget(amount="1e999999"),
        "amount must be below 10,000,000,000,000",
    ),
    "a budget with half a yen": (
        budget(currency="JPY", amount="0.5"),
        "amount must be a whole number in its currency",
    ),
    "a budget in an unknown currency": (
        budget(currency="XQX"),
        "currency 'XQX' is not a currency code such as USD or EUR",
    ),
    "a budget with a negative limit": (
        budget(auto_approve_limit="-1"),
        "autoApproveLimit must not be negative",
    ),
    "a budget of no reason": (budget(reason=" "), "reason must be 1 to 500 printable characters"),
    "a budget's id that is taken": (budget(id="budget-1"), "id 'budget-1' is taken"),
    "a budget's id of 101 characters": (budget(id="b" * 101), f"id {IDS}"),
    "a budget's id that is a path": (budget(id="a/b"), f"id {IDS}"),
    "a budget's id with a space": (budget(id=" x"), f"id {IDS}"),
    "no budget's id": (budget(id=""), f"id {IDS}"),
    "the keys of an unknown customer": (
        ("list-keys", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "the people of an unknown customer": (
        ("list-users", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "the sources of an unknown customer": (
        ("list-sources", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "the figures of an unknown customer": (
        ("stats", "--customer", "nobody"),
        "There is no customer 'nobody'.",
    ),
    "another id for a budget": (
        budget(department="Engineering", id="budget-2"),
        "id does not fit: the budget of that department and period is budget-1",
    ),
    "another currency for a budget": (
        budget(department="Engineering", currency="EUR"),
        "currency cannot change: the budget is in USD",
    ),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_a_line_that_cannot_be_done_is_refused_with_one_line(
    acme: Shell, arguments: tuple[str, ...], said: str
) -> None:
    assert said in acme.refuses(*arguments, typed=f"{PASSWORD}\n")


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
def test_an_argument_that_is_no_text_is_refused(acme: Shell, arguments: tuple[str, ...]) -> None:
    acme.refuses(*arguments)


def test_everything_wrong_with_a_line_is_said_at_once(acme: Shell) -> None:
    said = acme.refuses(*user(id="a b", name="", email="new"))
    assert all(field in said for field in ("id must", "name must", "email 'new'"))


# Customers.


def test_a_customer_is_made_with_what_was_chosen(shell: Shell) -> None:
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
        shell.says("add-customer", "tokyo", "--name", "東京商事", *line)
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


def test_a_customer_is_made_with_defaults_where_nothing_was_chosen(shell: Shell) -> None:
    shell.says("add-customer", "acme", "--name", "Acme Inc.")
    customer = Customer.get_by_id("acme")
    assert (customer.currency, customer.currencyExponent, customer.autoApproveLimitMinor) == (
        "USD",
        2,
        None,
    )
    assert (customer.timeZone, customer.fiscalYearStartMonth) == ("UTC", 1)


def test_disabling_a_customer_ends_its_keys_and_sessions(acme: Shell) -> None:
    key = acme.says("add-key", "--customer", "acme", "--name", "orchestrator").strip()
    assert authentication.actor_of_key(key)
    assert acme.says("disable-customer", "acme") == "Disabled customer acme.\n"
    assert authentication.actor_of_key(key) is None
    assert table(acme.says("list-customers"))[1] == ["acme", "Acme Inc.", "USD", "UTC", "disabled"]


def test_disabling_a_customer_twice_is_one_change(acme: Shell) -> None:
    acme.says("disable-customer", "acme")
    before = contents()
    assert acme.says("disable-customer", "acme") == "Disabled customer acme.\n"
    assert contents() == before


def test_customers_are_listed_in_columns(shell: Shell) -> None:
    assert (
        shell.says("list-customers")
        == "There are no customers yet: make one with `flask add-customer`.\n"
    )
    shell.says(
        "add-customer",
        "globex",
        "--name",
        "Globex Corporation",
        "--currency",
        "EUR",
        "--time-zone",
        "Europe/Berlin",
    )
    shell.says("add-customer", "acme", "--name", "Acme")
    assert shell.says("list-customers") == (
        "id      name                currency  time zone      state\n"
        "acme    Acme                USD       UTC            active\n"
        "globex  Globex Corporation  EUR       Europe/Berlin  active\n"
    )


# People.


@pytest.mark.parametrize("role", [str(role) for role in PEOPLE_ROLES])
def test_a_person_of_every_role_is_made(acme: Shell, role: str) -> None:
    assert (
        acme.says(*user(role=role))
        == "Added user new. Give them a password with `flask set-password new`.\n"
    )
    made = User.get_by_id("new")
    assert (made.customerId, made.role, made.email, made.passwordHash) == (
        "acme",
        role,
        "new@acme.com",
        None,
    )


def test_a_super_admin_can_be_for_all_customers(shell: Shell) -> None:
    shell.says(
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
    assert table(shell.says("list-users"))[1][:2] == ["root", "(all)"]


def test_a_password_from_standard_input_signs_in(acme: Shell) -> None:
    assert acme.says(*user(), "--password-stdin", typed=f"{PASSWORD}\n") == "Added user new.\n"
    assert sign_in(acme.app, "new@acme.com").get("/api/auth/me").status_code == 200


@pytest.mark.parametrize(
    ("password", "ending"),
    [
        ("with a space at the end ", "\n"),
        ("from another system", "\r\n"),
        ("without a line end", ""),
    ],
)
def test_a_password_is_taken_as_it_stands_on_its_line(
    acme: Shell, password: str, ending: str
) -> None:
    acme.says("set-password", "jane", "--password-stdin", typed=password + ending)
    sign_in(acme.app, "jane@acme.com", password)


@pytest.mark.parametrize("password", ["", "\n", "short\n", "11 letters.\n", "n" * 201 + "\n"])
@pytest.mark.parametrize("line", [user(), ("set-password", "jane")], ids=lambda line: line[0])
def test_a_password_that_is_too_short_or_too_long_is_refused(
    acme: Shell, line: tuple[str, ...], password: str
) -> None:
    assert "password must have 12 to 200 characters" in acme.refuses(
        *line, "--password-stdin", typed=password
    )


def test_a_new_password_is_asked_for_twice_and_not_shown(acme: Shell) -> None:
    said = acme.says("set-password", "jane", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert said.split("\n")[-2] == "Set the password of jane."
    assert "New password:" in said
    assert PASSWORD not in said
    sign_in(acme.app, "jane@acme.com")


def test_two_different_passwords_are_none(acme: Shell) -> None:
    before = contents()
    result = acme.type("set-password", "jane", typed=f"{PASSWORD}\nanother horse battery\n")
    assert result.exit_code == 1
    assert contents() == before


def me_of(client: FlaskClient) -> int:
    return client.get("/api/auth/me").status_code


def test_a_new_password_ends_the_old_one_and_every_session(acme: Shell) -> None:
    acme.says("set-password", "jane", "--password-stdin", typed=f"{PASSWORD}\n")
    session = sign_in(acme.app, "jane@acme.com")
    acme.says("set-password", "jane", "--password-stdin", typed="another horse battery\n")
    assert me_of(session) == 401
    sign_in(acme.app, "jane@acme.com", "another horse battery")
    old = acme.app.test_client().post(
        "/api/auth/login", json={"email": "jane@acme.com", "password": PASSWORD}
    )
    assert old.status_code == 401


def test_a_disabled_user_is_out_until_enabled(acme: Shell) -> None:
    acme.says("set-password", "jane", "--password-stdin", typed=f"{PASSWORD}\n")
    session = sign_in(acme.app, "jane@acme.com")
    assert acme.says("disable-user", "jane") == "Disabled user jane.\n"
    assert me_of(session) == 401
    assert (
        acme.app.test_client()
        .post("/api/auth/login", json={"email": "jane@acme.com", "password": PASSWORD})
        .status_code
        == 401
    )
    assert acme.says("enable-user", "jane") == "Enabled user jane.\n"
    assert me_of(session) == 401
    sign_in(acme.app, "jane@acme.com")


@pytest.mark.parametrize("name", ["disable-user", "enable-user"])
def test_disabling_or_enabling_twice_is_one_change(acme: Shell, name: str) -> None:
    acme.says(name, "jane")
    before = contents()
    acme.says(name, "jane")
    assert contents() == before


def test_users_are_listed_in_columns(shell: Shell) -> None:
    assert shell.says("list-users") == "There are no users yet: make one with `flask add-user`.\n"
    for customer in ("acme", "globex"):
        shell.says("add-customer", customer, "--name", customer.title())
    shell.says(
        *user(id="jane", name="Jane Doe", email="jane@acme.com", role="manager"),
        "--password-stdin",
        typed=f"{PASSWORD}\n",
    )
    shell.says(*user(id="bo", name="Bo", email="bo@globex.com", customer="globex"))
    with time_machine.travel(NOW, tick=False):
        sign_in(shell.app, "jane@acme.com")
    assert shell.says("list-users") == (
        "id    customer  name      email          role     last login            state\n"
        "jane  acme      Jane Doe  jane@acme.com  manager  2025-02-05T10:30:00Z  active\n"
        "bo    globex    Bo        bo@globex.com  admin    never                 no password\n"
    )
    assert [row[0] for row in table(shell.says("list-users", "--customer", "globex"))] == [
        "id",
        "bo",
    ]


def test_a_disabled_user_is_listed_as_such_with_a_password_or_without(acme: Shell) -> None:
    acme.says(*user(), "--password-stdin", typed=f"{PASSWORD}\n")
    for name in ("jane", "new"):
        acme.says("disable-user", name)
    assert {row[0]: row[-1] for row in table(acme.says("list-users"))[1:]} == {
        "jane": "disabled",
        "new": "disabled",
    }


# Keys.


@pytest.mark.parametrize("overspend", [True, False])
@pytest.mark.parametrize("customer", ["acme", None])
def test_a_new_key_stands_alone_on_standard_output_and_works(
    acme: Shell, customer: str | None, overspend: bool
) -> None:
    whose = ["--customer", customer] if customer else ["--all-customers"]
    printed = acme.says(
        "add-key", *whose, "--name", "orchestrator", *(["--may-overspend"] if overspend else [])
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


def test_keys_are_listed_in_columns_without_their_secrets_and_revoked_by_their_id(
    acme: Shell,
) -> None:
    assert acme.says("list-keys") == "There are no API keys yet: make one with `flask add-key`.\n"
    with time_machine.travel(NOW, tick=False):
        key = acme.says(
            "add-key", "--customer", "acme", "--name", "orchestrator", "--may-overspend"
        ).strip()
    other = acme.says("add-key", "--all-customers", "--name", "reports").strip()
    _, key_id, secret = key.split("_", 2)
    printed = acme.says("list-keys")
    assert secret not in printed
    assert table(printed)[0] == ["id", "customer", "name", "may overspend", "made", "state"]
    assert table(printed)[1] == [
        key_id,
        "acme",
        "orchestrator",
        "yes",
        "2025-02-05T10:30:00Z",
        "active",
    ]
    assert table(printed)[2][1:4] == ["(all)", "reports", "no"]
    assert len(table(acme.says("list-keys", "--customer", "acme"))) == 2
    assert acme.says("revoke-key", key_id) == f"Revoked key {key_id}.\n"
    assert authentication.actor_of_key(key) is None
    assert authentication.actor_of_key(other)
    assert [row[-1] for row in table(acme.says("list-keys"))[1:]] == ["revoked", "active"]


def test_revoking_a_key_twice_is_one_change(acme: Shell) -> None:
    key_id = acme.says("add-key", "--customer", "acme", "--name", "orchestrator").split("_")[1]
    acme.says("revoke-key", key_id)
    before = contents()
    acme.says("revoke-key", key_id)
    assert contents() == before


# Budgets.


def replayed(budget_id: str) -> dict[str, str]:
    """A budget's fields as its audit rows tell them, each following from the one before; their deltas agree."""
    told: dict[Any, Any] = {}
    total_minor = 0
    for row in AuditLog.select().where(AuditLog.budgetId == budget_id).order_by(AuditLog.version):
        assert row.oldValue == told.get(row.field)
        told[row.field] = row.newValue
        total_minor += row.budgetedDeltaMinor
    assert total_minor == Budget.get_by_id(budget_id).budgetedMinor
    return told


def test_a_budget_is_created_updated_and_left_alone(acme: Shell) -> None:
    assert (
        acme.says(*budget(id="legal-1", amount="1,000.50"))
        == "Budget legal-1 (Legal, Q1 2025): created.\n"
    )
    assert replayed("legal-1") == {"budgetedAmount": "1000.5"}
    assert acme.says(*budget(amount="2000")) == "Budget legal-1 (Legal, Q1 2025): updated.\n"
    assert (
        acme.says(*budget(amount="2000", auto_approve_limit="99.5"))
        == "Budget legal-1 (Legal, Q1 2025): updated.\n"
    )
    assert (
        acme.says(*budget(amount="1500", auto_approve_limit="100"))
        == "Budget legal-1 (Legal, Q1 2025): updated.\n"
    )
    assert replayed("legal-1") == {"budgetedAmount": "1500", "autoApproveLimit": "100"}
    before = contents()
    assert acme.says(*budget(amount="1500.00")) == "Budget legal-1 (Legal, Q1 2025): unchanged.\n"
    assert contents() == before
    assert (
        AuditLog.select().where(AuditLog.budgetId == "legal-1").count()
        == BudgetUtilization.get_by_id("legal-1").version
        == 5
    )
    assert verification.verify().findings == []


def test_the_audit_log_says_why_a_budget_was_set(acme: Shell) -> None:
    acme.says(*budget(id="legal-1", amount="5000"))
    acme.says(*budget(amount="2000"))
    acme.says(*budget(amount="3000", auto_approve_limit="5", reason="The board of 3 May"))
    acme.says(*budget(department="Sales", id="sales-1", reason="A new team"))
    told = (
        AuditLog.select(AuditLog.reason)
        .where(AuditLog.budgetId << ("legal-1", "sales-1"))
        .order_by(AuditLog.id)
    )
    assert [row.reason for row in told] == [
        "Legal, Q1 2025: $5,000",
        "Set by hand",
        "The board of 3 May",
        "The board of 3 May",
        "A new team",
    ]


def test_a_budget_is_the_same_one_however_its_department_and_period_are_spelled(
    acme: Shell,
) -> None:
    said = acme.says(*budget(department="  ENGINEERING ", period="2025-q1", amount="5"))
    assert said == "Budget budget-1 (Engineering, Q1 2025): updated.\n"


def test_a_budget_without_an_id_gets_one(acme: Shell) -> None:
    said = acme.says(*budget())
    assert re.fullmatch(r"Budget bud_[0-9a-f]{16} \(Legal, Q1 2025\): created\.\n", said)


def test_a_budget_in_another_currency_keeps_its_decimals(acme: Shell) -> None:
    acme.says(*budget(id="yen", currency="JPY", amount="5000", auto_approve_limit="10"))
    acme.says(*budget(id="dinar", department="Oil", currency="KWD", amount="5000.125"))
    assert [
        (Budget.get_by_id(name).budgetedMinor, Budget.get_by_id(name).currencyExponent)
        for name in ("yen", "dinar")
    ] == [(5000, 0), (5000125, 3)]


@pytest.mark.parametrize("amount", ["99,50", "1,00", "10,00,000", ",5", "1000,", "1_000", "5 000"])
def test_an_amount_that_could_mean_two_things_is_refused(acme: Shell, amount: str) -> None:
    assert repr(amount) in acme.refuses(*budget(amount=amount))


def test_a_budget_may_be_cut_below_what_is_held(acme: Shell) -> None:
    BudgetUtilization.update(reservedMinor=500).execute()
    assert (
        acme.says(*budget(department="Engineering", amount="0"))
        == "Budget budget-1 (Engineering, Q1 2025): updated.\n"
    )


def test_a_budget_that_a_source_owns_is_left_to_it(acme: Shell) -> None:
    BudgetDataSourceConfig.insert(
        id="sheet-1",
        customerId="acme",
        sourceType="google_sheets",
        spreadsheetKey="1AbC",
        isActive=True,
        createdAt=NOW,
    ).execute()
    Budget.update(sourceId="sheet-1").execute()
    assert "belongs to source sheet-1: change the sheet instead" in acme.refuses(
        *budget(department="Engineering")
    )


# The check log.


def ask(request_id: str, at: datetime, customer_id: str = "acme") -> None:
    """A check, logged at that time."""
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


def test_old_checks_are_pruned_and_the_audit_log_says_so(acme: Shell) -> None:
    acme.says("add-customer", "globex", "--name", "Globex")
    today = datetime.now(UTC)
    ask("old-1", today - timedelta(days=31))
    ask("old-2", today - timedelta(days=400))
    ask("old-3", today - timedelta(days=31), "globex")
    ask("young", today - timedelta(days=29))
    ask("today", today)
    assert (
        acme.says("prune-checks", "--older-than", "30") == "Deleted 3 checks older than 30 days.\n"
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
    assert acme.says("verify").endswith("every balance is proven.\n")


def test_the_newest_check_stays_whatever_its_age(acme: Shell) -> None:
    for number in range(3):
        ask(f"old-{number}", NOW)
    assert (
        acme.says("prune-checks", "--older-than", "30") == "Deleted 2 checks older than 30 days.\n"
    )
    assert [row.requestId for row in BudgetCheckLog.select()] == ["old-2"]


def told_to_be_deleted() -> list[tuple[str | None, int]]:
    """How many checks of whom the audit log says were deleted, row by row."""
    rows = AuditLog.select().where(AuditLog.action == "PRUNE_CHECKS").order_by(AuditLog.id)
    return [(row.customerId, int(row.oldValue or 0)) for row in rows]


@pytest.fixture
def by_twos(acme: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Pruning goes on two checks at a time, of which five are old, one of them another customer's."""
    monkeypatch.setattr(retention, "PORTION", 2)
    acme.says("add-customer", "globex", "--name", "Globex")
    for number, customer_id in enumerate(["acme", "acme", "globex", "acme", "acme", "acme"]):
        ask(f"{number}", NOW - timedelta(days=10 - number), customer_id)
    return acme


def test_pruning_lets_others_write_between_its_portions_and_audits_each(by_twos: Shell) -> None:
    told: list[int] = []

    def write_too(deleted: int) -> None:
        told.append(deleted)
        assert deleted == sum(count for _, count in told_to_be_deleted())
        ask(f"meanwhile-{deleted}", datetime.now(UTC))

    # The last of the old ones is no longer the newest, once somebody else has written.
    assert retention.prune_checks(ROOT, 30, write_too) == 6
    assert told == [2, 4, 6, 6]
    assert told_to_be_deleted() == [("acme", 2), ("acme", 1), ("globex", 1), ("acme", 2)]
    assert {row.requestId for row in BudgetCheckLog.select()} == {
        f"meanwhile-{deleted}" for deleted in told
    }


def test_pruning_that_is_cut_off_has_told_what_went_and_another_run_goes_on(by_twos: Shell) -> None:
    def cut_off(deleted: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retention.prune_checks(ROOT, 30, cut_off)
    assert [row.requestId for row in BudgetCheckLog.select().order_by(BudgetCheckLog.id)] == [
        "2",
        "3",
        "4",
        "5",
    ]
    assert told_to_be_deleted() == [("acme", 2)]
    assert (
        by_twos.says("prune-checks", "--older-than", "30")
        == "Deleted 3 checks older than 30 days.\n"
    )
    assert told_to_be_deleted() == [("acme", 2), ("acme", 1), ("globex", 1), ("acme", 1)]


def test_pruning_that_is_refused_on_the_way_says_how_many_went_before(by_twos: Shell) -> None:
    target = by_twos.app.config["SETTINGS"].database
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
        ) as refused:
            retention.prune_checks(ROOT, 30, keep_writers_out)
        assert refused.value.code is Code.UNAVAILABLE
        assert told_to_be_deleted() == [("acme", 2)]
    assert (
        by_twos.says("prune-checks", "--older-than", "30")
        == "Deleted 3 checks older than 30 days.\n"
    )


def test_on_a_terminal_pruning_says_how_far_it_is(
    acme: Shell, environment: dict[str, str], tmp_path: Path
) -> None:
    for number in range(3):
        ask(f"old-{number}", NOW)
    installation = Installation(environment, constants={"budget_sync.ledger.retention.PORTION": 1})
    terminal, theirs = pty.openpty()
    with open(terminal, "rb", buffering=0) as shown, (tmp_path / "said").open("w+") as said:
        # Closed before it is looked at: what was shown can still be read, and where nothing was, nobody waits for it.
        with open(theirs, "w") as error, open(os.devnull) as nothing:
            assert (
                installation.begin(
                    ("prune-checks", "--older-than", "30"), [nothing, said, error]
                ).wait(timeout=60)
                == 0
            )
        lines = shown.read(1000)
        said.seek(0)
        assert said.read() == "Deleted 2 checks older than 30 days.\n"
    assert lines.startswith(b"\rdeleted: 1 checks\rdeleted: 2 checks")
    assert re.search(rb"\r +\r$", lines)


def test_pruning_nothing_leaves_no_trace(acme: Shell) -> None:
    ask("young", datetime.now(UTC))
    before = contents()
    assert (
        acme.says("prune-checks", "--older-than", "36500")
        == "Deleted 0 checks older than 36500 days.\n"
    )
    assert contents() == before


# The figures.


def test_stats_are_the_guides_four_figures(acme: Shell) -> None:
    acme.says("add-customer", "globex", "--name", "Globex", "--currency", "EUR")
    acme.says(*budget(customer="globex", amount="0.5"))
    acme.says(*budget(department="Engineering", period="Q2 2025", amount="20,000"))
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
    assert acme.says("stats") == (
        "Budget check success rate (24 hours): 50.0% of 4 checks\n"
        "Average response time (24 hours): 30.0 ms\n"
        "Sync success rate (7 days): 50.0% of 4 passes\n"
        "Budget utilisation:\n"
        "department   currency  budgeted  used     available\n"
        "Engineering  USD       120,000   7,500.5  112,499.5\n"
        "Legal        EUR       0.5       0        0.5\n"
    )
    assert acme.says("stats", "--customer", "globex") == (
        "Budget check success rate (24 hours): 0.0% of 1 checks\n"
        "Average response time (24 hours): 30.0 ms\n"
        "Sync success rate (7 days): none yet of 0 passes\n"
        "Budget utilisation:\n"
        "department  currency  budgeted  used  available\n"
        "Legal       EUR       0.5       0     0.5\n"
    )


def test_stats_of_other_decimals_are_a_departments_together(acme: Shell) -> None:
    for quarter, decimals, amount in (
        ("Q1", "0", "5000"),
        ("Q2", "2", "5000.5"),
        ("Q3", "2", "0.5"),
    ):
        with yen_of(int(decimals)):
            acme.says(
                *budget(
                    id=f"yen-{quarter}",
                    department="Tokyo",
                    period=f"{quarter} 2025",
                    currency="JPY",
                    amount=amount,
                )
            )
    told = [line.split() for line in acme.says("stats").splitlines()]
    assert [line for line in told if line[0] == "Tokyo"] == [
        ["Tokyo", "JPY", "10,001", "0", "10,001"]
    ]


def test_stats_add_up_more_than_64_bits_hold(acme: Shell) -> None:
    acme.says("add-customer", "rich", "--name", "Rich")
    insert_vast_budgets("rich")
    assert "Vast        USD       92,999,999,999,999,907  92,999,999,999,999,907  0\n" in acme.says(
        "stats", "--customer", "rich"
    )


def test_stats_of_nothing_say_so(shell: Shell) -> None:
    assert shell.says("stats") == (
        "Budget check success rate (24 hours): none yet of 0 checks\n"
        "Average response time (24 hours): none yet\n"
        "Sync success rate (7 days): none yet of 0 passes\n"
        "Budget utilisation:\n"
        "There are no budgets yet: make one with `flask set-budget`.\n"
    )


# The schema.


def test_init_db_makes_the_folder_and_the_tables_once(chosen: Settings) -> None:
    shell = Shell(create_app(chosen))
    assert (
        shell.says("init-db")
        == f"Created {database.label()} (schema version {database.SCHEMA_VERSION}).\n"
    )
    assert (
        shell.says("init-db")
        == f"Already there: {database.label()} (schema version {database.SCHEMA_VERSION}).\n"
    )
    assert shell.says("upgrade-db") == f"Already at schema version {database.SCHEMA_VERSION}.\n"
    assert shell.says("list-users") == "There are no users yet: make one with `flask add-user`.\n"
    database.close_connection()


# The server.


def test_serve_refuses_a_port_that_is_taken(acme: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = acme.refuses("serve", "--port", str(port))
    assert said == f"Cannot listen on 127.0.0.1 port {port}: Address already in use."


def test_serve_refuses_an_address_of_another_machine(acme: Shell) -> None:
    assert acme.refuses("serve", "--host", "192.0.2.1").startswith(
        "Cannot listen on 192.0.2.1 port 8000: "
    )


# The demo.


def world() -> dict[str, list[Any]]:
    """What the demo makes, without what differs from one time to the next."""
    budget_row, standing = Budget.get_by_id(demo.BUDGET), BudgetUtilization.get_by_id(demo.BUDGET)
    return {
        "people": sorted((row.id, row.name, row.email, row.role) for row in User.select()),
        "budget": [
            budget_row.department,
            budget_row.fiscalPeriod,
            budget_row.budgetedMinor,
            standing.reservedMinor,
            standing.committedMinor,
        ],
        "movements": [
            (row.version, row.action, row.reservedDeltaMinor, row.committedDeltaMinor)
            for row in AuditLog.select().where(AuditLog.budgetId == demo.BUDGET)
        ],
    }


WHOLE_WORLD = {
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
    """The passwords, and the key, that the demo keeps in its folder."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["password"]
        for path in (folder / "demo").glob("*.json")
    }
    return found | {
        "orchestrator": (folder / "demo" / "orchestrator.header")
        .read_text(encoding="utf-8")
        .split()[-1]
    }


def assert_the_secrets_work(app: Flask, folder: Path) -> None:
    """Every password signs in, and the key is one."""
    kept = secrets_of(folder)
    for _, _, email, _, file in demo.PEOPLE:
        sign_in(app, email, kept[file])
    actor = authentication.actor_of_key(kept["orchestrator"])
    assert actor
    assert (actor.name, actor.customer_id) == ("orchestrator", demo.CUSTOMER)


def test_the_demo_is_the_guides_world(shell: Shell) -> None:
    said = shell.says("demo", "--url", "http://127.0.0.1:8099")
    assert said.startswith("The demo is loaded.\n")
    assert world() == WHOLE_WORLD
    folder = Path(shell.app.instance_path)
    assert_the_secrets_work(shell.app, folder)
    kept = secrets_of(folder)
    assert all(kept[file] in said for *_, file in demo.PEOPLE)
    assert kept["orchestrator"] not in said
    assert "http://127.0.0.1:8099/api/budget/check" in said
    assert ":8000" not in said
    assert shell.says("verify").startswith("Verified: 4 budgets, 1 reservations, ")


def test_the_demo_twice_changes_nothing(shell: Shell) -> None:
    shell.says("demo")
    before, kept = contents(), secrets_of(Path(shell.app.instance_path))
    assert shell.says("demo").startswith("The demo was loaded before; nothing changed.\n")
    assert contents() == before
    assert secrets_of(Path(shell.app.instance_path)) == kept


def cut(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, calls_before: int = 0) -> None:
    """Let somebody press Ctrl-C when that function is called, after it was called so often."""
    whole, calls = getattr(place, name), iter(range(calls_before))

    def fault(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(place, name, fault)


@pytest.mark.parametrize(
    ("place", "name", "calls_before"),
    [(demo, "_keep", 0), (demo, "_keep", 3), (ledger, "reserve", 0), (ledger, "commit", 0)],
    ids=[
        "between a person and their password",
        "between the key and its file",
        "before the reserve",
        "before the commit",
    ],
)
def test_the_demo_goes_on_after_it_was_cut_short(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, calls_before: int
) -> None:
    with monkeypatch.context() as patched:
        cut(patched, place, name, calls_before)
        assert shell.type("demo").exit_code == 1
    assert shell.says("demo").startswith("The demo is loaded.\n")
    assert world() == WHOLE_WORLD
    assert_the_secrets_work(shell.app, Path(shell.app.instance_path))


def test_the_demo_makes_lost_files_anew(shell: Shell) -> None:
    shell.says("demo")
    folder = Path(shell.app.instance_path)
    for name in ("fiona.json", "orchestrator.header"):
        (folder / "demo" / name).unlink()
    shell.says("demo")
    assert world() == WHOLE_WORLD
    assert_the_secrets_work(shell.app, folder)


@sqlite_only
def test_the_demo_on_a_new_database_beside_old_files_makes_secrets_that_work(shell: Shell) -> None:
    shell.says("demo")
    database.close_connection()
    db.file_path.unlink()
    shell.says("init-db")
    shell.says("demo")
    assert_the_secrets_work(shell.app, Path(shell.app.instance_path))


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Nothing is kept from anybody unless the program sees to it."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_each_installations_secrets_are_its_own_and_readable_by_its_owner_alone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    made = []
    for name in ("one", "two"):
        # Without SECRET_KEY, so that one is made and kept.
        chosen = settings.load({"INSTANCE_FOLDER": str(tmp_path / name)})
        shell = Shell(create_app(chosen))
        shell.says("init-db")
        shell.says("demo")
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
        made.append(kept)
    assert not set(made[0].values()) & set(made[1].values())


def test_no_password_key_or_session_is_stored_in_clear(shell: Shell) -> None:
    shell.says("demo")
    shell.says(*user(customer="org-456"), "--password-stdin", typed=f"{PASSWORD}\n")
    shell.says("set-password", "user-123", typed="another horse battery\n" * 2)
    key = shell.says("add-key", "--all-customers", "--name", "reports").strip()
    client = sign_in(shell.app, "new@acme.com")
    with client.session_transaction() as session:
        tokens = [value for value in session.values() if isinstance(value, str) and len(value) > 20]
    assert tokens
    # What somebody types into the wrong field is often the password.
    assert (
        client.post(
            "/api/auth/login",
            json={"email": "hunter2 hunter2 hunter2", "password": "horses for courses"},
        ).status_code
        == 401
    )
    stored = repr(contents()).encode()
    if ENGINE == "sqlite":
        # What was deleted or changed may still lie in the files.
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
    hidden += [whole.split("_", 2)[2] for whole in (key, kept["orchestrator"])]
    assert [secret for secret in hidden if secret.encode() in stored] == []


# As an operator has them.


def ended(
    installation: Installation, output: int, folder: Path, *arguments: str
) -> tuple[int, str]:
    """How a command ended that was to print to that file, which is closed now: its status, and what stands on standard error."""
    with (
        open(os.devnull, "rb") as nothing,
        open(output, "wb") as out,
        (folder / "errors").open("wb") as errors,
    ):
        status = installation.begin(arguments, [nothing, out, errors]).wait(timeout=60)
    return status, (folder / "errors").read_text(encoding="utf-8")


def to_nobody() -> int:
    """A pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    ("nowhere", "why"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
        (to_nobody, "Broken pipe"),
    ],
    ids=["a full disk", "a reader who is gone"],
)
def test_what_is_done_but_cannot_be_printed_is_said_to_be_done(
    guides_world: None,
    app: Flask,
    installation: Installation,
    tmp_path: Path,
    nowhere: Callable[[], int],
    why: str,
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
    said = f"Error: It is done, but could not be printed ({why}): "
    assert ended(installation, nowhere(), tmp_path, *line) == (
        1,
        f"{said}Budget legal-1 (Legal, Q1 2025): created.\n",
    )
    assert Budget.select().where(Budget.id == "legal-1").exists()
    status, error = ended(
        installation, nowhere(), tmp_path, "add-key", "--customer", "org-456", "--name", "lost"
    )
    key = ApiKey.get(ApiKey.name == "lost")
    assert (status, error) == (
        1,
        f"{said}end the use of the key, which nobody has, with `flask revoke-key {key.id}`.\n",
    )


def test_what_is_read_by_nobody_any_more_ends_without_a_word(
    guides_world: None, app: Flask, installation: Installation, tmp_path: Path
) -> None:
    for arguments in (("list-customers",), ("list-customers", "--help")):
        assert ended(installation, to_nobody(), tmp_path, *arguments) == (1, "")
    full = os.open("/dev/full", os.O_WRONLY)
    assert ended(installation, full, tmp_path, "list-customers") == (
        1,
        "Error: [Errno 28] No space left on device\n",
    )


@sqlite_only
def test_what_is_done_where_standard_output_is_closed_is_said_to_be_done(
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
    assert (result.returncode, result.stderr) == (
        1,
        "Error: It is done, but could not be printed (Bad file descriptor): Disabled user user-123.\n",
    )


@sqlite_only
@pytest.mark.parametrize(
    "arguments",
    [("sync-sheets",), ("backup", "{folder}/new.db"), ("restore", "{folder}/old.db")],
    ids=lambda arguments: arguments[0],
)
def test_a_command_works_though_standard_error_is_closed(
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
def test_commands_run_from_any_folder_with_the_app_named(
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
        missing.stderr
        == f"Error: There is no database at {installation.database}. Create it with `flask init-db`.\n"
    )
    made = flask("init-db")
    assert (made.returncode, made.stderr) == (0, "")
    assert installation.database.exists()
