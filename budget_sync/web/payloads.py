"""JSON bodies: parsing and validating requests, and building replies.

A reply to an invalid request names all bad fields at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Response, current_app, request
from pydantic import BaseModel, ValidationError
from werkzeug.wsgi import get_content_length

from budget_sync.domain.errors import Code, RequestError, invalid_request
from budget_sync.domain.results import Reply, dumps
from budget_sync.web import metrics
from budget_sync.web.server_interface import BrokenBodyError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_BODY_BYTES = 64 * 1024
MAX_KEY_LENGTH = 255

# Longer integers become Decimal. They are too large for every field, and int() raises for thousands
# of digits.
_MAX_INT_DIGITS = 30

#: The HTTP status of each error code.
STATUSES: dict[Code, int] = {
    Code.INVALID_REQUEST: 400,
    Code.INVALID_CUSTOMER: 400,
    Code.AUTHENTICATION_REQUIRED: 401,
    Code.BAD_CREDENTIALS: 401,
    Code.CROSS_ORIGIN: 403,
    Code.FORBIDDEN: 403,
    Code.NOT_YOUR_REQUEST: 403,
    Code.OVERSPEND_NOT_ALLOWED: 403,
    Code.NOT_FOUND: 404,
    Code.BUDGET_NOT_FOUND: 404,
    Code.REQUEST_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.INSUFFICIENT_BUDGET: 409,
    Code.BUDGET_DELETED: 409,
    Code.CHECK_REQUIRED: 409,
    Code.REQUEST_CONFLICT: 409,
    Code.RESERVATION_CLOSED: 409,
    Code.NO_OPEN_RESERVATION: 409,
    Code.AMOUNT_EXCEEDS_COMMITTED: 409,
    Code.AMOUNT_TOO_LARGE: 409,
    Code.COMMIT_EXCEEDS_RESERVED: 409,
    Code.AMEND_OUT_OF_DATE: 409,
    Code.EXTERNAL_REF_CONFLICT: 409,
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.IDEMPOTENCY_KEY_REUSED: 422,
    Code.TOO_MANY_ATTEMPTS: 429,
    Code.INTERNAL_ERROR: 500,
    Code.UNAVAILABLE: 503,
    Code.OUTCOME_UNKNOWN: 503,
    # The integration guide replies with 200 and `success: false`.
    Code.AMOUNT_EXCEEDS_RESERVED: 200,
}

#: The problem of a body with a broken chunk, or shorter than its Content-Length.
INCOMPLETE_BODY = "is incomplete or has an invalid chunk; send the request again"

_REPEATED = "must be given only once"

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model]) -> Model:
    """The request's JSON body as an instance of `model`.

    Raises RequestError UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE or INVALID_REQUEST.
    """
    # Read once: each access through Flask's `request` proxy is a lookup.
    environ = request.environ
    if environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        raise RequestError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send the body as JSON, with Content-Type: application/json.",
        )
    body = _read_body(environ)
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(Code.BODY_TOO_LARGE, "The body is larger than 64 KiB.")
    values, repeated = _read_json(body)
    if not isinstance(values, dict):
        raise invalid_request({"body": "must be a JSON object"})
    problems = dict.fromkeys(repeated, _REPEATED)
    try:
        # Only by the documented names: with snake_case names as well, a body could give two values
        # for one field.
        parsed = model.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _invalid_fields(error, problems) from None
    if problems:
        raise invalid_request(problems)
    return parsed


def _read_json(body: bytes) -> tuple[Any, list[str]]:
    """The JSON value with exact numbers, and the paths of repeated names."""
    has_repeated = False

    def to_object(pairs: list[tuple[str, Any]]) -> _Object:
        nonlocal has_repeated
        result = _Object(pairs)
        if len(result) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            result.repeated = [name for name, count in counts.items() if count > 1]
            has_repeated = True
        return result

    try:
        # Python's parser accepts NaN and Infinity, which JSON does not have. As Decimal they fail
        # the validation of their field, so the reply names it.
        value = json.loads(
            body.decode(),
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=Decimal,
            object_pairs_hook=to_object,
        )
    except RecursionError:
        raise invalid_request({"body": "is nested too deeply"}) from None
    except ValueError:
        raise invalid_request({"body": "must be valid JSON in UTF-8"}) from None
    return value, list(_repeated_names(value)) if has_repeated else []


def _read_body(environ: WSGIEnvironment) -> bytes:
    """The body's bytes.

    Raises RequestError BODY_TOO_LARGE, or INVALID_REQUEST if a chunk is broken or the body is
    shorter than its Content-Length.
    """
    length = get_content_length(environ)
    if length is not None and length > MAX_BODY_BYTES:
        raise RequestError(Code.BODY_TOO_LARGE, "The body is larger than 64 KiB.")
    try:
        # With a known length, reading the input directly costs a fraction of Flask's `get_data`.
        body: bytes = (
            request.get_data(cache=False) if length is None else environ["wsgi.input"].read(length)
        )
    except (BrokenBodyError, OSError):
        raise invalid_request({"body": INCOMPLETE_BODY}) from None
    if len(body) < (length or 0):
        raise invalid_request({"body": INCOMPLETE_BODY})
    return body


class _Object(dict[str, Any]):
    """A JSON object that knows which of its names were repeated."""

    repeated: Sequence[str] = ()


def _repeated_names(value: object, path: str = "") -> Iterator[str]:
    """The paths of repeated names, such as overBudget.reason."""
    if isinstance(value, _Object):
        yield from (path + _readable(name) for name in value.repeated)
        for name, inner in value.items():
            yield from _repeated_names(inner, f"{path}{_readable(name)}.")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _repeated_names(inner, f"{path}{number}.")


def _readable(name: str) -> str:
    """A sent name, cut to 100 characters and with half surrogate pairs escaped, for a reply."""
    return name[:100].encode("utf-8", "backslashreplace").decode()


def _decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:
        # The exponent is beyond the range of Decimal. NaN fails the validation as well.
        return Decimal("NaN")


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else Decimal(digits)


def _invalid_fields(error: ValidationError, problems: dict[str, str]) -> RequestError:
    """INVALID_REQUEST for the errors of a model and the problems that were already found."""
    errors = error.errors(include_url=False, include_context=True, include_input=False)
    missing = [each for each in errors if each["type"] == "missing"]
    for each in errors:
        problems.setdefault(".".join(map(str, each["loc"])), _problem_text(each))
    if len(missing) == len(problems):
        names = ", ".join(problems)
        return RequestError(
            Code.INVALID_REQUEST, f"Missing required fields: {names}", fields=problems
        )
    return invalid_request(problems)


def _problem_text(error: Any) -> str:
    """The problem of a field, as the rest of a sentence that starts with the field's name."""
    limits = error.get("ctx", {})
    texts = {
        "missing": "is required",
        "string_type": "must be text",
        "bool_type": "must be true or false",
        "model_type": "must be a JSON object",
        "string_too_long": f"must have at most {limits.get('max_length')} characters",
        "string_too_short": f"must have at least {limits.get('min_length')} characters",
    }
    return texts.get(error["type"]) or str(error["msg"])


