"""People: changing users, customers and passwords without locking all admins out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from flask import Flask
from support.world import PASSWORD, ROOT, cheap_hash, person, slots

from budget_sync.accounts import authentication, customers, people
from budget_sync.database.models import AuditLog, LoginAttempt, User
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import (
    PEOPLE_ROLES,
    PERMISSIONS,
    Actor,
    Role,
    Scope,
    is_demotion,
)

pytestmark = pytest.mark.both_engines

NEW = "a much longer one"
HERE = "192.0.2.1"


def is_disabled(user_id: str) -> bool:
    return User.get_by_id(user_id).disabledAt is not None


def add(user_id: str, email: str) -> None:
    """Add a user with this email address and PASSWORD."""
    people.add_user(
        ROOT,
        user_id,
        user_id.title(),
        email,
        Role.FPA_USER,
        customer_id="org-456",
        password=None,
        slots_folder=slots(),
    )
    User.update(passwordHash=cheap_hash()).where(User.id == user_id).execute()


def test_people_cannot_disable_themselves(world: Flask) -> None:
    boss = person("boss", Role.ADMIN)
    with pytest.raises(RequestError, match="cannot disable yourself") as error:
        people.disable_user(boss, "boss")
    assert error.value.code == Code.FORBIDDEN
    assert not is_disabled("boss")


def test_last_admin_of_a_customer_cannot_be_disabled(world: Flask) -> None:
    everywhere = person("everywhere", Role.SUPER_ADMIN, None)
    person("second", Role.SUPER_ADMIN)
    people.disable_user(everywhere, "admin-001")
    # An admin without a password, or who is disabled, cannot undo it.
    person("third", Role.ADMIN)
    User.update(passwordHash=None).where(User.id == "third").execute()
    for actor in (everywhere, ROOT):
        with pytest.raises(RequestError, match="Second is the last admin") as error:
            people.disable_user(actor, "second")
        assert error.value.code == Code.FORBIDDEN
    assert not is_disabled("second")
    people.disable_user(everywhere, "fpa-001")
    person("fourth", Role.ADMIN)
    people.disable_user(ROOT, "second")
    assert is_disabled("second")


def test_last_admin_of_a_customer_cannot_be_demoted(world: Flask) -> None:
    for actor in (person("everywhere", Role.SUPER_ADMIN, None), ROOT):
        for role in (Role.FPA_ADMIN, Role.BUSINESS_USER):
            with pytest.raises(RequestError, match="Alex Kim is the last admin") as error:
                people.set_user(actor, "admin-001", role=role, name="Changed")
            assert error.value.code == Code.FORBIDDEN
    assert User.get_by_id("admin-001").name == "Alex Kim"
    people.set_user(ROOT, "admin-001", role=Role.SUPER_ADMIN)
    person("second", Role.ADMIN)
    people.set_user(ROOT, "admin-001", role=Role.MANAGER)
    assert User.get_by_id("admin-001").role == Role.MANAGER


def test_operator_can_disable_the_last_super_admin_for_all_customers(world: Flask) -> None:
    person("everywhere", Role.SUPER_ADMIN, None)
    people.disable_user(ROOT, "everywhere")
    assert is_disabled("everywhere")


def test_two_admins_cannot_demote_each_other(world: Flask) -> None:
    alex = Actor("user:admin-001", "admin-001", "Alex Kim", "alex@acme.com", Role.ADMIN, "org-456")
    boss = person("boss", Role.ADMIN)
    people.set_user(alex, "boss", role=Role.FPA_USER)
    # As if both had clicked at the same moment: boss was authorized before being demoted.
    with pytest.raises(RequestError, match="Alex Kim is the last admin"):
        people.set_user(boss, "admin-001", role=Role.FPA_USER)


def test_people_cannot_change_their_own_role_but_their_name(world: Flask) -> None:
    boss = person("boss", Role.ADMIN)
    with pytest.raises(RequestError, match="cannot change your own role") as error:
        people.set_user(boss, "boss", role=Role.FPA_USER)
    assert error.value.code == Code.FORBIDDEN
    assert people.set_user(boss, "boss", name="The Boss", role=Role.ADMIN) == ["name"]


def test_only_a_demotion_ends_sessions(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    token = authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[1]
    for changes in ({"role": "fpa_admin"}, {"name": "Joan"}, {"email": "joan@example.com"}):
        people.set_user(ROOT, "jo", **changes)
        assert authentication.actor_of_session(token), changes
    people.set_user(ROOT, "jo", role=Role.MANAGER)
    assert authentication.actor_of_session(token) is None


def test_role_order_is_the_order_of_permissions() -> None:
    for higher, lower in pairwise(PEOPLE_ROLES):
        assert is_demotion(higher, lower)
        assert not is_demotion(lower, higher)
        assert not is_demotion(lower, lower)
        for action, scope in PERMISSIONS[lower].items():
            assert PERMISSIONS[higher].get(action) in (Scope.ANY, scope)


def test_admin_cannot_change_or_create_a_super_admin(world: Flask) -> None:
    boss = person("boss", Role.ADMIN)
    person("super", Role.SUPER_ADMIN)
    for user_id, changes in (
        ("super", {"name": "X"}),
        ("super", {"email": "x@example.com"}),
        ("super", {"role": "manager"}),
        ("fpa-001", {"role": "super_admin"}),
        ("fpa-001", {"role": "api_system"}),
    ):
        with pytest.raises(RequestError) as error:
            people.set_user(boss, user_id, **changes)
        assert error.value.code in (Code.FORBIDDEN, Code.INVALID_REQUEST)
    assert AuditLog.select().where(AuditLog.action == "SET_USER").count() == 0


def test_user_and_settings_of_another_customer_cannot_be_changed(world: Flask) -> None:
    customers.add_customer(ROOT, "rival", "Rival Ltd.")
    boss = person("boss", Role.ADMIN, "rival")
    for work, code in (
        (lambda: people.set_user(boss, "fpa-001", name="X"), Code.NOT_FOUND),
        (lambda: customers.set_customer(boss, "org-456", name="X"), Code.FORBIDDEN),
        (lambda: customers.enable_customer(boss, "rival"), Code.FORBIDDEN),
        (lambda: customers.customer_access(boss, "rival"), Code.FORBIDDEN),
    ):
        with pytest.raises(RequestError) as error:
            work()
        assert error.value.code == code
    assert customers.set_customer(boss, "rival", name="Rival & Co.").fields == ["name"]


@pytest.mark.parametrize("role", [Role.FPA_ADMIN, Role.FPA_USER, Role.MANAGER, Role.API_SYSTEM])
def test_other_roles_change_no_user_and_no_customer(world: Flask, role: Role) -> None:
    actor = Actor("user:x", "x", "X", "x@example.com", role, "org-456")
    changes: list[Callable[[], object]] = [
        lambda: people.set_user(actor, "fpa-001", name="X"),
        lambda: customers.set_customer(actor, "org-456", name="X"),
    ]
    for work in changes:
        with pytest.raises(RequestError, match="does not allow this"):
            work()


def test_user_for_all_customers_stays_super_admin(world: Flask) -> None:
    person("everywhere", Role.SUPER_ADMIN, None)
    with pytest.raises(RequestError, match="must be super_admin"):
        people.set_user(ROOT, "everywhere", role=Role.ADMIN)


def test_email_of_a_disabled_user_can_be_used_again(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    people.disable_user(ROOT, "jo")
    add("second", "JO@example.com")
    assert authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[0].user_id == "second"
    for _ in range(2):
        with pytest.raises(RequestError, match="Another user has the email address") as error:
            people.enable_user(ROOT, "jo")
        assert error.value.code == Code.INVALID_REQUEST
    assert is_disabled("jo")
    # The address is free again when its new user is disabled, or the old one gets another.
    people.disable_user(ROOT, "second")
    people.enable_user(ROOT, "jo")
    assert authentication.log_in("jo@example.com", PASSWORD, HERE, slots())[0].user_id == "jo"
    with pytest.raises(RequestError, match="Another user has the email address"):
        people.enable_user(ROOT, "second")
    people.set_user(ROOT, "second", email="second@example.com")
    people.enable_user(ROOT, "second")
    for email, user_id in (("jo@example.com", "jo"), ("second@example.com", "second")):
        assert authentication.log_in(email, PASSWORD, HERE, slots())[0].user_id == user_id


def test_email_of_an_enabled_user_stays_taken(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    person("disabled", Role.FPA_USER)
    people.disable_user(ROOT, "disabled")
    with pytest.raises(RequestError, match="id or email is taken"):
        add("second", "jo@example.com")
    for user_id in ("fpa-001", "disabled"):
        with pytest.raises(RequestError, match="email is taken"):
            people.set_user(ROOT, user_id, email="Jo@Example.com")
    assert people.set_user(ROOT, "jo", email="Jo@example.com") == ["email"]
    assert people.set_user(ROOT, "fpa-001", email="disabled@example.com") == ["email"]


def test_rejected_new_user_frees_no_email(world: Flask) -> None:
    person("jo", Role.FPA_USER)
    people.disable_user(ROOT, "jo")
    with pytest.raises(RequestError, match="id or email is taken"):
        add("fpa-001", "jo@example.com")
    assert User.get_by_id("jo").emailKey == "jo@example.com"


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
