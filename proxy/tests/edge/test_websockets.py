"""WebSockets through the edge, on routes that have them: who gets a tunnel, what passes, and what ends it."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.tests.edge.conftest import printed, shell
from proxy.tests.edge.test_failing_instances import READ_SECONDS, reload_edge, shorten_timeouts
from proxy.tests.edge.test_switch import PUT_BACK, TAKE_OFF
from testing.edge import SECRET
from testing.gateway import Gateway, running_gateway
from testing.hammer import front_workers
from testing.http.client import RawClient
from testing.http.cluster import RawCluster, saying
from testing.http.messages import Message
from testing.http.websocket import BINARY, TEXT, WebSocket, accept_of, echoing, frame, read_frame
from testing.http.wire import Wire
from testing.servers import free_port, running_redis
from testing.waiting import wait_until

PATH = "/rdp/servers/7"
PATIENCE_SECONDS = 60.0
USER, OTHER = "demo@lucid.test", "operator@lucid.test"
LOGINS = 8
ISSUE = """
import json
from accounts.models import User
from accounts.tokens.issuing import issue_tokens

print(json.dumps([issue_tokens(User.objects.get(email="{email}")).access for _ in range({count})]))
"""


@dataclass(frozen=True)
class Stage:
    """A gateway behind an edge, a cluster that echoes, and access tokens of a user, each of a login of its own."""

    gateway: Gateway
    cluster: RawCluster
    tokens: list[str]

    def ask(self, method: str, path: str, token: str, **data: Any) -> Message:
        """Send a request with JSON and return the answer."""
        with RawClient(self.gateway.port, token) as client:
            return client.ask(method, path, "Content-Type: application/json", body=json.dumps(data).encode())

    def ticket(self, token: str) -> str:
        """Return a new ticket."""
        return str(self.ask("POST", "/rdp/tickets", token).json()["ticket"])

    def logs(self) -> str:
        """Return all logs: of the gateway, of the edge, and of what nginx prints."""
        assert self.gateway.edge_log is not None
        return self.gateway.logged() + (self.gateway.edge_log.parent / "error.log").read_text()

    def lines(self, request_id: str | None) -> list[dict[str, Any]]:
        """Return the access log's lines for the request."""
        return [line for line in self.gateway.access_lines() if line["request_id"] == request_id]


@contextlib.contextmanager
def running_stage(**settings: str) -> Iterator[Stage]:
    with (
        RawCluster() as cluster,
        running_gateway(edge=True, **{"RDP_SERVICES_URL": cluster.url} | settings) as gateway,
    ):
        cluster.on_head = echoing
        yield Stage(gateway, cluster, printed(gateway, ISSUE.format(email=USER, count=LOGINS)))


@pytest.fixture(scope="module")
def whole_stage() -> Iterator[Stage]:
    with running_stage(RATE_LIMIT_ENABLED="false", IDENTITY_SIGNING_SECRET="s" * 20 + "abcdefghijklmnop") as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """The gateway; its cluster echoes and has seen nothing yet."""
    whole_stage.cluster.forget()
    whole_stage.cluster.on_head = echoing
    return whole_stage


@pytest.fixture
def token(stage: Stage) -> str:
    """A token of a login that does not end."""
    return stage.tokens[0]


@pytest.fixture
def login(stage: Stage) -> str:
    """The token of a login that the test may end."""
    return stage.tokens.pop()


Connect = Callable[..., WebSocket]


