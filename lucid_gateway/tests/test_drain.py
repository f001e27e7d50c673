"""SIGTERM: requests in progress are finished, idle connections are closed."""

import contextlib
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import gevent
import pytest

from demo.launch import running_clusters
from lucid_gateway.server.worker import GatewayWorker
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, request_bytes
from testing.servers import BIN, child, free_port
from testing.waiting import wait_until


def slow_answer(port: int, token: str) -> int:
    path = "/api/v1/chain/consensus/demo/slow?seconds=5"
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        with connection.getresponse() as response:
            response.read()
            return response.status


def test_a_request_that_has_arrived_unread_is_not_lost() -> None:
    worker = object.__new__(GatewayWorker)
    with contextlib.ExitStack() as sockets:
        pairs = [tuple(map(sockets.enter_context, socket.socketpair())) for _ in range(2)]
        (asked, client), (silent, _) = pairs
        client.sendall(b"GET / HTTP/1.1")
        worker.clients = {gevent.Greenlet(): server for server in (asked, silent)}
        worker.idle = dict.fromkeys(worker.clients, time.monotonic())
        worker.close_idle(since=time.monotonic())
        asked.setblocking(False)
        assert (asked.recv(100), silent.recv(100)) == (b"GET / HTTP/1.1", b"")
        with pytest.raises(BlockingIOError):
            asked.recv(100)


def children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def workers_of(gateway: Gateway) -> list[int]:
    return children_of(gateway.process.pid)


def test_a_stopping_gateway_serves_its_accept_queue() -> None:
    with running_gateway() as gateway, contextlib.ExitStack() as waiting:
        workers = workers_of(gateway)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        queued = [waiting.enter_context(RawClient(gateway.port, timeout=20)) for _ in range(40)]
        for connection in queued:
            connection.send(request_bytes("GET", "/api/v1/meta/health/live"))
        gateway.process.terminate()
        time.sleep(1)  # until the workers have got the signal, too
        for worker in workers:
            os.kill(worker, signal.SIGCONT)

        answers = [connection.read_answer() for connection in queued]
        assert {(answer.status, answer.header("Connection")) for answer in answers} == {(200, "close")}
        assert gateway.process.wait(20) == 0
        assert '"level":"error"' not in gateway.log.read_text()


def test_a_recently_used_connection_is_served_once_more_after_sigterm() -> None:
    live = request_bytes("GET", "/api/v1/meta/health/live")
    with running_gateway(WEB_CONCURRENCY="1") as gateway, RawClient(gateway.port) as kept:
        kept.send(live)
        assert kept.read_answer().header("Connection") == "keep-alive"
        gateway.process.terminate()
        time.sleep(1.5)  # idle connections were closed within one second
        kept.send(live)
        answer = kept.read_answer()

        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert gateway.process.wait(20) == 0


def test_a_worker_that_gets_sigterm_while_it_starts_does_not_hang() -> None:
    with running_gateway(WEB_CONCURRENCY="1") as gateway:
        for _ in range(3):
            before = set(workers_of(gateway))
            gateway.process.send_signal(signal.SIGHUP)
            youngest = wait_until(lambda old=before: set(workers_of(gateway)) - old).pop()
            os.kill(youngest, signal.SIGTERM)
            wait_until(lambda pid=youngest: pid not in workers_of(gateway))


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_a_gateway_that_gets_sigterm_while_it_starts_stops(tmp_path: Path, seconds: float) -> None:
    env = os.environ | {"HTTP_PORT": str(free_port()), "WEB_CONCURRENCY": "2"}
    command = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
    with child(command, tmp_path / "log", env) as process:
        wait_until(lambda: len(children_of(process.pid)) == 2)
        time.sleep(seconds)
        process.terminate()
        assert process.wait(20) == 0  # one that hangs is killed after 30 s


def test_a_stopping_gateway_finishes_requests_and_does_not_wait_for_idle_connections() -> None:
    with running_clusters() as clusters, running_gateway(BLOCKCHAIN_CORE_URL=clusters.blockchain_core) as gateway:
        token = gateway.issue_token("demo@lucid.test")
        with RawClient(gateway.port) as idle, ThreadPoolExecutor() as pool:
            assert idle.ask("GET", "/meta/health/live").status == 200
            answer = pool.submit(slow_answer, gateway.port, token)
            time.sleep(2)
            started = time.monotonic()
            gateway.process.terminate()

            assert gateway.process.wait(20) == 0
            assert time.monotonic() - started < 10  # keep-alive would be 15 seconds
            assert answer.result() == 200
            assert '"level":"error"' not in gateway.log.read_text()
