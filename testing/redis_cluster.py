"""A real Redis Cluster on loopback: masters, each with a replica if wanted, whose slots can be moved."""

import contextlib
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from redis import Redis

from demo.children import PORTS, reserve
from lucid_gateway.kernel.redis.slots import SLOTS, slot_of
from testing.servers import RedisServer, child, folder, redis_binary, wait_for_port
from testing.waiting import wait_until

NODE_TIMEOUT_MS = 1000
BUS = 10_000  # the bus port of a node is so much above its port


@dataclass(frozen=True)
class ClusterOfServers:
    """The running cluster; `replicas` has the replica of each master, or is empty."""

    masters: list[RedisServer]
    replicas: list[RedisServer]

    @property
    def url(self) -> str:
        """The URL that names all masters."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in self.masters)

    def master_of(self, key: str) -> RedisServer:
        """Return the server that is the master of the key now."""
        port = owner_of(slot_of(key), self.all_servers())
        return next(server for server in self.all_servers() if server.port == port)

    def empty(self) -> None:
        """Delete all keys."""
        for master in self.masters:
            with client(master) as redis:
                redis.flushall()

    def all_servers(self) -> list[RedisServer]:
        return [*self.masters, *self.replicas]

    def replica_of(self, master: RedisServer) -> RedisServer:
        """Return the server that was the master's replica at the start."""
        return self.replicas[self.masters.index(master)]

    def fail_over(self, master: RedisServer) -> RedisServer:
        """Let the master's replica take over although the master is well; return the replica."""
        replica = self.replica_of(master)
        with client(replica) as redis:
            redis.execute_command("CLUSTER", "FAILOVER")
        self.wait_for_promotion(replica)
        return replica

    def wait_for_promotion(self, replica: RedisServer) -> None:
        """Return when the replica is a master."""
        with client(replica) as redis:
            wait_until(lambda: redis.info("replication")["role"] == "master")

    def move_slot(self, slot: int, to: RedisServer) -> None:
        """Move a slot with its keys to another master, as `redis-cli --cluster reshard` does."""
        with self.moving(slot, to):
            pass

    @contextlib.contextmanager
    def moving(self, slot: int, to: RedisServer) -> Iterator["Move"]:
        """Begin to move a slot to another master, and finish when the block ends, if it has not done so."""
        port = owner_of(slot, self.masters)
        source = next(server for server in self.masters if server.port == port)
        with client(source) as one, client(to) as other:
            move = Move(slot, one, other, to.port)
            other.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(one))
            one.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(other))
            yield move
            move.finish()


@dataclass(frozen=True)
class Move:
    """A slot on its way from one node to another."""

    slot: int
    source: Any
    target: Any
    target_port: int

    def take(self, *names: str | bytes) -> None:
        """Move these keys now."""
        self.source.execute_command("MIGRATE", "127.0.0.1", self.target_port, "", 0, 5000, "KEYS", *names)

    def finish(self) -> None:
        """Move the remaining keys and hand the slot over; without effect the second time."""
        while names := self.source.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 100):
            self.take(*names)
        for redis in (self.target, self.source):
            redis.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", node_id(self.target))


def client(server: RedisServer) -> Any:
    """Return a client of one node. Any: redis-py's type of `execute_command` is missing."""
    return Redis(port=server.port, protocol=2)


def node_id(redis: Any) -> str:
    return str(redis.execute_command("CLUSTER", "MYID").decode())


def owner_of(slot: int, servers: list[RedisServer]) -> int:
    """Return the port of the slot's master, as the first server that answers says."""
    for server in servers:
        with contextlib.suppress(OSError, Exception), client(server) as redis:
            for first, last, (_, port, *_), *_ in redis.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return int(port)
    raise LookupError(f"no node serves slot {slot}")


@contextlib.contextmanager
def running_node(port: int, *options: str) -> Iterator[RedisServer]:
    """Run a redis-server in cluster mode that belongs to no cluster yet. Its bus has the port 10,000 above."""
    with folder() as path:
        command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(path), "--save", "",
                   "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
                   "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0", *options]  # fmt: skip
        with child(command, path / "log") as process:
            wait_for_port(port, process)
            yield RedisServer(port, process)


@contextlib.contextmanager
def running_redis_cluster(masters: int = 3, *, replicas: bool = False) -> Iterator[ClusterOfServers]:
    """Run a cluster whose slots are spread evenly over the masters."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(running_node(free_pair())) for _ in range(masters * (2 if replicas else 1))]
        found = ClusterOfServers(nodes[:masters], nodes[masters:])
        join(found)
        yield found


def free_pair() -> int:
    """Return a free port for a node, whose bus port is free, too."""
    for port in random.sample(PORTS, len(PORTS)):
        if port + BUS in PORTS and reserve(port + BUS) and reserve(port):
            return port
    raise RuntimeError("no pair of ports is free")


def join(cluster: ClusterOfServers) -> None:
    """Make a cluster of the nodes, and wait until all agree."""
    clients = [client(server) for server in cluster.all_servers()]
    borders = [SLOTS * index // len(cluster.masters) for index in range(len(cluster.masters) + 1)]
    for epoch, redis in enumerate(clients, start=1):
        redis.execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for redis, (first, end) in zip(clients, pairwise(borders), strict=False):
        redis.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
    for redis in clients[1:]:
        redis.execute_command("CLUSTER", "MEET", "127.0.0.1", cluster.masters[0].port)
    wait_until(lambda: all(knows(redis, len(clients)) for redis in clients))
    for master, redis in zip(clients, clients[len(cluster.masters) :], strict=False):
        redis.execute_command("CLUSTER", "REPLICATE", node_id(master))
    wait_until(lambda: all(is_linked(redis) for redis in clients[len(cluster.masters) :]))
    for redis in clients:
        redis.close()


def knows(redis: Any, nodes: int) -> bool:
    info = redis.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and f"cluster_known_nodes:{nodes}".encode() in info


def is_linked(redis: Any) -> bool:
    info = redis.info("replication")
    return bool(info["role"] == "slave" and info["master_link_status"] == "up")
