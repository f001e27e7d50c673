"""gunicorn's gevent worker, with the gateway's envelope for requests that its HTTP parser refuses."""

import errno
import json
import logging
import socket
import uuid
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors as http_errors
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

from lucid_gateway.envelope import envelope
from lucid_gateway.errors import BadRequest, GatewayError, InternalError

logger = logging.getLogger(__name__)

STATUSES: dict[type[BaseException], int] = {
    http_errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    http_errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http_errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http_errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http_errors.InvalidHTTPVersion: HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
}


class GatewayWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Serves each connection in a greenlet, so that waiting costs next to nothing."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what went wrong before or around the application, and close the connection."""
        request_id = str(uuid.uuid4())
        client_error = isinstance(exc, http_errors.ParseException) and not isinstance(
            exc, http_errors.InvalidResponseHeader | http_errors.InvalidResponseHeaderName
        )
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
