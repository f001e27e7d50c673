"""One client request is exactly one upstream request with exactly one framing field (RFC 9112, section 6)."""

import contextlib
import io

import pytest

from lucid_gateway.policy.errors import BadRequest, RequestTooLarge
from proxy.forwarding.forwarder import READ_SIZE, RequestBody
from proxy.tests.conftest import SecondStage
from testing.http.client import Ask, Connect, RawClient
from testing.http.cluster import RawCluster, Visit, saying
from testing.http.messages import Ended
from testing.waiting import wait_until

pytestmark = pytest.mark.planes
# nginx reads chunks and their trailers less strictly; what it passes on is framed anew.
lenient = pytest.mark.django_plane
# nginx takes the end of what a client sends for the end of the connection, and does not answer.
half_closed = pytest.mark.django_plane

SMUGGLED = b"0\r\n\r\nGET /api/v1/admin HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
TOO_LARGE = 100 * 1024 * 1024 + 1


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def test_a_body_with_a_length_keeps_its_length(ask: Ask, wallets: RawCluster) -> None:
    assert ask("POST", "/wallets", body=b"12345").status == 200
    assert wallets.request.framing() == [("content-length", "5")]
    assert wallets.request.body == b"12345"


@pytest.mark.django_plane  # nginx sends the length of a body that has arrived as a whole
def test_a_chunked_body_stays_chunked(ask: Ask, wallets: RawCluster) -> None:
    assert ask("POST", "/wallets", CHUNKED, body=chunks(b"123", b"45")).status == 200
    assert wallets.request.framing() == [("transfer-encoding", "chunked")]
    assert wallets.request.body == b"12345"


