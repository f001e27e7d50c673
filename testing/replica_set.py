"""A real MongoDB replica set of three members on loopback, which can be killed, hung, stepped down
and cut off.
"""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from testing.bridge import Bridge, running_bridge
from testing.servers import child, folder, free_port, mongod_binary, wait_for_port
from testing.waiting import wait_until

NAME = "test"
SIZE = 3
PRIMARY, SECONDARY = 1, 2  # values of myState
ELECTION_TIMEOUT_MS, HEARTBEAT_MS = 1000, 200
WAIT_SECONDS = 90


@dataclass
class Member:
    """One mongod of the set; its files outlive its process."""

    port: int
    path: Path
    process: "subprocess.Popen[bytes]"
    bridge: Bridge

    @property
    def host(self) -> str:
        """The address by which the other members and the clients know it."""
        return f"127.0.0.1:{self.bridge.port}"

    def state(self) -> int:
        """Return its state, of MongoDB's numbers, or 0 if it does not answer."""
        with contextlib.suppress(PyMongoError), client(self) as mongod:
            return int(mongod.admin.command("replSetGetStatus")["myState"])
        return 0


@dataclass(frozen=True)
class ReplicaSet:
    """The running set."""

    members: list[Member]
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def uri(self) -> str:
        """The connection string that names all members."""
        return self.uri_as(NAME)

    def uri_as(self, name: str) -> str:
        return f"mongodb://{','.join(member.host for member in self.members)}/?replicaSet={name}"

    def primary(self) -> Member:
        """Return the primary; wait for the end of an election."""
        found = wait_until(lambda: [one for one in self.members if one.state() == PRIMARY], WAIT_SECONDS, every=0.1)
        return found[0]

    def secondaries(self) -> list[Member]:
        primary = self.primary()
        return [member for member in self.members if member is not primary]

    def wait_until_whole(self) -> None:
        """Return when there is one primary and all other members follow it."""
        whole = [PRIMARY, *[SECONDARY] * (len(self.members) - 1)]
        wait_until(lambda: sorted(member.state() for member in self.members) == whole, WAIT_SECONDS, every=0.1)

    @contextlib.contextmanager
    def killed(self, member: Member) -> Iterator[None]:
        """Kill the member, and start it again after this context, with its files."""
        member.process.kill()
        member.process.wait()
        try:
            yield
        finally:
            member.process = self.stack.enter_context(running_member(member.port, member.path))

    def stored(self, database: str, collection: str, field: str, **query: object) -> set[str]:
        """Return the values of a field in the rows that a majority has."""
        with pymongo.MongoClient[dict[str, Any]](self.uri, readConcernLevel="majority") as mongod:
            return set(mongod[database][collection].distinct(field, query))

    def step_down(self) -> None:
        """Let the primary hand over to another member; it may not come back for a while."""
        with client(self.primary()) as mongod:
            mongod.admin.command("replSetStepDown", 20, secondaryCatchUpPeriodSecs=10)

    @contextlib.contextmanager
    def cut_off(self, member: Member) -> Iterator[None]:
        """Cut all connections between this member and the others in this context; clients reach all of them."""
        others = [other for other in self.members if other is not member]
        member.bridge.refuse(*(other.port for other in others))
        for other in others:
            other.bridge.refuse(member.port)
        try:
            yield
        finally:
            for one in self.members:
                one.bridge.refuse()

    @contextlib.contextmanager
    def hung(self, *members: Member) -> Iterator[None]:
        """Freeze these members in this context: connections stay open, and nothing answers."""
        for member in members:
            member.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for member in members:
                member.process.send_signal(signal.SIGCONT)


def client(member: Member) -> "pymongo.MongoClient[dict[str, Any]]":
    """Return a client of one member, whatever its role."""
    return pymongo.MongoClient(
        f"mongodb://127.0.0.1:{member.port}/?directConnection=true",
        serverSelectionTimeoutMS=500, connectTimeoutMS=500, socketTimeoutMS=30_000,
    )  # fmt: skip


@contextlib.contextmanager
def running_member(port: int, path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [mongod_binary(), "--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", str(path), "--replSet", NAME,
               "--nounixsocket", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25",
               "--setParameter", "diagnosticDataCollectionEnabled=false",
               "--setParameter", "enableTestCommands=1"]  # fmt: skip
    with child(command, path / "log") as process:
        wait_for_port(port, process)
        yield process


@contextlib.contextmanager
def running_replica_set(election_timeout_ms: int = ELECTION_TIMEOUT_MS) -> Iterator[ReplicaSet]:
    """Run an empty set with a primary; a secondary takes over when it has not heard of the primary for that time."""
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(SIZE):
            port, path = free_port(), stack.enter_context(folder())
            process = stack.enter_context(running_member(port, path))
            members.append(Member(port, path, process, stack.enter_context(running_bridge(free_port(), port))))
        initiate(members, election_timeout_ms)
        found = ReplicaSet(members, stack)
        found.wait_until_whole()
        try:
            yield found
        finally:
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    member.process.send_signal(signal.SIGCONT)  # a hung member would not end
                    member.process.kill()  # a primary would first wait for the others


def initiate(members: list[Member], election_timeout_ms: int) -> None:
    settings = {"electionTimeoutMillis": election_timeout_ms, "heartbeatIntervalMillis": HEARTBEAT_MS}
    hosts = [{"_id": number, "host": member.host} for number, member in enumerate(members)]
    with client(members[0]) as mongod:
        mongod.admin.command("replSetInitiate", {"_id": NAME, "members": hosts, "settings": settings})
