"""The command that delivers events to webhooks."""

from __future__ import annotations

import logging
import time

import click
import peewee

from budget_sync.commands.support import command, done, handle_stop_signals, on_current_schema
from budget_sync.commands.support import settings as chosen_settings
from budget_sync.database import SoleProcess
from budget_sync.delivery.deliver import Deliverer
from budget_sync.domain.errors import RequestError

log = logging.getLogger(__name__)

#: How often a service that waits tries to take over, in seconds.
RETRY_S = 1.0


@command("deliver")
@click.option("--once", is_flag=True, help="Deliver what is due now, then end. For cron.")
@on_current_schema
def deliver(once: bool) -> None:
    """Deliver events to the webhooks, until SIGTERM.

    Only one process of a database delivers. Another one waits until that one ends; with --once, it
    ends at once.
    """
    settings = chosen_settings()
    lock = SoleProcess(settings.database, settings.instance_folder, "deliver")
    deliverer = Deliverer(settings.webhook_private_networks)
    with handle_stop_signals(lambda _: deliverer.stop()):
        if once:
            done(_deliver_once(lock, deliverer))
        else:
            _serve(lock, deliverer)


def _deliver_once(lock: SoleProcess, deliverer: Deliverer) -> str:
    """Deliver what is due; returns what was done."""
    if not lock.acquire():
        return "Another `flask deliver` is running. Nothing was done."
    try:
        deliverer.run_once()
    finally:
        lock.release()
    return deliverer.counts.sentence


def _serve(lock: SoleProcess, deliverer: Deliverer) -> None:
    """Deliver whenever this process has the lock, until stopped."""
    is_waiting = False
    while not deliverer.is_stopping:
        if _acquire(lock):
            log.info("Delivering events to webhooks.")
            try:
                deliverer.run(lock.is_held)
            finally:
                lock.release()
            is_waiting = False
            continue
        if not is_waiting:
            log.warning("Another process delivers events, or the database is down. Waiting.")
        is_waiting = True
        time.sleep(RETRY_S)
    log.info("Stopped. %s", deliverer.counts.sentence)


def _acquire(lock: SoleProcess) -> bool:
    try:
        return lock.acquire()
    except (peewee.PeeweeException, RequestError):
        return False


COMMANDS = (deliver,)
