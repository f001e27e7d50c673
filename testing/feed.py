"""A cluster for many connections at once: an HTTP server on one thread that sends events to all its streams."""

import asyncio
import contextlib

from testing.async_server import AsyncServer
from testing.http.cluster import OK

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text: str) -> bytes:
    """Return an event as one chunk (RFC 9112, section 7.1)."""
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Feed(AsyncServer):
    """Answers each request; one whose target contains `stream` begins with an event and gets those of `say`."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"stream" not in head.partition(b"\r\n")[0]:
                    writer.write(OK)
                    continue
                writer.write(STREAM + event("first"))
                self.streams.add(writer)
                await reader.read()
                self.streams.discard(writer)

    def say(self, text: str) -> None:
        """Send an event to all streams."""

        def send() -> None:
            for writer in self.streams:
                writer.write(event(text))

        self.loop.call_soon_threadsafe(send)
