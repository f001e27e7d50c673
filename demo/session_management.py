"""The session management cluster of the demo: it hashes chunks as they stream in and stores only their metadata."""

import hashlib
import time
from threading import Lock
from typing import Any
from uuid import uuid4

from demo.routing import Answer, Cluster, Invalid, NotFound, Request, Route, json_answer, rfc3339


class ChunkShelf:
    """The metadata of each session's chunks by index; a repeated index replaces the earlier chunk."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions: dict[str, dict[int, dict[str, Any]]] = {}

    def record(self, session_id: str, index: int | None, *, size: int, sha256: str) -> dict[str, Any]:
        """Store a chunk's metadata; without an index it goes after the last one."""
        with self._lock:
            chunks = self._sessions.setdefault(session_id, {})
            place = max(chunks, default=-1) + 1 if index is None else index
            chunks[place] = {
                "chunk_id": str(uuid4()),
                "session_id": session_id,
                "index": place,
                "size": size,
                "sha256": sha256,
                "created_at": rfc3339(time.time()),
            }
            return chunks[place]

    def chunks(self, session_id: str) -> list[dict[str, Any]]:
        """A session's chunks in index order; an empty list for an unknown session."""
        with self._lock:
            return [chunk for _, chunk in sorted(self._sessions.get(session_id, {}).items())]

    def drop(self, session_id: str) -> None:
        with self._lock:
            self._sessions.pop(session_id, None)


def _chunk_index(request: Request) -> int | None:
    text = request.header("X-Chunk-Index")
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise Invalid("X-Chunk-Index must be a whole number")
    return int(text)


def session_management() -> Cluster:
    """The session management cluster as a WSGI application, without sessions."""
    shelf = ChunkShelf()

    def upload(request: Request, session_id: str) -> Answer:
        index, size, digest = _chunk_index(request), 0, hashlib.sha256()
        for piece in request.pieces():
            size += len(piece)
            digest.update(piece)
        return json_answer(shelf.record(session_id, index, size=size, sha256=digest.hexdigest()), 201)

    def list_chunks(request: Request, session_id: str) -> Answer:
        page, chunks = request.page(), shelf.chunks(session_id)
        return json_answer({"chunks": page.cut(chunks), "pagination": page.summary(len(chunks))})

    def show_chunk(request: Request, session_id: str, chunk_id: str) -> Answer:
        for chunk in shelf.chunks(session_id):
            if chunk["chunk_id"] == chunk_id:
                return json_answer(chunk)
        raise NotFound("chunk")

    def drop(request: Request, session_id: str) -> Answer:
        shelf.drop(session_id)
        return Answer(204)

    return Cluster(
        "session-management",
        [
            Route("POST", "/api/v1/sessions/{session_id}/chunks", upload),
            Route("GET", "/api/v1/sessions/{session_id}/chunks", list_chunks),
            Route("GET", "/api/v1/sessions/{session_id}/chunks/{chunk_id}", show_chunk),
            Route("DELETE", "/api/v1/sessions/{session_id}", drop),
        ],
    )
