"""Alerts of a customer: add, list, test, remove. Only admins and FP&A admins may.

The address of an alert has a password or a token, so people and audit rows see a redacted one.
"""

from __future__ import annotations

from typing import Any

from peewee import fn

from budget_sync.accounts.customers import get_customer
from budget_sync.alerts import addresses, texts
from budget_sync.alerts.conditions import parse_conditions, to_text
from budget_sync.alerts.digest import parse_time
from budget_sync.alerts.texts import Pages
from budget_sync.database import audit_log, lock_name, locked, transact
from budget_sync.database.delivery_models import Alert, AlertMessage, AlertState
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.ids import new_id
from budget_sync.domain.names import fold
from budget_sync.domain.permissions import Action, Actor, require, require_for
from budget_sync.queries import events

#: The most alerts of a customer. Each may occupy a thread of the delivery.
MAX_ALERTS = 50

_MAX_CONDITIONS_LENGTH = 500
_MAX_DEPARTMENT_LENGTH = 200


def add_alert(
    actor: Actor,
    customer_id: str,
    url: str,
    conditions: str,
    *,
    department: str | None = None,
    to_owners: bool = False,
    digest_at: str | None = None,
    private_networks: bool,
) -> Alert:
    """Add an alert about what happens from now on.

    `department` limits the conditions about budgets. With `to_owners`, a message about a budget
    goes to the budget's owner if there is one. Raises RequestError INVALID_REQUEST,
    INVALID_CUSTOMER or FORBIDDEN.
    """
    require_for(actor, Action.MANAGE_ALERTS, customer_id)
    values = _values(conditions, department, digest_at)
    address = addresses.parse(
        url, private_networks=private_networks, is_operator=actor.customer_id is None
    )
    if to_owners and not address.is_mail:
        raise invalid_request({"owners": "needs the address of a mail server, such as mailtos://"})
    get_customer(customer_id)
    cursor = events.latest_cursor(actor, customer_id)
    alert_id = new_id("al")

    def work() -> Alert:
        lock_name(f"alerts {customer_id}")
        if _live().where(Alert.customerId == customer_id).count() >= MAX_ALERTS:
            raise invalid_request(
                {"to": f"is one too many: a customer has at most {MAX_ALERTS} alerts"}
            )
        alert = Alert.create(
            id=alert_id,
            customerId=customer_id,
            url=address.url,
            redactedUrl=address.redacted,
            toOwners=to_owners,
            cursor=cursor.text,
            createdAt=clock.now(),
            **values,
        )
        _record(actor, "ADD_ALERT", customer_id, alert_id, new=_details(alert))
        return alert

    return transact(work)


def _values(conditions: str, department: str | None, digest_at: str | None) -> dict[str, Any]:
    """The columns of what an alert is about. Raises RequestError INVALID_REQUEST."""
    wanted = to_text(parse_conditions(conditions))
    if len(wanted) > _MAX_CONDITIONS_LENGTH:
        raise invalid_request({"on": f"must have at most {_MAX_CONDITIONS_LENGTH} characters"})
    name = None if department is None else _department(department)
    return {
        "conditions": wanted,
        "department": name,
        "departmentKey": None if name is None else fold(name),
        "digestAt": None if digest_at is None else parse_time(digest_at),
    }


def _department(text: str) -> str:
    name = " ".join(text.split())
    if not 1 <= len(name) <= _MAX_DEPARTMENT_LENGTH or not name.isprintable() or not fold(name):
        raise invalid_request(
            {"department": f"must be 1 to {_MAX_DEPARTMENT_LENGTH} printable characters"}
        )
    return name


def _details(alert: Alert) -> str:
    """An alert for the audit log."""
    parts = [
        alert.redactedUrl,
        f"on {alert.conditions}",
        f"department {alert.department}" if alert.department else "",
        "to the owners of budgets" if alert.toOwners else "",
        f"daily at {alert.digestAt}" if alert.digestAt else "",
    ]
    return ", ".join(filter(None, parts))


