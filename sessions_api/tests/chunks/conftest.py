"""A real gateway with a raw session-management cluster behind it, and unused sessions for each test."""

import contextlib
import datetime
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient
from testing.http.cluster import RawCluster, Visit
from testing.http.messages import Message

MIB = 1024 * 1024
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
OCTETS, CHUNKED = "Content-Type: application/octet-stream", "Transfer-Encoding: chunked"
CAST = """
import json
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from sessions_api.models import Session
users = {name: User.objects.get(email=f"{name}@lucid.test") for name in ("demo", "operator", "admin")}
def make(count, name="demo", **fields):
    return [str(Session.objects.create(user=users[name], name="a session", **fields).pk) for _ in range(count)]
sessions = {
    "plain": make(60), "small": make(20, max_size_bytes=2**20), "completed": make(1, status="completed"),
    "others": make(3, "operator"),
}
tokens = {name: issue_tokens(user).access for name, user in users.items()}
print(json.dumps({"tokens": tokens, "sessions": sessions}))
"""


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def chunks(*pieces: bytes) -> bytes:
    """Return the complete body in chunked transfer coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def created(visit: Visit) -> None:
    visit.send(CREATED)


@dataclass(frozen=True)
class Store:
    """Reads and writes the rows of a gateway from outside; ids are UUIDs as text."""

    env: Mapping[str, str]

    def read(self, model: str, key: str, column: str) -> Any:
        """Return the value of a column in the row with that key."""
        with self.rows(model) as rows:
            if isinstance(rows, sqlite3.Connection):
                text = f"SELECT {column} FROM sessions_api_{model} WHERE {model}_id = ?"  # of ours alone
                return rows.execute(text, [UUID(key).hex]).fetchone()[0]
            return (rows.find_one({f"{model}_id": UUID(key).hex}) or {})[column]

    def write(self, model: str, key: str, column: str, value: Any) -> None:
        """Change the value of a column in the row with that key."""
        with self.rows(model) as rows:
            if isinstance(rows, sqlite3.Connection):
                text = f"UPDATE sessions_api_{model} SET {column} = ? WHERE {model}_id = ?"  # the same
                assert rows.execute(text, [value, UUID(key).hex]).rowcount == 1
                rows.commit()
            else:
                assert rows.update_one({f"{model}_id": UUID(key).hex}, {"$set": {column: value}}).matched_count == 1

    def end_leases(self, session: str) -> None:
        """End the leases of the session's uploads."""
        with self.rows("chunk") as rows:
            past, key = datetime.datetime.now(datetime.UTC), UUID(session).hex
            if isinstance(rows, sqlite3.Connection):
                text = "UPDATE sessions_api_chunk SET lease_until = ? WHERE session_id = ? AND state = 'uploading'"
                assert rows.execute(text, [f"{past:%Y-%m-%d %H:%M:%S.%f}", key]).rowcount
                rows.commit()
            else:
                rows.update_many({"session_id": key, "state": "uploading"}, {"$set": {"lease_until": past}})

    @contextlib.contextmanager
    def rows(self, model: str) -> "Iterator[sqlite3.Connection | Collection[dict[str, Any]]]":
        if uri := self.env.get("MONGODB_URI"):
            with MongoClient[dict[str, Any]](uri) as client:
                yield client[self.env["MONGODB_DATABASE"]][f"sessions_api_{model}"]
        else:
            with contextlib.closing(sqlite3.connect(self.env["SQLITE_PATH"], timeout=10)) as connection:
                yield connection


@dataclass
class Stage:
    """The gateway, its cluster, the tokens of several users, and the ids of unused sessions by their kind."""

    gateway: Gateway
    cluster: RawCluster
    tokens: dict[str, str]
    sessions: dict[str, list[str]]

    def session(self, kind: str = "plain") -> str:
        """Return the id of an unused active session of the demo user."""
        return self.sessions[kind].pop()

    def connect(self, who: str = "demo") -> RawClient:
        return RawClient(self.gateway.port, self.tokens[who])

    def ask(self, method: str, path: str, *fields: str, who: str = "demo", body: bytes | None = None) -> Message:
        with self.connect(who) as client:
            return client.ask(method, path, *fields, body=body)

    def upload(self, session: str, index: object, body: bytes, *fields: str, who: str = "demo") -> Message:
        """Upload a chunk with Content-Length, or with the framing that the fields name."""
        return self.ask("POST", f"/sessions/{session}/chunks", *place(index), *fields, who=who, body=body)

    def listed(self, session: str) -> list[tuple[int, int, str]]:
        """Return index, size and hash of all recorded chunks."""
        answer = self.ask("GET", f"/sessions/{session}/chunks?limit=100").json()
        assert answer["pagination"]["total"] == len(answer["chunks"])
        return [(chunk["index"], chunk["size"], chunk["hash"]) for chunk in answer["chunks"]]

    def reserved(self, session: str) -> int:
        """Return the session's reserved bytes."""
        return int(self.store.read("session", session, "reserved_bytes"))

    @property
    def store(self) -> "Store":
        return Store(self.gateway.env)


def place(index: object) -> list[str]:
    """Return the header fields of an upload to the index."""
    return [OCTETS, f"X-Chunk-Index: {index}"]


def outcome(answer: Message) -> str:
    """Return the code of an error from the gateway, otherwise the status."""
    return answer.code if answer.status >= 400 else str(answer.status)


def outcomes(answers: list[Message]) -> Counter[str]:
    return Counter(outcome(answer) for answer in answers)


def stage_of(gateway: Gateway, cluster: RawCluster) -> Stage:
    """Return the stage of a gateway that has just been started."""
    made = json.loads(gateway.manage("shell", "--no-imports", "-c", CAST).splitlines()[-1])
    return Stage(gateway, cluster, made["tokens"], made["sessions"])


@pytest.fixture(scope="package")
def whole_chunk_stage() -> Iterator[Stage]:
    with (
        RawCluster() as cluster,
        running_gateway(
            SESSION_MANAGEMENT_URL=cluster.url, RATE_LIMIT_ENABLED="false", MONGODB_DATABASE="chunks"
        ) as gateway,
    ):
        yield stage_of(gateway, cluster)


@pytest.fixture
def stage(whole_chunk_stage: Stage) -> Stage:
    """The gateway and its cluster, which is reset and accepts every chunk."""
    whole_chunk_stage.cluster.forget()
    whole_chunk_stage.cluster.behaviour = created
    return whole_chunk_stage
