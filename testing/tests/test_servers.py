"""The servers of the tests leave nothing behind, however a run ends."""

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from testing.servers import ROOT, whole_lines
from testing.waiting import wait_until

SLEEPER = """
import signal
import time
from testing.servers import running_mongod, running_redis
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a background job runs the tests
with running_redis() as redis, running_mongod() as mongodb:
    print(redis.port, mongodb.split(":")[2].split("/")[0], flush=True)
    time.sleep(60)
"""


def is_taken(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_redis_and_mongod_end_with_the_run_that_started_them(end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        assert run.stdout is not None
        ports = [int(port) for port in run.stdout.readline().split()]
        assert all(is_taken(port) for port in ports)
        run.send_signal(end)
        run.wait(20)

    wait_until(lambda: not any(is_taken(port) for port in ports))


def test_the_line_that_a_server_is_writing_is_not_yet_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b'{"a":1}\n{"b":"\xc3')
    assert whole_lines(log) == '{"a":1}\n'
    log.write_bytes(b'{"a":')
    assert whole_lines(log) == ""
