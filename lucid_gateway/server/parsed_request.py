"""gunicorn's parsed request, with the gateway's rules for bodies, cookies and the end of the connection."""

import math
from collections.abc import Iterable

from django.utils.http import parse_header_parameters
from gunicorn.http import errors as http_errors
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

# gunicorn reads up to 1 MiB ahead, and copies the rest with each read of the application: smaller steps make uploads
# two to three times as fast (docs/decisions/0002).
SocketUnreader.max_body_chunk = 128 * 1024


# Unread bytes of a body. Up to MAX_SKIPPED of them are skipped to reach the next request; with more, the connection
# ends. A client that sends its whole body before it reads sees the answer only if the gateway drains the body, which it
# does up to MAX_DRAINED.
MAX_SKIPPED = 64 * 1024
MAX_DRAINED = 16 * 1024 * 1024


class GatewayRequest(Request):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's request. It sends `100 Continue` only when the application reads the body, and ends the connection if
    the start of the next request is unknown or too far away.
    """

    _expected_100_continue: bool

    def set_body_reader(self) -> None:
        """Prepare the body; gunicorn would send `100 Continue` before the application has seen the request."""
        super().set_body_reader()
        if self._expected_100_continue:
            self._expected_100_continue = False
            self.body.reader = AwaitedReader(self.body.reader, self.unreader)

    def should_close(self) -> bool:
        """Return whether the connection ends after this request."""
        return bool(self.body.failed or super().should_close() or self.unread() > MAX_SKIPPED)

    def unread(self) -> float:
        """Return the number of unread bytes of the body; infinity if it is unknown."""
        return unread_by(self.body.reader)

    def bytes_to_drain(self) -> int:
        """Return how many bytes to read from the client before the connection closes."""
        unread = self.unread()
        if MAX_DRAINED < unread < math.inf:
            return MAX_SKIPPED
        return int(min(unread, MAX_DRAINED)) - len(self.unreader.take_buffered())


class AwaitedReader:
    """The body of a client that waits for `100 Continue`, which the first read sends (RFC 9110, section 10.1.1)."""

    def __init__(self, reader: LengthReader | ChunkedReader, unreader: SocketUnreader) -> None:
        self.reader, self.unreader = reader, unreader
        self.awaited = unread_by(reader) > 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, or b"" at the end."""
        if self.awaited:
            self.awaited = False
            self.unreader.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return bytes(self.reader.read(size))


def unread_by(reader: LengthReader | ChunkedReader | AwaitedReader) -> float:
    """Return the number of bytes that the reader has not read; infinity if it is unknown."""
    if isinstance(reader, LengthReader):
        return int(reader.length)
    if isinstance(reader, AwaitedReader):
        # The client may or may not send the body.
        return math.inf if reader.awaited else unread_by(reader.reader)
    return math.inf if reader.parser else 0


RequestParser.mesg_class = GatewayRequest


def check_content_type(headers: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidHeader for a Content-Type on which Django fails: parameters in an unknown charset (RFC 2231)."""
    for name, value in headers:
        if name == "CONTENT-TYPE":
            try:
                parse_header_parameters(value)
            except ValueError as error:
                raise http_errors.InvalidHeader(name) from error


def join_cookies(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields with several Cookie lines joined by semicolons (RFC 9113, section 8.2.3); gunicorn would join
    them by commas.
    """
    cookies = [value for name, value in headers if name == "COOKIE"]
    if len(cookies) < 2:
        return headers
    return [*((name, value) for name, value in headers if name != "COOKIE"), ("COOKIE", "; ".join(cookies))]


def asks_to_close(headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether Connection lists `close` among other options; gunicorn recognizes it only on its own."""
    options = (value for name, value in headers if name == "CONNECTION" and "," in value)
    return any(option.strip().lower() == "close" for value in options for option in value.split(","))


def has_body(headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether a request with these fields has a body."""
    return any(name == "TRANSFER-ENCODING" or (name == "CONTENT-LENGTH" and value != "0") for name, value in headers)
