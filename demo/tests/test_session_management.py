import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from demo.launch import DemoClusters

MEBIBYTE = 1024 * 1024


def _chunks_path() -> str:
    return f"/api/v1/sessions/{uuid4()}/chunks"


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_a_chunk_is_answered_with_its_size_and_hash(sessions: httpx.Client) -> None:
    body = b"\x00\xff" * 5000
    answer = sessions.post(_chunks_path(), content=body, headers={"X-Chunk-Index": "3"})
    assert answer.status_code == 201
    facts = answer.json()
    assert (facts["index"], facts["size"]) == (3, len(body))
    assert facts["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_large_chunked_body_is_not_buffered(sessions: httpx.Client, clusters: DemoClusters) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(MEBIBYTE)

    before = _peak_kib(clusters.pid)
    answer = sessions.post(_chunks_path(), content=body())
    assert answer.json()["size"] == 64 * MEBIBYTE
    assert _peak_kib(clusters.pid) - before < 16 * 1024


def test_chunks_are_listed_in_index_order(sessions: httpx.Client) -> None:
    path = _chunks_path()
    for index in (2, 0, 1):
        sessions.post(path, content=b"x" * (index + 1), headers={"X-Chunk-Index": str(index)})
    listed = sessions.get(path).json()["chunks"]
    assert [chunk["size"] for chunk in listed] == [1, 2, 3]
    assert sessions.get(f"{path}/{listed[1]['chunk_id']}").json() == listed[1]


def test_a_body_that_ends_early_is_not_recorded(sessions: httpx.Client, clusters: DemoClusters) -> None:
    path, address = _chunks_path(), urlsplit(clusters.session_management)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert sessions.get(path).json()["chunks"] == []


def test_a_deleted_session_has_no_chunks(sessions: httpx.Client) -> None:
    path = _chunks_path()
    sessions.post(path, content=b"x")
    answer = sessions.delete(path.removesuffix("/chunks"))
    assert (answer.status_code, answer.content) == (204, b"")
    assert sessions.get(path).json()["chunks"] == []


@pytest.mark.parametrize("index", ["-1", "x", "1.0"])
def test_an_invalid_index_is_refused(sessions: httpx.Client, index: str) -> None:
    assert sessions.post(_chunks_path(), content=b"x", headers={"X-Chunk-Index": index}).status_code == 422
