"""A connection to an instance of a cluster: one request at a time, unambiguous framing, strict parsing of answers.

The parser is llhttp (through httptools). A connection is reused only if its last answer was read to the end and nothing
followed it; otherwise it is closed.
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
    """No address accepted a connection within `seconds`, so nothing was sent."""

    nothing_sent = True
    reason = "instance_connect_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__("Cluster timed out while connecting")
        self.seconds = seconds


class SilenceTimeout(UpstreamTimeout):
    """The instance sent nothing for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class TruncatedAnswer(ConnectionResetError):
    """An answer ended early after the client got its head, so the client's connection must be cut too.

    The errno of a reset makes the server close the connection without a traceback; the access log reports the failure.
    """

    def __init__(self, reason: object = "the connection closed") -> None:
        super().__init__(errno.ECONNRESET, f"the cluster's answer broke off: {reason}")


class ClientGone(ConnectionAbortedError):
    """The client disconnected while the gateway waited for the cluster; the server closes without a traceback."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client left")


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context for https instances; it verifies certificates and host names."""
    return ssl.create_default_context()


class Answer:
    """The answer as parsed so far; httptools calls the `on_` methods.

    `messages` also counts interim answers and anything after the end; more than one makes the connection unusable.
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
        """Parse more bytes; raise BadUpstreamAnswer if they are not HTTP or the head exceeds 64 KiB."""
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
            # llhttp resets this at the end of the message.
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
            # An interim answer (1xx): the final one follows.
            self.headers, self.reason = [], ""

    def drop_parser(self) -> None:
        """End parsing. Answer and parser refer to each other, so only garbage collection could free them."""
        del self.parser

    def is_chunked_1_0(self) -> bool:
        """Return whether an HTTP/1.0 answer has a transfer coding, which that version lacks (RFC 9112, section 6.1)."""
        return self.parser.get_http_version() == "1.0" and bool(self.fields("transfer-encoding"))

    def fields(self, name: str) -> list[str]:
        """Return the values of all fields with this lower-case name."""
        return [value for field, value in self.headers if field.lower() == name]


class Connection:
    """A socket to an instance, and the state of its current exchange."""

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
            raise ConnectTimeout(timeouts.connect) from error
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
        """Begin an exchange. Waiting for the answer may take `time_left` seconds, by default the total timeout; time
        spent on a slow client does not count. The exchange ends if `client` disconnects.
        """
        self.timeouts, self.client = timeouts, client
        self.answer.drop_parser()
        self.answer = Answer(method)
        self.time_left = timeouts.total if time_left is None else time_left

    def send(self, data: bytes) -> None:
        """Send bytes; raise UpstreamTimeout if the instance stops reading, OSError if it closes or answers early."""
        view = memoryview(data)
        while view:
            self.sock.settimeout(min(self.timeouts.read, UNWATCHED_SECONDS))
            try:
                view = view[self.sock.send(view) :]
            except TimeoutError:
                wait_until_writable(self.sock, self.timeouts.read)

    def receive(self) -> bytes:
        """Return the next bytes, b"" at the end; raise UpstreamTimeout, ClientGone or OSError."""
        left = self.timeouts.read if self.time_left is None else min(self.timeouts.read, self.time_left)
        if left <= 0:
            raise UpstreamTimeout()
        started = time.monotonic()
        try:
            return self.receive_within(left)
        except TimeoutError as error:
            raise SilenceTimeout(left) from error
        finally:
            if self.time_left is not None:
                self.time_left -= time.monotonic() - started

    def receive_within(self, seconds: float) -> bytes:
        """Return the next bytes; raise TimeoutError, or ClientGone if the client has disconnected."""
        until = time.monotonic() + seconds
        while True:
            left = max(until - time.monotonic(), 0.001)
            # Most answers come so soon that watching the client would only cost time.
            self.sock.settimeout(left if self.client is None else min(left, UNWATCHED_SECONDS))
            try:
                return self.sock.recv(RECEIVE)
            except TimeoutError:
                if self.client is None or left <= UNWATCHED_SECONDS:
                    raise
            # Loops if the bytes that arrive are not yet a whole TLS record.
            wait_for_either(self.sock, self.client, until - time.monotonic())

    def read_head(self) -> Answer:
        """Read up to the end of the final answer's head; raise NoAnswer, BadUpstreamAnswer or UpstreamTimeout."""
        while not self.answer.head_done:
            try:
                data = self.receive()
            except ClientGone:
                raise
            except OSError as error:
                raise self.early_close_error() from error
            if not data:
                raise self.early_close_error()
            if not self.answer.head_size:
                self.first_byte_at = time.perf_counter()
            self.answer.feed(data)
        check_framing(self.answer)
        return self.answer

    def early_close_error(self) -> GatewayError:
        """Return the error for a connection that ended before the head was complete."""
        if self.answer.head_size:
            return BadUpstreamAnswer(details={"reason": "the answer broke off"})
        return NoAnswer(details={"reason": "the connection closed without an answer"})

    def read_body(self) -> Iterator[bytes]:
        """Yield the undecoded body as it arrives; raise TruncatedAnswer if it ends early.

        The first piece is empty if no body came with the head, so that the head is passed on without a wait.
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
                raise TruncatedAnswer(error) from error
            if not data:
                if until_close:
                    return
                raise TruncatedAnswer()

    def is_reusable(self) -> bool:
        """Return whether the next request may use this connection: the answer was read exactly to its end."""
        answer = self.answer
        return answer.complete and not answer.body and answer.messages == 1 and answer.keep_alive

    def close(self) -> None:
        self.sock.close()


def wait_until_writable(cluster: socket.socket, seconds: float) -> None:
    """Wait until the socket is writable; raise BrokenPipeError if the cluster answers first, or UpstreamTimeout."""
    poller = select.poll()
    # Bytes that arrive over TLS are not always an answer.
    poller.register(cluster, select.POLLOUT | (0 if isinstance(cluster, ssl.SSLSocket) else select.POLLIN))
    ready = poller.poll(seconds * 1000)
    if not ready:
        raise UpstreamTimeout("Cluster does not read the request")
    if not ready[0][1] & select.POLLOUT:
        raise BrokenPipeError(errno.EPIPE, "the cluster answers before it has read the request")


def wait_for_either(cluster: socket.socket, client: socket.socket, seconds: float) -> None:
    """Wait until the cluster's socket is readable; raise TimeoutError, or ClientGone if the client disconnects."""
    poller = select.poll()
    poller.register(cluster, select.POLLIN)
    poller.register(client, select.POLLIN)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready = {descriptor for descriptor, _ in poller.poll(left * 1000)}
        if cluster.fileno() in ready:
            return
        if ready:
            if has_disconnected(client):
                raise ClientGone()
            # Its next request has arrived already, which hides a later disconnect.
            poller.unregister(client)
    raise TimeoutError


