"""Customers, people and API keys."""

from __future__ import annotations

from budget_sync.database.models import ApiKey, Customer, User
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Action, Actor, require_for
from budget_sync.queries import paging


def customers(actor: Actor) -> list[Customer]:
    """The enabled customers that the caller serves, by name."""
    query = Customer.select().where(Customer.disabledAt.is_null())
    if actor.customer_id is not None:
        query = query.where(Customer.id == actor.customer_id)
    return list(query.order_by(Customer.name, Customer.id))


def people_page(
    actor: Actor, customer_id: str, text: str = "", page: int = 1
) -> tuple[list[User], int]:
    """A page of a customer's people, by name, and their total number.

    A caller for all customers also sees the people for all customers.
    """
    require_for(actor, Action.MANAGE_PEOPLE, customer_id)
    is_listed = User.customerId == customer_id
    if actor.customer_id is None:
        is_listed |= User.customerId.is_null()
    query = User.select().where(is_listed)
    text = text.strip()
    if text:
        query = query.where(
            User.name.contains(text) | User.email.contains(text) | (User.id == text)
        )
    return list(query.order_by(User.name, User.id).paginate(page, paging.PAGE_SIZE)), query.count()


def person(actor: Actor, customer_id: str, user_id: str) -> User:
    """One of a customer's people. Raises RequestError NOT_FOUND."""
    require_for(actor, Action.MANAGE_PEOPLE, customer_id)
    user: User | None = User.get_or_none(User.id == user_id)
    if user is None or not (
        user.customerId == customer_id or (user.customerId is None and actor.customer_id is None)
    ):
        raise RequestError(Code.NOT_FOUND, "There is no person with that id.")
    return user


def keys_page(actor: Actor, customer_id: str, page: int = 1) -> tuple[list[ApiKey], int]:
    """A page of a customer's API keys and their total number: active keys first, then by age."""
    require_for(actor, Action.MANAGE_KEYS, customer_id)
    query = ApiKey.select().where(ApiKey.customerId == customer_id)
    order = (ApiKey.revokedAt.is_null(False), ApiKey.createdAt.desc(), ApiKey.id)
    return list(query.order_by(*order).paginate(page, paging.PAGE_SIZE)), query.count()


def key(actor: Actor, customer_id: str, key_id: str) -> ApiKey:
    """One of a customer's API keys. Raises RequestError NOT_FOUND."""
    require_for(actor, Action.MANAGE_KEYS, customer_id)
    found: ApiKey | None = ApiKey.get_or_none(ApiKey.id == key_id, ApiKey.customerId == customer_id)
    if found is None:
        raise RequestError(Code.NOT_FOUND, "There is no API key with that id.")
    return found
