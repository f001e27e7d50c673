"""gunicorn's gevent worker, which answers requests that its HTTP parser refuses with the gateway's envelope."""

import contextlib
import errno
import logging
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.glogging import Logger
from gunicorn.http import errors as http_errors
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.env import environment
from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.policy.errors import BadRequest, GatewayError, InternalError
from lucid_gateway.server import request_metrics
from lucid_gateway.server.client_socket import PatientSocket, end_gently, is_readable, stop_reading
from lucid_gateway.server.kept_requests import kept_requests
from lucid_gateway.server.listener import ListenerName, stop_accepting
from lucid_gateway.server.open_connections import TOO_MANY_CONNECTIONS, OpenConnections
from lucid_gateway.server.parsed_request import MAX_SKIPPED, asks_to_close, check_content_type, has_body, join_cookies
from lucid_gateway.server.worker_answers import STATUSES, closing_answer, date_of

logger = logging.getLogger(__name__)
REQUESTS_PER_TURN = 8
# An idle connection may be closed after this time. A proxy must close its connections sooner (nginx.conf.template).
IDLE_SECONDS = 5.0
GATEWAY_FAULTS = (http_errors.InvalidResponseHeader, http_errors.InvalidResponseHeaderName)


class GatewayLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's logger without its access log, whose lines it would prepare for nothing."""

    def access(self, *_: Any) -> None:
        """Do nothing, because AccessLogMiddleware writes the line."""


def peer_of(addr: Any) -> str:
    """Return the peer's address, or "" for a Unix socket."""
    return addr[0] if isinstance(addr, tuple) else ""


def refusal_of(exc: BaseException) -> tuple[GatewayError, int]:
    """Return the error and the status for an exception outside the application, caused by the client or the gateway."""
    if isinstance(exc, http_errors.ParseException) and not isinstance(exc, GATEWAY_FAULTS):
        return BadRequest("Malformed HTTP request"), STATUSES.get(type(exc), HTTPStatus.BAD_REQUEST)
    return InternalError(), HTTPStatus.INTERNAL_SERVER_ERROR


class GatewayWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Serves each connection in a greenlet, so that a waiting connection costs almost nothing.

    On SIGTERM it serves the connections that the kernel has accepted, sends `Connection: close` with each answer, and
    closes the other connections after they have been idle for a while.
    """

    # The worker's row of counters in server/open_connections.py; the master sets it before it forks.
    row = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clients: dict[gevent.Greenlet, socket.socket] = {}
        self.idle: dict[gevent.Greenlet, float] = {}
        self.stop_requested = Event()
        self.patience = environment().CLIENT_TIMEOUT_SECONDS

    def run(self) -> None:
        """Accept connections until SIGTERM; return when all are served or the graceful timeout is over."""
        kept_requests.row = self.row
        self.connections = OpenConnections(self.row, environment().MAX_CONNECTIONS_PER_ADDRESS)
        pool = Pool(self.worker_connections)
        servers = [self.start_server(listener, pool) for listener in self.sockets]
        while self.alive:
            self.notify()
            self.stop_requested.wait(1.0)
        deadline = time.monotonic() + self.cfg.graceful_timeout
        gevent.spawn(self.keep_closing_idle)
        stop_accepting(servers, self.notify, deadline)
        while pool and time.monotonic() < deadline:
            self.notify()
            pool.join(1.0)
        if pool:
            logger.warning("connections cut at the end of the time to stop", extra={"error": f"{len(pool)} left"})
            pool.kill(timeout=1.0)

    def start_server(self, listener: Any, pool: Pool) -> StreamServer:
        """Start accepting the listener's connections, each in a greenlet of the pool."""
        listener.setblocking(1)
        server = StreamServer(listener, handle=partial(self.handle, ListenerName(listener)), spawn=pool)
        if self.cfg.workers > 1:
            server.max_accept = 1
        server.start()
        return server

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """Serve a connection to its end; if its address has too many, close it before a byte is read."""
        column = self.connections.enter(addr)
        if column is None:
            metrics.REFUSED.labels("gateway", TOO_MANY_CONNECTIONS).inc()
            client.close()
            return
        self.clients[gevent.getcurrent()] = client
        metrics.CONNECTIONS.inc()
        try:
            super().handle(listener, client, addr)
        finally:
            metrics.CONNECTIONS.dec()
            del self.clients[gevent.getcurrent()]
            self.connections.leave(column)

    def load_wsgi(self) -> None:
        """Load the application. If it has a method `refusal_to`, the worker calls that before it builds the environ. It
        takes the peer's address, the header fields and the record; it returns None or an answer (`status`, `headers`,
        `body`).
        """
        super().load_wsgi()
        metrics.WORKERS.set(1)
        self.refusal_to = getattr(self.wsgi, "refusal_to", None)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:
        """Refuse clients that the application does not serve, and headers on which Django would fail; then serve."""
        if req.req_number % REQUESTS_PER_TURN == 0:
            gevent.sleep(0)  # a client that pipelines requests would otherwise keep the worker to itself
        record = RequestRecord(client_address=peer_of(addr))
        if self.refusal_to is not None:
            refusal = self.refusal_to(record.client_address, req.headers, record)
            if refusal is not None:
                return self.refuse(req, sock, refusal, record)
        check_content_type(req.headers)
        req.headers = join_cookies(req.headers)
        if asks_to_close(req.headers):
            req.force_close()
        return self.serve(listener_name, req, sock, addr, record)

    def serve(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any, record: RequestRecord) -> Any:
        """Serve the request; reset the connection of a client that does not read its answer."""
        # gunicorn would answer in the client's version, even HTTP/1.9 (RFC 9110, section 2.5).
        req.version = min(req.version, (1, 1))
        patient = PatientSocket(sock, self.patience, record)
        req.unreader.sock = patient
        try:
            return super().handle_request(listener_name, req, patient, addr)
        except TimeoutError:
            logger.warning("client does not read its answer", extra={"client": addr and addr[0]})
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise StopIteration from None
        except StopIteration:
            if req.unread():
                end_gently(sock, req.bytes_to_drain())
            raise
        finally:
            req.unreader.sock = sock
            with contextlib.suppress(OSError):
                sock.settimeout(None)

    def refuse(self, req: Any, sock: socket.socket, refusal: Any, record: RequestRecord) -> bool:
        """Write the answer in one piece. The connection ends if the request has a body, which is not read."""
        record.method, record.path = req.method, req.path
        record.user_agent = next((value for name, value in req.headers if name == "USER-AGENT"), "")
        kept_requests.consider(record, refusal.error.status, len(refusal.body))
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
        """Limit the wait for the header block of the next request, including the first one."""
        self.idle[gevent.getcurrent()] = time.monotonic()
        try:
            with gevent.Timeout(self.cfg.keepalive, False):
                yield
        finally:
            del self.idle[gevent.getcurrent()]

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Wake the main loop, which finishes the requests in progress and those that clients may be sending."""
        super().handle_exit(sig, frame)
        self.stop_requested.set()

    def keep_closing_idle(self) -> None:
        """Close connections as they become idle, until the worker ends.

        A client may be sending on a recently used connection; its next answer will have `Connection: close`.
        """
        while True:
            self.close_idle(since=time.monotonic() - IDLE_SECONDS)
            gevent.sleep(0.1)

    def close_idle(self, *, since: float) -> None:
        """Stop reading from connections without a request since that monotonic time, unless one has just arrived."""
        for greenlet in [greenlet for greenlet, began in self.idle.items() if began <= since]:
            with contextlib.suppress(OSError, KeyError):
                # Otherwise the client of a request that has arrived unread would seem to have left.
                if not is_readable(self.clients[greenlet]):
                    stop_reading(self.clients[greenlet])

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer an error outside the application, and close the connection."""
        record = RequestRecord(client_address=peer_of(addr))
        record.request_id = str(uuid.uuid4())
        error, status = refusal_of(exc)
        record.refused(error)
        record.note(parser=type(exc).__name__)
        if req is not None:
            record.method, record.path = req.method or "", req.path
        request_metrics.count_refused(record, status)
        kept_requests.consider(record, status)
        noted = {"request_id": record.request_id, "client": record.client_address, "reason": record.reason}
        if isinstance(error, BadRequest):
            logger.warning("malformed request", extra={**noted, "error": type(exc).__name__})
        else:
            logger.error("request failed outside the application", exc_info=exc, extra=noted)
        try:
            write_nonblock(client, closing_answer(status, error, record.request_id))
        except OSError as failure:
            if failure.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF):
                logger.warning("answer not written", extra={"error": str(failure)})
        else:
            end_gently(client, MAX_SKIPPED)