def list_alerts(actor: Actor, customer_id: str | None = None) -> list[Alert]:
    """The alerts that the caller may manage, oldest first. Do not show their addresses."""
    require(actor, Action.MANAGE_ALERTS)
    wanted = actor.customer_id or customer_id
    query = _live().order_by(Alert.createdAt, Alert.id)
    return list(query if wanted is None else query.where(Alert.customerId == wanted))


def get_alert(actor: Actor, alert_id: str) -> Alert:
    """An alert. Raises RequestError NOT_FOUND."""
    require(actor, Action.MANAGE_ALERTS)
    found: Alert | None = _live().where(Alert.id == alert_id).first()
    if found is None or not actor.serves(found.customerId):
        raise RequestError(
            Code.NOT_FOUND, f"There is no alert {alert_id!r}; see `flask list-alerts`."
        )
    return found


def remove_alert(actor: Actor, alert_id: str) -> None:
    """Remove an alert, its address and the messages that were not sent yet.

    Raises RequestError NOT_FOUND.
    """

    def work() -> None:
        locked(Alert.select(Alert.id).where(Alert.id == alert_id)).first()
        alert = get_alert(actor, alert_id)
        Alert.update(url="", removedAt=clock.now()).where(Alert.id == alert_id).execute()
        AlertMessage.delete().where(AlertMessage.alertId == alert_id).execute()
        AlertState.delete().where(AlertState.alertId == alert_id).execute()
        _record(actor, "REMOVE_ALERT", alert.customerId, alert_id, old=alert.redactedUrl)

    transact(work)


def send_test(
    actor: Actor, alert_id: str, *, public_url: str | None, private_networks: bool
) -> str | None:
    """Send a test message to the alert's own recipients now; returns why it failed, or None.

    It is not stored. Raises RequestError NOT_FOUND.
    """
    alert = get_alert(actor, alert_id)
    customer = get_customer(alert.customerId)
    text = texts.test_message(customer.name, Pages(public_url).alerts())
    for recipient in addresses.recipients_of(alert.url) or (None,):
        error = addresses.send(alert.url, text, recipient, private_networks=private_networks)
        if error is not None:
            return error
    return None


def test_sentence(error: str | None) -> str:
    """The result of `send_test` for people."""
    return "The test message was accepted." if error is None else f"Not sent. {error}"


def latest_messages(actor: Actor, customer_id: str, limit: int = 100) -> list[AlertMessage]:
    """The latest messages of a customer's alerts, the newest first."""
    require_for(actor, Action.MANAGE_ALERTS, customer_id)
    query = (
        AlertMessage.select()
        .join(Alert, on=(Alert.id == AlertMessage.alertId))
        .where(Alert.customerId == customer_id)
    )
    return list(query.order_by(AlertMessage.id.desc()).limit(limit))


def waiting_counts(actor: Actor, customer_id: str | None = None) -> dict[str, int]:
    """The number of due messages that were not accepted yet, by alert."""
    require(actor, Action.MANAGE_ALERTS)
    wanted = actor.customer_id or customer_id
    query: Any = (
        AlertMessage.select(AlertMessage.alertId, fn.COUNT(AlertMessage.id).alias("number"))
        .join(Alert, on=(Alert.id == AlertMessage.alertId))
        .where(AlertMessage.sentAt.is_null(), AlertMessage.dueAt <= clock.now())
        .group_by(AlertMessage.alertId)
    )
    if wanted is not None:
        query = query.where(Alert.customerId == wanted)
    return {row.alertId: row.number for row in query}


def _live() -> Any:
    return Alert.select().where(Alert.removedAt.is_null())


def _record(
    actor: Actor,
    action: str,
    customer_id: str,
    alert_id: str,
    *,
    old: str | None = None,
    new: str | None = None,
) -> None:
    audit_log.record(
        actor, action, customer_id=customer_id, subject=alert_id, oldValue=old, newValue=new
    )
