"""Customers: create, change, list, disable.

Every change is audited and takes effect immediately.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from budget_sync.accounts import authentication
from budget_sync.accounts.changes import Change, bad_names, record_changes
from budget_sync.accounts.fiscal_years import change_keys
from budget_sync.accounts.reservation_rules import (
    KEEP_RULES,
    SETTING_OF_COLUMN,
    NewExpiry,
    ReservationRules,
    lock_holds,
    rule_text,
    set_expiry_of_open_holds,
)
from budget_sync.database import audit_log, locked, transact
from budget_sync.database.models import ApiKey, BudgetDataSourceConfig, Customer, Session, User
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.money import MoneyError, currency_exponent, to_minor, to_text
from budget_sync.domain.periods import (
    NAMED_BY,
    FiscalYear,
    is_same_for_all,
    requested_period_key,
)
from budget_sync.domain.permissions import Action, Actor, Role, require, require_serves


@dataclass(frozen=True, slots=True)
class CustomerAccess:
    """How much of a customer works only while the customer is enabled."""

    users: int
    sessions: int
    keys: int
    sources: int


class SettingsChange(NamedTuple):
    """The names of the settings that changed.

    With other hold days, `reservations` counts the open ones, and `expires_at` is when they expire;
    None means never.
    """

    fields: list[str]
    reservations: int = 0
    expires_at: str | None = None


def add_customer(
    actor: Actor,
    customer_id: str,
    name: str,
    *,
    currency: str = "USD",
    auto_approve_limit_minor: int | None = None,
    time_zone: str = "UTC",
    fiscal_year_start_month: int = 1,
    fiscal_year_named_by: str = "end",
    rules: ReservationRules = KEEP_RULES,
    is_test: bool = False,
) -> Customer:
    """Create a customer. Rules for reservations that are not given have their defaults.

    A test customer is left out of metrics, and `reset.reset_customer` can empty it. It stays a test
    customer. Raises RequestError INVALID_REQUEST, naming each wrong field, also if the id is taken.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_all_customers(actor)
    fields, exponent = bad_names(id=customer_id, name=name), 0
    try:
        exponent = currency_exponent(currency)
    except MoneyError as error:
        fields["currency"] = str(error)
    fields |= _bad_calendar(time_zone, fiscal_year_start_month, fiscal_year_named_by)
    rule_columns = rules.columns(exponent, fields)
    if fields:
        raise invalid_request(fields)

    def work() -> Customer:
        if Customer.get_or_none(Customer.id == customer_id):
            raise invalid_request({"id": f"{customer_id!r} is taken"})
        customer: Customer = Customer.create(
            id=customer_id,
            name=name,
            currency=currency,
            currencyExponent=exponent,
            autoApproveLimitMinor=auto_approve_limit_minor,
            timeZone=time_zone,
            fiscalYearStartMonth=fiscal_year_start_month,
            fiscalYearNamedBy=fiscal_year_named_by,
            isTest=is_test,
            createdAt=clock.now(),
            **rule_columns,
        )
        _record_added(actor, customer)
        return customer

    return transact(work)


def _record_added(actor: Actor, customer: Customer) -> None:
    audit_log.record(
        actor,
        "ADD_CUSTOMER",
        customer_id=customer.id,
        subject=customer.id,
        newValue=f"{customer.name}, test customer" if customer.isTest else customer.name,
    )


