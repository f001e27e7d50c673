"""What gunicorn's parser makes of a request, and what the gateway adds to it."""

import math
from collections.abc import Iterable

from django.utils.http import parse_header_parameters
from gunicorn.http import errors as http_errors
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

# gunicorn reads up to 1 MiB ahead and copies what is left over with each read of the application: smaller steps
# made uploads two to three times as fast (docs/decisions/0002).
SocketUnreader.max_body_chunk = 128 * 1024


# Bytes of a body that nobody has read. Up to KEPT they are read for the sake of the next request; else the connection
# ends. A client that sends before it reads gets to its answer only if all of its body is taken: up to TAKEN it is.
KEPT = 64 * 1024
TAKEN = 16 * 1024 * 1024


class GatewayRequest(Request):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's request. It says `100 Continue` only when the application reads the body, and its connection ends
    where the next request cannot be found, or only after too much reading.
    """

    _expected_100_continue: bool

    def set_body_reader(self) -> None:
        """Prepare the body; gunicorn would say `100 Continue` before anybody has looked at the request."""
        super().set_body_reader()
        if self._expected_100_continue:
            self._expected_100_continue = False
            self.body.reader = AwaitedReader(self.body.reader, self.unreader)

    def should_close(self) -> bool:
        """Return whether the connection ends after this request."""
        return bool(self.body.failed or super().should_close() or self.unread() > KEPT)

    def unread(self) -> float:
        """Return how many bytes of the body are still to be read; infinity if that is unknown."""
        return unread_by(self.body.reader)

    def to_be_taken(self) -> int:
        """Return how many bytes to take from the client before the connection closes."""
        unread = self.unread()
        if TAKEN < unread < math.inf:
            return KEPT
        return int(min(unread, TAKEN)) - len(self.unreader.take_buffered())


class AwaitedReader:
    """The body of a client that waits for `100 Continue`: the first read says it (RFC 9110, section 10.1.1)."""

    def __init__(self, reader: LengthReader | ChunkedReader, unreader: SocketUnreader) -> None:
        self.reader, self.unreader = reader, unreader
        self.awaited = unread_by(reader) > 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        if self.awaited:
            self.awaited = False
            self.unreader.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return bytes(self.reader.read(size))


def unread_by(reader: LengthReader | ChunkedReader | AwaitedReader) -> float:
    """Return how many bytes the reader has not read; infinity if that is unknown."""
    if isinstance(reader, LengthReader):
        return int(reader.length)
    if isinstance(reader, AwaitedReader):
        # Whether the client sends the body after all, nobody knows.
        return math.inf if reader.awaited else unread_by(reader.reader)
    return math.inf if reader.parser else 0


RequestParser.mesg_class = GatewayRequest


def check_content_type(headers: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidHeader for a Content-Type that Django raises for: parameters in an unknown charset (RFC 2231)."""
    for name, value in headers:
        if name == "CONTENT-TYPE":
            try:
                parse_header_parameters(value)
            except ValueError as error:
                raise http_errors.InvalidHeader(name) from error


def join_cookies(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields with several Cookie lines as one: gunicorn would join them by commas, as other fields are
    (RFC 9113, section 8.2.3, says how).
    """
    cookies = [value for name, value in headers if name == "COOKIE"]
    if len(cookies) < 2:
        return headers
    return [*((name, value) for name, value in headers if name != "COOKIE"), ("COOKIE", "; ".join(cookies))]


def asks_to_close(headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether `close` stands among other options in Connection: gunicorn sees only a field of one option."""
    options = (value for name, value in headers if name == "CONNECTION" and "," in value)
    return any(option.strip().lower() == "close" for value in options for option in value.split(","))


def has_body(headers: Iterable[tuple[str, str]]) -> bool:
    """Return whether a request with these fields brings a body."""
    return any(name == "TRANSFER-ENCODING" or (name == "CONTENT-LENGTH" and value != "0") for name, value in headers)
