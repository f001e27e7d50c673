"""Any bytes: a client's request is refused, or becomes exactly one upstream request, framed once, at the path that was
checked; a cluster's answer arrives unchanged and complete, or becomes a 502, or is visibly truncated.

Both are compared with a strict parser of RFC 9112 that shares no code with the gateway.
"""

import contextlib
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, unquote

from hypothesis import given, reject, settings
from hypothesis import strategies as st

from lucid_gateway.policy.headers import HOP_BY_HOP
from lucid_gateway.policy.paths import AmbiguousPath, canonical_path
from lucid_gateway.policy.routes import SAFE_IN_PATH
from proxy.tests.conftest import Stage
from proxy.tests.http_grammar import ANY_ANSWER, ANYTHING, TOKEN_MARK
from testing.http.cluster import OK, saying, saying_and_closing
from testing.http.messages import REQUEST_LINE, TOKEN, VALUE, Cut, Ended, Malformed, Message, Reader
from testing.waiting import wait_until

A_FEW = settings(max_examples=8 * settings().max_examples)
IDENTITY = {
    "host", "x-user-id", "x-user-role", "x-user-permissions", "x-request-id", "x-forwarded-for", "x-forwarded-proto",
    "x-forwarded-host", "via", "traceparent",
}  # fmt: skip
FRAMING = {"content-length", "transfer-encoding"}
CLIENT_LEFT = 499
NEVER = (HOP_BY_HOP - FRAMING) | {"expect", "authorization", "x-api-key", "forwarded", "x-real-ip"}
RENAMED = re.compile(r"^/api/v1/chain/(?=(blocks|transactions|anchoring|consensus|merkle)(/|$))")


class Unclear(Exception):
    """An interim answer with fields that mean nothing there: it may be read over, or be taken for malformed."""


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


def read_requests(data: bytes) -> tuple[list[Message], bytes]:
    """Return the well-formed requests that the bytes begin with (each after an empty line, or none), and the rest."""
    found = []
    while data:
        reader = Reader(data.removeprefix(b"\r\n"), REQUEST_LINE)
        try:
            request = reader.read_body(reader.read_head())
        except (Malformed, Cut, Ended):
            break
        if len(request.all("host")) > 1 or (request.start.endswith("/1.0") and request.all("transfer-encoding")):
            break
        found.append(request)
        data = bytes(reader.buffer)
    return found, data


def read_final_answer(data: bytes, method: str = "GET") -> Answered:
    """Return the final answer that the bytes, then the connection's end, begin with; raise Malformed or Unclear."""
    reader = Reader(data.lstrip(b"\r\n"))
    try:
        answer = reader.read_head()
    except (Cut, Ended):
        raise Malformed from None
    if answer.status < 200:
        if answer.status == 101 or answer.start.startswith("HTTP/1.0"):
            raise Malformed
        if answer.framing() or answer.all("connection"):
            raise Unclear
        return read_final_answer(bytes(reader.buffer), method)
    lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
    if len(lengths) + len(codings) > 1 or not all(re.fullmatch("[0-9]+", length) for length in lengths):
        raise Malformed
    if (codings and codings[0].lower() != "chunked") or (lengths and int(lengths[0]) >= 2**63):
        raise Malformed
    if method == "HEAD" or answer.status in (204, 304):
        return Answered(answer.status, b"", whole=True, rest=bytes(reader.buffer))
    if not answer.framing():
        return Answered(answer.status, bytes(reader.buffer), whole=True, until_close=True)
    try:
        reader.read_body(answer)
    except (Malformed, Cut):
        return Answered(answer.status, b"", whole=False)
    return Answered(answer.status, answer.body, whole=True, rest=bytes(reader.buffer))


# To the cluster.


def exchange(stage: Stage, data: bytes, methods: list[str]) -> list[Message]:
    """Send only these bytes; return all final answers until the connection ends, parsed for these request methods."""
    answers: list[Message] = []
    with stage.connect() as client:
        client.send(data)
        with contextlib.suppress(OSError):  # the gateway may have closed it already
            client.sock.shutdown(socket.SHUT_WR)
        while True:
            try:
                answer = client.read_answer(methods[len(answers)] if len(answers) < len(methods) else "GET")
            except Ended:
                return answers
            except Cut as cut:
                # If the cluster is slow, as on a busy machine, this client seems to have disconnected.
                return [*answers, cut.message]
            if answer.status != 100:
                answers.append(answer)
            if answer.all("connection") == ["close"]:
                return answers


