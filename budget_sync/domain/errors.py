"""What a verb may answer instead of a result: a code, a sentence, and identifiers. Nothing here knows of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Code(StrEnum):
    """Every code a caller can meet, in one list. Codes are stable: clients branch on them, people read the sentence."""

    # What a check answers (never a refusal).
    AUTO_APPROVED = "AUTO_APPROVED"
    REQUIRES_APPROVAL = "REQUIRES_APPROVAL"
    # What a check answers, and what a reserve or commit refuses.
    INSUFFICIENT_BUDGET = "INSUFFICIENT_BUDGET"
    NO_BUDGET = "NO_BUDGET"

    # The request itself.
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_CUSTOMER = "INVALID_CUSTOMER"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    HTTP_ERROR = "HTTP_ERROR"

    # The caller.
    AUTHENTICATION_REQUIRED = "AUTHENTICATION_REQUIRED"
    BAD_CREDENTIALS = "BAD_CREDENTIALS"
    TOO_MANY_ATTEMPTS = "TOO_MANY_ATTEMPTS"
    CROSS_ORIGIN = "CROSS_ORIGIN"
    FORBIDDEN = "FORBIDDEN"
    NOT_YOUR_REQUEST = "NOT_YOUR_REQUEST"
    OVERSPEND_NOT_ALLOWED = "OVERSPEND_NOT_ALLOWED"

    # What it names.
    BUDGET_NOT_FOUND = "BUDGET_NOT_FOUND"
    REQUEST_NOT_FOUND = "REQUEST_NOT_FOUND"

    # What stands against it.
    BUDGET_DELETED = "BUDGET_DELETED"
    CHECK_REQUIRED = "CHECK_REQUIRED"
    REQUEST_CONFLICT = "REQUEST_CONFLICT"
    RESERVATION_CLOSED = "RESERVATION_CLOSED"
    NO_OPEN_RESERVATION = "NO_OPEN_RESERVATION"
    AMOUNT_EXCEEDS_RESERVED = "AMOUNT_EXCEEDS_RESERVED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"

    # The service.
    UNAVAILABLE = "UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    INTERNAL_ERROR = "INTERNAL_ERROR"


#: What each code means, in the order of `Code`; the API's documentation is made from it.
MEANINGS: Mapping[Code, str] = {
    Code.AUTO_APPROVED: "The budget can carry it, and the amount is within the auto-approve limit.",
    Code.REQUIRES_APPROVAL: "The budget can carry it; FP&A has to approve.",
    Code.INSUFFICIENT_BUDGET: "Less is available than was asked for; a check says so with status 200. Nothing was moved.",
    Code.NO_BUDGET: "The customer has no live budget for that department and period.",
    Code.INVALID_REQUEST: "The body or query is not what the call takes; `fields` names each field and what is wrong with it.",
    Code.INVALID_CUSTOMER: "The customer does not exist, is disabled, or is not the one the credential is for.",
    Code.UNSUPPORTED_MEDIA_TYPE: "The body must be sent as application/json.",
    Code.BODY_TOO_LARGE: "The body is larger than 64 KiB.",
    Code.NOT_FOUND: "There is nothing at that path.",
    Code.METHOD_NOT_ALLOWED: "The path exists, but not for that method.",
    Code.HTTP_ERROR: "The request was refused by the HTTP layer; the sentence says why.",
    Code.AUTHENTICATION_REQUIRED: "The call needs a session or an API key, or the one sent is not valid (any more).",
    Code.BAD_CREDENTIALS: "Email or password are wrong, or the account is disabled.",
    Code.TOO_MANY_ATTEMPTS: "Too many failed logins from that address; wait as long as Retry-After says.",
    Code.CROSS_ORIGIN: "A browser sent the request from another site.",
    Code.FORBIDDEN: "The caller's role does not allow the call.",
    Code.NOT_YOUR_REQUEST: "The request belongs to someone else.",
    Code.OVERSPEND_NOT_ALLOWED: "Over-budget approval needs an FP&A or admin user of the customer who is not the requester, and a service's key must allow it.",
    Code.BUDGET_NOT_FOUND: "The caller's customer has no budget with that id.",
    Code.REQUEST_NOT_FOUND: "Nothing is known of that request.",
    Code.BUDGET_DELETED: "The budget was taken out of the sheet: it accepts commits and releases, no new reservations.",
    Code.CHECK_REQUIRED: "Reserve what you checked yourself: same request, same budget, at least that amount.",
    Code.REQUEST_CONFLICT: "The same request already holds another amount on that budget.",
    Code.RESERVATION_CLOSED: "The reservation was committed or released; check the request again before reserving anew.",
    Code.NO_OPEN_RESERVATION: "The request holds nothing on that budget (any more).",
    Code.AMOUNT_EXCEEDS_RESERVED: "More was to be released than the request still holds on that budget. Nothing was moved.",
    Code.IDEMPOTENCY_KEY_REUSED: "The Idempotency-Key was used before with another body.",
    Code.UNAVAILABLE: "The database is busy, full or unreachable. Nothing was moved; try again as Retry-After says.",
    Code.OUTCOME_UNKNOWN: "The database failed while it was saving, as it may on a full disk. Send the same request again: it will not be done twice.",
    Code.INTERNAL_ERROR: "A mistake of ours. The log names it under the request id of the reply.",
}


class RequestError(Exception):
    """A verb's answer when it does nothing: a code, one sentence for people, bad fields by name, and further facts for the reply."""

    def __init__(
        self, code: Code, sentence: str, *, fields: Mapping[str, str] | None = None, **facts: object
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.fields = dict(fields or {})
        self.facts = facts


def invalid_request(fields: Mapping[str, str]) -> RequestError:
    """A refusal that names every bad field with what is wrong with it."""
    named = "; ".join(f"{name} {problem}" for name, problem in fields.items())
    return RequestError(Code.INVALID_REQUEST, f"The request is not valid: {named}.", fields=fields)
