"""A real Sentinel group: a primary, a replica, and a Sentinel that fails over soon."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis

from testing.servers import RedisServer, child, folder, free_port, redis_binary, running_redis, wait_for_port
from testing.waiting import wait_until

GROUP = "lucid"
DOWN_AFTER_MS = 300


@dataclass(frozen=True)
class SentinelGroup:
    """The running group; `first` was the primary at the start, `second` its replica."""

    first: RedisServer
    second: RedisServer
    sentinel_port: int

    @property
    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self.sentinel_port}/{GROUP}/0"

    def fail_over(self) -> None:
        """Ask the Sentinel to swap the roles although the primary is well."""
        with Redis(port=self.sentinel_port) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", GROUP)

    def wait_for_failover(self) -> None:
        """Return when the Sentinel names the second server as the primary."""
        with Redis(port=self.sentinel_port, protocol=2) as sentinel:
            wait_until(lambda: sentinel.sentinel_master(GROUP)["port"] == self.second.port)


def may_be_promoted(replicas: list[dict[str, Any]]) -> bool:
    """Return whether the Sentinel is connected to the replica, and the replica to the primary."""
    return [(one["flags"], one["master-link-status"]) for one in replicas] == [("slave", "ok")]


@contextlib.contextmanager
def running_sentinel(primary_port: int, *, group: str = GROUP, epoch: int = 0) -> Iterator[int]:
    """Run a Sentinel that watches the server and decides alone; yield its port."""
    port = free_port()
    with folder() as path:
        lines = [
            f"port {port}", "bind 127.0.0.1", f"dir {path}", f"sentinel monitor {group} 127.0.0.1 {primary_port} 1",
            f"sentinel down-after-milliseconds {group} {DOWN_AFTER_MS}", f"sentinel failover-timeout {group} 2000",
            f"sentinel config-epoch {group} {epoch}",
        ]  # fmt: skip
        (path / "sentinel.conf").write_text("\n".join(lines) + "\n")
        with child([redis_binary(), str(path / "sentinel.conf"), "--sentinel"], path / "log") as process:
            wait_for_port(port, process)
            yield port


@contextlib.contextmanager
def running_sentinel_group() -> Iterator[SentinelGroup]:
    """Run a group whose Sentinel knows the replica."""
    with running_redis() as first, running_redis() as second:
        with Redis(port=first.port) as one, Redis(port=second.port) as other:
            one.config_set("repl-diskless-sync-delay", 0)
            other.replicaof("127.0.0.1", first.port)
            wait_until(lambda: other.info("replication")["master_link_status"] == "up")
        with running_sentinel(first.port) as port, Redis(port=port, protocol=2) as sentinel:
            wait_until(lambda: may_be_promoted(sentinel.sentinel_slaves(GROUP)))
            try:
                yield SentinelGroup(first, second, port)
            finally:
                first.process.send_signal(signal.SIGCONT)  # a hung server would not end
