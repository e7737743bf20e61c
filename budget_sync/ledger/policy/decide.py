"""The decisions of approve and decline."""

from __future__ import annotations

from budget_sync.domain.errors import Code, RequestError


def require_not_requester(request_id: str, *, is_requester: bool) -> None:
    """Raises RequestError FORBIDDEN if the caller requested the money."""
    if is_requester:
        raise RequestError(
            Code.FORBIDDEN,
            "You checked or reserved this request for yourself, so you cannot approve it. "
            "Ask another FP&A user.",
            requestId=request_id,
        )


def require_waiting(request_id: str, *, waits: bool) -> None:
    """Raises RequestError REQUEST_CONFLICT if the reservation does not wait for an approval."""
    if not waits:
        raise RequestError(
            Code.REQUEST_CONFLICT,
            "This request does not wait for an approval. Read it again.",
            requestId=request_id,
        )


def require_uncovered(
    request_id: str, check_id: str | None, uncovered_id: str | None, *, is_held: bool
) -> None:
    """Raises RequestError REQUEST_CONFLICT unless the request waits because of that check.

    `uncovered_id` is the check because of which the request waits now; None if it does not wait.
    Without `check_id`, any check will do.
    """
    if uncovered_id is not None and check_id in (None, uncovered_id):
        return
    if uncovered_id is not None:
        sentence = "This request was checked again since. Read it again, then decide."
    elif is_held:
        sentence = "Money was reserved for this request since. Reject the reservation instead."
    else:
        sentence = "This request does not wait for a decision. Read it again."
    raise RequestError(Code.REQUEST_CONFLICT, sentence, requestId=request_id)