def idempotency_key() -> str | None:
    """The Idempotency-Key, if any. Raises RequestError INVALID_REQUEST if blank or too long."""
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and len(key) > MAX_KEY_LENGTH:
        # WSGI decodes header bytes as Latin-1. Decode UTF-8 to count characters, not bytes.
        with suppress(UnicodeDecodeError):
            key = key.encode("latin-1").decode("utf-8")
    if key is not None and not 1 <= len(key.strip()) <= len(key) <= MAX_KEY_LENGTH:
        raise invalid_request({"Idempotency-Key": f"must have 1 to {MAX_KEY_LENGTH} characters"})
    return key


def respond(reply: Reply) -> Response:
    """The response for the reply of a ledger call, byte for byte."""
    metrics.record_outcome(reply.code or ("REPLAYED" if reply.replayed else "OK"))
    response = Response(f"{reply.text}\n", content_type="application/json")
    if reply.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def json_response(data: object, status: int = 200) -> Response:
    """A response with this data as JSON."""
    return Response(f"{dumps(data)}\n", status=status, mimetype="application/json")


def error_response(error: RequestError, status: int | None = None) -> Response:
    """An error as JSON: `success`, `error`, `code`, the bad `fields`, and the error's facts."""
    metrics.record_outcome(error.code)
    data: dict[str, object] = {"success": False, "error": error.sentence, "code": error.code}
    if error.fields:
        data["fields"] = error.fields
    response = json_response(data | error.facts, status or STATUSES[error.code])
    if "retryAfter" in error.facts:
        response.headers["Retry-After"] = str(error.facts["retryAfter"])
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="budget-sync"'
    if response.status_code >= 500:
        current_app.logger.error(
            "Replied with status %s: %s (%s)",
            response.status_code,
            error.sentence,
            error.__cause__ or error.code,
        )
    return response
