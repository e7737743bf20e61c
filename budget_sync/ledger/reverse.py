"""reverse: return committed money to the budget, or to the hold of its request."""

from __future__ import annotations

from typing import Any, NamedTuple

from budget_sync.database import Prepared, transact
from budget_sync.database.models import Reservation, Spend
from budget_sync.domain.ids import new_id
from budget_sync.domain.permissions import Action, Actor, require
from budget_sync.domain.request_models import ReverseRequest, ReverseTo
from budget_sync.domain.results import Reply
from budget_sync.ledger import movements, past_movements, policy, reservations
from budget_sync.ledger.commit import is_known_request
from budget_sync.ledger.idempotency import IdempotencyKey
from budget_sync.ledger.movements import LedgerBudget, ReservationRef, SpendRef
from budget_sync.ledger.past_movements import PastMovement

# All reservations of the request on the budget, the latest first.
_RESERVATIONS = Prepared(
    lambda value: (
        Reservation.select()
        .where(
            (Reservation.customerId == value.customer_id)
            & (Reservation.requestId == value.request_id)
            & (Reservation.budgetId == value.budget_id)
        )
        .order_by(Reservation.seq.desc())
    )
)
_SPEND = Prepared(
    lambda value: Spend.select().where(
        (Spend.customerId == value.customer_id)
        & (Spend.spendId == value.request_id)
        & (Spend.budgetId == value.budget_id)
    )
)
_REVERSE_SPEND = Prepared(
    lambda value: Spend.update(
        reversedMinor=Spend.reversedMinor + value.amount_minor, version=value.version
    ).where(Spend.seq == value.seq)
)


class _Committed(NamedTuple):
    """A reservation or a spend, with its committed amount."""

    row: Any
    is_spend: bool
    committed_minor: int

    @property
    def ref(self) -> ReservationRef | SpendRef:
        """How audit rows name it."""
        return SpendRef(self.row.spendId) if self.is_spend else ReservationRef.of(self.row)


class _Reversal(NamedTuple):
    """A reversal: the caller, the request and the amount."""

    actor: Actor
    request: ReverseRequest
    amount_minor: int


def reverse(actor: Actor, request: ReverseRequest, *, idempotency_key: str | None = None) -> Reply:
    """Return committed money, at most what the request, or the spend, committed on the budget.

    The same reversal again is a replay: by its key, by its `external_ref`, or without both if
    nothing else happened to the request on the budget. Raises RequestError FORBIDDEN,
    INVALID_CUSTOMER, INVALID_REQUEST, BUDGET_NOT_FOUND, REQUEST_NOT_FOUND, IDEMPOTENCY_KEY_REUSED,
    EXTERNAL_REF_CONFLICT, AMOUNT_EXCEEDS_COMMITTED, or an error of `transact`.
    """
    movements.require_customer(actor, request.customer_id)
    require(actor, Action.COMMIT)

    def work() -> Reply:
        budget, spend = movements.lock_budget(
            actor,
            request.budget_id,
            request.customer_id,
            _SPEND,
            request_id=request.request_id,
        )
        balance = budget.balance
        amount_minor = policy.require_minor(request.amount, balance.currency, balance.exponent)
        found = _committed(budget, request.request_id, spend)
        if not found:
            known = is_known_request(budget.customer_id, request.request_id)
            policy.require_known_request(request.request_id, is_known=known)
        holders = [each for each in found if not each.is_spend]
        policy.require_reservation_to_hold(request.to, has_reservation=bool(holders or not found))
        key = IdempotencyKey.of(actor, budget.customer_id, "reverse", idempotency_key, request)
        replay = key.stored() or key.store(_replay(budget, request, found, amount_minor))
        if replay:
            return replay
        sources = holders if request.to is ReverseTo.RESERVED else found
        committed_minor = sum(each.committed_minor for each in sources)
        if amount_minor > committed_minor:
            raise policy.exceeds_committed(
                budget.id, request.request_id, balance, committed_minor, amount_minor
            )
        reversal = _Reversal(actor, request, amount_minor)
        return key.store(_return(budget, sources, reversal))

    return transact(work)


def _committed(budget: LedgerBudget, request_id: str, spend: Any) -> list[_Committed]:
    """The request's reservations on the budget, the latest first, and the spend with that id."""
    rows = _RESERVATIONS.rows(
        customer_id=budget.customer_id, request_id=request_id, budget_id=budget.id
    )
    found = [_Committed(row, False, row.committedMinor - row.reversedMinor) for row in rows]
    if spend is not None:
        found.append(_Committed(spend, True, spend.amountMinor - spend.reversedMinor))
    return found


