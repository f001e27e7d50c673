"""What `make run` starts, with a folder, a port and a mail server of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from testing.gateway import at_edge
from testing.mail import Mailbox, running_smtp_server
from testing.servers import ROOT, START_SECONDS, die_with_parent, free_port, whole_lines
from testing.waiting import wait_until

STOP_SECONDS = 40
READY = "Ctrl-C stops everything"


@dataclass(frozen=True)
class Run:
    """A running `make run`."""

    port: int
    output: Path
    mailbox: Mailbox
    process: "subprocess.Popen[bytes]"

    def call(self, method: str, path: str, data: Any = None, token: str | None = None) -> tuple[int, Any, Any]:
        """Send one request below /api/v1; return status, headers and JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request(method, f"/api/v1{path}", json.dumps(data) if data is not None else None, headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
        return response.status, response.headers, body

    def access_lines(self) -> list[dict[str, Any]]:
        """Return the access log's lines so far; LOG_FORMAT must be json."""
        lines = [json.loads(line) for line in whole_lines(self.output).splitlines() if line.startswith('{"')]
        return [line for line in lines if line.get("event") == "request"]

    def one_time_password(self) -> str:
        """Return the admin's password that was printed."""
        found = re.search(r"one-time password: (\S+)", self.output.read_text())
        assert found is not None
        return found[1]

    def descendants(self) -> list[int]:
        """Return the process ids of all that it has started."""
        found = [self.process.pid]
        for pid in found:
            found += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return found[1:]


def command(folder: Path) -> list[str]:
    """Return the command that `make run` runs, for data below the folder; with `--plane edge` that of `make edge`."""
    edge = ["--edge"] if at_edge() else []
    return [sys.executable, "-m", "demo", *edge, "--folder", str(folder / "var")]


def environment(**settings: str) -> dict[str, str]:
    """Return the settings and what every program needs; nothing of the test run's own settings."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")} | settings


@contextlib.contextmanager
def make_run(folder: Path, *, parent: Sequence[str] = (), **settings: str) -> Iterator[Run]:
    """Start what `make run` starts, in a folder and on a port of its own, mailing to a real SMTP server.

    An empty EMAIL_HOST has the mails printed. `parent` is a command that starts the command in its arguments.
    """
    port, output = free_port(), folder / "output"
    output.write_bytes(b"")  # several processes append to it
    with running_smtp_server() as (mailbox, smtp_port), open(output, "ab") as file:
        defaults = {"HTTP_PORT": str(port), "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(smtp_port)}
        process = subprocess.Popen(
            [*parent, *command(folder)], cwd=ROOT, env=environment(**defaults | settings),
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # it makes one system call
        )  # fmt: skip
        try:
            wait_for_text(output, READY, process)
            yield Run(port, output, mailbox, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(STOP_SECONDS) == 0


def wait_for_text(output: Path, text: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when the output has the text; raise AssertionError if the process ends or takes too long."""

    def is_there() -> bool:
        assert process.poll() is None, output.read_text()
        return text in output.read_text()

    wait_until(is_there, START_SECONDS)
