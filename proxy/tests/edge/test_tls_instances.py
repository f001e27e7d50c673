"""Instances with TLS behind the edge: whom it trusts, and that everything else is as without TLS."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.tests.edge.conftest import Stage
from testing.gateway import running_gateway
from testing.http.cluster import RawCluster, Visit, saying, saying_and_closing
from testing.http.messages import Message
from testing.http.websocket import WebSocket, echoing
from testing.servers import free_port
from testing.tls import TlsServer, make_certificate
from testing.waiting import wait_until

NAME = "localhost"
BODY = os.urandom(3_000_000)
PLANES = [("/wallets/1", "edge"), ("/wallets/1/", "gateway")]  # a slash at the end is for the gateway


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "cluster.pem", NAME)


@dataclass
class Scene(Stage):
    """A stage whose wallets and desktops are behind TLS."""

    front: TlsServer


@contextlib.contextmanager
def running_scene(
    certificate: Path, *, trusted: Path | None = None, url: str = "https://localhost:{}"
) -> Iterator[Scene]:
    """Run a gateway and its edge, which trust this certificate, or the other one, in front of TLS."""
    with RawCluster() as wallets, TlsServer(wallets.port, certificate).running() as front:
        urls = {name: url.format(front.port) for name in ("TRON_PAYMENT_URL", "RDP_SERVICES_URL")}
        settings = {"SSL_CERT_FILE": str(trusted or certificate), "RATE_LIMIT_ENABLED": "false"}
        with running_gateway(edge=True, WEB_CONCURRENCY="1", **urls, **settings) as gateway:
            yield Scene(gateway, wallets, wallets, gateway.issue_token("demo@lucid.test"), front)


@pytest.fixture(scope="module")
def whole_scene(certificate: Path) -> Iterator[Scene]:
    with running_scene(certificate) as scene:
        yield scene


@pytest.fixture
def scene(whole_scene: Scene) -> Scene:
    """The scene; the edge knows the user, the cluster has seen nothing, and no connection to it is open."""
    whole_scene.wallets.forget()
    whole_scene.gateway.warm(whole_scene.token, "/wallets")
    whole_scene.wallets.forget()
    wait_until(lambda: whole_scene.front.open == 0)
    whole_scene.front.names.clear()
    return whole_scene


def test_the_edge_forwards_to_an_instance_with_tls(scene: Scene) -> None:
    answers = [scene.ask() for _ in range(3)]

    assert [(answer.status, answer.body, scene.plane(answer)) for answer in answers] == [(200, b"ok", "edge")] * 3
    assert scene.wallets.requests[0].header("Host") == f"{NAME}:{scene.front.port}"
    assert scene.front.names == [NAME]  # one handshake


def test_clusters_at_one_address_share_no_connection(scene: Scene) -> None:
    answers = [scene.ask(path) for path in ("/wallets", "/rdp/servers/7")]

    assert [(answer.status, scene.plane(answer)) for answer in answers] == [(200, "edge")] * 2
    assert len(scene.front.names) == 2


@pytest.mark.parametrize(("path", "plane"), PLANES)
def test_bodies_stream_both_ways(scene: Scene, path: str, plane: str) -> None:
    def behave(visit: Visit) -> None:
        digest = hashlib.sha256(visit.request.body).hexdigest().encode()
        head = f"HTTP/1.1 200 OK\r\nX-Digest: {digest.decode()}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
        visit.send(head)
        visit.send(BODY)

    scene.wallets.behaviour = behave
    answer = scene.ask(path, method="PUT", body=BODY)

    assert scene.plane(answer) == plane
    assert answer.header("X-Digest") == hashlib.sha256(BODY).hexdigest()
    assert answer.body == BODY


def test_a_websocket_goes_through_tls(scene: Scene) -> None:
    scene.wallets.on_head = echoing
    with WebSocket(scene.gateway.port, scene.token) as client:
        assert client.open("/rdp/servers/7").status == 101
        assert client.echo(b"hello") == b"hello"
    assert scene.front.names


@pytest.mark.parametrize(("path", "plane"), PLANES)
def test_a_connection_that_ends_without_an_answer_is_tried_again(scene: Scene, path: str, plane: str) -> None:
    def behave(visit: Visit) -> None:
        if len(scene.wallets.requests) == 1:
            saying_and_closing()(visit)
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")(visit)

    scene.wallets.behaviour = behave
    answer = scene.ask(path)

    assert (answer.status, answer.body, scene.plane(answer)) == (200, b"again", plane)
    assert len(scene.wallets.requests) == 2


# Whom it trusts.


def verdicts(scene: Scene) -> list[tuple[str, int, str]]:
    """Return the plane, status and code of an answer by each plane, once the edge knows the user."""

    def by_edge() -> Message | None:
        answer = scene.ask()
        return answer if scene.plane(answer) == "edge" else None

    at_edge, at_gateway = wait_until(by_edge), scene.ask("/wallets/")
    return [(scene.plane(answer), answer.status, answer.code) for answer in (at_edge, at_gateway)]


@pytest.mark.parametrize("names", [["other.test"], [NAME]], ids=["of another name", "of another authority"])
def test_no_plane_trusts_an_instance_with_a_certificate(names: list[str], certificate: Path, tmp_path: Path) -> None:
    wrong = make_certificate(tmp_path / "wrong.pem", *names)
    with running_scene(wrong, trusted=wrong if names != [NAME] else certificate) as scene:
        assert verdicts(scene) == [("edge", 502, "5005"), ("gateway", 502, "5005")]
        assert scene.wallets.requests == []


def test_an_instance_that_does_not_take_part_in_tls_has_the_time_for_a_connection(certificate: Path) -> None:
    with RawCluster() as wallets, running_scene(certificate, url=f"https://{NAME}:{wallets.port}") as scene:
        assert verdicts(scene) == [("edge", 504, "5006"), ("gateway", 504, "5006")]
        assert wallets.requests == []


def test_after_an_instance_that_is_down_the_next_one_answers(certificate: Path) -> None:
    with running_scene(certificate, url=f"https://{NAME}:{free_port()},https://{NAME}:{{}}") as scene:
        answers = [scene.ask() for _ in range(8)]

        assert {answer.status for answer in answers} == {200}
        assert "edge" in {scene.plane(answer) for answer in answers}


# What nginx cannot do is for the gateway.


@pytest.mark.parametrize("url", ["https://127.0.0.1:{}", "https://localhost:{0},http://localhost:{0}"])
def test_the_gateway_serves_a_cluster_that(certificate: Path, url: str) -> None:
    with running_scene(certificate, url=url) as scene:
        answers = [scene.ask() for _ in range(5)]

        assert {scene.plane(answer) for answer in answers} == {"gateway"}
