"""Shared by the commands: errors as one line on standard error, the operator, tables, progress."""

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
from budget_sync.accounts import customers
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Actor, operator
from budget_sync.runtime.correlation import current_id, id_of_run
from budget_sync.settings import IS_INSTALLED, Settings

Command = TypeVar("Command", bound=Callable[..., Any])

# A comma must separate thousands: "99,50" could mean two things.
_AMOUNT = re.compile(r"-?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.[0-9]{1,18})?")


#: Paths, names and reasons are shorter.
MAX_ARGUMENT_LENGTH = 4096
_MAX_AMOUNT_LENGTH = 100


class AmountType(click.ParamType[Decimal]):
    """An exact amount in whole currency units."""

    name = "amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount as a Decimal. Raises click.BadParameter if the text is not a number."""
        text = str(value)
        if len(text) > _MAX_AMOUNT_LENGTH:
            self.fail(f"must have at most {_MAX_AMOUNT_LENGTH} characters", param, ctx)
        if _AMOUNT.fullmatch(text):
            return Decimal(text.replace(",", ""))
        try:
            # The function behind the command accepts or rejects other numbers (1e3, nan).
            return Decimal("no" if set(text) & set(",_ ") else text)
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount such as 5000, 5,000 or 99.50", param, ctx)


AMOUNT = AmountType()


class UsageProblem(click.ClickException):
    """A usage error in one line, without click's usage text."""

    exit_code = 2


class OneLineErrorCommand(click.Command):
    """A command that reports each error, usage errors included, as one line on standard error."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments."""
        with _drop_unwritable_output(), _errors_as_one_line():
            if any(not _is_text(argument) for argument in args):
                raise click.UsageError("The arguments must be UTF-8 text.")
            if any(len(argument) > MAX_ARGUMENT_LENGTH for argument in args):
                raise click.UsageError(
                    f"An argument has more than {MAX_ARGUMENT_LENGTH:,} characters. Shorten it."
                )
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        before = current_id.set(id_of_run())
        try:
            with _drop_unwritable_output(), _errors_as_one_line():
                return super().invoke(ctx)
        finally:
            current_id.reset(before)


@contextmanager
def _errors_as_one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        # A list of choices is several lines.
        sentence = " ".join(error.format_message().split())
        raise UsageProblem(
            f"{sentence} Try '{error.ctx.command_path} --help'." if error.ctx else sentence
        ) from error
    except click.ClickException as error:
        raise _one_line_error(error.format_message()) from error
    except RequestError as error:
        raise _one_line_error(error.sentence, error.__cause__) from error
    except database.DatabaseUnusableError as problem:
        raise _one_line_error(str(problem)) from problem
    except OSError as error:
        if error.errno == errno.EPIPE:
            # The reader of the output closed it: click exits with status 1 and prints nothing.
            raise
        raise _one_line_error(str(error)) from error
    except peewee.PeeweeException as error:
        known = database.unavailable_error(error)
        if known is None:
            raise
        raise _one_line_error(known.sentence, error) from error


def _one_line_error(sentence: str, cause: BaseException | None = None) -> click.ClickException:
    detail = f" ({' '.join(str(cause).split())})" if cause else ""
    return click.ClickException(with_command_name(sentence) + detail)


def with_command_name(text: str) -> str:
    """The text with commands named as the operator types them.

    Sentences say `flask init-db`. With an installed package, that is `budget-sync init-db`.
    """
    return text.replace("`flask ", "`budget-sync ") if IS_INSTALLED else text


@contextmanager
def _drop_unwritable_output() -> Iterator[None]:
    """Discard buffered output that cannot be written.

    Python would otherwise try again at exit, print its own error and change the exit status.
    """
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
    """Decorator for a command that runs in the app context and reports errors in one line."""
    return lambda run: click.command(name, cls=OneLineErrorCommand)(with_appcontext(run))


def on_current_schema(run: Command) -> Command:
    """Decorator: require an existing database of this schema version.

    The command raises DatabaseUnusableError otherwise.
    """

    @functools.wraps(run)
    def checked(*args: Any, **kwargs: Any) -> Any:
        database.require_current_schema()
        return run(*args, **kwargs)

    return checked  # type: ignore[return-value]  # wraps() keeps the signature


