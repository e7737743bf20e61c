"""commit and release: what becomes of reserved money."""

from __future__ import annotations

from typing import Any

from peewee import fn

from budget_sync.database import Prepared, transact
from budget_sync.database.models import BudgetCheckLog, Reservation
from budget_sync.domain import clock
from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.permissions import Action, Actor, Scope, require
from budget_sync.domain.request_models import CommitRequest, ReleaseAction, ReleaseRequest
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements as standings
from budget_sync.ledger.idempotency import Scope as KeyScope
from budget_sync.ledger.movements import Claim, Standing

#: What the audit log says where the body gives no reason.
_REASONS = {
    ReleaseAction.CANCEL: "Request cancelled by user",
    ReleaseAction.REJECT: "Request rejected",
    ReleaseAction.MANUAL: "Budget released manually",
}

_SETTLED = (
    "heldMinor",
    "committedMinor",
    "releasedMinor",
    "exceededMinor",
    "status",
    "closedAt",
    "closedAfterCheck",
    "closingCall",
    "closingReply",
)
_SETTLE = Prepared(
    lambda value: Reservation.update({column: getattr(value, column) for column in _SETTLED}).where(
        (Reservation.seq == value.seq)
        & (Reservation.status == "open")
        & (Reservation.heldMinor == value.heldBefore)
    )
)
# On PostgreSQL, checks that are logged side by side become visible in any order. Still, a check that was answered before the
# reservation closes is seen here, and one that is asked for after that gets a higher id; for one that overlaps, either will do.
_NEWEST_CHECK = Prepared(lambda _: BudgetCheckLog.select(fn.MAX(BudgetCheckLog.id)))


def _of_request(value: Any, table: Any) -> Any:
    return (
        table.select(table.requestId)
        .where((table.customerId == value.customer_id) & (table.requestId == value.request_id))
        .limit(1)
    )


_RESERVED = Prepared(lambda value: _of_request(value, Reservation))
_CHECKED = Prepared(lambda value: _of_request(value, BudgetCheckLog))


def commit(actor: Actor, request: CommitRequest, *, idempotency_key: str | None = None) -> Reply:
    """Move reserved money to committed; more than is reserved only if the budget still has room for the rest.

    Raises RequestError: FORBIDDEN, INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND, REQUEST_NOT_FOUND, IDEMPOTENCY_KEY_REUSED,
    NO_OPEN_RESERVATION, INSUFFICIENT_BUDGET, or what `transact` raises.
    """
    standings.require_customer(actor, request.customer_id)
    require(actor, Action.COMMIT)

    def work() -> Reply:
        standing, reservation = standings.budget_for(
            actor,
            request.budget_id,
            request.customer_id,
            standings.RESERVATION,
            request_id=request.request_id,
        )
        amount_minor = standings.amount_minor(request.amount, standing.currency, standing.exponent)
        if reservation is None and not _is_known(standing, request.request_id):
            raise RequestError(
                Code.REQUEST_NOT_FOUND, "Request not found.", requestId=request.request_id
            )
        call = f"commit:{amount_minor}:{'final' if request.final else 'partial'}"
        key = KeyScope.of(actor, standing.customer_id, "commit", idempotency_key, request)
        replay = key.stored() or key.keep(_replay(reservation, call))
        if replay:
            return replay
        if reservation is None or reservation.status != "open":
            raise RequestError(
                Code.NO_OPEN_RESERVATION,
                "This request holds nothing on this budget.",
                requestId=request.request_id,
            )
        return key.keep(_spend(actor, standing, reservation, request, amount_minor, call))

    return transact(work)


def _spend(
    actor: Actor,
    standing: Standing,
    reservation: Reservation,
    request: CommitRequest,
    amount_minor: int,
    call: str,
) -> Reply:
    held_minor = reservation.heldMinor
    taken_minor = min(amount_minor, held_minor)
    exceeded_minor = amount_minor - taken_minor
    spent = standings.move(
        standing,
        reserved_minor=-taken_minor,
        committed_minor=amount_minor,
        within_budget=exceeded_minor > 0,
    )
    if spent is None and standing.deleted_at:
        raise RequestError(
            Code.BUDGET_DELETED,
            "The budget was removed: no more than is reserved on it can be committed.",
            budgetId=standing.id,
        )
    if spent is None:
        raise standings.refuse_insufficient(
            standing, standing.available_minor + held_minor, amount_minor
        )
    left_minor = held_minor - taken_minor
    standings.record_movement(
        actor,
        "COMMIT",
        standing,
        spent,
        Claim.of(reservation),
        held_before_minor=held_minor,
        held_after_minor=left_minor,
        reason=request.reason or "Request fulfilled",
        external_ref=request.external_ref,
    )
    after, released_minor = spent, 0
    if request.final and left_minor:
        after, released_minor = (
            _give_back(
                actor,
                spent,
                reservation,
                left_minor,
                left_minor,
                "Remainder released by the final commit",
            ),
            left_minor,
        )
    reply = _reply(
        standing,
        after,
        reservation,
        left_minor - released_minor,
        amountCommitted=amount_minor,
        amountReleased=released_minor,
    )
    _settle(
        reservation,
        committed_minor=amount_minor,
        released_minor=released_minor,
        exceeded_minor=exceeded_minor,
        call=call,
        reply=reply,
    )
    return reply