@pytest.mark.django_plane  # as above
def test_an_empty_chunked_body_stays_a_body(ask: Ask, wallets: RawCluster) -> None:
    assert ask("POST", "/wallets", CHUNKED, body=chunks()).status == 200
    assert wallets.request.framing() == [("transfer-encoding", "chunked")]
    assert wallets.request.body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_method_with_a_body_gets_content_length_0_without_one(ask: Ask, wallets: RawCluster, method: str) -> None:
    assert ask(method, "/wallets").status == 200
    assert wallets.request.framing() == [("content-length", "0")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_method_without_a_body_gets_no_framing(ask: Ask, wallets: RawCluster, method: str) -> None:
    assert ask(method, "/wallets", "Content-Length: 0").status == 200
    assert wallets.request.framing() == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_of_an_unusual_method_is_forwarded(ask: Ask, wallets: RawCluster, method: str) -> None:
    assert ask(method, "/wallets", body=b"12345").status == 200
    assert wallets.request.framing() == [("content-length", "5")]
    assert wallets.request.body == b"12345"


@pytest.mark.parametrize("fields", [(), (CHUNKED,)])
def test_a_request_inside_a_body_stays_part_of_the_body(ask: Ask, wallets: RawCluster, fields: tuple[str, ...]) -> None:
    body = chunks(SMUGGLED) if fields else SMUGGLED
    assert ask("POST", "/wallets", *fields, body=body).status == 200
    assert wallets.request.body == SMUGGLED


def test_the_trailers_of_a_request_are_dropped(ask: Ask, wallets: RawCluster) -> None:
    body = b"2\r\nhi\r\n0\r\nX-User-Id: root\r\n\r\n"
    assert ask("POST", "/wallets", CHUNKED, body=body).status == 200
    assert wallets.request.body == b"hi"
    assert wallets.request.trailers == []


@pytest.mark.parametrize(
    ("fields", "body", "status"),
    [
        (("Content-Length: 5", CHUNKED), b"0\r\n\r\n", 400),
        (("Content-Length: 5", "Content-Length: 5"), b"12345", 400),
        (("Content-Length: 5, 5",), b"12345", 400),
        (("Content-Length: +5",), b"12345", 400),
        (("Content-Length: \xb2",), b"12", 400),
        (("Transfer-Encoding: magic",), b"0\r\n\r\n", 501),
        (("Transfer-Encoding: gzip, chunked",), chunks(b"\x1f\x8b"), 400),
        (("Transfer-Encoding: chunked, chunked",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: identity",), b"hi", 400),
    ],
)
def test_unclear_framing_is_refused_before_any_cluster(
    ask: Ask, wallets: RawCluster, fields: tuple[str, ...], body: bytes, status: int
) -> None:
    answer = ask("POST", "/wallets", *fields, body=body)
    assert (answer.status, answer.code) == (status, "1001")
    assert wallets.requests == wallets.broken == []


@half_closed
def test_a_body_shorter_than_announced_is_never_completed(connect: Connect, wallets: RawCluster) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", "Content-Length: 100") + b"only this")
    client.sock.shutdown(1)
    assert client.read_answer().status == 400
    wait_until(lambda: wallets.broken)
    assert wallets.requests == []


@half_closed
@pytest.mark.parametrize("rest", [b"", b"zz\r\nhi\r\n", b"5\r\nhi"])
def test_a_truncated_chunked_body_is_never_completed(connect: Connect, wallets: RawCluster, rest: bytes) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", CHUNKED) + b"2\r\nhi\r\n" + rest)
    client.sock.shutdown(1)
    assert client.read_answer().status == 400
    assert client.is_closed()
    wait_until(lambda: wallets.broken)
    assert wallets.requests == []


@pytest.mark.parametrize(
    "broken",
    [b"5\nhello\r\n", b"0x5\r\nhello\r\n", b"-1\r\n\r\n", b"+5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5\r\nhelloX\r\n",
     b"5;\n\r\nhello\r\n", b'5;a="\r\nhello\r\n', b"\r\n\r\n", b"5 5\r\nhello\r\n",
     b"_5\r\nhello\r\n",
     *(pytest.param(end, marks=lenient) for end in
       (b"5\r\nhello\n0\r\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nA: b\nB: c\r\n\r\n", b"0\n\n"))],
)  # fmt: skip
def test_a_broken_chunk_ends_the_connection_and_completes_nothing(
    connect: Connect, wallets: RawCluster, broken: bytes
) -> None:
    client = connect()
    client.send(
        client.head("POST", "/wallets", CHUNKED) + b"2\r\nhi\r\n" + broken + client.head("GET", "/wallets/next")
    )
    client.sock.shutdown(1)
    answer = client.read_answer()
    assert (answer.status, answer.code, answer.all("connection")) == (400, "1001", ["close"])
    assert client.is_closed()
    assert wallets.requests == []


@pytest.mark.parametrize(
    "head",
    [b"POST /api/v1/wallets HTTP/1.1\nHost: x\r\n\r\n",
     b"POST /api/v1/wallets HTTP/1.1\r\nHost: x\nContent-Length: 5\r\n\r\n",
     b"POST /api/v1/wallets HTTP/1.1\r\nHost: x\r\n\n",
     b"POST /api/v1/wallets HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
     b"POST /api/v1/wallets HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello",
     b"POST /api/v1/wallets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
     b"POST /api/v1/wallets HTTP/1.1\r\nHost: x\r\nA: b\r\n Content-Length: 5\r\n\r\nhello",
     b"POST /api/v1/wallets HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
)  # fmt: skip
def test_what_follows_an_ambiguous_head_is_never_read(connect: Connect, wallets: RawCluster, head: bytes) -> None:
    client = connect()
    client.send(head + client.head("GET", "/wallets/next"))
    client.sock.shutdown(1)
    answer = client.read_answer()
    assert (answer.status, answer.code, answer.all("connection")) == (400, "1001", ["close"])
    assert client.is_closed()
    assert wallets.requests == wallets.broken == []


def test_a_chunked_body_is_refused_as_soon_as_it_exceeds_the_limit(connect: Connect, wallets: RawCluster) -> None:
    def discard(visit: Visit) -> None:
        while visit.more():
            visit.buffer.clear()
        raise Ended

    wallets.on_head = discard
    client = connect()
    client.send(client.head("POST", "/wallets", CHUNKED))
    with contextlib.suppress(ConnectionError):
        for _ in range(101):
            client.send(chunks(b"x" * 1024 * 1024)[:-5])
    answer = client.read_answer()
    assert (answer.status, answer.code) == (413, "1010")
    assert wallets.visits[0].over.wait(5)


def test_a_body_announced_over_the_limit_is_refused_unread(connect: Connect, wallets: RawCluster) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", f"Content-Length: {TOO_LARGE}"))
    answer = client.read_answer()
    assert (answer.status, answer.code) == (413, "1010")
    assert wallets.requests == wallets.broken == []


def test_a_body_without_a_length_is_cut_off_at_the_limit() -> None:
    body = RequestBody(io.BytesIO(b"x" * 2500), None, limit=2000)
    with pytest.raises(RequestTooLarge):
        list(body.pieces())


def test_a_body_of_exactly_the_limit_is_forwarded() -> None:
    assert b"".join(RequestBody(io.BytesIO(b"x" * 2000), None, limit=2000).pieces()) == b"x" * 2000


def test_a_body_is_not_read_beyond_its_length() -> None:
    source = io.BytesIO(b"x" * 100 + b"the next request")
    assert b"".join(RequestBody(source, 100, limit=100).pieces()) == b"x" * 100
    assert source.read() == b"the next request"


def test_a_body_is_read_in_small_pieces() -> None:
    body = RequestBody(io.BytesIO(b"x" * 1_000_000), 1_000_000, limit=1_000_000)
    assert max(len(piece) for piece in body.pieces()) == READ_SIZE


def test_a_body_that_ends_early_is_an_error() -> None:
    with pytest.raises(BadRequest):
        list(RequestBody(io.BytesIO(b"x"), 2, limit=2).pieces())


def test_a_client_that_expects_100_continue_gets_it(connect: Connect, wallets: RawCluster) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", "Content-Length: 5", "Expect: 100-continue"))
    assert client.read_answer().status == 100
    client.send(b"12345")
    assert client.read_answer().status == 200
    assert wallets.request.body == b"12345"
    assert wallets.request.all("expect") == []


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/wallets", ("Authorization: Bearer nothing",), 401),
        ("POST", "/nowhere", (), 404),
        ("POST", "/chain/info", (), 405),
        ("POST", "/chain/transactions", (), 403),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_after_a_refusal_the_next_request_is_intact_or_the_connection_closes(
    *, connect: Connect, wallets: RawCluster, method: str, path: str, fields: tuple[str, ...], status: int, framing: str
) -> None:
    client = connect()
    if framing == "chunks":
        fields, body = (*fields, CHUNKED), chunks(SMUGGLED, b"x" * 200_000, SMUGGLED)
    else:
        body = SMUGGLED * 1000
    assert client.ask(method, path, *fields, body=body).status == status
    assert_next_request_is_intact(client, wallets)


def test_after_a_rate_limit_the_next_request_is_intact_or_the_connection_closes(
    second_stage: SecondStage,
) -> None:
    with second_stage.connect() as client:
        statuses = [client.ask("GET", "/chain/blocks", body=SMUGGLED * 100).status for _ in range(2)]
        assert statuses == [200, 429]
        assert client.ask("GET", "/chain/info").body == b"ok"
    targets = [request.target for cluster in second_stage.instances for request in cluster.requests]
    assert sorted(targets) == ["/api/v1/blocks", "/api/v1/chain/info"]


def test_no_part_of_a_too_large_body_is_taken_for_a_request(connect: Connect, wallets: RawCluster) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", f"Content-Length: {TOO_LARGE}") + SMUGGLED)
    assert client.read_answer().status == 413
    client.sock.shutdown(1)
    assert client.is_closed()
    assert wallets.requests == []


def assert_next_request_is_intact(client: RawClient, wallets: RawCluster) -> None:
    """Check that the connection is closed, or that exactly the next request on it arrives at the cluster."""
    try:
        answer = client.ask("GET", "/wallets/next")
    except (Ended, OSError):
        assert wallets.requests == []
    else:
        assert answer.body == b"ok"
        assert [request.target for request in wallets.requests] == ["/api/v1/wallets/next"]


def test_a_head_answer_has_the_length_and_no_body(connect: Connect, wallets: RawCluster) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    client = connect()
    answer = client.ask("HEAD", "/wallets")
    assert answer.framing() == [("content-length", "1234")]
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    assert client.ask("GET", "/wallets").body == b"next"


def test_a_chunked_head_answer_has_no_body(connect: Connect, wallets: RawCluster) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client = connect()
    assert client.ask("HEAD", "/wallets").status == 200
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    assert client.ask("GET", "/wallets").body == b"next"


@pytest.mark.parametrize("head", [b"204 No Content\r\n", b"304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n"])
def test_204_and_304_have_no_body(connect: Connect, wallets: RawCluster, head: bytes) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 " + head + b"\r\n")
    client = connect()
    for _ in range(2):
        assert client.ask("GET", "/wallets").status == int(head[:3])
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
    assert client.ask("GET", "/wallets").body == b"next"
    assert len({request.connection for request in wallets.requests}) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        # nginx keeps no connection to a server of HTTP/1.0.
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
            marks=pytest.mark.django_plane,
        ),
    ],
)
def test_connections_are_reused_on_both_sides(connect: Connect, wallets: RawCluster, answer: bytes) -> None:
    wallets.behaviour = saying(answer)
    client = connect()
    for _ in range(3):
        assert client.ask("POST", "/wallets", body=b"x").body == b"hello"
    assert len(wallets.requests) == 3
    assert len({request.connection for request in wallets.requests}) == 1


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"])
def test_a_cluster_that_closes_does_not_close_the_client_connection(
    connect: Connect, wallets: RawCluster, line: bytes
) -> None:
    wallets.behaviour = saying(line + b"\r\nContent-Length: 5\r\n\r\nhello")
    client = connect()
    for _ in range(2):
        assert client.ask("GET", "/wallets").body == b"hello"
    assert len({request.connection for request in wallets.requests}) == 2


def test_a_chunked_http_1_0_answer_closes_the_connection(connect: Connect, wallets: RawCluster) -> None:
    head = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    wallets.behaviour = saying(head + chunks(b"hello"))
    client = connect()
    for _ in range(2):
        assert client.ask("GET", "/wallets").body == b"hello"
    assert len({request.connection for request in wallets.requests}) == 2


def test_pipelined_requests_are_answered_in_order(connect: Connect, wallets: RawCluster) -> None:
    def echo(visit: Visit) -> None:
        target = visit.request.target.encode()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    wallets.behaviour = echo
    client = connect()
    posts = [client.head("POST", f"/wallets/{n}", "Content-Length: 3") + b"abc" for n in range(5)]
    client.send(b"".join(posts))
    answers = [client.read_answer().body for _ in range(5)]
    assert answers == [f"/api/v1/wallets/{n}".encode() for n in range(5)]
    assert [request.body for request in wallets.requests] == [b"abc"] * 5


def test_http_1_0_clients_get_an_answer_that_ends_with_the_connection(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    answer = ask("GET", "/wallets", version="1.0")
    assert answer.framing() == []
    assert answer.body == b"hello"


def test_bytes_after_a_body_are_the_clients_next_request(connect: Connect, wallets: RawCluster) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", "Content-Length: 2") + b"hi" + client.head("GET", "/nowhere"))
    assert [client.read_answer().status, client.read_answer().status] == [200, 404]
    assert wallets.request.body == b"hi"
