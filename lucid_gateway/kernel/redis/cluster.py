"""A Redis Cluster: which of its masters has a key.

redis-py has a cluster client, too. It takes a lock for each key, connects in its constructor, and refuses EVALSHA in
pipelines; here a look-up is one index into a list, and each master has a breaker of its own.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import AskError, MovedError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.utils import str_if_bytes

from lucid_gateway.kernel.redis.breaker import RedisCallFailed
from lucid_gateway.kernel.redis.connections import NoConnection, RedisPool
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.kernel.redis.slots import SLOTS, slot_of, tags

T = TypeVar("T")
Address = tuple[str, int]
logger = logging.getLogger(__name__)

# How often a call follows a slot that moves, and pauses while the slot's keys are on two nodes (seconds).
ATTEMPTS, PAUSE_SECONDS = 10, 0.02


class NoCluster(RedisConnectionError):
    """REDIS_URL names a cluster, but leads to a server without one."""


class RedisCluster:
    """The masters of a cluster and the slots that each serves, as its nodes said last.

    A slot without a master, and each slot while no node has answered, leads to a server that refuses all calls.
    """

    def __init__(self, addresses: Sequence[Address], options: Mapping[str, Any]) -> None:
        """`addresses` are those of some nodes, `options` those of each node's pool of connections."""
        self.addresses, self.options = tuple(addresses), dict(options)
        nowhere = Redis(connection_pool=RedisPool(connection_class=NoConnection))
        self.nowhere = Server(lambda: nowhere, address=("no node", 0))
        self.known: dict[Address, Server] = {}
        self.table: list[Server] = [self.nowhere] * SLOTS
        self.owners: dict[tuple[int, int], Address] = {}
        self.following = threading.Lock()

    def servers(self) -> list[Server]:
        """Return the masters, and the one that refuses all calls if a slot has no master."""
        return list(dict.fromkeys(self.table))

    def server_of(self, key: str) -> Server:
        """Return the master that has the key."""
        return self.table[slot_of(key)]

    def call(self, key: str, run: Callable[[Server, bool], T]) -> T:
        """Return what `run(server, asking)` returns on the master of the key, or where it was moved to; with `asking`,
        its command must come after ASKING. Raises RedisUnavailable.
        """
        slot = slot_of(key)
        server, asking = self.table[slot], False
        for _ in range(ATTEMPTS):
            try:
                return server.breaker.call(partial(run, server, asking))
            except MovedError as error:
                if error.slot_id != slot:
                    raise RedisCallFailed("a call with keys of several slots") from error
                server, asking = self.move(slot, address_in(error, server)), False
            except AskError as error:
                server, asking = self.server_at(address_in(error, server)), True
            except TryAgainError:
                time.sleep(PAUSE_SECONDS)
                server, asking = self.table[slot], False
        raise RedisCallFailed("the slot is being moved")

    def server_at(self, address: Address) -> Server:
        """Return the server with this address."""
        return self.known.get(address) or self.known.setdefault(address, self.new_server(address))

    def new_server(self, address: Address) -> Server:
        client = Redis(connection_pool=RedisPool(host=address[0], port=address[1], **self.options))
        return Server(lambda: client, address=address)

    def move(self, slot: int, address: Address) -> Server:
        """Note that the slot has moved, and return its new server."""
        server = self.server_at(address)
        if self.table[slot] is not server:
            self.use([*self.table[:slot], server, *self.table[slot + 1 :]])
            self.owners = {}  # the next look at the nodes compares all slots
        return server

    def follow(self) -> None:
        """Ask the nodes which master serves which slot. If none answers, everything stays as it was."""
        with self.following, suppress(NoCluster):
            owners = self.ask()
            if owners and owners != self.owners:
                table = [self.nowhere] * SLOTS
                for (first, last), address in owners.items():
                    table[first : last + 1] = [self.server_at(address)] * (last + 1 - first)
                self.use(table)
                self.owners = owners

    def ask(self) -> dict[tuple[int, int], Address]:
        """Return the address of the master of each range of slots, empty if no node answers; raise NoCluster.

        A node that has lost the majority says so after the cluster's node timeout, before which there is no failover;
        its word counts only if no other node answers.
        """
        answers: dict[tuple[int, int], Address] = {}
        for server in self.some_nodes():
            try:
                pipeline = server.client().pipeline(transaction=False)
                pipeline.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
                pipeline.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
                info, slots = pipeline.execute()
            except ResponseError as error:
                if "cluster support disabled" in str(error):
                    raise NoCluster(f"{server} is a single server") from error
                continue
            except RedisError as error:
                logger.debug("a node of the cluster does not answer", extra={"error": type(error).__name__})
                continue
            answers = answers or owners_in(slots, server.address[0])
            if b"cluster_state:ok" in bytes(info):
                return owners_in(slots, server.address[0])
        return answers

    def some_nodes(self) -> list[Server]:
        """Return the nodes to ask, in random order, those that seem to be down last."""
        found = list({*self.known.values(), *map(self.server_at, self.addresses)})
        random.shuffle(found)
        return sorted(found, key=lambda server: server.breaker.outage is not None)

    def use(self, table: list[Server]) -> None:
        """Serve by this table from now on."""
        of_servers: dict[Server, list[str]] = {server: [] for server in self.known.values()}
        for tag, server in zip(tags(), table, strict=True):
            of_servers.setdefault(server, []).append(tag)
        for server, served in of_servers.items():
            if served:
                server.tags = tuple(served)
        if self.nowhere in of_servers:
            logger.warning("%d slots of the Redis Cluster have no node", len(of_servers[self.nowhere]))
        else:
            self.nowhere.retire()
        self.table = table
        for address, server in list(self.known.items()):
            if not of_servers[server]:
                server.retire()
                if address not in self.addresses:  # these are asked again
                    del self.known[address]


def address_in(error: AskError, server: Server) -> Address:
    """Return where a redirection leads. An empty host is that of the server that answered."""
    return error.node_addr[0] or server.address[0], int(error.node_addr[1])


def owners_in(slots: Sequence[Any], asked: str) -> dict[tuple[int, int], Address]:
    """Return the address of the master of each range in an answer to CLUSTER SLOTS; `asked` is the host that was asked,
    for which a node that does not know its own address has an empty text.
    """
    return {
        (int(first), int(last)): (str_if_bytes(host or b"") or asked, int(port))
        for first, last, (host, port, *_), *_ in slots
    }


def missing_slots(owners: Mapping[tuple[int, int], Address]) -> list[tuple[int, int]]:
    """Return the ranges of slots that have no master."""
    missing, expected = [], 0
    for first, last in sorted(owners):
        if first > expected:
            missing.append((expected, first - 1))
        expected = last + 1
    return [*missing, (expected, SLOTS - 1)] if expected < SLOTS else missing