def has_disconnected(client: socket.socket) -> bool:
    """Return whether the client, whose socket is readable, has closed or reset its connection."""
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def connect(instance: Instance, timeout: float) -> tuple[socket.socket, Address]:
    """Return a connected socket (with TLS for https) and its address; raise OSError or UnicodeError.

    If an address refuses, the next one is tried; all attempts together must finish within `timeout` seconds.
    """
    until = time.monotonic() + timeout
    failure: OSError = OSError("the name has no address")
    for address in resolver.addresses(instance):
        try:
            return open_socket(instance, address, until - time.monotonic()), address
        except TimeoutError:
            raise
        except OSError as error:
            failure = error
    raise failure


def open_socket(instance: Instance, address: Address, timeout: float) -> socket.socket:
    """Connect to one address within `timeout` seconds; raise OSError."""
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
    """Raise BadUpstreamAnswer if the end of the answer is ambiguous (RFC 9112, section 6.3)."""
    codings = [coding.strip().lower() for value in answer.fields("transfer-encoding") for coding in value.split(",")]
    lengths = answer.fields("content-length")
    if (codings and codings != ["chunked"]) or len(lengths) > 1 or (codings and lengths):
        raise BadUpstreamAnswer(details={"reason": "unclear framing"})
    if not 200 <= answer.status <= 599:
        raise BadUpstreamAnswer(details={"reason": f"status {answer.status}"})
