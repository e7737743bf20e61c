"""The command that sends a load to a running service, as a test customer."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from budget_sync.commands.support import (
    Lines,
    command,
    handle_stop_signals,
    settings,
    show_table,
)
from budget_sync.operations import load_test
from budget_sync.operations.load_test.report import HEADER

_MAX_KEY_LENGTH = 1000


@command("load-test")
@click.option("--url", required=True, help="The service, such as https://budgets.example.com.")
@click.option(
    "--key-file",
    required=True,
    type=click.Path(path_type=Path),
    help="A file with an API key of a test customer.",
)
@click.option(
    "--per-minute",
    default=600,
    show_default=True,
    type=click.IntRange(3, 60_000),
    help="Calls per minute.",
)
@click.option(
    "--minutes",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.01, 24 * 60),
    help="How long to send new purchases.",
)
def run_load_test(url: str, key_file: Path, per_minute: int, minutes: float) -> None:
    """Send purchases of a test customer at a fixed rate, and measure the replies.

    Each purchase is a check, a reserve, and a commit or a release, with the retries that
    docs/integrate.md asks for. The latency of a call counts from the time at which it should start.
    The test passes if no call fails and 99 % of the calls of each kind take at most 2 seconds. The
    exit status is 1 if it fails. Ctrl-C ends it and prints the table so far.

    It uses the budgets of the test customer that have enough available, and changes no other
    customer. `flask doctor` shows when it last passed, if both use the same instance folder.
    """
    client = load_test.Client(_checked_url(url), _key_in(key_file))
    lines, stop = Lines(), threading.Event()
    try:
        plan = load_test.prepare(client, per_minute, minutes)
    except load_test.LoadTestError as problem:
        raise click.ClickException(str(problem)) from None
    lines.print(
        f"Sending {per_minute:,} calls per minute for {minutes:g} minutes to {client.url}, as "
        f"{plan.customer_id}, on {len(plan.budgets)} of its budgets."
    )
    with handle_stop_signals(lambda _: stop.set()):
        report = load_test.run(client, plan, stop, lines.print)
    show_table(HEADER, report.rows(), "")
    for text, count in sorted(report.problems.items()):
        lines.print(f"{count:,} times {text}")
    _finish(report, client.url, per_minute, minutes, lines)


def _finish(
    report: load_test.Report, url: str, per_minute: int, minutes: float, lines: Lines
) -> None:
    """Print the verdict and store it if the test passed. Raises click.ClickException otherwise."""
    if not report.is_complete:
        raise click.ClickException("The load test was interrupted.")
    limit = f"{load_test.LIMIT_S:g} seconds"
    if not report.passed:
        raise click.ClickException(
            f"The load test failed: {sum(report.errors.values()):,} calls failed, and 99 % of the "
            f"slowest call took up to {report.p99_s:.3f} s; at most {limit} are allowed."
        )
    lines.print(f"Passed: no call failed, and 99 % of each call took at most {limit}.")
    folder = settings().instance_folder
    try:
        path = load_test.store_passed(folder, url, per_minute, minutes, report.p99_s)
    except OSError as error:
        lines.print(
            f"The result is not stored for `flask doctor`: {folder}: {error.strerror}.", err=True
        )
        return
    lines.print(
        f"Stored in {path}. For `flask doctor` on another machine, copy the file to the instance "
        "folder there."
    )


def _checked_url(url: str) -> str:
    if not url.startswith(("http://", "https://")) or any(char.isspace() for char in url):
        raise click.UsageError("--url must begin with http:// or https://.")
    return url


def _key_in(path: Path) -> str:
    """The API key in a file. Raises click.ClickException."""
    try:
        with path.open(encoding="ascii") as file:
            key = file.read(_MAX_KEY_LENGTH).strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise click.ClickException(f"{path} cannot be read: {reason}.") from None
    if not key.startswith("bsk_") or any(char.isspace() for char in key):
        raise click.ClickException(f"{path} has no API key. `flask add-key` prints one.")
    return key


COMMANDS = (run_load_test,)
