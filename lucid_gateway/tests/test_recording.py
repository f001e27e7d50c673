"""The journey that users come for: record a session, upload its chunks, complete it, prove what it holds.

On a real gateway with two workers, of which one is killed midway, before the demo clusters.
"""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
from pymerkle import InmemoryTree, verify_inclusion
from pymerkle.proof import MerkleProof

from demo.launch import running_clusters
from testing.gateway import Gateway, running_gateway
from testing.hammer import workers
from testing.parallel import in_parallel
from testing.servers import running_mongod

CHUNKS = [random.Random(number).randbytes(1000 + 10_000 * number) for number in range(24)]
GIVE_UP_SECONDS = 60


class Client:
    """The owner of a session. Each request has its own connection, and is retried if its worker died."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.token = gateway, gateway.issue_token("demo@lucid.test")

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> tuple[int, Any]:
        """Send one request; return status and JSON. Raises OSError or HTTPException."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)) as connection:
            headers = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in fields.items()}
            connection.request(method, f"/api/v1{path}", body, headers)
            with connection.getresponse() as response:
                text = response.read()
                return response.status, json.loads(text) if text else None

    def get(self, method: str, path: str, **data: Any) -> Any:
        """Send a request with a JSON body that must succeed; return the answer's JSON."""
        status, answer = self.ask(
            method, path, json.dumps(data).encode() if data else None, Content_Type="application/json"
        )
        assert status < 300, answer
        return answer

    def upload(self, session: str, index: int) -> int:
        """Upload a chunk until it is recorded; return the status of the answer that confirms it."""
        digest, deadline = hashlib.sha256(CHUNKS[index]).hexdigest(), time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, HTTPException):
                status, answer = self.ask(
                    "POST", f"/sessions/{session}/chunks", CHUNKS[index], Content_Type="application/octet-stream",
                    X_Chunk_Index=str(index), X_Chunk_SHA256=digest,
                )  # fmt: skip
                if status in (200, 201):
                    assert (answer["index"], answer["size"], answer["hash"]) == (index, len(CHUNKS[index]), digest)
                    return status
                assert status in (409, 429, 502, 503), answer
            time.sleep(0.2)
        pytest.fail(f"chunk {index} was never recorded")


@pytest.fixture(params=["sqlite", "mongodb"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        uri = {"MONGODB_URI": stack.enter_context(running_mongod())} if request.param == "mongodb" else {}
        clusters = stack.enter_context(running_clusters())
        yield Client(
            stack.enter_context(
                running_gateway(
                    BLOCKCHAIN_CORE_URL=clusters.blockchain_core,
                    SESSION_MANAGEMENT_URL=clusters.session_management,
                    RATE_LIMIT_CHUNK_UPLOAD_BYTES_PER_SECOND="100000000",
                    **uri,
                )
            )
        )


def kill_a_worker_soon(gateway: Gateway) -> None:
    time.sleep(0.15)
    os.kill(workers(gateway)[0], signal.SIGKILL)


def test_a_parallel_upload_survives_a_killed_worker_and_is_proved(client: Client) -> None:
    session = client.get("POST", "/sessions", name="A recording")["session_id"]
    killer = threading.Thread(target=kill_a_worker_soon, args=[client.gateway])
    killer.start()
    statuses = in_parallel(len(CHUNKS), lambda index: client.upload(session, index))
    killer.join()
    assert set(statuses) <= {200, 201}
    assert [client.upload(session, index) for index in range(3)] == [200] * 3  # again, counted once

    read = client.get("GET", f"/sessions/{session}")
    assert (read["chunk_count"], read["size_bytes"]) == (len(CHUNKS), sum(map(len, CHUNKS)))
    assert client.get("PATCH", f"/sessions/{session}", status="completed")["status"] == "completed"

    manifest = client.get("POST", "/manifests", session_id=session)
    tree = InmemoryTree.init_from_entries([hashlib.sha256(chunk).digest() for chunk in CHUNKS], algorithm="sha256")
    assert manifest["merkle_root"] == tree.get_root().hex()
    for index, chunk in enumerate(CHUNKS):
        proof = client.get("GET", f"/manifests/{manifest['manifest_id']}/proof/{index}")
        expected: MerkleProof = tree.prove_inclusion(index + 1)
        assert [proof["leaf_hash"], *proof["audit_path"]] == [step.hex() for step in expected.path]
        verify_inclusion(tree.get_leaf(index + 1), bytes.fromhex(proof["merkle_root"]), expected)
        assert proof["chunk_hash"] == hashlib.sha256(chunk).hexdigest()

    anchored = client.get("POST", f"/manifests/{manifest['manifest_id']}/anchor")
    assert anchored["anchor_status"] in ("pending", "confirmed")
    assert "valid: 24 chunks" in client.gateway.manage("verify_manifest", manifest["manifest_id"])
    assert client.ask("DELETE", f"/sessions/{session}")[0] == 204
    with pytest.raises(subprocess.CalledProcessError):
        client.gateway.manage("verify_manifest", manifest["manifest_id"])
