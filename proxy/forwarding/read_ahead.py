"""The body of an answer, read ahead of the client so that it can be stored."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from proxy.connection.upstream import ClientGone, TruncatedAnswer


class Body(Protocol):
    """A body as a stream; closing it frees its connection."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...


class ReadAhead:
    """A body that yields what was read ahead, then the rest; an error while reading ahead is raised in its place."""

    def __init__(self, source: Body) -> None:
        self.source = source
        self.pieces: deque[bytes] = deque()
        self.failure: TruncatedAnswer | ClientGone | None = None

    def whole(self, *, limit: int, seconds: float) -> bytes | None:
        """Return the whole body, or None if it is truncated, over `limit` bytes, or takes longer than `seconds`."""
        until = time.monotonic() + seconds
        size = 0
        try:
            for piece in self.source:
                self.pieces.append(piece)
                size += len(piece)
                if size > limit or time.monotonic() > until:
                    return None
        except (TruncatedAnswer, ClientGone) as error:
            self.failure = error
            return None
        return b"".join(self.pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.pieces:
            return self.pieces.popleft()
        if self.failure is not None:
            raise self.failure
        return next(self.source)

    def close(self) -> None:
        self.source.close()
