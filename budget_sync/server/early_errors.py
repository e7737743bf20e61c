"""Error responses for requests that fail before they reach Flask."""

from __future__ import annotations

from http import HTTPStatus

from gunicorn.http import errors

from budget_sync.domain.errors import Code
from budget_sync.domain.results import dumps
from budget_sync.runtime.correlation import current_id

#: The parser's exceptions, with the status and the sentence for each. The sentence never quotes the
#: request, which may have a secret in the wrong place.
MALFORMED: dict[type[Exception], tuple[HTTPStatus, str]] = {
    errors.InvalidRequestLine: (HTTPStatus.BAD_REQUEST, "invalid request line"),
    errors.InvalidRequestMethod: (HTTPStatus.BAD_REQUEST, "invalid method"),
    errors.InvalidHTTPVersion: (HTTPStatus.BAD_REQUEST, "unknown version of HTTP"),
    errors.InvalidChunkSize: (HTTPStatus.BAD_REQUEST, "invalid chunk"),
    errors.InvalidChunkExtension: (HTTPStatus.BAD_REQUEST, "invalid chunk"),
    errors.ChunkMissingTerminator: (HTTPStatus.BAD_REQUEST, "invalid chunk"),
    errors.InvalidHeader: (HTTPStatus.BAD_REQUEST, "invalid header"),
    errors.InvalidHeaderName: (HTTPStatus.BAD_REQUEST, "invalid name of a header"),
    errors.ObsoleteFolding: (HTTPStatus.BAD_REQUEST, "header over more than one line"),
    errors.UnsupportedTransferCoding: (HTTPStatus.NOT_IMPLEMENTED, "unknown transfer coding"),
    errors.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "unknown expectation"),
    errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "request line too long"),
    errors.LimitRequestHeaders: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers too long or too many",
    ),
}


def malformed(kind: str) -> str:
    """The sentence for a request that could not be parsed."""
    return f"The request is malformed: {kind}."


def json_error(status: HTTPStatus, sentence: str) -> bytes:
    """A whole HTTP response with a JSON error, after which the connection is closed."""
    error = {"success": False, "error": f"{status.phrase}. {sentence}", "code": Code.HTTP_ERROR}
    body = dumps(error).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        f"X-Request-Id: {current_id.get()}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode("latin-1") + body
