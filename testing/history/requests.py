"""Workloads about data: sessions and chunks, idempotent POSTs, and limited requests."""

import hashlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from testing.history.clients import Client, exchange, succeeded
from testing.history.operations import Kind, Outcome, Pending
from testing.history.world import Person
from testing.http.client import request_bytes
from testing.http.messages import Message
from testing.waiting import wait_until

SESSIONS_OF_ONE = 40  # sessions of one user, who may have 100
CHUNKS = 2
CROWD, OF_EACH = 4, 6  # together more than LIMIT and BURST


def write_sessions(client: Client) -> Iterator[None]:
    """Create sessions of one user, rename them, upload chunks, and read all of it back; yield after each."""
    token = client.world.person().access
    for _ in range(SESSIONS_OF_ONE):
        if session := create_session(client, token):
            client.world.written.append((session, token))
            read_session(client, session, token)
            rename_session(client, session, token)
            for index in range(client.rng.randrange(CHUNKS + 1)):
                upload_chunk(client, session, index, token)
            read_back(client, session, token)
            read_back(client, *client.rng.choice(client.world.written))
        yield


def new_name(client: Client) -> str:
    """Return a name that no other session has."""
    return str(uuid.UUID(int=client.rng.getrandbits(128), version=4))


def create_session(client: Client, token: str) -> str | None:
    """Return the id of a new session, None if no answer named it."""
    name = new_name(client)

    def note(pending: Pending, answer: Message) -> None:
        if answer.status == 201:
            pending.subject = answer.json()["session_id"]

    answer = client.ask(Kind.WRITE, "", client.request("POST", "/sessions", {"name": name}, token=token),
                        note=note, value=name)  # fmt: skip
    return str(answer.json()["session_id"]) if answer is not None and answer.status == 201 else None


def rename_session(client: Client, session: str, token: str) -> None:
    """Change the name of the session."""
    name = new_name(client)
    client.ask(Kind.WRITE, session, client.request("PATCH", f"/sessions/{session}", {"name": name}, token=token),
               value=name)  # fmt: skip


def upload_chunk(client: Client, session: str, index: int, token: str) -> None:
    """Upload a chunk of a few random bytes."""
    data = client.rng.randbytes(200)
    fields = [f"X-Chunk-Index: {index}", "Content-Type: application/octet-stream", f"Authorization: Bearer {token}"]
    request = request_bytes("POST", f"/api/v1/sessions/{session}/chunks", *fields, body=data)
    client.ask(Kind.WRITE, f"{session}/{index}", request, value=hashlib.sha256(data).hexdigest())


def read_back(client: Client, session: str, token: str) -> None:
    """Read the session and its chunks."""
    read_session(client, session, token)
    for index in range(CHUNKS):
        read_chunk(client, session, index, token)


def read_session(client: Client, session: str, token: str) -> None:
    """Read the name of the session."""

    def note(pending: Pending, answer: Message) -> None:
        if answer.status in (200, 404):
            pending.outcome = Outcome.OK
            pending.facts["value"] = answer.json()["name"] if answer.status == 200 else None

    client.ask(Kind.READ, session, client.request("GET", f"/sessions/{session}", token=token), note=note)


def read_chunk(client: Client, session: str, index: int, token: str) -> None:
    """Read the hash of the chunk."""

    def note(pending: Pending, answer: Message) -> None:
        if answer.status == 200:
            hashes = {chunk["index"]: chunk["hash"] for chunk in answer.json()["chunks"]}
            pending.facts["value"] = hashes.get(index)

    path = f"/sessions/{session}/chunks"
    client.ask(Kind.READ, f"{session}/{index}", client.request("GET", path, token=token), note=note)


def post_with_keys(client: Client) -> Iterator[None]:
    """Send POSTs with an Idempotency-Key, twice at once and then again, to the gateway and to a cluster; yield after
    each key.
    """
    token = client.world.person().access
    client.world.owners.append(token)
    for _ in range(SESSIONS_OF_ONE):
        key, forwarded = new_name(client), client.rng.random() < 0.6
        pair = [client.from_elsewhere(suffix) for suffix in "ab"]
        with ThreadPoolExecutor(2) as threads:
            for one in [threads.submit(post, twin, key, token, forwarded) for twin in pair]:
                one.result()
        for _ in range(client.rng.randrange(3)):
            client.pause(0.5)
            post(client, key, token, forwarded)
        yield


def post(client: Client, key: str, token: str, forwarded: bool) -> None:
    """Send the one request of the key."""

    def note(pending: Pending, answer: Message) -> None:
        pending.facts["replayed"] = answer.header("Idempotent-Replayed") == "true"

    path = "/wallets" if forwarded else "/sessions"
    request = client.request("POST", path, {"name": key}, f"Idempotency-Key: {key}", token=token)
    client.ask(Kind.POST, key, request, note=note, forwarded=forwarded)


def note_executions(client: Client) -> None:
    """Note each session that an idempotent POST has created as an execution. All servers must be well again."""
    world = client.world
    for token in world.owners:
        for session in sessions_of(client, token):
            with world.history.operation("database", Kind.EXECUTION, session["name"], "database") as execution:
                execution.answered, execution.outcome = True, Outcome.OK
                execution.facts["session"] = session["session_id"]


def sessions_of(client: Client, token: str) -> list[Any]:
    """Return the sessions of a user as soon as a gateway lists them."""
    request = client.request("GET", "/sessions?limit=100", token=token)

    def listed() -> list[list[Any]]:
        answer = exchange(client.world.gateways[client.gateway()].port, request)
        return [answer.json()["sessions"]] if answer is not None and succeeded(answer) else []

    return wait_until(listed, 30, every=0.2)[0]


def ask_limited(client: Client) -> None:
    """Send a request of a user who has used the limit up, most of the time."""
    send_limited(client, client.rng.choice(client.world.limited))


def ask_all_at_once(client: Client) -> None:
    """Send more than the limit and the burst of one user, at once."""
    person = client.world.person()
    crowd = [client.from_elsewhere(f"{number}") for number in range(CROWD)]
    with ThreadPoolExecutor(CROWD) as threads:
        for one in [threads.submit(send_limited, twin, person) for twin in crowd for _ in range(OF_EACH)]:
            one.result()


def send_limited(client: Client, person: Person) -> None:
    """Send a request that a small limit counts."""
    request = client.request("GET", "/chain/blocks", token=person.access)
    client.ask(Kind.LIMITED, person.user, request, user=person.user)
