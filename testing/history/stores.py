"""The Redis of a run: a single server, a Sentinel group or a cluster, and how each can be broken and healed."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from redis import Redis

from lucid_gateway.kernel.redis.slots import slot_of
from lucid_gateway.policy import keys
from testing.history.operations import Fault, History
from testing.redis_cluster import ClusterOfServers, client, is_linked, running_redis_cluster
from testing.sentinel import GROUP, SentinelGroup, may_be_promoted, running_sentinel_group
from testing.servers import RedisServer, child, free_port, running_redis, wait_for_port
from testing.waiting import wait_until

Faults = dict[str, Callable[[], None]]
PAUSE = (1.0, 2.0)  # seconds
LONG_PAUSE = (2.0, 3.0)  # seconds, in which a failover begins
DOWN = (0.0, 1.0)
TIMING = {"down-after-milliseconds": 1000, "failover-timeout": 10_000}  # of the Sentinel
FAILOVERS = ("+promoted-slave", "+switch-master")
FAILOVER_SECONDS = 10.0
EVENTS = ("+sdown", "-sdown", "+tilt", "-tilt", "-failover-abort-slave-timeout", "-failover-abort-no-good-slave")
FOLLOWED_WITHIN = 2.0  # seconds; workers ask the Sentinels twice a second


@dataclass
class Store:
    """What all kinds of Redis share. `running` ends the servers that were started again."""

    history: History
    rng: Random
    folder: Path
    running: ExitStack

    def pause(self, server: RedisServer, seconds: tuple[float, float] = PAUSE, *, data_lost: bool = False) -> None:
        """Let the server hang for a while; with a failover meanwhile its last writes are lost."""
        noted = self.history.fault("Redis paused", str(server.port), redis=True, data_lost=data_lost)
        with noted, server.hung():
            time.sleep(self.rng.uniform(*seconds))

    def flush(self, server: RedisServer) -> None:
        """Delete all keys of the server."""
        with self.history.fault("FLUSHALL", str(server.port), data_lost=True), client(server) as redis:
            redis.flushall()

    def start_again(self, port: int, command: Sequence[str]) -> RedisServer:
        """Start a killed server again, on its port and in its folder."""
        process = self.running.enter_context(child(list(command), self.folder / f"redis-{port}.log"))
        wait_for_port(port, process)
        return RedisServer(port, process)


def kill(server: RedisServer) -> None:
    """Kill the server and return when it has ended."""
    server.process.kill()
    server.process.wait()


@dataclass
class SingleStore(Store):
    """One server that keeps nothing."""

    server: RedisServer

    @property
    def url(self) -> str:
        return self.server.url

    def faults(self, users: Sequence[str]) -> Faults:
        """Return the faults by name; `users` have keys in Redis."""
        return {
            "pause": lambda: self.pause(self.server),
            "restart": self.restart,
            "flush": lambda: self.flush(self.server),
        }

    def restart(self) -> None:
        """Kill the server and start it again, empty."""
        with self.history.fault("Redis killed", str(self.server.port), redis=True, data_lost=True):
            kill(self.server)
            time.sleep(self.rng.uniform(*DOWN))
            self.server = self.start_again(self.server.port, command_of(self.server))


def command_of(server: RedisServer) -> list[str]:
    """Return the command that started the server."""
    return [str(word) for word in server.process.args]  # type: ignore[union-attr]  # it is a list


@dataclass
class SentinelStore(Store):
    """A primary, a replica and a Sentinel; `servers` are the two by their port."""

    group: SentinelGroup
    servers: dict[int, RedisServer] = field(default_factory=dict)
    commands: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.servers = {server.port: server for server in (self.group.first, self.group.second)}
        self.commands = {server.port: command_of(server) for server in self.servers.values()}
        self.watch()

    @property
    def url(self) -> str:
        return self.group.url

    def faults(self, users: Sequence[str]) -> Faults:
        """Return the faults by name. A failover loses what the replica did not have yet."""
        return {
            "kill": self.kill_primary,
            "pause": self.pause_primary,
            "fail over": self.fail_over,
            "flush": lambda: self.flush(self.primary_with_replica()),
        }

    def watch(self) -> None:
        """Let a busy machine not look like a dead primary, and note what the Sentinel does by itself, too."""
        sentinel = self.running.enter_context(Redis(port=self.group.sentinel_port, protocol=2))
        for name, value in TIMING.items():
            sentinel.execute_command("SENTINEL", "SET", GROUP, name, value)
        events = self.running.enter_context(sentinel.pubsub(ignore_subscribe_messages=True))
        events.subscribe(**dict.fromkeys((*FAILOVERS, *EVENTS), self.note))
        thread = events.run_in_thread(sleep_time=0.1, daemon=True)
        self.running.callback(thread.join)
        self.running.callback(thread.stop)

    def note(self, message: Any) -> None:
        """Note an event of the Sentinel. After a failover, what workers still write to the old primary is lost."""
        event, now = message["channel"].decode(), self.history.now()
        follows = event in FAILOVERS
        ended = now + FOLLOWED_WITHIN * follows
        kind = f"Sentinel: {event}"
        self.history.write(Fault(kind, message["data"].decode(), now, ended, redis=follows, data_lost=follows))

    def primary(self) -> RedisServer:
        """Return the primary that the Sentinel names."""
        with Redis(port=self.group.sentinel_port, protocol=2) as sentinel:
            return self.servers[int(sentinel.sentinel_master(GROUP)["port"])]

    def pause_primary(self) -> None:
        """Let the primary hang until the Sentinel has replaced it, and come back."""
        old = self.primary_with_replica()
        self.pause(old, LONG_PAUSE, data_lost=True)
        self.make_replica(old)

    def kill_primary(self) -> None:
        """Kill the primary, wait for the failover, and start it again as the replica."""
        old = self.primary_with_replica()
        with self.history.fault("primary killed", str(old.port), redis=True, data_lost=True):
            kill(old)
            failed_over = self.is_replaced(old)
            replicate = ["--replicaof", "127.0.0.1", str(self.primary().port)] if failed_over else []
            self.servers[old.port] = self.start_again(old.port, [*self.commands[old.port], *replicate])

    def fail_over(self) -> None:
        """Let the Sentinel swap the roles although the primary is well."""
        old = self.primary_with_replica()
        with self.history.fault("failover by the Sentinel", str(old.port), redis=True, data_lost=True):
            self.group.fail_over()
            self.make_replica(old)

    def make_replica(self, old: RedisServer) -> None:
        """Make the old primary a replica as soon as there is a new one. The Sentinel would take ten seconds."""
        if self.is_replaced(old):
            with client(old) as redis:
                redis.replicaof("127.0.0.1", self.primary().port)

    def is_replaced(self, old: RedisServer) -> bool:
        """Wait for a failover; return False if none comes. A Sentinel whose machine was too busy waits for 30 seconds
        before it decides anything (TILT).
        """
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.primary().port != old.port, FAILOVER_SECONDS)
            return True
        return False

    def primary_with_replica(self) -> RedisServer:
        """Return the primary as soon as its replica could be promoted."""
        with Redis(port=self.group.sentinel_port, protocol=2) as sentinel:
            wait_until(lambda: may_be_promoted(sentinel.sentinel_slaves(GROUP)), every=0.1)
        return self.primary()


@dataclass
class ClusterStore(Store):
    """Three masters with a replica each; their places in the lists follow the failovers."""

    cluster: ClusterOfServers
    url: str

    def faults(self, users: Sequence[str]) -> Faults:
        """Return the faults by name; a slot that is moved is that of one of the users."""
        return {
            "kill": self.kill_master,
            "pause": self.pause_master,
            "fail over": self.fail_over,
            "move": lambda: self.move_slot(self.rng.choice(users)),
            "flush": lambda: self.flush(self.cluster.masters[self.any_pair()]),
        }

    def any_pair(self) -> int:
        """Return the place of a random master and its replica, after noting which of the two is the master now."""
        pair = self.rng.randrange(len(self.cluster.masters))
        wait_until(lambda: self.is_whole(pair), every=0.1)
        return pair

    def is_whole(self, pair: int) -> bool:
        """Return whether the replica of the pair follows its master; if they have swapped their roles, note it."""
        masters, replicas = self.cluster.masters, self.cluster.replicas
        with client(masters[pair]) as redis:
            if redis.info("replication")["role"] != "master":
                masters[pair], replicas[pair] = replicas[pair], masters[pair]
        with client(replicas[pair]) as redis:
            return is_linked(redis)

    def fail_over(self) -> None:
        """Let a replica take over although its master is well, which loses nothing."""
        pair = self.any_pair()
        master, replica = self.cluster.masters[pair], self.cluster.replicas[pair]
        with self.history.fault("CLUSTER FAILOVER", str(master.port), redis=True), client(replica) as redis:
            redis.execute_command("CLUSTER", "FAILOVER")
            self.cluster.wait_for_promotion(replica)

    def pause_master(self) -> None:
        """Let a master hang; its replica may take over meanwhile."""
        self.pause(self.cluster.masters[self.any_pair()], data_lost=True)

    def kill_master(self) -> None:
        """Kill a master, wait until its replica has taken over, and start it again as the replica."""
        pair = self.any_pair()
        old = self.cluster.masters[pair]
        with self.history.fault("master killed", str(old.port), redis=True, data_lost=True):
            kill(old)
            self.cluster.wait_for_promotion(self.cluster.replicas[pair])
            self.cluster.masters[pair] = self.start_again(old.port, command_of(old))
            wait_until(lambda: self.is_whole(pair), every=0.1)

    def move_slot(self, user: str) -> None:
        """Move the slot of a user to another master, with its keys."""
        wait_until(lambda: all(map(self.is_whole, range(len(self.cluster.masters)))), every=0.1)
        slot = slot_of(keys.epoch(user))
        owner = self.cluster.master_of(keys.epoch(user))
        target = self.rng.choice([one for one in self.cluster.masters if one.port != owner.port])
        with self.history.fault("slot moved", f"{slot} to {target.port}", redis=True):
            self.cluster.move_slot(slot, target)


AnyStore = SingleStore | SentinelStore | ClusterStore


@contextlib.contextmanager
def running_store(kind: str, history: History, rng: Random, folder: Path) -> Iterator[AnyStore]:
    """Run a Redis of the kind: single, sentinel or cluster."""
    with ExitStack() as servers, ExitStack() as again:
        shared = (history, rng, folder, again)
        match kind:
            case "sentinel":
                yield SentinelStore(*shared, servers.enter_context(running_sentinel_group()))
            case "cluster":
                cluster = servers.enter_context(running_redis_cluster(replicas=True))
                yield ClusterStore(*shared, cluster, cluster.url)
            case _:
                yield SingleStore(*shared, servers.enter_context(running_redis(free_port())))
