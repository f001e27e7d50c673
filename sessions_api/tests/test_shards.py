"""The queries of frequent requests, which name the shard key on MongoDB."""

from typing import Any

import pytest

from accounts.tokens.issuing import TokenPair
from conftest import ApiClient
from testing.http.cluster import RawCluster
from testing.profiler import profiled
from testing.shards import untargeted


@pytest.fixture
def session(api: ApiClient, tokens: TokenPair) -> str:
    """The id of a session. Whatever a worker does once, such as rebuilding the revocations in Redis, is done."""
    answer = api.send("post", "/sessions", {"name": "s"}, token=tokens.access)
    return str(answer.json()["session_id"])


@pytest.mark.mongodb
def test_requests_about_sessions_ask_one_shard(
    api: ApiClient, tokens: TokenPair, session: str, cluster: RawCluster
) -> None:
    def ask(method: str, path: str, status: int, data: Any = None, **fields: str) -> None:
        answer = api.send(method, f"/sessions{path}", data, token=tokens.access, headers=fields)
        assert answer.status_code == status

    with profiled() as entries:
        ask("post", "", 201, {"name": "s"}, **{"Idempotency-Key": "k" * 20})
        ask("get", "", 200)
        ask("get", f"/{session}", 200)
        assert upload(api, tokens.access, session) == 201
        ask("get", f"/{session}/chunks", 200)

    assert len(entries) > 10
    assert untargeted(entries) == set()


def upload(api: ApiClient, token: str, session: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "X-Chunk-Index": "0"}
    body = {"content_type": "application/octet-stream", "data": b"abc"}
    return api.post(f"/api/v1/sessions/{session}/chunks", headers=headers, **body).status_code
