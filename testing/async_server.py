"""Servers of asyncio for tests, each in a thread of its own."""

import asyncio
import contextlib
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self


class AsyncServer(ABC):
    """A server on a free port of the local host; with a `context`, for TLS."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port, self.context = 0, context
        self.ready = threading.Event()

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""

    async def serve_all(self) -> None:
        self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.ended.wait()
        server.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Serve until the block ends."""
        thread = threading.Thread(target=lambda: asyncio.run(self.serve_all()), daemon=True)
        thread.start()
        self.ready.wait()
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self.ended.set)
            thread.join()