def check_fields(sent: Message, request: Message) -> None:
    """Check that each field appears once, and is either the gateway's own or exactly what the client sent."""
    names = [name for name, _ in sent.fields]
    assert len(names) == len(set(names))
    assert set(names) >= IDENTITY
    assert not set(names) & NEVER
    assert len(sent.framing()) <= 1
    own = {name: value for name, value in sent.fields if name in IDENTITY}
    assert own["x-user-id"].count("-") == own["x-request-id"].count("-") == 4
    assert (own["x-user-role"], own["x-forwarded-for"], own["via"]) == ("user", "127.0.0.1", "1.1 lucid-api-gateway")
    asked = {name.lower() for name, _ in request.fields}
    said = {name: ("; " if name == "cookie" else ",").join(request.all(name)) for name in asked}
    for name, value in sent.fields:
        assert TOKEN.fullmatch(name)
        assert VALUE.fullmatch(value)
        assert name in IDENTITY | FRAMING or value == said[name].strip(" \t")
        assert name in IDENTITY or not name.startswith(("x-user-", "x-forwarded-"))


def target_of(request: Message) -> str:
    """Return the target that the cluster must get: the canonical path and the client's query."""
    path, _, query = request.target.partition("?")
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    judged = RENAMED.sub("/api/v1/", canonical_path(path).removesuffix("/"))
    judged = judged.replace("/api/v1/blockchain-info", "/api/v1/chain/info")
    query = query.partition("#")[0]
    return quote(judged, safe=SAFE_IN_PATH) + (f"?{query}" if query else "")


def check_target(target: str) -> None:
    """Check that the path keeps its meaning if a cluster decodes it several times."""
    path = target.partition("?")[0]
    slashes = path.count("/")
    for _ in range(4):
        assert not {segment.partition(";")[0].strip() for segment in path.split("/")} & {".", ".."}
        assert not re.search(r"[\x00-\x1f\x7f\\]", path)
        path = unquote(path)
        assert path.count("/") == slashes


def is_for(sent: Message, request: Message) -> bool:
    """Return whether the cluster got exactly this request."""
    if len(request.all("host")) != 1:
        return False
    try:
        return sent.start == f"{request.method} {target_of(request)} HTTP/1.1" and sent.body == request.body
    except AmbiguousPath:
        return False


def run(stage: Stage, data: bytes) -> None:
    """Send the bytes to the gateway, and compare answers and upstream requests with their strict reading."""
    clusters = stage.clusters.values()
    for cluster in clusters:
        cluster.requests, cluster.broken = [], []
    data = data.replace(TOKEN_MARK, stage.token.encode())
    asked, rest = read_requests(data)
    methods = [request.method for request in asked] + [rest.lstrip().partition(b" ")[0].decode("latin-1")]
    answers = exchange(stage, data, methods)
    forwarded = sum(answer.status in (200, CLIENT_LEFT) for answer in answers)
    # A slow cluster may read the request of a disconnected client after the gateway has logged 499.
    wait_until(lambda: sum(len(cluster.requests) for cluster in clusters) >= forwarded)
    sent = [request for cluster in clusters for request in cluster.requests]
    for answer in answers:
        assert answer.status < 500 or answer.status in (501, 505), answer
        assert answer.status < 400 or not answer.body or answer.code, answer
    assert len(sent) == forwarded
    for message in sent:
        request = next((request for request in asked if is_for(message, request)), None)
        assert request, f"no request for {message} in {data!r}"
        asked.remove(request)
        check_fields(message, request)
        check_target(message.target)


@A_FEW
@given(data=ANYTHING)
def test_a_cluster_gets_exactly_the_requests_that_the_client_sent(whole_stage: Stage, data: bytes) -> None:
    run(whole_stage, data)


# Back to the client.


def converse(stage: Stage, method: str) -> bytes:
    """Send a request and return all bytes received until the connection ends."""
    with stage.connect() as client:
        client.send(client.head(method, "/wallets", "Connection: close"))
        while client.more():
            pass
        return bytes(client.buffer) + (b"<reset>" if client.was_reset else b"")


def understood(said: bytes, method: str) -> Answered | None:
    """Return the answer in these bytes, or None if they are not one; skip examples that are ambiguous."""
    try:
        return read_final_answer(said, method)
    except Malformed:
        return None
    except Unclear:
        reject()


def check_answer(said: bytes, came: bytes, method: str) -> None:
    """Check that the client got the cluster's answer unchanged, or a 502 or a truncated answer."""
    answer = understood(said, method)
    shown = f"{method} {said!r} became {came!r}"
    got = None if came.endswith(b"<reset>") else read_final_answer(came, method)
    if got is None or got.status == 502:
        assert answer is None or not answer.whole, shown
    else:
        assert answer is not None, shown
        assert (got.status, got.body, got.whole, got.rest) == (answer.status, answer.body, answer.whole, b""), shown


@A_FEW
@given(said=ANY_ANSWER, method=st.sampled_from(["GET", "POST", "HEAD"]))
def test_an_answer_of_a_cluster_arrives_complete_or_as_an_error(whole_stage: Stage, said: bytes, method: str) -> None:
    cluster = whole_stage.clusters["wallets"]
    answer = understood(said, method)
    stays = answer is not None and answer.whole and not answer.until_close
    cluster.behaviour = saying(said) if stays else saying_and_closing(said)
    check_answer(said, converse(whole_stage, method), method)
    cluster.behaviour = saying(OK)
    assert converse(whole_stage, "GET").endswith(b"\r\n\r\nok")
