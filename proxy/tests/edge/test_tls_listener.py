"""The edge's own TLS, for clients."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.tests.conftest import run, tool
from proxy.tests.edge.conftest import Stage
from proxy.tests.edge.test_failing_instances import reload_edge
from testing.edge import configure
from testing.gateway import running_gateway
from testing.http.client import RawClient
from testing.http.cluster import RawCluster
from testing.http.websocket import WebSocket, echoing
from testing.servers import free_port
from testing.tls import make_certificate

ISSUED = "X-User-Id: somebody-else"


@dataclass
class Scene(Stage):
    """A stage whose edge listens with TLS, too."""

    tls_port: int
    certificate: Path

    def connect(self, *protocols: str) -> ssl.SSLSocket:
        """Return a connection with TLS, on which these protocols were offered."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        plain = socket.create_connection(("127.0.0.1", self.tls_port), timeout=30)
        return context.wrap_socket(plain, server_hostname="localhost")

    def secure(self) -> RawClient:
        """Return a client on a connection with TLS."""
        client = RawClient(self.gateway.port, self.token)
        client.sock.close()
        client.sock = self.connect()
        return client

    def curl(self, path: str, *options: str) -> list[str]:
        """Return the lines of an answer over HTTP/2, its head included."""
        result = run(
            tool("curl"), "-sS", "-i", "--http2", "--cacert", str(self.certificate), "-H",
            f"Authorization: Bearer {self.token}", *options, f"https://localhost:{self.tls_port}/api/v1{path}",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    certificate = make_certificate(tmp_path_factory.mktemp("tls") / "edge.pem", "localhost")
    with RawCluster() as wallets:
        settings = {"TRON_PAYMENT_URL": wallets.url, "RDP_SERVICES_URL": wallets.url, "RATE_LIMIT_ENABLED": "false"}
        with running_gateway(edge=True, **settings) as gateway:
            port = free_port()
            env = {**gateway.env, "SSL_CERT_PATH": str(certificate), "SSL_KEY_PATH": str(certificate)}
            assert gateway.edge_log is not None
            configure(gateway.edge_log.parent, gateway.port, env, f"--listen-tls=127.0.0.1:{port}")
            reload_edge(gateway)
            yield Scene(gateway, wallets, wallets, gateway.issue_token("demo@lucid.test"), port, certificate)


@pytest.fixture(autouse=True)
def quiet_cluster(scene: Scene) -> None:
    """Let the edge know the user, and the cluster no request."""
    scene.wallets.forget()
    scene.gateway.warm(scene.token, "/wallets")
    scene.wallets.forget()


@pytest.mark.parametrize(("path", "plane"), [("/wallets", "edge"), ("/wallets/", "gateway")])
def test_a_cluster_learns_that_the_client_used_https(scene: Scene, path: str, plane: str) -> None:
    with scene.secure() as client:
        answer = client.ask("GET", path)

    assert (answer.status, scene.plane(answer)) == (200, plane)
    assert scene.wallets.request.all("X-Forwarded-Proto") == ["https"]


def test_a_client_cannot_say_which_scheme_it_used(scene: Scene) -> None:
    with scene.secure() as client:
        client.ask("GET", "/wallets", "X-Forwarded-Proto: http")
    scene.ask("/wallets", "X-Forwarded-Proto: https")

    assert [request.header("X-Forwarded-Proto") for request in scene.wallets.requests] == ["https", "http"]


def test_requests_of_http_2_are_served_by_the_gateway(scene: Scene) -> None:
    lines = scene.curl("/wallets?a=1", "-H", ISSUED, "-H", "Cookie: a=1; b=2")

    assert lines[0].strip() == "HTTP/2 200"
    assert lines[-1] == "ok"
    request = scene.wallets.request
    assert request.start == "GET /api/v1/wallets?a=1 HTTP/1.1"
    assert request.all("X-Forwarded-Proto") == ["https"]
    assert "somebody-else" not in request.all("X-User-Id")


def test_bodies_and_errors_pass_over_http_2(scene: Scene) -> None:
    assert scene.curl("/wallets", "-d", "{}", "-H", "Content-Type: application/json")[0].strip() == "HTTP/2 200"
    assert scene.wallets.request.body == b"{}"
    assert scene.curl("/nowhere")[0].strip() == "HTTP/2 404"
    assert any("LUCID_ERR_4001" in line for line in scene.curl("/nowhere"))


@pytest.mark.parametrize("way", ["secure", "plain"])
def test_headers_that_are_too_large_get_431(scene: Scene, way: str) -> None:
    with scene.secure() if way == "secure" else RawClient(scene.gateway.port, scene.token) as client:
        answer = client.ask("GET", "/wallets", "X-Large: " + "x" * 20_000)

    assert (answer.status, answer.code) == (431, "1001")
    assert answer.json()["error"]["message"] == "The request headers are too large"


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_both_protocols_are_offered(scene: Scene, protocol: str) -> None:
    with scene.connect(protocol) as client:
        assert client.selected_alpn_protocol() == protocol


def test_plain_http_on_the_tls_port_gets_400_in_the_envelope(scene: Scene) -> None:
    with RawClient(scene.tls_port) as client:
        answer = client.ask("GET", "/wallets")

    assert (answer.status, answer.code) == (400, "1001")
    assert answer.json()["error"]["message"] == "Plain HTTP was sent to the HTTPS port"


def test_a_cipher_without_forward_secrecy_is_refused(scene: Scene) -> None:
    context = ssl.create_default_context(cafile=str(scene.certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA")
    with socket.create_connection(("127.0.0.1", scene.tls_port), timeout=30) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_tls_1_1_is_refused(scene: Scene) -> None:
    context = ssl.create_default_context(cafile=str(scene.certificate))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", scene.tls_port), timeout=30) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_tunnel_of_a_tls_client_passes_messages(scene: Scene) -> None:
    scene.wallets.on_head = echoing
    with WebSocket(scene.gateway.port, scene.token) as client:
        client.sock.close()
        client.sock = scene.connect()
        assert client.open("/rdp/servers/7").status == 101
        payload = b"x" * 300_000
        assert client.echo(payload) == payload


def test_a_tunnel_of_a_tls_client_ends_with_its_credential(scene: Scene) -> None:
    scene.wallets.on_head = echoing
    token = scene.gateway.issue_token("operator@lucid.test")
    with WebSocket(scene.gateway.port, token) as client:
        client.sock.close()
        client.sock = scene.connect()
        assert client.open("/rdp/servers/7").status == 101
        scene.gateway.manage("revoke_tokens", "--email", "operator@lucid.test")
        client.sock.settimeout(60)
        assert client.is_closed()
