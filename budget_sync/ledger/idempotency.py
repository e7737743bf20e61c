"""Replies stored under an `Idempotency-Key`, in the same transaction as the movement."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

from peewee import SQL

from budget_sync.database import Prepared
from budget_sync.database.models import StoredReply
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor
from budget_sync.domain.request_models import Body
from budget_sync.domain.results import Reply

_STORED = Prepared(
    lambda value: StoredReply.select(StoredReply.bodyHash, StoredReply.reply).where(
        (StoredReply.customerId == value.customer_id)
        & (StoredReply.principal == value.principal)
        & (StoredReply.call == value.call)
        & (StoredReply.idempotencyKey == value.key)
    )
)
_COLUMNS = ("customerId", "principal", "call", "idempotencyKey", "bodyHash", "reply", "createdAt")
_INSERT = Prepared(
    lambda value: StoredReply.insert({column: getattr(value, column) for column in _COLUMNS})
)

_CALLS = ("amend", "approve", "commit", "decline", "release", "reserve", "reverse")


def has_stored(actor: Actor, customer_id: str, key: str) -> bool:
    """Whether the caller has a stored reply under that key, of any call."""
    found = StoredReply.select(SQL("1")).where(
        StoredReply.customerId == customer_id,
        StoredReply.principal == actor.principal,
        StoredReply.call.in_(_CALLS),
        StoredReply.idempotencyKey == key,
    )
    return found.exists()


#: A reply, or None before the first one.
MaybeReply = TypeVar("MaybeReply", Reply, Reply | None)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key with its scope: customer, principal and call. If `key` is None, nothing is stored."""

    customer_id: str
    principal: str
    call: str
    key: str | None
    body_hash: str

    @classmethod
    def of(
        cls, actor: Actor, customer_id: str, call: str, key: str | None, request: Body
    ) -> IdempotencyKey:
        """The key of a request. Bodies are compared by their values, not by their text."""
        body_hash = hashlib.sha256(request.model_dump_json().encode()).hexdigest() if key else ""
        return cls(customer_id, actor.principal, call, key, body_hash)

    def stored(self) -> Reply | None:
        """The reply stored under the key.

        Raises RequestError IDEMPOTENCY_KEY_REUSED if it belongs to another body.
        """
        if self.key is None:
            return None
        row = _STORED.first(
            customer_id=self.customer_id, principal=self.principal, call=self.call, key=self.key
        )
        if row is None:
            return None
        if row.bodyHash != self.body_hash:
            raise RequestError(
                Code.IDEMPOTENCY_KEY_REUSED,
                "This Idempotency-Key was used before with another body. Use a new key.",
            )
        return Reply(row.reply, replayed=True)

    def store(self, reply: MaybeReply) -> MaybeReply:
        """Store a reply under the key, if both exist, and return the reply.

        Replays found by request id are stored too: after the request is reserved again, only the
        key distinguishes a late duplicate from a new call.
        """
        if self.key is not None and reply is not None:
            _INSERT.write(
                customerId=self.customer_id,
                principal=self.principal,
                call=self.call,
                idempotencyKey=self.key,
                bodyHash=self.body_hash,
                reply=reply.text,
                createdAt=clock.to_text(clock.now()),
            )
        return reply
