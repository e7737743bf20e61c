"""From a request's bytes to a model, with everything wrong named at once; and from a reply or refusal to JSON."""

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

# Integers longer than this are kept as Decimal: all too large for any field, and int() refuses thousands of digits.
_MAX_INT_DIGITS = 30

#: The one table of refusal -> status.
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
    Code.BODY_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.IDEMPOTENCY_KEY_REUSED: 422,
    Code.TOO_MANY_ATTEMPTS: 429,
    Code.INTERNAL_ERROR: 500,
    Code.UNAVAILABLE: 503,
    Code.OUTCOME_UNKNOWN: 503,
    # The integration guide answers this one with 200 and `success: false`.
    Code.AMOUNT_EXCEEDS_RESERVED: 200,
}

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model]) -> Model:
    """The request's JSON body as that model. Raises RequestError UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE or INVALID_REQUEST."""
    # Once: whatever is asked of Flask's `request` looks it up anew.
    environ = request.environ
    if environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        raise RequestError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send the body as JSON, with Content-Type: application/json.",
        )
    body = _read_body(environ)
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(Code.BODY_TOO_LARGE, "The body is larger than 64 KiB.")
    values, twice = _read_json(body)
    if not isinstance(values, dict):
        raise invalid_request({"body": "must be a JSON object"})
    fields = dict.fromkeys(twice, "is given more than once")
    try:
        # By the documented names alone: where Python's were taken as well, a body could say two things of one field.
        parsed = model.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _refusal(error, fields) from None
    if fields:
        raise invalid_request(fields)
    return parsed


def _read_json(body: bytes) -> tuple[Any, list[str]]:
    """The JSON value, numbers exact, and the names that an object had twice."""
    ambiguous: list[_Object] = []

    def make(pairs: list[tuple[str, Any]]) -> _Object:
        made = _Object(pairs)
        if len(made) < len(pairs):
            made.twice = [
                name for name, count in Counter(name for name, _ in pairs).items() if count > 1
            ]
            ambiguous.append(made)
        return made

    try:
        # NaN and Infinity are no JSON, yet Python's parser knows them; as Decimal they reach the field's own check and are named.
        value = json.loads(
            body.decode(),
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=Decimal,
            object_pairs_hook=make,
        )
    except RecursionError:
        raise invalid_request({"body": "is nested too deeply"}) from None
    except ValueError:
        raise invalid_request({"body": "must be valid JSON in UTF-8"}) from None
    return value, list(_given_twice(value)) if ambiguous else []


def _read_body(environ: WSGIEnvironment) -> bytes:
    """The body's bytes. Raises RequestError BODY_TOO_LARGE, or INVALID_REQUEST where it did not arrive as it was announced: a broken chunk, or too little."""
    announced = get_content_length(environ)
    if announced is not None and announced > MAX_BODY_BYTES:
        raise RequestError(Code.BODY_TOO_LARGE, "The body is larger than 64 KiB.")
    try:
        # Of a length that is known, it can be read as it is, which costs a fraction of what Flask's own way does.
        body: bytes = (
            request.get_data(cache=False)
            if announced is None
            else environ["wsgi.input"].read(announced)
        )
    except (BrokenBodyError, OSError):
        raise invalid_request({"body": "did not arrive as it was announced"}) from None
    if len(body) < (announced or 0):
        raise invalid_request({"body": "did not arrive as it was announced"})
    return body


class _Object(dict[str, Any]):
    """A JSON object that remembers the names it was given more than once."""

    twice: Sequence[str] = ()


def _given_twice(value: object, path: str = "") -> Iterator[str]:
    """The paths of names given more than once, such as overBudget.reason."""
    if isinstance(value, _Object):
        yield from (path + _readable(name) for name in value.twice)
        for name, inner in value.items():
            yield from _given_twice(inner, f"{path}{_readable(name)}.")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _given_twice(inner, f"{path}{number}.")


def _readable(name: str) -> str:
    """A name as it was sent, in characters that a reply can carry, and no longer than a reply should be."""
    return name[:100].encode("utf-8", "backslashreplace").decode()


def _decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:
        # An exponent beyond what Decimal counts: either way no amount.
        return Decimal("NaN")


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else Decimal(digits)


def _refusal(error: ValidationError, fields: dict[str, str]) -> RequestError:
    problems = error.errors(include_url=False, include_context=True, include_input=False)
    missing = [problem for problem in problems if problem["type"] == "missing"]
    for problem in problems:
        fields.setdefault(".".join(map(str, problem["loc"])), _say(problem))
    refusal = invalid_request(fields)
    if len(missing) == len(fields):
        names = ", ".join(fields)
        return RequestError(
            Code.INVALID_REQUEST, f"Missing required fields: {names}", fields=fields
        )
    return refusal


def _say(problem: Any) -> str:
    """What is wrong, as the rest of a sentence that begins with the field's name."""
    limits = problem.get("ctx", {})
    sayings = {
        "missing": "is required",
        "string_type": "must be text",
        "bool_type": "must be true or false",
        "model_type": "must be a JSON object",
        "string_too_long": f"must have at most {limits.get('max_length')} characters",
        "string_too_short": f"must have at least {limits.get('min_length')} characters",
    }
    return sayings.get(problem["type"]) or str(problem["msg"])


def idempotency_key() -> str | None:
    """The request's Idempotency-Key. Raises RequestError INVALID_REQUEST for a blank or over-long one."""
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and len(key) > MAX_KEY_LENGTH:
        # A server gives a header's bytes as Latin-1. Of UTF-8 they are more than the characters, which are what is counted.
        with suppress(UnicodeDecodeError):
            key = key.encode("latin-1").decode("utf-8")
    if key is not None and not 1 <= len(key.strip()) <= len(key) <= MAX_KEY_LENGTH:
        raise invalid_request({"Idempotency-Key": f"must have 1 to {MAX_KEY_LENGTH} characters"})
    return key


def answer(reply: Reply) -> Response:
    """A verb's reply, byte for byte."""
    metrics.note_outcome(reply.code or ("REPLAYED" if reply.replayed else "OK"))
    response = Response(f"{reply.text}\n", content_type="application/json")
    if reply.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def json_response(data: object, status: int = 200) -> Response:
    """Any other JSON."""
    return Response(f"{dumps(data)}\n", status=status, mimetype="application/json")


def refuse(refusal: RequestError, status: int | None = None) -> Response:
    """A refusal as JSON: `success`, `error`, `code`, bad `fields`, and the facts it names."""
    metrics.note_outcome(refusal.code)
    data: dict[str, object] = {"success": False, "error": refusal.sentence, "code": refusal.code}
    if refusal.fields:
        data["fields"] = refusal.fields
    response = json_response(data | refusal.facts, status or STATUSES[refusal.code])
    if "retryAfter" in refusal.facts:
        response.headers["Retry-After"] = str(refusal.facts["retryAfter"])
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="budget-sync"'
    if response.status_code >= 500:
        current_app.logger.error(
            "Refused with %s: %s (%s)",
            response.status_code,
            refusal.sentence,
            refusal.__cause__ or refusal.code,
        )
    return response