def _replay(
    budget: LedgerBudget, request: ReverseRequest, found: list[_Committed], amount_minor: int
) -> Reply | None:
    """The reply to an earlier reversal that this one repeats.

    Without a reference, only the latest movement of the request on the budget is compared, so that
    a repeated call never returns the money twice. Raises RequestError EXTERNAL_REF_CONFLICT.
    """
    if request.external_ref is not None:
        rows = past_movements.reversals_with_ref(budget, request.request_id, request.external_ref)
        if not rows:
            return None
        policy.require_same_ref_amount(
            budget.balance, request.external_ref, _reversed_minor(rows), amount_minor
        )
        return _past_reply(budget, request, rows)
    version = max((each.row.version for each in found), default=0)
    latest = past_movements.movement_at(budget, version)
    if latest is None or latest.action != "REVERSE" or latest.external_ref is not None:
        return None
    rows = past_movements.movements_of_call(budget, latest, len(found) + 1)
    to = ReverseTo.RESERVED if _held_again_minor(rows) else ReverseTo.AVAILABLE
    is_same = (_reversed_minor(rows), to, latest.reason) == (
        amount_minor,
        request.to,
        request.reason,
    )
    return _past_reply(budget, request, rows) if is_same else None


def _reversed_minor(rows: list[PastMovement]) -> int:
    return -sum(row.committed_delta_minor for row in rows)


def _held_again_minor(rows: list[PastMovement]) -> int:
    return sum(row.reserved_delta_minor for row in rows)


def _past_reply(budget: LedgerBudget, request: ReverseRequest, rows: list[PastMovement]) -> Reply:
    """The reply to an earlier reversal, from its audit rows."""
    to = ReverseTo.RESERVED if _held_again_minor(rows) else ReverseTo.AVAILABLE
    available_minor = rows[-1].available_minor
    reply = _reply(budget, request.request_id, _reversed_minor(rows), to, available_minor)
    return Reply(reply.text, replayed=True)


def _return(budget: LedgerBudget, sources: list[_Committed], reversal: _Reversal) -> Reply:
    """Move the money, each part with an audit row. The latest reservation's row is the last one.

    Money that is held again belongs to the latest reservation, which is open after that.
    """
    request = reversal.request
    parts = policy.split_reversal([each.committed_minor for each in sources], reversal.amount_minor)
    holds_again = request.to is ReverseTo.RESERVED
    if holds_again and parts[0].position:
        # The latest reservation takes the money, although it has committed nothing.
        parts.insert(0, policy.Part(0, 0))
    call_id = new_id("call") if len(parts) > 1 else None
    after = budget
    for part in reversed(parts):
        held_minor = reversal.amount_minor if holds_again and part.position == 0 else 0
        after = _return_part(after, sources[part.position], part, held_minor, reversal, call_id)
    available_minor = after.balance.available_minor
    return _reply(after, request.request_id, reversal.amount_minor, request.to, available_minor)


def _return_part(
    budget: LedgerBudget,
    source: _Committed,
    part: policy.Part,
    held_minor: int,
    reversal: _Reversal,
    call_id: str | None,
) -> LedgerBudget:
    """Return what one reservation or spend has committed, and hold `held_minor` again."""
    after = movements.move_always(
        budget, reserved_minor=held_minor, committed_minor=-part.amount_minor
    )
    movements.record_movement(
        reversal.actor,
        "REVERSE",
        budget,
        after,
        source.ref,
        old_minor=source.committed_minor,
        new_minor=source.committed_minor - part.amount_minor,
        reason=reversal.request.reason,
        external_ref=reversal.request.external_ref,
        transfer_id=call_id,
    )
    row = source.row
    if source.is_spend:
        _REVERSE_SPEND.execute(seq=row.seq, amount_minor=part.amount_minor, version=after.version)
        return after
    reopens = held_minor and row.status == "closed"
    reservations.settle(
        row,
        after,
        reversed_minor=part.amount_minor,
        adjusted_minor=held_minor,
        expiry=reservations.new_expiry(budget.customer_id) if reopens else None,
    )
    return after


def _reply(
    budget: LedgerBudget, request_id: str, reversed_minor: int, to: ReverseTo, available_minor: int
) -> Reply:
    balance = budget.balance
    return Reply.of(
        {
            "success": True,
            "budgetId": budget.id,
            "requestId": request_id,
            "amountReversed": balance.number(reversed_minor),
            "to": str(to),
            "newAvailable": balance.number(available_minor),
        }
    )
