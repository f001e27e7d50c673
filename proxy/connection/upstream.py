"""A connection to an instance of a cluster: one request at a time, framed exactly once, answers read strictly.

The grammar is llhttp's (through httptools). A connection is used again only after an answer that was read to its
end with nothing left over; whatever else happens, it is closed.
"""

import errno
import select
import socket
import ssl
import time
from collections.abc import Iterator
from functools import cache
from types import TracebackType
from typing import Self

import httptools

from lucid_gateway.policy.errors import BadUpstreamAnswer, GatewayError, UpstreamTimeout, UpstreamUnreachable
from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import Instance
from proxy.connection.resolver import Address, resolver

RECEIVE = 64 * 1024
MAX_HEAD = 64 * 1024
UNWATCHED_SECONDS = 0.1


class NoAnswer(BadUpstreamAnswer):
    """The connection ended before the first byte of an answer."""

    reason = "instance_no_answer"


class ConnectTimeout(UpstreamTimeout):
    """Nothing took the connection in time: nothing was sent."""

    nothing_sent = True
    reason = "instance_connect_timeout"


class AnswerCut(ConnectionResetError):
    """An answer broke off after its head was passed on: the client's connection has to be cut as well.

    With the number of a reset the server closes the connection and makes no more of it; the access log tells.
    """

    def __init__(self, reason: object = "the connection closed") -> None:
        super().__init__(errno.ECONNRESET, f"the cluster's answer broke off: {reason}")


class ClientGone(ConnectionAbortedError):
    """The client left while the cluster was waited for; the server closes the connection and makes no more of it."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client left")


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context for https instances: certificates and names are verified."""
    return ssl.create_default_context()


class Answer:
    """What the parser has found so far; httptools calls the `on_` methods.

    `messages` counts interim answers and whatever follows the end, too: more than one costs the connection.
    """

    def __init__(self, method: str = "GET") -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.bodyless = method == "HEAD"
        self.status = 0
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        self.body: list[bytes] = []
        self.head_size = 0
        self.messages = 0
        self.head_done = False
        self.complete = False
        self.keep_alive = False

    def feed(self, data: bytes) -> None:
        """Parse more bytes; raise BadUpstreamAnswer for what is not HTTP, or too much of it."""
        if not self.head_done:
            self.head_size += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise BadUpstreamAnswer(details={"reason": "not well-formed HTTP"}) from error
            self.messages += 1
        if not self.head_done and self.head_size > MAX_HEAD:
            raise BadUpstreamAnswer(details={"reason": "header fields too large"})

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_status(self, reason: bytes) -> None:
        if not self.head_done:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if not self.head_done:
            self.status = self.parser.get_status_code()
            self.head_done = not 100 <= self.status <= 199
            self.complete = self.head_done and self.bodyless
            # llhttp forgets it with the end of the message.
            self.keep_alive = self.parser.should_keep_alive() and not self.is_chunked_1_0()

    def on_body(self, data: bytes) -> None:
        if self.complete:
            self.messages += 1
        else:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.head_done:
            self.complete = True
        else:
            # An interim answer (1xx): the real one follows.
            self.headers, self.reason = [], ""

    def is_chunked_1_0(self) -> bool:
        """Return whether the answer has a coding that its version does not know (RFC 9112, section 6.1)."""
        return self.parser.get_http_version() == "1.0" and bool(self.fields("transfer-encoding"))

    def fields(self, name: str) -> list[str]:
        """Return the values of all fields of that (lower-case) name."""
        return [value for field, value in self.headers if field.lower() == name]


