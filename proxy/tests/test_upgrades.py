"""No tunnels: WebSocket and CONNECT get an error envelope, any other Upgrade is ignored (RFC 9110, section 7.8)."""

import pytest

from proxy.tests.conftest import Stage
from testing.http.client import Ask, Connect
from testing.http.cluster import RawCluster, saying

pytestmark = pytest.mark.planes

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def cluster_bytes(stage: Stage) -> int:
    """Return the number of requests, complete or not, that reached any cluster."""
    return sum(len(cluster.requests) + len(cluster.broken) for cluster in stage.clusters.values())


@pytest.mark.parametrize(
    "value",
    [
        "websocket",
        "WebSocket",
        "WEBSOCKET",
        "h2c, websocket",
        "websocket/13,h2c",
        pytest.param("\twebsocket ", marks=pytest.mark.django_plane),
    ],  # nginx refuses the tab
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_websocket_is_refused_in_any_spelling(ask: Ask, stage: Stage, value: str, version: str) -> None:
    stage.clusters["wallets"].behaviour = saying(SWITCHED)
    answer = ask("GET", "/wallets", f"Upgrade: {value}", "Connection: Upgrade", KEY, version=version)
    assert (answer.status, answer.code) == (501, "4003")
    assert cluster_bytes(stage) == 0


@pytest.mark.parametrize(
    "path",
    ["/wallets", "/wallets/x/stream", "/chain/info", "/rdp", "/nodes/1", "/users/me", "/meta/info", "/nowhere", ""],
)
@pytest.mark.parametrize("token", [None, ""])
def test_websocket_is_refused_on_every_path_with_or_without_a_token(
    ask: Ask, stage: Stage, path: str, token: str | None
) -> None:
    answer = ask("GET", path, "Upgrade: websocket", "Connection: keep-alive, Upgrade", KEY, token=token)
    assert (answer.status, answer.code) == (501, "4003")
    assert cluster_bytes(stage) == 0


def test_websocket_in_a_second_field_is_refused(ask: Ask, stage: Stage) -> None:
    answer = ask("GET", "/wallets", "Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade")
    assert (answer.status, answer.code) == (501, "4003")
    assert cluster_bytes(stage) == 0


def test_frames_after_a_refused_websocket_reach_no_cluster(connect: Connect, stage: Stage) -> None:
    client = connect()
    head = client.head("GET", "/wallets", "Upgrade: websocket", "Connection: Upgrade", KEY)
    client.send(head + b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n")
    assert client.read_answer().status == 501
    assert client.read_answer().status == 400
    assert client.is_closed()
    assert cluster_bytes(stage) == 0


@pytest.mark.parametrize(
    "fields", [H2C, ("Upgrade: foo/2",), ("Connection: Upgrade", "Upgrade: TLS/1.0, h2c"), ("Upgrade: ",)]
)
def test_any_other_upgrade_is_ignored_and_not_forwarded(
    connect: Connect, wallets: RawCluster, fields: tuple[str, ...]
) -> None:
    client = connect()
    for _ in range(2):
        answer = client.ask("POST", "/wallets", *fields, body=b"12345")
        assert (answer.status, answer.body, answer.all("upgrade")) == (200, b"ok", [])
    assert not {name for name, _ in wallets.requests[0].fields} & {"connection", "upgrade", "http2-settings"}


def test_an_h2c_preface_is_not_http_1(connect: Connect, stage: Stage) -> None:
    client = connect()
    client.send(PREFACE)
    answer = client.read_answer()
    assert (answer.status, answer.code) == (400, "1001")
    assert cluster_bytes(stage) == 0


@pytest.mark.parametrize(
    "target", ["localhost:80", "127.0.0.1:{port}", "/api/v1/wallets", "http://localhost/", "evil.test:443"]
)
def test_connect_is_refused_and_the_connection_closed(connect: Connect, stage: Stage, target: str) -> None:
    client = connect()
    target = target.format(port=stage.clusters["wallets"].port)
    client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode() + client.head("GET", "/wallets"))
    answer = client.read_answer()
    assert (answer.status, answer.code) == (501, "4003")
    assert client.is_closed()
    assert cluster_bytes(stage) == 0
