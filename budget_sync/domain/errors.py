"""Error values: a code, a sentence for people, and identifiers. Independent of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Code(StrEnum):
    """Every code that a reply can carry.

    Codes are stable: clients branch on the code, people read the sentence.
    """

    # Decisions of a check. INSUFFICIENT_BUDGET is also an error of reserve, amend and commit.
    AUTO_APPROVED = "AUTO_APPROVED"
    REQUIRES_APPROVAL = "REQUIRES_APPROVAL"
    INSUFFICIENT_BUDGET = "INSUFFICIENT_BUDGET"
    NO_BUDGET = "NO_BUDGET"

    # Malformed requests.
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_CUSTOMER = "INVALID_CUSTOMER"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    HTTP_ERROR = "HTTP_ERROR"

    # Authentication and permissions.
    AUTHENTICATION_REQUIRED = "AUTHENTICATION_REQUIRED"
    BAD_CREDENTIALS = "BAD_CREDENTIALS"
    TOO_MANY_ATTEMPTS = "TOO_MANY_ATTEMPTS"
    CROSS_ORIGIN = "CROSS_ORIGIN"
    FORBIDDEN = "FORBIDDEN"
    NOT_YOUR_REQUEST = "NOT_YOUR_REQUEST"
    OVERSPEND_NOT_ALLOWED = "OVERSPEND_NOT_ALLOWED"

    # Unknown ids.
    BUDGET_NOT_FOUND = "BUDGET_NOT_FOUND"
    REQUEST_NOT_FOUND = "REQUEST_NOT_FOUND"

    # Conflicts with the current state.
    BUDGET_DELETED = "BUDGET_DELETED"
    CHECK_REQUIRED = "CHECK_REQUIRED"
    REQUEST_CONFLICT = "REQUEST_CONFLICT"
    RESERVATION_CLOSED = "RESERVATION_CLOSED"
    NO_OPEN_RESERVATION = "NO_OPEN_RESERVATION"
    AMOUNT_EXCEEDS_RESERVED = "AMOUNT_EXCEEDS_RESERVED"
    AMOUNT_EXCEEDS_COMMITTED = "AMOUNT_EXCEEDS_COMMITTED"
    AMOUNT_TOO_LARGE = "AMOUNT_TOO_LARGE"
    COMMIT_EXCEEDS_RESERVED = "COMMIT_EXCEEDS_RESERVED"
    AMEND_OUT_OF_DATE = "AMEND_OUT_OF_DATE"
    EXTERNAL_REF_CONFLICT = "EXTERNAL_REF_CONFLICT"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"

    # Failures of the service.
    UNAVAILABLE = "UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    INTERNAL_ERROR = "INTERNAL_ERROR"


#: The meaning of each code, in the order of `Code`. The API documentation is generated from it.
MEANINGS: Mapping[Code, str] = {
    Code.AUTO_APPROVED: (
        "The budget has enough available, and the amount is within the auto-approve limit."
    ),
    Code.REQUIRES_APPROVAL: "The budget has enough available. FP&A has to approve the request.",
    Code.INSUFFICIENT_BUDGET: (
        "The budget has less available than the amount. Nothing was moved. A check reports "
        "this with status 200."
    ),
    Code.NO_BUDGET: (
        "The customer has no budget for that department and period, or only a deleted one."
    ),
    Code.INVALID_REQUEST: (
        "The body or the query is not valid. `fields` names every bad field and its problem."
    ),
    Code.INVALID_CUSTOMER: (
        "The customer does not exist, is disabled, or is not the customer of the credential."
    ),
    Code.UNSUPPORTED_MEDIA_TYPE: "The body must be sent as application/json.",
    Code.BODY_TOO_LARGE: "The body is larger than 64 KiB.",
    Code.NOT_FOUND: "There is nothing at that path.",
    Code.METHOD_NOT_ALLOWED: "The path exists but does not accept that method.",
    Code.HTTP_ERROR: "Another HTTP error. The sentence says why.",
    Code.AUTHENTICATION_REQUIRED: (
        "The call needs a valid session or API key. None was sent, or the one sent is "
        "invalid, expired or revoked."
    ),
    Code.BAD_CREDENTIALS: "The email or the password is wrong, or the account is disabled.",
    Code.TOO_MANY_ATTEMPTS: (
        "Too many failed logins from that address, or too many previews and sync runs at once. "
        "Try again after the seconds in Retry-After."
    ),
    Code.CROSS_ORIGIN: "A browser sent the request from a page of another site.",
    Code.FORBIDDEN: "The caller's role does not allow the call.",
    Code.NOT_YOUR_REQUEST: "The request belongs to another user.",
    Code.OVERSPEND_NOT_ALLOWED: (
        "Going over budget needs the approval of an FP&A or admin user of the customer other "
        "than the requester. A service also needs an API key that allows it."
    ),
    Code.BUDGET_NOT_FOUND: "The caller's customer has no budget with that id.",
    Code.REQUEST_NOT_FOUND: "The customer has no such request.",
    Code.BUDGET_DELETED: (
        "The budget was removed, from its sheet or by hand. It accepts commits and releases, but "
        "no new reservations."
    ),
    Code.CHECK_REQUIRED: (
        "The caller must first check the same request on the same budget, for at least that amount."
    ),
    Code.REQUEST_CONFLICT: (
        "The request already has an open reservation for another amount on that budget."
    ),
    Code.RESERVATION_CLOSED: (
        "The reservation was committed or released. Check the request again before you "
        "reserve again."
    ),
    Code.NO_OPEN_RESERVATION: "The request has no open reservation on that budget.",
    Code.AMOUNT_EXCEEDS_RESERVED: (
        "The amount to release is more than the request holds on that budget. Nothing was moved."
    ),
    Code.AMOUNT_EXCEEDS_COMMITTED: (
        "The amount to reverse is more than the request has committed on that budget. Nothing was "
        "moved."
    ),
    Code.AMOUNT_TOO_LARGE: (
        "Reserved and committed amounts of a budget stay below 10^15 minor units together, also "
        "with an approval over budget. Nothing was moved."
    ),
    Code.COMMIT_EXCEEDS_RESERVED: (
        "The commit exceeds what the request holds by more than the customer's invoice tolerance. "
        "Nothing was moved. FP&A can commit it, or the call can carry an over-budget approval."
    ),
    Code.AMEND_OUT_OF_DATE: (
        "The reservation has another version than `ifVersion`. Read the request, then amend again."
    ),
    Code.EXTERNAL_REF_CONFLICT: (
        "The request already has a commit or reversal with that externalRef on that budget, for "
        "another amount. Nothing was moved."
    ),
    Code.IDEMPOTENCY_KEY_REUSED: (
        "The Idempotency-Key was used before with another body, or the spendId for another spend."
    ),
    Code.UNAVAILABLE: (
        "The database is busy, full or unreachable. Nothing was moved. Try again after the "
        "seconds in Retry-After."
    ),
    Code.OUTCOME_UNKNOWN: (
        "The database failed during a save, for example on a full disk, so the result is "
        "unknown. Send the same request again: it is not done twice."
    ),
    Code.INTERNAL_ERROR: (
        "Something went wrong on our side and was logged. Quote the request id if you contact "
        "support."
    ),
}


class RequestError(Exception):
    """An error of a call, to be sent as its reply.

    Holds a code, a sentence for people, the bad fields by name, and more facts for the reply.
    """

    def __init__(
        self, code: Code, sentence: str, *, fields: Mapping[str, str] | None = None, **facts: object
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.fields = dict(fields or {})
        self.facts = facts

    def __reduce__(self) -> tuple[object, ...]:
        """How to pickle the error. By default, the class would be called with the text only."""
        return RequestError, (self.code, self.sentence), self.__dict__


def invalid_request(fields: Mapping[str, str]) -> RequestError:
    """An INVALID_REQUEST error that names every bad field and its problem."""
    problems = "; ".join(f"{name} {problem}" for name, problem in fields.items())
    return RequestError(
        Code.INVALID_REQUEST, f"The request is not valid: {problems}.", fields=fields
    )
