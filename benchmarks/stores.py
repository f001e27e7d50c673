"""The Redis and the MongoDB of a run, on the load's core."""

import shutil
import sys
import sysconfig
from pathlib import Path

from redis import Redis

from benchmarks.processes import Stage
from demo.children import free_port, wait_for_port

PACKAGED_MONGOD = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"


def start_redis(stage: Stage) -> str:
    """Start a private redis-server without persistence; return its URL."""
    beside_python = Path(sys.executable).parent / "redis-server"
    binary = str(beside_python) if beside_python.exists() else shutil.which("redis-server")
    if binary is None:
        raise FileNotFoundError("redis-server is not installed")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", stage.directory]
    wait_for_port(port, stage.start("redis", command), "redis")
    return f"redis://127.0.0.1:{port}/0"


def redis_pid(url: str) -> int:
    """The process id of the redis-server at this URL."""
    with Redis.from_url(url) as redis:
        return int(redis.info("server")["process_id"])


def start_mongod(stage: Stage) -> str:
    """Start a private mongod for the guide's design; return its URL."""
    binary = shutil.which("mongod") or (str(PACKAGED_MONGOD) if PACKAGED_MONGOD.exists() else None)
    if binary is None:
        raise FileNotFoundError("mongod is not installed")
    port, data = free_port(), stage.directory / "mongo"
    data.mkdir()
    Path(binary).chmod(0o755)
    command = [binary, "--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", data]
    wait_for_port(port, stage.start("mongod", command), "mongod")
    return f"mongodb://127.0.0.1:{port}"
