"""Management commands for tests."""

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryFile
from threading import Lock

from testing.servers import ROOT

OF_INTERPRETER = ("PYTHON", "LD_", "LC_", "LANG", "TZ")  # variables that take effect when a process starts
starting = Lock()


def manage(env: Mapping[str, str], *arguments: str) -> str:
    """Run manage.py and return what it printed; raise CalledProcessError. It runs in a fork of the fork server, unless
    the environment is for a Python that starts differently.
    """
    with starting:
        server = fork_server()
    if of_interpreter(env) == of_interpreter(server.environment):
        done = server.run(env, *arguments)
    else:
        done = subprocess.run(command(*arguments), cwd=ROOT, env=dict(env), check=False, capture_output=True, text=True)
    done.check_returncode()
    return done.stdout


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


def of_interpreter(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(OF_INTERPRETER)}


@dataclass(frozen=True)
class ForkServer:
    """A running `testing.fork_server`. It ends with this process, and so do its forks."""

    environment: Mapping[str, str]
    requests: socket.socket
    process: "subprocess.Popen[bytes]"

    def run(self, env: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run manage.py in a fork and return its output and status, as `subprocess.run` would of a new process."""
        here, there = socket.socketpair()
        with here, open(os.devnull) as stdin, TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
            with there:
                descriptors = [file.fileno() for file in (stdin, stdout, stderr, there)]
                socket.send_fds(self.requests, [json.dumps([dict(env), arguments]).encode()], descriptors)
            status = int(here.recv(16))
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(command(*arguments), status, stdout.read(), stderr.read())

    def stop(self) -> None:
        self.requests.close()
        self.process.wait()


@cache
def fork_server() -> ForkServer:
    """Start the fork server of this process. It is not told where the settings are: a library that needs them cannot be
    imported before the fork.
    """
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "testing.fork_server"], cwd=ROOT, env=environment, stdin=there.fileno(),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    server = ForkServer(environment, here, process)
    atexit.register(server.stop)
    return server
