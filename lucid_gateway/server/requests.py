"""What gunicorn's parser makes of a request, and what the gateway adds to it."""

from collections.abc import Iterable

from django.utils.http import parse_header_parameters
from gunicorn.http import errors as http_errors
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

# gunicorn reads up to 1 MiB ahead and copies what is left over with each read of the application: smaller steps
# made uploads two to three times as fast (docs/decisions/0002).
SocketUnreader.max_body_chunk = 128 * 1024


class GatewayRequest(Request):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's request, that says at once that its connection ends after a body that could not be read."""

    def should_close(self) -> bool:
        """Return whether the connection ends after this request."""
        return bool(self.body.failed or super().should_close())


RequestParser.mesg_class = GatewayRequest


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
