"""wrk as the load generator, and its results."""

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.processes import LOAD_CORE

SCRIPT = Path(__file__).with_name("report.lua")
PATIENCE_SECONDS = 60  # after which wrk counts an answer as a timeout


@dataclass(frozen=True)
class Load:
    """One run of wrk: the number of answers, the duration in seconds, and the latencies.

    `refused` counts answers of status 400 and above, `broken` connections that failed.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    @property
    def failed(self) -> int:
        """Requests without a successful answer."""
        return self.refused + self.broken


@dataclass(frozen=True)
class Target:
    """The URL to request, the access token if one is needed, and the client's address for X-Forwarded-For."""

    url: str
    token: str | None = None
    client: str | None = None

    def connect(self, seconds: float) -> socket.socket:
        """A new connection to the server, with that time-out."""
        parts = urlsplit(self.url)
        return socket.create_connection((parts.hostname, parts.port), timeout=seconds)

    def head(self, method: str, *fields: str) -> bytes:
        """The head of a request with these `Name: value` fields."""
        host = urlsplit(self.url).netloc
        path = self.url.partition(host)[2]
        token = [f"Authorization: Bearer {self.token}"] if self.token else []
        return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *token, *fields, "", ""]).encode()


class RunningLoad:
    """A wrk that runs in the background; `result` waits for its end."""

    def __init__(self, target: Target, *, connections: int, seconds: float, pause_ms: int = 0) -> None:
        self._process = subprocess.Popen(
            _command(target, connections, seconds, pause_ms), stdout=subprocess.PIPE, start_new_session=True
        )

    def result(self) -> Load:
        """Wait for the end of the load and return its result."""
        output, _ = self._process.communicate()
        return Load(**json.loads(output.splitlines()[-1]))

    def __enter__(self) -> "RunningLoad":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()


def load(target: Target, *, connections: int, seconds: float, pause_ms: int = 0) -> Load:
    """Send requests on each connection for `seconds`, with a pause of `pause_ms` between two of them."""
    with RunningLoad(target, connections=connections, seconds=seconds, pause_ms=pause_ms) as running:
        return running.result()


def _command(target: Target, connections: int, seconds: float, pause_ms: int) -> list[str]:
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "--latency", "--threads", "1"]
    command += ["--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"]
    command += ["--timeout", f"{PATIENCE_SECONDS}s", "--script", str(SCRIPT)]
    if target.token:
        command += ["--header", f"Authorization: Bearer {target.token}"]
    if target.client:
        command += ["--header", f"X-Forwarded-For: {target.client}"]
    return [*command, target.url, str(pause_ms)]
