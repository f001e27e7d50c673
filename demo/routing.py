"""The small HTTP layer that the demo clusters share: request, answer, route table."""

import errno
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

MAX_JSON_BYTES = 1024 * 1024
READ_SIZE = 64 * 1024


class Problem(Exception):
    """An error answer: HTTP status, error code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HangUp(ConnectionResetError):
    """Closes the connection without an answer: the WSGI server treats it as a disconnected client."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ECONNRESET, why)


class NotFound(Problem):
    def __init__(self, what: str) -> None:
        super().__init__(404, "LUCID_ERR_4001", f"{what} not found")


class Invalid(Problem):
    def __init__(self, message: str) -> None:
        super().__init__(422, "LUCID_ERR_1001", message)


@dataclass(frozen=True)
class Page:
    """One page of a list; pages count from 1."""

    page: int
    limit: int

    def cut(self, items: Sequence[Any]) -> Sequence[Any]:
        return items[(self.page - 1) * self.limit : self.page * self.limit]

    def summary(self, total: int) -> dict[str, int]:
        """The `pagination` object of a list of `total` items."""
        return {"page": self.page, "limit": self.limit, "total": total, "pages": -(-total // self.limit)}


@dataclass(frozen=True)
class Request:
    environ: WSGIEnvironment

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        return str(self.environ["PATH_INFO"])

    @cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.environ.get("QUERY_STRING", ""))

    def header(self, name: str) -> str | None:
        """The value of a header, None if the client did not send it."""
        return self.environ.get("HTTP_" + name.upper().replace("-", "_"))

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """A number from the query string; raises `Invalid` outside low..high."""
        text = self.query.get(name, [str(default)])[-1]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise Invalid(f"{name} must be a number from {low:g} to {high:g}")
        return value

    def page(self) -> Page:
        """The page that `page` and `limit` request: by default the first 20 items."""
        return Page(
            page=int(self.number("page", default=1, low=1, high=10**9)),
            limit=int(self.number("limit", default=20, low=1, high=100)),
        )

    def pieces(self) -> Iterator[bytes]:
        """The body, piece by piece. A body that ends early closes the connection without an answer."""
        try:
            while piece := self.environ["wsgi.input"].read(READ_SIZE):
                yield piece
        except OSError as error:
            raise HangUp("the request body ended early") from error

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises `Problem` if it is anything else or larger than 1 MiB."""
        body = b""
        for piece in self.pieces():
            body += piece
            if len(body) > MAX_JSON_BYTES:
                raise Problem(413, "LUCID_ERR_1010", "the body is larger than 1 MiB")
        try:
            value = json.loads(body)
        except ValueError:
            raise Problem(400, "LUCID_ERR_1009", "the body is not JSON") from None
        if not isinstance(value, dict):
            raise Invalid("the body must be a JSON object")
        return value


@dataclass(frozen=True)
class Answer:
    """Status, headers and body; a body that is not bytes is streamed."""

    status: int
    body: bytes | Iterable[bytes] = b""
    headers: tuple[tuple[str, str], ...] = ()

    def send(self, request: Request, start_response: StartResponse) -> Iterable[bytes]:
        """Start the response and return its body, as WSGI requires."""
        headers = list(self.headers)
        if isinstance(self.body, bytes) and self.status not in (204, 304):
            headers.append(("Content-Length", str(len(self.body))))
        start_response(f"{self.status} {_reason(self.status)}", headers)
        if request.method == "HEAD" or self.status in (204, 304):
            return []
        return [self.body] if isinstance(self.body, bytes) else self.body


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def json_answer(value: object, status: int = 200, **headers: str) -> Answer:
    """A JSON answer; header names are given with underscores (`Retry_After="1"`)."""
    pairs = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return Answer(status, json.dumps(value).encode(), (("Content-Type", "application/json"), *pairs))


def rfc3339(epoch_seconds: float) -> str:
    """A point in time as RFC 3339 text in UTC."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True)
class Route:
    """One row of a route table. `{name}` in the pattern is passed to the handler; method `*` matches any method."""

    method: str
    pattern: str
    handler: Callable[..., Answer]
    regex: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        regex = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.pattern)
        object.__setattr__(self, "regex", re.compile(regex))

    def takes(self, method: str) -> bool:
        """Whether this row handles `method`; GET rows also handle HEAD."""
        return self.method in ("*", method) or (self.method, method) == ("GET", "HEAD")


class Cluster:
    """A WSGI application with a route table, to which it adds `GET /health`."""

    def __init__(self, service: str, routes: Iterable[Route]) -> None:
        self.service = service
        self.routes = (Route("GET", "/health", self._health), *routes)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._dispatch(request)
        except Problem as problem:
            answer = self._explain(problem)
        return answer.send(request, start_response)

    def _dispatch(self, request: Request) -> Answer:
        path = request.path.rstrip("/")
        found = [(route, match) for route in self.routes if (match := route.regex.fullmatch(path))]
        if not found:
            raise NotFound(request.path)
        for route, match in found:
            if route.takes(request.method):
                return route.handler(request, **match.groupdict())
        allowed = ", ".join(sorted({route.method for route, _ in found}))
        return self._explain(Problem(405, "LUCID_ERR_4003", "method not allowed"), Allow=allowed)

    def _explain(self, problem: Problem, **headers: str) -> Answer:
        error = {"code": problem.code, "message": problem.message, "service": self.service}
        return json_answer({"error": error}, problem.status, **headers)

    def _health(self, request: Request) -> Answer:
        return json_answer({"status": "healthy"})
