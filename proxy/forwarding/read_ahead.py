"""The body of an answer, of which a part is read before anybody asks for it."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from proxy.connection.upstream import AnswerCut, ClientGone


class Body(Protocol):
    """A body still flowing; closing it frees its connection."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...


class ReadAhead:
    """A body that yields what was read ahead, then the rest as it comes; what was raised is raised at its place."""

    def __init__(self, source: Body) -> None:
        self.source = source
        self.pieces: deque[bytes] = deque()
        self.failure: AnswerCut | ClientGone | None = None

    def whole(self, *, limit: int, seconds: float) -> bytes | None:
        """Return the whole body; None if it is cut, over `limit` bytes, or takes longer than so many seconds."""
        until = time.monotonic() + seconds
        size = 0
        try:
            for piece in self.source:
                self.pieces.append(piece)
                size += len(piece)
                if size > limit or time.monotonic() > until:
                    return None
        except (AnswerCut, ClientGone) as error:
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
        """Close the source."""
        self.source.close()
