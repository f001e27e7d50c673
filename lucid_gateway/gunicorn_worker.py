"""gunicorn's gevent worker, with the gateway's envelope for requests that its HTTP parser refuses."""

import contextlib
import errno
import json
import logging
import socket
import struct
import time
import uuid
from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import gevent
from django.utils.http import parse_header_parameters
from gevent.monkey import get_original
from gunicorn.glogging import Logger
from gunicorn.http import errors as http_errors
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import http_date, write_nonblock
from gunicorn.workers.ggevent import GeventWorker

from lucid_gateway import metrics
from lucid_gateway.env import environment
from lucid_gateway.envelope import envelope
from lucid_gateway.errors import BadRequest, GatewayError, InternalError, RequestTimeout

logger = logging.getLogger(__name__)
# Unpatched: between asking and shutting down no other greenlet may read.
poll, PlainSocket = get_original("select", "poll"), get_original("socket", "socket")

# gunicorn reads up to 1 MiB ahead and copies what is left over with each read of the application: smaller steps
# made uploads two to three times as fast (docs/decisions/0002).
SocketUnreader.max_body_chunk = 128 * 1024

# Bytes per second. Who sends or reads less than that, over the time that clients are waited for, is let go.
SLOWEST_CLIENT = 1000

STATUSES: dict[type[BaseException], int] = {
    http_errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    http_errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http_errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http_errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http_errors.InvalidHTTPVersion: HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
}


