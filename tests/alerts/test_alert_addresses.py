"""Addresses of alerts: which are accepted, what people see of them, and what they may contact."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from support.alerts import CUSTOMER, add
from support.machine import ENGINE
from support.receivers import listener, receiver, was_contacted
from support.world import ROOT, person

from budget_sync.accounts import customers
from budget_sync.alerts import addresses, guard, manage
from budget_sync.alerts.texts import Text
from budget_sync.database.delivery_models import Alert
from budget_sync.database.models import AuditLog
from budget_sync.delivery.addresses import Destination
from budget_sync.domain.errors import RequestError
from budget_sync.domain.permissions import Role

TEXT = Text("Title", "Body")
NOWHERE = Destination(is_https=True, host="", port=0, target="/")

not_about_an_engine = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")


def parse(url: str, *, is_operator: bool = False, private: bool = False) -> addresses.Address:
    return addresses.parse(url, private_networks=private, is_operator=is_operator)


@not_about_an_engine
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "mailtos://me:s3cretpassword@mail.example.com:465?to=a@x.com,b@x.com&from=c@x.com",
            "mailtos://mail.example.com:465 to a@x.com, b@x.com",
        ),
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#fin",
            "slack://T...2/A...D/T...Q/#fin/",
        ),
        ("jsons://u:s3cretpassword@hooks.example.com/s3cretpath?+X-Key=s3cret", None),
        (
            "workflows://prod.azure.com:443/WorkflowID123456/Signature_abcdef",
            "workflow://prod.azure.com:443/W...6/S...f/",
        ),
    ],
)
def test_secrets_are_not_shown(url: str, shown: str | None) -> None:
    found = parse(url).redacted
    assert found == (shown or "jsons://u:****@hooks.example.com")
    assert "s3cret" not in found


@not_about_an_engine
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must have 1 to 2,000 characters"),
        ("finance@example.com", "must begin with the name of a service"),
        ("https://example.com", "is not an address that Apprise accepts for https://"),
        ("syslog://", "must not begin with syslog://"),
        ("dbus://", "must not begin with dbus://"),
        ("file:///etc/cron.d/x", "must not begin with file://"),
        ("windows://", "must not begin with windows://"),
        ("json://10.0.0.1/", "has an address in a private network"),
        ("json://169.254.169.254/", "link-local address"),
        ("mailto://mail.example.com?from=a@b.com&smtp=10.1.1.1", "in a private network"),
        ("mailto://localhost?from=a@b.com", "An operator can add it with `flask add-alert`"),
        ("json://127.0.0.1:9000/", "An operator can add it with `flask add-alert`"),
        ("jsons://a.example.com/?template=/etc/passwd", "must not have the parameter template"),
        ("mailto://a.example.com?from=a@b.com&pgp=sign", "must not have the parameter pgp"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#a/#b", "must have one recipient"),
    ],
)
def test_refused_address_is_explained(url: str, says: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(url)
    assert says in raised.value.sentence
    assert "passwd" not in raised.value.sentence


@not_about_an_engine
def test_unreachable_mail_server_is_accepted() -> None:
    found = parse("mailto://no-such-host.invalid?from=a@b.com&to=c@d.com")
    assert found.recipients == ("c@d.com",)
    error = addresses.send(found.url, TEXT, private_networks=False)
    assert error is not None
    assert error.startswith('Connection error while submitting email to "no-such-host.invalid"')


@not_about_an_engine
def test_host_that_leads_to_this_machine_is_not_contacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.getaddrinfo

    def resolve(host: object, *rest: object, **named: object) -> object:
        mine = host == "sneaky.example.com"
        return real("127.0.0.1" if mine else host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for schema in ("json", "mailto"):
        with listener() as listening:
            port = listening.getsockname()[1]
            found = parse(f"{schema}://sneaky.example.com:{port}/?from=a@b.com&to=c@d.com")
            error = addresses.send(found.url, TEXT, private_networks=False)
            assert error is not None
            assert "sneaky.example.com has a loopback address" in error
            assert not was_contacted(listening)


@not_about_an_engine
def test_redirects_are_not_followed() -> None:
    def redirect(handler: object) -> None:
        handler.send_response(302)  # type: ignore[attr-defined]
        handler.send_header("Location", f"http://127.0.0.1:{port}/")  # type: ignore[attr-defined]
        handler.send_header("Content-Length", "0")  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]

    with listener() as listening, receiver(redirect) as good:
        port = listening.getsockname()[1]
        url = good.url.replace("http://", "json://")
        assert addresses.send(url, TEXT, private_networks=False) is not None
        assert not was_contacted(listening)


@not_about_an_engine
def test_errors_have_no_secrets() -> None:
    url = "json://me:s3cretpassword@127.0.0.1:9999/s3cretpath?+X-Key=s3cretvalue"
    error = addresses.send(url, TEXT, private_networks=False)
    assert error is not None
    assert "Connection refused" in error
    assert "s3cret" not in error


@not_about_an_engine
def test_guard_limits_only_its_thread(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x")
    link = tmp_path / "link"
    link.symlink_to(file)
    with guard.limited(NOWHERE, private_networks=False, is_mail=False):
        for path in (
            file,
            link,
            os.fsencode(file),
            Path("/etc/passwd"),
            Path("/proc/self/environ"),
        ):
            with pytest.raises(guard.RefusedError):
                open(path, "rb")  # noqa: SIM115  # it is not opened
        with pytest.raises(guard.RefusedError):
            subprocess.run([sys.executable, "-c", ""], check=False)
        with socket.socket(socket.AF_UNIX) as local, pytest.raises(guard.RefusedError):
            local.connect("/dev/log")
        for address in (
            ("127.0.0.1", 80),
            ("10.0.0.1", 80),
            ("localhost", 80),
            ("93.184.215.14", 25),
        ):
            with socket.socket() as made, pytest.raises(guard.RefusedError):
                made.connect(address)
    assert link.read_text() == "x"


@pytest.mark.both_engines
def test_secrets_are_in_no_list_and_no_audit_row(world: Flask) -> None:
    url = "mailtos://me:s3cretpassword@mail.example.com?to=a@x.com"
    alert_id = add(url, "overdrawn", department="Travel", digest_at="08:00", to_owners=True)
    manage.remove_alert(ROOT, alert_id)
    rows = {
        row.action: row.newValue or row.oldValue
        for row in AuditLog.select().where(AuditLog.subject == alert_id)
    }
    assert rows == {
        "ADD_ALERT": "mailtos://mail.example.com:587 to a@x.com, on overdrawn, department Travel, "
        "to the owners of budgets, daily at 08:00",
        "REMOVE_ALERT": "mailtos://mail.example.com:587 to a@x.com",
    }
    assert Alert.get_by_id(alert_id).url == ""


@pytest.mark.both_engines
def test_only_admins_of_the_customer_manage_alerts(world: Flask) -> None:
    customers.add_customer(ROOT, "other", "Other Inc.")
    url = "mailtos://mail.example.com?from=a@x.com"
    mine, theirs = add(url, "overdrawn"), add(url, "overdrawn", customer_id="other")
    for role in (Role.ADMIN, Role.FPA_ADMIN):
        actor = person(f"u-{role}", role)
        assert [alert.id for alert in manage.list_alerts(actor, "other")] == [mine]
        for work in (
            lambda: manage.get_alert(actor, theirs),  # noqa: B023  # called at once
            lambda: manage.remove_alert(actor, theirs),  # noqa: B023
            lambda: manage.latest_messages(actor, "other"),  # noqa: B023
            lambda: manage.add_alert(actor, "other", url, "held", private_networks=False),  # noqa: B023
        ):
            with pytest.raises(RequestError):
                work()
        added = manage.add_alert(actor, CUSTOMER, url, "held", private_networks=False)
        manage.remove_alert(actor, added.id)
    for role in (Role.FPA_USER, Role.MANAGER, Role.BUSINESS_USER):
        actor = person(f"u-{role}", role)
        with pytest.raises(RequestError, match="does not allow this: manage alerts"):
            manage.add_alert(actor, CUSTOMER, url, "held", private_networks=False)
        with pytest.raises(RequestError, match="does not allow this: manage alerts"):
            manage.list_alerts(actor)


@pytest.mark.both_engines
def test_owners_need_a_mail_address(world: Flask) -> None:
    with pytest.raises(RequestError, match="owners needs the address of a mail server"):
        add("jsons://hooks.example.com", "overdrawn", to_owners=True)
    with pytest.raises(RequestError, match="department must be 1 to 200 printable"):
        add("jsons://hooks.example.com", "overdrawn", department=" ")


@pytest.mark.both_engines
def test_number_of_alerts_is_limited(world: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manage, "MAX_ALERTS", 1)
    add("jsons://hooks.example.com", "overdrawn")
    with pytest.raises(RequestError, match="a customer has at most 1 alerts"):
        add("jsons://hooks.example.com", "overdrawn")
