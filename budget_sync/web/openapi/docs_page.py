"""The OpenAPI document as people read it: each call with its fields, examples and refusals, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from budget_sync.domain.errors import MEANINGS
from budget_sync.web.openapi.document import Json, document, status_of

_KINDS = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "null": "null",
    "object": "object",
}

_CREDENTIALS = {
    "apiKey": "an API key",
    "session": "a session",
    "cronSecret": "the cron's secret",
    "metricsToken": "the token for metrics",
}


class Field(NamedTuple):
    """A value in a body or parameter: its name, dotted where it stands inside another, what it may be, and what it is for."""

    name: str
    kind: str
    is_required: bool
    description: Markup


class Example(NamedTuple):
    """What is sent, if there is a body, and what is answered, as JSON laid out to be read."""

    title: str
    sent: str | None
    answered: str


class Refused(NamedTuple):
    """A status, a code, and what it means."""

    status: int
    code: str
    meaning: Markup


class Reply(NamedTuple):
    """What an answer is, and its fields."""

    description: str
    fields: list[Field]


class Call(NamedTuple):
    """One call."""

    id: str
    method: str
    path: str
    summary: str
    description: Markup
    lets_in: str
    parameters: list[tuple[str, Field]]
    body: list[Field]
    replies: list[Reply]
    examples: list[Example]
    refusals: list[Refused]
    headers: list[tuple[str, Markup]]


class Group(NamedTuple):
    """Calls that belong together."""

    name: str
    description: str
    calls: list[Call]


def about() -> list[Markup]:
    """The paragraphs before the calls."""
    return [marked(paragraph) for paragraph in document()["info"]["description"].split("\n\n")]


def groups() -> list[Group]:
    """All calls, in the document's order."""
    calls = [
        (operation["tags"][0], _call(method, path, operation))
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    ]
    return [
        Group(
            tag["name"], tag["description"], [call for name, call in calls if name == tag["name"]]
        )
        for tag in document()["tags"]
    ]


def codes() -> list[Refused]:
    """Every code with its status and meaning."""
    return [
        Refused(status_of(code), code.value, marked(meaning)) for code, meaning in MEANINGS.items()
    ]


def schemes() -> list[tuple[str, Markup]]:
    """The credentials, with where they come from."""
    return [
        (_CREDENTIALS[name], marked(scheme["description"]))
        for name, scheme in document()["components"]["securitySchemes"].items()
    ]


def marked(text: str) -> Markup:
    """Text with `code` and **strong** words as HTML, all else escaped."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html))  # noqa: S704  # escaped above


def _call(method: str, path: str, operation: Json) -> Call:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    success = operation["responses"]["200"]
    media: Json = next(iter(success["content"].values()))
    return Call(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=marked(operation["description"]),
        lets_in=_lets_in(operation["security"]),
        # X-Request-Id, which every call takes, is told of before all calls.
        parameters=[
            _parameter(parameter)
            for parameter in operation["parameters"]
            if "$ref" not in parameter
        ],
        body=list(_fields(body["schema"])) if body else [],
        replies=[
            Reply(_found(schema).get("description", ""), list(_fields(schema)))
            for schema in media["schema"].get("oneOf", [media["schema"]])
        ],
        examples=list(_examples(body or {}, media)),
        refusals=list(_refusals(operation["responses"])),
        headers=[
            (name, marked(_found(header)["description"]))
            for name, header in success["headers"].items()
            if name != "X-Request-Id"
        ],
    )


def _lets_in(security: list[Json]) -> str:
    words = " or ".join(_CREDENTIALS[scheme] for option in security for scheme in option)
    if {} not in security:
        return f"Needs {words}."
    return f"Takes {words}, or none." if words else "Needs no credentials."


def _parameter(parameter: Json) -> tuple[str, Field]:
    return parameter["in"], Field(
        parameter["name"],
        _kind(parameter["schema"]),
        parameter["required"],
        marked(parameter.get("description", "")),
    )


def _examples(body: Json, media: Json) -> Iterator[Example]:
    sent = body.get("examples", {})
    for name, example in media.get("examples", {}).items():
        yield Example(
            example["summary"],
            _laid_out(sent[name]["value"]) if name in sent else None,
            _laid_out(example["value"]),
        )


def _laid_out(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _refusals(responses: Json) -> Iterator[Refused]:
    for status, response in responses.items():
        media = response["content"].get("application/json", {})
        for example in media.get("examples", {}).values() if status != "200" else ():
            yield Refused(int(status), example["value"]["code"], marked(example["summary"]))


def _found(schema: Json) -> Json:
    """What a reference refers to, or else the schema itself."""
    if "$ref" not in schema:
        return schema
    found: Any = document()
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    made: Json = found
    return made


def _fields(schema: Json, prefix: str = "") -> Iterator[Field]:
    """The fields of an object, and behind each that is one, or a list of some, its own."""
    schema = _found(schema)
    for name, field in schema.get("properties", {}).items():
        inner = _inner(field)
        description = field.get("description") or (
            "" if inner is not None else _found(field).get("description", "")
        )
        # The list of codes stands at the end of the page.
        yield Field(
            f"{prefix}{name}",
            _kind(field),
            name in schema.get("required", []),
            marked(description.partition(":\n")[0]),
        )
        if inner is not None:
            yield from _fields(inner, f"{prefix}{name}{'[]' if _is_list(field) else ''}.")


def _is_list(field: Json) -> bool:
    return field.get("type") == "array"


def _inner(field: Json) -> Json | None:
    """The object that a field is, may be, or lists."""
    options = [field["items"]] if _is_list(field) else field.get("anyOf", [field])
    return next((found for found in map(_found, options) if "properties" in found), None)


def _kind(schema: Json) -> str:
    """What a value may be, in words."""
    schema = _found(schema)
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "const" in schema:
        return (
            json.dumps(schema["const"]) if not isinstance(schema["const"], str) else schema["const"]
        )
    if "enum" in schema:
        return (
            "a code"
            if len(schema["enum"]) > 10
            else "one of " + ", ".join(map(str, schema["enum"]))
        )
    if schema.get("type") == "array":
        return "list"
    if schema.get("format") == "date-time":
        return "time"
    return _KINDS[schema["type"]] + _limits(schema)


def _limits(schema: Json) -> str:
    if "maxLength" in schema:
        least, most = schema.get("minLength", 0), schema["maxLength"]
        return f", {most} characters" if least == most else f", {least} to {most} characters"
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']}"
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']} to {schema['maximum']}"
    return ""
