"""The child processes of a run: starting them on given cores, measuring them, and stopping them at the end."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE = 0
LOAD_CORE = 1
START_SECONDS = 30.0
STOP_SECONDS = 5.0
QUIET_LOAD = 0.5
MEBIBYTE = 1024 * 1024

Process = subprocess.Popen[bytes]


class DidNotStart(Exception):
    """A server ended or did not answer in time; the message contains the end of its log."""


@dataclass(frozen=True)
class Stage:
    """One run: a temporary directory, and child processes that end with it."""

    directory: Path
    _children: ExitStack

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cores: Sequence[int] = (LOAD_CORE,),
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a server on the given cores; its output goes to `NAME.log` in the directory."""
        pinned = ["taskset", "-c", ",".join(map(str, cores)), *map(str, command)]
        with self.log(name).open("ab") as log, _uninterrupted():
            process = subprocess.Popen(
                pinned,
                cwd=ROOT,
                env=dict(env) if env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._children.callback(stop, process)
        return process

    def log(self, name: str) -> Path:
        """The log file of the server with that name."""
        return self.directory / f"{name}.log"

    def wait(self, name: str, process: Process, url: str) -> float:
        """Return the seconds until `url` answers 200; raise `DidNotStart` if the process ends or 30 s pass."""
        began = time.monotonic()
        while time.monotonic() - began < START_SECONDS:
            if process.poll() is not None:
                break
            if answers(url):
                return time.monotonic() - began
            time.sleep(0.02)
        tail = "".join(self.log(name).read_text(errors="replace").splitlines(keepends=True)[-15:])
        raise DidNotStart(f"{name} did not answer at {url}; the end of its log:\n{tail}")


def begin_run() -> None:
    """Make SIGTERM end the run like Ctrl-C, with all clean-up; warn if the machine is already busy."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    if (busy := os.getloadavg()[0]) > QUIET_LOAD:
        print(f"the machine is busy (load {busy:.1f}): the figures may be wrong", file=sys.stderr)


@contextmanager
def stage() -> Iterator[Stage]:
    """A new stage. At the end its child processes are stopped and its directory is removed."""
    with (
        tempfile.TemporaryDirectory(prefix="lucid-bench-", ignore_cleanup_errors=True) as directory,
        ExitStack() as children,
    ):
        yield Stage(Path(directory), children)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends, so that each started child is registered."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    handlers = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def stop(process: Process) -> None:
    """End a child and its own children: SIGTERM first, SIGKILL after 5 seconds."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(url: str) -> bool:
    """Whether a GET of `url` gets 200 within a second."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def workers_of(process: Process) -> list[int]:
    """The process ids of a server's children, oldest first."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return sorted(int(pid) for pid in children.split())


def cpu_seconds(pid: int) -> float:
    """The processor time of a process since its start (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def server_seconds(process: Process) -> float:
    """The processor time of a server and its children since their start."""
    return sum(map(cpu_seconds, [process.pid, *workers_of(process)]))


def resident_mib(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    return _status_kib(pid, "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The peak resident memory of a process since its start or `forget_peak`, in MiB."""
    return _status_kib(pid, "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    """Reset the peak that `peak_mib` reads (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
