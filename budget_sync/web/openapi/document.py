"""The OpenAPI document, made of the operations and of the models that check the bodies."""

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
from budget_sync.web.openapi.operations import OPERATIONS, Operation, Parameter
from budget_sync.web.payloads import STATUSES

Json = dict[str, Any]

_ABOUT = """\
Says, before money is spent, whether a department's budget can carry it, sets the money aside, and gives it back.

JSON in, JSON out. Amounts are JSON numbers in whole currency units and exact: read them as decimals, not as binary floats.
Times are UTC. Later versions may add fields to replies: ignore those that you do not know.

**Retries are safe.** After a lost reply, a time-out or a 503, send the same request again: what was done is not done twice, and the
first reply comes again, marked `Idempotent-Replayed: true`.

**Refusals** all look alike (`ErrorReply`). `code` is stable and for programs, `error` is a sentence for people.

Every reply has an `X-Request-Id`, under which our log has the call; send your own to find it there."""

_TAGS = {
    "Budgets": "What an orchestrator calls: check, reserve, commit, release, and where things stand.",
    "People": "Sessions of people.",
    "Operation": "What schedulers, balancers and monitoring call.",
}

_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A service's API key, made with `flask add-key`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "budget_sync_session",
        "description": "A person's session, from `POST /api/auth/login`.",
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
    "The caller's own name for the call, for our log: letters, digits, `.`, `_`, `-`, 64 at most.",
)

_HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The call's name in our log: the caller's own, or a new one.",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "`true` where this is the reply to an earlier request, given again; left out otherwise.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {
        "description": "Seconds to wait before trying again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    "Set-Cookie": {"description": "The session.", "schema": {"type": "string"}},
}

#: What is no JSON.
_TEXTS: dict[str, tuple[str, Json]] = {
    "scrape": ("text/plain", {"type": "string"}),
    "describe": ("application/json", {"type": "object"}),
}


@lru_cache(maxsize=1)
def document() -> Json:
    """The document as Python values; the same every time."""
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
    """The status that a code comes with: of a refusal, or else of a check's answer."""
    return STATUSES.get(code, 200)


def _operation(operation: Operation) -> Json:
    made: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
    }
    made["parameters"] = [
        *map(_parameter, operation.parameters),
        {"$ref": f"#/components/parameters/{_REQUEST_ID.name}"},
    ]
    if operation.body:
        shown = {
            name: {"summary": example.summary, "value": example.request}
            for name, example in operation.examples.items()
        }
        made["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": _reference(operation.body), "examples": shown}
            },
        }
    made["responses"] = {"200": _success(operation)} | {
        str(status): _refusals(status, codes)
        for status, codes in sorted(_by_status(operation.codes).items())
        if status != 200
    }
    made["security"] = [{scheme: []} if scheme else {} for scheme in operation.lets_in]
    return made


def _parameter(parameter: Parameter) -> Json:
    made: Json = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "schema": dict(parameter.schema),
    }
    return made | ({"description": parameter.description} if parameter.description else {})


def _success(operation: Operation) -> Json:
    headers = [
        "X-Request-Id",
        *(["Idempotent-Replayed"] if operation.is_replayed else []),
        *(["Set-Cookie"] if operation.id == "login" else []),
    ]
    if operation.reply is None:
        kind, schema = _TEXTS[operation.id]
        return {
            "description": operation.summary,
            "headers": _header_references(headers),
            "content": {kind: {"schema": schema}},
        }
    models = get_args(operation.reply) or (operation.reply,)
    references = [_reference(model) for model in models]
    content: Json = {"schema": references[0] if len(references) == 1 else {"oneOf": references}}
    shown = {
        name: {"summary": example.summary, "value": example.reply}
        for name, example in operation.examples.items()
    }
    return {
        "description": " ".join(model.__doc__ or "" for model in models),
        "headers": _header_references(headers),
        "content": {"application/json": content | ({"examples": shown} if shown else {})},
    }


def _by_status(codes: tuple[Code, ...]) -> Mapping[int, list[Code]]:
    found: dict[int, list[Code]] = defaultdict(list)
    # In the order of the list of codes.
    for code in MEANINGS:
        if code in codes:
            found[status_of(code)].append(code)
    return found


def _refusals(status: int, codes: list[Code]) -> Json:
    headers = ["X-Request-Id"]
    if status in {429, 503}:
        headers.append("Retry-After")
    if status == 401:
        headers.append("WWW-Authenticate")
    shown = {
        code.value: {"summary": MEANINGS[code], "value": examples.refusal(code)} for code in codes
    }
    return {
        "description": "\n".join(f"- `{code}`: {MEANINGS[code]}" for code in codes),
        "headers": _header_references(headers),
        "content": {
            "application/json": {"schema": _reference(schemas.ErrorReply), "examples": shown}
        },
    }


def _header_references(names: list[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


class _Generator(GenerateJsonSchema):
    """Without the titles that are only a field's name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
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
    _, made = models_json_schema(
        [(model, "validation") for model in ordered],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    generated: Json = {name: _tidy(schema) for name, schema in sorted(made["$defs"].items())}
    # "`CODE` (status): meaning", for all there are.
    listed = [f"- `{code}` ({status_of(code)}): {meaning}" for code, meaning in MEANINGS.items()]
    generated["Code"]["description"] = "\n".join(
        ["Every code that a caller can meet, with its status:", "", *listed]
    )
    return generated


def _tidy(schema: Json) -> Json:
    """Without what speaks to us alone: titles, the None of fields that are left out, and that no other field may be there."""
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
