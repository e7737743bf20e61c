"""Alerts: list, add, test and remove them, and what was sent."""

from __future__ import annotations

from threading import BoundedSemaphore

from flask import Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from budget_sync.alerts import manage
from budget_sync.alerts.conditions import Kind
from budget_sync.database.delivery_models import Alert
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Action, require_for
from budget_sync.web.console.base import console, page, settings, typed, viewer
from budget_sync.web.console.errors import status_of

#: Tests and checks of addresses at the same time per worker. Each may occupy a thread for long.
TESTS_AT_ONCE = 2
_tests = BoundedSemaphore(TESTS_AT_ONCE)

#: The conditions without a number, in the order of the form.
PLAIN = (Kind.OVERDRAWN, Kind.SYNC_FAILED, Kind.HELD, Kind.WEBHOOK_PAUSED)


@console.get("/alerts")
def alert_list() -> Response:
    """All alerts of the customer, and their latest messages."""
    return _list()


@console.post("/alerts/add")
def add_alert() -> AnyResponse:
    """Add an alert."""
    who = viewer()
    department, digest = typed("department", 300).strip(), typed("digest", 10).strip()
    require_for(who.actor, Action.MANAGE_ALERTS, who.customer.id)
    try:
        manage.add_alert(
            who.actor,
            who.customer.id,
            typed("url", 3000).strip(),
            _conditions(),
            department=department or None,
            to_owners=typed("owners") == "yes",
            digest_at=digest or None,
            private_networks=settings().webhook_private_networks,
        )
    except RequestError as error:
        return _list(status_of(error), error.sentence)
    flash("The alert is added. It reports what happens from now on. Send a test to try it.")
    return _back()


def _conditions() -> str:
    """The conditions in the form, separated by commas. Raises RequestError INVALID_REQUEST."""
    chosen = [str(kind) for kind in PLAIN if kind in request.form.getlist("on")]
    thresholds = [
        f"{Kind.THRESHOLD}:{each.strip()}"
        for each in typed("thresholds", 100).split(",")
        if each.strip()
    ]
    days = typed("days", 10).strip()
    found = ",".join([*thresholds, *chosen, *([f"{Kind.STALE_HOLD}:{days}d"] if days else [])])
    if not found:
        raise invalid_request({"on": "must have at least one condition"})
    return found


@console.post("/alerts/test")
def test_alert() -> AnyResponse:
    """Send a test message, and show the result."""
    found = _alert()
    if not _tests.acquire(blocking=False):
        raise RequestError(
            Code.UNAVAILABLE,
            "Other tests are running right now. Please try again shortly.",
            retryAfter=5,
        )
    try:
        error = manage.send_test(
            viewer().actor,
            found.id,
            public_url=settings().public_url,
            private_networks=settings().webhook_private_networks,
        )
    finally:
        _tests.release()
    flash(manage.test_sentence(error), "error" if error else "message")
    return _back()


@console.get("/alerts/remove")
def confirm_remove_alert() -> Response:
    """Ask for confirmation."""
    return page("alert_remove.html", alert=_alert())


@console.post("/alerts/remove")
def remove_alert() -> AnyResponse:
    """Remove an alert."""
    manage.remove_alert(viewer().actor, _alert().id)
    flash("The alert is removed. It sends nothing more.")
    return _back()


def _back() -> AnyResponse:
    return redirect(url_for("console.alert_list"))


def _list(status: int = 200, error: str | None = None) -> Response:
    """The page; after an error, its form has what was typed, except the address."""
    who = viewer()
    require_for(who.actor, Action.MANAGE_ALERTS, who.customer.id)
    alerts = manage.list_alerts(who.actor, who.customer.id)
    return page(
        "alerts.html",
        status,
        alerts=alerts,
        names={alert.id: alert.redactedUrl for alert in alerts},
        waiting=manage.waiting_counts(who.actor, who.customer.id),
        messages=manage.latest_messages(who.actor, who.customer.id),
        plain=PLAIN,
        form=request.form if error else None,
        error=error,
        now=clock.now(),
    )


def _alert() -> Alert:
    """The alert that the page is about. Raises RequestError NOT_FOUND."""
    found = manage.get_alert(viewer().actor, typed("id"))
    if found.customerId != viewer().customer.id:
        raise RequestError(Code.NOT_FOUND, "There is no alert with that id.")
    return found
