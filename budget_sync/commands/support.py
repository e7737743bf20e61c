"""What the commands share: one line on standard error for whatever goes wrong, who has the shell, tables, progress."""

from __future__ import annotations

import errno
import functools
import getpass
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click
import peewee
from flask import current_app
from flask.cli import with_appcontext

from budget_sync import database
from budget_sync.accounts import people
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, operator
from budget_sync.runtime.correlation import current_id, id_of_run
from budget_sync.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

# Commas only where they part thousands: "99,50" could mean two things.
_AMOUNT = re.compile(r"-?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.[0-9]{1,18})?")


class AmountType(click.ParamType[Decimal]):
    """An exact amount in whole currency units."""

    name = "amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
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

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the line."""
        with _settled(), _one_line():
            if any(not _is_text(argument) for argument in args):
                raise click.UsageError("What is typed must be text in UTF-8.")
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        before = current_id.set(id_of_run())
        try:
            with _settled(), _one_line():
                return super().invoke(ctx)
        finally:
            current_id.reset(before)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        # A list of choices is several lines.
        said = " ".join(error.format_message().split())
        raise Mistyped(
            f"{said} Try '{error.ctx.command_path} --help'." if error.ctx else said
        ) from error
    except RequestError as refusal:
        raise click.ClickException(
            f"{refusal.sentence} ({' '.join(str(refusal.__cause__).split())})"
            if refusal.__cause__
            else refusal.sentence
        ) from refusal
    except database.DatabaseProblem as problem:
        raise click.ClickException(str(problem)) from problem
    except OSError as error:
        if error.errno == errno.EPIPE:
            # Whoever read what is printed has seen enough: click ends without a word.
            raise
        raise click.ClickException(str(error)) from error
    except peewee.PeeweeException as error:
        refused = database.refusal_of(error)
        if refused is None:
            raise
        raise click.ClickException(
            f"{refused.sentence} ({' '.join(str(error).split())})"
        ) from error


@contextmanager
def _settled() -> Iterator[None]:
    """At the end, let go of what could not be printed: Python would try again as it ends, and fail with lines and a status of its own."""
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except OSError:
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())


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


def customer_or_all(command: Command) -> Command:
    """--customer ID or --all-customers, one of them."""
    command = click.option("--all-customers", is_flag=True, help="For all customers.")(command)
    return click.option("--customer", "customer_id", metavar="ID", help="For this customer.")(
        command
    )


def one_of(customer_id: str | None, all_customers: bool) -> str | None:
    """The customer, or None for all. Raises click's usage error unless exactly one was chosen."""
    if (customer_id is not None) == all_customers:
        raise click.UsageError("Give either --customer ID or --all-customers.")
    return customer_id


def require_known(customer_id: str | None) -> None:
    """Raises RequestError INVALID_CUSTOMER for a mistyped customer, whose list would look empty."""
    if customer_id is not None:
        people.get_customer(customer_id)


def show_table(header: tuple[str, ...], rows: list[tuple[str, ...]], empty: str) -> None:
    """Print rows under a header in columns, or a sentence where there are none."""
    if not rows:
        click.echo(empty)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def state_since(ended_at: object, word: str) -> str:
    """What a row's end means in a list: the word, or "active" where it has not come."""
    return word if ended_at else "active"


def done(text: str, instead: str | None = None) -> None:
    """Print what a command has done. Raises click's error where it cannot be printed: it says that it is done all the same, and the text, or `instead`."""
    try:
        _print(text)
    except (OSError, UnicodeError) as error:
        raise click.ClickException(
            f"It is done, but could not be printed ({_why(error)}): {instead or ' '.join(text.splitlines())}"
        ) from error


class Lines:
    """Lines about something that goes on whether they can be printed or not: a full disk or a reader who is gone does not end it."""

    def __init__(self) -> None:
        self.trouble: str | None = None

    def print(self, text: str, *, err: bool = False) -> None:
        """Print one, or keep why that cannot be done."""
        try:
            _print(text, err=err)
        except (OSError, UnicodeError) as error:
            self.trouble = _why(error)


def _print(text: str, *, err: bool = False) -> None:
    """Print a line. Raises OSError where standard output is closed as well; whoever closed standard error wants to hear of no errors."""
    if sys.stdout is None and not err:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    click.echo(text, err=err)


def _why(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def asked_by_signals(ask: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Meanwhile what would end the process asks instead; a signal that it was told to ignore, as by nohup, stays ignored."""
    ends = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {
        number: signal.signal(number, lambda came, _: ask(signal.Signals(came))) for number in ends
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_terminal() -> bool:
    """Whether somebody looks at standard error, which may be closed."""
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """One line on a terminal that says what is being done, written over and wiped at the end."""

    def __init__(self) -> None:
        self.shown = 0

    def say(self, text: str) -> None:
        """Show it."""
        text = text[:100]
        self._show("\r" + text.ljust(self.shown))
        self.shown = len(text)

    def clear(self) -> None:
        """Wipe it."""
        if self.shown:
            self._show("\r" + " " * self.shown + "\r")
            self.shown = 0

    def _show(self, text: str) -> None:
        # The terminal may be gone: what is being done goes on.
        with suppress(OSError):
            click.echo(text, nl=False, err=True)


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """What to tell what is being done: on a terminal one line, wiped at the end; elsewhere nothing is shown."""
    progress = Progress()
    try:
        yield progress.say if has_terminal() else lambda _: None
    finally:
        progress.clear()
