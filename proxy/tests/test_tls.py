"""Instances with TLS: a record that arrives in pieces is not yet an answer."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import Instance
from proxy.connection.pool import Pool
from proxy.connection.upstream import Connection
from proxy.tests.test_pool import use
from testing.http.cluster import OK

TIMEOUTS = Timeouts(connect=2, read=2, total=3)
pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for localhost, and its key."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
               "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


class Records:
    """The server's end of one TLS connection, with control over when each part of a record is sent."""

    def __init__(self, sock: socket.socket, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.sock, self.incoming, self.outgoing = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))
            else:
                return self.sock.sendall(self.outgoing.read())

    def read(self) -> bytes:
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                if not data:
                    return b""
                self.incoming.write(data)

    def record(self, data: bytes) -> bytes:
        """Return the data as one TLS record."""
        self.tls.write(data)
        return self.outgoing.read()


def serve(listener: socket.socket, certificate: Path) -> None:
    """Answer each request of one connection with a record in two halves, both delayed."""
    sock, _ = listener.accept()
    with sock:
        records = Records(sock, certificate)
        records.handshake()
        while records.read():
            record = records.record(OK)
            for part in (record[:20], record[20:]):
                time.sleep(0.3)
                sock.sendall(part)


@pytest.fixture
def instance(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    """The server, trusted by this process."""
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("proxy.connection.upstream.tls_context", lambda: context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener, certificate], daemon=True)
        thread.start()
        yield Instance("https", "localhost", listener.getsockname()[1])
        thread.join(5)


def test_an_answer_in_a_split_tls_record_is_read(instance: Instance) -> None:
    ours, client = socket.socketpair()
    with Connection(instance, TIMEOUTS) as connection, ours, client:
        connection.start("GET", TIMEOUTS, client=ours)
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.read_head().status == 200
        assert b"".join(connection.read_body()) == b"ok"
        connection.close()


def test_a_connection_is_reused(instance: Instance) -> None:
    pool = Pool(instance)
    pool.give_back(use(pool.take(TIMEOUTS)))
    second = use(pool.take(TIMEOUTS))
    assert second.reused
    second.close()
