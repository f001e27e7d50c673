"""The body of an upload: counted and hashed as it is forwarded; its end is held back until the whole is checked."""

import hashlib
from collections.abc import Callable

from lucid_gateway.kernel.error_responses import invalid_fields
from lucid_gateway.policy.errors import BadRequest, ChunkTooLarge, GatewayError, InvalidRequest, SessionTooLarge
from lucid_gateway.policy.routes import CHUNK_UPLOAD
from proxy.forwarding.forwarder import READ_SIZE, BodySource

MAX_CHUNK = CHUNK_UPLOAD.body_limit
SHA256 = "X-Chunk-SHA256"


def empty_chunk() -> InvalidRequest:
    return invalid_fields([{"field": "body", "message": "A chunk must have at least one byte.", "code": "min_length"}])


def wrong_hash(digest: str) -> InvalidRequest:
    """Return the error for a body whose real hash, `digest`, differs from the expected one."""
    return invalid_fields([{"field": SHA256, "message": f"The body's SHA-256 is {digest}.", "code": "invalid"}])


def too_large() -> ChunkTooLarge:
    return ChunkTooLarge(details={"limit_bytes": MAX_CHUNK})


class ChunkBody:
    """Replaces wsgi.input. `length` is in bytes, None with chunked transfer coding; `expected_hash` is hex or empty.

    `read` returns the last piece, or without a length the end, only after the size and hash of the whole body were
    checked. So a wrong body never reaches the cluster as a complete request.
    """

    def __init__(self, source: BodySource, *, length: int | None, expected_hash: str) -> None:
        self.source, self.length, self.expected_hash = source, length, expected_hash.lower()
        self.digest = hashlib.sha256()
        self.size = 0
        self.limit = MAX_CHUNK
        self.complete = False
        self.first_piece: bytes | None = None
        self.on_progress: Callable[[], None] = lambda: None
        self.before_last_piece: Callable[[], None] = lambda: None

    @property
    def hash(self) -> str:
        """The SHA-256, in hex, of the bytes read so far."""
        return self.digest.hexdigest()

    def peek(self) -> None:
        """Read the first piece of a body without a length: an empty one is refused before the cluster is asked."""
        if self.length is None:
            self.first_piece = self.read_piece(READ_SIZE)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; raise ChunkTooLarge, SessionTooLarge, InvalidRequest or BadRequest."""
        if self.first_piece is not None:
            piece, self.first_piece = self.first_piece, None
            return piece
        return self.read_piece(size)

    def read_all(self) -> str:
        """Read the rest of the body and return its hash; raise as `read` does, or BadRequest if it is too short."""
        while not self.complete:
            wanted = READ_SIZE if self.length is None else min(READ_SIZE, self.length - self.size)
            if not self.read_piece(wanted) and not self.complete:
                raise BadRequest("The body is shorter than its Content-Length")
        return self.hash

    def read_piece(self, size: int) -> bytes:
        """Read, count and hash a piece; after the last one check the whole body."""
        try:
            piece = self.source.read(size)
        except GatewayError:
            raise  # from the reader that limits the request's bandwidth and size
        except Exception as error:
            raise BadRequest("Malformed request body") from error
        self.on_progress()
        self.size += len(piece)
        if self.size > self.limit:
            raise too_large() if self.limit == MAX_CHUNK else SessionTooLarge(details={"room_bytes": self.limit})
        self.digest.update(piece)
        if self.size == self.length or (self.length is None and not piece):
            self.end()
        return piece

    def end(self) -> None:
        if not self.size:
            raise empty_chunk()
        if self.expected_hash not in ("", self.hash):
            raise wrong_hash(self.hash)
        self.before_last_piece()
        self.complete = True