class Connection:
    """A socket to an instance, and the state of the one exchange that uses it."""

    def __init__(self, instance: Instance, timeouts: Timeouts) -> None:
        """Connect; raise UpstreamUnreachable or ConnectTimeout."""
        self.instance = instance
        self.reused = False
        self.idle_since = 0.0
        self.timeouts = timeouts
        self.time_left: float | None = None
        self.first_byte_at = 0.0
        self.client: socket.socket | None = None
        self.answer = Answer()
        started = time.perf_counter()
        try:
            self.sock, self.address = connect(instance, timeouts.connect)
        except TimeoutError as error:
            raise ConnectTimeout("Cluster timed out while connecting") from error
        except (OSError, UnicodeError) as error:
            raise UpstreamUnreachable() from error
        self.connect_ms = round((time.perf_counter() - started) * 1000, 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection if the exchange failed."""
        if kind is not None:
            self.close()

    def start(
        self, method: str, timeouts: Timeouts, *, time_left: float | None = None, client: socket.socket | None = None
    ) -> None:
        """Begin an exchange, whose answer comes within `time_left` seconds of waiting for it, else within the total
        time: a slow client is not counted. When the `client` leaves meanwhile the exchange ends.
        """
        self.timeouts, self.client = timeouts, client
        self.answer = Answer(method)
        self.time_left = timeouts.total if time_left is None else time_left

    def send(self, data: bytes) -> None:
        """Send bytes; raise UpstreamTimeout when the cluster does not take them, OSError when it is gone, or answers
        without reading on.
        """
        view = memoryview(data)
        while view:
            self.sock.settimeout(min(self.timeouts.read, UNWATCHED_SECONDS))
            try:
                view = view[self.sock.send(view) :]
            except TimeoutError:
                wait_until_writable(self.sock, self.timeouts.read)

    def receive(self) -> bytes:
        """Return the next bytes, none at the end; raise UpstreamTimeout, ClientGone or OSError."""
        left = self.timeouts.read if self.time_left is None else min(self.timeouts.read, self.time_left)
        if left <= 0:
            raise UpstreamTimeout()
        started = time.monotonic()
        try:
            return self.receive_within(left)
        except TimeoutError as error:
            raise UpstreamTimeout() from error
        finally:
            if self.time_left is not None:
                self.time_left -= time.monotonic() - started

    def receive_within(self, seconds: float) -> bytes:
        """Return the next bytes; raise TimeoutError, or ClientGone if nobody waits for them any more."""
        until = time.monotonic() + seconds
        while True:
            left = max(until - time.monotonic(), 0.001)
            # Nearly all answers come sooner than it pays to watch the client.
            self.sock.settimeout(left if self.client is None else min(left, UNWATCHED_SECONDS))
            try:
                return self.sock.recv(RECEIVE)
            except TimeoutError:
                if self.client is None or left <= UNWATCHED_SECONDS:
                    raise
            # It comes to this again where what came is not a whole record of TLS.
            wait_for_either(self.sock, self.client, until - time.monotonic())

    def read_head(self) -> Answer:
        """Read up to the end of the final answer's head; raise NoAnswer, BadUpstreamAnswer or UpstreamTimeout."""
        while not self.answer.head_done:
            try:
                data = self.receive()
            except ClientGone:
                raise
            except OSError as error:
                raise self.broken_off() from error
            if not data:
                raise self.broken_off()
            if not self.answer.head_size:
                self.first_byte_at = time.perf_counter()
            self.answer.feed(data)
        check_framing(self.answer)
        return self.answer

    def broken_off(self) -> GatewayError:
        """Return the error for an end of the connection before the head was there."""
        if self.answer.head_size:
            return BadUpstreamAnswer(details={"reason": "the answer broke off"})
        return NoAnswer(details={"reason": "the connection closed without an answer"})

    def read_body(self) -> Iterator[bytes]:
        """Yield the body's bytes as they come, undecoded; raise AnswerCut if it does not come whole.

        The first piece is empty if the body did not come with the head: so the head need not wait for it.
        """
        answer = self.answer
        if not answer.body and not answer.complete:
            yield b""
        until_close = not answer.fields("content-length") and not answer.fields("transfer-encoding")
        while True:
            if answer.body:
                data, answer.body = b"".join(answer.body), []
                yield data
            if answer.complete:
                return
            try:
                data = self.receive()
                answer.feed(data)
            except ClientGone:
                raise
            except (OSError, GatewayError) as error:
                raise AnswerCut(error) from error
            if not data:
                if until_close:
                    return
                raise AnswerCut()

    def is_reusable(self) -> bool:
        """Return whether the next request may use this connection: nothing is left over, nothing is missing."""
        answer = self.answer
        return answer.complete and not answer.body and answer.messages == 1 and answer.keep_alive

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


def wait_until_writable(cluster: socket.socket, seconds: float) -> None:
    """Wait until the cluster's socket takes bytes; raise BrokenPipeError if it answers instead, or UpstreamTimeout."""
    poller = select.poll()
    # What comes over TLS meanwhile need not be an answer.
    poller.register(cluster, select.POLLOUT | (0 if isinstance(cluster, ssl.SSLSocket) else select.POLLIN))
    ready = poller.poll(seconds * 1000)
    if not ready:
        raise UpstreamTimeout("Cluster does not read the request")
    if not ready[0][1] & select.POLLOUT:
        raise BrokenPipeError(errno.EPIPE, "the cluster answers before it has read the request")


def wait_for_either(cluster: socket.socket, client: socket.socket, seconds: float) -> None:
    """Wait until the cluster's socket is readable; raise ClientGone if the client leaves before, or TimeoutError."""
    poller = select.poll()
    poller.register(cluster, select.POLLIN)
    poller.register(client, select.POLLIN)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready = {descriptor for descriptor, _ in poller.poll(left * 1000)}
        if cluster.fileno() in ready:
            return
        if ready:
            if has_left(client):
                raise ClientGone()
            # Its next request is there already: whether it leaves cannot be seen.
            poller.unregister(client)
    raise TimeoutError


def has_left(client: socket.socket) -> bool:
    """Return whether the client, whose socket is readable, has closed its connection, or reset it."""
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def connect(instance: Instance, timeout: float) -> tuple[socket.socket, Address]:
    """Return a connected socket, with TLS for https, and its address; raise OSError or UnicodeError.

    Of several addresses another is tried when one refuses, all within the time-out.
    """
    until = time.monotonic() + timeout
    failure: OSError = OSError("the name leads nowhere")
    for address in resolver.addresses(instance):
        try:
            return open_socket(instance, address, until - time.monotonic()), address
        except TimeoutError:
            raise
        except OSError as error:
            failure = error
    raise failure


def open_socket(instance: Instance, address: Address, timeout: float) -> socket.socket:
    """Connect to one address within so many seconds; raise OSError."""
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.settimeout(max(timeout, 0.001))
        sock.connect(address[1])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if instance.scheme == "https":
            return tls_context().wrap_socket(sock, server_hostname=instance.host)
    except BaseException:
        sock.close()
        raise
    return sock


def check_framing(answer: Answer) -> None:
    """Raise BadUpstreamAnswer if it is not clear where the answer ends (RFC 9112, section 6.3)."""
    codings = [coding.strip().lower() for value in answer.fields("transfer-encoding") for coding in value.split(",")]
    lengths = answer.fields("content-length")
    if (codings and codings != ["chunked"]) or len(lengths) > 1 or (codings and lengths):
        raise BadUpstreamAnswer(details={"reason": "unclear framing"})
    if not 200 <= answer.status <= 599:
        raise BadUpstreamAnswer(details={"reason": f"status {answer.status}"})
