"""SIGTERM: what is under way is finished, what is idle is closed."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import gevent
import pytest

from demo.launch import running_clusters
from lucid_gateway.server.worker import GatewayWorker
from testing.gateway import running_gateway


def slow_answer(port: int, token: str) -> int:
    path = "/api/v1/chain/consensus/demo/slow?seconds=5"
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        with connection.getresponse() as response:
            response.read()
            return response.status


def test_a_request_that_is_there_but_not_read_yet_is_not_shut_out() -> None:
    worker = object.__new__(GatewayWorker)
    with contextlib.ExitStack() as sockets:
        pairs = [tuple(map(sockets.enter_context, socket.socketpair())) for _ in range(2)]
        (asked, client), (silent, _) = pairs
        client.sendall(b"GET / HTTP/1.1")
        worker.clients = {gevent.Greenlet(): server for server in (asked, silent)}
        worker.idle = set(worker.clients)
        worker.close_idle()
        asked.setblocking(False)
        assert (asked.recv(100), silent.recv(100)) == (b"GET / HTTP/1.1", b"")
        with pytest.raises(BlockingIOError):
            asked.recv(100)


def test_a_stopped_gateway_finishes_requests_and_does_not_wait_for_idle_connections() -> None:
    with running_clusters() as clusters, running_gateway(BLOCKCHAIN_CORE_URL=clusters.blockchain_core) as gateway:
        token = gateway.issue_token("demo@lucid.test")
        with socket.create_connection(("127.0.0.1", gateway.port)) as idle, ThreadPoolExecutor() as pool:
            idle.sendall(b"GET /api/v1/meta/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")
            answer = pool.submit(slow_answer, gateway.port, token)
            time.sleep(2)
            started = time.monotonic()
            gateway.process.terminate()

            assert gateway.process.wait(20) == 0
            assert time.monotonic() - started < 10  # keep-alive would be 15 seconds
            assert answer.result() == 200
            assert '"level":"error"' not in gateway.log.read_text()
