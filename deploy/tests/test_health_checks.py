"""health_check.py (inside the image) and health_check.sh (from outside), against a real server."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import health_check
from deploy.tests.backend import Backend
from deploy.tests.conftest import DEPLOY, run, tool
from testing.http.cluster import silent_server
from testing.servers import free_port

Result = subprocess.CompletedProcess[str]
Check = Callable[[int], Result]


def run_inside(port: int, *arguments: str, **environment: str) -> Result:
    """Run health_check.py as the image does."""
    return run(sys.executable, str(DEPLOY / "health_check.py"), *arguments, **({"HTTP_PORT": str(port)} | environment))


def run_outside(port: int) -> Result:
    """Run health_check.sh as an operator does."""
    tool("curl")
    return run(str(DEPLOY / "health_check.sh"), f"http://127.0.0.1:{port}/api/v1/meta/health")


both = pytest.mark.parametrize("check", [run_inside, run_outside])


@both
@pytest.mark.parametrize("status", ["healthy", "degraded"])
def test_a_gateway_that_can_serve_passes_and_its_answer_is_printed(check: Check, status: str, backend: Backend) -> None:
    backend.health = (200, f'{{"status": "{status}", "dependencies": {{"redis": "unhealthy"}}}}'.encode())
    result = check(backend.port)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == backend.health[1].decode()


@both
@pytest.mark.parametrize(
    "health",
    [
        (503, b'{"status": "unhealthy"}'),
        (503, b'{"status": "healthy"}'),
        (200, b'{"status": "unhealthy", "dependencies": {"redis": "healthy"}}'),
        (302, b'{"status": "healthy"}'),
        (200, b"<html>welcome</html>"),
        (200, b"[]"),
    ],
)
def test_any_other_answer_fails(check: Check, health: tuple[int, bytes], backend: Backend) -> None:
    backend.health = health
    assert check(backend.port).returncode == 1


def test_the_probe_of_liveness_passes_although_the_gateway_is_unhealthy(backend: Backend) -> None:
    backend.health = (503, b'{"status": "unhealthy"}')
    assert run_inside(backend.port, "live").returncode == 0
    assert backend.requests[-1].target == "/api/v1/meta/health/live"


def test_an_unknown_argument_is_refused() -> None:
    refused = run_inside(free_port(), "lively")
    assert refused.returncode == 1
    assert refused.stderr == "unknown argument: lively; expected live or none\n"


def test_a_gateway_behind_an_edge_is_asked_at_its_socket(tmp_path: Path, backend: Backend) -> None:
    path = tmp_path / "gateway.socket"
    with socket.create_server(str(path), family=socket.AF_UNIX) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"status": "healthy"}')

        threading.Thread(target=serve, daemon=True).start()
        assert run_inside(free_port(), GATEWAY_SOCKET=str(path)).returncode == 0
    assert run_inside(free_port(), GATEWAY_SOCKET=str(path)).returncode == 1


@both
def test_a_closed_port_fails_with_one_line(check: Check) -> None:
    result = check(free_port())
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "no answer" in result.stderr


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("api.example.org, localhost", "api.example.org"),
        (".example.org", "example.org"),
        ("", "127.0.0.1"),
        ("*", "127.0.0.1"),
    ],
)
def test_the_inner_check_sends_an_accepted_host(allowed: str, host: str, backend: Backend) -> None:
    backend.health = (200, b'{"status": "healthy"}')
    assert run_inside(backend.port, ALLOWED_HOSTS=allowed).returncode == 0
    assert backend.requests[-1].header("Host") == host


def test_a_gateway_that_never_answers_fails_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server() as port:
        monkeypatch.setattr(health_check, "TIMEOUT_SECONDS", 0.1)
        monkeypatch.setenv("HTTP_PORT", str(port))
        assert health_check.main() == 1
