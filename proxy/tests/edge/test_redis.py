"""How the edge finds and trusts Redis: by TLS, by its name, and with a Sentinel group through a failover."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from redis import Redis

from lucid_gateway.kernel.env import ConfigurationError
from lucid_gateway.policy import keys
from proxy.edge import redis_settings as settings
from proxy.tests.edge.conftest import Stage
from proxy.tests.edge.test_failing_instances import reload_edge
from proxy.tests.edge.test_faults import Fire
from testing.edge import configure
from testing.gateway import running_gateway
from testing.http.cluster import RawCluster
from testing.sentinel import SentinelGroup, running_sentinel_group
from testing.servers import RedisServer, running_redis
from testing.tls import TlsServer, make_certificate
from testing.waiting import wait_until

NAME = "localhost"
MANY = {
    f"RATE_LIMIT_{name}": "100000"
    for name in ("REQUESTS_PER_MINUTE", "AUTHENTICATED_REQUESTS_PER_MINUTE", "AUTHENTICATED_BURST_SIZE", "DAILY_QUOTA")
}


@contextlib.contextmanager
def stage_on(url: str, **more: str) -> Iterator[Stage]:
    """Run a gateway with an edge on the Redis with this URL; the edge does not know the user yet."""
    with RawCluster() as wallets:
        options = {"TRON_PAYMENT_URL": wallets.url, "WEB_CONCURRENCY": "1", "REDIS_TIMEOUT_SECONDS": "0.3"}
        with running_gateway(edge=True, REDIS_URL=url, **options, **more) as gateway:
            yield Stage(gateway, wallets, wallets, gateway.issue_token("demo@lucid.test"))


def edge_errors(stage: Stage) -> str:
    assert stage.gateway.edge_log is not None
    return (stage.gateway.edge_log.parent / "error.log").read_text()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "redis.pem", NAME)


def test_the_edge_decides_with_a_redis_behind_tls(certificate: Path) -> None:
    with (
        running_redis() as redis,
        TlsServer(redis.port, certificate).running() as front,
        stage_on(f"rediss://{NAME}:{front.port}/3?ssl_ca_certs={certificate}") as stage,
    ):
        stage.gateway.warm(stage.token, "/wallets")

        assert [stage.plane(stage.ask()) for _ in range(3)] == ["edge"] * 3
        assert set(front.names) == {NAME}
        stage.gateway.manage("revoke_tokens", "--email", "demo@lucid.test")
        assert stage.ask().code == "2003"


def test_a_redis_that_asks_for_a_certificate_gets_that_in_its_url(certificate: Path, tmp_path: Path) -> None:
    client = make_certificate(tmp_path / "client.pem", "edge")
    shown = f"ssl_ca_certs={certificate}&ssl_certfile={client}&ssl_keyfile={client}"
    with (
        running_redis() as redis,
        TlsServer(redis.port, certificate, clients=client).running() as front,
        stage_on(f"rediss://{NAME}:{front.port}/0?{shown}") as stage,
    ):
        stage.gateway.warm(stage.token, "/wallets")


@pytest.mark.parametrize("names", [["other.test"], [NAME]], ids=["of another name", "of another authority"])
def test_the_edge_trusts_no_redis_with_a_certificate(names: list[str], certificate: Path, tmp_path: Path) -> None:
    wrong = make_certificate(tmp_path / "wrong.pem", *names)
    trusted = wrong if names != [NAME] else certificate
    with (
        running_redis() as redis,
        TlsServer(redis.port, wrong).running() as front,
        stage_on(f"rediss://{NAME}:{front.port}/0?ssl_ca_certs={trusted}") as stage,
    ):
        answers = [stage.ask() for _ in range(3)]

        assert [(answer.status, stage.plane(answer)) for answer in answers] == [(200, "gateway")] * 3
        wait_until(lambda: "certificate" in edge_errors(stage))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rediss://192.0.2.1:6379/0", "expects the name in the certificate"),
        ("rediss://redis/0?ssl_cert_reqs=none", "has the option ssl_cert_reqs"),
        ("rediss://redis/0?ssl_certfile=/nowhere.pem", "cannot read /nowhere.pem"),
    ],
)
def test_what_the_edge_cannot_do_is_refused_in_one_line(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings.redis_settings(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "database": 0, "tls": False}),
        ("redis://user:p%40ss@[::1]:7/2", {"host": "::1", "port": 7, "username": "user", "password": "p@ss"}),
        ("rediss://redis:6380/1", {"host": "redis", "tls": True, "database": 1}),
        ("unix:///run/redis.sock?db=5", {"socket": "/run/redis.sock", "database": 5}),
        (
            "sentinel://:secret@one:26379,[::1]:2/lucid/4",
            {"password": "secret", "group": "lucid", "database": 4,
             "sentinels": [{"host": "one", "port": 26379}, {"host": "::1", "port": 2}]},
        ),
    ],
)  # fmt: skip
def test_the_parts_of_a_url(url: str, expected: dict[str, object]) -> None:
    found = settings.redis_settings(url)
    assert {name: found[name] for name in expected} == expected


def test_the_name_servers_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "NAME_SERVERS", tmp_path / "resolv.conf")
    assert settings.name_servers() == ""
    (tmp_path / "resolv.conf").write_text("search x.test\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    assert settings.name_servers() == "192.0.2.1 [2001:db8::1]"


# A name


@contextlib.contextmanager
def name_server(asked: list[bytes]) -> Iterator[int]:
    """Yield the port of a name server that has 127.0.0.1 for every name; `asked` gets the questions (RFC 1035)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                query, client = sock.recvfrom(512)
                question = query[12 : query.index(0, 12) + 5]
                asked.append(question)
                records = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if question[-4:] == b"\0\1\0\1" else b""
                sock.sendto(
                    query[:2] + b"\x81\x80\0\1\0" + bytes([bool(records)]) + bytes(4) + question + records, client
                )

        threading.Thread(target=answer, daemon=True).start()
        yield sock.getsockname()[1]


