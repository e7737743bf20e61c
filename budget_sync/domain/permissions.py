"""Actors and permissions: one role-by-action table that denies every action it does not name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from budget_sync.domain.errors import Code, RequestError


class Role(StrEnum):
    """The role of a caller. ANONYMOUS is never stored: it is a caller without credentials."""

    SUPER_ADMIN = "super_admin"
    ADMIN = "admin"
    FPA_ADMIN = "fpa_admin"
    FPA_USER = "fpa_user"
    MANAGER = "manager"
    BUSINESS_USER = "business_user"
    API_SYSTEM = "api_system"
    ANONYMOUS = "anonymous"


#: The roles that a person can have, from the most permissions to the fewest.
PEOPLE_ROLES = (
    Role.SUPER_ADMIN,
    Role.ADMIN,
    Role.FPA_ADMIN,
    Role.FPA_USER,
    Role.MANAGER,
    Role.BUSINESS_USER,
)

#: The roles that may approve over-budget reservations.
APPROVER_ROLES = frozenset({Role.SUPER_ADMIN, Role.ADMIN, Role.FPA_ADMIN, Role.FPA_USER})


class Action(StrEnum):
    """An action that the table allows or denies.

    RESERVE includes amend, and COMMIT includes reverse. DECIDE is to approve or decline a request.
    MANAGE_BUDGETS includes the aliases of departments.
    """

    CHECK = "check"
    RESERVE = "reserve"
    COMMIT = "commit"
    RELEASE = "release"
    CANCEL = "cancel"
    SPEND = "spend"
    READ_BUDGETS = "read budgets"
    READ_REQUESTS = "read requests"
    READ_EVENTS = "read events"
    READ_AUDIT = "read audit"
    READ_SYNC = "read sync"
    MANAGE_PEOPLE = "manage people"
    MANAGE_KEYS = "manage keys"
    MANAGE_SOURCES = "manage sources"
    MANAGE_WEBHOOKS = "manage webhooks"
    DECIDE = "decide"
    MANAGE_BUDGETS = "manage budgets"
    MANAGE_ALERTS = "manage alerts"


class ApiScope(StrEnum):
    """A limit of a service's credential to some of its calls."""

    CHECK = "check"
    RESERVE = "reserve"
    COMMIT = "commit"
    RELEASE = "release"
    SPEND = "spend"
    READ = "read"


class Scope(StrEnum):
    """The reach of a permission within the caller's customer."""

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
        Action.SPEND,
        Action.DECIDE,
        Action.READ_BUDGETS,
        Action.READ_REQUESTS,
        Action.READ_AUDIT,
        Action.READ_SYNC,
        Action.READ_EVENTS,
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
        Action.SPEND,
        Action.READ_BUDGETS,
        Action.READ_REQUESTS,
        Action.READ_EVENTS,
    ),
    Scope.ANY,
)

#: The scope that a service needs for each of its actions.
API_SCOPE_OF_ACTION: Mapping[Action, ApiScope] = {
    Action.CHECK: ApiScope.CHECK,
    Action.RESERVE: ApiScope.RESERVE,
    Action.COMMIT: ApiScope.COMMIT,
    Action.RELEASE: ApiScope.RELEASE,
    Action.CANCEL: ApiScope.RELEASE,
    Action.SPEND: ApiScope.SPEND,
    Action.READ_BUDGETS: ApiScope.READ,
    Action.READ_REQUESTS: ApiScope.READ,
    Action.READ_EVENTS: ApiScope.READ,
}

PERMISSIONS: Mapping[str, Mapping[Action, Scope]] = {
    Role.SUPER_ADMIN: _ADMIN,
    Role.ADMIN: _ADMIN,
    Role.FPA_ADMIN: _FPA_USER
    | dict.fromkeys(
        (Action.MANAGE_SOURCES, Action.MANAGE_BUDGETS, Action.MANAGE_ALERTS), Scope.ANY
    ),
    Role.FPA_USER: _FPA_USER,
    Role.MANAGER: _EMPLOYEE,
    Role.BUSINESS_USER: _EMPLOYEE,
    Role.API_SYSTEM: _SERVICE,
    Role.ANONYMOUS: {Action.CHECK: Scope.ANY},
}


