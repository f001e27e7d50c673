"""TLS for servers that have none: certificates, and a server that passes what it decrypts to another port."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


def skip_without_openssl() -> None:
    """Skip the test if openssl is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")


def make_certificate(path: Path, *names: str) -> Path:
    """Write a key and a certificate for these host names that vouches for itself to the file, and return its path."""
    skip_without_openssl()
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "1", "-subj", f"/CN={names[0]}", "-addext",
               "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
               "-keyout", str(key), "-out", str(path)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(key.read_text() + path.read_text())
    return path


class TlsServer:
    """TLS in front of a local port, on a free port of its own; `names` are those that clients have asked for.

    With `clients`, a file of certificates, it serves only clients that show one of these.
    """

    def __init__(self, behind: int, certificate: Path, clients: Path | None = None) -> None:
        self.behind, self.port = behind, 0
        self.ready = threading.Event()
        self.names: list[str] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.context.sni_callback = self.note_name
        if clients is not None:
            self.context.load_verify_locations(clients)
            self.context.verify_mode = ssl.CERT_REQUIRED

    def note_name(self, _: object, name: str | None, __: object) -> None:
        self.names.append(name or "")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.behind)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def run(self) -> None:
        """Serve until `end`."""
        self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.ended.wait()
        server.close()

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until either side ends, and then end the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def tls_in_front(behind: int, certificate: Path, clients: Path | None = None) -> Iterator[TlsServer]:
    """Run a TlsServer in a thread."""
    server = TlsServer(behind, certificate, clients)
    thread = threading.Thread(target=lambda: asyncio.run(server.run()), daemon=True)
    thread.start()
    server.ready.wait()
    try:
        yield server
    finally:
        server.end()
        thread.join()
