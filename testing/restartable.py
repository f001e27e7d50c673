"""A gateway for tests that outlives its process: it can be stopped, killed, started again and reloaded."""

import contextlib
import http.client
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testing.hammer import children
from testing.servers import BIN, child, wait_for_port
from testing.waiting import wait_until

START_SECONDS = 30


@dataclass
class Restartable:
    """A gateway on its own port that can be stopped, started and reloaded."""

    env: Mapping[str, str]
    log: Path

    def __post_init__(self) -> None:
        self.port = int(self.env["HTTP_PORT"])
        self.running = contextlib.ExitStack()

    def start(self) -> None:
        """Start the gateway and return when it answers."""
        command = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
        self.process = self.running.enter_context(child(command, self.log, self.env))
        wait_for_port(self.port, self.process)
        self.wait_until_alive()

    def wait_until_alive(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        connection.request("GET", "/api/v1/meta/health/live")
        assert connection.getresponse().status == 200
        connection.close()

    def stop(self) -> None:
        """Send SIGTERM, as an orchestrator does, and wait until the gateway has ended."""
        self.process.terminate()
        assert self.process.wait(40) == 0
        self.running.close()

    def kill(self) -> None:
        """Kill the gateway with all of its workers, and wait until nothing listens on its port."""
        pids = [self.process.pid, *self.workers()]  # the master first: it would replace its workers
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.running.close()
        wait_until(lambda: not any(is_running(pid) for pid in pids))

    def reload(self) -> None:
        """Make the gateway replace its workers, and return when the new ones serve."""
        old = self.workers()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not old & self.workers())

    def workers(self) -> set[int]:
        """Return the process ids of the workers."""
        return set(children(self.process.pid))


def is_running(pid: int) -> bool:
    """Return whether the process exists and has not ended yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
