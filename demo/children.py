"""Child processes that do not outlive the process that started them."""

import contextlib
import ctypes
import random
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120
STOP_SECONDS = 35
PR_SET_PDEATHSIG = 1
PORTS = range(15_000, 32_000)


class Failed(Exception):
    """A service did not start; the text says which and why."""


def end_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send this process the signal when its parent dies, for whatever reason (Linux, prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


@contextlib.contextmanager
def running(
    command: list[str],
    *,
    env: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    pass_fds: Collection[int] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a child in its own session, so that Ctrl-C reaches it only through this process; `log` gets its output."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=log, stderr=log, pass_fds=pass_fds, start_new_session=True,
        preexec_fn=lambda: end_with_parent(signal.SIGINT),  # noqa: PLW1509  # it makes one system call
    )  # fmt: skip
    try:
        yield process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a child with SIGTERM, and with SIGKILL if it has not ended after STOP_SECONDS."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a free port of the loopback address. No other caller of this function gets it while this process lives,
    and the kernel does not use these ports for outgoing connections (ip_local_port_range).
    """
    for port in random.sample(PORTS, len(PORTS)):
        if reserve(port):
            return port
    raise Failed("no port is free")


def reserve(port: int) -> bool:
    """Reserve the port for this process, as `free_port` does; return whether it was free."""
    reservation = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError), socket.socket() as probe:
        reservation.bind(f"\0lucid-port-{port}")
        probe.bind(("127.0.0.1", port))
        reservation.detach()  # stays open until the process ends
        return True
    reservation.close()
    return False


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", name: str = "") -> None:
    """Return when the process listens on the port; raise Failed if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise Failed(f"{name or process.args!r} did not start")
