"""The body of an upload on its way through: counted and hashed as it is read, its end held back until it is right."""

import hashlib
from collections.abc import Callable

from lucid_gateway.kernel.error_responses import invalid_fields
from lucid_gateway.policy.errors import BadRequest, ChunkTooLarge, GatewayError, InvalidRequest, SessionTooLarge
from lucid_gateway.policy.routes import CHUNK_UPLOAD
from proxy.forwarding.forwarder import READ_SIZE, BodySource

MAX_CHUNK = CHUNK_UPLOAD.body_limit
SHA256 = "X-Chunk-SHA256"


def empty_chunk() -> InvalidRequest:
    """Return the error for a body without a byte."""
    return invalid_fields([{"field": "body", "message": "A chunk has at least one byte.", "code": "min_length"}])


def wrong_hash(digest: str) -> InvalidRequest:
    """Return the error for a body that is not what its announced hash says."""
    return invalid_fields([{"field": SHA256, "message": f"The body's SHA-256 is {digest}.", "code": "invalid"}])


def too_large() -> ChunkTooLarge:
    """Return the error for a chunk over the limit."""
    return ChunkTooLarge(details={"limit_bytes": MAX_CHUNK})


class ChunkBody:
    """Stands in for wsgi.input. `length` is bytes, None when the body comes in chunks; `announced` a hash or nothing.

    The forwarder sends what `read` has returned: the last piece, and without a length the end, are returned only once
    all of the body is known to be right, so a wrong one is never a whole request at the cluster.
    """

    def __init__(self, source: BodySource, *, length: int | None, announced: str) -> None:
        self.source, self.length, self.announced = source, length, announced.lower()
        self.digest = hashlib.sha256()
        self.size = 0
        self.room = MAX_CHUNK
        self.whole = False
        self.first: bytes | None = None
        self.moved: Callable[[], None] = lambda: None
        self.before_end: Callable[[], None] = lambda: None

    @property
    def hash(self) -> str:
        """The SHA-256 of what was read so far."""
        return self.digest.hexdigest()

    def peek(self) -> None:
        """Read the first piece ahead: who sends none gets no cluster asked."""
        if self.length is None:
            self.first = self.take(READ_SIZE)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; raise ChunkTooLarge, SessionTooLarge, InvalidRequest or BadRequest."""
        if self.first is not None:
            piece, self.first = self.first, None
            return piece
        return self.take(size)

    def read_all(self) -> str:
        """Read the body for its hash alone and return that; raise as `read` does, or BadRequest if it is too short."""
        while not self.whole:
            wanted = READ_SIZE if self.length is None else min(READ_SIZE, self.length - self.size)
            if not self.take(wanted) and not self.whole:
                raise BadRequest("The body is shorter than announced")
        return self.hash

    def take(self, size: int) -> bytes:
        """Read, count and hash; check the whole at its end."""
        try:
            piece = self.source.read(size)
        except GatewayError:
            raise  # a limit on what is read
        except Exception as error:
            raise BadRequest("Malformed request body") from error
        self.moved()
        self.size += len(piece)
        if self.size > self.room:
            raise too_large() if self.room == MAX_CHUNK else SessionTooLarge(details={"room_bytes": self.room})
        self.digest.update(piece)
        if self.size == self.length or (self.length is None and not piece):
            self.end()
        return piece

    def end(self) -> None:
        """Check what was read as a whole."""
        if not self.size:
            raise empty_chunk()
        if self.announced not in ("", self.hash):
            raise wrong_hash(self.hash)
        self.before_end()
        self.whole = True