def check_content_type(headers: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidHeader for a Content-Type that Django raises for: parameters in an unknown charset (RFC 2231)."""
    for name, value in headers:
        if name == "CONTENT-TYPE":
            try:
                parse_header_parameters(value)
            except ValueError as error:
                raise http_errors.InvalidHeader(name) from error


def asks_to_close(headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether `close` stands among other options in Connection: gunicorn sees only a field of one option."""
    options = (value for name, value in headers if name == "CONNECTION" and "," in value)
    return any(option.strip().lower() == "close" for value in options for option in value.split(","))


def has_body(headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether a request with these fields brings a body."""
    return any(name == "TRANSFER-ENCODING" or (name == "CONTENT-LENGTH" and value != "0") for name, value in headers)


def is_readable(sock: socket.socket) -> bool:
    """Return whether bytes, or the end, of what a client sends are there."""
    poller = poll()
    poller.register(sock.fileno(), 1)  # POLLIN
    return bool(poller.poll(0))


def stop_reading(sock: socket.socket) -> None:
    """Let whoever reads from the socket find its end; gevent's own shutdown would raise there."""
    plain = PlainSocket(fileno=sock.fileno())
    try:
        plain.shutdown(socket.SHUT_RD)
    finally:
        plain.detach()


@lru_cache(maxsize=1)
def date_of(second: int) -> str:
    """Return the Date field, made once a second."""
    return str(http_date(second))


class GatewayRequest(Request):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's request, that says at once that its connection ends after a body that could not be read."""

    def should_close(self) -> bool:
        """Return whether the connection ends after this request."""
        return bool(self.body.failed or super().should_close())


RequestParser.mesg_class = GatewayRequest


class NamelessResponse(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's answer without its `Server` field, which tells attackers what to try."""

    def default_headers(self) -> list[str]:
        """Return the status line and gunicorn's own fields."""
        return [line for line in super().default_headers() if not line.startswith("Server:")]


wsgi.Response = NamelessResponse


class PatientSocket:
    """The client's socket for the time of one request: waits `seconds` for a client, and longer only while bytes flow.

    A client that sends too slowly is RequestTimeout, one that reads too slowly is TimeoutError.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.sock, self.seconds, self.left = sock, seconds, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next bytes, none at the end."""
        try:
            started = self.start()
            data = self.sock.recv(size, flags)
        except TimeoutError as error:
            raise RequestTimeout() from error
        self.count(started, len(data))
        return data

    def sendall(self, data: bytes) -> None:
        """Send all bytes."""
        view = memoryview(data)
        while view:
            started = self.start()
            sent = self.sock.send(view)
            self.count(started, sent)
            view = view[sent:]

    def start(self) -> float:
        """Let the next call take as long as is left, and return the time."""
        self.sock.settimeout(max(self.left, 0.001))
        return time.monotonic()

    def count(self, started: float, size: int) -> None:
        """Take the time that the call waited, and give what its bytes are worth."""
        self.left = min(self.seconds, self.left - (time.monotonic() - started) + size / SLOWEST_CLIENT)


class GatewayLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's logger without its access log, whose lines it prepares even where nobody reads them."""

    def access(self, *_: Any) -> None:
        """Do nothing: AccessLogMiddleware writes the line."""


class GatewayWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Serves each connection in a greenlet, so that waiting costs next to nothing.

    On SIGTERM it closes idle connections at once instead of waiting for their keep-alive to run out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clients: dict[gevent.Greenlet, socket.socket] = {}
        self.idle: set[gevent.Greenlet] = set()
        self.patience = environment().CLIENT_TIMEOUT_SECONDS

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Serve a connection to its end."""
        self.clients[gevent.getcurrent()] = client
        metrics.CONNECTIONS.inc()
        try:
            super().handle(listener, client, addr)
        finally:
            metrics.CONNECTIONS.dec()
            del self.clients[gevent.getcurrent()]

    def load_wsgi(self) -> None:
        """Load the application. One with a method `refusal_to` is asked before an environ is made: from the peer's
        address and the header fields it returns an answer (`status`, `headers`, `body`) for whom it does not serve.
        """
        super().load_wsgi()
        metrics.WORKERS.set(1)
        self.refusal_to = getattr(self.wsgi, "refusal_to", None)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:
        """Refuse whom the application does not serve, and what Django's request would not survive; then serve."""
        if self.refusal_to is not None:
            refusal = self.refusal_to(addr[0] if isinstance(addr, tuple) else "", req.headers)
            if refusal is not None:
                return self.refuse(req, sock, refusal)
        check_content_type(req.headers)
        if asks_to_close(req.headers):
            req.force_close()
        return self.serve(listener_name, req, sock, addr)

    def serve(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:
        """Serve the request; a client that does not read its answer is cut off with a reset."""
        # gunicorn answers in the client's version, be it HTTP/1.9 (RFC 9110, section 2.5).
        req.version = min(req.version, (1, 1))
        patient = PatientSocket(sock, self.patience)
        req.unreader.sock = patient
        try:
            return super().handle_request(listener_name, req, patient, addr)
        except TimeoutError:
            logger.warning("client does not read its answer", extra={"client": addr and addr[0]})
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise StopIteration from None
        finally:
            req.unreader.sock = sock
            with contextlib.suppress(OSError):
                sock.settimeout(None)

    def refuse(self, req: Any, sock: socket.socket, refusal: Any) -> bool:
        """Write the answer in one piece; a body is not read: the connection ends."""
        close = not self.alive or req.should_close() or has_body(req.headers)
        fields = [
            ("Date", date_of(int(time.time()))), ("Connection", "close" if close else "keep-alive"), *refusal.headers
        ]  # fmt: skip
        head = "".join([f"HTTP/1.1 {refusal.status}\r\n", *(f"{name}: {value}\r\n" for name, value in fields), "\r\n"])
        sock.sendall(head.encode("latin-1") + (b"" if req.method == "HEAD" else refusal.body))
        if close:
            raise StopIteration
        return True

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Bound the wait for the next request's header block, the first one included."""
        self.idle.add(gevent.getcurrent())
        try:
            with gevent.Timeout(self.cfg.keepalive, False):
                yield
        finally:
            self.idle.discard(gevent.getcurrent())

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain: requests under way are finished, nothing else is waited for."""
        super().handle_exit(sig, frame)
        gevent.spawn(self.close_idle)

    def close_idle(self) -> None:
        """Stop reading from connections without a request; one that has just arrived is still read and served."""
        for greenlet in list(self.idle):
            with contextlib.suppress(OSError, KeyError):
                # Else the client of a request that is there, but not read yet, would look as if it had left.
                if not is_readable(self.clients[greenlet]):
                    stop_reading(self.clients[greenlet])

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what went wrong before or around the application, and close the connection."""
        request_id = str(uuid.uuid4())
        client_error = isinstance(exc, http_errors.ParseException) and not isinstance(
            exc, http_errors.InvalidResponseHeader | http_errors.InvalidResponseHeaderName
        )
        metrics.REFUSED.labels("malformed" if client_error else "failed").inc()
        if client_error:
            status = STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
            logger.warning("malformed request", extra={"client": addr and addr[0], "error": type(exc).__name__})
            self.answer(client, status, BadRequest("Malformed HTTP request"), request_id)
        else:
            logger.error("request failed outside the application", exc_info=exc)
            self.answer(client, HTTPStatus.INTERNAL_SERVER_ERROR, InternalError(), request_id)

    def answer(self, client: socket.socket, status: int, error: GatewayError, request_id: str) -> None:
        """Write the whole answer; a client that is gone does not matter."""
        body = json.dumps(envelope(error, request_id)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-ID: {request_id}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        try:
            write_nonblock(client, head.encode() + body)
        except OSError as failure:
            if failure.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF):
                logger.warning("answer not written", extra={"error": str(failure)})