@dataclass(frozen=True, slots=True)
class Actor:
    """The authenticated caller: a session, an API key, or a command on the server.

    `principal` is stable ("user:user-123", "service:orchestrator"). A service keeps its principal
    when it gets another API key, because the principal has the service's name. It is unique within
    a customer. `customer_id` is None for a caller for all customers. `scopes` limit a service to
    some of its actions; None means all of them. `is_test`: a service of a test customer.
    """

    principal: str
    user_id: str | None
    name: str
    email: str | None
    role: str
    customer_id: str | None
    may_overspend: bool = False
    scopes: frozenset[ApiScope] | None = None
    is_test: bool = False

    @property
    def label(self) -> str:
        """The caller's name in the audit log.

        "Jane Doe (jane@acme.com)", "orchestrator (service)", "root (command line)" or "expiry".
        """
        if self.principal == self.name:
            return self.name
        return f"{self.name} ({'service' if self.is_service else self.email or 'command line'})"

    @property
    def is_service(self) -> bool:
        """Whether the caller is an API key and not a person."""
        return self.role == Role.API_SYSTEM

    @property
    def is_anonymous(self) -> bool:
        """Whether no credential was sent."""
        return self.role == Role.ANONYMOUS

    def serves(self, customer_id: str) -> bool:
        """Whether the caller may act for that customer."""
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
    """The actor for commands on the server: may do everything, for every customer."""
    return Actor(
        principal="command",
        user_id=None,
        name=name,
        email=None,
        role=Role.SUPER_ADMIN,
        customer_id=None,
    )


#: The service itself, when it releases reservations that have expired.
EXPIRY = Actor(
    principal="expiry",
    user_id=None,
    name="expiry",
    email=None,
    role=Role.SUPER_ADMIN,
    customer_id=None,
)

#: The service itself, when it delivers events and pauses a webhook.
DELIVERY = Actor(
    principal="delivery",
    user_id=None,
    name="delivery",
    email=None,
    role=Role.SUPER_ADMIN,
    customer_id=None,
)


def is_demotion(old_role: str, new_role: str) -> bool:
    """Whether a person's new role comes after the old one in PEOPLE_ROLES."""
    order = [str(role) for role in PEOPLE_ROLES]
    return order.index(new_role) > order.index(old_role)


def scope_of(actor: Actor, action: Action) -> Scope | None:
    """The scope of a permission, or None if the role does not have it. Unknown roles have none."""
    if lacks_api_scope(actor, action):
        return None
    return PERMISSIONS.get(actor.role, {}).get(action)


def lacks_api_scope(actor: Actor, action: Action) -> bool:
    """Whether the credential of a service is limited to other actions."""
    return actor.scopes is not None and API_SCOPE_OF_ACTION.get(action) not in actor.scopes


def require(actor: Actor, action: Action) -> Scope:
    """The scope of a permission. Raises RequestError FORBIDDEN if the role does not have it."""
    scope = scope_of(actor, action)
    if scope is None:
        raise _forbidden(actor, action)
    return scope


def _forbidden(actor: Actor, action: Action) -> RequestError:
    missing = API_SCOPE_OF_ACTION.get(action)
    if missing is not None and lacks_api_scope(actor, action):
        return RequestError(
            Code.FORBIDDEN,
            f"This credential does not have the scope '{missing}', which this call needs.",
        )
    return RequestError(Code.FORBIDDEN, f"Your role ({actor.role}) does not allow this: {action}.")


def require_for(actor: Actor, action: Action, customer_id: str) -> Scope:
    """The scope of a permission for one customer.

    Raises RequestError FORBIDDEN if the role does not have it, and INVALID_CUSTOMER if the caller
    may not act for that customer.
    """
    scope = require(actor, action)
    if not actor.serves(customer_id):
        raise RequestError(Code.INVALID_CUSTOMER, "Invalid customer")
    return scope


def require_any_for(actor: Actor, action: Action, customer_id: str) -> None:
    """Require the permission for the rows of all users of one customer.

    Raises RequestError FORBIDDEN or INVALID_CUSTOMER otherwise.
    """
    if require_for(actor, action, customer_id) is not Scope.ANY:
        raise _forbidden(actor, action)


def require_serves(actor: Actor, customer_id: str | None) -> None:
    """Require a caller for this customer; for all customers if `customer_id` is None.

    Raises RequestError FORBIDDEN otherwise.
    """
    if actor.customer_id is not None and actor.customer_id != customer_id:
        raise RequestError(Code.FORBIDDEN, "You can do this only for your own customer.")


def require_overspend(actor: Actor) -> None:
    """Require a caller that may submit an over-budget approval.

    That is an approver, or an API key with `may_overspend`. Raises RequestError
    OVERSPEND_NOT_ALLOWED otherwise.
    """
    if not (actor.may_overspend if actor.is_service else actor.role in APPROVER_ROLES):
        raise RequestError(
            Code.OVERSPEND_NOT_ALLOWED,
            f"You ({actor.name}) may not reserve over budget. Ask an FP&A or admin user.",
        )
