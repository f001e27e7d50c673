"""The answers that the worker writes itself, outside the application."""

from functools import lru_cache
from http import HTTPStatus

from gunicorn.http import errors as http_errors
from gunicorn.http import wsgi
from gunicorn.util import http_date

from lucid_gateway.kernel.envelope import error_body
from lucid_gateway.policy.errors import GatewayError

STATUSES: dict[type[BaseException], int] = {
    http_errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    http_errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http_errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http_errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http_errors.InvalidHTTPVersion: HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
}


class NamelessResponse(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's answer without its `Server` field, which tells attackers what to try."""

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]


wsgi.Response = NamelessResponse


@lru_cache(maxsize=1)
def date_of(second: int) -> str:
    """Return the value of the Date field, which is computed once a second."""
    return str(http_date(second))


def closing_answer(status: int, error: GatewayError, request_id: str) -> bytes:
    """Return a complete answer with the error's envelope, which closes the connection."""
    body = error_body(error, request_id)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
