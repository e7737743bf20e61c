"""Who may do what: the actor, and the one role-by-action table. Pure, and it denies whatever it does not name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from budget_sync.domain.errors import Code, RequestError


class Role(StrEnum):
    """The roles a principal can have. Anonymous is nobody's role in the database: it stands for a caller without credentials."""

    SUPER_ADMIN = "super_admin"
    ADMIN = "admin"
    FPA_ADMIN = "fpa_admin"
    FPA_USER = "fpa_user"
    MANAGER = "manager"
    BUSINESS_USER = "business_user"
    API_SYSTEM = "api_system"
    ANONYMOUS = "anonymous"


#: The roles a person can be given.
PEOPLE_ROLES = (
    Role.SUPER_ADMIN,
    Role.ADMIN,
    Role.FPA_ADMIN,
    Role.FPA_USER,
    Role.MANAGER,
    Role.BUSINESS_USER,
)

#: The roles whose people may approve spending over the budget.
APPROVER_ROLES = frozenset({Role.SUPER_ADMIN, Role.ADMIN, Role.FPA_ADMIN, Role.FPA_USER})


class Action(StrEnum):
    """What can be allowed or denied."""

    CHECK = "check"
    RESERVE = "reserve"
    COMMIT = "commit"
    RELEASE = "release"
    CANCEL = "cancel"
    READ_BUDGETS = "read budgets"
    READ_REQUESTS = "read requests"
    READ_AUDIT = "read audit"
    READ_SYNC = "read sync"
    MANAGE_PEOPLE = "manage people"
    MANAGE_KEYS = "manage keys"
    MANAGE_SOURCES = "manage sources"


class Scope(StrEnum):
    """How far a permission reaches within the caller's customer."""

    ANY = "any"
    OWN = "own"


_ADMIN = dict.fromkeys(Action, Scope.ANY)
_EMPLOYEE = {
    Action.CHECK: Scope.OWN,
    Action.RESERVE: Scope.OWN,
    Action.CANCEL: Scope.OWN,
    Action.READ_BUDGETS: Scope.ANY,
    Action.READ_REQUESTS: Scope.OWN,
}
_FPA_USER = dict.fromkeys(
    (
        Action.CHECK,
        Action.RESERVE,
        Action.COMMIT,
        Action.RELEASE,
        Action.CANCEL,
        Action.READ_BUDGETS,
        Action.READ_REQUESTS,
        Action.READ_AUDIT,
        Action.READ_SYNC,
    ),
    Scope.ANY,
)
_SERVICE = dict.fromkeys(
    (
        Action.CHECK,
        Action.RESERVE,
        Action.COMMIT,
        Action.RELEASE,
        Action.CANCEL,
        Action.READ_BUDGETS,
        Action.READ_REQUESTS,
    ),
    Scope.ANY,
)

PERMISSIONS: Mapping[str, Mapping[Action, Scope]] = {
    Role.SUPER_ADMIN: _ADMIN,
    Role.ADMIN: _ADMIN,
    Role.FPA_ADMIN: _FPA_USER | {Action.MANAGE_SOURCES: Scope.ANY},
    Role.FPA_USER: _FPA_USER,
    Role.MANAGER: _EMPLOYEE,
    Role.BUSINESS_USER: _EMPLOYEE,
    Role.API_SYSTEM: _SERVICE,
    Role.ANONYMOUS: {Action.CHECK: Scope.ANY},
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is calling, as proven by a session, a key, or the shell.

    `principal` is stable and unique ("user:user-123", "key:ab12"); `customer_id` is None for all customers.
    """

    principal: str
    user_id: str | None
    name: str
    email: str | None
    role: str
    customer_id: str | None
    may_overspend: bool = False

    @property
    def label(self) -> str:
        """How the audit log names the caller: "Jane Doe (jane@acme.com)", "orchestrator (service)", "root (command line)"."""
        return f"{self.name} ({'service' if self.is_service else self.email or 'command line'})"

    @property
    def is_service(self) -> bool:
        """Whether this is an API key rather than a person."""
        return self.role == Role.API_SYSTEM

    @property
    def is_anonymous(self) -> bool:
        """Whether no credential was sent."""
        return self.role == Role.ANONYMOUS

    def serves(self, customer_id: str) -> bool:
        """Whether the caller may act for that customer at all."""
        return self.customer_id is None or self.customer_id == customer_id


ANONYMOUS = Actor(
    principal="anonymous",
    user_id=None,
    name="Anonymous",
    email=None,
    role=Role.ANONYMOUS,
    customer_id=None,
)


def operator(name: str) -> Actor:
    """Whoever has a shell on the box: may do everything, for every customer."""
    return Actor(
        principal="command",
        user_id=None,
        name=name,
        email=None,
        role=Role.SUPER_ADMIN,
        customer_id=None,
    )


def scope_of(actor: Actor, action: Action) -> Scope | None:
    """How far the actor's role may do something; None where it may not at all, which is so for every unknown role."""
    return PERMISSIONS.get(actor.role, {}).get(action)


def require(actor: Actor, action: Action) -> Scope:
    """The scope of a permission. Raises RequestError FORBIDDEN where the role has none."""
    scope = scope_of(actor, action)
    if scope is None:
        raise RequestError(
            Code.FORBIDDEN, f"Your role ({actor.role}) does not allow this: {action}."
        )
    return scope


def require_for(actor: Actor, action: Action, customer_id: str) -> Scope:
    """The same within a customer. Raises RequestError INVALID_CUSTOMER, too, where the caller does not serve that one."""
    scope = require(actor, action)
    if not actor.serves(customer_id):
        raise RequestError(Code.INVALID_CUSTOMER, "Invalid customer")
    return scope


def require_serves(actor: Actor, customer_id: str | None) -> None:
    """Raises RequestError FORBIDDEN where whoever runs one customer's service reaches for another's, or for everybody's (None)."""
    if actor.customer_id is not None and actor.customer_id != customer_id:
        raise RequestError(Code.FORBIDDEN, "You can do this for your own customer only.")


def require_overspend(actor: Actor) -> None:
    """Raises RequestError OVERSPEND_NOT_ALLOWED unless the caller may bring an over-budget approval: an approver, or a key made for it."""
    if not (actor.may_overspend if actor.is_service else actor.role in APPROVER_ROLES):
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED, f"You ({actor.name}) may not reserve over budget."
        )