def set_customer(
    actor: Actor,
    customer_id: str,
    *,
    name: str | None = None,
    auto_approve_limit: Decimal | None = None,
    no_auto_approve_limit: bool = False,
    time_zone: str | None = None,
    fiscal_year_start_month: int | None = None,
    fiscal_year_named_by: str | None = None,
    employees_see: str | None = None,
    rules: ReservationRules = KEEP_RULES,
) -> SettingsChange:
    """Change a customer's settings and return what changed. None keeps a setting.

    Without an auto-approve limit, every amount needs an approval. With another fiscal year, budgets
    get the keys of their periods in it (`fiscal_years.change_keys`). With other hold days, all open
    reservations expire that many days from now, or never. `employees_see` is "all" or "own". Raises
    RequestError INVALID_CUSTOMER, FORBIDDEN, or INVALID_REQUEST with every field that is wrong.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_serves(actor, customer_id)
    exponent = get_customer(customer_id).currencyExponent
    fields = {} if name is None else bad_names(name=name)
    fields |= _bad_calendar(time_zone, fiscal_year_start_month, fiscal_year_named_by)
    given = {
        "name": name,
        "timeZone": time_zone,
        "fiscalYearStartMonth": fiscal_year_start_month,
        "fiscalYearNamedBy": fiscal_year_named_by,
        "employeesSee": employees_see,
    }
    if employees_see not in (None, "all", "own"):
        fields["employeesSee"] = "must be all or own"
    wanted: dict[str, str | int | None] = {
        column: value for column, value in given.items() if value is not None
    }
    if auto_approve_limit is not None or no_auto_approve_limit:
        try:
            wanted["autoApproveLimitMinor"] = _minor(auto_approve_limit, exponent)
        except MoneyError as error:
            fields["autoApproveLimit"] = str(error)
    wanted |= rules.columns(exponent, fields)
    if fields:
        raise invalid_request(fields)
    return transact(lambda: _apply_settings(actor, customer_id, wanted, exponent))


def _minor(limit: Decimal | None, exponent: int) -> int | None:
    return None if limit is None else to_minor(limit, exponent)


def _apply_settings(
    actor: Actor, customer_id: str, wanted: Mapping[str, str | int | None], exponent: int
) -> SettingsChange:
    """Write the settings that differ, by column, with an audit row for each."""
    customer = locked_customer(customer_id)
    fiscal_year = fiscal_year_of(customer)
    changed = {column: new for column, new in wanted.items() if new != getattr(customer, column)}
    changes = [
        Change(
            _setting_name(column),
            _setting_text(column, getattr(customer, column), exponent),
            _setting_text(column, new, exponent),
        )
        for column, new in changed.items()
    ]
    expiry = NewExpiry()
    if changed:
        if "holdDays" in changed:
            lock_holds(customer_id)
        Customer.update(wanted).where(Customer.id == customer_id).execute()
        updated = get_customer(customer_id)
        if fiscal_year_of(updated) != fiscal_year:
            change_keys(customer_id, fiscal_year, fiscal_year_of(updated))
        if "holdDays" in changed:
            expiry = set_expiry_of_open_holds(customer_id, updated.holdDays)
    record_changes(actor, "SET_CUSTOMER", changes, customer_id=customer_id, subject=customer_id)
    return SettingsChange([change.field for change in changes], *expiry)


def _setting_name(column: str) -> str:
    """A setting as the audit log and messages name it."""
    return SETTING_OF_COLUMN.get(column) or column.removesuffix("Minor")


def _setting_text(column: str, value: str | int | None, exponent: int) -> str | None:
    """A setting as the audit log writes it."""
    if isinstance(value, int) and column in SETTING_OF_COLUMN:
        return rule_text(column, value, exponent)
    if column == "autoApproveLimitMinor" and isinstance(value, int):
        return to_text(value, exponent)
    return None if value is None else str(value)


def customer_access(actor: Actor, customer_id: str) -> CustomerAccess:
    """The access that ends when the customer is disabled.

    Raises RequestError INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_all_customers(actor)
    get_customer(customer_id)
    is_user = (User.customerId == customer_id) & User.disabledAt.is_null()
    sessions = Session.select().join(User, on=(User.id == Session.userId)).where(is_user)
    keys = ApiKey.select().where(ApiKey.customerId == customer_id, ApiKey.revokedAt.is_null())
    sources = BudgetDataSourceConfig.select().where(
        BudgetDataSourceConfig.customerId == customer_id,
        BudgetDataSourceConfig.isActive,
        BudgetDataSourceConfig.removedAt.is_null(),
    )
    return CustomerAccess(
        users=User.select().where(is_user).count(),
        sessions=sessions.where(Session.expiresAt > clock.now()).count(),
        keys=keys.count(),
        sources=sources.count(),
    )