def release(actor: Actor, request: ReleaseRequest, *, idempotency_key: str | None = None) -> Reply:
    """Give reserved money back, all of it or a part.

    Raises RequestError: FORBIDDEN, INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND, NOT_YOUR_REQUEST, IDEMPOTENCY_KEY_REUSED,
    AMOUNT_EXCEEDS_RESERVED, or what `transact` raises.
    """
    standings.require_customer(actor, request.customer_id)
    cancels = request.action is ReleaseAction.CANCEL
    if cancels and actor.is_service and request.original_requester_id is None:
        raise invalid_request({"originalRequesterId": "is required when a service cancels"})
    scope = require(actor, Action.CANCEL if cancels else Action.RELEASE)

    def work() -> Reply:
        standing, reservation = standings.budget_for(
            actor,
            request.budget_id,
            request.customer_id,
            standings.RESERVATION,
            request_id=request.request_id,
        )
        amount_minor = standings.amount_minor(request.amount, standing.currency, standing.exponent)
        if cancels:
            _require_requester(actor, scope, reservation, request)
        call = f"release:{request.action}:{amount_minor}"
        key = KeyScope.of(actor, standing.customer_id, "release", idempotency_key, request)
        replay = key.stored() or key.keep(_replay(reservation, call))
        if replay:
            return replay
        held_minor = reservation.heldMinor if reservation else 0
        if reservation is None or amount_minor > held_minor:
            raise RequestError(
                Code.AMOUNT_EXCEEDS_RESERVED,
                f"Amount exceeds reserved: this request holds {standing.text(held_minor)} on this budget, {standing.text(amount_minor)} was to be released.",
                amountReleased=0,
                amountHeld=standing.number(held_minor),
                newAvailable=standing.number(standing.available_minor),
            )
        after = _give_back(
            actor,
            standing,
            reservation,
            held_minor,
            amount_minor,
            request.reason or _REASONS[request.action],
        )
        reply = _reply(
            standing, after, reservation, held_minor - amount_minor, amountReleased=amount_minor
        )
        _settle(reservation, released_minor=amount_minor, call=call, reply=reply)
        return key.keep(reply)

    return transact(work)


def _give_back(
    actor: Actor,
    standing: Standing,
    reservation: Reservation,
    held_minor: int,
    amount_minor: int,
    reason: str,
) -> Standing:
    """Lower the budget's reserved balance, and tell the audit log."""
    after = standings.move(standing, reserved_minor=-amount_minor)
    if after is None:
        raise RuntimeError(f"budget {standing.id} has no utilisation row")
    standings.record_movement(
        actor,
        "RELEASE",
        standing,
        after,
        Claim.of(reservation),
        held_before_minor=held_minor,
        held_after_minor=held_minor - amount_minor,
        reason=reason,
    )
    return after


def _settle(
    reservation: Reservation,
    *,
    call: str,
    reply: Reply,
    released_minor: int,
    committed_minor: int = 0,
    exceeded_minor: int = 0,
) -> None:
    """Bring the reservation's own row forward, once: compare-and-set on what it held when it was read."""
    held_minor = reservation.heldMinor + exceeded_minor - committed_minor - released_minor
    closes = held_minor == 0
    settled = _SETTLE.execute(
        seq=reservation.seq,
        heldBefore=reservation.heldMinor,
        heldMinor=held_minor,
        committedMinor=reservation.committedMinor + committed_minor,
        releasedMinor=reservation.releasedMinor + released_minor,
        exceededMinor=reservation.exceededMinor + exceeded_minor,
        status="closed" if closes else "open",
        closedAt=clock.to_text(clock.now()) if closes else None,
        closedAfterCheck=(_NEWEST_CHECK.scalar() or 0) if closes else None,
        closingCall=call if closes else None,
        closingReply=reply.text if closes else None,
    )
    if settled != 1:
        raise RuntimeError(
            f"reservation {reservation.id} was changed by someone else inside this transaction"
        )


def _replay(reservation: Reservation | None, call: str) -> Reply | None:
    """The reply of the call that closed the reservation, where this is the same call again."""
    if reservation is None or reservation.closingReply is None or reservation.closingCall != call:
        return None
    return Reply(reservation.closingReply, replayed=True)


def _require_requester(
    actor: Actor, scope: Scope, reservation: Reservation | None, request: ReleaseRequest
) -> None:
    """Who may cancel: the stored requester, or a service that names them. FP&A and admins may cancel any."""
    stored = reservation.requesterId if reservation else None
    if scope is Scope.OWN and not (
        stored is not None and stored == actor.user_id == request.original_requester_id
    ):
        raise RequestError(
            Code.NOT_YOUR_REQUEST,
            "You can cancel your own requests only.",
            requestId=request.request_id,
        )
    if actor.is_service and reservation and stored != request.original_requester_id:
        raise RequestError(
            Code.NOT_YOUR_REQUEST,
            "originalRequesterId is not who this reservation was made for.",
            requestId=request.request_id,
        )


def _is_known(standing: Standing, request_id: str) -> bool:
    """Whether the customer ever checked or reserved that request, on any budget."""
    return any(
        query.first(customer_id=standing.customer_id, request_id=request_id)
        for query in (_RESERVED, _CHECKED)
    )


def _reply(
    before: Standing,
    after: Standing,
    reservation: Reservation,
    held_minor: int,
    **amounts_minor: int,
) -> Reply:
    return Reply.of(
        {
            "success": True,
            **{name: before.number(minor) for name, minor in amounts_minor.items()},
            "newAvailable": after.number(after.available_minor),
            "budgetId": before.id,
            "requestId": reservation.requestId,
            "reservationId": reservation.id,
            "amountHeld": before.number(held_minor),
        }
    )
