"""A real nginx with the deployed configuration, and a small HTTP server behind it."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.tests.backend import Backend
from testing.servers import BIN, child, free_port, wait_for_port

DEPLOY = Path(__file__).resolve().parent.parent
TEMPLATE = DEPLOY / "nginx" / "nginx.conf.template"


def tool(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([str(BIN), os.environ["PATH"], "/usr/sbin", "/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with the variables added to the environment; return its status and output."""
    environment = os.environ | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


class Nginx:
    """A running nginx with the project's configuration, in front of the server at `upstream`."""

    def __init__(self, folder: Path, certificate: Path, upstream: str, changes: dict[str, str]) -> None:
        self.http_port, self.https_port = free_port(), free_port()
        self.folder, self.certificate = folder, certificate
        self.config = folder / "nginx.conf"
        self.config.write_text(self.render(upstream, changes))

    def render(self, upstream: str, changes: dict[str, str]) -> str:
        """Return the configuration: the template with its values, and with the test's replacements of text."""
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

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run nginx until the block ends."""
        with child(self.command, self.folder / "error.log", os.environ | {"TZ": "UTC"}) as process:
            wait_for_port(self.https_port, process)
            yield

    def connect(self) -> ssl.SSLSocket:
        """Return a TLS connection that trusts only the test's certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=5)
        return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary certificate for localhost; its key is in the same folder."""
    path = tmp_path_factory.mktemp("tls") / "localhost.crt"
    made = run(
        tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout", str(path.with_suffix(".key")), "-out", str(path),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture(scope="session")
def backend() -> Iterator[Backend]:
    """A small HTTP server in the gateway's place."""
    with Backend() as server:
        yield server


StartNginx = Callable[..., Nginx]


@pytest.fixture(scope="session")
def start_nginx(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[StartNginx]:
    """Start an nginx in front of an address, with changes to the template's text; it runs until the session ends."""
    with contextlib.ExitStack() as started:

        def start(upstream: str, changes: dict[str, str] | None = None) -> Nginx:
            server = Nginx(tmp_path_factory.mktemp("nginx"), certificate, upstream, changes or {})
            started.enter_context(server.running())
            return server

        yield start


@pytest.fixture(scope="session")
def nginx(start_nginx: StartNginx, backend: Backend) -> Nginx:
    """The nginx that most tests share, in front of the backend."""
    return start_nginx(f"127.0.0.1:{backend.port}")
