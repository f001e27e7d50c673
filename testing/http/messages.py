"""HTTP/1.1 messages, read strictly (RFC 9112). The reader knows nothing of the gateway, whose parsers it judges."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
REQUEST_LINE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.[0-9]")
STATUS_LINE = re.compile(r"HTTP/1\.[01] [1-5][0-9][0-9](?: [^\r\n]*)?")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
FRAMING = ("content-length", "transfer-encoding")


class Malformed(Exception):
    """The bytes are not HTTP, or are ambiguous."""


class Ended(Exception):
    """The bytes end where a message could have begun."""


class Cut(Exception):
    """The bytes end in the middle of a message; `message` is what came of it."""

    def __init__(self, message: "Message") -> None:
        super().__init__(message.start)
        self.message = message


@dataclass
class Message:
    """A request or an answer: start line, fields in order and as they were written, body without its framing.

    `connection` counts the connections of a `RawCluster`, from 1.
    """

    start: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    connection: int = 0

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def reason(self) -> str:
        return self.start.split(" ", 2)[2]

    def all(self, name: str) -> list[str]:
        """Return the values of every field of that name."""
        return [value for field_name, value in self.fields if field_name.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the value of the field of that name, None without one; it must not be repeated."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated"
        return values[0] if values else None

    def framing(self) -> list[tuple[str, str]]:
        """Return the fields that say where the body ends."""
        return [(name.lower(), value) for name, value in self.fields if name.lower() in FRAMING]

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """Return the error of the gateway, after checking that the answer is the envelope and nothing else."""
        assert self.header("Content-Type") == "application/json", self
        body = self.json()
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert set(error) == {"code", "message", "details", "request_id", "timestamp", "service", "version"}
        assert error["request_id"] == self.header("X-Request-ID")
        return error

    @property
    def code(self) -> str:
        """The number of the error's code, such as 1001."""
        return str(self.error()["code"]).removeprefix("LUCID_ERR_")


class Reader:
    """Takes messages from the bytes in `buffer`, until they are used up."""

    was_reset = False

    def __init__(self, data: bytes = b"", start_line: "re.Pattern[str]" = STATUS_LINE) -> None:
        self.buffer = bytearray(data)
        self.start_line = start_line

    def more(self) -> bool:
        """Add bytes to the buffer; return False at the end of all bytes. A subclass can have more of them."""
        return False

    def read_head(self) -> Message:
        """Read up to the empty line; raise Ended, Cut or Malformed."""
        try:
            start, *lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        except Cut:
            if self.buffer:
                raise
            raise Ended from None
        if not self.start_line.fullmatch(start):
            raise Malformed(start)
        return Message(start, [parse_field(line) for line in lines])

    def read_answer(self, method: str = "GET") -> Message:
        """Read an answer to a request of that method. Without framing it goes on to the end of all bytes.

        Raises Ended, Cut or Malformed.
        """
        answer = self.read_head()
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.framing():
            return self.read_body(answer)
        while self.more():
            pass
        answer.body = bytes(self.buffer)
        self.buffer.clear()
        if self.was_reset:
            raise Cut(answer)
        return answer

    def read_body(self, message: Message) -> Message:
        """Read the body that the fields announce; raise Cut or Malformed."""
        lengths, codings = message.all("content-length"), message.all("transfer-encoding")
        if len(lengths) + len(codings) > 1 or not all(re.fullmatch("[0-9]+", length) for length in lengths):
            raise Malformed(message.framing())
        if codings:
            if codings[0].lower() != "chunked":
                raise Malformed(message.framing())
            for _ in self.chunks(message):
                pass
        elif lengths:
            self.read_exactly(int(lengths[0]), message)
        return message

    def chunks(self, message: Message) -> Iterator[bytes]:
        """Yield the chunks of the body as they come, and read the trailers; raise Cut or Malformed."""
        while size := self.read_chunk_size(message):
            yield self.read_exactly(size, message)
            if rest := self.read_until(b"\r\n", message):
                raise Malformed(rest)
        while line := self.read_until(b"\r\n", message):
            message.trailers.append(parse_field(line.decode("latin-1")))
            if message.trailers[-1][0].lower() in FRAMING:
                raise Malformed(line)

    def read_chunk_size(self, message: Message) -> int:
        line = self.read_until(b"\r\n", message)
        if not (found := CHUNK_LINE.fullmatch(line)):
            raise Malformed(line)
        return int(found[1], 16)

    def read_until(self, end: bytes, message: Message | None = None) -> bytes:
        """Return what comes before these bytes, and drop them; raise Cut, with the message, if they do not come."""
        while (size := self.buffer.find(end)) < 0:
            if not self.more():
                raise Cut(message or Message())
        found = bytes(self.buffer[:size])
        del self.buffer[: size + len(end)]
        return found

    def read_exactly(self, size: int, message: Message) -> bytes:
        """Add so many bytes to the message's body, and return them; raise Cut after those that came."""
        whole = True
        while whole and len(self.buffer) < size:
            whole = self.more()
        piece = bytes(self.buffer[:size])
        del self.buffer[:size]
        message.body += piece
        if not whole:
            raise Cut(message)
        return piece


def parse_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
        raise Malformed(line)
    return name, value.strip(" \t")