@pytest.fixture
def connect(stage: Stage) -> Iterator[Connect]:
    """Opens connections, without a credential unless a token is given, and closes them after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda token="": stack.enter_context(WebSocket(stage.gateway.port, token))


def tunnel(connect: Connect, token: str) -> WebSocket:
    """Return an open WebSocket that has passed a message."""
    client = connect(token)
    answer = client.open(PATH)
    assert answer.status == 101, answer.body
    assert client.echo(b"hello") == b"hello"
    return client


def ends(client: WebSocket) -> bool:
    """Wait until the tunnel, on which nothing is sent, ends; return False if a message comes."""
    client.sock.settimeout(PATIENCE_SECONDS)
    return client.is_closed()


# What passes.


def test_messages_pass_both_ways(stage: Stage, connect: Connect, token: str) -> None:
    client = connect(token)
    answer = client.open(PATH)

    assert answer.status == 101
    assert answer.header("Upgrade") == "websocket"
    assert answer.header("Connection") == "upgrade"
    assert answer.header("Sec-WebSocket-Accept") == accept_of(client.key)
    assert answer.header("X-Request-ID")
    for size in (0, 125, 126, 65_536, 2_000_000):
        payload = os.urandom(size)
        assert client.echo(payload) == payload


def test_the_cluster_learns_who_the_caller_is_from_the_gateway_alone(
    stage: Stage, connect: Connect, token: str
) -> None:
    client = connect(token)
    client.open(
        f"{PATH}?a=1&b=%20", "X-User-Id: somebody-else", "X-Lucid-Handshake: 1", "Origin: https://app.example.org"
    )

    request = stage.cluster.request
    assert request.target == "/api/v1/rdp/servers/7?a=1&b=%20"
    assert request.header("Upgrade") == "websocket"
    assert request.header("Connection") == "upgrade"
    assert request.header("Sec-WebSocket-Key") == client.key
    assert request.header("X-User-Role") == "user"
    assert request.header("X-User-Id") != "somebody-else"
    assert request.header("X-Gateway-Signature")
    assert request.header("Authorization") is None
    assert not [name for name, _ in request.fields if name.lower().startswith("x-lucid-")]


def test_what_the_client_sends_at_once_with_its_handshake_arrives(stage: Stage, connect: Connect, token: str) -> None:
    client = connect(token)
    client.send(client.head("GET", PATH, *client.fields) + frame(TEXT, b"early", b"mask"))

    assert client.read_answer().status == 101
    assert read_frame(client) == (TEXT, b"early")


def test_a_cluster_that_declines_is_answered_as_ever(stage: Stage, connect: Connect, token: str) -> None:
    stage.cluster.on_head = None
    stage.cluster.behaviour = saying(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: no\r\n\r\nno")

    answer = connect(token).open(PATH)

    assert (answer.status, answer.body, answer.header("X-Why")) == (403, b"no", "no")


def test_a_client_that_leaves_ends_the_connection_to_the_cluster(stage: Stage, connect: Connect, token: str) -> None:
    client = tunnel(connect, token)

    client.close()

    (visit,) = stage.cluster.visits
    assert visit.over.wait(PATIENCE_SECONDS)


def test_a_cluster_that_hangs_up_ends_the_connection_to_the_client(stage: Stage, connect: Connect, token: str) -> None:
    client = tunnel(connect, token)

    stage.cluster.hang_up()

    assert client.is_closed()


def test_a_reader_that_stops_holds_up_the_writer(stage: Stage, connect: Connect, token: str) -> None:
    client = tunnel(connect, token)
    client.sock.settimeout(2)
    message, sent = frame(BINARY, bytes(1 << 16), b"\0\0\0\0"), 0

    # The cluster echoes, the client does not read: when the buffers of the sockets are full, nobody takes more.
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 27:
            sent += client.sock.send(message)

    assert sent < 1 << 26


# The log.


def test_a_tunnel_has_a_line_in_the_log_when_it_ends(stage: Stage, connect: Connect, token: str) -> None:
    client = connect(token)
    request_id = client.open(PATH).header("X-Request-ID")
    client.echo(b"hello")
    client.close()

    wait_until(lambda: len(stage.lines(request_id)) == 2)
    decision, line = sorted(stage.lines(request_id), key=lambda line: line["status"], reverse=True)
    assert (decision["status"], line["status"], line["plane"]) == (204, 101, "edge")
    assert (line["route"], line["outcome"]) == ("api/v1/rdp/<path:rest>", "complete")
    assert (line["instance"], line["reason"]) == (stage.cluster.url, None)


# Tickets.


def test_a_ticket_opens_a_websocket_once(stage: Stage, connect: Connect, token: str) -> None:
    ticket = stage.ticket(token)

    first = connect().open(f"{PATH}?a=1&ticket={ticket}&b=2")
    second = connect().open(f"{PATH}?ticket={ticket}")

    assert first.status == 101
    assert (second.status, second.code) == (401, "2003")
    assert stage.cluster.request.target == "/api/v1/rdp/servers/7?a=1&b=2"


def test_of_parallel_uses_of_a_ticket_exactly_one_succeeds(stage: Stage, token: str) -> None:
    ticket = stage.ticket(token)
    together = threading.Barrier(8)

    def use(_: int) -> int:
        with WebSocket(stage.gateway.port) as client:
            together.wait()
            return client.open(f"{PATH}?ticket={ticket}").status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(use, range(8)))

    assert statuses == [101] + [401] * 7


def ticket_key(stage: Stage) -> bytes:
    (key,) = stage.gateway.redis().scan_iter("*:ticket:*")
    return bytes(key)


def test_an_expired_ticket_is_refused(stage: Stage, connect: Connect, token: str) -> None:
    ticket, redis = stage.ticket(token), stage.gateway.redis()
    key = ticket_key(stage)
    assert 0 < redis.ttl(key) <= 30  # type: ignore[operator]
    redis.pexpire(key, 1)
    wait_until(lambda: not redis.exists(key))

    answer = connect().open(f"{PATH}?ticket={ticket}")

    assert (answer.status, answer.code) == (401, "2003")


def secret_of(ticket: str) -> str:
    """Return the random part of the ticket, which may have underscores."""
    return ticket.split("_", 2)[2]


def test_redis_has_no_ticket_in_plain_text(stage: Stage, token: str) -> None:
    ticket, redis = stage.ticket(token), stage.gateway.redis()
    key = ticket_key(stage)

    secret = secret_of(ticket).encode()
    assert secret not in key
    assert secret not in redis.get(key)  # type: ignore[operator]
    assert token.encode() not in redis.get(key)  # type: ignore[operator]


def test_the_ticket_of_a_revoked_token_is_refused(stage: Stage, connect: Connect, login: str) -> None:
    ticket = stage.ticket(login)
    stage.ask("POST", "/auth/logout", login)

    answer = connect().open(f"{PATH}?ticket={ticket}")

    assert (answer.status, answer.code) == (401, "2003")


def test_the_ticket_of_a_locked_user_is_refused(stage: Stage, connect: Connect) -> None:
    ticket = stage.ticket(stage.gateway.issue_token(OTHER))
    with locked(stage, OTHER):
        answer = connect().open(f"{PATH}?ticket={ticket}")

    assert (answer.status, answer.code) == (401, "2005")


def test_the_ticket_of_an_api_key_has_its_permissions(stage: Stage, connect: Connect, token: str) -> None:
    key = stage.ask("POST", "/users/me/api-keys", token, name="k", permissions=["rdp:read"]).json()["api_key"]
    with RawClient(stage.gateway.port) as client:
        ticket = client.ask("POST", "/rdp/tickets", f"X-API-Key: {key}", body=b"").json()["ticket"]

    assert connect().open(f"{PATH}?ticket={ticket}").status == 101
    assert stage.cluster.request.header("X-User-Permissions") == "rdp:read"


def test_a_key_without_the_permission_gets_no_ticket(stage: Stage, token: str) -> None:
    key = stage.ask("POST", "/users/me/api-keys", token, name="k", permissions=["wallet:read"]).json()["api_key"]

    with RawClient(stage.gateway.port) as client:
        answer = client.ask("POST", "/rdp/tickets", f"X-API-Key: {key}", body=b"")

    assert (answer.status, answer.code) == (403, "2004")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("ticket=nonsense", 401, "2003"),
        ("ticket=", 401, "2003"),
        ("ticket={ticket}&ticket={ticket}", 400, "1001"),
        ("%74icket={ticket}&ticket={ticket}", 400, "1001"),
    ],
)
def test_a_malformed_ticket_is_refused(stage: Stage, connect: Connect, query: str, status: int, code: str) -> None:
    answer = connect().open(f"{PATH}?{query.format(ticket=stage.ticket(stage.tokens[0]))}")

    assert (answer.status, answer.code) == (status, code)
    assert not stage.cluster.requests


def test_a_ticket_beside_another_credential_is_refused(stage: Stage, connect: Connect, token: str) -> None:
    answer = connect(token).open(f"{PATH}?ticket={stage.ticket(token)}")

    assert answer.status == 400


@pytest.mark.parametrize("fields", [(), ("Upgrade: websocket", "Connection: Upgrade")])
def test_a_ticket_is_no_credential_for_any_other_request(
    stage: Stage, connect: Connect, token: str, fields: tuple[str, ...]
) -> None:
    fields = (*fields, "X-Lucid-Handshake: 1")

    answer = connect().ask("GET", f"{PATH}?ticket={stage.ticket(token)}", *fields)

    assert answer.status == (501 if len(fields) > 1 else 401)
    assert not stage.cluster.requests


def test_a_ticket_is_in_no_log_and_not_at_the_cluster(stage: Stage, connect: Connect, token: str) -> None:
    used, unused = stage.ticket(token), stage.ticket(token)
    accepted = connect().open(f"{PATH}?ticket={used}")
    refused = connect().open(f"{PATH}?ticket={used}")
    connect().open(f"/wallets?ticket={unused}")
    stage.cluster.hang_up()
    wait_until(lambda: len(stage.lines(accepted.header("X-Request-ID"))) == 2)
    wait_until(lambda: stage.lines(refused.header("X-Request-ID")))

    for ticket in (used, unused):
        secret = secret_of(ticket)
        assert secret not in stage.logs()
        assert secret not in str(stage.cluster.request)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_path_of_tickets_is_the_gateways_own(stage: Stage, token: str, method: str) -> None:
    stage.cluster.on_head = None
    stage.gateway.warm(token, PATH)
    stage.cluster.forget()

    answer = stage.ask(method, "/rdp/tickets", token)

    assert (answer.status, answer.code) == (405, "4003")
    assert not stage.cluster.requests


# Refused handshakes.


def test_a_handshake_without_a_credential_is_refused(stage: Stage, connect: Connect) -> None:
    answer = connect().open(PATH)

    assert (answer.status, answer.code) == (401, "2001")
    assert answer.header("WWW-Authenticate") == "Bearer"
    assert not stage.cluster.requests


def test_a_handshake_without_the_permission_is_refused(stage: Stage, connect: Connect, token: str) -> None:
    key = stage.ask("POST", "/users/me/api-keys", token, name="k", permissions=["wallet:read"]).json()["api_key"]

    answer = connect().open(PATH, f"X-API-Key: {key}")

    assert (answer.status, answer.code) == (403, "2004")
    assert not stage.cluster.requests


@pytest.mark.parametrize("path", ["/wallets", "/chain/info", "/nodes/1", "/users/me", "/rdp/tickets", "/nowhere", ""])
def test_every_other_path_has_no_websockets(stage: Stage, connect: Connect, token: str, path: str) -> None:
    answer = connect(token).open(path)

    assert (answer.status, answer.code) == (501, "4003")


def test_a_route_that_was_taken_off_the_edge_has_no_websockets(stage: Stage, token: str) -> None:
    def status() -> int:
        with WebSocket(stage.gateway.port, token) as client:
            return client.open(PATH).status

    shell(stage.gateway, TAKE_OFF.format("rdp/{rest*}"))
    try:
        wait_until(lambda: status() == 501)
    finally:
        shell(stage.gateway, PUT_BACK.format("rdp/{rest*}"))
    wait_until(lambda: status() == 101)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GET ", "POST "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: A"),
        ("Sec-WebSocket-Key: ", "X: "),
        ("keep-alive, Upgrade", "keep-alive"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 1"),
    ],
)
def test_a_malformed_handshake_is_refused(stage: Stage, connect: Connect, token: str, before: str, after: str) -> None:
    client = connect(token)
    head = client.head("GET", PATH, *client.fields).decode()
    assert before in head

    client.send(head.replace(before, after, 1).encode())

    assert client.read_answer().status == 501
    assert not stage.cluster.requests


def test_the_gateway_takes_a_request_for_a_handshake_of_the_edge_with_its_secret_alone(
    stage: Stage, token: str
) -> None:
    answers = []
    request = WebSocket(stage.gateway.port, token)
    with request, Wire(socket.socket(socket.AF_UNIX)) as wire:
        wire.sock.connect(stage.gateway.env["GATEWAY_SOCKET"])
        for secret in ("", "wrong", SECRET):
            fields = (*request.fields, "X-Lucid-Handshake: 1", f"X-Lucid-Edge: {secret}")
            wire.send(request.head("GET", PATH, *fields))
            answers.append(wire.read_answer())

    assert [answer.status for answer in answers] == [501, 501, 204]
    assert [len(answer.all("X-Lucid-Caller")) for answer in answers] == [0, 0, 1]
    assert not stage.cluster.requests


def test_a_handshake_over_the_limit_is_refused_and_each_counts_once() -> None:
    limits = {"RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": "1", "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": "2"}
    with running_stage(**limits) as stage:
        stage.cluster.on_head = echoing
        token = stage.tokens[0]
        answers = []
        for _ in range(4):
            with WebSocket(stage.gateway.port, token) as client:
                answers.append(client.open(PATH))

    assert [answer.status for answer in answers] == [101, 101, 101, 429]
    assert [answer.header("X-RateLimit-Limit") for answer in answers] == ["1"] * 4
    assert answers[3].header("Retry-After")


def test_without_the_cluster_neither_path_nor_tickets_exist() -> None:
    with running_stage(RDP_SERVICES_URL="") as stage:
        token = stage.tokens[0]
        with WebSocket(stage.gateway.port, token) as client:
            answer = client.open(PATH)
        ticket = stage.ask("POST", "/rdp/tickets", token)

    assert (answer.status, answer.code) == (404, "4001")
    assert (ticket.status, ticket.code) == (404, "4001")


def test_an_instance_that_is_down_is_answered_as_ever() -> None:
    with (
        running_stage(RDP_SERVICES_URL=f"http://127.0.0.1:{free_port()}") as stage,
        WebSocket(stage.gateway.port, stage.tokens[0]) as client,
    ):
        answer = client.open(PATH)

    assert (answer.status, answer.code) == (502, "5005")


# What ends a tunnel.


@contextlib.contextmanager
def locked(stage: Stage, email: str) -> Iterator[None]:
    """Lock the account meanwhile."""
    stage.gateway.manage("lock_user", "--email", email)
    try:
        yield
    finally:
        stage.gateway.manage("unlock_user", "--email", email)


def test_logging_out_ends_the_tunnel_and_no_other(stage: Stage, connect: Connect, token: str, login: str) -> None:
    other, client = tunnel(connect, token), tunnel(connect, login)
    stage.ask("POST", "/auth/logout", login)

    assert ends(client)
    assert other.echo(b"still here") == b"still here"
    wait_until(lambda: [line for line in stage.gateway.access_lines() if line["reason"] == "token_revoked"])


@pytest.mark.quiet
def test_a_revoked_token_ends_its_tunnel_within_five_seconds(stage: Stage, connect: Connect, login: str) -> None:
    client = tunnel(connect, login)
    stage.ask("POST", "/auth/logout", login)
    revoked_at = time.monotonic()

    assert ends(client)
    assert time.monotonic() - revoked_at < 5


def test_a_lock_by_staff_ends_the_tunnel(stage: Stage, connect: Connect) -> None:
    client = tunnel(connect, stage.gateway.issue_token(OTHER))
    with locked(stage, OTHER):
        assert ends(client)


def test_a_new_epoch_ends_the_tunnel(stage: Stage, connect: Connect) -> None:
    client = tunnel(connect, stage.gateway.issue_token(OTHER))
    stage.gateway.manage("revoke_tokens", "--email", OTHER)

    assert ends(client)


def test_the_revocation_of_an_api_key_ends_the_tunnel(stage: Stage, connect: Connect, token: str) -> None:
    made = stage.ask("POST", "/users/me/api-keys", token, name="k", permissions=["rdp:read"]).json()
    client = connect()
    assert client.open(PATH, f"X-API-Key: {made['api_key']}").status == 101

    stage.ask("DELETE", f"/users/me/api-keys/{made['key_id']}", token)

    assert ends(client)


def test_the_end_of_the_token_ends_the_tunnel(stage: Stage, connect: Connect, token: str) -> None:
    ticket, redis = stage.ticket(token), stage.gateway.redis()
    key, at = ticket_key(stage), int(time.time()) + 20
    redis.set(key, json.dumps(json.loads(redis.get(key)) | {"expires_at": at}))  # type: ignore[arg-type]
    client = connect()
    assert client.open(f"{PATH}?ticket={ticket}").status == 101

    assert ends(client)
    assert time.time() >= at


def test_a_rule_for_the_caller_ends_the_tunnel_so_that_the_gateway_decides_anew(
    stage: Stage, connect: Connect, token: str
) -> None:
    admin = stage.gateway.issue_token("admin@lucid.test")
    client = tunnel(connect, token)
    user_id = stage.ask("GET", "/users/me", token).json()["user_id"]
    answer = stage.ask("POST", "/admin/limits", admin, tier="authenticated", subject=f"user:{user_id}", limit=7)
    assert answer.status == 201, answer

    assert ends(client)


def test_a_tunnel_ends_after_the_longest_time() -> None:
    with running_stage(EDGE_TUNNEL_MAX_SECONDS="3") as stage, WebSocket(stage.gateway.port, stage.tokens[0]) as client:
        opened_at = time.monotonic()
        assert client.open(PATH).status == 101
        assert ends(client)
        assert time.monotonic() - opened_at >= 3


def test_an_open_tunnel_needs_no_gateway_and_a_new_one_does() -> None:
    with running_stage() as stage, WebSocket(stage.gateway.port, stage.tokens[0]) as old:
        assert old.open(PATH).status == 101
        stage.gateway.process.terminate()
        stage.gateway.process.wait()

        with WebSocket(stage.gateway.port, stage.tokens[0]) as new:
            answer = new.open(PATH)

        assert (answer.status, answer.code) == (503, "5008")
        assert old.echo(b"still here") == b"still here"


def test_a_tunnel_outlives_a_short_outage_of_redis() -> None:
    with (
        running_redis() as redis,
        running_stage(REDIS_URL=redis.url, REDIS_TIMEOUT_SECONDS="0.3") as stage,
        WebSocket(stage.gateway.port, stage.tokens[0]) as client,
    ):
        assert client.open(PATH).status == 101
        redis.process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 8  # several looks
        while time.monotonic() < until:
            assert client.echo(b"still here") == b"still here"
        redis.process.send_signal(signal.SIGCONT)
        wait_until(lambda: stage.ask("POST", "/auth/logout", stage.tokens[0]).status == 200)

        assert ends(client)


def test_a_tunnel_ends_when_redis_has_been_silent_for_too_long() -> None:
    with (
        running_redis() as redis,
        running_stage(REDIS_URL=redis.url, REDIS_TIMEOUT_SECONDS="0.3") as stage,
    ):
        assert stage.gateway.edge_log is not None
        assert stage.gateway.nginx is not None
        path = stage.gateway.edge_log.parent / "lua" / "lucid" / "tunnel.lua"
        assert "UNCHECKED_SECONDS = 60\n" in path.read_text()
        path.write_text(path.read_text().replace("UNCHECKED_SECONDS = 60\n", "UNCHECKED_SECONDS = 6\n"))
        reload_edge(stage.gateway)
        with WebSocket(stage.gateway.port, stage.tokens[0]) as client:
            assert client.open(PATH).status == 101
            redis.process.send_signal(signal.SIGSTOP)
            try:
                assert client.echo(b"still here") == b"still here"
                assert ends(client)
            finally:
                redis.process.send_signal(signal.SIGCONT)

        wait_until(lambda: '"reason":"redis_unavailable"' in stage.logs())


def test_an_instance_that_does_not_answer_the_handshake_in_time_is_504() -> None:
    with running_stage() as stage:
        shorten_timeouts(stage.gateway, read=READ_SECONDS)
        stage.cluster.on_head = lambda visit: None
        with WebSocket(stage.gateway.port, stage.tokens[0]) as client:
            answer = client.open(PATH)

        assert (answer.status, answer.code) == (504, "5006")
        (line,) = wait_until(
            lambda: [one for one in stage.lines(answer.header("X-Request-ID")) if one["plane"] == "edge"]
        )
        assert (line["status"], line["reason"], line["attempts"]) == (504, "instance_timeout", 1)
        assert len(stage.cluster.requests) == 1


def test_a_reload_of_the_edge_keeps_the_tunnel_and_its_end(stage: Stage, connect: Connect, login: str) -> None:
    assert stage.gateway.nginx is not None
    client, workers = tunnel(connect, login), set(front_workers(stage.gateway))
    stage.gateway.nginx.send_signal(signal.SIGHUP)
    wait_until(lambda: set(front_workers(stage.gateway)) - workers)
    assert client.echo(b"still here") == b"still here"

    stage.ask("POST", "/auth/logout", login)

    assert ends(client)
    wait_until(lambda: not workers.intersection(front_workers(stage.gateway)))
