"""TLS for servers that have none: certificates, and a server that passes what it decrypts to another port."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from testing.async_server import AsyncServer


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


class TlsServer(AsyncServer):
    """TLS in front of a local port, on a free port of its own; `names` are those that clients have asked for.

    With `clients`, a file of certificates, it serves only clients that show one of these.
    """

    def __init__(self, behind: int, certificate: Path, clients: Path | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = self.note_name
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
        super().__init__(context)
        self.behind = behind
        self.names: list[str] = []
        self.open = 0  # connections that the server behind has not ended

    def note_name(self, _: object, name: str | None, __: object) -> None:
        self.names.append(name or "")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.behind)
        self.open += 1
        await asyncio.gather(pump(reader, inner_writer), self.answer(inner_reader, writer))

    async def answer(self, inner_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pump(inner_reader, writer)
        self.open -= 1


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until either side ends, and then end the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