def disable_customer(actor: Actor, customer_id: str) -> None:
    """Lock a customer out: end its sessions, stop its API keys and its syncs. Its data stays.

    Raises RequestError INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_all_customers(actor)

    def work() -> None:
        customer = locked_customer(customer_id)
        if customer.disabledAt is None:
            Customer.update(disabledAt=clock.now()).where(Customer.id == customer_id).execute()
            for user in User.select(User.id).where(User.customerId == customer_id):
                authentication.end_sessions(user.id)
            audit_log.record(
                actor, "DISABLE_CUSTOMER", customer_id=customer_id, subject=customer_id
            )

    transact(work)


def enable_customer(actor: Actor, customer_id: str) -> None:
    """Let a disabled customer's users, API keys and sources work again.

    Sessions stay ended. Raises RequestError INVALID_CUSTOMER.
    """
    require(actor, Action.MANAGE_PEOPLE)
    require_all_customers(actor)

    def work() -> None:
        customer = locked_customer(customer_id)
        if customer.disabledAt is not None:
            Customer.update(disabledAt=None).where(Customer.id == customer_id).execute()
            audit_log.record(actor, "ENABLE_CUSTOMER", customer_id=customer_id, subject=customer_id)

    transact(work)


def list_customers(actor: Actor) -> list[Customer]:
    """The customers the caller serves, by id."""
    query = Customer.select().order_by(Customer.id)
    return list(
        query if actor.customer_id is None else query.where(Customer.id == actor.customer_id)
    )


def get_customer(customer_id: str) -> Customer:
    """The customer, even if disabled. Raises RequestError INVALID_CUSTOMER."""
    customer: Customer | None = Customer.get_or_none(Customer.id == customer_id)
    if customer is None:
        raise RequestError(Code.INVALID_CUSTOMER, f"There is no customer {customer_id!r}.")
    return customer


def locked_customer(customer_id: str) -> Customer:
    """The customer, for a change. Raises RequestError INVALID_CUSTOMER."""
    locked(Customer.select(Customer.id).where(Customer.id == customer_id)).first()
    return get_customer(customer_id)


def require_all_customers(actor: Actor) -> None:
    """Raises RequestError FORBIDDEN unless the caller is a super_admin for all customers."""
    if actor.customer_id is not None or actor.role != Role.SUPER_ADMIN:
        raise RequestError(Code.FORBIDDEN, "Only a super_admin for all customers can do this.")


def fiscal_year_of(customer: Customer) -> FiscalYear:
    """When the customer's fiscal year begins, and how it is named."""
    return FiscalYear(customer.fiscalYearStartMonth, customer.fiscalYearNamedBy)


def period_key_of(customer_id: str, text: str) -> str:
    """The key of a period in a request about a customer.

    Raises RequestError INVALID_REQUEST, or INVALID_CUSTOMER. It looks up the customer only if the
    key depends on the fiscal year.
    """
    is_same = is_same_for_all(text)
    fiscal_year = FiscalYear() if is_same else fiscal_year_of(get_customer(customer_id))
    return requested_period_key(text, fiscal_year)


def _bad_calendar(
    time_zone: str | None, fiscal_year_start_month: int | None, fiscal_year_named_by: str | None
) -> dict[str, str]:
    fields = {}
    try:
        ZoneInfo("UTC" if time_zone is None else time_zone)
    except (ValueError, OSError, KeyError):
        fields["timeZone"] = f"{time_zone!r} is not a time zone such as Europe/Berlin"
    if fiscal_year_start_month is not None and not 1 <= fiscal_year_start_month <= 12:
        fields["fiscalYearStartMonth"] = "must be a month from 1 to 12"
    if fiscal_year_named_by not in (None, *NAMED_BY):
        fields["fiscalYearNamedBy"] = f"must be one of {', '.join(NAMED_BY)}"
    return fields
