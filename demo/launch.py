"""Starts the demo clusters in their own process, for tests, benchmarks and `make run`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANY_PORT = "127.0.0.1:0"
STOP_SECONDS = 5


@dataclass(frozen=True)
class DemoClusters:
    """The process id and the base URLs of the demo clusters, without a trailing slash."""

    pid: int
    blockchain_core: str
    session_management: str
    tron_payment: str


@contextmanager
def running_clusters(
    *, blockchain_core: str = ANY_PORT, session_management: str = ANY_PORT, tron_payment: str = ANY_PORT
) -> Iterator[DemoClusters]:
    """Run the demo clusters on the given `host:port`s until the block ends; raise RuntimeError if they do not start."""
    command = [
        *(sys.executable, "-m", "demo.clusters", "--parent-pid", str(os.getpid())),
        *("--blockchain-core", blockchain_core),
        *("--session-management", session_management),
        *("--tron-payment", tron_payment),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the demo clusters did not start: exit status {process.wait()}")
            yield DemoClusters(pid=process.pid, **json.loads(line))
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