def me() -> Actor:
    """The operator: the login name of the current user."""
    try:
        return operator(getpass.getuser())
    except (KeyError, OSError):
        return operator(str(os.getuid()))


def settings() -> Settings:
    """The app's settings."""
    chosen: Settings = current_app.config["SETTINGS"]
    return chosen


def customer_or_all(command: Command) -> Command:
    """Decorator for the options --customer ID and --all-customers; see `one_of`."""
    command = click.option("--all-customers", is_flag=True, help="For all customers.")(command)
    return click.option("--customer", "customer_id", metavar="ID", help="For this customer.")(
        command
    )


def one_of(customer_id: str | None, all_customers: bool) -> str | None:
    """The customer, or None for all. Raises click.UsageError unless exactly one option is given."""
    if (customer_id is not None) == all_customers:
        raise click.UsageError("Give either --customer ID or --all-customers.")
    return customer_id


def require_any(options: dict[str, object]) -> None:
    """Raise click.UsageError if no option is given."""
    if all(value is None for value in options.values()):
        raise click.UsageError(f"Give at least one of {', '.join(options)}.")


def changed_line(what: str, fields: list[str]) -> str:
    """The result of a command that changes settings: which of them it has changed."""
    if not fields:
        return f"Nothing to change: {what} has these values already."
    return f"Changed {what}: {', '.join(fields)}."


def count_of(number: int, what: str) -> str:
    """A number with its noun: "1 user", "2,000 users"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def require_known(customer_id: str | None) -> None:
    """Raise RequestError INVALID_CUSTOMER if the customer does not exist."""
    if customer_id is not None:
        customers.get_customer(customer_id)


def show_table(header: tuple[str, ...], rows: list[tuple[str, ...]], empty: str) -> None:
    """Print rows in columns under a header, or the sentence `empty` if there are no rows."""
    if not rows:
        click.echo(with_command_name(empty))
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def state_since(ended_at: object, word: str) -> str:
    """The state shown in a list: `word` if the row has an end time, else "active"."""
    return word if ended_at else "active"


def done(text: str, instead: str | None = None) -> None:
    """Print the result of a command.

    Raises click.ClickException if it cannot be printed. The error says that the command succeeded,
    and repeats the text, or says `instead`.
    """
    try:
        _print(with_command_name(text))
    except (OSError, UnicodeError) as error:
        raise click.ClickException(
            f"The command succeeded, but its output could not be printed ({_reason(error)}): "
            f"{instead or ' '.join(text.splitlines())}"
        ) from error


class Lines:
    """Prints lines about work that must continue even if they cannot be printed."""

    def __init__(self) -> None:
        #: Why a line could not be printed; None if all were.
        self.trouble: str | None = None

    def print(self, text: str, *, err: bool = False) -> None:
        """Print a line, or keep the reason why it cannot be printed."""
        try:
            _print(text, err=err)
        except (OSError, UnicodeError) as error:
            self.trouble = _reason(error)


def _print(text: str, *, err: bool = False) -> None:
    """Print a line.

    Raises OSError if standard output is closed. If standard error is closed, does nothing.
    """
    if sys.stdout is None and not err:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    click.echo(text, err=err)


def _reason(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def handle_stop_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `handle` for SIGTERM, SIGINT and SIGHUP instead of ending the process.

    A signal that is ignored, such as SIGHUP under nohup, stays ignored.
    """
    handled = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {
        number: signal.signal(number, lambda received, _: handle(signal.Signals(received)))
        for number in handled
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_terminal() -> bool:
    """Whether standard error is a terminal. It may also be closed."""
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """A progress line on a terminal, overwritten by each update and erased at the end."""

    def __init__(self) -> None:
        self.shown = 0

    def say(self, text: str) -> None:
        """Show the text in place of the previous one."""
        text = text[:100]
        self._show("\r" + text.ljust(self.shown))
        self.shown = len(text)

    def clear(self) -> None:
        """Erase the line."""
        if self.shown:
            self._show("\r" + " " * self.shown + "\r")
            self.shown = 0

    def _show(self, text: str) -> None:
        # The terminal may be gone. The work continues.
        with suppress(OSError):
            click.echo(text, nl=False, err=True)


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A function that shows progress in one line on a terminal, and does nothing otherwise."""
    progress = Progress()
    try:
        yield progress.say if has_terminal() else lambda _: None
    finally:
        progress.clear()
