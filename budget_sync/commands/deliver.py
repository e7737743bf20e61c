"""The command that delivers events to webhooks, and sends the messages of alerts."""

from __future__ import annotations

import logging
import time

import click
import peewee

from budget_sync.alerts.service import Alerts
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
    """Deliver events to the webhooks, and send the messages of alerts, until SIGTERM.

    Only one process of a database delivers. Another one waits until that one ends; with --once, it
    ends at once.
    """
    settings = chosen_settings()
    lock = SoleProcess(settings.database, settings.instance_folder, "deliver")
    alerts = Alerts(settings.public_url, private_networks=settings.webhook_private_networks)
    job = alerts.job_once if once else alerts.job
    deliverer = Deliverer(settings.webhook_private_networks, jobs=(job,))

    def stop(_: object) -> None:
        deliverer.stop()
        alerts.stop()

    with handle_stop_signals(stop):
        if once:
            done(_deliver_once(lock, deliverer, alerts))
        else:
            _serve(lock, deliverer, alerts)


def _deliver_once(lock: SoleProcess, deliverer: Deliverer, alerts: Alerts) -> str:
    """Deliver what is due; returns what was done."""
    if not lock.acquire():
        return "Another `flask deliver` is running. Nothing was done."
    try:
        deliverer.run_once()
    finally:
        alerts.finish()
        lock.release()
    return f"{deliverer.counts.sentence} {alerts.sentence}".strip()


def _serve(lock: SoleProcess, deliverer: Deliverer, alerts: Alerts) -> None:
    """Deliver whenever this process has the lock, until stopped."""
    is_waiting = False
    while not deliverer.is_stopping:
        if _acquire(lock):
            log.info("Delivering events to webhooks and messages of alerts.")
            try:
                deliverer.run(lock.is_held)
            finally:
                alerts.finish()
                lock.release()
            is_waiting = False
            continue
        if not is_waiting:
            log.warning("Another process delivers events, or the database is down. Waiting.")
        is_waiting = True
        time.sleep(RETRY_S)
    log.info("Stopped. %s", f"{deliverer.counts.sentence} {alerts.sentence}".strip())


def _acquire(lock: SoleProcess) -> bool:
    try:
        return lock.acquire()
    except (peewee.PeeweeException, RequestError):
        return False


COMMANDS = (deliver,)
