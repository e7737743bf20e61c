"""Webhooks: list, add, show one with its last deliveries, rotate, test, resume, remove."""

from __future__ import annotations

from datetime import timedelta
from threading import BoundedSemaphore

from flask import Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.database.delivery_models import Webhook
from budget_sync.delivery import webhooks
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.events import EventType
from budget_sync.domain.permissions import Action, require_for
from budget_sync.web.console.base import console, page, settings, typed, viewer
from budget_sync.web.console.errors import status_of

#: Tests at the same time per worker. Each may occupy a thread for ten seconds.
TESTS_AT_ONCE = 2
_tests = BoundedSemaphore(TESTS_AT_ONCE)


@console.get("/webhooks")
def webhook_list() -> Response:
    """All webhooks of the customer."""
    return _list()


@console.post("/webhooks/add")
def add_webhook() -> Response:
    """Add a webhook and show its secret once."""
    who, url = viewer(), typed("url", 3000).strip()
    try:
        added = webhooks.add_webhook(
            who.actor,
            who.customer.id,
            url,
            _types(),
            private_networks=settings().webhook_private_networks,
        )
    except RequestError as error:
        return _list(status_of(error), url=url, error=error.sentence)
    return _secret(added.id, added.secret)


def _types() -> list[EventType] | None:
    """The chosen types; None if all are chosen. Raises RequestError INVALID_REQUEST."""
    chosen = [kind for kind in EventType if kind in request.form.getlist("type")]
    if not chosen:
        raise invalid_request({"types": "must have at least one type"})
    return None if len(chosen) == len(EventType) else chosen


def _secret(webhook_id: str, secret: str) -> Response:
    return page(
        "secret.html",
        title=f"Webhook {webhook_id}",
        what="Secret",
        secret=secret,
        back="console.webhook_list",
        hint="The receiver verifies the signature of each event with it, as Standard Webhooks "
        "describes.",
    )


@console.get("/webhooks/show")
def show_webhook() -> Response:
    """One webhook, with its last deliveries and actions."""
    return _one(_webhook())


@console.get("/webhooks/rotate")
def confirm_rotate_webhook() -> Response:
    """Ask how long the earlier secret signs, too."""
    return page("webhook_rotate.html", webhook=_webhook())


@console.post("/webhooks/rotate")
def rotate_webhook() -> Response:
    """Replace the secret and show the new one once."""
    found = _webhook()
    try:
        secret = webhooks.rotate_secret(viewer().actor, found.id, _hours("overlap"))
    except RequestError as error:
        return page("webhook_rotate.html", status_of(error), webhook=found, error=error.sentence)
    return _secret(found.id, secret)


def _hours(field: str) -> timedelta:
    """A number of hours in the form. Raises RequestError INVALID_REQUEST."""
    text = typed(field, 10).strip()
    if not (text.isascii() and text.isdecimal()):
        raise invalid_request({field: "must be a number of hours"})
    return timedelta(hours=int(text[:6]))


@console.post("/webhooks/test")
def test_webhook() -> AnyResponse:
    """Send a test event, and show the result."""
    found = _webhook()
    if not _tests.acquire(blocking=False):
        raise RequestError(
            Code.UNAVAILABLE,
            "Other tests are running right now. Please try again shortly.",
            retryAfter=5,
        )
    try:
        answer = webhooks.send_test(
            viewer().actor, found.id, private_networks=settings().webhook_private_networks
        )
    finally:
        _tests.release()
    flash(webhooks.test_sentence(answer), "error" if answer.error else "message")
    return _back(found)


@console.post("/webhooks/resume")
def resume_webhook() -> AnyResponse:
    """Continue a webhook with the event that failed, or after the newest one."""
    found = _webhook()
    webhooks.resume_webhook(
        viewer().actor, found.id, "latest" if typed("from") == "latest" else None
    )
    flash("The webhook is resumed.")
    return _back(found)


@console.get("/webhooks/remove")
def confirm_remove_webhook() -> Response:
    """Ask for confirmation."""
    return page("webhook_remove.html", webhook=_webhook())


@console.post("/webhooks/remove")
def remove_webhook() -> AnyResponse:
    """Remove a webhook."""
    found = _webhook()
    webhooks.remove_webhook(viewer().actor, found.id)
    flash("The webhook is removed. Its address gets no more events.")
    return redirect(url_for("console.webhook_list"))


def _back(webhook: Webhook) -> AnyResponse:
    return redirect(url_for("console.show_webhook", id=webhook.id))


def _list(status: int = 200, **values: str) -> Response:
    who = viewer()
    require_for(who.actor, Action.MANAGE_WEBHOOKS, who.customer.id)
    return page(
        "webhooks.html",
        status,
        webhooks=webhooks.list_webhooks(who.actor, who.customer.id),
        types=list(EventType),
        **values,
    )


def _one(webhook: Webhook) -> Response:
    until = webhook.previousSecretUntil
    return page(
        "webhook.html",
        webhook=webhook,
        attempts=webhooks.latest_attempts(viewer().actor, webhook.id),
        overlap_until=until if until and until > clock.now() else None,
    )


def _webhook() -> Webhook:
    """The webhook that the page is about. Raises RequestError NOT_FOUND."""
    found = webhooks.get_webhook(viewer().actor, typed("id"))
    if found.customerId != viewer().customer.id:
        raise RequestError(Code.NOT_FOUND, "There is no webhook with that id.")
    return found
