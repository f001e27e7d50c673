"""The Redis and the MongoDB of a run, on the load's core."""

import shutil
import sys
import sysconfig
from pathlib import Path

from redis import Redis

from benchmarks.processes import Stage
from demo.children import free_port, wait_for_port
from lucid_gateway.kernel.redis.slots import SLOTS
from lucid_gateway.kernel.redis_urls import is_cluster, urls_of_nodes
from testing.redis_cluster import free_pair

PACKAGED_MONGOD = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"


def start_redis(stage: Stage) -> str:
    """Start a private redis-server without persistence; return its URL."""
    return f"redis://127.0.0.1:{start_server(stage, 'redis', free_port())}/0"


def start_redis_cluster(stage: Stage) -> str:
    """Start a Redis Cluster of one node, which has all slots; return its URL."""
    port = start_server(stage, "redis-cluster", free_pair(), "--cluster-enabled", "yes")
    with Redis(port=port) as redis:
        redis.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))  # type: ignore[no-untyped-call]
    return f"redis+cluster://127.0.0.1:{port}"


def start_server(stage: Stage, name: str, port: int, *options: str) -> int:
    """Start a redis-server with these options; return its port."""
    beside_python = Path(sys.executable).parent / "redis-server"
    binary = str(beside_python) if beside_python.exists() else shutil.which("redis-server")
    if binary is None:
        raise FileNotFoundError("redis-server is not installed")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", stage.directory, *options]
    wait_for_port(port, stage.start(name, command), name)
    return port


def redis_pid(url: str) -> int:
    """The process id of the redis-server, or of the cluster's first node, at this URL."""
    with Redis.from_url(urls_of_nodes(url)[0] if is_cluster(url) else url) as redis:
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
