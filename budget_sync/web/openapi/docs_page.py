"""The OpenAPI document as data for the HTML page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from budget_sync.domain.errors import MEANINGS
from budget_sync.web.openapi.document import Json, document, status_of

_KINDS = {
    "string": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "null": "null",
    "object": "object",
}

_CREDENTIALS = {
    "apiKey": "an API key",
    "session": "a session",
    "cronSecret": "the cron secret",
    "metricsToken": "the metrics token",
}


_ERROR = {"$ref": "#/components/schemas/ErrorReply"}


class Field(NamedTuple):
    """A field of a body, or a parameter. Names of nested fields have dots. `kind` is the type."""

    name: str
    kind: str
    is_required: bool
    description: Markup


class Example(NamedTuple):
    """The bodies of a request, if any, and its reply, as indented JSON."""

    title: str
    sent: str | None
    reply: str


class CodeMeaning(NamedTuple):
    """A code with its HTTP status and meaning."""

    status: int
    code: str
    meaning: Markup


class Reply(NamedTuple):
    """A successful reply and its fields."""

    description: str
    fields: list[Field]


class Call(NamedTuple):
    """A call of the API."""

    id: str
    method: str
    path: str
    summary: str
    description: Markup
    allowed_callers: str
    parameters: list[tuple[str, Field]]
    body: list[Field]
    replies: list[Reply]
    examples: list[Example]
    errors: list[CodeMeaning]
    headers: list[tuple[str, Markup]]


class Group(NamedTuple):
    """The calls with the same tag."""

    name: str
    description: str
    calls: list[Call]


def about() -> list[Markup]:
    """The paragraphs of the introduction."""
    return [to_html(paragraph) for paragraph in document()["info"]["description"].split("\n\n")]


def groups() -> list[Group]:
    """All calls, in the order of the document."""
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


def codes() -> list[CodeMeaning]:
    """All codes."""
    return [
        CodeMeaning(status_of(code), code.value, to_html(meaning))
        for code, meaning in MEANINGS.items()
    ]


def about_errors() -> Markup:
    """What the fields of an error have in common."""
    return to_html(_resolved(_ERROR)["description"].rpartition("\n\n")[2])


def error_fields() -> list[Field]:
    """The fields of an error."""
    return list(_fields(_ERROR))


def schemes() -> list[tuple[str, Markup]]:
    """The credentials and their descriptions."""
    return [
        (_CREDENTIALS[name], to_html(scheme["description"]))
        for name, scheme in document()["components"]["securitySchemes"].items()
    ]


def to_html(text: str) -> Markup:
    """The text as HTML, with `code` and **strong** marks. Everything else is escaped."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    return Markup(html)  # noqa: S704  # escaped above


def _call(method: str, path: str, operation: Json) -> Call:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    success = operation["responses"]["200"]
    media: Json = next(iter(success["content"].values()))
    return Call(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=to_html(operation["description"]),
        allowed_callers=_credentials_text(operation["security"]),
        # The introduction describes X-Request-Id, which every call accepts.
        parameters=[
            _parameter(parameter)
            for parameter in operation["parameters"]
            if "$ref" not in parameter
        ],
        body=list(_fields(body["schema"])) if body else [],
        replies=[
            Reply(_resolved(schema).get("description", ""), list(_fields(schema)))
            for schema in media["schema"].get("oneOf", [media["schema"]])
        ],
        examples=list(_examples(body or {}, media)),
        errors=list(_errors(operation["responses"])),
        headers=[
            (name, to_html(_resolved(header)["description"]))
            for name, header in success["headers"].items()
            if name != "X-Request-Id"
        ],
    )


def _credentials_text(security: list[Json]) -> str:
    names = " or ".join(_CREDENTIALS[scheme] for option in security for scheme in option)
    if {} not in security:
        return f"Requires {names}."
    return f"Accepts {names}, or no credentials." if names else "Requires no credentials."


def _parameter(parameter: Json) -> tuple[str, Field]:
    return parameter["in"], Field(
        parameter["name"],
        _kind(parameter["schema"]),
        parameter["required"],
        to_html(parameter.get("description", "")),
    )


def _examples(body: Json, media: Json) -> Iterator[Example]:
    requests = body.get("examples", {})
    for name, example in media.get("examples", {}).items():
        yield Example(
            example["summary"],
            _indented(requests[name]["value"]) if name in requests else None,
            _indented(example["value"]),
        )


def _indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _errors(responses: Json) -> Iterator[CodeMeaning]:
    for status, response in responses.items():
        media = response["content"].get("application/json", {})
        for example in media.get("examples", {}).values() if status != "200" else ():
            yield CodeMeaning(int(status), example["value"]["code"], to_html(example["summary"]))


def _resolved(schema: Json) -> Json:
    """The target of a reference, or the schema itself if it is not a reference."""
    if "$ref" not in schema:
        return schema
    node: Any = document()
    for step in schema["$ref"].removeprefix("#/").split("/"):
        node = node[step]
    target: Json = node
    return target


def _fields(schema: Json, prefix: str = "") -> Iterator[Field]:
    """The fields of an object. Each object or list of objects is followed by its own fields."""
    schema = _resolved(schema)
    for name, field in schema.get("properties", {}).items():
        inner = _inner(field)
        description = field.get("description") or (
            "" if inner is not None else _resolved(field).get("description", "")
        )
        # Omit the list of codes, which is at the end of the page.
        yield Field(
            f"{prefix}{name}",
            _kind(field),
            name in schema.get("required", []),
            to_html(description.partition(":\n")[0]),
        )
        if inner is not None:
            yield from _fields(inner, f"{prefix}{name}{'[]' if _is_list(field) else ''}.")


def _is_list(field: Json) -> bool:
    return field.get("type") == "array"


def _inner(field: Json) -> Json | None:
    """The schema of the object in a field: its value, an option of it, or an item of its list."""
    options = [field["items"]] if _is_list(field) else field.get("anyOf", [field])
    return next((each for each in map(_resolved, options) if "properties" in each), None)


def _kind(schema: Json) -> str:
    """The type of a value, in words."""
    schema = _resolved(schema)
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
        return "array"
    if schema.get("format") == "date-time":
        return "timestamp"
    return _KINDS[schema["type"]] + _limits(schema)


def _limits(schema: Json) -> str:
    if "maxLength" in schema:
        least, most = schema.get("minLength", 0), schema["maxLength"]
        return f", {most} characters" if least == most else f", {least} to {most} characters"
    if "exclusiveMinimum" in schema:
        return f" greater than {schema['exclusiveMinimum']}"
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']} to {schema['maximum']}"
    return ""
