"""Real processes for the tests of what is deployed: nginx, a small HTTP server behind it, and free ports."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.tests.backend import Backend

DEPLOY = Path(__file__).resolve().parent.parent
TEMPLATE = DEPLOY / "nginx" / "nginx.conf.template"


def tool(name: str) -> str:
    """Return the path of a program; skip the test where it is not installed."""
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([beside_python, os.environ["PATH"], "/usr/sbin", "/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Return whether the condition came true within the time."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


def is_listening(port: int) -> bool:
    """Return whether something accepts connections on the port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and wait for it, whatever state it is in."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Nginx:
    """A running nginx with the project's configuration, in front of the server at `upstream`."""

    def __init__(self, folder: Path, certificate: Path, upstream: str, changes: dict[str, str]) -> None:
        self.http_port, self.https_port = free_port(), free_port()
        self.folder, self.certificate = folder, certificate
        self.config = folder / "nginx.conf"
        self.config.write_text(self.render(upstream, changes))

    def render(self, upstream: str, changes: dict[str, str]) -> str:
        """Return the configuration: the template with its values filled in, then the changes that a test asks for."""
        values = {
            "${NGINX_HTTP_LISTEN}": f"127.0.0.1:{self.http_port}",
            "${NGINX_HTTPS_LISTEN}": f"127.0.0.1:{self.https_port}",
            "${NGINX_RESOLVER}": "127.0.0.1",
            "${GATEWAY_SERVER}": upstream,
            "${SSL_CERT_PATH}": str(self.certificate),
            "${SSL_KEY_PATH}": str(self.certificate.with_suffix(".key")),
            "access_log /dev/stdout": f"access_log {self.folder}/access.log",
        }
        text = TEMPLATE.read_text()
        for old, new in (values | changes).items():
            assert old in text, f"the template has no {old}"
            text = text.replace(old, new)
        return text

    @property
    def command(self) -> list[str]:
        """The command line; workers of a root-started nginx must be able to enter the test's folder."""
        globals_ = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        return [tool("nginx"), "-p", str(self.folder), "-c", str(self.config), "-e", "stderr", "-g", globals_]

    def start(self) -> subprocess.Popen[bytes]:
        """Start nginx and return it once it answers."""
        errors = self.folder / "error.log"
        with errors.open("wb") as stream:
            process = subprocess.Popen(self.command, stderr=stream, env=os.environ | {"TZ": "UTC"})
        wait_until(lambda: process.poll() is not None or is_listening(self.https_port))
        if process.poll() is not None or not is_listening(self.https_port):
            stop(process)
            pytest.fail(f"nginx did not start: {errors.read_text()}")
        return process

    def connect(self) -> ssl.SSLSocket:
        """Return a TLS connection that trusts only the test's certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=5)
        return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throwaway certificate for localhost; its key lies beside it."""
    path = tmp_path_factory.mktemp("tls") / "localhost.crt"
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(path.with_suffix(".key")), "-out", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def backend() -> Iterator[Backend]:
    """A small HTTP server in the gateway's place."""
    server = Backend()
    server.start()
    yield server
    server.stop()


StartNginx = Callable[..., Nginx]


@pytest.fixture(scope="session")
def start_nginx(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[StartNginx]:
    """Start an nginx in front of an address, with changes to the template's text; all end with the session."""
    running: list[subprocess.Popen[bytes]] = []

    def start(upstream: str, changes: dict[str, str] | None = None) -> Nginx:
        server = Nginx(tmp_path_factory.mktemp("nginx"), certificate, upstream, changes or {})
        running.append(server.start())
        return server

    yield start
    for process in running:
        stop(process)


@pytest.fixture(scope="session")
def nginx(start_nginx: StartNginx, backend: Backend) -> Nginx:
    """The nginx that most tests share, in front of the backend."""
    return start_nginx(f"127.0.0.1:{backend.port}")
