"""A cluster for many connections at once: an HTTP server on one thread that sends events to all its streams."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from testing.http.cluster import OK

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text: str) -> bytes:
    """Return an event as one chunk (RFC 9112, section 7.1)."""
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Feed:
    """Answers each request; one whose target contains `stream` begins with an event and gets those of `say`."""

    def __init__(self) -> None:
        self.port = 0
        self.streams: set[asyncio.StreamWriter] = set()
        self.ready = threading.Event()

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

    async def run(self) -> None:
        self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.ended.wait()
        server.close()

    def say(self, text: str) -> None:
        """Send an event to all streams."""

        def send() -> None:
            for writer in self.streams:
                writer.write(event(text))

        self.loop.call_soon_threadsafe(send)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)


@contextlib.contextmanager
def running_feed() -> Iterator[Feed]:
    """Run the server in a thread."""
    feed = Feed()
    thread = threading.Thread(target=lambda: asyncio.run(feed.run()), daemon=True)
    thread.start()
    feed.ready.wait()
    try:
        yield feed
    finally:
        feed.end()
        thread.join()