def test_a_redis_is_found_by_its_name() -> None:
    asked: list[bytes] = []
    with running_redis() as redis, stage_on(redis.url) as stage, name_server(asked) as port:
        gateway = stage.gateway
        assert gateway.edge_log is not None
        env = {**gateway.env, "REDIS_URL": f"redis://redis.test:{redis.port}/0"}
        configure(gateway.edge_log.parent, gateway.port, env, f"--resolver=127.0.0.1:{port}")
        reload_edge(gateway)

        gateway.warm(stage.token, "/wallets")
        assert b"\5redis\4test\0\0\1\0\1" in asked


# Sentinel


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    with running_sentinel_group() as group:
        yield group


@contextlib.contextmanager
def stage_on_group(group: SentinelGroup) -> Iterator[Stage]:
    with stage_on(group.url, **MANY) as stage:
        stage.gateway.warm(stage.token, "/wallets")
        yield stage


def counted(stage: Stage, server: RedisServer) -> int:
    """Return how many requests of the user the server has counted."""
    user = jwt.decode(stage.token, options={"verify_signature": False})["user_id"]
    with Redis(port=server.port) as redis:
        return int(redis.hget(keys.quota(keys.user(user)), "n") or 0)


def decides_again(stage: Stage) -> None:
    wait_until(lambda: stage.plane(stage.ask()) == "edge", every=0.1)


def test_after_a_failover_the_edge_decides_with_the_new_primary_and_counts_each_request(group: SentinelGroup) -> None:
    with stage_on_group(group) as stage:
        with Fire(stage, each=5) as fire:
            group.first.process.kill()
            group.wait_for_failover()
            decides_again(stage)
        assert fire.found.keys() == {"200"}

        before = counted(stage, group.second)
        answers = [stage.ask() for _ in range(20)]

        assert {stage.plane(answer) for answer in answers} == {"edge"}
        assert counted(stage, group.second) - before == 20


def test_a_token_revoked_before_a_failover_is_refused_throughout(group: SentinelGroup) -> None:
    with stage_on_group(group) as stage:
        assert stage.ask("/auth/logout", method="POST").status == 200
        with Fire(stage, each=5) as fire:
            group.first.process.kill()
            group.wait_for_failover()
            token = stage.taught("operator@lucid.test")  # the edge decides again

        assert fire.found.keys() == {"401"}
        assert stage.ask().status == 401
        assert stage.plane(stage.ask(token=token)) == "edge"


def test_a_hung_primary_that_comes_back_is_not_believed(group: SentinelGroup) -> None:
    with stage_on_group(group) as stage:
        os.kill(group.first.process.pid, signal.SIGSTOP)
        group.wait_for_failover()
        decides_again(stage)
        assert stage.ask("/auth/logout", method="POST").status == 200
        os.kill(group.first.process.pid, signal.SIGCONT)

        assert {stage.ask().status for _ in range(20)} == {401}


def test_a_planned_failover_moves_the_edge_too(group: SentinelGroup) -> None:
    with stage_on_group(group) as stage:
        group.fail_over()
        group.wait_for_failover()
        wait_until(lambda: "Sentinel names another primary" in edge_errors(stage))
        decides_again(stage)

        before = counted(stage, group.second)
        assert stage.plane(stage.ask()) == "edge"
        assert counted(stage, group.second) == before + 1
