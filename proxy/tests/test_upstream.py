"""Misbehaving instances: each test has a server with one kind of misbehaviour (TRAPS, section 3)."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lucid_gateway.policy.errors import BadUpstreamAnswer, GatewayError, UpstreamTimeout, UpstreamUnreachable
from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import Instance
from proxy.connection.pool import Pool
from proxy.connection.upstream import MAX_HEAD, Answer, Connection, NoAnswer, TruncatedAnswer
from testing.http.client import Ask, Connect
from testing.http.cluster import (
    OK,
    Behaviour,
    RawCluster,
    Visit,
    deaf_server,
    saying,
    saying_and_closing,
    saying_and_resetting,
)
from testing.http.messages import Cut, Ended, Message
from testing.servers import free_port

ENOUGH = Timeouts(connect=30, read=30, total=60)
SHORT = Timeouts(connect=0.3, read=0.3, total=0.6)
BRIEF = replace(ENOUGH, total=0.6)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD_OF_FIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def exchange(connection: Connection, method: str = "GET", timeouts: Timeouts = ENOUGH) -> tuple[Answer, bytes]:
    """Send a request and return the answer and its body."""
    connection.start(method, timeouts)
    connection.send(GET)
    answer = connection.read_head()
    return answer, b"".join(connection.read_body())


@pytest.fixture
def connection(raw_cluster: RawCluster) -> Iterator[Connection]:
    with Connection(raw_cluster.instance, ENOUGH) as opened:
        yield opened
        opened.close()


# Connecting.


def test_a_refused_connection_is_unreachable() -> None:
    with pytest.raises(UpstreamUnreachable):
        Connection(Instance("http", "127.0.0.1", free_port()), SHORT)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "..", "xn--\x80"])
def test_a_name_that_does_not_resolve_is_unreachable(host: str) -> None:
    with pytest.raises(UpstreamUnreachable):
        Connection(Instance("http", host, 80), SHORT)


def test_a_connection_that_is_never_accepted_is_a_timeout() -> None:
    with deaf_server() as port, pytest.raises(UpstreamTimeout):
        Connection(Instance("http", "127.0.0.1", port), SHORT)


def test_a_server_without_tls_is_unreachable_over_https(raw_cluster: RawCluster) -> None:
    raw_cluster.on_head = saying_and_closing(b"what?\r\n\r\n")
    with pytest.raises((UpstreamUnreachable, UpstreamTimeout)):
        Connection(Instance("https", "127.0.0.1", raw_cluster.port), SHORT)


# No answer, or a malformed one.


def test_silence_is_a_timeout(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying()
    with pytest.raises(UpstreamTimeout):
        exchange(connection, timeouts=SHORT)


@pytest.mark.parametrize("behaviour", [saying_and_closing(), saying_and_resetting()])
def test_an_end_before_the_first_byte_is_no_answer(
    connection: Connection, raw_cluster: RawCluster, behaviour: Behaviour
) -> None:
    raw_cluster.behaviour = behaviour
    with pytest.raises(NoAnswer):
        exchange(connection)


@pytest.mark.parametrize("ending", [saying_and_closing, saying_and_resetting])
def test_an_end_within_the_head_is_a_bad_answer(connection: Connection, raw_cluster: RawCluster, ending: type) -> None:
    raw_cluster.behaviour = ending(b"HTTP/1.1 200 OK\r\nContent-")
    with pytest.raises(BadUpstreamAnswer) as caught:
        exchange(connection)
    assert not isinstance(caught.value, NoAnswer)


NOT_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "a body without a head": b"<html>\r\n\r\n",
    "both framing fields": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way round": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "a length past all bounds": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: magic\r\n\r\nhello",
    "a coding below chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 High\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n",
    "status 700": b"HTTP/1.1 700 High\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 Low\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "a folded line": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 5\r\n\r\nhello",
    "DEL in a value": b"HTTP/1.1 200 OK\r\nA: b\x7fc\r\nContent-Length: 5\r\n\r\nhello",
    "CR in a value": b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 5\r\n\r\nhello",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 5\r\n\r\nhello",
    "a field without a name": b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 5\r\n\r\nhello",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nAb\r\nContent-Length: 5\r\n\r\nhello",
    "101 with an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
    "101 without an upgrade": b"HTTP/1.1 101 Switching\r\n\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_HEAD // 2),
    "a value without an end": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 3 * MAX_HEAD,
    "interim answers without an end": b"HTTP/1.1 102 Processing\r\n\r\n" * MAX_HEAD,
}


@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP)
def test_a_malformed_answer_is_a_bad_answer(connection: Connection, raw_cluster: RawCluster, answer: bytes) -> None:
    raw_cluster.behaviour = saying(answer)
    with pytest.raises(BadUpstreamAnswer):
        exchange(connection)


def test_a_head_of_sixty_kilobytes_is_read(connection: Connection, raw_cluster: RawCluster) -> None:
    value = b"b" * 60_000
    raw_cluster.behaviour = saying(b"HTTP/1.1 200 OK\r\nA: " + value + b"\r\nContent-Length: 2\r\n\r\nok")
    answer, _ = exchange(connection)
    assert answer.fields("a") == [value.decode()]


def test_a_head_may_arrive_in_any_pieces(connection: Connection, raw_cluster: RawCluster) -> None:
    def drip(visit: Visit) -> None:
        for byte in b"HTTP/1.1 200 Fine\r\nA:\r\nB: c \r\nContent-Length: 2\r\n\r\nok":
            visit.send(bytes([byte]))

    raw_cluster.behaviour = drip
    answer, body = exchange(connection)
    assert (answer.status, answer.reason, body) == (200, "Fine", b"ok")
    assert [(name, value.strip()) for name, value in answer.headers] == [("A", ""), ("B", "c"), ("Content-Length", "2")]


def test_an_answer_without_a_reason_has_none(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")
    answer, body = exchange(connection)
    assert (answer.reason, body) == ("", b"ok")


# Interim answers.


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Odd"])
def test_an_interim_answer_is_skipped_and_the_connection_not_reused(
    connection: Connection, raw_cluster: RawCluster, interim: bytes
) -> None:
    raw_cluster.behaviour = saying(b"HTTP/1.1 " + interim + b"\r\nLink: </x>\r\nSet-Cookie: a=b\r\n\r\n", OK)
    answer, body = exchange(connection)
    assert (answer.status, answer.reason, body) == (200, "OK", b"ok")
    assert answer.headers == [("Content-Length", "2")]
    assert not connection.is_reusable()


# Bodies.


@pytest.mark.parametrize("end", [saying_and_closing, saying_and_resetting])
@pytest.mark.parametrize(
    "answer",
    [
        HEAD_OF_FIVE + b"hell",
        HEAD_OF_FIVE,
        CHUNKED_HEAD,
        CHUNKED_HEAD + b"5\r\nhello\r\n",
        CHUNKED_HEAD + b"5\r\nhel",
        CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n",
        CHUNKED_HEAD + b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n",
    ],
)
def test_a_truncated_body_is_never_taken_for_complete(
    connection: Connection, raw_cluster: RawCluster, end: type, answer: bytes
) -> None:
    raw_cluster.behaviour = end(answer)
    with pytest.raises(TruncatedAnswer):
        exchange(connection)
    assert not connection.is_reusable()


def test_invalid_chunks_truncate_the_answer(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying(CHUNKED_HEAD, b"5\r\nhello\r\n")
    connection.start("GET", ENOUGH)
    connection.send(GET)
    connection.read_head()
    raw_cluster.visits[0].send(b"zz\r\n")
    with pytest.raises(TruncatedAnswer, match="Bad answer"):
        list(connection.read_body())


def test_a_body_without_framing_ends_with_the_connection(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying_and_closing(b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo")
    assert exchange(connection)[1] == b"hello"
    assert not connection.is_reusable()


def test_a_reset_body_without_framing_is_truncated(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying_and_resetting(b"HTTP/1.1 200 OK\r\n\r\nhel")
    with pytest.raises(TruncatedAnswer):
        exchange(connection)


def test_the_trailers_of_an_answer_are_read_and_dropped(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying(CHUNKED_HEAD + b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\nSet-Cookie: a=b\r\n\r\n")
    answer, body = exchange(connection)
    assert body == b"hello"
    assert answer.headers == [("Transfer-Encoding", "chunked")]
    assert connection.is_reusable()


def test_the_head_is_passed_on_before_the_body_arrives(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying(HEAD_OF_FIVE)
    connection.start("GET", ENOUGH)
    connection.send(GET)
    connection.read_head()
    assert next(connection.read_body()) == b""


# Late bytes.


LATE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nSet-Cookie: a=b\r\n\r\nevil"
COMPLETE = {
    "a length": HEAD_OF_FIVE + b"hello",
    "chunks": CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("late", [LATE, b"junk", b"\x00", b"HTTP/1.1 200"])
@pytest.mark.parametrize("answer", COMPLETE.values(), ids=COMPLETE)
def test_bytes_after_an_answer_close_the_connection_but_keep_the_answer(
    connection: Connection, raw_cluster: RawCluster, answer: bytes, late: bytes
) -> None:
    raw_cluster.behaviour = saying(answer + late)
    found, body = exchange(connection)
    assert body == (b"hello" if b"hello" in answer else b"")
    assert found.fields("set-cookie") == []
    assert not connection.is_reusable()


@pytest.mark.parametrize("late", [LATE, b"junk", b"\r\n"])
@pytest.mark.parametrize("answer", COMPLETE.values(), ids=COMPLETE)
def test_late_bytes_close_the_idle_connection(raw_cluster: RawCluster, answer: bytes, late: bytes) -> None:
    pool = Pool(raw_cluster.instance)
    raw_cluster.behaviour = saying(answer)
    first = pool.take(ENOUGH)
    exchange(first)
    assert first.is_reusable()
    pool.give_back(first)
    raw_cluster.visits[0].send(late)
    second = pool.take(ENOUGH)
    assert second is not first
    second.close()


@pytest.mark.parametrize("late", [b"hello", LATE])
def test_a_body_in_a_head_answer_closes_the_connection(
    connection: Connection, raw_cluster: RawCluster, late: bytes
) -> None:
    raw_cluster.behaviour = saying(HEAD_OF_FIVE + late)
    _, body = exchange(connection, "HEAD")
    assert body == b""
    assert not connection.is_reusable()


# Time.


def drip(head: bytes, piece: bytes, seconds: float = 20) -> Behaviour:
    """Return the behaviour of a server that sends small pieces so often that no read times out."""

    def behave(visit: Visit) -> None:
        visit.send(head)
        for _ in range(int(seconds / 0.05)):
            time.sleep(0.05)
            visit.send(piece)

    return behave


@pytest.mark.parametrize("piece", [b"A: b\r\n", b"b"])
def test_a_dripping_head_ends_at_the_total_timeout(
    connection: Connection, raw_cluster: RawCluster, piece: bytes
) -> None:
    raw_cluster.behaviour = drip(b"HTTP/1.1 200 OK\r\nA: ", piece)
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        exchange(connection, timeouts=BRIEF)
    assert BRIEF.total - 0.1 < time.monotonic() - started < BRIEF.total + 5


def test_a_dripping_body_ends_at_the_total_timeout(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x")
    started = time.monotonic()
    with pytest.raises(TruncatedAnswer):
        exchange(connection, timeouts=BRIEF)
    assert BRIEF.total - 0.1 < time.monotonic() - started < BRIEF.total + 5


def test_a_body_without_a_deadline_may_drip(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", b"x", seconds=1)
    connection.start("GET", BRIEF)
    connection.send(GET)
    connection.read_head()
    connection.time_left = None
    assert b"".join(connection.read_body()) == b"x" * 20


def test_time_spent_on_a_slow_client_does_not_count(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"x", seconds=0.31)
    connection.start("GET", BRIEF)
    connection.send(GET)
    connection.read_head()
    pieces = connection.read_body()
    first = next(pieces)
    time.sleep(BRIEF.total + 0.2)
    assert first + b"".join(pieces) == b"x" * 6


def test_a_cluster_that_stops_reading_is_a_timeout(connection: Connection, raw_cluster: RawCluster) -> None:
    raw_cluster.on_head = lambda _: time.sleep(5)
    connection.start("POST", SHORT)
    connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    with pytest.raises(UpstreamTimeout):
        connection.send(b"x" * 100_000_000)


# The same through a real gateway.


def assert_error(answer: Message, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    "name",
    ["another protocol", "both framing fields", "two lengths", "status 600", "status 000", "101 without an upgrade",
     "101 with an upgrade", "a head without an end"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_bad_answer_gives_502_and_is_not_retried(ask: Ask, wallets: RawCluster, name: str, method: str) -> None:
    wallets.behaviour = saying_and_closing(NOT_HTTP[name])
    assert_error(ask(method, "/wallets"), 502, "5003")
    assert len(wallets.requests) == 1


@pytest.mark.parametrize("behaviour", [saying_and_closing(), saying_and_resetting()])
@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("HEAD", 2), ("POST", 1), ("PUT", 1), ("DELETE", 1)])
def test_only_safe_methods_are_sent_again_when_there_is_no_answer(
    ask: Ask, wallets: RawCluster, behaviour: Behaviour, method: str, times: int
) -> None:
    wallets.behaviour = behaviour
    answer = ask(method, "/wallets")
    assert answer.status == 502
    assert method == "HEAD" or answer.code == "5003"
    assert len(wallets.requests) == times


def test_a_get_with_a_body_is_not_sent_again(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying_and_resetting()
    assert_error(ask("GET", "/wallets", body=b"x"), 502, "5003")
    assert len(wallets.requests) == 1


TRUNCATED = {
    "length": HEAD_OF_FIVE + b"hel",
    "no body at all": HEAD_OF_FIVE,
    "chunks": CHUNKED_HEAD + b"3\r\nhel\r\n",
}


@pytest.mark.parametrize("answer", TRUNCATED.values(), ids=TRUNCATED)
def test_a_truncated_answer_cuts_the_clients_connection(ask: Ask, wallets: RawCluster, answer: bytes) -> None:
    wallets.behaviour = saying_and_closing(answer)
    with pytest.raises((Cut, Ended)):
        ask("GET", "/wallets")
    assert len(wallets.requests) == 1


@pytest.mark.parametrize("answer", TRUNCATED.values(), ids=TRUNCATED)
def test_an_http_1_0_client_sees_no_clean_end_of_a_truncated_answer(
    ask: Ask, wallets: RawCluster, answer: bytes
) -> None:
    wallets.behaviour = saying_and_closing(answer)
    with pytest.raises((Cut, Ended)):
        ask("GET", "/wallets", version="1.0")


def test_a_reset_answer_without_framing_cuts_the_clients_connection(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying_and_resetting(b"HTTP/1.1 200 OK\r\n\r\nhel")
    with pytest.raises((Cut, Ended)):
        ask("GET", "/wallets")


@pytest.mark.parametrize("answer", COMPLETE.values(), ids=COMPLETE)
def test_late_bytes_never_reach_the_next_request(connect: Connect, wallets: RawCluster, answer: bytes) -> None:
    wallets.behaviour = saying(answer + LATE)
    client = connect()
    first = client.ask("GET", "/wallets")
    assert b"evil" not in first.body
    wallets.behaviour = saying(answer)
    client.ask("GET", "/wallets")
    wallets.visits[-1].send(LATE)
    wallets.behaviour = saying(OK)
    assert client.ask("GET", "/wallets").body == b"ok"
    assert len({request.connection for request in wallets.requests}) == 3


def test_an_interim_answer_never_reaches_the_client(connect: Connect, wallets: RawCluster) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
    client = connect()
    for _ in range(2):
        answer = client.ask("GET", "/wallets")
        assert (answer.status, answer.body, answer.all("link")) == (200, b"ok", [])
    assert len({request.connection for request in wallets.requests}) == 2


def test_a_reason_that_cannot_be_relayed_is_replaced(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 200 O\x01\x7fK\r\nContent-Length: 2\r\n\r\nok")
    answer = ask("GET", "/wallets")
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"ok")


def test_every_connection_error_is_a_gateway_error() -> None:
    for error in (UpstreamUnreachable, UpstreamTimeout, BadUpstreamAnswer, NoAnswer):
        assert issubclass(error, GatewayError)
    assert (UpstreamUnreachable.status, UpstreamUnreachable.number) == (502, 5005)
    assert (UpstreamTimeout.status, UpstreamTimeout.number) == (504, 5006)
    assert (NoAnswer.status, NoAnswer.number) == (502, 5003)
