"""A strict reader of HTTP/1.1 that knows nothing of the gateway: it is what its parsers are judged by (RFC 9112)."""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/1\.([0-9])")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Malformed(Exception):
    """Not HTTP, or ambiguous, or not whole."""


class Unclear(Exception):
    """An interim answer with fields that mean nothing there: it may be read over, or be taken for malformed."""


@dataclass
class Read:
    """A message: its first line, the fields with lower-case names, the body without its framing."""

    line: "re.Match[bytes]"
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: bytes) -> list[bytes]:
        return [value for field_name, value in self.fields if field_name == name]


def read_head(data: bytes, line: "re.Pattern[bytes]") -> tuple[Read, bytes]:
    """Return the message without its body, and the rest."""
    head, end, rest = data.partition(b"\r\n\r\n")
    first, *others = head.split(b"\r\n")
    match = line.fullmatch(first)
    if not end or not match:
        raise Malformed
    return Read(match, [read_field(other) for other in others]), rest


def read_field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
        raise Malformed
    return name.lower(), value.strip(b" \t")


def read_chunks(rest: bytes) -> tuple[bytes, bytes]:
    """Return the body and what follows its trailers."""
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        size = CHUNK_LINE.fullmatch(line)
        if not end or not size:
            raise Malformed
        if int(size[1], 16) == 0:
            break
        length = int(size[1], 16)
        if rest[length : length + 2] != b"\r\n":
            raise Malformed
        body, rest = body + rest[:length], rest[length + 2 :]
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            raise Malformed
        if not line:
            return body, rest
        if read_field(line)[0] in (b"content-length", b"transfer-encoding"):
            raise Malformed


def read_framed(message: Read, rest: bytes) -> bytes | None:
    """Read the body and return what follows it; None if the message says nothing of its end."""
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Malformed
    if codings:
        if codings[0].lower() != b"chunked":
            raise Malformed
        message.body, rest = read_chunks(rest)
        return rest
    if not lengths:
        return None
    if not re.fullmatch(rb"[0-9]+", lengths[0]) or len(rest) < int(lengths[0]):
        raise Malformed
    message.body = rest[: int(lengths[0])]
    return rest[int(lengths[0]) :]


def read_requests(data: bytes) -> tuple[list[Read], bytes]:
    """Return the well-formed requests that the bytes begin with (each after an empty line, or none), and the rest."""
    found = []
    while data:
        try:
            request, rest = read_head(data.removeprefix(b"\r\n"), REQUEST_LINE)
            if len(request.all(b"host")) > 1 or (request.line[3] == b"0" and request.all(b"transfer-encoding")):
                raise Malformed
            after = read_framed(request, rest)
        except Malformed:
            break
        found.append(request)
        data = rest if after is None else after
    return found, data


@dataclass
class Answered:
    """A final answer as a cluster's bytes have it; `whole` if its body came to its end, `until_close` if that is shown
    by the end of the connection alone.
    """

    status: int
    body: bytes
    whole: bool
    rest: bytes = b""
    until_close: bool = False


def read_final_answer(data: bytes, method: str = "GET") -> Answered:
    """Return the final answer that the bytes, then the connection's end, begin with; raise Malformed or Unclear."""
    answer, rest = read_head(data.lstrip(b"\r\n"), STATUS_LINE)
    status = int(answer.line[2])
    if 100 <= status <= 199:
        if status == 101 or answer.line[1] == b"0":
            raise Malformed
        if any(answer.all(name) for name in (b"connection", b"content-length", b"transfer-encoding")):
            raise Unclear
        return read_final_answer(rest, method)
    lengths, codings = answer.all(b"content-length"), answer.all(b"transfer-encoding")
    if len(lengths) + len(codings) > 1 or not all(re.fullmatch(rb"[0-9]+", length) for length in lengths):
        raise Malformed
    if (codings and codings[0].lower() != b"chunked") or (lengths and int(lengths[0]) >= 2**63):
        raise Malformed
    if method == "HEAD" or status in (204, 304):
        return Answered(status, b"", whole=True, rest=rest)
    try:
        after = read_framed(answer, rest)
    except Malformed:
        return Answered(status, b"", whole=False)
    if after is None:
        return Answered(status, rest, whole=True, until_close=True)
    return Answered(status, answer.body, whole=True, rest=after)
