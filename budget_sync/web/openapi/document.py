"""The OpenAPI document, generated from the operations and the models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

import budget_sync
from budget_sync.domain.errors import MEANINGS, Code
from budget_sync.web.openapi import examples, schemas
from budget_sync.web.openapi.operation import Operation, Parameter
from budget_sync.web.openapi.operations import OPERATIONS
from budget_sync.web.payloads import STATUSES

Json = dict[str, Any]

_ABOUT = """\
Checks whether a department's budget covers an amount before the money is spent. Reserves, commits
and releases the amount, and records later changes and spend without a reservation.

Requests and replies are JSON. Amounts are exact JSON numbers in whole currency units: parse them as
decimals, not as binary floats. Times are UTC. Later versions may add fields to replies: ignore
unknown fields.

**Retries are safe.** After a lost reply, a timeout or a 503, send the same request again. Nothing
is done twice, and you get the first reply with the header `Idempotent-Replayed: true`.

**Errors** all have the same form (`ErrorReply`). `code` is stable and for programs, `error` is a
sentence for people.

Every reply has an `X-Request-Id`, which is also in the service's log. Send your own to find a call
in the log."""

_TAGS = {
    "Budgets": "Calls for the orchestrator: check a budget, move money, and read the state.",
    "Events": "What happened to a customer: for the orchestrator, to follow what people do.",
    "People": "Sessions of people.",
    "Operation": "Calls for schedulers, load balancers and monitoring.",
}

_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of a service, created with `flask add-key`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "budget_sync_session",
        "description": "The session cookie of a person, set by `POST /api/auth/login`.",
    },
    "cronSecret": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `CRON_SECRET` of the installation.",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `METRICS_TOKEN` of the installation.",
    },
}

_REQUEST_ID = Parameter(
    "X-Request-Id",
    "header",
    "The caller's id for the call in the log: at most 64 letters, digits, `.`, `_` and `-`.",
)

_HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The id of the call in the log: the caller's, or a new one.",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "`true` if this is the stored reply of an earlier request, else omitted.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {
        "description": "Seconds to wait before trying again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    "Set-Cookie": {"description": "The session cookie.", "schema": {"type": "string"}},
}

#: Content type and schema of the replies that have no model.
_OTHER_CONTENT: dict[str, tuple[str, Json]] = {
    "scrape": ("text/plain", {"type": "string"}),
    "describe": ("application/json", {"type": "object"}),
}


@lru_cache(maxsize=1)
def document() -> Json:
    """The document as Python values. Cached, so do not change it."""
    paths: dict[str, Json] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Budget Sync",
            "version": budget_sync.__version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas(),
            "parameters": {_REQUEST_ID.name: _parameter(_REQUEST_ID)},
            "headers": _HEADERS,
            "securitySchemes": _SCHEMES,
        },
    }


def status_of(code: Code) -> int:
    """The HTTP status of an error code, or 200 for the decision of a check."""
    return STATUSES.get(code, 200)


def _operation(operation: Operation) -> Json:
    result: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [
            *map(_parameter, operation.parameters),
            {"$ref": f"#/components/parameters/{_REQUEST_ID.name}"},
        ],
    }
    if operation.body:
        requests = {
            name: {"summary": example.summary, "value": example.request}
            for name, example in operation.examples.items()
        }
        result["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": _reference(operation.body), "examples": requests}
            },
        }
    result["responses"] = {"200": _success(operation)} | {
        str(status): _error_response(status, codes, operation.id)
        for status, codes in sorted(_by_status(operation.codes).items())
        if status != 200
    }
    result["security"] = [{scheme: []} if scheme else {} for scheme in operation.allowed_callers]
    return result


def _parameter(parameter: Parameter) -> Json:
    result: Json = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "schema": dict(parameter.schema),
    }
    return result | ({"description": parameter.description} if parameter.description else {})


def _success(operation: Operation) -> Json:
    headers = [
        "X-Request-Id",
        *(["Idempotent-Replayed"] if operation.is_replayed else []),
        *(["Set-Cookie"] if operation.id == "login" else []),
    ]
    if operation.reply is None:
        content_type, schema = _OTHER_CONTENT[operation.id]
        return {
            "description": operation.summary,
            "headers": _header_references(headers),
            "content": {content_type: {"schema": schema}},
        }
    models = get_args(operation.reply) or (operation.reply,)
    references = [_reference(model) for model in models]
    content: Json = {"schema": references[0] if len(references) == 1 else {"oneOf": references}}
    replies = {
        name: {"summary": example.summary, "value": example.reply}
        for name, example in operation.examples.items()
    }
    return {
        "description": " ".join(model.__doc__ or "" for model in models),
        "headers": _header_references(headers),
        "content": {"application/json": content | ({"examples": replies} if replies else {})},
    }


def _by_status(codes: tuple[Code, ...]) -> Mapping[int, list[Code]]:
    by_status: dict[int, list[Code]] = defaultdict(list)
    # In the order of MEANINGS.
    for code in MEANINGS:
        if code in codes:
            by_status[status_of(code)].append(code)
    return by_status


def _error_response(status: int, codes: list[Code], call: str) -> Json:
    headers = ["X-Request-Id"]
    if status in {429, 503}:
        headers.append("Retry-After")
    if status == 401:
        headers.append("WWW-Authenticate")
    replies = {
        code.value: {"summary": MEANINGS[code], "value": examples.error_reply(code, call)}
        for code in codes
    }
    return {
        "description": "\n".join(f"- `{code}`: {MEANINGS[code]}" for code in codes),
        "headers": _header_references(headers),
        "content": {
            "application/json": {"schema": _reference(schemas.ErrorReply), "examples": replies}
        },
    }


def _header_references(names: list[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


class _Generator(GenerateJsonSchema):
    """Omits field titles, which would only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Always False."""
        return False


def _schemas() -> Json:
    models = {operation.body for operation in OPERATIONS if operation.body} | {schemas.ErrorReply}
    models |= {
        model
        for operation in OPERATIONS
        if operation.reply
        for model in get_args(operation.reply) or (operation.reply,)
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    generated: Json = {name: _tidy(schema) for name, schema in sorted(definitions["$defs"].items())}
    listed = [f"- `{code}` ({status_of(code)}): {meaning}" for code, meaning in MEANINGS.items()]
    generated["Code"]["description"] = "\n".join(["Every code, with its HTTP status:", "", *listed])
    return generated


def _tidy(schema: Json) -> Json:
    """The schema without titles, `default: null` and `additionalProperties: false`.

    Those describe the models, not the API: replies omit such fields, and may get new fields.
    """
    kept = {
        name: value
        for name, value in schema.items()
        if name != "title" and (name, value) != ("additionalProperties", False)
    }
    if "properties" in kept:
        kept["properties"] = {
            name: _without_none(field) for name, field in kept["properties"].items()
        }
    return kept


def _without_none(field: Json) -> Json:
    return {name: value for name, value in field.items() if (name, value) != ("default", None)}
