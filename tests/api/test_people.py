"""People: changing a password, and disabling users without locking all admins out."""

from __future__ import annotations

import pytest
from flask import Flask
from support.world import PASSWORD, ROOT, person, slots

from budget_sync.accounts import authentication, people
from budget_sync.database.models import AuditLog, LoginAttempt, User
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role

pytestmark = pytest.mark.both_engines

NEW = "a much longer one"
HERE = "192.0.2.1"


def is_disabled(user_id: str) -> bool:
    return User.get_by_id(user_id).disabledAt is not None


def test_people_cannot_disable_themselves(world: Flask) -> None:
    boss = person("boss", Role.ADMIN)
    with pytest.raises(RequestError, match="cannot disable yourself") as error:
        people.disable_user(boss, "boss")
    assert error.value.code == Code.FORBIDDEN
    assert not is_disabled("boss")


def test_only_the_operator_can_disable_the_last_admin(world: Flask) -> None:
    everywhere = person("everywhere", Role.SUPER_ADMIN, None)
    person("second", Role.SUPER_ADMIN)
    people.disable_user(everywhere, "admin-001")
    with pytest.raises(RequestError, match="Second is the last admin"):
        people.disable_user(everywhere, "second")
    assert not is_disabled("second")
    # Anyone can disable a non-admin, and the operator's shell can enable every user again.
    people.disable_user(everywhere, "fpa-001")
    people.disable_user(ROOT, "second")
    assert is_disabled("second")


def test_two_admins_cannot_disable_each_other(world: Flask) -> None:
    alex = Actor("user:admin-001", "admin-001", "Alex Kim", "alex@acme.com", Role.ADMIN, "org-456")
    boss = person("boss", Role.ADMIN)
    people.disable_user(alex, "boss")
    # As if both had clicked at the same moment: boss was authorized before being disabled.
    with pytest.raises(RequestError, match="Alex Kim is the last admin"):
        people.disable_user(boss, "admin-001")


def change(jo: Actor, token: str, current: str = PASSWORD, new: str = NEW) -> None:
    people.change_own_password(
        jo, current, new, address=HERE, session_token=token, slots_folder=slots()
    )


def test_changing_own_password_ends_other_sessions(world: Flask) -> None:
    jo = person("jo", Role.FPA_USER)
    here, elsewhere = (
        authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[1] for _ in range(2)
    )
    change(jo, here)
    assert authentication.actor_of_session(here) == jo
    assert authentication.actor_of_session(elsewhere) is None
    assert authentication.log_in("jo@example.com", NEW, HERE, slots())[0] == jo
    row = AuditLog.select().order_by(AuditLog.id.desc()).first()
    assert (row.action, row.subject, row.changedBy) == ("SET_PASSWORD", "jo", "Jo (jo@example.com)")


def test_stolen_session_cannot_guess_the_password(world: Flask) -> None:
    jo = person("jo", Role.FPA_USER)
    token = authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[1]
    for _ in range(authentication.MAX_FAILURES_ACCOUNT):
        with pytest.raises(RequestError) as error:
            change(jo, token, current="a guess at it")
        assert error.value.code == Code.BAD_CREDENTIALS
    with pytest.raises(RequestError) as error:
        change(jo, token)
    assert error.value.code == Code.TOO_MANY_ATTEMPTS
    assert authentication.actor_of_session(token) == jo


def test_changed_password_clears_attempts_and_short_one_fails(world: Flask) -> None:
    jo = person("jo", Role.FPA_USER)
    token = authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[1]
    with pytest.raises(RequestError, match="12 to 200 characters"):
        change(jo, token, new="short")
    assert authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[0] == jo
    change(jo, token)
    assert LoginAttempt.select().count() == 0
