"""Release: return reserved money to the budget."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from budget_sync import ledger
from budget_sync.domain.errors import invalid_request
from budget_sync.domain.permissions import Action, require
from budget_sync.domain.request_models import ReleaseAction, ReleaseRequest
from budget_sync.web.console.actions.effects import Effect, LedgerAction, Share
from budget_sync.web.console.actions.form import body, confirm, open_hold, typed_amount
from budget_sync.web.console.base import argument, console, viewer

#: Title, button and explanation of each kind of release.
_RELEASES = {
    ReleaseAction.REJECT: (
        "Reject the request",
        "Reject and release",
        "The request was rejected. Its money returns to the budget.",
    ),
    ReleaseAction.MANUAL: (
        "Release by hand",
        "Release",
        "The money returns to the budget for a reason other than a rejection.",
    ),
    ReleaseAction.CANCEL: (
        "Cancel the request",
        "Cancel and release",
        "The request is withdrawn. Its money returns to the budget.",
    ),
}


@console.route("/request/release", methods=["GET", "POST"])
def release() -> AnyResponse:
    """Return reserved money to the budget."""
    who = viewer()
    try:
        release_action = ReleaseAction(argument("action"))
    except ValueError:
        raise invalid_request({"action": "must be one of cancel, reject, manual"}) from None
    is_cancel = release_action is ReleaseAction.CANCEL
    require(who.actor, Action.CANCEL if is_cancel else Action.RELEASE)
    _, budget, line = open_hold()
    amount_minor, problem = typed_amount(line.held_minor, budget.balance.exponent)
    released_minor = min(amount_minor, line.held_minor)
    title, button, explanation = _RELEASES[release_action]
    share = Share("Held", line.held_minor, -released_minor)
    action = LedgerAction(
        title=title,
        button=button,
        explanation=explanation,
        request_id=line.request_id,
        effects=(Effect(budget, share, reserved_minor=-released_minor),),
        amount_minor=amount_minor,
        held_minor=line.held_minor,
        is_dangerous=True,
    )

    def run(reason: str, idempotency_key: str) -> str:
        sent = body(
            ReleaseRequest,
            budget_id=budget.id,
            request_id=line.request_id,
            amount=action.amount,
            action=release_action,
            customer_id=who.customer.id,
            original_requester_id=line.requester_id if is_cancel else None,
            reason=reason,
        )
        ledger.release(who.actor, sent, idempotency_key=idempotency_key)
        return f"Released {action.amount_text}"

    return confirm(action, problem, run)
