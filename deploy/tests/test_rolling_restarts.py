"""Two gateways are restarted and reloaded in turn while clients send requests, none of which may fail.

`make soak` checks this with 20 rolling restarts and 50,000 requests.
"""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.tests.conftest import StartNginx
from testing.gateway import manage, prepared_database
from testing.http.cluster import RawCluster
from testing.restartable import Restartable
from testing.servers import free_port


@dataclass
class Client:
    """Sends GETs and POSTs in turn until it is stopped, on one connection as long as that lives, or on many.

    If a gateway refuses the connection, nothing has been sent yet, and the client connects to the next gateway.
    """

    ports: Sequence[int]
    token: str
    keeps_connection: bool
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=20)
        for method in itertools.cycle(["GET", "POST"]):
            if self.stop.is_set():
                break
            try:
                status = self.ask(method)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{method} at {self.connection.port}: {error!r}")
                self.connection.close()
            else:
                self.answered += 1
                if status != 200:
                    self.failures.append(f"{method} {status}")
        self.connection.close()

    def ask(self, method: str) -> int:
        """Send a request; return the status of the answer."""
        if self.connection.sock is None:
            self.connect()
        body = b'{"name": "savings"}' if method == "POST" else None
        fields = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self.connection.request(method, "/api/v1/wallets", body, fields)
        with self.connection.getresponse() as answer:
            answer.read()
        if not self.keeps_connection:
            self.connection.close()
        return answer.status

    def connect(self) -> None:
        """Connect to the first gateway that accepts; raise ConnectionRefusedError if none does."""
        for port in self.ports:
            self.connection.port = port
            with contextlib.suppress(ConnectionRefusedError):
                return self.connection.connect()
        raise ConnectionRefusedError


@contextlib.contextmanager
def two_gateways(cluster: RawCluster, folder: Path) -> Iterator[list[Restartable]]:
    """Run two gateways that share their database and Redis."""
    env = os.environ | {
        "WEB_CONCURRENCY": "2", "LOG_LEVEL": "INFO", "SQLITE_PATH": str(folder / "db.sqlite3"),
        "RATE_LIMIT_ENABLED": "false", "TRON_PAYMENT_URL": cluster.url,
        "JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "1440",
    }  # fmt: skip
    shutil.copyfile(prepared_database()[0], env["SQLITE_PATH"])
    gateways = [Restartable(env | {"HTTP_PORT": str(free_port())}, folder / f"log{number}") for number in (1, 2)]
    with contextlib.ExitStack() as stack:
        for gateway in gateways:
            stack.enter_context(gateway.running)
            gateway.start()
        yield gateways


@contextlib.contextmanager
def load(clients: list[Client]) -> Iterator[None]:
    """Keep the clients sending requests until the block ends."""
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop.set()
        for thread in threads:
            thread.join()


def test_no_request_fails_during_rolling_restarts(
    request: pytest.FixtureRequest, start_nginx: StartNginx, tmp_path: Path
) -> None:
    restarts, requests = request.config.getoption("--restarts"), request.config.getoption("--requests")
    with RawCluster() as cluster, two_gateways(cluster, tmp_path) as gateways:
        token = json.loads(manage(gateways[0].env, "issue_token", "--email", "demo@lucid.test", "--json"))[
            "access_token"
        ]
        ports = [gateway.port for gateway in gateways]
        nginx = start_nginx(f"127.0.0.1:{ports[0]} max_fails=0; server 127.0.0.1:{ports[1]}")
        clients = [
            Client(order, token, keeps_connection)
            for order in (ports, ports[::-1], [nginx.http_port], [nginx.http_port])
            for keeps_connection in (True, False)
        ]
        with load(clients):
            for number in range(restarts):
                for gateway in gateways:
                    gateway.stop()
                    gateway.start()
                gateways[number % 2].reload()
            while sum(client.answered for client in clients) < requests:
                time.sleep(0.1)
    failures = [failure for client in clients for failure in client.failures]
    print(f"{sum(client.answered for client in clients)} requests in {restarts} rolling restarts, failed: {failures}")
    assert failures == []
